"""Reads whole numbers as users give them, Python's and numpy's."""

from __future__ import annotations

import operator

from steprule.errors import InputError, InputTypeError


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
