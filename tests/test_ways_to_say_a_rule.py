"""RULE means the same everywhere: every command takes every way to say one, or says in one line why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from steprule import rules
from steprule.cli import main
from steprule.errors import InputTypeError

FILE = '''
from steprule import rule
from steprule.hyper import Rate


@rule
def mine(p, g, *, lr: Rate = 0.1):
    """Mine."""
    return p - lr * g
'''
RULES = ["adam", "mine.py:mine", "mine.py", "package.rules:mine"]
CLASSES = ["torch.optim.Adam", "torch.optim:Adam"]
RACE = [
    "--on",
    "airfoil-linear",
    "--epochs",
    "1",
    "--schedule",
    "linear",
    "--workers",
    "1",
    "--shard",
    "1/1",
    "--out",
    "r",
]
FORMULA = {
    "show": ["show", "RULE"],
    "trace": ["trace", "RULE", "--steps", "2"],
    "play": ["play", "--rule", "RULE", "--out", "p.html"],
    "check": ["check", "RULE"],
    "against": ["check", "sgd", "--against", "RULE"],
}
TRAINS = {
    "train": ["train", "RULE", "--epochs", "1"],
    "sweep": ["sweep", "RULE", "--points", "2", "--epochs", "1", "--no-compile"],
    "race": ["race", "RULE", "--trials", "1", "--seeds", "1", "--fresh", "1", *RACE],
    "as given": ["race", "RULE", "--trials", "0", "--seeds", "1", "--out", "r"],
    "which": ["which", "RULE"],
}
SLOW = {"check", "against", "race"}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "rules.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def said(command: list[str], way: str) -> int:
    return main([way if word == "RULE" else word for word in command])


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("way", [*RULES, *CLASSES])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long if n in SLOW else []) for n in [*FORMULA, *TRAINS]]
)
def test_every_command_takes_every_way(name: str, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = said({**FORMULA, **TRAINS}[name], way)
    err = capsys.readouterr().err
    if name in FORMULA and way in CLASSES:
        assert code == 2
        words = "expected a rule, a catalogue name or 'file.py:name', got a class. The rule is called adam."
        assert err == f"steprule: {way}: {words}\n"
    else:
        assert code == (1 if name == "against" else 0), err


@pytest.mark.parametrize(
    ("way", "hint"),
    [("torch.optim.LBFGS", "steprule which names"), ("torch.optim:SGD", "called sgd"), (torch.optim.SGD, "called sgd")],
)
def test_a_class_has_no_formula(way: Any, hint: str) -> None:
    with pytest.raises(InputTypeError, match=hint):
        rules.resolve(way)


@pytest.mark.usefixtures("files")
def test_a_sweep_of_a_class_varies_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["sweep", "torch.optim.SGD", "--points", "2", "--epochs", "1"]
    assert main([*sweep, "--vary", "momentum=0..0.9", "--set", "lr=0.05"]) == 0
    out = capsys.readouterr().out
    assert "momentum" in out
    assert "one by one: an optimizer that is no rule" in out
    assert main([*sweep, "--vary", "momentum"]) == 2
    assert "Write momentum=low..high." in capsys.readouterr().err
    assert main([*sweep, "--vary", "momentun=0..1"]) == 2
    assert "Did you mean 'momentum'?" in capsys.readouterr().err
