"""What printed Triton kernels call: reading and writing a chunk, random numbers, functions that Triton lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl
from triton.backends import backends

_jit: Callable[[Any], Any] = triton.jit
COMPILERS: tuple[str, ...] = tuple(sorted(backends))
"""For whose cards this Triton compiles."""

# One instruction moves 16 bytes per thread where the compiler knows that a chunk is whole and that its first address is a multiple of
# 16. Neither follows from an address out of a table, so a kernel asks both of each chunk, and has a branch for either answer.


@_jit
def cells(address, dtype: tl.constexpr, whole: tl.constexpr):  # type: ignore[no-untyped-def]  # typed by Triton
    """The pointer to a column's first element. The hint must stand here: on the pointer itself, and only where it was asked."""
    pointer = address.to(tl.pointer_type(dtype))
    if whole:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@_jit
def read(pointers, inside, whole: tl.constexpr):  # type: ignore[no-untyped-def]  # typed by Triton
    """The elements of a chunk, 0 where there is none."""
    if whole:
        found = tl.load(pointers)
    else:
        found = tl.load(pointers, mask=inside, other=0.0)
    return found


@_jit
def write(pointers, values, inside, whole: tl.constexpr):  # type: ignore[no-untyped-def]  # typed by Triton
    """Write the elements of a chunk."""
    if whole:
        tl.store(pointers, values)
    else:
        tl.store(pointers, values, mask=inside)


@_jit
def number16(k, word, step, tensor, seed):  # type: ignore[no-untyped-def]  # typed by Triton
    """The random number of 16 bits of each element k, as `rounding.numbers16`; each number of a block of eight computes the block."""
    block = k >> 3
    draw = tl.full((), word, tl.uint32)
    high = ((block >> 32) & 0xFFFF).to(tl.uint32) + draw
    none = tl.zeros_like(high)
    a, b, c, d = tl.philox(seed, block.to(tl.uint32), high, none + step.to(tl.uint32), none + tensor.to(tl.uint32))
    found = tl.where((k & 4) == 0, tl.where((k & 2) == 0, a, b), tl.where((k & 2) == 0, c, d))
    return tl.where((k & 1) == 0, found & 0xFFFF, found >> 16)


@_jit
def by_chance_bfloat16(x, random):  # type: ignore[no-untyped-def]  # typed by Triton
    """float32 rounded by a random number, as `rounding.rounded`."""
    bits = (x.to(tl.uint32, bitcast=True) + random) & 0xFFFF0000
    return tl.where(x != x, x, bits.to(tl.float32, bitcast=True)).to(tl.bfloat16)


@_jit
def by_chance_float16(x, random):  # type: ignore[no-untyped-def]  # typed by Triton
    """The same to float16."""
    size = tl.abs(x)
    whole = tl.floor(size * 16777216.0)
    part = size * 16777216.0 - whole
    small = (
        whole + tl.where(part > (random.to(tl.float32) + 0.5) * 1.52587890625e-05, 1.0, 0.0)
    ) * 5.9604644775390625e-08
    sign = x.to(tl.uint32, bitcast=True) & 0x80000000
    small = (small.to(tl.uint32, bitcast=True) | sign).to(tl.float32, bitcast=True)
    large = (x.to(tl.uint32, bitcast=True) + (random & 0x1FFF)) & 0xFFFFE000
    found = tl.where(size < 6.103515625e-05, small, large.to(tl.float32, bitcast=True))
    return tl.where(x != x, x, found).to(tl.float16)


@_jit
def power(a, b):  # type: ignore[no-untyped-def]  # typed by Triton
    """a to the power b, as C's pow: in float64, of the absolute value, with the sign put back for odd whole powers."""
    x = a.to(tl.float64)
    y = b.to(tl.float64)
    whole = y == tl.floor(y)
    odd = whole & (tl.floor(y * 0.5) * 2.0 != y)
    size = tl.exp(y * tl.log(tl.abs(x)))
    size = tl.where(y == 0.0, 1.0, tl.where(x == 1.0, 1.0, size))
    signed = tl.where(x < 0.0, tl.where(whole, tl.where(odd, -size, size), float("nan")), size)
    return signed.to(a.dtype)


@_jit
def expm1(x):  # type: ignore[no-untyped-def]  # typed by Triton
    """e^x - 1 of a float64 without cancellation: (u - 1) x / log(u), where u is e^x as rounded (Kahan)."""
    u = tl.exp(x)
    near = tl.where(u == 1.0, x, (u - 1.0) * x / tl.log(tl.where(u == 1.0, 2.0, u)))
    return tl.where(u - 1.0 == -1.0, -1.0, near)


@_jit
def tanh(x):  # type: ignore[no-untyped-def]  # typed by Triton
    """(1 - e^-2a) / (1 + e^-2a) of a = |x|, in float64, with the sign of x."""
    wide = x.to(tl.float64)
    below = expm1(-2.0 * tl.minimum(tl.abs(wide), 40.0))
    size = -below / (2.0 + below)
    size = tl.where(wide != wide, wide, size)
    return tl.where(wide < 0.0, -size, tl.where(wide == 0.0, wide, size)).to(x.dtype)


@_jit
def atan2(y, x):  # type: ignore[no-untyped-def]  # typed by Triton
    """The angle of (x, y), in float64: half the angle twice, then the series of the arc tangent, all below tan(pi / 16)."""
    a = y.to(tl.float64)
    b = x.to(tl.float64)
    v, u = tl.abs(a), tl.abs(b)
    low, high = tl.where(v < u, v, u), tl.where(v < u, u, v)
    r = tl.where(high == 0.0, 0.0, tl.where(v == u, 1.0, low / tl.where(high == 0.0, 1.0, high)))
    r = r / (1.0 + tl.sqrt(1.0 + r * r))
    r = r / (1.0 + tl.sqrt(1.0 + r * r))
    s = r * r
    series = tl.zeros_like(r)
    for k in tl.static_range(12):
        series = 1.0 / (23.0 - 2.0 * k) - s * series
    angle = 4.0 * r * series
    angle = tl.where(v > u, 1.5707963267948966 - angle, angle)
    # The sign of a zero is that of one over it.
    angle = tl.where(tl.where(b == 0.0, 1.0 / b, b) < 0.0, 3.141592653589793 - angle, angle)
    angle = tl.where(tl.where(a == 0.0, 1.0 / a, a) < 0.0, -angle, angle)
    return tl.where(b != b, b, tl.where(a != a, a, angle)).to(x.dtype)
