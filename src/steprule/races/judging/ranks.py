"""Two samples by their ranks alone, where some runs diverged and so have no loss but the worst rank."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule import extras

with extras.needed():
    from scipy import stats

Array = NDArray[Any]
EXACT = 200
"""Up to so many runs of a pair p-values are exact."""


@dataclass(frozen=True)
class Shift:
    """By how much outcomes of b lie above those of a, where inf is a run that diverged: Hodges and Lehmann's median of all differences."""

    a: Array = field(repr=False)
    b: Array = field(repr=False)

    known = True

    @cached_property
    def _gaps(self) -> Array:
        """All differences between one of b and one of a, in order; of two that diverged it is 0."""
        with np.errstate(invalid="ignore"):
            gaps = self.b[:, None] - self.a[None, :]
        return np.sort(np.where(np.isnan(gaps), 0.0, gaps), axis=None)

    @property
    def estimate(self) -> float:
        """The median difference; infinite where most runs of one alone diverged."""
        half = len(self._gaps) // 2
        if len(self._gaps) % 2 or self._gaps[half - 1] == self._gaps[half]:
            return float(self._gaps[half])
        low, high = self._gaps[half - 1], self._gaps[half]
        return float((low + high) / 2) if np.isfinite(high - low) else float(low if np.isfinite(low) else high)

    @property
    def chance(self) -> float:
        """How often a run of b ends above one of a; ties count half."""
        return float((self._gaps > 0).mean() + (self._gaps == 0).mean() / 2)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The interval of shifts that the rank sum does not exclude; an end may be infinite."""
        k = _excluded(len(self.a), len(self.b), (1 - confidence) / 2)
        if k == 0:
            return -np.inf, np.inf
        return float(self._gaps[k - 1]), float(self._gaps[-k])

    def p_beyond(self, matters: float) -> float:
        """The p-value of "the shift is no larger than what matters", two-sided, by the rank sum (Wilcoxon, Mann and Whitney)."""
        if abs(self.estimate) <= matters:
            return 1.0
        up = self.estimate > 0
        above, below = (self.b - matters, self.a) if up else (self.a - matters, self.b)
        return min(1.0, 2 * rank_sum(above, below))

    def p_within(self, matters: float) -> float:
        """1: a run that diverged is no likeness."""
        return 1.0


def rank_sum(above: Array, below: Array) -> float:
    """The one-sided p-value of "above is not the higher", given the ranks that there are, ties included.

    Exact for up to `EXACT` runs: the share of all ways to deal out the ranks in which `above` gets no less.
    """
    ranks = np.round(2 * stats.rankdata(np.concatenate([above, below]))).astype(
        np.int64
    )  # doubled: ties have half ranks
    count, got = len(above), int(ranks[: len(above)].sum())
    if len(ranks) <= EXACT:
        ways = _ways(tuple(np.sort(ranks).tolist()), count)
        return float(ways[got:].sum() / ways.sum())
    mean, variance = count * ranks.mean(), count * len(below) / (len(ranks) - 1) * ranks.var()
    return float(stats.norm.sf((got - mean) / np.sqrt(variance))) if variance > 0 else 1.0


@lru_cache(maxsize=256)
def _ways(ranks: tuple[int, ...], count: int) -> Array:
    """In how many ways `count` of the ranks add to each sum, over the number of all ways, [sums]."""
    table = np.zeros((count + 1, sum(ranks[-count:]) + 1))
    table[0, 0] = 1.0
    for k, rank in enumerate(ranks):
        for chosen in range(min(k + 1, count), 0, -1):
            table[chosen, rank:] += table[chosen - 1, : table.shape[1] - rank]
    return np.asarray(table[count])


@lru_cache(maxsize=1024)
def _excluded(m: int, n: int, tail: float) -> int:
    """How many of the least differences of m and n runs lie outside the interval with this tail."""
    if m + n <= EXACT:
        ways = _ways(tuple(range(1, m + n + 1)), m)
        chance = np.cumsum(ways / ways.sum())[m * (m + 1) // 2 :]
        return int(np.searchsorted(chance, tail, side="right"))
    middle, sd = m * n / 2, np.sqrt(m * n * (m + n + 1) / 12)
    return max(0, int(middle - stats.norm.isf(tail) * sd))
