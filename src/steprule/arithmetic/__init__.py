"""How the numbers that a rule may meet compute: Python floats, numpy arrays, torch tensors, one file each.

Torch is the reference, so the others follow it: NaN goes through `maximum`, `sign(nan)` is 0, `sqrt(-1)` is nan, a
division by zero is inf or nan, nothing raises, and an integer power is a product. The sign of a zero that comes out of
`maximum(0.0, -0.0)` is not defined: torch itself gives either, depending on where the element lies in a vector.
A truth value that meets a number is the number 0 or 1, of the dtype that the rule computes in.

Neither numpy nor torch is imported here unless a value of that kind has come in.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from steprule.arithmetic import floats
from steprule.arithmetic.floats import Real, Truth, compute_dtype, integer_power, literal_power, power, quiet
from steprule.arithmetic.totals import asked_by, exchanging, joined
from steprule.operations import TABLE

__all__ = [
    "Real",
    "Truth",
    "apply",
    "asked_by",
    "computing",
    "computing_in",
    "exchanging",
    "integer_power",
    "literal_power",
    "power",
    "quiet",
]


Shape = tuple[int, ...]


def apply(name: str, *args: Any) -> Any:
    """A function of the table on numbers of any kind; a symbol records it instead."""
    for arg in args:
        if hasattr(type(arg), "steprule_apply"):
            return arg.steprule_apply(name, *args)
    found = _kind_of(*args).run(TABLE[name], args)
    return joined(found) if TABLE[name].over_model else found


def _kind_of(*values: object) -> Any:
    """The file that serves `values`: torch's if one is a tensor, else numpy's if one is an array, else that of floats."""
    torch = sys.modules.get("torch")
    if torch is not None and any(isinstance(v, torch.Tensor) for v in values):
        from steprule.arithmetic import tensors

        return tensors
    numpy = sys.modules.get("numpy")
    if numpy is not None and any(isinstance(v, numpy.ndarray) for v in values):
        from steprule.arithmetic import arrays

        return arrays
    return floats


@contextmanager
def computing_in(dtype: Any) -> Iterator[None]:
    """Torch computes as in a rule, in this dtype."""
    from steprule.arithmetic.tensors import Products

    token = compute_dtype.set(dtype)
    try:
        with Products():
            yield
    finally:
        compute_dtype.reset(token)


@contextmanager
def computing(p: Any, values: list[Any]) -> Iterator[tuple[list[Any], Callable[..., Any]]]:
    """The values as a rule computes with them, beside `p`, and the way back for what it returns.

    bfloat16 and float16 are computed in float32; the way back rounds to the dtype of `p`, once, at the store, unless it is told
    `full`: then the dtype stays the one computed with. What is told a shape that the rule has `seen` is spread to that, and comes
    back in its `own`. A number `of_model` stays in float64.
    """
    ways = _kind_of(p).ways(p)
    token = compute_dtype.set(ways.dtype)
    try:
        with ways.guard():
            lifted = [Real(v) if type(v) in (float, int) else ways.lift(v) for v in values]
            taken = [v for v in lifted if not isinstance(v, float | int)]

            def lowered(
                v: Any, full: bool = False, seen: Shape | None = None, own: Shape | None = None, of_model: bool = False
            ) -> Any:
                if seen is not None and getattr(v, "shape", None) != seen:
                    v = ways.spread(v, seen)
                if isinstance(v, Real):
                    return float(v)
                found = v if of_model else ways.back(v, full)
                if own is not None and own != seen:
                    found = found.reshape(own)
                if hasattr(found, "shape"):
                    # A rule maps values to values: what it hands back is never what it was given, nor another result.
                    if any(v is one for one in taken):
                        found = found.clone() if hasattr(found, "clone") else found.copy()
                    taken.append(v)
                return found

            yield lifted, lowered
    finally:
        compute_dtype.reset(token)
