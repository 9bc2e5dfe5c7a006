"""How numpy arrays compute in a rule: after torch, with integer powers as products and truth values as 0 or 1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from steprule.arithmetic.floats import Real, Truth, Ways, compute_dtype, function_of, literal_power, plain
from steprule.operations import TABLE, Operation, Reduction

_LOGICAL = {np.bitwise_and, np.bitwise_or, np.invert}


class Elements(np.ndarray):
    """A view of an array; `x**3` multiplies, where numpy's own calls `pow`, and a truth value is 0 or 1."""

    def __pow__(self, exponent: Any, modulo: None = None) -> Any:
        return literal_power(self, exponent, pow=lambda a, b: np.power(a, plain(b)), sqrt=np.sqrt)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """numpy's own function, on plain arrays."""
        fit = _truth if ufunc in _LOGICAL else _number
        found = getattr(ufunc, method)(*map(fit, inputs), **options)
        return found.view(Elements) if isinstance(found, np.ndarray) else found


def run(row: Operation, args: Sequence[Any]) -> Any:
    """The value of one operation on arrays."""
    if row.body and not row.numpy:
        return row.body(*args)
    if row.reduction:
        return _reduced(row, args[0])
    fitted = [_truth(x) if k in row.truths else _typed(x, args) for k, x in enumerate(args)]
    return np.asarray(function_of(np, row, row.numpy)(*fitted)).view(Elements)


def ways(p: Any) -> Ways:
    """Arrays go in as `Elements`; float16 is computed in float32."""
    p = np.asarray(p)
    dtype = np.dtype(np.float32) if p.dtype == np.float16 else p.dtype

    def lift(v: Any) -> Any:
        # 0-d arrays decay to numpy scalars at the first operation: they go in as [1].
        return np.atleast_1d(v.astype(dtype, copy=False)).view(Elements) if isinstance(v, np.ndarray) else v

    def back(v: Any, full: bool) -> Any:
        if not isinstance(v, np.ndarray):
            return v
        return np.asarray(v, dtype=dtype if full else p.dtype).reshape(v.shape if p.ndim else ())

    def spread(v: Any) -> Any:
        # -0 adds nothing to a zero of either sign.
        return np.full(p.shape or (1,), -0.0, dtype) + np.asarray(v, dtype)

    return Ways(partial(np.errstate, all="ignore"), dtype, lift, back, spread)


def _truth(x: Any) -> Any:
    if isinstance(x, Elements):
        return x.view(np.ndarray)
    return bool(x) if isinstance(x, Truth) else x


def _number(x: Any) -> Any:
    """A truth value as 0 or 1."""
    if isinstance(x, Elements):
        x = x.view(np.ndarray)
    if isinstance(x, np.ndarray) and x.dtype == np.bool_:
        return x.astype(compute_dtype.get())
    return float(x) if isinstance(x, Real) else x


def _typed(x: Any, args: Sequence[Any]) -> Any:
    if not isinstance(x, float | int):
        return _number(x)
    like = next((a.dtype for a in args if isinstance(a, np.ndarray) and a.dtype != np.bool_), None)
    return np.asarray(x, dtype=like or compute_dtype.get())


def _reduced(row: Operation, x: Any) -> Any:
    """In float64, as kernels do; kept as an array, for a numpy scalar would promote what it meets."""
    of, x = cast(Reduction, row.reduction), _number(x)
    parts = of.each(x.astype(np.float64).view(Elements))
    total = getattr(np, TABLE[of.join].over)(parts.view(np.ndarray), keepdims=True, initial=of.start)
    dtype = np.float64 if row.over_model else x.dtype
    return np.asarray(of.end(total.view(Elements), float(x.size)), dtype=dtype).view(Elements)
