"""How losses or scores of one problem are compared: by ratios, by parts of their fall, or in their own units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.races import statistics
from steprule.races.judging.runs import Runs
from steprule.races.measure import Scale

Array = NDArray[Any]


@dataclass(frozen=True)
class Yardstick:
    """A scale, and its direction: outcomes are the better the lower, whatever the value is."""

    scale: Scale | None
    """The race's: ratios, or parts of the fall; None for differences in the value's own units."""
    sign: float
    """-1 where a higher value is the better one."""
    margin: float | None
    """The smallest difference of outcomes that matters; None where none is stated."""

    @property
    def unit(self) -> str:
        """What a difference is counted in, behind its number: "%", "% of the fall", or nothing."""
        return "" if self.scale is None else f"%{self.scale.of}"

    @property
    def tells(self) -> bool:
        """Whether there is anything to compare by."""
        return self.scale is None or self.scale.tells

    @property
    def is_ratio(self) -> bool:
        """Whether ratios are compared."""
        return self.scale is not None and self.scale.ratios

    @property
    def least(self) -> float:
        """The smallest difference of outcomes that counts; 0 where none is stated."""
        return self.margin or 0.0

    def shown(self, difference: float) -> float:
        """A difference of outcomes as people read it: by how much the second value is above the first, in `unit`."""
        own = self.sign * difference
        if self.scale is None or not np.isfinite(own):
            return -100.0 if self.is_ratio and own == -np.inf else own
        return self.scale.percent(own)

    def value(self, outcome: Any) -> Any:
        """The losses of outcomes."""
        own = self.sign * np.asarray(outcome, dtype=float)
        return own if self.scale is None else np.where(np.isinf(own), own, self.scale.loss(own))


def outcomes_of(runs: Runs, matters: float, margin: float | None) -> tuple[Yardstick, Array]:
    """The yardstick of one problem's runs, and the outcome of each run: lower is better, inf diverged.

    Ratios where every value is positive and no `margin` is given in the value's own units; else, where the loss before the first
    step is known, parts of the fall from it to the lowest method; else differences.
    """
    gone, sign = runs.is_gone, -1.0 if runs.is_higher_better else 1.0
    seen = runs.value[~gone]
    if runs.initial is not None:
        seen = np.concatenate([seen, runs.initial[np.isfinite(runs.initial)]])
    initial = runs.initial if runs.initial is not None and np.isfinite(runs.initial).all() and sign > 0 else None
    if margin is None and (seen > 0).all():
        scale = Scale()
        least = scale.least(matters)
        if initial is not None:
            return Yardstick(scale, sign, least), statistics.outcome(runs.value, initial, gone)
        return Yardstick(scale, sign, least), np.where(gone, np.inf, sign * np.log(np.where(gone, 1.0, runs.value)))
    if margin is None and initial is not None:
        counted = statistics.counted(runs.value, initial, gone)
        means = [counted[runs.method == m].mean() for m in np.unique(runs.method)]
        first = np.mean([initial[runs.method == m].mean() for m in np.unique(runs.method)])
        scale = Scale(ratios=False, fall=float(first - min(means)))
        return Yardstick(scale, sign, scale.least(matters)), counted
    outcomes = (
        statistics.counted(runs.value, initial, gone)
        if initial is not None
        else np.where(gone, np.inf, sign * runs.value)
    )
    return Yardstick(None, sign, margin), outcomes
