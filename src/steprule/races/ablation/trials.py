"""On and off on the same trials: a tuning whose points are the same for a rule and for the rule without a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.counts import whole
from steprule.errors import InputError
from steprule.hyper import Search
from steprule.races.chain import Chain, Phase, Planned
from steprule.races.competitor import Entrant
from steprule.races.protocol import Tuned
from steprule.races.statistics import Luck, luck_of_rows
from steprule.sizes import ABLATED_FRESH, FRESH, STUDIES, TRIALS

TIMES = 20
"""What an ablation takes at most, where nobody says how large it is: so many times the trainings of one tuned rule of a race."""
MOST, FEWEST = 30, 2
"""Studies of each, where nobody says how many."""


@dataclass(frozen=True)
class SameTrials(Tuned):
    """`Tuned`, but each study draws its points once for all: the rule without a part has those of the whole rule, without that number.

    So the luck of the draw is the same with the part and without it, and falls out of their difference. Only winners are confirmed.
    """

    space: tuple[tuple[str, Search], ...] = field(default=())
    """What the whole rule searches."""
    pools = False

    @property
    def batch(self) -> int:
        """A study: one of the rule is compared with the same one of the rule without a part."""
        return self.trials

    def best(self, tuned: Phase) -> NDArray[np.int64]:
        """Every study's winner."""
        return np.repeat(self.winners(tuned), self.fresh)

    def luck(self, tuned: Phase, last: Phase, y: NDArray[Any]) -> Luck:
        """As its studies tell it."""
        return luck_of_rows(y)

    def following(self, chain: Chain, entrant: Entrant, done: Sequence[Phase]) -> Planned | None:
        """As `Tuned`, for one rule: the points follow from the problem, the schedule and the study alone."""
        everyone = replace(chain, label="")
        own = super().following(everyone, entrant, done)
        if own is None:
            return None
        if own.lanes.role[0] != "trial":
            return replace(own, lanes=own.lanes.where(own.lanes.role == "winner"))
        # Drawn in the space of the whole rule, but for ranges of this one that have moved.
        wide = super().following(
            everyone,
            replace(entrant, space=self._full(entrant.space)),
            [replace(p, space=self._full(p.space)) for p in done],
        )
        assert wide is not None
        hypers = {n: v for n, v in wide.lanes.hypers.items() if n in own.space}
        return replace(own, lanes=replace(own.lanes, hypers=hypers), to_come=self.studies * self.fresh)

    def _full(self, space: Mapping[str, Search]) -> dict[str, Search]:
        return {**dict(self.space), **space}

    def to_dict(self) -> dict[str, Any]:
        """As `Protocol` says."""
        own = {n: v for n, v in super().to_dict().items() if n in ("trials", "seeds", "fresh", "first_seed")}
        return {**own, "points in": {n: [s.low, s.high, s.scale] for n, s in self.space}}


def same_trials(
    entrant: Entrant, parts: int, trials: int = TRIALS, seeds: int | None = None, fresh: int | None = None, first_seed: int | None = None
) -> SameTrials:  # fmt: skip
    """The trials of a rule and of the rule without each of so many parts.

    Without `seeds` as many studies as `TIMES` tuned rules of a race allow for all together, 30 at most. Raises `InputError` where those
    are fewer than two, and for sizes that are no whole numbers from 1.
    """
    trials, fresh = whole("trials", trials, 1), whole("fresh", ABLATED_FRESH if fresh is None else fresh, 1)
    if seeds is None:
        seeds = min(MOST, allowed() // ((parts + 1) * (trials + fresh)))
        if seeds < FEWEST:
            taken = f"{parts} parts of {trials} trials and {fresh} fresh seeds"
            hint = "Name fewer parts, or say how many studies: --seeds N."
            raise InputError("ablate", expected=f"what {allowed():,} trainings hold", got=taken, hint=hint)
    space = tuple(entrant.space.items())
    first = whole("first_seed", 0 if first_seed is None else first_seed, 0)
    return SameTrials(trials, whole("seeds", seeds, 1), fresh, first, space=space)


def allowed() -> int:
    """How many trainings `TIMES` tuned rules take in a race of the usual size."""
    return TIMES * STUDIES * (TRIALS + FRESH)
