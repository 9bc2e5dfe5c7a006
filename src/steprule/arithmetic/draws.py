"""What `noise` gives within a step: whoever runs a rule's function says so here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_SUPPLY: ContextVar[Callable[[Any], Any] | None] = ContextVar("noise", default=None)


@contextmanager
def drawing(supply: Callable[[Any], Any]) -> Iterator[None]:
    """A block in which each call of `noise` is one of `supply`."""
    token = _SUPPLY.set(supply)
    try:
        yield
    finally:
        _SUPPLY.reset(token)


def supplied() -> Callable[[Any], Any] | None:
    """What gives noise now; None outside a step."""
    return _SUPPLY.get()
