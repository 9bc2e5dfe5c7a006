"""Identity: what strangers bring is told apart by what decides, and by nothing else; stored results of other work are not given out."""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sized import sized
from strange_things import CASES, Case, made
from thinning import thinned
from torch import nn

from steprule import races
from steprule.cli import main
from steprule.errors import InputError
from steprule.identity import by_value, identify, identity, unknown_in
from steprule.problems.problem import Problem

HERE = Path(__file__).parent


def _changed(case: Case, change: tuple[str, str]) -> tuple[str, str]:
    """The texts of the file and of its neighbour after a change."""
    at = case.neighbour if case.neighbour else case.text
    assert change[0] in at, f"{case.name}: {change[0]} is not in it"
    text = at.replace(*change, 1)
    assert text != at
    return (case.text, text) if case.neighbour else (text, "")


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_decides_and_what_does_not(case: Case, tmp_path: Path) -> None:
    first = identity(made(tmp_path, case.text, case.neighbour))
    assert not unknown_in(first), first
    assert identity(made(tmp_path, case.text, case.neighbour)) == first
    assert identity(made(tmp_path, *_changed(case, case.same))) == first
    other = identity(made(tmp_path, *_changed(case, case.decides)))
    assert not unknown_in(other)
    assert other != first


@pytest.mark.long
def test_another_process_gives_the_same(tmp_path: Path) -> None:
    """With other hash seeds, in another order, in another folder."""
    running = []
    for seed, more in (("0", []), ("4711", ["backwards"])):
        command = [sys.executable, str(HERE / "strange_things.py"), str(tmp_path / seed), *more]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        running.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    done = [(child.communicate(), child.returncode) for child in running]
    assert [code for _, code in done] == [0, 0], done
    one, other = (json.loads(out) for (out, _), _ in done)
    assert one == other
    assert len(one) == len(CASES)


# What cannot be identified.


def _holding(rng: Any) -> Callable[..., Any]:
    def factory(params: Any, lr: float = 0.1) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=lr, momentum=0.0 if rng else 0.5)

    return factory


class _Holder:
    def __init__(self, held: Any) -> None:
        self.held = held


class _Refusing:
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        (lambda: (k for k in range(3)), "a generator"),
        (threading.Lock, "a lock"),
        (functools.partial(open, os.devnull), "an open file"),
        (socket.socket, "a socket"),
        (threading.local, "a _local"),
        (_Refusing, "a _Refusing"),
        (lambda: pq.ParquetWriter, ""),  # a class is only named
    ],
    ids=["generator", "lock", "file", "socket", "local", "refusing", "installed class"],
)
def test_what_cannot_be_identified_is_named(held: Callable[[], Any], kind: str) -> None:
    thing = held()
    for what, place in (
        (_holding(thing), "closure variable rng of _holding.factory"),
        (functools.partial(_holding, rng=thing), "argument rng of _holding"),
        (_Holder(thing), "mine.held"),
        ([1, {"a": thing}], "mine[1]['a']"),
        (_Holder(_holding(thing)), "closure variable rng of _holding.factory"),
    ):
        found = identity(what, "mine")
        assert unknown_in(found) == (f"{place}: {kind}" if kind else "")
        assert (found == identity(what, "mine")) is (not kind), "unknown equals nothing, not even itself"
    if hasattr(thing, "close") and kind:
        thing.close()


def test_places_are_said() -> None:
    parts = identify(functools.partial(_holding(0.5), lr=0.25)).parts
    assert parts["closure variable rng of _holding.factory"] == "0.5"
    assert parts["argument lr of _holding.factory"] == "0.25"
    assert parts["package torch"] == torch.__version__


def test_a_first_instance_changes_nothing() -> None:
    """torch replaces `step` of a class when its first instance is made."""

    class Mine(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    before = identity(Mine)
    Mine([nn.Parameter(torch.ones(2))], lr=0.1)
    assert identity(Mine) == before


def test_a_patched_class_of_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(torch.optim.SGD)
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, closure=None: None)
    assert identity(torch.optim.SGD) != before


def test_depth_and_size() -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    limit = sys.getrecursionlimit()
    assert not unknown_in(identity(deep))
    assert identity(deep) != identity([deep])
    assert sys.getrecursionlimit() == limit
    wide = np.zeros((1_000, 1_000))
    first = identity(wide)
    wide[-1, -1] = 1e-300
    assert identity(wide) != first


# On the command line: a file is edited between two runs in one folder.

PROBLEM = """
import torch
from torch import nn
from steprule import Problem
S = 1.0
x = torch.linspace(-1, 1, 60)[:, None]
mine = Problem("mine", "mine", x[::3] * S, x[::3] * S, lambda: nn.Linear(1, 1), nn.functional.mse_loss,
               validation=(x[1::3], x[1::3]), test=(x[2::3], x[2::3]))
"""
RULE = """
from typing import Annotated, Any
from steprule import rule
from steprule.hyper import Rate, StartsAt
from steprule.maths import sqrt
@rule
def mine(p, g, v: Annotated[Any, StartsAt(0.0)], *, lr: Rate = 0.1, k: float = -0.5):
    v = v + g * g
    return p + k * lr * g / (sqrt(v) + 0.1), v
"""
FACTORY = """
import functools, torch
from steprule.races import Competitor
M = 0.0
class Own(torch.optim.SGD):
    share = 1.0
    def step(self, closure=None):
        for group in self.param_groups:
            group["momentum"] = 0.9 * (1 - self.share)
        return super().step(closure)
def rate(): return M
def sgd(params, lr=0.1): return torch.optim.SGD(params, lr=lr, momentum=rate())
def make(m):
    def closed(params, lr=0.1): return torch.optim.SGD(params, lr=lr, momentum=m)
    return closed
closed = make(0.5)
part = Competitor(functools.partial(torch.optim.SGD, momentum=0.1), label="part")
"""
TUNED = [*sized(2, 2, 2, "linear", workers=1), "--epochs", "1"]
GIVEN = ["--trials", "0", "--seeds", "2", "--epochs", "1"]
EDITS = [
    (["own.py:mine"], "own.py", "StartsAt(0.0)", "StartsAt(1e4)", "slots.v: expected '10000', got '0'"),
    (["own.py:mine"], "own.py", "k: float = -0.5", "k: float = -0.999", "defaults.k: expected -0.999, got -0.5"),
    (["own.py:mine"], "own.py", "lr: Rate = 0.1", "lr: Rate = 0.2", "defaults.lr: expected 0.2, got 0.1"),
    (["own.py:mine"], "own.py", "0.1), v", "0.2), v", "formula"),
    (["make.py:sgd"], "make.py", "M = 0.0", "M = 0.99", "global M of rate: expected 0.99, got 0.0"),
    (["make.py:closed"], "make.py", "make(0.5)", "make(0.9)", "closure variable m of make.closed: expected 0.9, got 0.5"),
    (["make.py:Own"], "make.py", "share = 1.0", "share = 0.0", "share of class Own: expected 0.0, got 1.0"),
    (["make.py:part"], "make.py", "momentum=0.1", "momentum=0.9", "momentum: expected 0.9, got 0.1"),
    (["sgd"], "pro.py", "S = 1.0", "S = 9.0", "training data: expected what it is now, got another"),
    (["sgd"], "pro.py", "test=(x[2::3], x[2::3])", "test=(x[2::3], 3 * x[2::3])", "test data"),
    (["sgd"], "pro.py", "nn.functional.mse_loss", "lambda o, t: ((o - t) ** 4).mean()", "loss"),
    (["sgd"], "pro.py", "nn.Linear(1, 1)", "nn.Linear(1, 1, bias=False)", ".model, code of <lambda>"),
]  # fmt: skip


def _written(folder: Path) -> None:
    for name, text in (("own.py", RULE), ("make.py", FACTORY), ("pro.py", PROBLEM)):
        (folder / name).write_text(text)


def _edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    stamp = path.stat().st_mtime
    path.write_text(text.replace(old, new, 1))
    os.utime(path, (stamp + 5, stamp + 5))  # Python tells a file's compiled form by whole seconds


TWICE = [
    pytest.param(*edit, how, id=f"{edit[1]}: {edit[3]}, {name}")
    for k, edit in enumerate(EDITS)
    for name, how in (("tuned", TUNED), ("as given", GIVEN))
    if (k % 2 or edit[1] != "pro.py" or how is GIVEN) and not (how is GIVEN and "part" in edit[0][0])
]


@pytest.mark.parametrize(("who", "file", "old", "new", "words", "how"), thinned(TWICE, 5))
def test_a_file_that_is_edited_between_two_runs(
    who: list[str], file: str, old: str, new: str, words: str, how: list[str], in_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    _written(in_folder)
    command = ["race", *who, "--on", "pro.py:mine", *how, "--json", "--out"]
    assert main([*command, "here"]) == 0
    first = json.loads(capsys.readouterr().out)
    # The same file with a comment is the same race.
    _edited(in_folder / file, old, f"{old}  # as it was\n" if old.endswith("1.0") and "share" not in old else old + " ")
    assert main([*command, "here"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["trained"], again["kept"]) == (0, first["lanes"])
    _edited(in_folder / file, old, new)
    before = {p: p.read_bytes() for p in Path("here").rglob("*") if p.is_file()}
    assert main([*command, "here"]) == 2
    line = capsys.readouterr().err
    assert len(line.strip().splitlines()) == 1
    assert words in line
    assert "--out" in line
    assert {p: p.read_bytes() for p in Path("here").rglob("*") if p.is_file()} == before
    assert main([*command, "there"]) == 0
    truth = json.loads(capsys.readouterr().out)
    # The default is no winner of a tuned race, and as given nothing is tested.
    unseen = "defaults.lr" if how is TUNED else "test data"
    assert (_losses(truth) == _losses(first)) is (unseen in words)


def _losses(found: dict[str, Any]) -> list[float]:
    if "settings" in found:
        return [setting["mean"] for setting in found["settings"]]
    return [s["loss"] for cell in found["cells"] for s in cell["standings"]]


@pytest.mark.long
def test_a_neighbour_that_is_edited(in_folder: Path) -> None:
    """A factory's helper file, each run in a process of its own."""
    _written(in_folder)
    Path("helper.py").write_text("MOMENTUM = 0.0\ndef momentum(): return MOMENTUM\n")
    Path("make.py").write_text(
        "import sys, torch\nsys.path.insert(0, '.')\nimport helper\n"
        "def sgd(params, lr=0.1): return torch.optim.SGD(params, lr=lr, momentum=helper.momentum())\n"
    )
    command = [sys.executable, "-m", "steprule", "race", "make.py:sgd", "--on", "pro.py:mine", *TUNED, "--out", "here"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    _edited(Path("helper.py"), "MOMENTUM = 0.0", "MOMENTUM = 0.0  # none")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    _edited(Path("helper.py"), "MOMENTUM = 0.0", "MOMENTUM = 0.9")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "global MOMENTUM of momentum: expected 0.9, got 0.0" in done.stderr


@pytest.mark.long
def test_what_comes_from_outside_python(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that a factory reads from a file, and a loss that reads the environment: no code shows them."""
    Path("make.py").write_text(
        "import json, pathlib, torch\ndef sgd(params, lr=0.1): return torch.optim.SGD(params, lr=lr, momentum=json.loads(pathlib.Path('m.json').read_text()))\n"
    )
    Path("pro.py").write_text(PROBLEM.replace("nn.functional.mse_loss", "lambda o, t: float(__import__('os').environ['W']) * ((o - t) ** 2).mean()"))  # fmt: skip
    Path("m.json").write_text("0.0")
    monkeypatch.setenv("W", "1")
    command = ["race", "make.py:sgd", "--on", "pro.py:mine", *TUNED, "--out", "here"]
    assert main(command) == 0
    Path("m.json").write_text("0.9")
    assert main(command) == 2
    assert "competitors.sgd.made.groups[0].momentum: expected 0.9, got 0.0" in capsys.readouterr().err
    Path("m.json").write_text("0.0")
    monkeypatch.setenv("W", "2")
    assert main(command) == 2
    assert "problems.mine.first loss" in capsys.readouterr().err


# From Python.


def _problem(**changes: Any) -> Problem:
    x = torch.linspace(-1, 1, 30)[:, None]
    how = {"validation": (x, x), "test": (x, x), "epochs": 1, **changes}
    return Problem("mine", "mine", x, 2 * x, lambda: nn.Linear(1, 1), nn.functional.mse_loss, **how)


SMALL: dict[str, Any] = {"trials": 2, "seeds": 2, "fresh": 2, "schedules": ["linear"], "workers": 1}


def test_a_class_of_a_notebook(tmp_path: Path) -> None:
    """A cell that is run again, with another number in the class."""

    def cell(rate: float) -> Any:
        scope: dict[str, Any] = {"torch": torch, "__name__": "__main__"}
        text = f"""
class Mine(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1): super().__init__(params, dict(lr=lr))
    @torch.no_grad()
    def step(self, closure=None):
        with torch.enable_grad(): closure()
        for g in self.param_groups:
            for p in g["params"]: p.sub_({rate} * g["lr"] * p.grad)
"""
        exec(compile(text, "<ipython-input-1-abc>", "exec"), scope)
        return scope["Mine"]

    first = races.race([cell(1.0), "sgd"], _problem(), out=tmp_path, **SMALL)
    again = races.race([cell(1.0), "sgd"], _problem(), out=tmp_path, **SMALL)
    assert (again.trained, again.kept) == (0, first.trained)
    with pytest.raises(InputError, match=re.escape("competitors.Mine, code of Mine.step: expected what it is now")):
        races.race([cell(0.01), "sgd"], _problem(), out=tmp_path, **SMALL)


def test_a_model_with_dropout_is_taken_up_again(tmp_path: Path) -> None:
    """Its loss differs each time in training mode, and is the same in eval mode."""

    def task() -> Problem:
        x, y = torch.ones(40, 4), torch.full((40, 1), 4.0)
        return Problem(
            "dropout", "dropout", x, y, lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1), nn.BatchNorm1d(1)),
            nn.functional.mse_loss, validation=(x, y), test=(x, y), epochs=1,
        )  # fmt: skip

    stated = [races.stated.of_problem(task()) for _ in range(3)]
    assert stated[0] == stated[1] == stated[2]
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1))
    model[0].eval()
    shared = Problem("shared", "shared", torch.ones(4, 4), torch.ones(4, 1), lambda: model, nn.functional.mse_loss)
    races.stated.of_problem(shared)
    assert [m.training for m in model] == [False, True]
    assert model.training


class _Drawn(nn.Linear):
    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.weight.copy_(torch.from_numpy(np.random.default_rng().normal(size=self.weight.shape)))
            self.bias.zero_()


def test_weights_that_are_others_each_time() -> None:
    x = torch.ones(4, 4)
    task = Problem("drawn", "drawn", x, x[:, :1], lambda: _Drawn(4, 1), nn.functional.mse_loss)
    assert "others each time" in unknown_in(races.stated.of_problem(task)["first weights"])


class _Noise(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + float(np.random.default_rng().normal())


def test_a_loss_that_is_another_each_time(tmp_path: Path) -> None:
    task = Problem("noisy", "noisy", torch.ones(4, 4), torch.ones(4, 1), lambda: _Noise(4, 1), nn.functional.mse_loss)
    assert "another number each time" in unknown_in(races.stated.of_problem(task)["first loss"])


@pytest.mark.long
def test_what_cannot_be_identified_runs_once(
    tmp_path: Path, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a new folder it runs and says so; over results it is refused, and a shard of it too."""
    words = "closure variable rng of _holding.factory: a generator"
    mine = races.Competitor(_holding(k for k in range(3)), label="mine")
    for how in ("tuned", "as given"):
        folder = tmp_path / how

        def run(folder: Path = folder, how: str = how, **more: Any) -> Any:
            if how == "tuned":
                return races.race([mine, "sgd"], _problem(), out=folder, **{**SMALL, **more})
            return races.race([mine], _problem(), 0, 2, folder, workers=1)

        with pytest.warns(races.CannotGoOn, match=re.escape(words)):
            run()
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        with pytest.raises(InputError, match=re.escape(words)) as refused:
            run()
        assert "--out" in str(refused.value)
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    races.race([mine, "sgd"], _problem(), **SMALL)  # in memory there is nothing to say
    with pytest.raises(InputError, match=re.escape(words)):
        races.race([mine, "sgd"], _problem(), out=tmp_path / "shard", shard=(0, 2), **SMALL)
    assert not (tmp_path / "shard").exists()
    with pytest.warns(races.CannotGoOn):
        races.race([mine, "sgd"], _problem(), out=tmp_path / "many", **{**SMALL, "workers": None})
    with pytest.raises(InputError, match="workers: expected what can be sent to another process"):
        races.race([mine, "sgd"], _problem(), **{**SMALL, "workers": 2})

    Path("gen.py").write_text("import torch\nrng = (k for k in range(3))\ndef sgd(params, lr=0.1): return torch.optim.SGD(params, lr=lr) if rng else None\n")  # fmt: skip
    for how in (TUNED, GIVEN):
        command = ["race", "gen.py:sgd", "sgd", "--on", "airfoil-linear", *how, "--out", f"cli{len(how)}"]
        command[1:3] = ["gen.py:sgd"]
        assert main(command) == 0
        err = capsys.readouterr().err
        assert "global rng of sgd: a generator, which cannot be identified" in err
        assert main(command) == 2
        err = capsys.readouterr().err
        assert len(err.strip().splitlines()) == 1
        assert "global rng of sgd: a generator" in err


def test_the_difference_that_the_user_made_is_named(tmp_path: Path) -> None:
    def run(rules: Any = ("sgd", "adam"), problem: Any = "airfoil-linear", **changes: Any) -> None:
        races.race(rules, problem, out=tmp_path, **{**SMALL, "epochs": 1, **changes})

    run()
    for changes, words in (
        ({"seeds": 3}, "differs in seeds: expected 3, got 2"),
        ({"trials": 400, "seeds": 3}, "differs in trials: expected 400, got 2"),  # a kernel would pay then
        ({"first_seed": 7}, "differs in first_seed: expected 7, got 0"),
        ({"rules": ["sgd", "lion", "adam"]}, "differs in competitors.lion: expected one, got none"),
        ({"rules": ["sgd"]}, "differs in competitors.adam: expected none, got one"),
        ({"problem": "digits-softmax"}, "differs in problems.digits-softmax: expected one, got none"),
        ({"batch_size": 20}, "differs in problems.airfoil-linear.batch_size: expected 20, got 10"),
        ({"rules": ["sgd", races.Competitor("adam", hypers={"beta1": 0.8})]}, "competitors.adam.set.beta1: expected 0.8, got none"),
        ({"schedules": ["constant"]}, "differs in schedules: expected constant, got linear"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=re.escape(words)):
            run(**changes)
    run(rules=["adam", "sgd"])


def test_shards_of_other_code_are_not_merged(tmp_path: Path) -> None:
    task = _problem()
    for k, m in ((0, 0.0), (1, 0.9)):
        mine = races.Competitor(functools.partial(torch.optim.SGD, momentum=m), label="mine")
        races.race([mine, "sgd"], task, out=tmp_path / str(k), shard=(k, 2), **SMALL)
    mine = races.Competitor(functools.partial(torch.optim.SGD, momentum=0.0), label="mine")
    how = {n: v for n, v in SMALL.items() if n != "workers"}
    with pytest.raises(InputError, match=re.escape("momentum: expected 0.0, got 0.9")):
        races.merge([tmp_path / "0", tmp_path / "1"], tmp_path / "whole", [mine, "sgd"], task, **how)


def test_a_users_module_under_two_names_is_pickled_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled packages outside of site-packages do so."""
    (tmp_path / "named_twice.py").write_text("def falls(t):\n    return 1 / t\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("named_twice")
    monkeypatch.setitem(sys.modules, "named_twice", module)
    monkeypatch.setitem(sys.modules, "its_other_name", module)
    assert by_value.loads(by_value.dumps(module.falls))(4) == 0.25
