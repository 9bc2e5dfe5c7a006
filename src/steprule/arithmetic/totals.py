"""Totals over a model: what a step knows of them, and what one tensor adds to each."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from steprule.arithmetic.floats import Real

_COMPUTING = ("steprule.maths", "steprule.arithmetic", "steprule.compiler.symbols")
"""The modules between the author's call of `total` and this file."""
_CALLING = ("steprule.rules.rule", "steprule.rules.compensated", "steprule.compiler.tracer")
"""The modules that call a rule's function: numbers and symbols come into it from there."""


@dataclass
class Exchange:
    """What a run of a rule on one tensor is told of the totals, and what it adds to each, by place."""

    known: Mapping[str, float]
    parts: dict[str, float] = field(default_factory=dict)
    places: Places = field(default_factory=lambda: Places())


class Places:
    """Counts the calls of `total` at each place of one run: a loop comes there more than once."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()

    def next(self) -> str:
        """The name of this call: the same for each tensor, and in each variant that comes to it."""
        found = _place()
        self.times[found] += 1
        return found if self.times[found] == 1 else f"{found} #{self.times[found]}"


_under_way: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


@contextmanager
def exchanging(known: Mapping[str, float]) -> Iterator[Exchange]:
    """A block in which a rule runs on one tensor of several: a total that is not known yet is this tensor's part alone."""
    exchange = Exchange(known)
    token = _under_way.set(exchange)
    try:
        yield exchange
    finally:
        _under_way.reset(token)


def joined(part: Any) -> Any:
    """The total, from what this tensor adds to it: that alone where no others are known of."""
    if type(part).__name__ == "DTensor":
        part = part.full_tensor()  # a collective
    exchange = _under_way.get()
    if hasattr(part, "dim") and exchange is None:
        return part  # of torch, 0-dim in float64: `torch.func.vmap` batches it
    number = float(part.item()) if hasattr(part, "item") else float(part)
    if exchange is None:
        return Real(number)
    place = exchange.places.next()
    exchange.parts[place] = number
    return Real(exchange.known.get(place, number))


def asked_by(place: str, code: CodeType) -> bool:
    """Whether it is the function of this code itself that asks for a total."""
    return place.startswith(_name(code))


def _place() -> str:
    """Where the author calls `total`: each function from the rule's own down to that call, with the instruction it is at."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _module(frame).startswith(_COMPUTING):
        frame = frame.f_back
    found = []
    while frame is not None and _module(frame) not in _CALLING:
        found.append(f"{_name(frame.f_code)}{frame.f_lasti}")
        frame = frame.f_back
    return " < ".join(found)


def _name(code: CodeType) -> str:
    return f"{code.co_filename}:{code.co_firstlineno}:{code.co_qualname}+"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
