"""What runs where which packages are installed: a hook hides the others, as if they had never been there."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tolerances import ROUNDED32

from steprule import extras

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "steprule"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = {package for packages in extras.EXTRAS.values() for package in packages}
ELSEWHERE = {"latex2mathml", "pandas", "PIL"}
WITHOUT = {
    "no torch": OPTIONAL | ELSEWHERE | {"torch", "numba", "llvmlite", "filelock"},
    "core": OPTIONAL | ELSEWHERE,
    "plot": (OPTIONAL | ELSEWHERE) - {"matplotlib", "PIL"},
}
"""By what is installed the packages that are hidden."""
PROGRAM = """
import sys
HIDDEN = {hidden!r}

class Finder:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Finder(finder) for finder in sys.meta_path]
import contextlib, io, json
from steprule.cli import main

def typed(text):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(text.split())
    return [code, out.getvalue(), err.getvalue()]

{code}
"""


def run(installed: str, code: str, folder: Path) -> Any:
    """What a program prints as JSON where only these packages are installed."""
    program = PROGRAM.format(hidden=sorted(WITHOUT[installed]), code=code)
    env = os.environ | {"PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def answers(installed: str, commands: list[str], folder: Path) -> dict[str, list[Any]]:
    found = run(installed, f"print(json.dumps([typed(text) for text in {commands!r}]))", folder)
    return dict(zip(commands, found, strict=True))


def assert_says(answer: list[Any], package: str) -> None:
    """One line that names the package and the command that installs it."""
    code, _, err = answer
    assert code == 2
    assert re.fullmatch(
        r"steprule: package \w+: expected it installed, got ModuleNotFoundError\. pip install .*\n", err
    )
    command = err.partition("pip install ")[2]
    names = [package] if package in extras.CORE else [extras.how_to_get(package).removeprefix("pip install ")]
    assert [name for name in names if name in command] == names


RUN_WITHOUT_TORCH = [
    "--help", "rules", "problems", "problems --json", "surfaces", "show adam", "show adam --as latex", "show adam --as python",
    "show adam --as javascript", "trace sgd adam", "trace adam --json", "trace adam --surface x^2/10+2*y^2 --out paths.svg",
    "which adam", "trace adam --surface rosenbrock --out paths.json", "play --out page.html", "play --story ravine --out page.html",
]  # fmt: skip
TRAIN = ["train adam", "sweep adam", "race adam sgd", "ablate adam", "check adam", "bench adam --quick", "show adam --as numba",
         "show torch.optim:Adam", "play luck --out luck.html", "play network --out network.html",
         "play matrix --out matrix.html"]  # fmt: skip


def test_without_torch(tmp_path: Path) -> None:
    """A class sees a dot slow down with numpy, sympy and the command line's packages alone."""
    found = answers(
        "no torch", [*RUN_WITHOUT_TORCH, *TRAIN, "trace adam --out a.png", "trace adam --out a.gif"], tmp_path
    )
    for command in RUN_WITHOUT_TORCH:
        assert found[command][0] == 0, (command, found[command])
        assert found[command][2] == "", command
    for command in TRAIN:
        assert_says(found[command], "torch")
    assert_says(found["trace adam --out a.png"], "matplotlib")
    assert_says(found["trace adam --out a.gif"], "matplotlib")
    assert (tmp_path / "paths.svg").read_text(encoding="utf-8").startswith("<svg")
    assert "<math" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "paths.json", "paths.svg"]


COMPLETE = """
from steprule.cli import completion
print(json.dumps([len(completion.rule_names("ad")), len(completion.surface_names("")), len(completion.problem_names("air")),
                  len(completion.story_names("")), len(completion.class_names(""))]))
"""


def test_completion_without_torch(tmp_path: Path) -> None:
    rules, surfaces, problems, stories, classes = run("no torch", COMPLETE, tmp_path)
    assert min(rules, surfaces, problems, stories) > 2
    assert classes == 0


PUBLIC = """
import steprule
found = {}
for name in steprule.__all__:
    try:
        getattr(steprule, name)
        found[name] = ""
    except steprule.errors.MissingPackageError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


def test_public_names_without_torch(tmp_path: Path) -> None:
    found = run("no torch", PUBLIC, tmp_path)
    assert {n for n, said in found.items() if not said} >= {
        "Rule",
        "Trace",
        "rule",
        "rules",
        "trace",
        "metrics",
        "which",
    }
    for name in ("Problem", "Race", "Run", "Sweep", "optim", "race", "sweep", "train"):
        assert "pip install " in found[name], name
        assert "torch" in found[name].partition("pip install")[2], name


CORE = """
import torch, steprule, numpy as np
p = torch.nn.Parameter(torch.ones(3))
p.grad = torch.ones(3)
steprule.optim.Adam([p], lr=0.5).step()
swept = steprule.sweep("adam", "airfoil-linear", {"lr": [0.01, 0.1]}, epochs=1, compile=True)
model = lambda: torch.nn.Linear(2, 1)
task = steprule.Problem.from_arrays(np.ones((8, 2)), np.ones(8), model, name="own")
trained = steprule.train("adam", task, epochs=1)
def says(call):
    try:
        call()
    except steprule.errors.MissingPackageError as error:
        return str(error)
print(json.dumps({
    "step": p.tolist(), "sweep": swept.engine, "own": trained.final_loss, "cell": swept._repr_html_(),
    "race": says(lambda: steprule.race), "csv": says(lambda: steprule.Problem.from_csv("a.csv", "y", model)), "plot": says(trained.plot),
    "typed": {text: typed(text) for text in ("train sgd --on airfoil-linear --epochs 1", "show adam --as numba", "check sgd")},
    "told": {text: typed(text) for text in ("sweep adam", "race adam", "train adam --out a.png", "show adam --as triton")},
}))
"""


@pytest.mark.long
def test_the_core_alone(tmp_path: Path) -> None:
    """An Adam steps, trains and sweeps a grid; what needs more says which extra has it."""
    found = run("core", CORE, tmp_path)
    assert found["step"] == pytest.approx([0.5] * 3, rel=ROUNDED32)
    assert found["sweep"] == "kernel"
    assert found["own"] > 0
    assert found["cell"] is None
    assert found["plot"].endswith('pip install "steprule[plot]"')
    assert found["race"].endswith('pip install "steprule[race]"')
    assert found["csv"].endswith('pip install "steprule[race]"')
    for command, (code, _, err) in found["typed"].items():
        assert (code, err) == (0, ""), command
    assert_says(found["told"]["sweep adam"], "scipy")
    assert_says(found["told"]["train adam --out a.png"], "matplotlib")
    assert_says(found["told"]["show adam --as triton"], "triton")
    assert 'pip install "steprule[race]"' in found["told"]["race adam"][2]


PLOT = """
import steprule
walked, trained = steprule.trace("sgd"), steprule.train("sgd", "airfoil-linear", epochs=1)
walked.plot(), trained.plot()
print(json.dumps([walked._repr_html_()[:4], trained._repr_html_()[:4], typed("trace adam --out a.gif"), typed("train sgd --epochs 1 --out a.png")]))
"""


@pytest.mark.long
def test_pictures_with_matplotlib_alone(tmp_path: Path) -> None:
    walked, trained, gif, png = run("plot", PLOT, tmp_path)
    assert walked == trained == "<img"
    assert (gif[0], png[0]) == (0, 0)


MODULES = """
import importlib, pkgutil, steprule
strange = []
for module in pkgutil.walk_packages(steprule.__path__, "steprule."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in HIDDEN:
            strange.append(f"{module.name}: {error}")
    except steprule.errors.MissingPackageError:
        pass
print(json.dumps(strange))
"""


@pytest.mark.parametrize("installed", ["no torch", "core"])
def test_every_module_imports_or_says_what_is_missing(installed: str, tmp_path: Path) -> None:
    assert run(installed, MODULES, tmp_path) == []


def imported() -> set[str]:
    """The packages of others that the source imports."""
    found = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module)
    tops = {name.partition(".")[0] for name in found}
    return tops - set(sys.stdlib_module_names) - {"steprule"}


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", text)[0].replace("-", "_") for text in requirements}  # type: ignore[index]


def test_one_place_knows_which_package_an_extra_brings() -> None:
    """What pyproject.toml lists, the table has, and the other way round; and what is imported is listed somewhere."""
    assert names(PROJECT["dependencies"]) == set(extras.CORE)
    brought = {extra: names(PROJECT["optional-dependencies"][extra]) for extra in extras.EXTRAS}
    for extra, packages in extras.EXTRAS.items():
        assert brought[extra] - {"steprule"} - ELSEWHERE == set(packages)
    beside = {"llvmlite", "IPython", "matplotlib_inline"}  # numba's, and a notebook's own
    assert imported() <= {*extras.CORE, *OPTIONAL, *extras.BESIDE, *beside}


def test_a_users_file_that_imports_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import torch\n")
    ((code, _, err),) = answers("no torch", ["show mine.py:rule"], tmp_path).values()
    assert code == 2
    assert err.startswith("steprule: mine.py:1: ModuleNotFoundError: No module named 'torch'. pip install ")
    assert "torch" in err.partition("pip install")[2]
