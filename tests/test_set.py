"""`--set` reaches everyone that has the name, or is refused; who has it not is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sized import sized
from tolerances import ROUNDED32

from steprule.cli import main
from steprule.training import train

AS_GIVEN = ["--trials", "0", "--seeds", "2", "--epochs", "1", "--json"]
TUNED = [*sized(2, 2, 2, "constant", workers=1), "--epochs", "1", "--on", "airfoil-linear", "--json"]

FILE = """
import torch
from steprule import rule
from steprule.hyper import Rate, Search
from steprule.races import Competitor


@rule
def adam(p, g, *, lr: Rate = 0.1):
    return p - lr * g


def make(params, lr=0.01, momentum=0.0):
    return torch.optim.SGD(params, lr=lr, momentum=momentum)


def anything(params, **hypers):
    return torch.optim.SGD(params, **hypers)


best = Competitor(torch.optim.Adam, {"lr": Search(1e-4, 1)}, label="the best")
"""


@pytest.fixture
def raced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FILE)

    def run(*args: str, code: int = 0) -> tuple[Any, str]:
        capsys.readouterr()
        assert main(["race", *args, "--out", f"out{len(list(tmp_path.iterdir()))}"]) == code
        out, err = capsys.readouterr()
        return json.loads(out) if code == 0 else None, err

    return run


def mean(label: str, found: Any) -> float:
    return float(next(row["mean"] for row in found["settings"] if row["label"] == label))


def test_as_given_it_reaches_rules_and_classes(raced: Any) -> None:
    found, err = raced("sgd", "torch.optim.SGD", "mine.py:make", "--set", "lr=0.05", *AS_GIVEN)
    wanted = sum(train("torch.optim.SGD", seed=s, epochs=1, lr=0.05).final_loss for s in range(2)) / 2
    for label in ("sgd", "torch.optim.SGD", "make"):
        assert mean(label, found) == pytest.approx(wanted, rel=ROUNDED32)
    assert err == ""


def test_as_given_one_is_set_by_name(raced: Any) -> None:
    args = ["--set", "torch.optim.SGD.lr=0.05", "--set", "make.momentum=0.5", "--set", "sgd.lr=0.02"]
    found, err = raced("sgd", "torch.optim.SGD", "mine.py:make", *args, *AS_GIVEN)
    entries = {label: own["set"] for label, own in found["spec"]["competitors"].items()}
    assert (entries["torch.optim.SGD"]["lr"], entries["torch.optim.SGD"]["momentum"]) == (0.05, 0)
    assert entries["make"] == {"lr": 0.01, "momentum": 0.5}
    assert entries["sgd"]["lr"] == 0.02
    assert err == ""


def test_who_has_it_not_is_named(raced: Any) -> None:
    found, err = raced("sgd", "adam", "torch.optim.Adam", "torch.optim.SGD", "--set", "momentum=0.5", *AS_GIVEN)
    entries = {label: own["set"] for label, own in found["spec"]["competitors"].items()}
    assert entries["torch.optim.SGD"]["momentum"] == 0.5
    assert entries["sgd"]["momentum"] == 0.5
    assert "momentum" not in entries["torch.optim.Adam"]
    assert err == "steprule: --set momentum=0.5: adam, torch.optim.Adam have no momentum.\n"


def test_tuned_it_is_fixed_for_all_that_have_it(raced: Any) -> None:
    names = ["adam", "torch.optim.Adam", "mine.py:make", "mine.py:anything", "mine.py:best"]
    found, err = raced(*names, "--set", "lr=0.01", *TUNED)
    competitors = found["spec"]["competitors"]
    assert set(competitors) == {"adam", "torch.optim.Adam", "make", "anything", "the best"}
    assert all(c["set"]["lr"] == 0.01 for c in competitors.values())
    assert all("lr" not in c["space"] for c in competitors.values())
    assert err == ""


@pytest.mark.long
def test_tuned_one_is_set_by_label(raced: Any) -> None:
    args = ["--set", "the best.amsgrad=true", "--set", "mine.py:make.momentum=0.9", "--set", "torch.optim.Adam.lr=0.3"]
    found, err = raced("torch.optim.Adam", "mine.py:make", "mine.py:best", *args, *TUNED)
    competitors = found["spec"]["competitors"]
    assert competitors["the best"]["set"]["amsgrad"] is True
    assert competitors["make"]["set"] == {"momentum": 0.9}
    assert competitors["torch.optim.Adam"]["set"]["lr"] == 0.3
    assert competitors["torch.optim.Adam"]["set"]["amsgrad"] is False
    assert err == ""


@pytest.mark.parametrize("how", [AS_GIVEN, TUNED])
def test_a_name_that_nobody_has_is_refused(raced: Any, how: list[str]) -> None:
    for args, words in (
        (["adam", "torch.optim.Adam", "--set", "amsgrd=true"], "Did you mean 'amsgrad'?"),
        (["torch.optim.Adam", "mine.py:make", "--set", "momentun=1"], "Did you mean 'momentum'?"),
        (["sgd", "torch.optim.Adam", "--set", "torch.optim.Adm.lr=1"], "Did you mean 'torch.optim.Adam'?"),
        (["sgd", "torch.optim.Adam", "--set", "torch.optim.Adam.momentum=1"], "hyperparameter of torch.optim.Adam"),
    ):
        _, err = raced(*args, *how, code=2)
        assert words in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("how", [AS_GIVEN, TUNED])
def test_a_pupils_adam_beside_ours(raced: Any, how: list[str]) -> None:
    """Two of one name are told apart by what was typed, and can be set by that."""
    found, _ = raced("adam", "mine.py:adam", "--set", "mine.py:adam.lr=0.2", *how)
    assert set(found["spec"]["competitors"]) == {"adam", "mine.py:adam"}
    _, err = raced("adam", "adam", *how, code=2)
    assert "'adam' twice" in err
