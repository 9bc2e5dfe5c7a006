"""What a tuned race says of one problem with one schedule: who stands where, and what is real."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from steprule.counts import counted
from steprule.errors import InputError, named
from steprule.races.measure import Measure, Scale
from steprule.races.power import Power
from steprule.races.statistics import Difference

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Standing:
    """One competitor on one problem with one schedule; losses are those that the cell measures, from fresh seeds."""

    label: str
    loss: float
    """Mean over studies and fresh seeds, after tuning: geometric where the cell compares ratios, else arithmetic."""
    low: float | None
    high: float | None
    """Its 95 % interval, the luck of tuning and of seeds in it; None where one study or one fresh seed cannot tell."""
    default: float | None
    """The same with nothing tuned; None where there is no default."""
    lr: float | None
    """The median of the batches' winners, without batches of which every trial diverged."""
    hypers: Mapping[str, float]
    """The winner in the middle, to begin with."""
    diverged_trials: float
    """Share of the trials that ended above where they began, or not finite."""
    diverged: float
    """The same of the winners' runs on fresh seeds."""
    learnt: bool
    """Whether any of those ended below where it began."""
    to_target: float
    """The median share of the training after which the loss is below the cell's target; inf if most miss it."""
    missed: float
    """Share of the runs that miss it."""
    good_decades: float | None
    """Over how many decades of the learning rate the loss is within a tenth of its best; a lower bound from a grid."""
    moved: int
    """How often the range of the learning rate moved."""
    metrics: Mapping[str, float]
    """The problem's metrics on the samples that judge: each the mean over the winners' runs on fresh seeds, without those of no number."""
    at_end: Mapping[str, str]
    """Hyperparameters whose best lies at an end of its range in most batches, after all moves: "lowest" or "highest"."""
    stages: int = 1
    """How often it was tuned and confirmed: once, but in a race until decided."""


@dataclass(frozen=True)
class Pair:
    """Two that are compared in a cell: the second's outcome minus the first's."""

    first: str
    second: str
    difference: Difference
    scale: Scale
    p_real: float
    """Holm's adjusted p-value of "they differ by no more than what matters", over the cell's pairs."""
    p_same: float
    """The same of "they differ by at least what matters"."""
    p_alone: float = 1.0
    """The p-value behind `p_real`, without Holm's correction."""
    p_overall: float = 1.0
    """`p_real` corrected over all pairs of the race: what is below 0.05 is wrong anywhere in the race with a chance of 5 % at most."""
    studies_needed: int | None = None
    """Of an open pair: with how many studies, and as many times the trainings on fresh seeds, four of five races would decide it, were
    difference and spread as they are here. None of a decided pair, and where more than 10,000 would be needed."""

    def verdict(self, error_rate: float = 1 - CONFIDENCE) -> str:
        """real, same (the difference is smaller than what matters) or open; open too where looks at a race contradict each other."""
        real, same = self.p_real < error_rate, self.p_same < error_rate
        if real == same:
            return "open"
        return "real" if real else "same"

    @property
    def is_above(self) -> bool:
        """Whether the second is really above the first."""
        return self.verdict() == "real" and self.difference.estimate > 0

    @property
    def percent(self) -> tuple[float, float | None, float | None]:
        """By how much the second's loss is above the first's, in per cent of what the cell compares by, and the 95 %
        interval, unadjusted; None where its ends are not known."""
        estimate = self.scale.percent(self.difference.estimate)
        if not self.difference.known or not self.scale.tells:
            return estimate, None, None
        low, high = self.difference.interval(CONFIDENCE)
        return estimate, self.scale.percent(low), self.scale.percent(high)

    @property
    def p_in_words(self) -> str:
        """What of it is corrected, for the page: "p = 0.012 (Holm; over the whole race 0.05)"."""
        return f"p = {self.p_real:.2g} (Holm; over the whole race {self.p_overall:.2g})"

    @property
    def turned(self) -> Pair:
        """The first against the second."""
        return replace(
            self, first=self.second, second=self.first,
            difference=replace(self.difference, estimate=-self.difference.estimate),
        )  # fmt: skip


@dataclass(frozen=True)
class Untuned:
    """A competitor at its own defaults, on the same fresh seeds."""

    pair: Pair
    """Against itself tuned, which is the first; corrected over all of the cell that have defaults."""
    p_lowest: float
    """Holm's adjusted p-value of "some tuned competitor ends no higher"; 1 where one does."""

    @property
    def label(self) -> str:
        """Whose defaults they are."""
        return self.pair.first

    @property
    def lowest(self) -> bool:
        """Whether it is really lower than every tuned competitor."""
        return self.p_lowest < 1 - CONFIDENCE


@dataclass(frozen=True)
class Cell:
    """A problem with a schedule."""

    problem: str
    schedule: str
    measure: Measure
    """Which loss judges, and which one chose."""
    scale: Scale
    """How losses are compared."""
    standings: tuple[Standing, ...]
    """The lowest loss first."""
    pairs: tuple[Pair, ...]
    """Every two, in the order of the standings: the second never stands before the first."""
    untuned: tuple[Untuned, ...]
    """Those that have defaults for all that is searched, in the order of the standings."""
    target: float
    """The training loss at which the middle competitor ends; what `to_target` counts to. inf where that one learnt nothing."""
    initial: float
    """The mean training loss before the first step."""
    power: Power | None = None
    """What so many trainings tell apart; None where no luck is known."""

    @property
    def tells(self) -> bool:
        """Whether there is anything to compare: somebody learnt, and there is a scale."""
        return self.scale.tells and any(s.learnt for s in self.standings)

    @property
    def stages(self) -> int:
        """How often those that stayed longest were tuned and confirmed: once, but in a race until decided."""
        return max(s.stages for s in self.standings)

    @property
    def undecided(self) -> list[Pair]:
        """The open pairs of the lowest: of whom it is not known whether they are above it. [] where nothing is compared."""
        lowest = self.standings[0]
        if not (self.tells and lowest.learnt):
            return []
        own = [
            p for p in self.pairs if p.first == lowest.label and p.difference.error > 0
        ]  # without an error nothing is to be learnt
        return [p for p in own if not (p.is_above or p.verdict() == "same")]

    @property
    def smallest_found(self) -> float | None:
        """The smallest difference that four of five such races find, in the middle pair, in per cent; None where luck is not known."""
        return self.scale.percent(self.power.smallest) if self.power and self.tells else None

    def chance(self, percent: float) -> float | None:
        """The chance that such a race finds a difference of so many per cent, in the middle pair; None where luck is not known."""
        return self.power.chance(self.scale.least(percent / 100)) if self.power and self.tells else None

    def standing(self, label: str) -> Standing:
        """Where a competitor stands. Raises `UnknownNameError`."""
        where = f" of {self.problem}, {self.schedule}"
        return named("competitor", label, {s.label: s for s in self.standings}, where=where)

    def pair(self, a: str, b: str) -> Pair:
        """The pair of two labels. Raises `InputError` where they are not two of this cell."""
        for label in (a, b):
            self.standing(label)
        if a == b:
            raise InputError("pair", expected="two labels", got=f"{a!r} twice")
        return next(p for p in self.pairs if {p.first, p.second} == {a, b})

    def in_words(self) -> str:
        """Who is lowest, and who cannot be told apart from it, in a line."""
        best, others = self.standings[0], len(self.standings) - 1
        within = f" {interval(best.low, best.high, '.5g')}" if best.low is not None else ""
        ending = f"{len(self.level_with_best) - 1} of {counted(others, 'other')} cannot be told apart from it"
        if not others:
            ending = "nobody to compare it with"
        if not self.tells:
            ending = "nobody learnt anything"
        where = f"{self.problem}, {self.schedule}, {self.measure.loss}"
        return f"{where}: {best.label} {best.loss:.5g}{within}; {ending}"

    @property
    def level_with_best(self) -> list[str]:
        """Who cannot be told apart from the lowest loss, that one included."""
        best = self.standings[0].label
        return [best, *(p.second for p in self.pairs if p.first == best and not p.is_above)]


def placed(cells: Iterable[Cell]) -> Iterator[tuple[str, Standing]]:
    """Each standing of some cells, with the problem and the schedule in words."""
    for cell in cells:
        for standing in cell.standings:
            yield f"{cell.problem}, {cell.schedule}", standing


def known(value: float | None, form: str, unknown: str = "-") -> str:
    """A number in words; `unknown` where it is not known."""
    return unknown if value is None else f"{value:{form}}"


def interval(low: float | None, high: float | None, form: str = ".4g", unknown: str = "-") -> str:
    """An interval in words, [0.1, 0.2]; `unknown` where its ends are not known."""
    return unknown if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def record(pair: Pair) -> dict[str, Any]:
    """A pair as plain values."""
    percent, low, high = pair.percent
    about = {"first": pair.first, "second": pair.second, "percent": percent, "interval": [low, high]}
    return {
        **about,
        "p": pair.p_real,
        "p_overall": pair.p_overall,
        "verdict": pair.verdict(),
        "studies_needed": pair.studies_needed,
    }
