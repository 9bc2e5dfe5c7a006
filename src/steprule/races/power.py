"""How many runs a verdict needs, and how large a difference so many runs find, at 80 % power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule import extras
from steprule.races.looks import Looked
from steprule.races.statistics import Difference

with extras.needed():
    from scipy import stats

Array = NDArray[Any]
POWER = 0.8
LEVEL = 0.05
"""Of all that are judged together."""
MOST = 10_000
"""Runs of each method; beyond that nobody is told to run."""


def power(gap: Array, spread: Array, runs: Array, freedom: Array, tail: Array) -> Array:
    """The chance that Student's test finds a gap.

    Args:
        gap: by how much the difference is beyond what is tested.
        spread: the standard error is spread / √runs.
        runs: of each method.
        freedom: degrees of freedom for each run beyond the first; inf where the noise is known.
        tail: the one-sided level.
    """
    known = np.isinf(freedom)
    df = np.where(known, 1.0, freedom) * np.maximum(runs - 1, 1)
    with np.errstate(divide="ignore", over="ignore"):
        beyond = np.minimum(gap / spread * np.sqrt(runs), 1e3)
    of_known = stats.norm.sf(stats.norm.isf(tail) - beyond)
    # scipy's noncentral t loses its digits far out, where the power is 1.
    of_seen = np.where(beyond > 37, 1.0, stats.nct.sf(stats.t.isf(tail, df), df, np.minimum(beyond, 37.0)))
    return np.asarray(np.where(known, of_known, of_seen))


def runs_needed(gap: Array, spread: Array, freedom: Array, tail: Array) -> Array:
    """The fewest runs of each method with which the gap is found at 80 % power; inf where `MOST` do not. Arguments as of `power`."""
    gap, spread, freedom, tail = np.broadcast_arrays(
        *(np.asarray(v, dtype=float) for v in (gap, spread, freedom, tail))
    )
    fewest = np.where(np.isinf(freedom), 1.0, 2.0)  # one run tells where the noise is known
    low, high = fewest - 1, np.full(gap.shape, float(MOST))
    enough = (gap > 0) & (power(gap, spread, high, freedom, tail) >= POWER)
    for _ in range(int(np.ceil(np.log2(MOST)))):
        middle = np.maximum(fewest, np.floor((low + high) / 2))
        found = power(gap, spread, middle, freedom, tail) >= POWER
        low, high = np.where(found, low, middle), np.where(found, middle, high)
    return np.where(enough, high, np.inf)


def smallest_found(spread: float, runs: float, freedom: float, tail: float) -> float:
    """The smallest gap that so many runs find at 80 % power; inf for one run whose noise is not known."""
    if runs < 2 and np.isfinite(freedom):
        return float("inf")
    low, high = 0.0, 100.0 * spread
    for _ in range(40):
        middle = (low + high) / 2
        found = power(*(np.array(v) for v in (middle, spread, runs, freedom, tail))) >= POWER
        low, high = (low, middle) if found else (middle, high)
    return high


@dataclass(frozen=True)
class Power:
    """What as many trainings as there are can tell apart, by the pair whose error is in the middle."""

    error: float
    """The standard error of that pair's difference."""
    studies: int
    freedom: float
    """Degrees of freedom of the error."""
    least: float
    """The difference that matters."""
    tail: float
    """The one-sided level of the pair that is judged first."""

    @classmethod
    def of(cls, pairs: Sequence[Looked], together: int, studies: int, least: float) -> Power | None:
        """That of pairs, of so many that are judged together, after stages of so many studies; None where no error is known."""
        known = [pair for pair in pairs if pair.difference.known and pair.difference.error > 0]
        if not known:
            return None
        middle = sorted(known, key=lambda pair: (pair.difference.error, pair.difference.freedom))[len(known) // 2]
        error, freedom = middle.difference.error, middle.difference.freedom
        return cls(error, studies * len(middle.stages), freedom, least, LEVEL / together / 2 * middle.share)

    @property
    def smallest(self) -> float:
        """The smallest difference that is found at 80 % power."""
        gap = smallest_found(self.error * np.sqrt(self.studies), self.studies, self._each, self.tail)
        return gap + self.least

    def chance(self, difference: float) -> float:
        """The chance that a difference is found."""
        beyond = np.array(max(0.0, difference - self.least))
        spread = np.array(self.error * np.sqrt(self.studies))
        return float(power(beyond, spread, np.array(self.studies), np.array(self._each), np.array(self.tail)))

    @property
    def _each(self) -> float:
        return self.freedom / max(self.studies - 1, 1)


def studies_needed(difference: Difference, studies: int, least: float, tail: float) -> int | None:
    """With how many studies, and as many times the trainings on fresh seeds, a difference would be decided at 80 % power, were it and its
    spread as they are; None where `MOST` do not, and where its error is not known."""
    if not difference.known or difference.error == 0:
        return None
    beyond = abs(difference.estimate) - least
    spread, each = difference.error * np.sqrt(studies), difference.freedom / max(studies - 1, 1)
    found = float(
        runs_needed(*(np.array([v]) for v in (abs(beyond), spread, each, tail if beyond > 0 else 2 * tail)))[0]
    )
    return int(found) if np.isfinite(found) else None


def runs_needed_by_ranks(chance: float, tail: float, *, paired: bool = False) -> float:
    """The same for a rank sum, from how often one is above the other, or for signed ranks (Noether, 1987); inf where `MOST` do not."""
    if chance == 0.5:
        return float("inf")
    reach = float(stats.norm.isf(tail) + stats.norm.ppf(POWER))
    runs = np.ceil(reach**2 / ((3 if paired else 6) * (chance - 0.5) ** 2))
    while (
        1 / _choices(int(runs), paired=paired) > tail
    ):  # so few cannot be told apart even where all of one end above all of the other
        runs += 1
    return float(runs) if runs <= MOST else float("inf")


def _choices(runs: int, *, paired: bool) -> float:
    """In how many ways 2n runs are two groups of n, or n differences have signs; about."""
    if paired:
        return 2.0 ** min(runs, 500)
    from scipy.special import comb

    return float(comb(2 * min(runs, 500), min(runs, 500)))
