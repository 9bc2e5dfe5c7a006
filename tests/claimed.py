"""Small races and problems from which the tests of claims are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import steprule
from steprule import races

SMALL: dict[str, Any] = {"trials": 6, "seeds": 3, "fresh": 4, "schedules": ["linear"], "workers": 1, "compile": False}
Gauss = np.random.default_rng
NAN_RULE = """
from steprule import rule
from steprule.hyper import Rate
from steprule.maths import log
@rule
def nanrule(p, g, *, lr: Rate = 0.1):
    return p - lr * g * log(-1.0 * abs(g) - 1)
@rule
def up(p, g, *, lr: Rate = 50.0):
    return p + lr * g
"""


def _verdict(race: races.Race) -> str:
    return races.in_words(race)[0]


def _classes(loss: Any = nn.functional.cross_entropy, splits: str = "validation test", name: str = "classes") -> Any:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 6, generator=generator)
    y = (x[:, 0] > 0).long()
    parts = {"validation": (x[60:90], y[60:90]), "test": (x[90:], y[90:])}
    held = {n: part for n, part in parts.items() if n in splits.split()}
    return steprule.Problem(name, "two classes", x[:60], y[:60], lambda: nn.Linear(6, 2), loss, epochs=1, **held)


def _row(label: str, mean: float, low: float, high: float, *, diverged: int = 0, seeds: int = 20) -> races.Setting:
    finals = np.full(seeds, mean)
    return races.Setting("p", "constant", label, "sgd", True, mean, 0.1, low, high, 0.1, diverged, {}, finals)
