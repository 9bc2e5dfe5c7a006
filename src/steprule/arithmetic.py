"""How the numbers a rule may meet compute: Python floats, numpy arrays, torch tensors, a class each.

Torch is the reference, so the others follow it: NaN goes through `maximum`, `sign(nan)` is 0, `sqrt(-1)` is nan, a
division by zero is inf or nan, nothing raises, and an integer power is a product. The sign of a zero that comes out of
`maximum(0.0, -0.0)` is not defined: torch itself gives either, depending on where the element lies in a vector.
A truth value that meets a number is the number 0 or 1, of the dtype that the rule computes in.

Neither numpy nor torch is imported here unless a value of that kind has come in.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache, partial
from operator import attrgetter
from typing import Any, cast

from steprule.operations import TABLE, Operation, Reduction

HIGHEST_PRODUCT = 64  # a literal exponent up to this is a product; beyond it `pow` is as exact and shorter


def literal_power(x: Any, exponent: Any, *, pow: Callable[[Any, Any], Any], sqrt: Callable[[Any], Any]) -> Any:
    """x**exponent as every target computes it: a product for a literal whole number, a root for 0.5, as torch; else `pow`."""
    if is_product(exponent) and exponent != 0:
        return integer_power(x, int(exponent))
    return sqrt(x) if type(exponent) is float and exponent == 0.5 else pow(x, exponent)


def is_product(exponent: object) -> bool:
    """Whether `x**exponent` is a product: a literal whole number. (The step `t` is a `Real`, never a literal.)"""
    if type(exponent) is not int and type(exponent) is not float:
        return False
    return abs(exponent) <= HIGHEST_PRODUCT and exponent == int(exponent)


def integer_power(x: Any, exponent: int) -> Any:
    """x**exponent by multiplication; squares first, so that every target multiplies in the same order. Not for 0."""
    if exponent < 0:
        return 1 / integer_power(x, -exponent)
    if exponent <= 3:
        return x if exponent == 1 else x * x if exponent == 2 else x * x * x
    half = integer_power(x * x, exponent // 2)
    return half * x if exponent % 2 else half


class Real(float):
    """A Python float that computes as IEEE 754 says: where Python would raise, it gives inf or nan."""

    __slots__ = ()
    __array_ufunc__ = None  # numpy then leaves `array * Real` to us, and float32 stays float32

    def __add__(self, other: Any) -> Any:
        return Real(float(self) + other) if isinstance(other, float | int) else float(self) + other

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        return Real(float(self) * other) if isinstance(other, float | int) else float(self) * other

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Any:
        return Real(float(self) - other) if isinstance(other, float | int) else float(self) - other

    def __rsub__(self, other: Any) -> Any:
        return Real(other - float(self)) if isinstance(other, float | int) else other - float(self)

    def __truediv__(self, other: Any) -> Any:
        return Real(_divide(self, other)) if isinstance(other, float | int) else float(self) / other

    def __rtruediv__(self, other: Any) -> Any:
        return Real(_divide(other, self)) if isinstance(other, float | int) else other / float(self)

    def __pow__(self, other: Any, modulo: None = None) -> Any:
        if not isinstance(other, float | int):
            return float(self) ** other
        return literal_power(self, other, pow=lambda a, b: Real(power(a, b)), sqrt=lambda x: apply("sqrt", x))

    def __rpow__(self, other: Any, modulo: None = None) -> Any:
        return Real(power(other, self)) if isinstance(other, float | int) else other ** float(self)

    def __neg__(self) -> Real:
        return Real(-float(self))

    def __pos__(self) -> Real:
        return self

    def __abs__(self) -> Real:
        return Real(abs(float(self)))

    def __mod__(self, other: Any) -> Any:
        return Real(_modulo(self, other)) if isinstance(other, float | int) else NotImplemented

    def __rmod__(self, other: Any) -> Any:
        return Real(_modulo(other, self)) if isinstance(other, float | int) else NotImplemented

    def __floordiv__(self, other: Any) -> Any:
        return Real(_floor_divide(self, other)) if isinstance(other, float | int) else NotImplemented

    def __rfloordiv__(self, other: Any) -> Any:
        return Real(_floor_divide(other, self)) if isinstance(other, float | int) else NotImplemented

    # A comparison with an array is the array's; one of two numbers is a `Truth`.

    def __eq__(self, other: Any) -> Any:
        return Truth(float(self) == other) if isinstance(other, float | int) else NotImplemented

    def __ne__(self, other: Any) -> Any:
        return Truth(float(self) != other) if isinstance(other, float | int) else NotImplemented

    __hash__ = float.__hash__

    def __lt__(self, other: Any) -> Any:
        return _truth(float(self) < _plain(other))

    def __le__(self, other: Any) -> Any:
        return _truth(float(self) <= _plain(other))

    def __gt__(self, other: Any) -> Any:
        return _truth(float(self) > _plain(other))

    def __ge__(self, other: Any) -> Any:
        return _truth(float(self) >= _plain(other))


class Truth(Real):
    """A truth value: the number 0 or 1 where it meets a number, and `~` is "not", where Python's own bool has -1 and -2."""

    __slots__ = ()

    def __and__(self, other: Any) -> Any:
        return Truth(bool(self) and bool(other)) if isinstance(other, bool | Truth) else bool(self) & other

    __rand__ = __and__

    def __or__(self, other: Any) -> Any:
        return Truth(bool(self) or bool(other)) if isinstance(other, bool | Truth) else bool(self) | other

    __ror__ = __or__

    def __invert__(self) -> Truth:
        return Truth(not self)


def _truth(found: Any) -> Any:
    return Truth(found) if isinstance(found, bool) else found


def _plain(value: Any) -> Any:
    """numpy and torch take a number of our own kind for no number."""
    return float(value) if isinstance(value, Real) else value


def _divide(a: float, b: float) -> float:
    a, b = float(a), float(b)
    if b != 0:
        return a / b
    return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)


def _modulo(a: float, b: float) -> float:
    a, b = float(a), float(b)
    return math.nan if b == 0 or math.isinf(a) else a % b


def _floor_divide(a: float, b: float) -> float:
    a, b = float(a), float(b)
    return _divide(a, b) if b == 0 or math.isinf(a) else a // b


def power(a: float, b: float) -> float:
    """a**b on floats as C's pow: it never raises."""
    a, b = float(a), float(b)
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and b % 2 == 1 else math.inf
    except ValueError:  # 0 to a negative power, or a negative number to a power that is not whole
        return math.nan if a != 0 else math.copysign(math.inf, a) if b % 2 == 1 else math.inf


class FloatArithmetic:
    """Operations on Python floats."""

    @staticmethod
    def run(row: Operation, args: Sequence[Any]) -> Any:
        """The value of one operation."""
        if row.floats is not None:
            return _real(quiet(row.floats)(*args))
        body = row.reduction.of_one if row.reduction else cast(Callable[..., Any], row.body)
        return body(*map(_real, args))


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of floats that gives inf or nan where Python's would raise."""

    def never_raising(*args: Any) -> Any:
        try:
            return function(*args)
        except OverflowError:
            return math.inf
        except ValueError:
            return math.nan

    return never_raising


def _real(x: Any) -> Any:
    return Real(x) if type(x) in (float, int) else x


@cache
def numpy_arithmetic() -> Any:
    """Operations on numpy arrays, and the array class whose integer powers are products."""
    import numpy as np

    class Elements(np.ndarray):
        """A view of an array; `x**3` multiplies, where numpy's own calls `pow`, and a truth value is 0 or 1."""

        def __pow__(self, exponent: Any, modulo: None = None) -> Any:
            return literal_power(self, exponent, pow=lambda a, b: np.power(a, _plain(b)), sqrt=np.sqrt)

        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
            fit = truth if ufunc in _logical else number
            found = getattr(ufunc, method)(*map(fit, inputs), **options)
            return found.view(Elements) if isinstance(found, np.ndarray) else found

    _logical = {np.bitwise_and, np.bitwise_or, np.invert}

    def truth(x: Any) -> Any:
        return x.view(np.ndarray) if isinstance(x, Elements) else bool(x) if isinstance(x, Truth) else x

    def number(x: Any) -> Any:
        """A truth value as 0 or 1."""
        if isinstance(x, Elements):
            x = x.view(np.ndarray)
        if isinstance(x, np.ndarray) and x.dtype == np.bool_:
            return x.astype(_compute_dtype.get())
        return float(x) if isinstance(x, Real) else x

    class NumpyArithmetic:
        array = Elements

        @staticmethod
        def run(row: Operation, args: Sequence[Any]) -> Any:
            if row.body and not row.numpy:
                return row.body(*args)
            if row.reduction:
                return _reduced(row, args[0])
            found = _function_of(np, row, row.numpy)(
                *(truth(x) if k in row.truths else typed(x, args) for k, x in enumerate(args))
            )
            return np.asarray(found).view(Elements)

    def typed(x: Any, args: Sequence[Any]) -> Any:
        if not isinstance(x, float | int):
            return number(x)
        like = next((a.dtype for a in args if isinstance(a, np.ndarray) and a.dtype != np.bool_), None)
        return np.asarray(x, dtype=like or _compute_dtype.get())

    def _reduced(row: Operation, x: Any) -> Any:
        """In float64, as kernels do; kept as an array, for a numpy scalar would promote what it meets."""
        of, x = cast(Reduction, row.reduction), number(x)
        parts = of.each(x.astype(np.float64).view(Elements))
        total = getattr(np, TABLE[of.join].over)(parts.view(np.ndarray), keepdims=True, initial=of.start)
        return np.asarray(of.end(total.view(Elements), float(x.size)), dtype=x.dtype).view(Elements)

    return NumpyArithmetic


def _function_of(library: Any, row: Operation, column: str | Callable[..., Any]) -> Callable[..., Any]:
    """The library's function for a row, from what its column says."""
    if callable(column):
        return partial(column, library)
    return cast(Callable[..., Any], attrgetter(column or row.name)(library))


@cache
def torch_arithmetic() -> Any:
    """Operations on torch tensors, and the mode under which integer powers of tensors are products."""
    import torch
    from torch.overrides import TorchFunctionMode

    def named(*names: str) -> frozenset[Any]:
        return frozenset(getattr(of, name) for of in (torch, torch.Tensor) for name in names if hasattr(of, name))

    signs = [row for row in TABLE.values() if row.sign]
    on_truths, on_numbers = (
        named(
            *(n.format(row.method) for row in signs if bool(row.truths) is wanted for n in ("__{}__", "__r{}__")), *more
        )
        for wanted, more in [
            (True, ["bitwise_not", "bitwise_and", "bitwise_or"]),
            (False, [*(row.name for row in signs), "abs", "positive", "rsub", "__pos__", "__abs__"]),
        ]
    )
    powers = named("pow", "__pow__")

    class Products(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in on_numbers:
                args = tuple(map(number, args))
            elif func in on_truths:
                args = tuple(bool(x) if isinstance(x, Truth) else x for x in args)
            if func in powers and is_product(args[1]) and args[1] != 0:
                return integer_power(args[0], int(args[1]))
            return func(*args, **(kwargs or {}))

    def number(x: Any) -> Any:
        """A truth value as 0 or 1."""
        if isinstance(x, torch.Tensor):
            return x.to(_compute_dtype.get() or torch.get_default_dtype()) if x.dtype is torch.bool else x
        return float(x) if isinstance(x, Truth) else x

    def truth(x: Any, like: Any) -> Any:
        return x if isinstance(x, torch.Tensor) else torch.tensor(bool(x), device=like.device)

    def typed(x: Any, like: Any) -> Any:
        x = number(x)
        return x if isinstance(x, torch.Tensor) else torch.tensor(float(x), dtype=like.dtype, device=like.device)

    class TorchArithmetic:
        products = Products

        @staticmethod
        def run(row: Operation, args: Sequence[Any]) -> Any:
            if row.body and not row.torch:
                return row.body(*args)
            if row.reduction:
                return _reduced(row, number(args[0]))
            like = number(next(x for x in args if isinstance(x, torch.Tensor)))
            fitted = (truth(x, like) if k in row.truths else typed(x, like) for k, x in enumerate(args))
            return _function_of(torch, row, row.torch)(*fitted)

    def _reduced(row: Operation, x: Any) -> Any:
        """In float64, where the device has it: the squares of 1e20 are beyond float32, their root is not."""
        wide = x if x.device.type == "mps" else x.to(torch.float64)
        if row.torch:
            return _function_of(torch, row, row.torch)(wide).to(x.dtype)
        return reduced_over(row, wide.reshape(-1), 0).to(x.dtype)

    return TorchArithmetic


def reduced_over(row: Operation, x: Any, dim: int) -> Any:
    """A reduction of a tensor along a dimension, in its dtype."""
    import torch

    of = cast(Reduction, row.reduction)
    parts, count = of.each(x), x.shape[dim]
    total = getattr(torch, TABLE[of.join].over)(parts, dim) if count else parts.sum(dim) + of.start
    return of.end(total, float(count))


def apply(name: str, *args: Any) -> Any:
    """A function of the table on numbers of any kind; a symbol records it instead."""
    for arg in args:
        if hasattr(type(arg), "steprule_apply"):
            return arg.steprule_apply(name, *args)
    return arithmetic_of(*args).run(TABLE[name], args)


# The dtype in which the rule at work computes: a `where` of two plain numbers has no tensor to take it from.
_compute_dtype: ContextVar[Any] = ContextVar("compute_dtype", default=None)


def arithmetic_of(*values: object) -> Any:
    """The class above that serves `values`: torch's if one is a tensor, else numpy's if one is an array, else floats'."""
    torch = sys.modules.get("torch")
    if torch is not None and any(isinstance(v, torch.Tensor) for v in values):
        return torch_arithmetic()
    numpy = sys.modules.get("numpy")
    if numpy is not None and any(isinstance(v, numpy.ndarray) for v in values):
        return numpy_arithmetic()
    return FloatArithmetic


@contextmanager
def computing_in(dtype: Any) -> Iterator[None]:
    """Torch computes as in a rule, in this dtype."""
    token = _compute_dtype.set(dtype)
    try:
        with torch_arithmetic().products():
            yield
    finally:
        _compute_dtype.reset(token)


@contextmanager
def computing(p: Any, values: list[Any]) -> Iterator[tuple[list[Any], Callable[..., Any]]]:
    """The values as a rule computes with them, beside `p`, and the way back for what it returns.

    bfloat16 and float16 are computed in float32; the way back rounds to the dtype of `p`, once, at the store, unless it is told
    `full`: then the dtype stays the one computed with. What is told to be of an `element` gets the shape of `p`.
    """
    kind = arithmetic_of(p)
    guard, dtype, lift, back, spread = (
        _torch_ways(p) if hasattr(kind, "products") else _numpy_ways(p) if kind is not FloatArithmetic else _FLOAT_WAYS
    )
    token = _compute_dtype.set(dtype)
    try:
        with guard():
            lifted = [Real(v) if type(v) in (float, int) else lift(v) for v in values]
            taken = [v for v in lifted if not isinstance(v, float | int)]

            def lowered(v: Any, full: bool = False, element: bool = False) -> Any:
                if element and hasattr(p, "shape") and getattr(v, "shape", None) != p.shape:
                    v = spread(v, p)
                if isinstance(v, Real):
                    return float(v)
                found = back(v, full)
                if hasattr(found, "shape"):
                    # A rule maps values to values: what it hands back is never what it was given, nor another result.
                    if any(v is one for one in taken):
                        found = found.clone() if hasattr(found, "clone") else found.copy()
                    taken.append(v)
                return found

            yield lifted, lowered
    finally:
        _compute_dtype.reset(token)


_FLOAT_WAYS: tuple[Any, ...] = (nullcontext, None, lambda v: v, lambda v, full: v, lambda v, p: v)


def _numpy_ways(p: Any) -> tuple[Any, ...]:
    import numpy as np

    p = np.asarray(p)
    dtype = np.dtype(np.float32) if p.dtype == np.float16 else p.dtype

    def lift(v: Any) -> Any:  # 0-d arrays decay to numpy scalars at the first operation: they go in as [1]
        return (
            np.atleast_1d(v.astype(dtype, copy=False)).view(numpy_arithmetic().array)
            if isinstance(v, np.ndarray)
            else v
        )

    def back(v: Any, full: bool) -> Any:
        if not isinstance(v, np.ndarray):
            return v
        return np.asarray(v, dtype=dtype if full else p.dtype).reshape(v.shape if p.ndim else ())

    def spread(v: Any, p: Any) -> Any:
        return np.full(p.shape or (1,), -0.0, dtype) + np.asarray(
            v, dtype
        )  # which adds nothing to a zero of either sign

    return partial(np.errstate, all="ignore"), dtype, lift, back, spread


def _torch_ways(p: Any) -> tuple[Any, ...]:
    import torch

    dtype = torch.float32 if p.dtype in (torch.bfloat16, torch.float16) else p.dtype

    def lift(v: Any) -> Any:
        return v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v

    def back(v: Any, full: bool) -> Any:
        return v.to(dtype if full else p.dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v

    def spread(v: Any, p: Any) -> Any:
        return torch.full_like(p, -0.0, dtype=dtype, requires_grad=False) + v

    return torch_arithmetic().products, dtype, lift, back, spread
