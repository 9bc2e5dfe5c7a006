"""What surrounds the package: environment variables that are empty or absent, threads, and what is passed by mistake."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thinning import thinned
from torch import nn

import steprule
from steprule.compiler.folder import folder
from steprule.errors import InputError, InputTypeError
from steprule.hyper import Search
from steprule.lanes import kernel
from steprule.races import Competitor

VARIABLES = ("STEPRULE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA", "HOME")
POSIX = pytest.mark.skipif(os.name != "posix", reason="homes as POSIX has them")


def folder_with(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return folder()


@POSIX
def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = str(tmp_path)
    usual = tmp_path / ".cache/steprule/kernels"
    assert folder_with(monkeypatch, HOME=home) == usual
    assert folder_with(monkeypatch, HOME=home, XDG_CACHE_HOME="") == usual
    assert folder_with(monkeypatch, HOME=home, XDG_CACHE_HOME="", STEPRULE_CACHE="") == usual
    assert folder_with(monkeypatch, HOME=home, XDG_CACHE_HOME="/x") == Path("/x/steprule/kernels")
    assert folder_with(monkeypatch, HOME=home, STEPRULE_CACHE="~/own") == tmp_path / "own"
    assert folder_with(monkeypatch, HOME=home, STEPRULE_CACHE="own") == Path("own")


NOBODY = """
import os, pwd, sys
import torch, steprule

def nobody(uid):
    raise KeyError(uid)

pwd.getpwuid = nobody
q = torch.nn.Parameter(torch.ones(3))
q.grad = torch.ones(3)
steprule.optim.SGD([q], lr=0.5).step()
print(q.tolist(), end="")
"""


def ran(code: str, cwd: Path, **changed: str | None) -> subprocess.CompletedProcess[str]:
    env = {n: v for n, v in os.environ.items() if n not in VARIABLES}
    env["PYTHONPATH"] = str(Path(steprule.__file__).parents[1])
    env |= {n: v for n, v in changed.items() if v is not None}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@POSIX
@pytest.mark.long
def test_a_user_without_a_home_and_without_a_name(tmp_path: Path) -> None:
    done = ran(NOBODY, tmp_path)
    assert (done.returncode, done.stdout) == (0, "[0.5, 0.5, 0.5]"), done.stderr
    assert "compiled anew in each process. Set STEPRULE_CACHE" in done.stderr
    done = ran(NOBODY, tmp_path, XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0.5, 0.5, 0.5]", "")
    assert list((tmp_path / "xdg/steprule/kernels").glob("*.py"))


INTERPRETED = """
import warnings
import numpy as np
import torch, steprule

ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    pairs = (steprule.optim.Adam([ours]), ours), (torch.optim.Adam([theirs]), theirs)
    for optimizer, p in pairs:
        for k in range(3):
            p.grad = torch.cos(torch.arange(7.0) + k)
            optimizer.step()
assert torch.allclose(ours, theirs, rtol=1e-6)
assert any("NUMBA_DISABLE_JIT" in str(w.message) for w in said)
found = steprule.sweep("adam", "airfoil-linear", {"lr": [0.1, 0.01]}, compile=True)
assert found.engine.startswith("vmap: no kernel for"), found.engine
assert np.isfinite(found.train).all()
assert steprule.check("adam").passed
try:
    steprule.optim.Adam([ours], backend="numba").step()
except steprule.errors.InputError as error:
    print(error, end="")
"""


@pytest.mark.long
def test_without_numbas_compiler(tmp_path: Path) -> None:
    done = ran(INTERPRETED, tmp_path, NUMBA_DISABLE_JIT="1", STEPRULE_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "backend 'numba': expected Numba's compiler, got NUMBA_DISABLE_JIT, which turns it off"


@pytest.mark.long
def test_sweeps_from_several_threads() -> None:
    """As many as there are problems that torch records at once, each with the numbers that it has alone."""
    names = ["airfoil-linear", "airfoil", "beale"]
    found: dict[int, Any] = {}

    def run(k: int) -> None:
        found[k] = steprule.sweep("adam", names[k % 3], {"lr": [0.1, 0.01]}, epochs=1, compile=True).train

    for _ in range(2):
        kernel.source_of.cache_clear()
        threads = [threading.Thread(target=run, args=(k,)) for k in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == list(range(6))
        for k, name in enumerate(names):
            alone = steprule.sweep("adam", name, {"lr": [0.1, 0.01]}, epochs=1, compile=True).train
            assert np.array_equal(found[k], alone)
            assert np.array_equal(found[k + 3], alone)
        found.clear()


def test_trainings_from_several_threads() -> None:
    """First weights and dropout are drawn from a generator that all threads share."""
    x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))

    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 32), nn.Dropout(0.3), nn.ReLU(), nn.Linear(32, 1))

    task = steprule.Problem("dropped", "", x, x.sum(1, keepdim=True), net, nn.functional.mse_loss)
    wanted = [steprule.train("torch.optim.SGD", task, seed=s, epochs=3, lr=0.1).losses for s in range(6)]
    found: dict[int, Any] = {}

    def run(s: int) -> None:
        found[s] = steprule.train("torch.optim.SGD", task, seed=s, epochs=3, lr=0.1).losses

    threads = [threading.Thread(target=run, args=(s,)) for s in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for s in range(6):
        assert np.array_equal(found[s], wanted[s])


SMALL: dict[str, Any] = {"trials": 2, "seeds": 2, "fresh": 2, "epochs": 1}


@pytest.mark.parametrize(
    "one", ["adam", torch.optim.SGD, Competitor("sgd", {"lr": Search(1e-4, 1)}), steprule.rules.sgd]
)
def test_one_alone_races(one: Any) -> None:
    result = steprule.race(one, "airfoil-linear", schedules="linear", **SMALL)
    assert len(result.spec.entrants) == 1
    assert [schedule.name for schedule in result.spec.schedules] == ["linear"]


def test_one_alone_as_given() -> None:
    for one, label in (("sgd", "sgd"), (torch.optim.SGD, "torch.optim.SGD")):
        assert [s.label for s in steprule.race(one, trials=0, seeds=2, epochs=1).settings] == [label]


def test_what_cannot_be_a_list_of_competitors() -> None:
    for call in (
        lambda: steprule.race(3, "airfoil-linear"),  # type: ignore[arg-type]
        lambda: steprule.race(3, trials=0),  # type: ignore[arg-type]
        lambda: steprule.race(["adam"], 5),  # type: ignore[arg-type]
        lambda: steprule.race(["adam"], "airfoil-linear", schedules="linaer", **SMALL),
    ):
        with pytest.raises((InputError, InputTypeError), match="expected"):
            call()


def test_a_python_function_is_no_surface() -> None:
    def bowl(x: Any, y: Any) -> Any:
        return x**2 + y**2

    with pytest.raises(InputTypeError, match=r"got the function bowl. A Python function has no formula and no page"):
        steprule.trace("sgd", bowl)  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match="surface: expected a surface, its name, or a formula as text"):
        steprule.trace("sgd", 3)  # type: ignore[arg-type]


FIRST_STEPS = """
import random
import numpy as np, torch
from steprule import optim
def states():
    return torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
torch.manual_seed(3), np.random.seed(3), random.seed(3)
before = states()
for make in (optim.AdamW, optim.SGD, optim.from_rule("lion")):
    p = torch.nn.Parameter(torch.ones(5))
    p.grad = torch.ones(5)
    make([p], lr=0.1).step()
    assert states() == before, make
"""


def test_a_first_step_leaves_the_callers_random_numbers_alone() -> None:
    """In a process that has never stepped: whatever is looked for then, dropout and batches stay those of torch's class."""
    subprocess.run([sys.executable, "-c", FIRST_STEPS], check=True, timeout=300)


@pytest.mark.parametrize("name", thinned(["torch.optim.Adam", "adam"], 2))
def test_a_sweep_leaves_the_callers_random_numbers_alone(name: str) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    ours, theirs = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    for compiled in (True, False):
        steprule.sweep(name, "airfoil-mlp", {"lr": [0.1]}, epochs=1, compile=compiled)
    steprule.race([name], "airfoil-linear", schedules="linear", **SMALL)
    steprule.check("adam")
    assert torch.equal(torch.random.get_rng_state(), ours)
    assert np.array_equal(np.random.get_state()[1], theirs)  # type: ignore[index]
