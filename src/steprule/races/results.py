"""What came out of a race: for each problem and schedule who stands where, and which differences are real."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.display import Shown
from steprule.errors import InputError
from steprule.races import statistics
from steprule.races.measure import Measure, Scale, measure_of, scale_of
from steprule.races.protocol import Chain, Phase, at_ends, chains_of, recommended, winners
from steprule.races.spec import MULTIPLES, Spec
from steprule.races.statistics import Difference

Array = NDArray[Any]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Standing:
    """One competitor on one problem with one schedule; losses are those that the cell measures, from fresh seeds."""

    label: str
    loss: float
    """Mean over studies and fresh seeds, after tuning: geometric where the cell compares ratios, else arithmetic."""
    low: float | None
    high: float | None
    """Its 95 % interval, the luck of tuning and of seeds in it; None where one study or one fresh seed cannot tell."""
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
    learnt: bool
    """Whether any of those ended below where it began."""
    to_target: float
    """The median share of the training after which the loss is below the cell's target; inf if most miss it."""
    missed: float
    """Share of the runs that miss it."""
    good_decades: float | None
    """Over how many decades of the learning rate the loss is within a tenth of its best; a lower bound from a grid."""
    moved: int
    """How often the range of the learning rate moved."""
    metrics: Mapping[str, float]
    """The problem's metrics on the samples that judge: each the mean over the winners' runs on fresh seeds, without those of no number."""
    at_end: Mapping[str, str]
    """Hyperparameters whose best lies at an end of its range in most studies, after all moves: "lowest" or "highest"."""


@dataclass(frozen=True)
class Pair:
    """Two that are compared in a cell: the second's outcome minus the first's."""

    first: str
    second: str
    difference: Difference
    scale: Scale
    p_real: float
    """Holm's adjusted p-value of "they differ by no more than what matters", over the cell's pairs."""
    p_same: float
    """The same of "they differ by at least what matters"."""

    def verdict(self, error_rate: float = 1 - CONFIDENCE) -> str:
        """real, same (the difference is smaller than what matters) or open."""
        return "real" if self.p_real < error_rate else "same" if self.p_same < error_rate else "open"

    @property
    def percent(self) -> tuple[float, float | None, float | None]:
        """By how much the second's loss is above the first's, in per cent of what the cell compares by, and the 95 %
        interval, unadjusted; None where its ends are not known."""
        estimate = self.scale.percent(self.difference.estimate)
        if not self.difference.known or not self.scale.tells:
            return estimate, None, None
        low, high = self.difference.interval(CONFIDENCE)
        return estimate, self.scale.percent(low), self.scale.percent(high)

    @property
    def turned(self) -> Pair:
        """The first against the second."""
        return replace(
            self, first=self.second, second=self.first,
            difference=replace(self.difference, estimate=-self.difference.estimate),
        )  # fmt: skip


@dataclass(frozen=True)
class Untuned:
    """A competitor at its own defaults, on the same fresh seeds."""

    pair: Pair
    """Against itself tuned, which is the first; corrected over all of the cell that have defaults."""
    p_lowest: float
    """Holm's adjusted p-value of "some tuned competitor ends no higher"; 1 where one does."""

    @property
    def label(self) -> str:
        """Whose defaults they are."""
        return self.pair.first

    @property
    def lowest(self) -> bool:
        """Whether it is really lower than every tuned competitor."""
        return self.p_lowest < 1 - CONFIDENCE


@dataclass(frozen=True)
class Cell:
    """A problem with a schedule."""

    problem: str
    schedule: str
    measure: Measure
    """Which loss judges, and which one chose."""
    scale: Scale
    """How losses are compared."""
    standings: tuple[Standing, ...]
    """The lowest loss first."""
    pairs: tuple[Pair, ...]
    """Every two, in the order of the standings: the second never stands before the first."""
    untuned: tuple[Untuned, ...]
    """Those that have defaults for all that is searched, in the order of the standings."""
    target: float
    """The training loss at which the middle competitor ends; what `to_target` counts to. inf where that one learnt nothing."""
    initial: float
    """The mean training loss before the first step."""

    @property
    def tells(self) -> bool:
        """Whether there is anything to compare: somebody learnt, and there is a scale."""
        return self.scale.tells and any(s.learnt for s in self.standings)

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
            within = f" {interval(best.low, best.high, '.5g')}" if best.low is not None else ""
            ending = f"{level} of {len(cell.standings) - 1} others cannot be told apart from it"
            if len(cell.standings) < 2:
                ending = "nobody to compare it with"
            if not cell.tells:
                ending = "nobody learnt anything"
            lines.append(
                f"    {cell.problem}, {cell.schedule}, {cell.measure.loss}: {best.label} {best.loss:.5g}{within}; {ending}"
            )
        return "\n".join(lines)

    @property
    def threshold(self) -> str:
        """What matters, in words: 1 %."""
        return f"{100 * self.matters:g} %"

    @property
    def tells_luck(self) -> bool:
        """Whether luck can be told from differences: from two studies and two fresh seeds on."""
        return self.spec.studies > 1 and self.spec.fresh > 1

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

    @cached_property
    def measures(self) -> Mapping[str, Measure]:
        """By problem: which loss judges, and which one chose."""
        return {p.name: measure_of(p) for p in self.spec.problems}

    @cached_property
    def _scales(self) -> dict[tuple[str, str], Scale]:
        return {(p.name, s): self._scale(p.name, s) for p in self.spec.problems for s in self.spec.schedule_names}

    def _scale(self, problem: str, schedule: str) -> Scale:
        split = self.measures[problem].split
        own = [self.phases.get(Chain(problem, schedule, r.label)) for r in self.spec.runners]
        parts = [phase for done in own if done for phase in done[-2:]]
        losses = [phase.results[split][~phase.diverged] for phase in parts]
        initial = [phase.results["initial"] for phase in parts]
        found = scale_of(self.spec.problem(problem), np.concatenate(losses), np.concatenate(initial))
        if found.ratios:
            return found
        ends = []
        for last in (done[-1] for done in own if done):
            rows = last.lanes.role == "winner"
            kept = found.outcomes(last.results[split], last.results["initial"], last.diverged)[rows]
            ends.append((last.results["initial"][rows].mean(), kept.mean()))
        first, end = np.array(ends).T
        return replace(found, fall=float(first.mean() - end.min()))

    def outcomes(self, problem: str, schedule: str, label: str) -> Array:
        """The outcome of every study's winner on every fresh seed, [studies, seeds]: the logarithm of the loss that judges,
        or where the cell compares differences the loss itself."""
        return self._of(problem, schedule, label, "winner").reshape(self.spec.studies, self.spec.fresh)

    def losses(self, problem: str, schedule: str, label: str) -> Array:
        """The same as losses; who diverged counts with the loss before the first step."""
        return np.asarray(self._scales[problem, schedule].loss(self.outcomes(problem, schedule, label)))

    def _of(self, problem: str, schedule: str, label: str, role: str) -> Array:
        last = self.chain(problem, schedule, label)[-1]
        rows = last.lanes.role == role
        held = last.results[self.measures[problem].split]
        return self._scales[problem, schedule].outcomes(held[rows], last.results["initial"][rows], last.diverged[rows])

    def below_least(self, problem: str, schedule: str, label: str) -> bool:
        """Whether some loss of a winner is so small that it counts as the least that ratios tell apart."""
        last = self.chain(problem, schedule, label)[-1]
        rows = (last.lanes.role == "winner") & ~last.diverged
        least = statistics.LEAST * last.results["initial"][rows]
        return bool((last.results[self.measures[problem].split][rows] < least).any())

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every problem with every schedule."""
        if not self.whole:
            hint = "steprule race merge puts the folders of all shards together."
            raise InputError("race", expected="every shard's results", got="those of one", hint=hint)
        return tuple(self._cell(p.name, s) for p in self.spec.problems for s in self.spec.schedule_names)

    def cell(self, problem: str, schedule: str) -> Cell:
        """One of them."""
        return next(c for c in self.cells if (c.problem, c.schedule) == (problem, schedule))

    def _cell(self, problem: str, schedule: str) -> Cell:
        labels = [r.label for r in self.spec.runners]
        curves = {label: self._winners_curves(problem, schedule, label) for label in labels}
        with np.errstate(invalid="ignore"):
            ends = np.array([np.median(c[:, -1]) for c in curves.values()])
        first = np.concatenate([self.chain(problem, schedule, n)[-1].results["initial"] for n in labels])
        middle = float(np.median(np.where(np.isnan(ends), np.inf, ends)))
        target = middle if middle < first.mean() else np.inf
        standings = [self._standing(problem, schedule, label, curves[label], target) for label in labels]
        standings.sort(key=lambda s: s.loss)
        return Cell(
            problem, schedule, self.measures[problem], self._scales[problem, schedule], tuple(standings),
            self._pairs(problem, schedule, standings), self._untuned(problem, schedule, standings), target,
            float(first.mean()),
        )  # fmt: skip

    def _pairs(self, problem: str, schedule: str, standings: Sequence[Standing]) -> tuple[Pair, ...]:
        ys = {s.label: self.outcomes(problem, schedule, s.label) for s in standings}
        both = list(combinations(standings, 2))
        found = [statistics.difference(ys[b.label], ys[a.label]) for a, b in both]
        # Two that learnt nothing stand where they began: that is no likeness.
        idle = [not (a.learnt or b.learnt) for a, b in both]
        named = [(a.label, b.label) for a, b in both]
        return self._corrected(named, found, idle, self._scales[problem, schedule])

    def _untuned(self, problem: str, schedule: str, standings: Sequence[Standing]) -> tuple[Untuned, ...]:
        """Every default against itself tuned, and against all tuned: it is lower than all where it is lower than each."""
        defaults = {s.label: self._of(problem, schedule, s.label, "default") for s in standings}
        having = [s for s in standings if len(defaults[s.label])]
        scale = self._scales[problem, schedule]
        ys = {s.label: self.outcomes(problem, schedule, s.label) for s in standings}
        above = {(a.label, b.label): statistics.difference(ys[b.label], untuned=defaults[a.label])
                 for a in having for b in standings}  # fmt: skip
        own = [replace(above[s.label, s.label], estimate=-above[s.label, s.label].estimate) for s in having]
        named = [(s.label, f"{s.label}, untuned") for s in having]
        idle = [not s.learnt for s in having]
        pairs = self._corrected(named, own, idle, scale)
        beaten = []
        for s in having:
            against = [above[s.label, b.label] for b in standings]
            lower = scale.tells and all(d.estimate > 0 for d in against)
            beaten.append(max(d.p_beyond(scale.least(self.matters)) for d in against) if lower else 1.0)
        return tuple(Untuned(p, float(q)) for p, q in zip(pairs, statistics.holm(beaten), strict=True))

    def _corrected(
        self, named: Sequence[tuple[str, str]], found: Sequence[Difference], idle: Sequence[bool], scale: Scale
    ) -> tuple[Pair, ...]:
        """The pairs with p-values that Holm's method corrects over all of them; 1 where there is nothing to compare."""
        least, blank = scale.least(self.matters), [no or not scale.tells for no in idle]
        real = statistics.holm([1.0 if no else d.p_beyond(least) for d, no in zip(found, blank, strict=True)])
        same = statistics.holm([1.0 if no else d.p_within(least) for d, no in zip(found, blank, strict=True)])
        rows = zip(named, found, real, same, strict=True)
        return tuple(Pair(a, b, d, scale, float(r), float(s)) for (a, b), d, r, s in rows)

    def _winners_curves(self, problem: str, schedule: str, label: str) -> Array:
        last = self.chain(problem, schedule, label)[-1]
        curves = last.results["curve"][last.lanes.role == "winner"]
        return np.where(np.isfinite(curves), curves, np.inf)

    def _standing(self, problem: str, schedule: str, label: str, curves: Array, target: float) -> Standing:
        done = self.chain(problem, schedule, label)
        tuned, last = done[-2], done[-1]
        scale = self._scales[problem, schedule]
        y = self.outcomes(problem, schedule, label)
        own_mean = statistics.difference(y)
        low, high = own_mean.interval(CONFIDENCE)
        default = self._of(problem, schedule, label, "default")
        rows = last.lanes.role == "winner"
        own = winners(self.spec, tuned)
        middle = {n: float(v[recommended(self.spec, tuned)]) for n, v in tuned.lanes.hypers.items()}
        below = curves <= target
        reached = below.any(axis=1) & math.isfinite(target)
        at = np.where(reached, (below.argmax(axis=1) + 1) / curves.shape[1], np.inf)
        with np.errstate(invalid="ignore"):
            ended_lower = last.results["train"][rows] < last.results["initial"][rows]
        return Standing(
            label=label,
            loss=float(scale.loss(y.mean())),
            low=float(scale.loss(low)) if own_mean.known else None,
            high=float(scale.loss(high)) if own_mean.known else None,
            default=float(scale.loss(default.mean())) if len(default) else None,
            lr=float(np.median(tuned.lanes.hypers["lr"][own])) if "lr" in tuned.lanes.hypers else None,
            hypers=middle,
            diverged_trials=float(tuned.diverged.mean()),
            diverged=float(last.diverged[rows].mean()),
            learnt=bool((ended_lower & ~last.diverged[rows]).any()),
            to_target=float(np.percentile(at, 50, method="inverted_cdf")),
            missed=float(np.isinf(at).mean()),
            good_decades=self._good_decades(problem, schedule, label),
            moved=len(done) - 2,
            metrics=self._metrics(problem, last),
            at_end=at_ends(self.spec, self.spec.runner(label), tuned),
        )

    def _metrics(self, problem: str, last: Phase) -> dict[str, float]:
        """Information beside the loss: a mean, and no test."""
        found = {}
        for k, (part, name) in enumerate(self.spec.problem(problem).metric_columns):
            if part == self.measures[problem].split:
                values = last.results["metrics"][last.lanes.role == "winner", k]
                known = values[np.isfinite(values)]
                found[name] = float(known.mean()) if len(known) else math.nan
        return found

    def _good_decades(self, problem: str, schedule: str, label: str) -> float | None:
        means = self.sensitivity(problem, schedule, label)
        if means is None:
            return None
        best = int(np.argmin(means))
        good = means <= means[best] + self._scales[problem, schedule].near
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
        held, scale = tuned.results[self.measures[problem].split], self._scales[problem, schedule]
        y = scale.outcomes(held, tuned.results["initial"], tuned.diverged).reshape(self.spec.studies, -1)
        return np.array([statistics.best_of_k(s, v) for s, v in zip(tuned.scores.reshape(y.shape), y, strict=True)])

    @cached_property
    def agreement(self) -> dict[str, tuple[float, float, float]]:
        """For each schedule how far the problems rank alike: Kendall's tau and its interval. {} for one problem or two rules,
        and where one study or one fresh seed has no interval; without schedules of which some problem tells nothing."""
        labels = [r.label for r in self.spec.runners]
        if len(self.spec.problems) < 2 or len(labels) < 3 or not self.tells_luck:
            return {}
        names = [p.name for p in self.spec.problems]
        telling = [s for s in self.spec.schedule_names if all(self.cell(p, s).tells for p in names)]
        cells = {s: [[self.outcomes(p, s, n) for n in labels] for p in names] for s in telling}
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
            about = {
                "problem": cell.problem,
                "schedule": cell.schedule,
                "loss": cell.measure.split,
                "chosen_by": cell.measure.chosen_by,
                "compared_by": "ratio" if cell.scale.ratios else "difference",
                "fall": None if cell.scale.ratios else cell.scale.fall,
                "target": cell.target,
            }
            standings = [vars(s) for s in cell.standings]
            untuned = [{**_record(u.pair), "below_all_tuned": u.lowest} for u in cell.untuned]
            pairs = [_record(p) for p in cell.pairs]
            cells.append({**about, "standings": standings, "pairs": pairs, "untuned": untuned})
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


def interval(low: float | None, high: float | None, form: str = ".4g", unknown: str = "-") -> str:
    """An interval in words, [0.1, 0.2]; `unknown` where its ends are not known."""
    return unknown if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def _record(pair: Pair) -> dict[str, Any]:
    percent, *ends = pair.percent
    about = {"first": pair.first, "second": pair.second, "percent": percent, "interval": ends}
    return {**about, "p": pair.p_real, "verdict": pair.verdict()}
