"""What came out of a race: who stands where per problem and schedule, or how far each setting spreads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.counts import counted
from steprule.display import Shown
from steprule.errors import InputError, named
from steprule.provenance import Made
from steprule.races import statistics
from steprule.races.cell import CONFIDENCE, Cell, Pair, Standing, Untuned
from steprule.races.chain import Chain, Phase
from steprule.races.luck import best_of_k, lenders, levelled, moderated
from steprule.races.measure import Measure, Scale, measure_of, scale_of
from steprule.races.power import LEVEL, Power, studies_needed
from steprule.races.protocol import MULTIPLES, Tuned
from steprule.races.setting import Setting, in_words, setting_of
from steprule.races.spec import Spec
from steprule.races.statistics import Difference, Luck

Array = NDArray[Any]
SIZES = (1.0, 2.0, 5.0, 10.0)
"""Differences in per cent of which results say how likely such a race finds them."""


@dataclass(frozen=True, repr=False)
class Results(Shown):
    """What a race that was run gives: its spec, every lane, and what they say."""

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
    made: Made
    """When and by what."""

    def in_words(self) -> str:
        """Who is lowest in each cell and who cannot be told apart from it, or how far settings spread."""
        if not self.whole:
            return f"{self._head}, one shard of several: steprule race merge puts them together"
        if self.is_tuned:
            return "\n    ".join([self._head, *(cell.in_words() for cell in self.cells)])
        return "\n    ".join([self._head, *(in_words(own) for own in self.tables.values())])

    @property
    def _head(self) -> str:
        spec = self.spec
        where = counted(len(spec.problems), "problem")
        return f"Race of {len(spec.entrants)} on {where}: {counted(self.lanes, 'training')}"

    @property
    def is_tuned(self) -> bool:
        """Whether everyone was tuned and compared on fresh seeds; else settings were compared as given."""
        return isinstance(self.spec.protocol, Tuned)

    @property
    def tuning(self) -> Tuned:
        """How everyone was tuned. Raises `InputError` where settings were compared as given."""
        self._check_tuned()
        return self.spec.protocol  # type: ignore[return-value]

    def _check_tuned(self) -> None:
        if not self.is_tuned:
            raise InputError("race", expected="one that tuned", got="settings as given", hint="See Race.settings.")

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """The mean and the spread of each setting as given, on each problem with each schedule; empty in a tuned race."""
        if self.is_tuned:
            return ()
        self._check_whole()
        return tuple(
            setting_of(c, self.spec.entrant(c.label), self.spec.problem(c.problem), self.phases[c])
            for c in self.spec.chains
        )

    @property
    def tables(self) -> dict[tuple[str, str], list[Setting]]:
        """The same by problem and schedule."""
        found: dict[tuple[str, str], list[Setting]] = {}
        for setting in self.settings:
            found.setdefault((setting.problem, setting.schedule), []).append(setting)
        return found

    def _check_whole(self) -> None:
        if not self.whole:
            hint = "steprule race merge puts the folders of all shards together."
            raise InputError("race", expected="every shard's results", got="those of one", hint=hint)

    @property
    def threshold(self) -> str:
        """What matters, in words: 1 %."""
        return f"{100 * self.matters:g} %"

    @property
    def tells_luck(self) -> bool:
        """Whether luck can be told from differences: from two studies and two fresh seeds on."""
        return self.tuning.tells_luck

    @property
    def whole(self) -> bool:
        """Whether all of it is here, and not a shard alone."""
        return len(self.phases) == len(self.spec.chains)

    @property
    def lanes(self) -> int:
        """How many trainings."""
        return sum(len(p.lanes) for done in self.phases.values() for p in done)

    def chain(self, problem: str, schedule: str, label: str) -> Sequence[Phase]:
        """The phases of one competitor in one cell. Raises `InputError` for a name that is not in the race."""
        chain = Chain(self.spec.problem(problem).name, self._schedule(schedule), self.spec.entrant(label).label)
        if chain not in self.phases:
            self._check_whole()
        return self.phases[chain]

    def _schedule(self, name: str) -> str:
        return named("schedule", name, {s: s for s in self.spec.schedule_names}, where=" of this race")

    @cached_property
    def measures(self) -> Mapping[str, Measure]:
        """By problem: which loss judges, and which one chose."""
        return {p.name: measure_of(p) for p in self.spec.problems}

    @cached_property
    def _scales(self) -> dict[tuple[str, str], Scale]:
        return {(p.name, s): self._scale(p.name, s) for p in self.spec.problems for s in self.spec.schedule_names}

    def _scale(self, problem: str, schedule: str) -> Scale:
        split = self.measures[problem].split
        own = [self.phases.get(Chain(problem, schedule, e.label)) for e in self.spec.entrants]
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
        """The outcomes of tuned settings on every fresh seed, [studies, seeds]: the logarithm of the loss that judges, or where the cell
        compares differences the loss itself. Each setting stands there as often as it is the best of a tuning's trials."""
        return self._of(problem, schedule, label, "winner").reshape(self.tuning.studies, self.tuning.fresh)

    def luck(self, problem: str, schedule: str, label: str) -> Luck:
        """How far the mean of those outcomes varies from tuning to tuning."""
        self._check_tuned()
        self.chain(problem, schedule, label)  # raises for a name that is not in the race
        return self._lucks[self.spec.problem(problem).name, self._schedule(schedule)][self.spec.entrant(label).label]

    @property
    def lends_luck(self) -> bool:
        """Whether competitors lend one another freedom on any problem with a schedule: three or more of which tuning has luck."""
        return any(lenders(own.values()) for own in self._lucks.values())

    @cached_property
    def _lucks(self) -> dict[tuple[str, str], dict[str, Luck]]:
        self._check_whole()
        labels = [e.label for e in self.spec.entrants]
        found = {}
        for p, s in ((p.name, s) for p in self.spec.problems for s in self.spec.schedule_names):
            own = []
            for label in labels:
                *_, tuned, last = self.chain(p, s, label)
                own.append(self.tuning.luck(tuned, last, self.outcomes(p, s, label)))
            found[p, s] = dict(zip(labels, moderated(own), strict=True))
        return found

    def losses(self, problem: str, schedule: str, label: str) -> Array:
        """The same as losses; who diverged counts with the loss before the first step."""
        outcomes = self.outcomes(problem, schedule, label)
        return np.asarray(self._scales[problem, schedule].loss(outcomes))

    def _of(self, problem: str, schedule: str, label: str, role: str) -> Array:
        self._check_tuned()
        last = self.chain(problem, schedule, label)[-1]
        rows = last.lanes.role == role
        held = last.results[self.measures[problem].split]
        return self._scales[problem, schedule].outcomes(held[rows], last.results["initial"][rows], last.diverged[rows])

    def below_least(self, problem: str, schedule: str, label: str) -> bool:
        """Whether some loss of a winner is so small that it counts as the least that ratios tell apart."""
        self._check_tuned()
        last = self.chain(problem, schedule, label)[-1]
        rows = (last.lanes.role == "winner") & ~last.diverged
        least = statistics.LEAST * last.results["initial"][rows]
        return bool((last.results[self.measures[problem].split][rows] < least).any())

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every problem with every schedule of a tuned race; empty where settings were compared as given."""
        if not self.is_tuned:
            return ()
        self._check_whole()
        return tuple(self._cell(p.name, s) for p in self.spec.problems for s in self.spec.schedule_names)

    def cell(self, problem: str, schedule: str) -> Cell:
        """One of them. Raises `InputError` for a name that is not in the race, and where settings were compared as given."""
        self._check_tuned()
        own = {c.schedule: c for c in self.cells if c.problem == self.spec.problem(problem).name}
        return own[self._schedule(schedule)]

    def _cell(self, problem: str, schedule: str) -> Cell:
        labels = [e.label for e in self.spec.entrants]
        curves = {label: self._winners_curves(problem, schedule, label) for label in labels}
        with np.errstate(invalid="ignore"):
            ends = np.array([np.median(c[:, -1]) for c in curves.values()])
        first = np.concatenate([self.chain(problem, schedule, n)[-1].results["initial"] for n in labels])
        middle = float(np.median(np.where(np.isnan(ends), np.inf, ends)))
        target = middle if middle < first.mean() else np.inf
        standings = [self._standing(problem, schedule, label, curves[label], target) for label in labels]
        standings.sort(key=lambda s: s.loss)
        scale, pairs = self._scales[problem, schedule], self._pairs(problem, schedule, standings)
        return Cell(
            problem, schedule, self.measures[problem], scale, tuple(standings),
            pairs, self._untuned(problem, schedule, standings), target, float(first.mean()),
            Power.of([p.difference for p in pairs], self.tuning.studies, scale.least(self.matters)),
        )  # fmt: skip

    def _pairs(self, problem: str, schedule: str, standings: Sequence[Standing]) -> tuple[Pair, ...]:
        ys = {s.label: self.outcomes(problem, schedule, s.label) for s in standings}
        lucks, both = self._lucks[problem, schedule], list(combinations(standings, 2))
        found = [
            statistics.difference(ys[b.label], ys[a.label], lucks=[lucks[b.label], lucks[a.label]]) for a, b in both
        ]
        # Two that learnt nothing still stand where they began, which does not make them alike.
        idle = [not (a.learnt or b.learnt) for a, b in both]
        named = [(a.label, b.label) for a, b in both]
        scale = self._scales[problem, schedule]
        pairs = self._corrected(named, found, idle, scale)
        studies, least, tail = self.tuning.studies, scale.least(self.matters), LEVEL / max(1, len(pairs)) / 2
        return tuple(
            replace(p, studies_needed=studies_needed(p.difference, studies, least, tail))
            if scale.tells and not no and p.verdict() == "open"
            else p
            for p, no in zip(pairs, idle, strict=True)
        )

    def _untuned(self, problem: str, schedule: str, standings: Sequence[Standing]) -> tuple[Untuned, ...]:
        """Every default against itself tuned, and against all tuned: it is lower than all where it is lower than each."""
        defaults = {s.label: self._of(problem, schedule, s.label, "default") for s in standings}
        having = [s for s in standings if len(defaults[s.label])]
        scale = self._scales[problem, schedule]
        ys = {s.label: self.outcomes(problem, schedule, s.label) for s in standings}
        lucks = self._lucks[problem, schedule]
        above: dict[tuple[str, str], Difference] = {}
        for a, b in product(having, standings):
            found = statistics.difference(ys[b.label], untuned=defaults[a.label], lucks=[lucks[b.label]])
            above[a.label, b.label] = found
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
        own_mean = statistics.difference(y, lucks=[self._lucks[problem, schedule][label]])
        low, high = own_mean.interval(CONFIDENCE)
        default = self._of(problem, schedule, label, "default")
        rows = last.lanes.role == "winner"
        own = self.tuning.chosen(tuned)
        middle = {n: float(v[self.tuning.recommended(tuned)]) for n, v in tuned.lanes.hypers.items()}
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
            at_end=self.tuning.at_ends(self.spec.entrant(label), tuned),
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
        """The expected outcome of the best of k trials on a trial's own seed, k = 1 ... trials, [k]."""
        self._check_tuned()
        tuned = self.chain(problem, schedule, label)[-2]
        held, scale = tuned.results[self.measures[problem].split], self._scales[problem, schedule]
        y = scale.outcomes(held, tuned.results["initial"], tuned.diverged)
        return best_of_k(levelled(self.tuning.scores(tuned)).ravel(), y, self.tuning.trials)

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
                outcomes = [[self.outcomes(p, schedule, n) for n in labels] for p in names]
                lucks = [[self._lucks[p, schedule][n] for n in labels] for p in names]
                found[schedule] = statistics.rank_agreement(outcomes, lucks)
        return found

    @cached_property
    def profile(self) -> tuple[Array, Array]:
        """Performance profiles of the steps to the target over all cells: ratios, and [competitors, ratios]."""
        self._check_tuned()
        at = [[cell.standing(e.label).to_target for cell in self.cells] for e in self.spec.entrants]
        return statistics.profile(np.array(at))
