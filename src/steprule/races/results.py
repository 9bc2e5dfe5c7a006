"""What came out of a race: who stands where per problem and schedule, or how far each setting spreads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from steprule.counts import counted
from steprule.provenance import Made
from steprule.races.compared import Compared
from steprule.races.setting import Setting, in_words, setting_of

Array = NDArray[Any]
SIZES = (1.0, 2.0, 5.0, 10.0)
"""Differences in per cent of which results say how likely such a race finds them."""


@dataclass(frozen=True, repr=False)
class Results(Compared):
    """What a race that was run gives: its spec, every lane, and what they say."""

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

    @property
    def lanes(self) -> int:
        """How many trainings."""
        return sum(len(p.lanes) for done in self.phases.values() for p in done)
