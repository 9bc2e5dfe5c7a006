"""What a command will take is known before it starts, and what it takes fits into memory."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sized import sized
from tolerances import LANE_AGAINST_SOLO
from torch import nn

import steprule
from steprule import races, sweeps
from steprule.cli import cost as told, main
from steprule.errors import InputError
from steprule.held import most_held
from steprule.lanes import train as engine, vmapped
from steprule.problems import facts
from steprule.races import runner as running
from steprule.races.spec import spec_of
from steprule.sweeps.cost import TrainingCost

RACE = ["race", "adam", "sgd", "--on", "airfoil-linear", *sized(4, 2, 3, "linear")]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures less."""
    monkeypatch.setattr(sweeps.cost, "ENOUGH", 0.01)


def line(count: int = 120, width: int = 3) -> steprule.Problem:
    """A line, trained in milliseconds."""
    x = torch.randn(count, width, generator=torch.Generator().manual_seed(5))
    held = (x[:30], x[:30].sum(1, keepdim=True))
    return steprule.Problem(
        "line", "", x, x.sum(1, keepdim=True), lambda: nn.Linear(width, 1), nn.functional.mse_loss, validation=held, test=held,
        batch_size=25, epochs=3,
    )  # fmt: skip


def test_what_tensors_hold_is_counted_until_they_are_freed() -> None:
    kept = []

    def work() -> None:
        a = torch.ones(1000)  # 4,000 bytes
        b = a + 1
        del a
        c = b * 2  # two at a time
        kept.append(c.view(10, 100))  # no new storage
        del b, c
        kept.append(torch.ones(250))

    assert most_held(work) == 8000
    parameter = torch.ones(1000)
    assert most_held(lambda: parameter.add_(1)) == 0  # what was there before


@pytest.mark.parametrize("compile", [True, False])
def test_lanes_in_parts_are_the_lanes(compile: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = np.geomspace(1e-4, 0.3, 150)
    whole = steprule.sweep("adam", line(), {"lr": rates}, seeds=2, compile=compile)
    monkeypatch.setattr(vmapped, "ROOM", 4 * 4 * 4 * 40)  # some tens of lanes, of four numbers each
    seen: list[int] = []
    real = engine._trained

    def counted(group: Any, *rest: Any) -> Any:
        seen.append(len(group))
        return real(group, *rest)

    monkeypatch.setattr(engine, "_trained", counted)
    parts = steprule.sweep("adam", line(), {"lr": rates}, seeds=2, compile=compile)
    assert sum(seen) >= 300  # and one to see whether the model can be batched
    assert len(seen) > 4
    for name in ("train", "validation", "test", "initial", "died_at", "curve"):
        ours, theirs = getattr(parts, name), getattr(whole, name)
        if compile:
            assert np.array_equal(ours, theirs), name
        else:
            assert np.allclose(ours, theirs, rtol=LANE_AGAINST_SOLO, atol=0), name


def test_losses_of_samples_in_parts_are_the_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    task = line(121)
    whole = steprule.sweep("adam", task, {"lr": [0.01, 0.1]}, compile=False)
    alone = steprule.train("adam", task, lr=0.01)
    monkeypatch.setattr(facts, "AT_ONCE", 50)
    parts = steprule.sweep("adam", task, {"lr": [0.01, 0.1]}, compile=False)
    assert np.allclose(parts.train, whole.train, rtol=LANE_AGAINST_SOLO, atol=0)
    assert steprule.train("adam", task, lr=0.01).losses == pytest.approx(alone.losses, rel=LANE_AGAINST_SOLO)


WIDE = """
import resource, sys
import numpy as np, torch, steprule
from torch import nn
x = torch.randn(256, 64)
def model():
    body = [layer for _ in range(12) for layer in (nn.Linear(512, 512), nn.Tanh())]
    return nn.Sequential(nn.Linear(64, 512), nn.Tanh(), *body, nn.Linear(512, 1))
task = steprule.Problem("wide", "", x, x.sum(1, keepdim=True), model, nn.functional.mse_loss, batch_size=256, epochs=1)
steprule.sweep("adam", task, {"lr": np.geomspace(1e-5, 1e-3, 64)}, compile=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.long
def test_a_sweep_of_a_large_model_fits_into_memory() -> None:
    """64 lanes of three million parameters with Adam's states and their copies are 7 GB together."""
    done = subprocess.run([sys.executable, "-c", WIDE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4_000


def test_fewer_workers_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of("sgd", "airfoil-mlp", compile=False)
    monkeypatch.setattr(running, "cores", lambda: 8)
    monkeypatch.setattr(running, "memory_left", lambda: None)
    assert running.workers_for(spec, 1_000_000) == 8
    monkeypatch.setattr(running, "memory_left", lambda: 3 * 10**9)
    monkeypatch.setattr(running, "memory_held", lambda: 10**9)
    assert running.workers_for(spec, 1_000_000) in (1, 2)
    monkeypatch.setattr(running, "memory_left", lambda: 10**6)
    assert running.workers_for(spec, 1_000_000) == 1


def test_an_estimate_counts_what_a_race_trains(tmp_path: Path) -> None:
    how: dict[str, Any] = {"trials": 8, "seeds": 2, "fresh": 4, "schedules": ["linear"]}
    who = ["adam", "sgd"]
    before = races.estimate(who, "airfoil-linear", out=tmp_path / "race", **how)
    assert not (tmp_path / "race").exists()
    assert before.seconds
    assert before.bytes
    assert before.steps == before.trainings * 2 * 91  # epochs and batches
    said: list[Any] = []
    done = races.race(who, "airfoil-linear", out=tmp_path / "race", told=said.append, **how)
    moved = 16 * sum(len(phases) - 2 for phases in done.phases.values())
    assert before.trainings == done.lanes - moved == said[0].trainings
    assert before.trainings + 3 * 16 * 2 == before.most
    after = races.estimate(who, "airfoil-linear", out=tmp_path / "race", **how)
    assert (after.trainings, after.kept) == (0, done.lanes)
    with pytest.raises(InputError, match="another race, which differs in trials"):
        races.estimate(who, "airfoil-linear", out=tmp_path / "race", **{**how, "trials": 9})


def test_what_a_part_of_a_race_will_take() -> None:
    how: dict[str, Any] = {"trials": 8, "seeds": 2, "fresh": 4, "schedules": ["linear"]}
    whole = races.estimate(["adam", "sgd"], "airfoil-linear", **how)
    parts = [races.estimate(["adam", "sgd"], "airfoil-linear", shard=(k, 2), **how) for k in range(2)]
    assert sum(p.trainings for p in parts) == whole.trainings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("1.5 h", 5400), ("45", 45), ("2d", 172_800), ("5min", 300)],
)
def test_times_as_people_write_them(text: str, seconds: float) -> None:
    assert told.seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "0", "0s", "5 weeks", "m", "1h-30m", "nan", "1:30"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InputError, match="--budget: expected a time"):
        told.seconds_of(text)


def test_a_dry_run_trains_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    counts = {"race": 60, "sweep": 64, "train": 1, "as given": 40, "ablate": 2 * 3 * (4 + 5)}
    commands = {
        "race": RACE, "sweep": ["sweep", "adam"], "train": ["train", "torch.optim.Adam"],
        "as given": ["race", "adam", "sgd", "--trials", "0"],
        "ablate": ["ablate", "sgd", "--on", "airfoil-linear", "--part", "momentum", *sized(4, 3, 5)],
    }  # fmt: skip
    for name, command in commands.items():
        assert main([*command, "--dry-run", "--json"]) == 0, name
        found = json.loads(capsys.readouterr().out)
        assert found["trainings"] == counts[name], name
        assert min(found["seconds"], found["bytes"] - 10**8) > 0, name
        assert main([*command, "--dry-run"]) == 0
        shown = capsys.readouterr().out
        assert f"{counts[name]} training" in shown
        assert shown.endswith(" of memory.\n")
    assert not list(tmp_path.iterdir())


def test_hours_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(told, "HOURS", 1e-9)
    for module in ("steprule.races.estimates", "steprule.sweeps.estimate"):
        monkeypatch.setattr(import_module(module), "is_long", lambda parts: True)
    assert main(RACE) == 2
    error = capsys.readouterr().err
    for words in ("race: 60 trainings", "expected --yes, for it takes hours", "--budget"):
        assert words in error
    assert main(["sweep", "adam"]) == 2
    assert main(["train", "adam"]) == 2
    assert main(["train", "adam", "--yes"]) == 0


def test_a_budget_makes_a_race_smaller_and_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = iter([{"trials": 4, "seeds": 2, "fresh": 3}])
    monkeypatch.setattr(races, "within", lambda seconds, **how: next(sizes))  # a second look would fail
    command = ["race", "adam", "sgd", "--on", "airfoil-linear", "--schedule", "linear", "--budget", "1m", "--json"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert (first["kept"], again["trained"]) == (0, 0)
    kept = json.loads(next(tmp_path.glob("runs/*/race.json")).read_text())
    assert (kept["trials"], kept["seeds"], kept["fresh"]) == (4, 2, 3)


def test_the_largest_race_within_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    who = ["adam", "sgd"]
    asked = {"trials": 40, "seeds": 5, "fresh": 30}
    how: dict[str, Any] = {**asked, "schedules": ["linear"]}
    assert races.within(1e6, who, "airfoil-linear", **how) == asked
    cost = TrainingCost(0.0, 0.01, 0.0, 1000)
    monkeypatch.setattr(import_module("steprule.races.estimates"), "cost_of", lambda *a, **k: cost)
    steps = 2 * 91  # epochs and batches
    found = races.within(150 * steps * 0.01 * 2, who, "airfoil-linear", **how, workers=1)
    whole = races.estimate(who, "airfoil-linear", **{**how, **found}, workers=1)
    assert whole.seconds is not None
    assert whole.seconds <= 150 * steps * 0.01 * 2
    assert max(found["trials"] - 40, found["fresh"] - 13) < 0
    with pytest.raises(InputError, match=r"budget: expected .* or more, for"):
        races.within(1.0, who, "airfoil-linear", **how, workers=1)


def test_a_pass_that_is_one_batch_is_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = races.estimate("torch.optim.Adam", line(), batch_size=1000, trials=4, seeds=2, fresh=3)
    assert whole.seconds is not None
    assert 0 < whole.seconds < 600


def test_no_budget_for_a_shard(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RACE, "--budget", "1h", "--shard", "1/2", "--dry-run"]) == 2
    assert "--budget: expected a race that is run whole" in capsys.readouterr().err
    assert main([*RACE, "--budget", "1h", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["trials"], found["seeds"], found["fresh"]) == (4, 2, 3)
