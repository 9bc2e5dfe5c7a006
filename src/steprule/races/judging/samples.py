"""The difference of two methods on one problem, by the test that follows from what their runs share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.errors import InputError
from steprule.races import statistics
from steprule.races.judging.ranks import Shift
from steprule.races.statistics import Difference, Luck

Array = NDArray[Any]
BY_TUNING, BY_SEEDS, APART, BY_RANKS, BY_NOISE = "tuning groups", "paired", "unpaired", "ranks", "known noise"
"""How two methods are compared, in words."""
SIGNED = 10
"""Pairs from which on signed ranks are taken: fewer, even if all in one direction, are no surprise after Holm's correction."""


@dataclass(frozen=True)
class Sample:
    """The outcomes of one method on one problem, the lower the better; inf where a run diverged."""

    method: str
    y: Array = field(repr=False)
    seed: NDArray[np.str_] | None = field(default=None, repr=False)
    group: NDArray[np.str_] | None = field(default=None, repr=False)
    luck: Luck | None = None
    """The luck of its tuning, where groups do not tell it."""

    @property
    def runs(self) -> int:
        """How many."""
        return len(self.y)

    @cached_property
    def gone(self) -> int:
        """How many diverged."""
        return int(np.isinf(self.y).sum())

    @cached_property
    def is_constant(self) -> bool:
        """Whether two runs or more are equal to the bit: then their seeds say nothing of luck."""
        return self.runs > 1 and bool((self.y == self.y[0]).all())

    @cached_property
    def seeds(self) -> dict[str, int]:
        """Where each seed stands."""
        return {} if self.seed is None else {s: k for k, s in enumerate(self.seed.tolist())}

    @cached_property
    def crossed(self) -> tuple[tuple[str, ...], Array] | None:
        """The seeds, and outcomes [tuning groups, seeds], where every group was run on the same seeds; else None."""
        if self.group is None or self.seed is None:
            return None
        groups, seeds = np.unique(self.group), np.unique(self.seed)
        if len(groups) * len(seeds) != self.runs:
            return None
        found = np.full((len(groups), len(seeds)), np.nan)
        found[np.searchsorted(groups, self.group), np.searchsorted(seeds, self.seed)] = self.y
        return None if np.isnan(found).any() else (tuple(seeds.tolist()), found)

    @cached_property
    def of_groups(self) -> Array:
        """The mean outcome of each tuning group."""
        assert self.group is not None
        return np.array([self.y[self.group == g].mean() for g in np.unique(self.group)])

    def mean(self, noise: float | None) -> Difference:
        """Its mean outcome, and the error of it."""
        if noise is not None:
            return Difference(float(self.y.mean()), noise / np.sqrt(self.runs), np.inf)
        if self.crossed is not None:
            return statistics.difference(self.crossed[1], lucks=lucks_of(self))
        return _alone(self.y if self.group is None else self.of_groups)


@dataclass(frozen=True)
class Compared:
    """What is known of b's outcomes minus a's."""

    difference: Difference | Shift
    how: str
    runs: float
    """How many each method has, as power counts them: pairs, tuning groups, or the harmonic mean of both numbers of runs."""


def compared(a: Sample, b: Sample, noise: float | None, paired: bool | None) -> Compared:
    """The difference of two samples.

    By ranks where a run diverged, signed ones from ten pairs on; by the noise where it is given; by tuning groups where both have them; by
    pairs where both have the same seeds, unless `paired` is False; else by Welch's test.

    Raises `InputError` where `paired` is True and seeds lack.
    """
    same = bool(a.seeds) and a.seeds.keys() == b.seeds.keys()
    if a.gone or b.gone:
        if same and paired is not False and a.runs >= SIGNED:
            return Compared(
                Shift(a.y[list(a.seeds.values())], b.y[[b.seeds[s] for s in a.seeds]], paired=True),
                BY_RANKS,
                float(a.runs),
            )
        return Compared(Shift(a.y, b.y), BY_RANKS, _harmonic(a.runs, b.runs))
    if noise is not None:
        error = noise * np.sqrt(1 / a.runs + 1 / b.runs)
        return Compared(Difference(float(b.y.mean() - a.y.mean()), error, np.inf), BY_NOISE, _harmonic(a.runs, b.runs))
    if a.group is not None and b.group is not None:
        groups = _harmonic(len(np.unique(a.group)), len(np.unique(b.group)))
        one, two = a.crossed, b.crossed
        if one is not None and two is not None and one[0] == two[0]:
            return Compared(statistics.difference(two[1], one[1], lucks=lucks_of(b, a)), BY_TUNING, groups)
        return Compared(statistics.welch(b.of_groups, a.of_groups), BY_TUNING, groups)
    if paired and not same:
        lacks = sorted(a.seeds.keys() ^ b.seeds.keys())
        got = f"{a.method} and {b.method}, of which one lacks seed {lacks[0]}" if lacks else "no seeds"
        raise InputError(
            "--paired", expected="the same seeds for every method", got=got, hint="Leave it out to compare unpaired."
        )
    if same and paired is not False:
        order = [b.seeds[s] for s in a.seeds]
        found, how, runs = statistics.paired(b.y[order], a.y[list(a.seeds.values())]), BY_SEEDS, float(a.runs)
    else:
        found, how, runs = statistics.welch(b.y, a.y), APART, _harmonic(a.runs, b.runs)
    if a.is_constant and b.is_constant:  # no luck was seen: whether there is any cannot be known
        found = Difference(found.estimate, np.inf, 1.0)
    return Compared(found, how, runs)


def lucks_of(*samples: Sample) -> list[Luck] | None:
    """The lucks of all, where all are known beside the runs."""
    found = [s.luck for s in samples if s.luck is not None]
    return found if len(found) == len(samples) else None


def _alone(y: Array) -> Difference:
    error = float(y.std(ddof=1)) / np.sqrt(len(y)) if len(y) > 1 else np.inf
    return Difference(float(y.mean()), float(error), float(max(1, len(y) - 1)))


def _harmonic(a: int, b: int) -> float:
    return 2 / (1 / a + 1 / b)
