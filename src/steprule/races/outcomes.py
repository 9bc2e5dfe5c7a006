"""What the trainings of a race say: outcomes on fresh seeds, the luck of tunings, differences by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.display import Shown
from steprule.errors import InputError, named
from steprule.races import statistics
from steprule.races.chain import Chain, Phase
from steprule.races.looks import Looked
from steprule.races.luck import lenders, moderated
from steprule.races.measure import Measure, Scale, measure_of, scale_of
from steprule.races.protocol import Tuned
from steprule.races.spec import Spec
from steprule.races.stage import Stage, stages_of
from steprule.races.statistics import Difference, Luck

Array = NDArray[Any]
Where = tuple[str, str]
"""A problem and a schedule."""


@dataclass(frozen=True, repr=False)
class Outcomes(Shown):
    """A race's spec, every lane, and the numbers that verdicts are made of."""

    spec: Spec
    phases: Mapping[Chain, Sequence[Phase]] = field(repr=False)

    @property
    def is_tuned(self) -> bool:
        """Whether everyone was tuned and compared on fresh seeds; else settings were compared as given."""
        return isinstance(self.spec.protocol, Tuned)

    @property
    def tuning(self) -> Tuned:
        """How everyone was tuned. Raises `InputError` where settings were compared as given."""
        self._check_tuned()
        return self.spec.protocol  # type: ignore[return-value]

    @property
    def tells_luck(self) -> bool:
        """Whether luck can be told from differences: from two studies and two fresh seeds on."""
        return self.tuning.tells_luck

    @property
    def whole(self) -> bool:
        """Whether all of it is here, and not a shard alone."""
        return len(self.phases) == len(self.spec.chains)

    def _check_tuned(self) -> None:
        if not self.is_tuned:
            raise InputError("race", expected="one that tuned", got="settings as given", hint="See Race.settings.")

    def _check_whole(self) -> None:
        if not self.whole:
            hint = "steprule race merge puts the folders of all shards together."
            raise InputError("race", expected="every shard's results", got="those of one", hint=hint)

    def chain(self, problem: str, schedule: str, label: str) -> Sequence[Phase]:
        """The phases of one competitor in one cell. Raises `InputError` for a name that is not in the race."""
        chain = Chain(self.spec.problem(problem).name, self._schedule(schedule), self.spec.entrant(label).label)
        if chain not in self.phases:
            self._check_whole()
        return self.phases[chain]

    def _schedule(self, name: str) -> str:
        return named("schedule", name, {s: s for s in self.spec.schedule_names}, where=" of this race")

    def stages(self, problem: str, schedule: str, label: str) -> Sequence[Stage]:
        """The same in stages: one, but in a race until decided. Raises `InputError` where nothing was tuned."""
        self._check_tuned()
        return stages_of(self.chain(problem, schedule, label))

    @property
    def _everywhere(self) -> Iterator[Where]:
        return ((p.name, s) for p in self.spec.problems for s in self.spec.schedule_names)

    @cached_property
    def measures(self) -> Mapping[str, Measure]:
        """By problem: which loss judges, and which one chose."""
        return {p.name: measure_of(p) for p in self.spec.problems}

    @cached_property
    def _scales(self) -> dict[Where, Scale]:
        return {where: self._scale(*where) for where in self._everywhere}

    def _scale(self, problem: str, schedule: str) -> Scale:
        split = self.measures[problem].split
        done = [self.phases.get(Chain(problem, schedule, e.label)) for e in self.spec.entrants]
        own = [stages_of(phases) for phases in done if phases]
        parts = []
        for stages in own:
            for stage in stages:
                parts += [stage.tuned, stage.last]
        losses = [phase.results[split][~phase.diverged] for phase in parts]
        initial = [phase.results["initial"] for phase in parts]
        found = scale_of(self.spec.problem(problem), np.concatenate(losses), np.concatenate(initial))
        if found.ratios:
            return found
        ends = []
        for last in (stages[0].last for stages in own):  # the first look's, so that the yardstick stays what it was
            rows = last.lanes.role == "winner"
            kept = found.outcomes(last.results[split], last.results["initial"], last.diverged)[rows]
            ends.append((last.results["initial"][rows].mean(), kept.mean()))
        first, end = np.array(ends).T
        return replace(found, fall=float(first.mean() - end.min()))

    def outcomes(self, problem: str, schedule: str, label: str) -> Array:
        """The outcomes of tuned settings on every fresh seed, [studies, seeds]: the logarithm of the loss that judges, or where the cell
        compares differences the loss itself. Each setting stands there as often as it is the best of a tuning's trials. The seeds of
        all stages stand side by side."""
        count = len(self.stages(problem, schedule, label))
        return np.concatenate([self._winners((problem, schedule), label, k) for k in range(count)], axis=1)

    def losses(self, problem: str, schedule: str, label: str) -> Array:
        """The same as losses; who diverged counts with the loss before the first step."""
        outcomes = self.outcomes(problem, schedule, label)
        return np.asarray(self._scales[problem, schedule].loss(outcomes))

    def luck(self, problem: str, schedule: str, label: str) -> Luck:
        """How far the mean of those outcomes varies from tuning to tuning."""
        count = len(self.stages(problem, schedule, label))  # raises for a name that is not in the race
        where, label = (self.spec.problem(problem).name, self._schedule(schedule)), self.spec.entrant(label).label
        return statistics.averaged_luck([self._lucks[where][k][label] for k in range(count)])

    @property
    def lends_luck(self) -> bool:
        """Whether competitors lend one another freedom on any problem with a schedule: three or more of which tuning has luck."""
        return any(lenders(own.values()) for stages in self._lucks.values() for own in stages)

    @cached_property
    def _lucks(self) -> dict[Where, list[dict[str, Luck]]]:
        """By cell and stage the luck of everyone who has that stage."""
        self._check_whole()
        found: dict[Where, list[dict[str, Luck]]] = {}
        for where in self._everywhere:
            stages = {e.label: self.stages(*where, e.label) for e in self.spec.entrants}
            found[where] = []
            for k in range(max(map(len, stages.values()))):
                labels = [label for label, own in stages.items() if len(own) > k]
                parts = [(stages[label][k], self._winners(where, label, k)) for label in labels]
                own = [self.tuning.luck(stage.tuned, stage.last, y) for stage, y in parts]
                found[where].append(dict(zip(labels, moderated(own), strict=True)))
        return found

    def difference(self, problem: str, schedule: str, a: str, b: str) -> Looked:
        """The outcome of a minus that of b, both tuned, stage by stage."""
        where, found = (problem, schedule), []
        for k in range(self._shared(where, a, b)):
            lucks = self._lucks[where][k]
            ys = self._winners(where, a, k), self._winners(where, b, k)
            found.append(statistics.difference(*ys, lucks=[lucks[a], lucks[b]]))
        return Looked(tuple(found), self.tuning.stages)

    def above_untuned(self, problem: str, schedule: str, tuned: str, untuned: str) -> Looked:
        """The outcome of one, tuned, minus that of one at its defaults."""
        where, found = (problem, schedule), []
        for k in range(self._shared(where, tuned, untuned)):
            default, luck = self._of(where, untuned, "default", k), self._lucks[where][k][tuned]
            found.append(statistics.difference(self._winners(where, tuned, k), untuned=default, lucks=[luck]))
        return Looked(tuple(found), self.tuning.stages)

    def mean(self, problem: str, schedule: str, label: str) -> Difference:
        """The mean outcome of one, tuned, with its error."""
        where = problem, schedule
        lucks = [own[label] for own in self._lucks[where][: len(self.stages(*where, label))]]
        return statistics.averaged(
            [statistics.difference(self._winners(where, label, k), lucks=[luck]) for k, luck in enumerate(lucks)]
        )

    def defaults(self, problem: str, schedule: str, label: str) -> Array:
        """The outcomes of one at its defaults on every fresh seed; [] where there are none."""
        count = len(self.stages(problem, schedule, label))
        return np.concatenate([self._of((problem, schedule), label, "default", k) for k in range(count)])

    def below_least(self, problem: str, schedule: str, label: str) -> bool:
        """Whether some loss of a winner is so small that it counts as the least that ratios tell apart."""
        found = False
        for stage in self.stages(problem, schedule, label):
            last = stage.last
            rows = (last.lanes.role == "winner") & ~last.diverged
            least = statistics.LEAST * last.results["initial"][rows]
            found |= bool((last.results[self.measures[problem].split][rows] < least).any())
        return found

    def _shared(self, where: Where, a: str, b: str) -> int:
        """How many stages both have."""
        return min(len(self.stages(*where, label)) for label in (a, b))

    def _winners(self, where: Where, label: str, stage: int) -> Array:
        """The outcomes of tuned settings in a stage, [studies, seeds]."""
        return self._of(where, label, "winner", stage).reshape(self.tuning.studies, self.tuning.fresh)

    def _of(self, where: Where, label: str, role: str, stage: int = 0) -> Array:
        last = self.stages(*where, label)[stage].last
        rows = last.lanes.role == role
        held = last.results[self.measures[where[0]].split]
        return self._scales[where].outcomes(held[rows], last.results["initial"][rows], last.diverged[rows])
