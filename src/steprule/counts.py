"""Reads whole numbers as users give them, Python's and numpy's, and says how many there are of something."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import SupportsIndex

from steprule.errors import InputError, InputTypeError, StepruleError


def whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """`value` as Python's int.

    Raises `InputTypeError` for a value that is not a whole number, `InputError` for one below `least` or above `most`.
    """
    bounds = f"{least} or more" if most is None else f"{least:,} to {most:,}"
    try:
        found = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        found = None
    if found is None or isinstance(value, bool):
        raise InputTypeError(name, expected=f"a whole number, {bounds}", got=repr(value))
    if found < least or (most is not None and found > most):
        raise InputError(name, expected=bounds, got=repr(found))
    return found


def counted(number: int, one: str, many: str = "") -> str:
    """How many of something, in words.

    >>> counted(1, "seed"), counted(2_000, "seed"), counted(2, "study", "studies")
    ('1 seed', '2,000 seeds', '2 studies')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def seeds_of(seeds: SupportsIndex | Iterable[int]) -> tuple[int, ...]:
    """The seeds themselves, from how many, from 0, or from themselves. Raises `InputError`, `InputTypeError`."""
    if isinstance(seeds, str) or not isinstance(seeds, Iterable | SupportsIndex):
        raise InputTypeError("seeds", expected="a whole number, or whole numbers", got=repr(seeds))
    if not isinstance(seeds, Iterable) or getattr(seeds, "ndim", 1) == 0:  # an array without dimensions is one number
        return tuple(range(whole("seeds", seeds, 1)))
    given = list(seeds)
    try:
        numbers = tuple(dict.fromkeys(whole("seeds", s, 0) for s in given))
    except StepruleError as error:
        raise InputError("seeds", expected="whole numbers, 0 or more", got=repr(given)) from error
    if not numbers:
        raise InputError("seeds", expected="whole numbers, 0 or more", got="none")
    return numbers
