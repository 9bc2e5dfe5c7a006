"""What the sources printed for Numba call beside numbers: memory by address, short floats, exp and tanh.

Numba has no pointer from an address, no bfloat16 and no float16; and its exp and tanh are calls to the C library, one number
at a time, where these run at the width of the vector units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.compiler import Compiler
from numba.extending import intrinsic

from steprule.arithmetic import philox


class Disjoint(Compiler):  # type: ignore[misc]
    """Compiles a function whose arrays do not overlap: what it writes to one, it need not read again from another."""

    def __init__(
        self, typing: Any, target: Any, library: Any, args: Any, returned: Any, flags: Any, names: Any
    ) -> None:
        flags.noalias = True
        super().__init__(typing, target, library, args, returned, flags, names)


@intrinsic
def pointer(typing: Any, address: Any, dtype: Any) -> Any:
    """The address as a pointer to numbers of this dtype."""
    kind = types.CPointer(dtype.instance_type)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return kind(types.int64, dtype), generate


@intrinsic
def enter(typing: Any, function: Any, first: Any, end: Any, others: Any) -> Any:
    """Call a function that Numba compiled, and that returns nothing, at its address: with two whole numbers and what a tuple holds."""
    kinds = (first, end, *others.types)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.call_conv.get_function_type(types.void, kinds)
        given = [*args[1:3], *cgutils.unpack_tuple(builder, args[3], len(others))]
        target = builder.inttoptr(args[0], kind.as_pointer())
        context.call_conv.call_function(builder, target, types.void, kinds, given)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, others), generate


@intrinsic
def plus_product(typing: Any, total: Any, a: Any, b: Any) -> Any:
    """total + a b in float64. A loop may add in another order, fixed when it is compiled: so it keeps a row of sums, and fuses."""
    kind = types.float64

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        product = builder.fmul(*args[1:], flags=["contract"])
        return builder.fadd(args[0], product, flags=["reassoc", "contract"])

    return kind(kind, kind, kind), generate


def _bitcast(source: Any, target: Any, make: Callable[[], Any]) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], make())

    return target(source), generate


@intrinsic
def _float_of(typing: Any, bits: Any) -> Any:
    return _bitcast(types.uint32, types.float32, ir.FloatType)


@intrinsic
def _bits_of(typing: Any, number: Any) -> Any:
    return _bitcast(types.float32, types.uint32, lambda: ir.IntType(32))


@intrinsic
def from_half(typing: Any, bits: Any) -> Any:
    """float16, as its bits, as float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def to_half(typing: Any, number: Any) -> Any:
    """float32 rounded to float16, to the nearest and on a tie to even, as its bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), generate


@njit(inline="always")
def from_bits16(bits: Any) -> Any:
    """bfloat16, as its bits, as float32: they are its upper half."""
    return _float_of(np.uint32(bits) << np.uint32(16))


@njit(inline="always")
def to_bits16(number: Any) -> Any:
    """float32 rounded to bfloat16, to the nearest and on a tie to even, as its bits; any nan becomes torch's."""
    bits = _bits_of(number)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.uint16(np.uint32(0x7FC0) if number != number else rounded)


# Stochastic rounding: by a random number of 16 bits to one of the two neighbours, the nearer one more often.

# Inlined, so that LLVM computes several blocks at once: five times as fast as by calls.
_philox, _counter, _key_of = (njit(f, inline="always") for f in (philox.philox, philox.counter, philox.key_of))


@njit
def fill16(found: Any, first: int, draw: int, step: int, tensor: int, seed: int) -> None:
    """Random numbers of 16 bits for elements `first` and those behind it; `first` is a multiple of 8, as is the room in `found`."""
    block = first >> 3
    _, _, c, d = _counter(block, draw, step, tensor)
    key, other = _key_of(seed)
    for k in range(len(found) // 8):
        a, b, _, _ = _counter(block + k, draw, step, tensor)
        words = _philox(a, b, c, d, key, other)
        for j in range(4):
            found[8 * k + 2 * j] = words[j] & 0xFFFF
            found[8 * k + 2 * j + 1] = words[j] >> 16


@njit
def number16(element: int, draw: int, step: int, tensor: int, seed: int) -> Any:
    """The random number of one element."""
    a, b, c, d = _counter(element >> 3, draw, step, tensor)
    key, other = _key_of(seed)
    words = _philox(a, b, c, d, key, other)
    word = words[(element >> 1) & 3]
    return np.uint16((word >> 16) & 0xFFFF if element & 1 else word & 0xFFFF)


@njit(inline="always")
def to_bits16_by(number: Any, random: Any) -> Any:
    """float32 to bfloat16, up with the probability that its lower half is of a whole, as bits; any nan becomes torch's."""
    rounded = (_bits_of(number) + np.uint32(random)) >> np.uint32(16)
    return np.uint16(np.uint32(0x7FC0) if number != number else rounded)


@njit(inline="always")
def to_half_by(number: Any, random: Any) -> Any:
    """The same to float16: of 13 bits that are dropped, or below 2^-14, where its numbers are 2^-24 apart, of the part behind the point."""
    size = np.abs(number)
    whole = np.floor(size * np.float32(2.0**24))
    part = size * np.float32(2.0**24) - whole
    whole += (
        np.float32(1.0) if part > (np.float32(random) + np.float32(0.5)) * np.float32(2.0**-16) else np.float32(0.0)
    )
    small = np.copysign(whole * np.float32(2.0**-24), number)
    large = _float_of((_bits_of(number) + (np.uint32(random) & np.uint32(0x1FFF))) & np.uint32(0xFFFFE000))
    rounded = small if size < np.float32(2.0**-14) else large
    return to_half(number if number != number else rounded)


# exp and tanh in float32, within 2 and 4 ulp; nan goes through, exp overflows to inf and underflows to 0.

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # nine bits: n times it is exact
_LN2_LOW = np.float32(-2.1219444005469057e-4)


@njit(inline="always")
def _expm1_reduced(r: Any) -> Any:
    """e^r - 1 for |r| <= ln(2) / 2, by its Taylor series up to r^7 / 7!: the rest is below 1e-8 of it."""
    q = np.float32(1 / 720) + r * np.float32(1 / 5040)
    q = np.float32(1 / 120) + r * q
    q = np.float32(1 / 24) + r * q
    q = np.float32(1 / 6) + r * q
    q = np.float32(1 / 2) + r * q
    return r + r * r * q


@njit(inline="always")
def _power_of_two(n: Any) -> Any:
    """2^n as a float32, for a whole n in [-126, 127], from its bits."""
    return _float_of(np.uint32((np.int32(n) + np.int32(127)) << np.int32(23)))


@njit(inline="always")
def exp_float32(x: Any) -> Any:
    """e^x: 2^n e^r, where |r| <= ln(2) / 2. Two halves of 2^n, so that neither leaves the range of float32."""
    clamped = np.float32(89.0) if x > np.float32(89.0) else x
    clamped = np.float32(-104.0) if clamped < np.float32(-104.0) else clamped
    n = np.floor(clamped * _LOG2_E + np.float32(0.5))
    r = (clamped - n * _LN2_HIGH) - n * _LN2_LOW
    half = np.floor(n * np.float32(0.5))
    whole = np.float32(1.0) + _expm1_reduced(r)
    return whole * _power_of_two(half) * _power_of_two(n - half)


@njit(inline="always")
def tanh_float32(x: Any) -> Any:
    """(e^2a - 1) / (e^2a + 1) of a = |x|, with the sign of x; e^2a - 1 is formed without cancellation."""
    a = np.float32(-2.0) * x if x < np.float32(0.0) else np.float32(2.0) * x
    a = np.float32(20.0) if a > np.float32(20.0) else a
    n = np.floor(a * _LOG2_E + np.float32(0.5))
    scale = _power_of_two(n)
    minus_one = (scale - np.float32(1.0)) + scale * _expm1_reduced((a - n * _LN2_HIGH) - n * _LN2_LOW)
    size = minus_one / (minus_one + np.float32(2.0))
    return -size if x < np.float32(0.0) else size


@njit(inline="always")
def exp_float64(x: Any) -> Any:
    """e^x, the C library's."""
    return np.exp(x)


@njit(inline="always")
def tanh_float64(x: Any) -> Any:
    """tanh, the C library's."""
    return np.tanh(x)
