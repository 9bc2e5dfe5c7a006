"""The statistics of a race on plain arrays of outcomes, which are logarithms of losses, or losses.

Of logarithms the differences are ratios. An outcome array is [studies, seeds]: on every fresh seed as many trainings of tuned settings as
there are studies. Tunings of two competitors are independent, fresh seeds are the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steprule import extras

with extras.needed():
    from scipy import stats

Array = NDArray[Any]
LEAST = 1e-6
"""Of the loss before the first step: losses below that share of it count as that."""


@dataclass(frozen=True)
class Difference:
    """The outcome of one minus that of another, and what is known of it."""

    estimate: float
    """In units of outcomes; of logarithms -0.02 is a loss 2 % lower."""
    error: float
    """Standard error: the luck of both tunings and of the seeds."""
    freedom: float
    """Degrees of freedom of that error, after Welch and Satterthwaite."""

    @property
    def known(self) -> bool:
        """Whether its error is known: with one study, or one fresh seed, it is not."""
        return bool(np.isfinite(self.error))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The confidence interval; everything where the error is unknown."""
        if not self.known:
            return -np.inf, np.inf
        reach = float(stats.t.ppf((1 + confidence) / 2, self.freedom)) * self.error
        return self.estimate - reach, self.estimate + reach

    def p_beyond(self, matters: float) -> float:
        """The p-value of "the difference is no larger than what matters", two-sided."""
        excess = abs(self.estimate) - matters
        if excess <= 0 or not self.known:
            return 1.0
        if self.error == 0:
            return 0.0
        return float(min(1.0, 2 * stats.t.sf(excess / self.error, self.freedom)))

    def p_within(self, matters: float) -> float:
        """The p-value of "the difference is at least what matters": two one-sided tests."""
        room = matters - abs(self.estimate)
        if room <= 0 or not self.known:
            return 1.0
        return 0.0 if self.error == 0 else float(stats.t.sf(room / self.error, self.freedom))


class Luck(NamedTuple):
    """How far a competitor's mean outcome varies from tuning to tuning."""

    variance: float
    """Of the mean; inf where it cannot be known."""
    freedom: float
    """Degrees of freedom of that variance."""


def counted(losses: Array, initial: Array, diverged: Array) -> Array:
    """Each loss as it counts: who diverged has learnt nothing, and counts with the loss before the first step."""
    return np.where(diverged | ~np.isfinite(losses), initial, losses)


def outcome(losses: Array, initial: Array, diverged: Array) -> Array:
    """The logarithm of each loss as it counts, positive ones; what is below `LEAST` of the first loss counts as that."""
    return np.asarray(np.log(np.maximum(counted(losses, initial, diverged), LEAST * initial)))


def difference(
    a: Array, b: Array | None = None, *, untuned: Array | None = None, lucks: Sequence[Luck] | None = None
) -> Difference:
    """The mean outcome of a, [studies, seeds], minus that of b, tuned likewise; or of one setting, [seeds]; or of nothing.

    Tuning luck varies the tuned means, the seeds the columns of the difference; what varies with both is in each of the two
    and is taken out once. `lucks` are those of a and b; without them rows are studies, each tuned for itself, and tell the luck by their
    spread. A setting that nobody tuned has no such luck. Where the luck of tuning cannot be known, or there is one seed, the error is
    infinite.
    """
    tuned = [a] if b is None else [a, b]
    columns = a.mean(axis=0)
    for other in (b.mean(axis=0) if b is not None else None, untuned):
        columns = columns if other is None else columns - other
    estimate, seeds = float(columns.mean()), len(columns)
    lucks = [luck_of_rows(y) for y in tuned] if lucks is None else lucks
    if not all(np.isfinite(luck.variance) for luck in lucks) or seeds < 2:
        return Difference(estimate, np.inf, 1.0)
    by_seed = float(columns.var(ddof=1)) / seeds
    parts, both = [(by_seed, seeds - 1.0), *lucks], 0.0
    for y in tuned:
        studies = len(y)
        rest = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0, keepdims=True) + y.mean()
        both += float((rest**2).sum()) / ((studies - 1) * (seeds - 1)) / (studies * seeds)
    variance = max(sum(v for v, _ in parts) - both, by_seed)
    spread = sum(v**2 / df for v, df in parts)
    freedom = max(1.0, variance**2 / spread) if spread > 0 else float(seeds - 1)
    return Difference(estimate, float(np.sqrt(variance)), freedom)


def averaged(parts: Sequence[Difference]) -> Difference:
    """The mean of independent differences that estimate the same, each counted alike: weights that follow errors would follow luck."""
    if len(parts) == 1:
        return parts[0]
    estimate = float(np.mean([part.estimate for part in parts]))
    if not all(part.known for part in parts):
        return Difference(estimate, np.inf, 1.0)
    variances = np.array([part.error**2 for part in parts])
    spread = float((variances**2 / [part.freedom for part in parts]).sum())
    return Difference(
        estimate,
        error=float(np.sqrt(variances.sum())) / len(parts),
        freedom=float(variances.sum() ** 2) / spread if spread > 0 else sum(part.freedom for part in parts),
    )


def averaged_luck(parts: Sequence[Luck]) -> Luck:
    """That of the mean of independent tunings."""
    found = averaged([Difference(0.0, float(np.sqrt(part.variance)), part.freedom) for part in parts])
    return parts[0] if len(parts) == 1 else Luck(found.error**2, found.freedom)


def luck_of_rows(y: Array) -> Luck:
    """The luck of [studies, seeds] whose rows were tuned one apart from the other."""
    studies = len(y)
    if studies < 2:
        return Luck(np.inf, 1.0)
    return Luck(float(y.mean(axis=1).var(ddof=1)) / studies, studies - 1.0)


def paired(a: Array, b: Array) -> Difference:
    """The mean outcome of a minus that of b, [runs] each, where run k of both has one seed."""
    gaps = a - b
    error = float(gaps.std(ddof=1)) / np.sqrt(len(gaps)) if len(gaps) > 1 else np.inf
    return Difference(float(gaps.mean()), float(error), float(max(1, len(gaps) - 1)))


def welch(a: Array, b: Array) -> Difference:
    """The mean outcome of a, [runs], minus that of b, [other runs], which have nothing in common: spreads may be unequal (Welch, 1947)."""
    estimate = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return Difference(estimate, np.inf, 1.0)
    own = [(float(y.var(ddof=1)) / len(y), len(y) - 1) for y in (a, b)]
    variance, spread = sum(v for v, _ in own), sum(v**2 / df for v, df in own)
    return Difference(
        estimate, float(np.sqrt(variance)), variance**2 / spread if spread > 0 else float(len(a) + len(b) - 2)
    )


def holm(p: Sequence[float]) -> Array:
    """Holm's adjusted p-values: the chance that any of them is called wrongly stays below what each is held to."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, dtype=float)[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled)) if len(p) else scaled
    return np.asarray(adjusted)


def rank_agreement(
    outcomes: Sequence[Sequence[Array]], lucks: Sequence[Sequence[Luck]], draws: int = 1_000, seed: int = 0
) -> tuple[float, float, float]:
    """Kendall's tau between the rankings in different cells, averaged over pairs of cells, and its 95 % interval.

    `outcomes[cell][competitor]` is [studies, seeds], `lucks` those of their tunings; the interval draws the seeds
    again, and the luck of each tuning.
    """
    rng = np.random.default_rng(seed)

    def tau(means: Array) -> float:
        signs = np.sign(means[:, :, None] - means[:, None, :])
        upper = np.triu_indices(means.shape[1], 1)
        flat = signs[:, upper[0], upper[1]]
        cells = np.triu_indices(len(flat), 1)
        return float((flat[cells[0]] * flat[cells[1]]).mean())

    found = tau(np.array([[y.mean() for y in cell] for cell in outcomes]))
    drawn = []
    for _ in range(draws):
        means = []
        for cell, own in zip(outcomes, lucks, strict=True):
            seeds = rng.integers(0, cell[0].shape[1], cell[0].shape[1])
            moved = [np.sqrt(luck.variance) * rng.standard_normal() for luck in own]
            means.append([y[:, seeds].mean() + more for y, more in zip(cell, moved, strict=True)])
        drawn.append(tau(np.array(means)))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return found, float(low), float(high)


def profile(costs: Array) -> tuple[Array, Array]:
    """Dolan and Moré's performance profiles of costs [competitors, cells], inf for a miss: the ratios tau, from 1, and for
    each competitor the share of cells in which its cost is within tau times the least, [competitors, ratios]."""
    least = costs.min(axis=0)
    with np.errstate(invalid="ignore"):
        ratio = np.where(np.isfinite(costs), costs / least, np.inf)
    ratio = np.where(np.isfinite(least), ratio, np.inf)
    taus = np.unique(np.concatenate([[1.0], ratio[np.isfinite(ratio)]]))
    return taus, (ratio[:, None, :] <= taus[None, :, None]).mean(axis=2)
