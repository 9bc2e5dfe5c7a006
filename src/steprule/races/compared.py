"""Who stands where in each cell of a tuned race, who differs from whom, and what that says of every problem."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.races import statistics
from steprule.races.cell import CONFIDENCE, Cell, Pair, Standing, Untuned
from steprule.races.chain import Phase
from steprule.races.looks import Looked
from steprule.races.luck import best_of_k, levelled
from steprule.races.measure import Scale
from steprule.races.outcomes import Outcomes
from steprule.races.power import LEVEL, Power, studies_needed
from steprule.races.protocol import MULTIPLES
from steprule.races.stage import joined

Array = NDArray[Any]


@dataclass(frozen=True, repr=False)
class Compared(Outcomes):
    """A race's trainings, and its verdicts on them."""

    matters: float
    """The smallest difference of losses that matters, as a share."""

    @property
    def threshold(self) -> str:
        """What matters, in words: 1 %."""
        return f"{100 * self.matters:g} %"

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every problem with every schedule of a tuned race; empty where settings were compared as given."""
        if not self.is_tuned:
            return ()
        self._check_whole()
        found = [self._cell(*where) for where in self._everywhere]
        overall = iter(statistics.holm([pair.p_alone for cell in found for pair in cell.pairs]))
        return tuple(
            replace(cell, pairs=tuple(replace(pair, p_overall=float(next(overall))) for pair in cell.pairs))
            for cell in found
        )

    def cell(self, problem: str, schedule: str) -> Cell:
        """One of them. Raises `InputError` for a name that is not in the race, and where settings were compared as given."""
        self._check_tuned()
        own = {c.schedule: c for c in self.cells if c.problem == self.spec.problem(problem).name}
        return own[self._schedule(schedule)]

    def _cell(self, problem: str, schedule: str) -> Cell:
        labels = [e.label for e in self.spec.entrants]
        curves = {label: self.curves(problem, schedule, label) for label in labels}
        with np.errstate(invalid="ignore"):
            ends = np.array([np.median(c[:, -1]) for c in curves.values()])
        lasts = [stage.last for label in labels for stage in self.stages(problem, schedule, label)]
        first = np.concatenate([last.results["initial"] for last in lasts])
        middle = float(np.median(np.where(np.isnan(ends), np.inf, ends)))
        target = middle if middle < first.mean() else np.inf
        levels = self._levels(problem, schedule)
        standings = [self._standing(problem, schedule, label, curves[label], target, levels[label]) for label in labels]
        standings.sort(key=lambda s: s.loss)
        scale = self._scales[problem, schedule]
        both = {(a.label, b.label): self.difference(problem, schedule, b.label, a.label)
                for a, b in combinations(standings, 2)}  # fmt: skip
        longest = max(s.stages for s in standings)
        return Cell(
            problem, schedule, self.measures[problem], scale, tuple(standings),
            self._pairs(both, standings, scale), self._untuned(problem, schedule, standings), target, float(first.mean()),
            Power.of([own for own in both.values() if len(own.stages) == longest], len(both), self.tuning.studies,
                     scale.least(self.matters)),
        )  # fmt: skip

    def _levels(self, problem: str, schedule: str) -> dict[str, float]:
        """By label the mean outcome, on the seeds of all stages.

        Whoever left early has seen other seeds than those that stayed. So it stands by its difference to the lowest of these, on the seeds
        that both have.
        """
        counts = {e.label: len(self.stages(problem, schedule, e.label)) for e in self.spec.entrants}
        means = {label: float(self.outcomes(problem, schedule, label).mean()) for label in counts}
        stayed = [label for label, count in counts.items() if count == max(counts.values())]
        lowest = min(stayed, key=means.__getitem__)
        for label in counts.keys() - set(stayed):
            means[label] = means[lowest] + self.difference(problem, schedule, label, lowest).difference.estimate
        return means

    def _pairs(
        self, both: Mapping[tuple[str, str], Looked], standings: Sequence[Standing], scale: Scale
    ) -> tuple[Pair, ...]:
        learnt = {s.label: s.learnt for s in standings}
        # Two that learnt nothing still stand where they began, which does not make them alike.
        idle = [not (learnt[a] or learnt[b]) for a, b in both]
        pairs = self._corrected(list(both), list(both.values()), idle, scale)
        least, tail = scale.least(self.matters), LEVEL / max(1, len(pairs)) / 2
        found = []
        for pair, own, no in zip(pairs, both.values(), idle, strict=True):
            is_open = scale.tells and not no and pair.verdict() == "open"
            studies = self.tuning.studies * len(own.stages)
            needed = studies_needed(pair.difference, studies, least, tail * own.share) if is_open else None
            found.append(replace(pair, studies_needed=needed))
        return tuple(found)

    def _untuned(self, problem: str, schedule: str, standings: Sequence[Standing]) -> tuple[Untuned, ...]:
        """Every default against itself tuned, and against all tuned: it is lower than all where it is lower than each."""
        having = [s for s in standings if s.default is not None]
        scale = self._scales[problem, schedule]
        above = {}
        for a, b in product(having, standings):
            above[a.label, b.label] = self.above_untuned(problem, schedule, b.label, a.label)
        own = [above[s.label, s.label].turned for s in having]
        named = [(s.label, f"{s.label}, untuned") for s in having]
        idle = [not s.learnt for s in having]
        pairs = self._corrected(named, own, idle, scale)
        beaten = []
        for s in having:
            against = [above[s.label, b.label] for b in standings]
            lower = scale.tells and all(d.difference.estimate > 0 for d in against)
            beaten.append(max(d.p_beyond(scale.least(self.matters)) for d in against) if lower else 1.0)
        return tuple(Untuned(p, float(q)) for p, q in zip(pairs, statistics.holm(beaten), strict=True))

    def _corrected(
        self, named: Sequence[tuple[str, str]], found: Sequence[Looked], idle: Sequence[bool], scale: Scale
    ) -> tuple[Pair, ...]:
        """The pairs with p-values that Holm's method corrects over all of them; 1 where there is nothing to compare."""
        least, blank = scale.least(self.matters), [no or not scale.tells for no in idle]
        alone = [1.0 if no else d.p_beyond(least) for d, no in zip(found, blank, strict=True)]
        real = statistics.holm(alone)
        same = statistics.holm([1.0 if no else d.p_within(least) for d, no in zip(found, blank, strict=True)])
        rows = zip(named, found, real, same, alone, strict=True)
        return tuple(Pair(a, b, d.difference, scale, float(r), float(s), p) for (a, b), d, r, s, p in rows)

    def curves(self, problem: str, schedule: str, label: str) -> Array:
        """The losses of the winners' runs on fresh seeds along the training, [runs, windows]; inf where not finite."""
        lasts = [stage.last for stage in self.stages(problem, schedule, label)]
        found = np.concatenate([last.results["curve"][last.lanes.role == "winner"] for last in lasts])
        return np.where(np.isfinite(found), found, np.inf)

    def _standing(
        self, problem: str, schedule: str, label: str, curves: Array, target: float, level: float
    ) -> Standing:
        stages, scale = self.stages(problem, schedule, label), self._scales[problem, schedule]
        tuned, tuning = joined([stage.tuned for stage in stages]), self.tuning.of_all(len(stages))
        last = joined([stage.last for stage in stages])
        own_mean = self.mean(problem, schedule, label)
        shift = level - float(self.outcomes(problem, schedule, label).mean())
        low, high = (end + shift for end in own_mean.interval(CONFIDENCE))
        default = self.defaults(problem, schedule, label)
        rows = last.lanes.role == "winner"
        own = tuning.chosen(tuned)
        middle = {n: float(v[tuning.recommended(tuned)]) for n, v in tuned.lanes.hypers.items()}
        below = curves <= target
        reached = below.any(axis=1) & math.isfinite(target)
        at = np.where(reached, (below.argmax(axis=1) + 1) / curves.shape[1], np.inf)
        with np.errstate(invalid="ignore"):
            ended_lower = last.results["train"][rows] < last.results["initial"][rows]
        return Standing(
            label=label,
            loss=float(scale.loss(level)),
            low=float(scale.loss(low)) if own_mean.known else None,
            high=float(scale.loss(high)) if own_mean.known else None,
            default=float(scale.loss(default.mean() + shift)) if len(default) else None,
            lr=float(np.median(tuned.lanes.hypers["lr"][own])) if "lr" in tuned.lanes.hypers else None,
            hypers=middle,
            diverged_trials=float(tuned.diverged.mean()),
            diverged=float(last.diverged[rows].mean()),
            learnt=bool((ended_lower & ~last.diverged[rows]).any()),
            to_target=float(np.percentile(at, 50, method="inverted_cdf")),
            missed=float(np.isinf(at).mean()),
            good_decades=self._good_decades(problem, schedule, label),
            moved=stages[0].moved,
            metrics=self._metrics(problem, last),
            at_end=tuning.at_ends(self.spec.entrant(label), tuned),
            stages=len(stages),
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
        y = self._of((problem, schedule), label, "rate")
        return y.reshape(len(MULTIPLES), -1).mean(axis=1) if len(y) else None

    def best_of_k(self, problem: str, schedule: str, label: str) -> Array:
        """The expected outcome of the best of k trials on a trial's own seed, k = 1 ... trials, [k]."""
        stages = self.stages(problem, schedule, label)
        tuned, tuning = joined([stage.tuned for stage in stages]), self.tuning.of_all(len(stages))
        held, scale = tuned.results[self.measures[problem].split], self._scales[problem, schedule]
        y = scale.outcomes(held, tuned.results["initial"], tuned.diverged)
        return best_of_k(levelled(tuning.scores(tuned)).ravel(), y, tuning.trials)

    @cached_property
    def agreement(self) -> dict[str, tuple[float, float, float]]:
        """For each schedule how far the problems rank alike: Kendall's tau and its interval. {} for one problem or two rules,
        and where one study or one fresh seed has no interval; without schedules of which some problem tells nothing."""
        self._check_tuned()
        labels = [e.label for e in self.spec.entrants]
        if len(self.spec.problems) < 2 or len(labels) < 3 or not self.tells_luck:
            return {}
        names = [p.name for p in self.spec.problems]
        found = {}
        for schedule in self.spec.schedule_names:
            if all(self.cell(p, schedule).tells for p in names):
                # The seeds of the first stage, which everyone has.
                outcomes = [[self._winners((p, schedule), n, 0) for n in labels] for p in names]
                lucks = [[self._lucks[p, schedule][0][n] for n in labels] for p in names]
                found[schedule] = statistics.rank_agreement(outcomes, lucks)
        return found

    @cached_property
    def profile(self) -> tuple[Array, Array]:
        """Performance profiles of the steps to the target over all cells: ratios, and [competitors, ratios]."""
        self._check_tuned()
        at = [[cell.standing(e.label).to_target for cell in self.cells] for e in self.spec.entrants]
        return statistics.profile(np.array(at))
