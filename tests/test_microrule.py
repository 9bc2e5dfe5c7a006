"""`microrule.py` states eight rules a second time, on purpose: here both statements are held to the same numbers."""

from __future__ import annotations

import ast
import random
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_path import ROOT, module_at
from compare import close
from tolerances import MICRORULE
from torch import nn

import steprule
from steprule.problems import airfoil
from steprule.problems.catalogue import half_mse
from steprule.problems.problem import Problem
from steprule.surfaces import catalogue as surfaces

MICRO = module_at("microrule.py")
FILE = ROOT / "microrule.py"
DATA = ROOT / "src" / "steprule" / "problems" / "data" / "airfoil_self_noise.dat"
SURFACES = ("quadratic", "booth", "rosenbrock", "himmelblau", "saddle")

# By name: hyperparameters, none at its default, for a walk; then what the package calls the rule and them, where it differs.
AWAY: dict[str, tuple[dict[str, float], str, dict[str, Any]]] = {
    "sgd": ({"lr": 0.0013}, "sgd", {}),
    "momentum": ({"lr": 0.0007, "mu": 0.6}, "sgd", {"lr": 0.0007, "momentum": 0.6}),
    "adagrad": ({"lr": 0.3, "eps": 0.02}, "adagrad", {}),
    "rmsprop": ({"lr": 0.03, "alpha": 0.8, "eps": 0.03}, "rmsprop", {}),
    "adadelta": ({"rho": 0.7, "eps": 0.01}, "adadelta", {}),
    "adam": ({"lr": 0.05, "beta1": 0.7, "beta2": 0.97, "eps": 0.01}, "adam", {}),
    "adamw": ({"lr": 0.05, "beta1": 0.7, "beta2": 0.97, "eps": 0.01, "weight_decay": 0.2}, "adamw", {}),
    "lion": ({"lr": 0.02, "beta1": 0.7, "beta2": 0.9, "weight_decay": 0.3}, "lion", {}),
}


def defaults_of(rule: Any) -> dict[str, float]:
    """Of its hyperparameters; AdamW hands what it does not use on to Adam."""
    return {**(MICRO.adam.__kwdefaults__ if rule is MICRO.adamw else {}), **rule.__kwdefaults__}


def test_every_rule_is_here_and_every_hyperparameter_away_from_its_default() -> None:
    assert [rule.__name__ for rule in MICRO.SETTINGS] == list(AWAY)
    for rule in MICRO.SETTINGS:
        given, defaults = AWAY[rule.__name__][0], defaults_of(rule)
        assert given.keys() == defaults.keys(), rule.__name__
        assert all(given[name] != defaults[name] for name in given), rule.__name__


@pytest.mark.parametrize("name", AWAY)
def test_paths_are_the_packages(name: str) -> None:
    """Every point of 30 steps on every surface, and on the file's own with the settings that it prints."""
    given, theirs, renamed = AWAY[name]
    rule = getattr(MICRO, name)
    for surface in map(surfaces.get, SURFACES):

        def function(p: list[float], of: Any = surface) -> tuple[None, list[float]]:
            return None, of.gradient(np.array(p)).tolist()

        ours = list(MICRO.descend(rule, list(surface.start), [function] * 30, **given))
        path = steprule.trace(theirs, surface, steps=30, **(renamed or given))
        assert np.ptp(path.points, axis=0).min() > 1e-4, (name, surface.name, "it moved")
        assert close(ours, path.points, MICRORULE), (name, surface.name)
    shown, _ = MICRO.SETTINGS[rule]
    ours = list(MICRO.descend(rule, [-5.0, -2.0], [MICRO.ravine] * 20, **shown))
    known = {"momentum" if n == "mu" else n: v for n, v in {**defaults_of(rule), **shown}.items()}
    assert close(ours, steprule.trace(theirs, "quadratic", steps=20, **known).points, MICRORULE)


class Shuffled:
    """Batches of ten in the order that `microrule.train` draws, two passes of them as one."""

    def __init__(self, rows: list[tuple[list[float], float]], seed: int) -> None:
        draw = random.Random(seed)
        self.weights = [draw.gauss(0, 0.01) for _ in range(5)]
        drawn = [row for _ in range(2) for row in draw.sample(rows, len(rows))]
        x = torch.tensor([x[:5] for x, _ in drawn], dtype=torch.float64)
        y = torch.tensor([y for _, y in drawn], dtype=torch.float64)
        self.batches = list(zip(x.split(10), y.split(10), strict=True))

    def __iter__(self) -> Any:
        return iter(self.batches)

    def model(self) -> nn.Module:
        net = nn.Linear(5, 1, dtype=torch.float64)
        with torch.no_grad():
            net.weight.copy_(torch.tensor([self.weights], dtype=torch.float64))
            net.bias.zero_()
        return net


@pytest.fixture(scope="module")
def rows() -> list[tuple[list[float], float]]:
    found: list[tuple[list[float], float]] = MICRO.load(DATA)
    return found


def test_data_are_the_packages(rows: list[tuple[list[float], float]], tmp_path: Path) -> None:
    features, labels = airfoil.tutorial()
    assert np.array_equal(np.array([x[:5] for x, _ in rows], dtype=np.float32), features)
    assert np.array_equal(np.array([y for _, y in rows], dtype=np.float32), labels)
    assert all(x[5] == 1 for x, _ in rows)
    (tmp_path / "windows.dat").write_bytes(DATA.read_bytes().replace(b"\n", b"\r\n"))
    assert MICRO.load(tmp_path / "windows.dat") == rows


@pytest.mark.parametrize("name", AWAY)
def test_trainings_are_the_packages(name: str, rows: list[tuple[list[float], float]]) -> None:
    """From the same weights over the same batches: the weights after all 300 steps, and the loss where the file prints it."""
    given, theirs, renamed = AWAY[name]
    rule, data = getattr(MICRO, name), Shuffled(rows, 3)
    task = Problem.from_dataloaders(data, data.model, half_mse, name="airfoil in float64")
    run = steprule.train(theirs, task, epochs=1, **(renamed or given))
    losses = [
        partial(MICRO.half_mse, rows=[([*a, 1.0], b) for a, b in zip(x.tolist(), y.tolist(), strict=True)])
        for x, y in data
    ]
    *_, last = MICRO.descend(rule, [*data.weights, 0.0], losses, **given)
    weight, bias = run.parameters
    assert close(last, [*weight.ravel(), *bias], MICRORULE)
    curve = MICRO.train(rule, given, rows, 3)
    x, y = (torch.tensor(values, dtype=torch.float64) for values in zip(*((x[:5], y) for x, y in rows), strict=True))
    assert close(curve[-1], float(half_mse(x @ torch.tensor(weight[0]) + torch.tensor(bias), y)), MICRORULE)
    assert curve[-1] < curve[0]


def run(*arguments: str, at: Path = FILE) -> subprocess.CompletedProcess[str]:
    """In a bare Python: without installed packages, without the environment."""
    command = [sys.executable, "-I", "-S", str(at), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_it_is_short_and_needs_nothing() -> None:
    text = FILE.read_text(encoding="ascii")
    assert len(text.splitlines()) < 200
    assert max(map(len, text.splitlines())) <= 100
    imported = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {n.module or "" if isinstance(n, ast.ImportFrom) else n.names[0].name for n in imported}
    assert len(names) >= 5
    assert names <= sys.stdlib_module_names


def test_it_runs_in_a_bare_python() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) < 90
    # The tutorial's own points, of the two rules that it prints as the papers do.
    ends = re.findall(r"u is \((\S+), (\S+)\)", done.stdout)
    assert ends[:2] == [("-0.943467", "-0.000073"), ("-0.062843", "0.001202")]
    assert f"below {airfoil.least_squares_floor():.4f}." in done.stdout
    for name in AWAY:
        found = re.search(rf"^{name} +0\.4954( +0\.\d{{4}}){{4}} +(\S+) \.\. (\S+)$", done.stdout, re.MULTILINE)
        assert found, name
        assert 0.2416 < float(found[2]) < float(found[3]) < 0.27


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    alone = tmp_path / "微.py"
    alone.write_bytes(FILE.read_bytes())
    (tmp_path / "cut.dat").write_bytes(DATA.read_bytes()[:-100])
    (tmp_path / "empty.dat").touch()
    wrong = [(alone, []), *((FILE, [str(tmp_path / name)]) for name in ("nowhere", "cut.dat", "empty.dat", ""))]
    for at, given in wrong:
        done = run(*given, at=at)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert "put airfoil_self_noise.dat beside this file" in done.stderr
    (tmp_path / "airfoil_self_noise.dat").write_bytes(DATA.read_bytes())
    assert run(at=alone).stdout == run().stdout


def test_a_diverging_rule_gives_numbers_and_no_error(rows: list[tuple[list[float], float]]) -> None:
    assert len(MICRO.walk(MICRO.sgd, {"lr": 1e30})) == 16
    assert not np.isfinite(MICRO.train(MICRO.sgd, {"lr": 1e30}, rows, 0)[-1])
