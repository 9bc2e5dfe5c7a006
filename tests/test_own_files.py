"""A race on files of one's own: the same bytes with any number of workers, in shards and on Ray, from any folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sized import sized

import steprule
from steprule.rules.load import load_object

FOLDER = "my models/数据"
HELPER = """
import torch

def block():
    return torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
"""
WAVE = """
import os, sys
import torch, steprule
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from helper_of_wave import block

SCALE = 3.0

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.block = block()
    def forward(self, x):
        return self.block(x)

def error(ours, theirs):
    import helper_of_wave  # only when it is called
    return ((ours - theirs) ** 2).mean()

def mine(params, lr=1e-3):
    return torch.optim.Adam(params, lr=lr)

@steprule.rule
def half(p, g, *, lr: steprule.hyper.Rate = 0.1):
    return p - lr * g / 2

x = torch.linspace(-1, 1, 90)[:, None]
y = torch.sin(SCALE * x)
wave = steprule.Problem("wave", "", x[::3], y[::3], lambda: Net(), error, validation=(x[1::3], y[1::3]),
                        test=(x[2::3], y[2::3]), epochs=2, batch_size=10)
"""
SCRIPT = """
import sys
import torch, steprule
x = torch.linspace(-1, 1, 60)[:, None]
def net(): return torch.nn.Linear(1, 1)
line = steprule.Problem("line", "", x, 3 * x, net, torch.nn.functional.mse_loss, epochs=1)
found = steprule.race(["sgd", "adam"], line, trials=4, seeds=2, fresh=2, schedules=["linear"], workers=int(sys.argv[1]), out=sys.argv[2])
"""


@pytest.fixture
def files(in_folder: Path) -> Path:
    folder = in_folder / FOLDER
    folder.mkdir(parents=True)
    (folder / "helper_of_wave.py").write_text(HELPER)
    (folder / "wave.py").write_text(WAVE)
    (in_folder / "elsewhere").mkdir()
    return folder


def ran(*command: str, cwd: str = "elsewhere") -> None:
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def race(out: str, *more: str) -> None:
    file = f"../{FOLDER}/wave.py"
    size = sized(4, 2, 2, "linear")
    ran(
        "-m",
        "steprule",
        "race",
        "sgd",
        f"{file}:mine",
        f"{file}:half",
        "--on",
        f"{file}:wave",
        *size,
        "--out",
        out,
        *more,
    )


def results(out: str) -> bytes:
    return Path("elsewhere", out, "results.parquet").read_bytes()


@pytest.fixture
def one(files: Path) -> bytes:
    """What one worker finds."""
    race("one", "--workers", "1")
    return results("one")


def test_one_worker_or_two(one: bytes) -> None:
    race("two", "--workers", "2")
    assert results("two") == one


@pytest.mark.long
def test_shards_and_four_workers(one: bytes) -> None:
    race("four", "--workers", "4")
    for k in (1, 2):
        race(f"part{k}", "--workers", "2", "--shard", f"{k}/2")
    ran("-m", "steprule", "race", "merge", "part1", "part2", "--out", "whole")
    assert results("four") == results("whole") == one


@pytest.mark.long
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_on_ray(one: bytes) -> None:
    race("ray", "--engine", "ray")
    assert results("ray") == one


@pytest.mark.long
def test_a_script_without_a_guard(files: Path) -> None:
    Path("elsewhere/script.py").write_text(SCRIPT)
    for workers in ("1", "2"):
        ran("script.py", workers, f"by{workers}")
    assert results("by1") == results("by2")


CELLS = (
    "import sys, torch, steprule\nfrom torch import nn\nsys.path.insert(0, FOLDER)\nfrom wave import wave, half",
    """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(1, 8), nn.Dropout(0.1), nn.Linear(8, 1)
    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.first(x))))""",
    "def mine(params, lr=1e-3):\n    return torch.optim.Adam(params, lr=lr)",
    """x = torch.linspace(-1, 1, 60)[:, None]
own = steprule.Problem("own", "", x, 3 * x, Net, nn.functional.mse_loss, epochs=1)""",
    """for workers in (1, 2):
    for task in (own, wave):
        steprule.race([mine, half, "sgd"], task, trials=4, seeds=2, fresh=2, schedules=["linear"], epochs=1,
                      workers=workers, out=f"{task.name}{workers}")""",
)


@pytest.mark.long
def test_a_notebook(files: Path) -> None:
    """Its own classes and functions, and a file's, with one worker and with two."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = [nbformat.v4.new_code_cell(cell.replace("FOLDER", repr(str(files.absolute())))) for cell in CELLS]
    nbclient.NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=300).execute(cwd="elsewhere")
    for name in ("own", "wave"):
        assert results(f"{name}1") == results(f"{name}2")


def _losses(what: Any, task: steprule.Problem) -> Any:
    return steprule.train(what, task, seed=3, lr=0.02).losses


def _swept(what: Any, task: steprule.Problem) -> Any:
    return steprule.sweep(what, task, {"lr": [0.01, 0.1]}, seeds=[1]).train


def test_several_threads(files: Path) -> None:
    """Trainings and sweeps of a file's rules and factories in four threads are those of one, dropout among them."""
    wave, half, mine = (load_object(f"{FOLDER}/wave.py:{name}", kind="object") for name in ("wave", "half", "mine"))
    dropped = replace(
        wave, name="dropped", model=lambda: torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(1, 1))
    )
    works: list[Callable[[], Any]] = []
    for task in (wave, dropped):
        for what in (half, mine, "adam"):
            works.append(partial(_losses, what, task))
            works.append(partial(_swept, what, task))
    drawn = torch.get_rng_state()
    alone = [work() for work in works]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda work: work(), works))
    for ours, theirs in zip(together, alone, strict=True):
        assert np.array_equal(ours, theirs)
    assert torch.equal(drawn, torch.get_rng_state())
