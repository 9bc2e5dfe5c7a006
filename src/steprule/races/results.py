"""What came out of a race: for each problem and schedule who stands where, and which differences are real."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.errors import InputError
from steprule.races import statistics
from steprule.races.plan import MULTIPLES, Chain, Phase, chains_of, recommended, winners
from steprule.races.spec import Spec
from steprule.races.statistics import Difference
from steprule.shown import Shown

Array = NDArray[Any]
CONFIDENCE = 0.95
NEAR = math.log(1.1)
"""Learning rates are called good that lose no more than a tenth of the loss."""


@dataclass(frozen=True)
class Standing:
    """One competitor on one problem with one schedule; losses are on the test split, from fresh seeds."""

    label: str
    loss: float
    """Geometric mean over studies and fresh seeds, after tuning."""
    low: float
    high: float
    """Its 95 % interval, the luck of tuning and of seeds in it; 0 and inf where one study cannot tell."""
    default: float | None
    """The same with nothing tuned; None where there is no default."""
    lr: float | None
    """The median of the studies' winners."""
    hypers: Mapping[str, float]
    """The winner in the middle, to begin with."""
    diverged_trials: float
    """Share of the trials that ended above where they began, or not finite."""
    diverged: float
    """The same of the winners' runs on fresh seeds."""
    to_target: float
    """The median share of the training after which the loss is below the cell's target; inf if most miss it."""
    missed: float
    """Share of the runs that miss it."""
    good_decades: float | None
    """Over how many decades of the learning rate the loss is within a tenth of its best; a lower bound from a grid."""
    moved: int
    """How often the range of the learning rate moved."""


@dataclass(frozen=True)
class Pair:
    """Two competitors of a cell: the second's outcome minus the first's."""

    first: str
    second: str
    difference: Difference
    p_real: float
    """Holm's adjusted p-value of "they differ by no more than what matters", over the cell's pairs."""
    p_same: float
    """The same of "they differ by at least what matters"."""

    def verdict(self, error_rate: float = 1 - CONFIDENCE) -> str:
        """real, same (the difference is smaller than what matters) or open."""
        return "real" if self.p_real < error_rate else "same" if self.p_same < error_rate else "open"

    @property
    def percent(self) -> tuple[float, float, float]:
        """By how much the second's loss is above the first's, in per cent, and the 95 % interval, unadjusted."""
        low, high = self.difference.interval(CONFIDENCE)
        a, b, c = (100 * math.expm1(min(x, 50.0)) for x in (self.difference.estimate, low, high))
        return a, b, c


@dataclass(frozen=True)
class Cell:
    """A problem with a schedule."""

    problem: str
    schedule: str
    standings: tuple[Standing, ...]
    """The lowest loss first."""
    pairs: tuple[Pair, ...]
    """Every two, in the order of the standings: the second never stands before the first."""
    target: float
    """The training loss at which the middle competitor ends; what `to_target` counts to."""

    def pair(self, a: str, b: str) -> Pair:
        """The pair of two labels."""
        return next(p for p in self.pairs if {p.first, p.second} == {a, b})

    @property
    def level_with_best(self) -> list[str]:
        """Who cannot be told apart from the lowest loss, that one included."""
        best = self.standings[0].label
        return [best, *(p.second for p in self.pairs if p.first == best and p.verdict() != "real")]


@dataclass(frozen=True, repr=False)
class Race(Shown):
    """A race that was run: its spec, every lane, and what they say."""

    spec: Spec
    phases: Mapping[Chain, Sequence[Phase]] = field(repr=False)
    matters: float
    """The smallest difference of losses that matters, as a share."""
    seconds: float
    """Wall time of this call."""
    train_seconds: float
    """What the blocks took, those of earlier calls too, added over workers."""
    trained: int
    kept: int
    """Lanes trained by this call, and found finished."""
    hardware: str
    results: Path | None

    def in_words(self) -> str:
        """Who is lowest in each cell, and who cannot be told apart from it."""
        spec = self.spec
        lines = [f"Race of {len(spec.runners)} on {len(spec.problems)} problems: {self.lanes:,} trainings"]
        if not self.whole:
            return lines[0] + ", one shard of several: steprule race merge puts them together"
        for cell in self.cells:
            best = cell.standings[0]
            level = len(cell.level_with_best) - 1
            lines.append(
                f"    {cell.problem}, {cell.schedule}: {best.label} {best.loss:.5g} [{best.low:.5g}, {best.high:.5g}];"
                f" {level} of {len(cell.standings) - 1} others cannot be told apart from it"
            )
        return "\n".join(lines)

    @property
    def threshold(self) -> str:
        """What matters, in words: 1 %."""
        return f"{100 * self.matters:g} %"

    @property
    def whole(self) -> bool:
        """Whether all of it is here, and not a shard alone."""
        return len(self.phases) == len(chains_of(self.spec))

    @property
    def lanes(self) -> int:
        """How many trainings."""
        return sum(len(p.lanes) for done in self.phases.values() for p in done)

    def chain(self, problem: str, schedule: str, label: str) -> Sequence[Phase]:
        """The phases of one competitor in one cell."""
        return self.phases[Chain(problem, schedule, label)]

    def outcomes(self, problem: str, schedule: str, label: str) -> Array:
        """The logarithm of the test loss of every study's winner on every fresh seed, [studies, seeds]."""
        return self._of(problem, schedule, label, "winner").reshape(self.spec.studies, self.spec.fresh)

    def _of(self, problem: str, schedule: str, label: str, role: str) -> Array:
        last = self.chain(problem, schedule, label)[-1]
        rows = last.lanes.role == role
        held = next(
            (last.results[n] for n in ("test", "validation") if not np.isnan(last.results[n]).all()),
            last.results["train"],
        )
        return np.asarray(statistics.outcome(held[rows], last.results["initial"][rows], last.diverged[rows]))

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every problem with every schedule."""
        if not self.whole:
            hint = "steprule race merge puts the folders of all shards together."
            raise InputError("race", expected="every shard's results", got="those of one", hint=hint)
        return tuple(self._cell(p.name, s) for p in self.spec.problems for s in self.spec.schedules)

    def cell(self, problem: str, schedule: str) -> Cell:
        """One of them."""
        return next(c for c in self.cells if (c.problem, c.schedule) == (problem, schedule))

    def _cell(self, problem: str, schedule: str) -> Cell:
        labels = [r.label for r in self.spec.runners]
        curves = {label: self._winners_curves(problem, schedule, label) for label in labels}
        with np.errstate(invalid="ignore"):
            target = float(np.median([np.nan_to_num(np.median(c[:, -1]), nan=np.inf) for c in curves.values()]))
        standings = [self._standing(problem, schedule, label, curves[label], target) for label in labels]
        standings.sort(key=lambda s: s.loss)
        ys = {label: self.outcomes(problem, schedule, label) for label in labels}
        found = [
            (a.label, b.label, statistics.difference(ys[b.label], ys[a.label])) for a, b in combinations(standings, 2)
        ]
        real = statistics.holm([d.p_beyond(math.log1p(self.matters)) for _, _, d in found])
        same = statistics.holm([d.p_within(math.log1p(self.matters)) for _, _, d in found])
        pairs = tuple(Pair(a, b, d, float(r), float(s)) for (a, b, d), r, s in zip(found, real, same, strict=True))
        return Cell(problem, schedule, tuple(standings), pairs, target)

    def _winners_curves(self, problem: str, schedule: str, label: str) -> Array:
        last = self.chain(problem, schedule, label)[-1]
        curves = last.results["curve"][last.lanes.role == "winner"]
        return np.where(np.isfinite(curves), curves, np.inf)

    def _standing(self, problem: str, schedule: str, label: str, curves: Array, target: float) -> Standing:
        done = self.chain(problem, schedule, label)
        tuned, last = done[-2], done[-1]
        y = self.outcomes(problem, schedule, label)
        low, high = statistics.difference(y, np.zeros_like(y)).interval(CONFIDENCE)
        default = self._of(problem, schedule, label, "default")
        own = winners(self.spec, tuned)
        middle = {n: float(v[recommended(self.spec, tuned)]) for n, v in tuned.lanes.hypers.items()}
        below = curves <= target
        at = np.where(below.any(axis=1), (below.argmax(axis=1) + 1) / curves.shape[1], np.inf)
        return Standing(
            label=label,
            loss=float(np.exp(y.mean())),
            low=float(np.exp(max(low, -700.0))),
            high=float(np.exp(min(high, 700.0))) if np.isfinite(high) else np.inf,
            default=float(np.exp(default.mean())) if len(default) else None,
            lr=float(np.median(tuned.lanes.hypers["lr"][own])) if "lr" in tuned.lanes.hypers else None,
            hypers=middle,
            diverged_trials=float(tuned.diverged.mean()),
            diverged=float(last.diverged[last.lanes.role == "winner"].mean()),
            to_target=float(np.percentile(at, 50, method="inverted_cdf")),
            missed=float(np.isinf(at).mean()),
            good_decades=self._good_decades(problem, schedule, label),
            moved=len(done) - 2,
        )

    def _good_decades(self, problem: str, schedule: str, label: str) -> float | None:
        means = self.sensitivity(problem, schedule, label)
        if means is None:
            return None
        best = int(np.argmin(means))
        good = means <= means[best] + NEAR
        left = right = best
        while left > 0 and good[left - 1]:
            left -= 1
        while right < len(good) - 1 and good[right + 1]:
            right += 1
        return float(np.log10(MULTIPLES[right] / MULTIPLES[left]))

    def sensitivity(self, problem: str, schedule: str, label: str) -> Array | None:
        """The mean outcome at each multiple of the middle winner's learning rate; None where there is none."""
        y = self._of(problem, schedule, label, "rate")
        return y.reshape(len(MULTIPLES), -1).mean(axis=1) if len(y) else None

    def best_of_k(self, problem: str, schedule: str, label: str) -> Array:
        """For each study the expected outcome of the best of k trials, k = 1 ... trials, on the study's own seed, [studies, k]."""
        tuned = self.chain(problem, schedule, label)[-2]
        held = tuned.results["test"] if not np.isnan(tuned.results["test"]).all() else tuned.results["train"]
        y = statistics.outcome(held, tuned.results["initial"], tuned.diverged).reshape(self.spec.studies, -1)
        return np.array([statistics.best_of_k(s, v) for s, v in zip(tuned.scores.reshape(y.shape), y, strict=True)])

    @cached_property
    def agreement(self) -> dict[str, tuple[float, float, float]]:
        """For each schedule how far the problems rank alike: Kendall's tau and its interval; {} for one problem or two rules."""
        labels = [r.label for r in self.spec.runners]
        if len(self.spec.problems) < 2 or len(labels) < 3:
            return {}
        names = [p.name for p in self.spec.problems]
        cells = {s: [[self.outcomes(p, s, n) for n in labels] for p in names] for s in self.spec.schedules}
        return {schedule: statistics.rank_agreement(own) for schedule, own in cells.items()}

    @cached_property
    def profile(self) -> tuple[Array, Array]:
        """Performance profiles of the steps to the target over all cells: ratios, and [competitors, ratios]."""
        at = [
            [next(s.to_target for s in c.standings if s.label == r.label) for c in self.cells]
            for r in self.spec.runners
        ]
        return statistics.profile(np.array(at))

    def to_dict(self) -> dict[str, Any]:
        """The tables and what they were made with, as plain values; what is not finite is None."""

        def plain(value: Any) -> Any:
            if isinstance(value, float):
                return value if math.isfinite(value) else None
            if isinstance(value, Mapping):
                return {k: plain(v) for k, v in value.items()}
            return [plain(v) for v in value] if isinstance(value, list | tuple) else value

        cells = []
        for cell in self.cells:
            pairs = [
                {
                    "first": p.first,
                    "second": p.second,
                    "percent": p.percent[0],
                    "interval": list(p.percent[1:]),
                    "p": p.p_real,
                    "verdict": p.verdict(),
                }
                for p in cell.pairs
            ]
            standings = [vars(s) for s in cell.standings]
            about = {"problem": cell.problem, "schedule": cell.schedule, "target": cell.target}
            cells.append({**about, "standings": standings, "pairs": pairs})
        found = {
            "spec": self.spec.stated,
            "matters": self.matters,
            "cells": cells,
            "agreement": self.agreement,
            "lanes": self.lanes,
            "trained": self.trained,
            "kept": self.kept,
            "seconds": self.seconds,
            "train_seconds": self.train_seconds,
            "hardware": self.hardware,
            "results": str(self.results) if self.results else None,
        }
        return plain(found)  # type: ignore[no-any-return]
