"""The luck of tuning: what the best of k trials is worth, over all choices of k, and how far that varies.

Trials come in batches [batches, trials], each of Sobol points scrambled anew and with a seed of its own. Of N trials in the order of their
scores, the best first, the one of rank r is the best of k drawn without repetition with the chance

    w_r = C(N - r, k - 1) / C(N, k),    r = 1 ... N

so the best of k is worth the sum of w_r y_r, y_r being the outcome of that trial on fresh seeds: a U-statistic (Hoeffding, 1948), which the
best of one study is for k = N. Its variance is the jackknife's that leaves one batch out at a time (Efron and Stein, 1981).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule import extras
from steprule.races.chain import Phase
from steprule.races.statistics import Luck

with extras.needed():
    from scipy.special import digamma, gammaln, polygamma

Array = NDArray[Any]
LEVEL = 4
"""A batch's level is the mean score of its best quarter."""
KNOWN = 1e-9
"""Ranks whose chances add up to less are left out."""
TAILS = 0.6
"""The share that is used of the batches' degrees of freedom: their worths have heavier tails than a normal distribution's, and with
all of them too few intervals hold the truth (`benchmarks/referee.py`)."""
LENT = 0.5
"""The share that is used of the freedom that competitors could lend one another, for the same reason."""
FEWEST = 3
"""Competitors from which on their lucks are told from each other's."""


def chances(n: int, k: int) -> Array:
    """By rank, the best first, the chance of being the best of k drawn of n without repetition, [n]."""
    rank = np.arange(1, n + 1)
    left = np.maximum(n - rank, k - 1)
    found = np.exp(_choices(left, k - 1) - _choices(np.array(n), k))
    return np.asarray(np.where(n - rank >= k - 1, found, 0.0))


def _choices(n: Array, k: int) -> Array:
    """The logarithm of n over k."""
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def best_of_k(scores: Array, values: Array, most: int) -> Array:
    """For k = 1 ... most: what the best of k trials, chosen by score, is worth on the average over all choices of k of them all."""
    ranked = values[np.argsort(scores, kind="stable")]
    each = np.array([chances(len(scores), k) for k in range(1, most + 1)])
    return np.asarray(np.where(each > 0, each * ranked, 0.0).sum(axis=1))


def levelled(scores: Array) -> Array:
    """Scores, [batches, trials], without what a batch's seed adds to all of its own, so that trials of different batches compare.

    Positive scores are taken by their logarithms. The mean of the batch's best quarter is subtracted; what diverged stays inf.
    """
    finite = scores[np.isfinite(scores)]
    held = np.log(scores) if len(finite) and (finite > 0).all() else np.asarray(scores, dtype=float)
    found = np.full(held.shape, np.inf)
    for row, own in zip(found, held, strict=True):
        living = np.isfinite(own)
        best = np.sort(own[living])[: max(1, -(-len(own) // LEVEL))]
        row[living] = own[living] - best.mean() if len(best) else 0.0
    return found


def ranked(scores: Array) -> NDArray[np.int64]:
    """The trials of scores [batches, trials], counted through, the best first."""
    return np.argsort(levelled(scores).ravel(), kind="stable")


def allotted(n: int, k: int, runs: int) -> NDArray[np.int64]:
    """The rank, from 0, that each of so many runs goes to: to each rank runs in proportion to its chance, the best first."""
    edges = np.cumsum(chances(n, k))
    return np.asarray(np.minimum(np.searchsorted(edges, (np.arange(runs) + 0.5) / runs), n - 1))


@dataclass(frozen=True)
class Tuning:
    """The trials of one competitor, and which of them were trained again."""

    scores: Array
    """Of all trials, [batches, trials]."""
    trained: NDArray[np.int64]
    """The trial of each run on a fresh seed, counted through all batches."""

    @classmethod
    def of(cls, tuned: Phase, last: Phase) -> Tuning:
        """That of a race's phases."""
        scores = tuned.scores.reshape(int(tuned.lanes.study.max()) + 1, -1)
        rows = last.lanes.role == "winner"
        return cls(scores, last.lanes.study[rows] * scores.shape[1] + last.lanes.trial[rows])

    def is_shared_out(self, studies: int) -> bool:
        """Whether each trial was trained as often as it is the best of a tuning, and not, say, the winner of each study."""
        n = self.scores.size
        if n % studies:
            return False
        return bool((ranked(self.scores)[allotted(n, n // studies, len(self.trained))] == self.trained).all())

    def luck(self, y: Array) -> Luck:
        """How far what the best of k is worth varies from tuning to tuning.

        Args:
            y: outcomes of the runs, [studies, seeds]; there are as many times k trials as studies.
        """
        batches, each = self.scores.shape
        studies = len(y)
        n, k = self.scores.size, self.scores.size // studies
        if studies < 2 or n - each < k:
            return Luck(np.inf, 1.0)
        order = ranked(self.scores)[: int(np.searchsorted(np.cumsum(chances(n, k)), 1 - KNOWN)) + each + 1]
        values, chance = self._worth(order, y), chances(n - each, k)
        worth = np.array([_mean(values[order // each != batch], chance) for batch in range(batches)])
        jackknife = (batches - 1) / batches * float(((worth - worth.mean()) ** 2).sum())
        return Luck(jackknife, max(1.0, TAILS * (batches - 1)))

    def _worth(self, order: NDArray[np.int64], y: Array) -> Array:
        """By rank the mean outcome of a trial, less the mean of all; between those that were trained the line."""
        apart = y - y[0]  # 0 to the bit where every setting does the same, so that rounding is taken for no luck
        plain = (apart - apart.mean(axis=0)).ravel()  # what a seed adds to all its runs is no luck of the tuning's
        rank = np.full(self.scores.size, len(order) - 1)
        rank[order] = np.arange(len(order))
        seen, where = np.unique(rank[self.trained], return_inverse=True)
        return np.asarray(np.interp(np.arange(len(order)), seen, np.bincount(where, plain) / np.bincount(where)))


def _mean(values: Array, chance: Array) -> float:
    own = chance[: len(values)]
    return float((own * values).sum() / own.sum())


def moderated(lucks: Sequence[Luck]) -> list[Luck]:
    """The lucks of all competitors of a cell, each drawn towards the others' as far as they are alike (Smyth, 2004).

    Variances of d degrees of freedom are taken as draws around one, s0, of d0 degrees, both estimated from all and d0 halved; each becomes
    (d0 s0 + d s) / (d0 + d), with d0 + d degrees of freedom. No more than the others have is added.
    """
    known = lenders(lucks)
    if not known:
        return list(lucks)
    freedom = known[0].freedom
    logs = np.log([v.variance for v in known]) - digamma(freedom / 2) + np.log(freedom / 2)
    more = _inverse_trigamma(float(logs.var(ddof=1) - polygamma(1, freedom / 2)))
    prior = min(2 * more, (len(known) - 1) * freedom)
    common = float(np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2)))
    lent = LENT * prior
    total = freedom + lent
    return [Luck((lent * common + freedom * v.variance) / total, total) if v in known else v for v in lucks]


def lenders(lucks: Iterable[Luck]) -> list[Luck]:
    """Those that lend one another freedom: whose luck is known, and not none; [] where they are too few, or known unequally well."""
    known = [v for v in lucks if np.isfinite(v.variance) and v.variance > 0]
    return known if len(known) >= FEWEST and len({v.freedom for v in known}) == 1 else []


def _inverse_trigamma(y: float) -> float:
    """x with trigamma(x) = y, by Newton's steps on 1 / trigamma; inf for 0 and less."""
    if y <= 0:
        return float("inf")
    x = 0.5 + 1 / y
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        x += trigamma * (1 - trigamma / y) / float(polygamma(2, x))
    return x
