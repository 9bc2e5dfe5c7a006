"""Optimizers and their classes on the way to other processes: pickled, copied, by cloudpickle."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import NAMES, REFERENCE, in_fresh, only_ours, optim, parameter, train
from torch import nn

# Other processes


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


def saved_whole(thing: Any) -> Any:
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def by_cloudpickle(thing: Any) -> Any:
    import cloudpickle

    return pickle.loads(cloudpickle.dumps(thing))


TRAVELS = [pickled, saved_whole, copy.deepcopy, by_cloudpickle]


def kinds() -> dict[str, Any]:
    found = {n: getattr(optim, n) for n in NAMES}
    if not REFERENCE:
        found |= {"Lion": optim.Lion} | {
            f"rule {r}": optim.from_rule(r) for r in ("lamb", "lars", "adagrad_eps_inside")
        }
        found |= {"named": optim.from_rule("lamb", name="Mine")}
    return found


KINDS = kinds()


@pytest.mark.parametrize("travel", TRAVELS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_optimizers_travel_whole(kind: Any, travel: Callable[[Any], Any]) -> None:
    params = [parameter(2, 3), parameter(4)]
    optimizer = kind(params, lr=0.05, weight_decay=0.01)
    train(optimizer, 2)
    twins, other = travel((params, optimizer))
    assert type(other) is type(optimizer)
    assert [k is twins[n] for n, k in enumerate(other.state)] == [True] * len(optimizer.state)
    train(optimizer, 2)
    train(other, 2)
    assert all(torch.equal(p, q) for p, q in zip(params, twins, strict=True))


@pytest.mark.parametrize("travel", [pickled, copy.copy, copy.deepcopy, by_cloudpickle])
@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_classes_travel(kind: Any, travel: Callable[[Any], Any]) -> None:
    other = travel(kind)
    assert other.__name__ == kind.__name__
    p = parameter(3)
    optimizer = other([p], lr=0.1)
    train(optimizer)
    assert type(optimizer).__name__ == kind.__name__


def trained_elsewhere(optimizer: Any) -> list[float]:
    train(optimizer, 2)
    return optimizer.param_groups[0]["params"][0].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [KINDS["Adam"], KINDS.get("rule lamb", KINDS["SGD"])], ids=["Adam", "from a rule"])
def test_optimizers_travel_to_a_new_process(kind: Any) -> None:
    p = parameter(4)
    optimizer = kind([p], lr=0.05)
    train(optimizer, 2)
    wanted = trained_elsewhere(copy.deepcopy(optimizer))  # a process that is sent a tensor writes into the sender's
    assert in_fresh(trained_elsewhere, optimizer) == wanted


RULE = """
from steprule import optim, rule
from steprule.hyper import Rate

@rule
def sign_free(p, g, *, lr: Rate = 0.1):
    return p - lr * g

Mine = optim.from_rule(sign_free)
"""

MAIN = """
import pickle, sys, cloudpickle, torch
{rule}
p = torch.nn.Parameter(torch.ones(2))
optimizer = Mine([p], lr=0.5)
p.grad = torch.ones(2)
optimizer.step()
for what in (Mine, optimizer):
    try:
        pickle.loads(pickle.dumps(what))
    except Exception as error:
        assert len(str(error).splitlines()) == 1 and "sign_free" in str(error), error
with open(sys.argv[1], "wb") as file:
    file.write(cloudpickle.dumps((Mine, optimizer)))
"""


def unpickled_and_stepped(path: str) -> list[float]:
    kind, optimizer = pickle.loads(Path(path).read_bytes())
    found = []
    for o in (optimizer, kind([nn.Parameter(torch.ones(2))], lr=0.25)):
        (p,) = o.param_groups[0]["params"]
        p.grad = torch.ones(2)
        o.step()
        found.append(p[0].item())
    return found


def run_program(text: str, *args: str, cwd: Path) -> None:
    (cwd / "program.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "program.py", *args],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr


@only_ours
def test_a_rule_of_the_main_program_travels_by_cloudpickle(tmp_path: Path) -> None:
    """By pickle it does too, or is refused in one line that names it."""
    run_program(MAIN.format(rule=RULE), "pickled", cwd=tmp_path)
    assert in_fresh(unpickled_and_stepped, str(tmp_path / "pickled")) == [0.0, 0.75]


@only_ours
@pytest.mark.parametrize("travel", TRAVELS)
def test_a_rule_of_a_users_module_travels(
    travel: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules_of_mine.py").write_text(RULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    module = importlib.import_module("rules_of_mine")
    for kind in (module.Mine, optim.from_rule(module.sign_free)):
        p = parameter(3)
        optimizer = kind([p], lr=0.5)
        train(optimizer)
        q, other = travel((p, optimizer))
        train(other)
        train(optimizer)
        assert torch.equal(p, q)
    sys.modules.pop("rules_of_mine")
