"""Is it worth it for me: what a swap saves of one's own training. No time is asserted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import steprule
from steprule import benching
from steprule.benching import own
from steprule.cli import main
from steprule.problems import catalogue as problems

MINE = """
import torch, steprule
from torch import nn
from steprule.hyper import Rate

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.1), nn.Linear(16, 2))
    def forward(self, a, b):
        return self.body(torch.cat([a, b], 1))

a, b = torch.randn(50, 4), torch.randn(50, 2)
mine = steprule.Problem("mine", "", (a, b), torch.randint(2, (50,)), Net, nn.functional.cross_entropy, batch_size=16)

@steprule.rule
def signs(p, g, *, lr: Rate = 0.01):
    return p - lr * steprule.maths.sign(g)

def broken(params):
    raise OSError("no such file")

class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 2)
    def forward(self, x):
        raise ValueError("as it does")

fails = steprule.Problem("fails", "", a, torch.randint(2, (50,)), Fails, nn.functional.cross_entropy)
"""


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with a stranger's file; measures a few rounds."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own, "ROUNDS", (3, 3))


@pytest.mark.parametrize(
    ("optimizer", "peer", "names"),
    [
        (None, None, ("steprule.optim.AdamW", "torch.optim.AdamW")),
        (None, "torch.optim.Adagrad", ("steprule.optim.Adagrad", "torch.optim.Adagrad")),
        ("sgd", None, ("steprule.optim.SGD", "torch.optim.SGD")),
        ("lion", None, ("lion", "torch.optim.AdamW")),
        ("mine.py:signs", "torch.optim.Adam", ("signs", "torch.optim.Adam")),
    ],
)
def test_one_in_place_of_another(optimizer: Any, peer: Any, names: tuple[str, str], quick: None) -> None:
    task = problems.get("mine.py:mine")  # whose file draws its data
    if optimizer == "mine.py:signs":
        optimizer = steprule.rules.resolve(optimizer)
    state = torch.random.get_rng_state()
    found = benching.swap(optimizer, task, peer=peer)
    assert (found.optimizer, found.peer) == names
    assert (found.parameters, found.batch_size, found.rounds) == (6 * 16 + 16 + 32 + 34, 16, 3)
    assert found.interval[0] <= found.saved <= found.interval[1]
    for name in names:
        assert 0 < found.step_milliseconds[name] < found.milliseconds[name]
    assert 0 < found.share < 1
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_said(quick: None) -> None:
    found = benching.swap(None, "mine.py:mine")
    low = replace(found, saved=0.031, interval=(0.025, 0.036), milliseconds={found.peer: 40.0, found.optimizer: 38.8})
    assert low.verdict == "Swapping saves 3.1 % of this training [2.5, 3.6]: 1.24 of 40 ms per iteration."
    dear = replace(found, saved=-0.05, interval=(-0.06, -0.02))
    assert dear.verdict == "Swapping costs 5.0 % of this training [-6.0, -2.0]: stay with torch.optim.AdamW."
    for saved, interval in ((0.004, (-0.002, 0.009)), (0.02, (-0.01, 0.05)), (0.005, (0.001, 0.03))):
        assert replace(found, saved=saved, interval=interval).verdict.startswith("Not worth it here: the step is ")


def test_on_the_command_line(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--on", "mine.py:mine", "--peer", "torch.optim.SGD", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["peer"] == "torch.optim.SGD"
    assert found["verdict"].endswith(".")
    assert main(["bench", "adam", "sgd", "--on", "mine.py:mine"]) == 0
    told = capsys.readouterr().out
    assert told.count("ms per iteration, ") == 4


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["bench", "--peer", "torch.optim.SGD"], "--peer is for --on"),
        (["bench", "--on", "mine.py:mine", "--quick"], "--on takes neither"),
        (["bench", "adm", "--on", "mine.py:mine"], "adam"),
        (["bench", "--on", "airfol"], "airfoil"),
        (["bench", "--on", "mine.py:mine", "--peer", "torch.optim.Adm"], "Adam"),
        (["bench", "adam", "--on", "mine.py:mine", "--peer", "mine.py:broken"], "no such file"),
        (["bench", "adam", "--on", "mine.py:fails"], "as it does"),
        (["bench", "adam", "--on", "mine.py:mine", "--peer", "torch.optim.LBFGS"], "closure"),
    ],
)
def test_what_cannot_be_compared(
    command: list[str], words: str, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_two_of_one_name(quick: None) -> None:
    Path("peers.py").write_text("import torch\n\ndef lion(params):\n    return torch.optim.SGD(params, lr=1e-3)\n")
    found = benching.swap("lion", "mine.py:mine", peer="peers.py:lion")
    assert (found.optimizer, found.peer) == ("lion", "lion (peer)")
    assert len(found.milliseconds) == 2


def test_the_memory_of_a_step(quick: None) -> None:
    """torch's loop over the tensors holds what its operations give; our kernel works in place."""
    found = benching.swap("adam", "mine.py:mine", peer="torch.optim.Adam")
    assert found.extra_bytes[found.optimizer] == 0
    assert found.extra_bytes[found.peer] > 0
