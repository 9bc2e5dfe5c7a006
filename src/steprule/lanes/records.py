"""What lanes are given, how all of them train, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steprule.hyper import Hyper
from steprule.per_kind import PerKind
from steprule.rules.rule import Rule

Array = NDArray[Any]
Engine = Literal["kernel", "vmap", "one by one"]
WINDOWS = 30
"""Points of a loss curve: each is the mean of the batch losses of a thirtieth of the steps."""


@dataclass(frozen=True)
class Trainings:
    """Trainings of one optimizer with one recipe: [lanes] everywhere."""

    hypers: Mapping[str, Array]
    """By name."""
    seeds: NDArray[np.int64]
    """What decides the initial weights and the batches."""

    def __len__(self) -> int:
        return len(self.seeds)

    def take(self, rows: Array | slice) -> Trainings:
        """Some of them."""
        return Trainings(taken(self.hypers, rows), self.seeds[rows])

    def point(self, lane: int) -> dict[str, Any]:
        """The hyperparameters of one lane, as plain values."""
        return {n: v[lane].item() for n, v in self.hypers.items()}


@dataclass(frozen=True)
class Outcome:
    """What became of each lane."""

    train: Array
    """The loss on all training samples after the last step, [lanes]."""
    validation: Array
    test: Array
    """The same on what was held out; nan where the problem holds nothing out."""
    initial: Array
    """The loss on all training samples before the first step, [lanes]."""
    died_at: NDArray[np.int64]
    """The step whose batch loss was not finite, [lanes]; 0 for a lane that lived. It keeps the values it had then."""
    curve: Array
    """[lanes, WINDOWS]"""
    metrics: Array
    """[lanes, columns]: the problem's metrics in the order of `Problem.metric_columns`."""

    @classmethod
    def together(cls, parts: Sequence[Outcome]) -> Outcome:
        """The lanes of all parts, one behind the other."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


def taken(hypers: Mapping[str, Array], rows: Array | slice) -> dict[str, Array]:
    """Some rows of hyperparameters by name."""
    return {n: v[rows] for n, v in hypers.items()}


def bound(rule: Rule | PerKind, given: Mapping[str, Array], points: int) -> dict[str, Array]:
    """All hyperparameters of the rule, checked, [points]; for a rule per kind those of all its rules."""
    if isinstance(rule, PerKind):
        apart = rule.apart(given)
        each = {kind: bound(own, apart[kind], points) for kind, own in rule.by_kind.items()}
        return {f"{kind}_{n}": v for kind, values in each.items() for n, v in values.items()}
    for name, values in given.items():
        hyper = rule.setting(name)
        for value in np.unique(values) if values.dtype.kind != "f" else values[[np.argmin(values), np.argmax(values)]]:
            hyper.validate(value.item(), rule.name)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            hyper.validate(float("nan"), rule.name)
    found = {h.name: np.asarray(given[h.name]) if h.name in given else np.full(points, h.default) for h in rule.hypers}
    return {h.name: found[h.name].astype(np.int64) if h.is_whole else found[h.name] for h in rule.hypers}


def named_hypers(rule: Rule | PerKind) -> Sequence[tuple[str, Hyper]]:
    """What lanes of a rule are given, by name."""
    return list(rule.all_hypers) if isinstance(rule, PerKind) else [(h.name, h) for h in rule.hypers]


def by_variant(rule: Rule | PerKind, hypers: Mapping[str, Array]) -> list[NDArray[np.int64]]:
    """The points that share a variant of the rule: only those can be trained together."""
    points = len(next(iter(hypers.values())))
    values = [
        np.unique(hypers[name], return_inverse=True)[1] if h.is_plain else hypers[name] != 0
        for name, h in named_hypers(rule)
        if h.switches
    ]
    switches = np.array(values or [np.zeros(points)])
    _, variant = np.unique(switches, axis=1, return_inverse=True)
    return [np.flatnonzero(variant == k) for k in range(variant.max() + 1)]


def window_of(steps: int) -> NDArray[np.int64]:
    """The point of the loss curve to which each step belongs, [steps]."""
    return np.arange(steps) * WINDOWS // steps


def curves(sums: Array, windows: NDArray[np.int64]) -> Array:
    """Means from the summed batch losses of each window, [lanes, WINDOWS]; a window without a step holds what the one before it holds."""
    steps = np.bincount(windows, minlength=WINDOWS)
    means = np.asarray(sums / np.maximum(steps, 1))
    if (steps > 0).all():
        return means
    return np.asarray(means[:, np.maximum.accumulate(np.where(steps > 0, np.arange(WINDOWS), 0))])


def curve_of(losses: Array) -> Array:
    """The curve of one training from its batch losses, [WINDOWS]."""
    windows = window_of(len(losses))
    sums = np.bincount(windows, losses, minlength=WINDOWS)
    return np.asarray(curves(sums[None], windows)[0])
