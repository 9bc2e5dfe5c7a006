"""Random numbers from a counter, the same bits everywhere: Philox, and quantiles of the normal distribution.

Every function computes on Python's numbers, numpy's arrays and torch's tensors alike, and Numba compiles it as it stands. Nothing but
products, sums, quotients and roots goes into a number: IEEE 754 fixes their last bit, which it does not of a logarithm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MASK = 0xFFFFFFFF
"""A word has 32 bits. Products of two words need 64: where they wrap around to a negative number, the bits are still right."""
ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
STEPS = 0x9E3779B9, 0xBB67AE85
"""What is added to the key from round to round."""


def philox(a: Any, b: Any, c: Any, d: Any, key: Any, other: Any) -> tuple[Any, Any, Any, Any]:
    """Four random words from a counter of four and a key of two: Philox4x32-10.

    Salmon, Moraes, Dror, Shaw (2011). Parallel random numbers: as easy as 1, 2, 3. https://doi.org/10.1145/2063384.2063405

    >>> [f"{word:08x}" for word in philox(0, 0, 0, 0, 0, 0)]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    for _ in range(ROUNDS):
        x, y = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, c = ((y >> 32) & MASK) ^ b ^ key, ((x >> 32) & MASK) ^ d ^ other
        b, d = y & MASK, x & MASK
        key, other = (key + STEPS[0]) & MASK, (other + STEPS[1]) & MASK
    return a, b, c, d


LN2 = 0.6931471805599453
ROOT_HALF = 0.7071067811865476
ODD = (19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0)
"""The powers of a series, the last one first."""


def logarithm(fraction: Any, exponent: Any) -> Any:
    """The natural logarithm of fraction * 2^exponent, with the fraction from 1/2 to 1; its error is below 1e-15.

    ln(x) = ln(sqrt(1/2)) + 2 artanh((x - sqrt(1/2)) / (x + sqrt(1/2))), and artanh(z) = z + z^3/3 + z^5/5 + ...

    >>> abs(logarithm(0.75, 3) - 1.791759469228055) < 1e-15
    True
    """
    z = (fraction - ROOT_HALF) / (fraction + ROOT_HALF)
    square, series = z * z, z * 0.0
    for k in ODD:
        series = series * square + 1.0 / k
    return (exponent - 0.5) * LN2 + 2.0 * z * series


# Acklam (2003), an algorithm for computing the inverse normal cumulative distribution function: relative error below 1.2e-9.
MIDDLE = (
    -3.969683028665376e01, 2.209460984245205e02, -2.759285104469687e02, 1.383577518672690e02, -3.066479806614716e01,
    2.506628277459239e00,
)  # fmt: skip
MIDDLE_OVER = (
    -5.447609879822406e01, 1.615858368580409e02, -1.556989798598866e02, 6.680131188771972e01, -1.328068155288572e01, 1.0,
)  # fmt: skip
OUTER = (
    -7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e00, -2.549732539343734e00, 4.374664141464968e00,
    2.938163982698783e00,
)  # fmt: skip
OUTER_OVER = (7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e00, 3.754408661907416e00, 1.0)
TAIL = 0.02425
"""The probability below which a quantile lies in the tail."""


def middle(u: Any) -> Any:
    """The quantile of the standard normal distribution at u, from TAIL to 1 - TAIL."""
    q = u - 0.5
    r, up, down = q * q, q * 0.0, q * 0.0
    for value in MIDDLE:
        up = up * r + value
    for value in MIDDLE_OVER:
        down = down * r + value
    return q * up / down


def tail(root: Any) -> Any:
    """The same at u, from 0 to TAIL, given `root`, sqrt(-2 ln u)."""
    up, down = root * 0.0, root * 0.0
    for value in OUTER:
        up = up * root + value
    for value in OUTER_OVER:
        down = down * root + value
    return up / down


def normal(
    word: Any,
    where: Callable[[Any, Any, Any], Any],
    sqrt: Callable[[Any], Any],
    frexp: Callable[[Any], tuple[Any, Any]],
) -> Any:
    """A standard normal number from a word, given as a number of float64: the quantile at (word + 1/2) / 2^32, from -6.3 to 6.3.

    >>> import math
    >>> round(normal(2.0**31 + 2.0**29, lambda c, a, b: a if c else b, math.sqrt, math.frexp), 7)
    0.3186394
    """
    u = (word + 0.5) * 2.0**-32
    nearer = where(u < 0.5, u, 1.0 - u)
    fraction, exponent = frexp(nearer)
    out = tail(sqrt(-2.0 * logarithm(fraction, exponent)))
    return where(nearer < TAIL, where(u < 0.5, out, -out), middle(u))


def counter(block: Any, draw: int, step: int, tensor: int) -> tuple[Any, Any, Any, Any]:
    """The counter of four elements: which four, which draw of the step, the step, and which tensor of the model."""
    return block & MASK, ((block >> 32) & 0xFFFF) + ((draw & 0xFFFF) << 16), step & MASK, tensor & MASK


ROUNDING = 0xFFFF
"""The draw by which a step rounds a parameter, and before it those by which it rounds the slots: no rule draws so often."""
BITS = 16
"""Random bits by which one element is rounded; a block of four words has eight such numbers, the low half of a word before the high one."""


def key_of(seed: Any) -> tuple[Any, Any]:
    """The key of a seed of 64 bits."""
    return seed & MASK, (seed >> 32) & MASK
