"""A user's file may import the files beside it, as a script may."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from sized import sized

import steprule
from steprule import rules
from steprule.cli import main
from steprule.errors import RuleError
from steprule.problems import catalogue as problems

RULE = "from steprule import rule\nfrom steprule.hyper import Rate\nfrom helper import SCALE\n\n\n@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * SCALE * g\n"
PROBLEM = """import torch
import made
import steprule

mine = steprule.Problem("mine", "", made.X, made.X.sum(1, keepdim=True), made.Net, torch.nn.functional.mse_loss)
"""
MADE = """import torch

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.inner(x)
"""


def folder(at: Path, scale: float) -> Path:
    at.mkdir()
    (at / "mine.py").write_text(RULE)
    (at / "helper.py").write_text(f"SCALE = {scale}\n")
    return at / "mine.py"


def step(file: Path) -> float:
    return float(rules.resolve(f"{file}:mine")(1.0, 1.0, lr=1.0))


def test_two_files_of_one_name_have_neighbours_of_one_name(tmp_path: Path) -> None:
    path, loaded = list(sys.path), set(sys.modules)
    one, other = folder(tmp_path / "one", 0.25), folder(tmp_path / "other", 0.5)
    first = rules.resolve(f"{one}:mine")
    assert (step(one), step(other), step(one)) == (0.75, 0.5, 0.75)
    assert float(first(1.0, 1.0, lr=1.0)) == 0.75
    assert sys.path == path
    assert {m for m in set(sys.modules) - loaded if "helper" in m} == {"helper"}
    (tmp_path / "one/helper.py").write_text("SCALE = 0.125\n")
    os.utime(tmp_path / "one/helper.py", (1, 1))  # an edit that a clock of seconds might miss
    assert step(one) == 0.875


def test_what_the_user_had_imported_stays_his(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the same name from elsewhere is neither used nor lost; a file called as one of Python's shadows nothing."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "helper.py").write_text("SCALE = 100.0\n")
    monkeypatch.syspath_prepend(str(elsewhere))
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    import helper  # type: ignore[import-not-found]

    file = folder(tmp_path / "here", 0.25)
    (tmp_path / "here/random.py").write_text("raise RuntimeError('not this one')\n")
    (tmp_path / "here/numpy.py").write_text("raise RuntimeError('not this one')\n")
    assert step(file) == 0.75
    assert sys.modules["helper"] is helper
    assert helper.SCALE == 100.0
    del sys.modules["helper"]


def test_an_error_in_a_neighbour_is_one_line(tmp_path: Path) -> None:
    path = list(sys.path)
    file = folder(tmp_path / "here", 0.25)
    (tmp_path / "here/helper.py").unlink()
    sys.modules.pop("helper", None)
    with pytest.raises(RuleError, match=r"mine.py:3: ModuleNotFoundError: No module named 'helper'"):
        step(file)
    assert sys.path == path


@pytest.mark.long
def test_a_problem_and_its_neighbour_in_worker_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.py").write_text(PROBLEM)
    (tmp_path / "made.py").write_text(MADE)
    folder(tmp_path / "r", 0.5)
    monkeypatch.chdir(tmp_path)
    asked = [*sized(2, 2, 2, "constant", workers=2), "--out", "out", "--json"]
    assert main(["race", "r/mine.py:mine", "sgd", "torch.optim.SGD", "--on", "p.py:mine", *asked]) == 0
    assert problems.get("p.py:mine").features.shape == (40, 3)


def test_modules_of_the_current_folder_by_the_console_script(tmp_path: Path) -> None:
    package = tmp_path / "own"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rules.py").write_text(RULE.replace("from helper import SCALE", "SCALE = 0.5"))
    script = Path(sys.executable).with_name("steprule")
    commands = [[sys.executable, "-m", "steprule"]]
    if script.is_file():
        commands.append([str(script)])
    env = {**os.environ, "PYTHONPATH": str(Path(steprule.__file__).parents[1])}
    for command in commands:
        done = subprocess.run(
            [*command, "show", "own.rules:mine", "--as", "text"],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_a_missing_file_is_called_what_it_should_be(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for args, kind in ((["show", "no.py:x"], "rule"), (["train", "sgd", "--on", "no.py:x"], "problem")):
        assert main(args) == 2
        assert f"{kind} file no.py: expected a Python file, got nothing there" in capsys.readouterr().err


def test_a_rule_whose_file_imports_torch_first(in_folder: Path) -> None:
    """torch.classes answers to any name; in a process that has not imported torch before."""
    Path("with_torch.py").write_text(
        "import torch\nfrom steprule import rule\n\n@rule\ndef mine(p, g, *, lr: float = 0.1):\n    return p - lr * g\n"
    )
    for command in (["which", "with_torch.py"], ["show", "with_torch.py:mine"], ["trace", "with_torch.py:mine"]):
        done = subprocess.run([sys.executable, "-m", "steprule", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_a_module_that_imports_when_it_is_looked_at(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As lazy modules of large packages do: the list of modules grows while it is gone through."""

    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> object:
            monkeypatch.setitem(sys.modules, f"lazy_part_{len(sys.modules)}", ModuleType("part"))
            raise AttributeError(name)

    monkeypatch.setitem(sys.modules, "beside", Lazy("beside"))
    Path("beside.py").write_text("")
    Path("helper.py").write_text("SCALE = 2.0\n")
    Path("mine.py").write_text(RULE)
    assert rules.resolve("mine.py:mine")(1.0, 1.0, lr=0.25) == 0.5
