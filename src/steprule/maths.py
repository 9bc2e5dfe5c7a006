"""The closed vocabulary of a rule: thirteen functions, the same on floats, numpy arrays, torch tensors and symbols.

    sqrt exp log abs sign                 of each element
    minimum maximum clamp lerp where      of each element; both branches of `where` are evaluated
    norm mean sum                         over the whole tensor: one number

All follow torch on NaN, signed zero and inf, and none raises on a value (see `arithmetic.py`). A plain bool as condition
picks in Python.
"""

from __future__ import annotations

from typing import Any

from steprule.arithmetic import arithmetic_of

NAMES = ("sqrt", "exp", "log", "abs", "sign", "minimum", "maximum", "clamp", "lerp", "where", "norm", "mean", "sum")


def sqrt(x: Any) -> Any:
    """The square root; nan below zero."""
    return _apply("sqrt", x)


def exp(x: Any) -> Any:
    """e to the power x; inf on overflow."""
    return _apply("exp", x)


def log(x: Any) -> Any:
    """The natural logarithm; -inf at zero, nan below."""
    return _apply("log", x)


def abs(x: Any) -> Any:
    """The absolute value."""
    return _apply("abs", x)


def sign(x: Any) -> Any:
    """-1, 0 or 1; 0 for nan, as torch."""
    return _apply("sign", x)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two; nan if either is."""
    return _apply("minimum", a, b)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two; nan if either is."""
    return _apply("maximum", a, b)


def clamp(x: Any, low: Any, high: Any) -> Any:
    """x brought into [low, high]; nan if any is nan, `high` where low > high."""
    return _apply("clamp", x, low, high)


def lerp(a: Any, b: Any, weight: Any) -> Any:
    """a + weight (b - a): a weighted mean that equals both ends where they are equal, and b exactly at weight 1.

    As torch, it starts at the nearer end: a up to a weight of 1/2, b from there.
    """
    return _apply("lerp", a, b, weight)


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b. Both are evaluated; a plain bool picks one in Python."""
    return (a if condition else b) if isinstance(condition, bool) else _apply("where", condition, a, b)


def norm(x: Any) -> Any:
    """The Euclidean norm over the whole tensor."""
    return _apply("norm", x)


def mean(x: Any) -> Any:
    """The mean over the whole tensor."""
    return _apply("mean", x)


def sum(x: Any) -> Any:
    """The sum over the whole tensor."""
    return _apply("sum", x)


def _apply(name: str, *args: Any) -> Any:
    for arg in args:
        if hasattr(type(arg), "steprule_apply"):  # a symbol of the tracer records the call instead
            return arg.steprule_apply(name, *args)
    return getattr(arithmetic_of(*args), name)(*args)
