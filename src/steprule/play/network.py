"""A page on which a small network trains on airfoil data by several rules at once.

It leads from two dimensions to a model: it shows the loss of each rule as it falls and the curve that each has learned so far, with a
slider for every learning rate and for the batch size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from steprule import rules
from steprule.atomic import write_text
from steprule.play import trainings, words
from steprule.play.dense import Network
from steprule.play.luck_chinese import CHINESE as LUCKS
from steprule.play.network_chinese import CHINESE
from steprule.play.one_file import one_file
from steprule.problems import airfoil
from steprule.problems.catalogue import half_mse
from steprule.problems.problem import Problem
from steprule.reports.style import strokes, style_of, title_of

STYLES = ("style", "network")
SCRIPTS = ("words", "pen", "labels", "curves", "frame", "training", "fit", "live", "network")
"""The page's scripts, in reading order."""

NETWORK = Network((len(airfoil.COLUMNS) - 1, 16, 1))
EPOCHS, BATCH = 40, 10
SEEDS = 20
BATCHES = (1, 2, 5, 10, 20, 50, 100, 300, 1500)
RATES = tuple(float(f"{10 ** (k / 12):.3g}") for k in range(-48, 13))
"""The places of a learning rate's slider: twelve per decade from 1e-4 to 10."""
WINGS = 8
"""The number of wings to choose from; each was measured at several frequencies, with all else the same."""
NO_LINKS: Mapping[str, str] = {}


class Runner(NamedTuple):
    """A rule that can train, with the learning rate at which its slider begins."""

    name: str
    rule: str
    lr: float
    hypers: Mapping[str, Any] = {}
    shown: bool = True
    """Whether it trains when the page opens."""


# Each rate is the one of 1e-4, 3e-4, 1e-3 and so on that ends lowest with seed 0, or the next below it, so that most batch sizes can be
# tried without divergence.
RUNNERS = (
    Runner("sgd", "sgd", 0.1),
    Runner("momentum", "sgd", 0.01, {"momentum": 0.9}, shown=False),
    Runner("adagrad", "adagrad", 0.316),
    Runner("rmsprop", "rmsprop", 0.01),
    Runner("adadelta", "adadelta", 1.0, shown=False),
    Runner("adam", "adam", 0.01),
)


def task() -> Problem:
    """The page's problem, for Python and for commands: `steprule train adam --on steprule.play.network:task`.

    A network of five inputs, 16 tanh units and one output on the tutorial's 1,500 rows of airfoil data; half the mean squared error.
    """
    features, targets = airfoil.tutorial()
    pairs = list(pairwise(NETWORK.sizes))

    def model() -> nn.Module:
        layers = [module for pair in pairs for module in (nn.Linear(*pair), nn.Tanh())]
        return nn.Sequential(*layers[:-1])

    summary = f"Airfoil self-noise by a network of {NETWORK.parameters} parameters, all rows for training"
    return Problem(
        "airfoil-5-16-1", summary, torch.from_numpy(features), torch.from_numpy(targets), model, half_mse,
        batch_size=BATCH, epochs=EPOCHS, floor=None,
    )  # fmt: skip


def page(links: Mapping[str, str] = NO_LINKS) -> str:
    """The page as text: one file without network.

    `links` says where the page finds the playground (`play`), the page on luck (`luck`), the documentation (`docs`) and how a race is run
    (`race`), where it stands beside them.
    """
    trained, measured = task(), airfoil.load()
    known: dict[str, Any] = {
        "chinese": {**words.CHINESE, **LUCKS, **CHINESE},
        "links": dict(links),
        "sizes": NETWORK.sizes,
        "epochs": EPOCHS,
        "batch": BATCH,
        "batches": BATCHES,
        "seeds": SEEDS,
        "rates": RATES,
        "line": airfoil.least_squares_floor(),
        "columns": [
            {"name": name, "unit": unit, "mean": float(column.mean()), "deviation": float(column.std())}
            for (name, unit), column in zip(airfoil.COLUMNS, measured.T, strict=True)
        ],
        "wings": _wings(measured[: airfoil.TUTORIAL_ROWS]),
        "data": trainings.samples(trained),
        "streams": trainings.streams(SEEDS),
        "beginnings": {"same": trainings.beginnings(trained, SEEDS)},
        "runs": [_run(runner) for runner in RUNNERS],
        "spec": "steprule.play.network:task",
    }
    code = trainings.code(NETWORK, [(r.name, rules.get(r.rule), r.hypers) for r in RUNNERS])
    data = f"const DATA = {json.dumps(known, ensure_ascii=False, allow_nan=False)};\n{code}"
    return one_file("network", STYLES, SCRIPTS, data)


def _run(runner: Runner) -> dict[str, Any]:
    rule, style = rules.get(runner.rule), style_of(runner.name)
    return {
        **trainings.run(rule, {**runner.hypers, "lr": runner.lr}),
        "label": runner.name,
        "title": title_of(runner.name),
        "given": dict(runner.hypers),
        "begins": "same",
        "lr": runner.lr,
        "shown": runner.shown,
        "colour": style.colour,
        "dash": strokes(style.dash),
    }


def _wings(measured: airfoil.Array) -> list[list[int]]:
    """Row numbers of some experiments by frequency; within one, all columns between the first and the last are the same."""
    _, which, counts = np.unique(measured[:, 1:-1], axis=0, return_inverse=True, return_counts=True)
    median = np.sort(counts)[-len(counts) // 2]
    long = np.flatnonzero(counts >= median)
    places = np.linspace(0, len(long) - 1, WINGS).round().astype(int)
    wings = []
    for experiment in long[places]:
        rows = np.flatnonzero(which.ravel() == experiment)
        wings.append(rows[np.argsort(measured[rows, 0])].tolist())
    return wings


def write(path: Path, links: Mapping[str, str] = NO_LINKS) -> None:
    """Write the page. Raises `OutputError` where it cannot."""
    write_text(path, page(links))
