"""Tables of results as records: who stands where, and by how much each differs from each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steprule.as_json import finite
from steprule.races.cell import CONFIDENCE

NOT_KNOWN = "–"


@dataclass(frozen=True)
class Gap:
    """Two methods that are compared: by how much b's value is above a's. In the standings a comes before b."""

    a: str
    b: str
    difference: float
    """In `unit`; infinite where most runs of one alone diverged."""
    low: float
    high: float
    """Its 95 % interval, not corrected for many pairs; infinite where an end is not known."""
    unit: str
    """"%" of a's value, "% of the fall", or "" for the value's own units."""
    p_real: float
    """Holm's adjusted p-value of "they differ by no more than what matters", over the pairs of the table."""
    p_same: float
    """The same of "they differ by at least what matters"; 1 where no margin is stated."""
    p_overall: float | None = field(default=None, kw_only=True)
    """`p_real` corrected over the pairs of all tables; None where that is not known."""

    @property
    def verdict(self) -> str:
        """real, same (the difference is smaller than what matters) or open."""
        if self.p_real < 1 - CONFIDENCE:
            return "real"
        return "same" if self.p_same < 1 - CONFIDENCE else "open"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; what is not finite is None."""
        own = {"a": self.a, "b": self.b, "difference": self.difference, "low": self.low, "high": self.high}
        overall = {} if self.p_overall is None else {"p_overall": self.p_overall}
        p = {"p_real": self.p_real, "p_same": self.p_same, **overall}
        return finite({**own, "unit": self.unit, "verdict": self.verdict, **p})


@dataclass(frozen=True)
class Place:
    """Where a method stands in a table."""

    method: str
    value: float
    low: float
    high: float
    """Its 95 % interval; infinite ends are not known."""
    gap: Gap | None
    """From the best to it; None of the best itself, and where nothing is compared."""
    said: str
    """How it stands to the best, in a word or a few: "best", "real", "open, 12 needed"."""
    is_level: bool
    """Whether it cannot be told apart from the best; the best cannot be told apart from itself."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further columns: a number, a text, or None for what is not known."""

    @property
    def against(self) -> str:
        """How it stands to the best, with the difference and its interval where there is one: "+5.2 % [+3.1, +7.3] real"."""
        return self.said if self.gap is None else f"{by_how_much(self.gap)} {self.said}"


@dataclass(frozen=True)
class Table:
    """Methods that are compared with each other: one problem, with one schedule where there are such."""

    where: Mapping[str, str]
    """By kind what is compared in it: the problem, the schedule."""
    title: str
    measure: str
    """What the value is, in words."""
    ends: str
    """What the ends of a value's interval are, as a head of a column."""
    standings: tuple[Place, ...]
    """The best first."""
    pairs: tuple[Gap, ...]
    """Every two, in the order of the standings."""
    untuned: tuple[Gap, ...] = ()
    """Each that was tuned, as the first, against itself with nothing tuned."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The columns in words."""
        against = ("against the best",) if self.pairs else ()
        return ("method", self.measure, self.ends, *self.standings[0].more, *against)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The lines in words."""
        return [
            (s.method, number(s.value), within(s.low, s.high), *map(in_words, s.more.values()),
             *([s.against] if self.pairs else []))
            for s in self.standings
        ]  # fmt: skip


STANDINGS, PAIRS, UNTUNED = "standings", "pairs", "untuned"
KINDS = (STANDINGS, PAIRS, UNTUNED)
"""What a frame or a table can be of."""


def records_of(tables: Sequence[Table], of: str) -> list[dict[str, Any]]:
    """The rows of all tables, as plain values; what is not known is None. `of` is one of `KINDS`."""
    found = []
    for table in tables:
        if of == STANDINGS:
            own = [_record(table, place) for place in table.standings]
        else:
            own = [_pair(gap) for gap in gaps_of(table, of)]
        found += [{**table.where, **row} for row in own]
    return found


def gaps_of(table: Table, of: str) -> tuple[Gap, ...]:
    """The pairs of a table, or those of the tuned and the untuned."""
    return table.untuned if of == UNTUNED else table.pairs


def columns_of(tables: Sequence[Table], of: str) -> list[str]:
    """The columns of those rows, also where there is none."""
    found = list(dict.fromkeys(name for row in records_of(tables, of) for name in row))
    return found or [*tables[0].where, *Gap("", "", 0.0, 0.0, 0.0, "", 1.0, 1.0).to_dict()]


def _pair(gap: Gap) -> dict[str, Any]:
    """Without the list of its runs, which fits in no cell."""
    return {name: value for name, value in gap.to_dict().items() if name != "runs"}


def _record(table: Table, place: Place) -> dict[str, Any]:
    own = {"method": place.method, "measure": table.measure, "value": place.value, "low": place.low, "high": place.high}
    own |= place.more
    if table.pairs:
        gap = place.gap
        difference, low, high = (gap.difference, gap.low, gap.high) if gap else (None, None, None)
        own |= {"difference": difference, "difference_low": low, "difference_high": high}
        own |= {"unit": gap.unit if gap else "", "against_best": gap.verdict if gap else place.said}
    return finite(own)


def number(value: float, digits: int = 4) -> str:
    """A number in words; one that is not known is a dash.

    >>> number(0.123456), number(float("inf")), number(float("nan"))
    ('0.1235', 'diverged', '–')
    """
    if math.isfinite(value):
        return f"{value:.{digits}g}"
    return NOT_KNOWN if math.isnan(value) else "diverged"


def within(low: float, high: float, form: str = ".4g") -> str:
    """An interval in words; one of which no end is known is a dash, an open end is …

    >>> within(1.0, 2.0), within(-float("inf"), 2.0), within(-float("inf"), float("inf"))
    ('[1, 2]', '[…, 2]', '–')
    """
    if not (math.isfinite(low) or math.isfinite(high)):
        return NOT_KNOWN
    return f"[{', '.join(f'{v:{form}}' if math.isfinite(v) else '…' for v in (low, high))}]"


def by_how_much(gap: Gap) -> str:
    """A difference in words: "+5.2 % [+3.1, +7.3]"."""
    unit = f" {gap.unit}" if gap.unit else ""
    if math.isnan(gap.difference):
        return NOT_KNOWN
    if not math.isfinite(gap.difference):
        return "diverged" if gap.difference > 0 else "less"
    form = "+.1f" if gap.unit and abs(gap.difference) < 1e4 else "+.3g"
    ends = within(gap.low, gap.high, form)
    return f"{gap.difference:{form}}{unit}" + ("" if ends == NOT_KNOWN else f" {ends}")


def in_words(value: Any) -> str:
    """A value of a further column in words."""
    if value is None:
        return NOT_KNOWN
    return number(value) if isinstance(value, float) else str(value)
