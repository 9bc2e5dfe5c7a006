"""How Python floats compute in a rule, after torch: nothing raises, and a power by a whole number is a product."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, cast

from steprule.errors import InputError
from steprule.operations import TABLE, Operation

# The dtype in which the rule at work computes: a `where` of two plain numbers has no tensor to take it from.
compute_dtype: ContextVar[Any] = ContextVar("compute_dtype", default=None)


@dataclass(frozen=True)
class Ways:
    """How the values beside a parameter come into a rule, and how its results go back."""

    guard: Callable[[], AbstractContextManager[Any]] = nullcontext
    """What the rule runs in."""
    dtype: Any = None
    """In which it computes."""
    lift: Callable[[Any], Any] = lambda value: value
    """A value as the rule computes with it; plain numbers do not come here."""
    back: Callable[[Any, bool], Any] = lambda value, full: value
    """A result in the dtype of the parameter, or, where it is told `full`, in the one computed with."""
    spread: Callable[[Any, tuple[int, ...]], Any] = lambda value, shape: value
    """A result in a shape, the parameter's mostly."""


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
    if exponent == 1:
        return x
    if exponent == 2:
        return x * x
    if exponent == 3:
        return x * x * x
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
        return literal_power(self, other, pow=lambda a, b: Real(power(a, b)), sqrt=lambda x: run(TABLE["sqrt"], (x,)))

    def __rpow__(self, other: Any, modulo: None = None) -> Any:
        return Real(power(other, self)) if isinstance(other, float | int) else other ** float(self)

    # A number is a matrix of one row and one column.

    def __matmul__(self, other: Any) -> Any:
        return self * other if isinstance(other, float | int) else NotImplemented

    __rmatmul__ = __matmul__

    @property
    def T(self) -> Real:  # noqa: N802  # as numpy and torch call it
        """The transpose: the number itself."""
        return self

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
        return _truth(float(self) < plain(other))

    def __le__(self, other: Any) -> Any:
        return _truth(float(self) <= plain(other))

    def __gt__(self, other: Any) -> Any:
        return _truth(float(self) > plain(other))

    def __ge__(self, other: Any) -> Any:
        return _truth(float(self) >= plain(other))


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


def plain(value: Any) -> Any:
    """A number of our own kind as Python's: numpy and torch do not take it for a number."""
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
    except ValueError:  # a negative number to a power that is not whole, or 0 to a negative power
        if a != 0:
            return math.nan
        return math.copysign(math.inf, a) if b % 2 == 1 else math.inf


def run(row: Operation, args: Sequence[Any]) -> Any:
    """The value of one operation on Python floats."""
    if row.of_shape is not None:
        return Real(row.of_shape(()))
    if row.floats is not None:
        return _real(quiet(row.floats)(*args))
    if row.reduction:
        args = args[:1]  # a number along an axis is itself
    body = row.reduction.of_one if row.reduction else cast(Callable[..., Any], row.body)
    return body(*map(_real, args))


def ways(p: Any) -> Ways:
    """Floats go in and come back as they are."""
    return Ways()


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


def not_a_matrix(name: str, shape: tuple[int, ...], axis: bool = False) -> InputError:
    """The error for what takes matrices and met another tensor."""
    sizes = " x ".join(map(str, shape)) or "one number"
    what, expected = (f"{name} along axis=-2", "two axes") if axis else (f"{name} of tensors", "a matrix, of two axes")
    hint = "Test ndim(p) first; or write @rule(as_matrix=True), which sees every tensor as a matrix."
    return InputError(what, expected=expected, got=f"{sizes} ({len(shape)} axes)", hint=hint)


def function_of(library: Any, row: Operation, column: str | Callable[..., Any]) -> Callable[..., Any]:
    """The library's function for a row, from what its column says."""
    if callable(column):
        return partial(column, library)
    return cast(Callable[..., Any], attrgetter(column or row.name)(library))
