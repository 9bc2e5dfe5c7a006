"""Where a race looks for each competitor's hyperparameters: ranges by the kind of number, the same for all.

They are no wider or narrower for one competitor than for another: whoever knows where the best setting lies gains nothing by saying so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from annotated_types import Ge, Gt, Le, Lt

from steprule.hyper import Hyper, Search
from steprule.per_kind import PerKind, taken_apart
from steprule.rules.rule import Rule

RATE = Search(1e-5, 10.0)
"""Of every learning rate: six decades."""
DECADES = 4.0
"""The least width of what is searched logarithmically."""
COMPLEMENT = (0.5, 0.999)
"""The least range of a decay."""
EDGE = 1 / 12
"""A best learning rate this near to an end of its range, half a decade, is not interior."""
SHIFT = 2.0
"""Decades by which a range moves whose best is not interior: moved and not widened, so that the same number of trials lies
as dense for everyone."""


def space_of(rule: Rule | PerKind) -> dict[str, Search]:
    """The range of every number that the rule's own signature has; flags and what is composed with it stay as they are."""
    return widened(declared(rule), {h.name: h for h in _own(rule)}, {})


def declared(rule: Rule | PerKind) -> dict[str, Search]:
    """The same as its annotations name them, or about the defaults."""
    return {h.name: h.search or _around(h) for h in _own(rule) if _tunable(h)}


def _own(rule: Rule | PerKind) -> tuple[Hyper, ...]:
    """The hyperparameters of its own signature, or of its rules'."""
    return rule.own if isinstance(rule, PerKind) else rule.hypers


def widened(space: Mapping[str, Search], hypers: Mapping[str, Hyper], own: Mapping[str, Search]) -> dict[str, Search]:
    """A rule's ranges as a race uses them: the learning rate's its own, the others no narrower than `own`, those of the rule's own
    signature, and than their kind allows."""
    wide = {n: _both(s, own.get(n, s)) for n, s in space.items()}
    return {n: RATE if taken_apart(n)[1] == "lr" else _least(s, hypers[n]) for n, s in wide.items()}


def of_class(space: Mapping[str, Search]) -> dict[str, Search]:
    """The same of a class or factory, which says nowhere what its arguments may be: but for the learning rate the ends are kept."""
    return {n: RATE if n == "lr" else s for n, s in space.items()}


def moved(range_: Search, decades: float) -> Search:
    """The range of the same width, so many decades up or down."""
    factor = 10**decades
    return replace(range_, low=range_.low * factor, high=range_.high * factor)


def _tunable(hyper: Hyper) -> bool:
    return not hyper.is_plain and hyper.given is None and (hyper.search is not None or hyper.default > 0)


def _around(hyper: Hyper) -> Search:
    """A range about the default, for a number whose annotation names none."""
    low, high = _bounds(hyper)
    if low >= 0 and high <= 1:
        return Search(*COMPLEMENT, "complement") if hyper.default >= 0.5 else Search(low, high, "linear")
    return Search(hyper.default * 1e-2, hyper.default * 1e2)


def _both(one: Search, other: Search) -> Search:
    """The least range that holds both; the one where the other has another scale."""
    return (
        replace(one, low=min(one.low, other.low), high=max(one.high, other.high)) if one.scale == other.scale else one
    )


def _least(space: Search, hyper: Hyper) -> Search:
    """The range, or about its middle the least that its scale allows, as far as the number may go."""
    low, high = _bounds(hyper)
    if space.scale == "complement":
        wide = min(space.low, COMPLEMENT[0]), max(space.high, COMPLEMENT[1])
        return replace(space, low=max(wide[0], low), high=min(wide[1], high))
    if space.scale == "log":
        missing = max(0.0, DECADES - math.log10(space.high / space.low)) / 2
        return replace(space, low=max(space.low / 10**missing, low), high=min(space.high * 10**missing, high))
    middle, half = (space.low + space.high) / 2, max((space.high - space.low) / 2, abs(space.low + space.high) / 2, 0.5)
    if math.isfinite(low) and math.isfinite(high):
        return replace(space, low=low, high=high)
    return replace(space, low=max(low, middle - half), high=min(high, middle + half))


def _bounds(hyper: Hyper) -> tuple[float, float]:
    """The least and the greatest value that it may have."""
    low, high = -math.inf, math.inf
    for bound in hyper.bounds:
        match bound:
            case Ge(limit):
                low = float(limit)  # type: ignore[arg-type]
            case Gt(limit):
                low = math.nextafter(float(limit), math.inf)  # type: ignore[arg-type]
            case Le(limit):
                high = float(limit)  # type: ignore[arg-type]
            case Lt(limit):
                high = math.nextafter(float(limit), -math.inf)  # type: ignore[arg-type]
    return low, high
