"""What is found in a table of runs: standings, pairs with their verdicts, and all problems together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steprule.as_json import finite
from steprule.errors import InputError, named
from steprule.races.cell import CONFIDENCE
from steprule.races.citing.records import Gap
from steprule.races.judging.runs import Array
from steprule.races.judging.scale import Yardstick


@dataclass(frozen=True)
class Pair(Gap):
    """Two methods on one problem: by how much b's value is above a's. In the standings a comes before b."""

    problem: str
    how: str
    """What the test rests on: paired, unpaired, tuning groups, ranks, known noise."""
    runs: tuple[int, int]
    """Of a and of b."""
    runs_needed: int | None
    """Of an open pair: with how many runs of each, tuning groups where there are such, it would be decided with 80 % power, were difference
    and spread as they are here. None for a decided pair, and where more than 10,000 would be needed."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; what is not finite is None."""
        own = super().to_dict()
        first = {name: own[name] for name in ("a", "b", "difference", "low", "high", "verdict")}
        more = {
            "runs_needed": self.runs_needed,
            "problem": self.problem,
            **own,
            "by": self.how,
            "runs": list(self.runs),
        }
        return {**first, **more}


@dataclass(frozen=True)
class Standing:
    """One method on one problem."""

    method: str
    value: float
    """The mean: geometric where ratios are compared. Where a run of the problem diverged, the median, in which that is the worst."""
    low: float
    high: float
    """Its 95 % interval; infinite ends are not known."""
    runs: int
    gone: int
    """How many of the runs diverged."""
    cost: float | None
    """Mean over the runs that state one."""
    learnt: bool | None
    """Whether any run ended below where it began; None where that is not known."""
    values: Array = field(repr=False, compare=False)
    """Of each run as it counts; inf, or -inf where higher is better, where it diverged."""


@dataclass(frozen=True)
class Comparison:
    """One problem."""

    problem: str
    yardstick: Yardstick
    standings: tuple[Standing, ...]
    """The best first."""
    pairs: tuple[Pair, ...]
    """Every two, in the order of the standings."""
    found: float
    """The smallest difference, in the pairs' unit, that as many runs as here find in the middle pair with 80 % power; inf if unknown."""
    by_median: bool
    """Whether standings are medians."""
    spread: float | None
    """Of the middle pair's difference: its standard error is spread / √runs; None where it is not known."""
    freedom: float
    """Its degrees of freedom for each run beyond the first; inf where the noise is known."""
    per_method: float
    """Its runs of each method, or tuning groups."""

    @property
    def level_with_best(self) -> list[str]:
        """Who cannot be told apart from the best, that one included."""
        best = self.standings[0].method
        return [best, *(p.b for p in self.pairs if p.a == best and p.verdict != "real")]

    def pair(self, a: str, b: str) -> Pair:
        """The pair of two methods, in either order. Raises `InputError` where they are not two of this problem."""
        methods = {s.method: s for s in self.standings}
        for name in (a, b):
            named("method", name, methods, where=f" of {self.problem}" if self.problem else "")
        if a == b:
            raise InputError("pair", expected="two methods", got=f"{a!r} twice")
        return next(p for p in self.pairs if {p.a, p.b} == {a, b})


@dataclass(frozen=True)
class Overall:
    """All problems together: the order of methods by their mean rank, and what it is worth."""

    ranks: Mapping[str, float]
    """The mean rank of each method that has runs on every problem, the best first; 1 is best."""
    best_on: Mapping[str, int]
    """On how many problems each is first."""
    problems: int
    p_any: float | None
    """Friedman's p-value of "all rank alike"; None for fewer than three methods."""
    p_pairs: Mapping[tuple[str, str], float]
    """By two methods Wilcoxon's signed-rank p-value over problems, adjusted by Holm; {} for fewer than six problems."""


@dataclass(frozen=True, repr=False)
class Findings:
    """All that was found."""

    comparisons: tuple[Comparison, ...]
    overall: Overall | None
    """None for one problem."""
    measure: str
    is_higher_better: bool
    matters: float
    margin: float | None
    noise: float | None
    columns: Mapping[str, str]
    notes: tuple[str, ...]
    runs: int

    @property
    def compared(self) -> list[str]:
        """Every method once, as they stand on the first problem, then on the next."""
        return list(dict.fromkeys(s.method for c in self.comparisons for s in c.standings))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every two methods on every problem."""
        return tuple(pair for c in self.comparisons for pair in c.pairs)

    @property
    def table(self) -> list[dict[str, Any]]:
        """A row per problem and method, the best first: its value, interval, runs, and how it stands to the best."""
        rows = []
        for c in self.comparisons:
            best = c.standings[0].method
            for s in c.standings:
                against = c.pair(best, s.method).verdict if s.method != best and c.pairs else "best"
                row = {
                    "problem": c.problem,
                    "method": s.method,
                    "value": s.value,
                    "low": s.low,
                    "high": s.high,
                    "runs": s.runs,
                }
                rows.append({**row, "diverged": s.gone, "cost": s.cost, "against_best": against})
        return rows

    def comparison(self, problem: str = "") -> Comparison:
        """That of one problem. Raises `UnknownNameError`."""
        if not problem and len(self.comparisons) == 1:
            return self.comparisons[0]
        return named("problem", problem, {c.problem: c for c in self.comparisons}, where=" of these results")

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; what is not finite is None."""
        overall = None
        if self.overall is not None:
            pairs = [{"a": a, "b": b, "p": p, "verdict": "real" if p < 1 - CONFIDENCE else "open"}
                     for (a, b), p in self.overall.p_pairs.items()]  # fmt: skip
            own = {
                "ranks": dict(self.overall.ranks),
                "best_on": dict(self.overall.best_on),
                "problems": self.overall.problems,
            }
            overall = {**own, "p_any": self.overall.p_any, "pairs": pairs}
        about = {"measure": self.measure, "better": "higher" if self.is_higher_better else "lower", "runs": self.runs}
        asked = {"matters": self.matters, "margin": self.margin, "noise": self.noise, "columns": dict(self.columns)}
        found = {"pairs": [p.to_dict() for p in self.pairs], "table": self.table, "over_problems": overall}
        power = {c.problem: c.found for c in self.comparisons}
        return finite({**found, "smallest_found": power, **about, **asked, "notes": list(self.notes)})
