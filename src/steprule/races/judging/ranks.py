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
    """By how much outcomes of b lie above those of a, where inf is a run that diverged: Hodges and Lehmann's median of all differences,
    or, where run k of both has one seed, of the means of every two pairs' differences."""

    a: Array = field(repr=False)
    b: Array = field(repr=False)
    paired: bool = False

    known = True

    @cached_property
    def _gaps(self) -> Array:
        """What the estimate is the median of, in order. Two that diverged differ by 0."""
        with np.errstate(invalid="ignore"):
            if not self.paired:
                return np.sort(_zeroed(self.b[:, None] - self.a[None, :]), axis=None)
            gaps = _zeroed(self.b - self.a)
            first, second = np.triu_indices(len(gaps))
            return np.sort(_zeroed((gaps[first] + gaps[second]) / 2))

    @property
    def estimate(self) -> float:
        """The median difference; infinite where most runs of one alone diverged."""
        half = len(self._gaps) // 2
        if len(self._gaps) % 2 or self._gaps[half - 1] == self._gaps[half]:
            return float(self._gaps[half])
        low, high = self._gaps[half - 1], self._gaps[half]
        if np.isfinite(high - low):
            return float((low + high) / 2)
        return float(low if np.isfinite(low) else high)

    @property
    def chance(self) -> float:
        """How often a run of b ends above one of a, or the mean of two pairs' differences above 0; ties count half."""
        return float((self._gaps > 0).mean() + (self._gaps == 0).mean() / 2)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The interval of shifts that the ranks do not exclude; an end may be infinite."""
        k = _excluded(len(self.a), None if self.paired else len(self.b), (1 - confidence) / 2)
        if k == 0:
            return -np.inf, np.inf
        return float(self._gaps[k - 1]), float(self._gaps[-k])

    def p_beyond(self, matters: float) -> float:
        """The p-value of "the shift is no larger than what matters", two-sided, by Wilcoxon's rank sum or signed ranks."""
        if abs(self.estimate) <= matters:
            return 1.0
        above, below = (self.b - matters, self.a) if self.estimate > 0 else (self.a - matters, self.b)
        if not self.paired:
            return min(1.0, 2 * rank_sum(above, below))
        with np.errstate(invalid="ignore"):
            return min(1.0, 2 * signed_rank(_zeroed(above - below)))

    def p_within(self, matters: float) -> float:
        """1: a run that diverged is no likeness."""
        return 1.0


def rank_sum(above: Array, below: Array) -> float:
    """The one-sided p-value of "above is not the higher", given the ranks that there are, ties included.

    Exact for up to `EXACT` runs: the share of all ways to deal out the ranks in which `above` gets no less.
    """
    ranks = _doubled(np.concatenate([above, below]))
    count, got = len(above), int(ranks[: len(above)].sum())
    if len(ranks) <= EXACT:
        ways = _ways(tuple(np.sort(ranks).tolist()), count)
        return float(ways[got:].sum() / ways.sum())
    mean, variance = count * ranks.mean(), count * len(below) / (len(ranks) - 1) * ranks.var()
    return float(stats.norm.sf((got - mean) / np.sqrt(variance))) if variance > 0 else 1.0


def signed_rank(gaps: Array) -> float:
    """The one-sided p-value of "differences are as often below 0 as above", given their sizes, ties included; a 0 says nothing.

    Exact for up to `EXACT` pairs: the share of all ways to sign the ranks in which those above 0 get no less.
    """
    gaps = gaps[gaps != 0]
    ranks = _doubled(np.abs(gaps))
    got = int(ranks[gaps > 0].sum())
    if len(ranks) <= EXACT:
        ways = _signs(tuple(np.sort(ranks).tolist()))
        return float(ways[got:].sum() / ways.sum())
    return float(stats.norm.sf((got - ranks.sum() / 2) / np.sqrt((ranks.astype(float) ** 2).sum() / 4)))


def _zeroed(gaps: Array) -> Array:
    return np.where(np.isnan(gaps), 0.0, gaps)


def _doubled(values: Array) -> NDArray[np.int64]:
    """Ranks times two: those of ties are halves."""
    return np.asarray(np.round(2 * stats.rankdata(values)), dtype=np.int64)


@lru_cache(maxsize=256)
def _ways(ranks: tuple[int, ...], count: int) -> Array:
    """In how many ways `count` of the ranks add to each sum, over the number of all ways, [sums]."""
    table = np.zeros((count + 1, sum(ranks[-count:]) + 1))
    table[0, 0] = 1.0
    for k, rank in enumerate(ranks):
        for chosen in range(min(k + 1, count), 0, -1):
            table[chosen, rank:] += table[chosen - 1, : table.shape[1] - rank]
    return np.asarray(table[count])


@lru_cache(maxsize=256)
def _signs(ranks: tuple[int, ...]) -> Array:
    """In how many ways some of the ranks add to each sum, [sums]."""
    table = np.zeros(sum(ranks) + 1)
    table[0] = 1.0
    for rank in ranks:
        table[rank:] = table[rank:] + table[: len(table) - rank]
    return table


@lru_cache(maxsize=1024)
def _excluded(m: int, n: int | None, tail: float) -> int:
    """How many of the least differences of m and n runs, or of m pairs where n is None, lie outside the interval with this tail."""
    if m + (n or 0) <= EXACT:
        ways = _signs(tuple(range(1, m + 1))) if n is None else _ways(tuple(range(1, m + n + 1)), m)
        chance = np.cumsum(ways / ways.sum())[0 if n is None else m * (m + 1) // 2 :]
        return int(np.searchsorted(chance, tail, side="right"))
    count = m * (m + 1) / 2 if n is None else m * n
    variance = m * (m + 1) * (2 * m + 1) / 24 if n is None else m * n * (m + n + 1) / 12
    return max(0, int(count / 2 - stats.norm.isf(tail) * np.sqrt(variance)))
