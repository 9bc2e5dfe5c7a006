"""When a race is decided: who goes on after a look, and whether time is left for it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from steprule.races.chain import Chain, Phase
from steprule.races.compared import Compared
from steprule.races.runner import Cell, Onward
from steprule.races.spec import Spec
from steprule.races.stage import stages_of


@dataclass
class Looking:
    """A `Referee` for races until decided.

    The lowest and all that cannot be told apart from it go on; who is really above it leaves, and who is no more than what matters from it.
    Who left comes back, and makes up for the stages that it lacks, where another becomes the lowest from which it cannot be told.
    """

    spec: Spec
    matters: float
    budget: float | None = None
    """Seconds of this call, after which no stage begins; None for as many stages as there may be."""
    _began: float = field(default_factory=time.monotonic)
    _promised: dict[Cell, float] = field(default_factory=dict)
    """By cell what its stage under way takes, by the seconds of those before, added over workers."""

    def look(self, phases: Mapping[Chain, Sequence[Phase]], seconds: Mapping[Chain, float], trained: float) -> Onward:
        """As `Referee` says."""
        first = next(iter(phases))
        where = first.problem, first.schedule
        self._promised.pop(where, None)
        stages = self._onward(where, phases)
        if not stages:
            return Onward({})
        more = {chain: count - len(stages_of(phases[chain])) for chain, count in stages.items()}
        cost = sum(n * seconds[chain] / len(stages_of(phases[chain])) for chain, n in more.items())
        if not self._has_time(cost, trained):
            return Onward(stages, trains=False)
        self._promised[where] = cost
        return Onward(stages)

    def _onward(self, where: Cell, phases: Mapping[Chain, Sequence[Phase]]) -> dict[Chain, int]:
        problem, schedule = where
        alone = replace(
            self.spec,
            problems=(self.spec.problem(problem),),
            schedules=tuple(s for s in self.spec.schedules if s.name == schedule),
        )
        (cell,) = Compared(alone, phases, self.matters).cells
        if not cell.undecided:
            return {}
        labels = [cell.standings[0].label, *(pair.second for pair in cell.undecided)]
        had = {label: len(stages_of(phases[Chain(problem, schedule, label)])) for label in labels}
        top = max(had.values())
        later = [n for n in alone.protocol.looks if n > top]  # type: ignore[attr-defined]  # of a tuned race
        behind = {label: top for label, count in had.items() if count < top}
        ahead = dict.fromkeys(labels, later[0]) if later else {}
        return {Chain(problem, schedule, label): count for label, count in (behind or ahead).items()}

    def _has_time(self, cost: float, trained: float) -> bool:
        """Whether a stage of so many seconds, added over workers, ends within the budget, beside what is under way."""
        if self.budget is None:
            return True
        passed = time.monotonic() - self._began
        at_once = max(1.0, trained / passed) if passed > 0 else 1.0
        return passed + (cost + sum(self._promised.values())) / at_once <= self.budget
