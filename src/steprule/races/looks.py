"""Looks at a race that goes on until it is decided: after how many stages, and what each may spend of the error.

A stage is a whole race, tuned and confirmed on seeds of its own, so the stages of a pair are independent differences of one expectation. A
race of at most S stages looks at its pairs after n = 1, 2, 4, ... S of them. Error is spent in proportion to trainings: the look after n
stages, m being those of the look before, may spend the share (n - m) / S. So a pair's p-value over all looks is

    min over looks of p_n / ((n - m) / S),

which is below x with a chance of x at most where nothing differs (Bonferroni), whenever a pair stops and whoever leaves. It takes the place
of a p-value in Holm's method. A race of one stage looks once and spends all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from steprule.races.statistics import Difference, averaged


def looks(stages: int) -> tuple[int, ...]:
    """After how many stages a race of at most so many looks."""
    found = [1]
    while found[-1] < stages:
        found.append(min(2 * found[-1], stages))
    return tuple(found)


def shares(stages: int) -> dict[int, float]:
    """By look the share of the error that it may spend; they add up to 1."""
    at = looks(stages)
    return {n: (n - before) / stages for before, n in zip((0, *at), at, strict=False)}


@dataclass(frozen=True)
class Looked:
    """A difference, stage by stage."""

    stages: tuple[Difference, ...]
    """Of the stages that both of a pair have, one or more."""
    most: int = 1
    """How many stages the race may have."""

    @cached_property
    def difference(self) -> Difference:
        """That of all stages."""
        return averaged(self.stages)

    @property
    def turned(self) -> Looked:
        """The second minus the first."""
        return replace(self, stages=tuple(replace(d, estimate=-d.estimate) for d in self.stages))

    @property
    def share(self) -> float:
        """The share of the error that the last look could spend."""
        return self._shares[max(n for n in self._shares if n <= len(self.stages))]

    def p_beyond(self, matters: float) -> float:
        """The p-value, over all looks, of "the difference is no larger than what matters", two-sided.

        Looks that saw the other direction than all stages together do not count: what is called real has the direction that is shown.
        """
        up = self.difference.estimate > 0
        return self._over_looks(lambda d: d.p_beyond(matters) if (d.estimate > 0) == up else 1.0)

    def p_within(self, matters: float) -> float:
        """The same of "the difference is at least what matters"."""
        return self._over_looks(lambda d: d.p_within(matters))

    @cached_property
    def _shares(self) -> dict[int, float]:
        return shares(self.most)

    def _over_looks(self, p: Callable[[Difference], float]) -> float:
        seen = {n: share for n, share in self._shares.items() if n <= len(self.stages)}
        return min(1.0, *(p(averaged(self.stages[:n])) / share for n, share in seen.items()))
