"""Whole numbers are Python's and numpy's, everywhere; what is none is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thinning import thinned

import steprule
from steprule import sweeps
from steprule.cli import main
from steprule.errors import InputError, InputTypeError
from steprule.hyper import Search

RACE: dict[str, Any] = {
    "problems": "airfoil-linear",
    "schedules": ["constant"],
    "epochs": 1,
    "trials": 2,
    "seeds": 2,
    "fresh": 2,
}


def raced(**changed: Any) -> Any:
    return steprule.race(["sgd", "adam"], **{**RACE, **changed}).to_dict()["cells"]


CALLS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "train seed": (lambda n: steprule.train("sgd", seed=n, epochs=1).to_dict()["losses"], 3),
    "train epochs": (lambda n: steprule.train("sgd", epochs=n).to_dict()["losses"], 1),
    "train batch_size": (lambda n: steprule.train("sgd", epochs=1, batch_size=n).to_dict()["losses"], 50),
    "trace steps": (lambda n: steprule.trace("sgd", steps=n).to_dict(), 5),
    "trace seed": (lambda n: steprule.trace("sgd", seed=n, noise=1.0).to_dict(), 5),
    "trace seed, no noise": (lambda n: steprule.trace("sgd", seed=n).to_dict(), 5),
    "anatomy step": (lambda n: [float(np.sum(v)) for _, v in steprule.trace("adam").anatomy(n)], 3),
    "sweep seeds": (lambda n: steprule.sweep("adam", "airfoil-linear", {"lr": [0.1]}, n, compile=False).train.tolist(), 3),
    "sweep epochs": (lambda n: steprule.sweep("adam", "airfoil-linear", {"lr": [0.1]}, epochs=n, compile=False).train.tolist(), 1),
    "sobol": (lambda n: sweeps.sobol({"lr": Search(0.1, 1)}, n)["lr"].tolist(), 4),
    "as given seeds": (lambda n: [s.mean for s in steprule.race(["sgd"], trials=0, seeds=n, epochs=1).settings], 2),
    "as given epochs": (lambda n: [s.mean for s in steprule.race(["sgd"], trials=0, seeds=1, epochs=n).settings], 1),
    **{f"race {name}": (lambda n, name=name: raced(**{name: n}), 2) for name in ("trials", "seeds", "fresh", "first_seed", "epochs", "workers")},
}  # fmt: skip


OPTIONAL = (
    "race epochs",
    "race workers",
    "sweep epochs",
    "train epochs",
    "train batch_size",
    "as given epochs",
    "as given seeds",
    "race seeds",
    "race fresh",
    "race first_seed",
)


@pytest.mark.parametrize("name", thinned(CALLS, 4))
def test_numpys_integers_are_whole_numbers(name: str) -> None:
    call, number = CALLS[name]
    wanted = json.dumps(call(number))
    for kind in (np.int64, np.uint8):
        assert json.dumps(call(kind(number))) == wanted


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("value", [-1, 1.5, "a", "3", None, True, float("nan"), np.float64(2.0), np.True_], ids=repr)
def test_what_is_no_whole_number_is_one_line(name: str, value: Any) -> None:
    if value is None and name in OPTIONAL:
        pytest.skip("there it is the problem's own, or what pays")
    with pytest.raises((InputError, InputTypeError)) as caught:
        CALLS[name][0](value)
    assert "\n" not in str(caught.value)


def test_seeds_as_arrays_and_ranges() -> None:
    def of(seeds: Any) -> Any:
        return steprule.sweep("sgd", "airfoil-linear", {"lr": [0.1]}, seeds, compile=False)

    wanted = of([0, 1, 2])
    for seeds in (np.arange(3), range(3), (np.int32(0), 1, 2), np.array(3), torch.arange(3), 3):
        found = of(seeds)
        assert found.seeds == (0, 1, 2)
        assert all(type(s) is int for s in found.seeds)
        assert np.array_equal(found.train, wanted.train)
    for bad in ([0, -1], [0.5], [], np.array([0.0, 1.0]), ["0"], [None], np.array([True])):
        with pytest.raises((InputError, InputTypeError), match="seeds: expected whole numbers, 0 or more"):
            of(bad)


def test_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for args in (["trace", "sgd", "--noise", "1", "--seed", "-1"], ["train", "sgd", "--seed", "-1"]):
        assert main(args) == 2
        assert capsys.readouterr().err == "steprule: seed: expected 0 or more, got -1\n"
