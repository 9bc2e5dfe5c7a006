"""Numbers beside an axis: where they stand, and how they are written."""

from __future__ import annotations

import math


def ticks(low: float, high: float, count: int) -> list[float]:
    """At most `count` round numbers between two, equally far apart: steps of 1, 2 or 5 times a power of ten.

    >>> ticks(-5.5, 5.5, 6), ticks(0, 20, 6)
    ([-4.0, -2.0, 0.0, 2.0, 4.0], [0.0, 5.0, 10.0, 15.0, 20.0])
    """
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    steps = [power * k for k in (1, 2, 5, 10, 20)]
    step = next(s for s in steps if math.floor(high / s) - math.ceil(low / s) < count)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def powers(low: float, high: float, count: int) -> list[float]:
    """At most `count` powers of ten between two positive numbers, equally far apart; where there are few, twice and five times them too.

    >>> powers(0.003, 2e3, 9), powers(1e-16, 1, 5), powers(4, 70, 6)
    ([0.01, 0.1, 1.0, 10.0, 100.0, 1000.0], [1e-16, 1e-12, 1e-08, 0.0001, 1.0], [5.0, 10.0, 20.0, 50.0])
    """
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    if last - first < 2:
        found = [times * 10.0**k for k in range(first - 1, last + 1) for times in (1, 2, 5)]
        return [value for value in found if low <= value <= high]
    apart = max(1, -(-(last - first + 1) // count))
    return [10.0**k for k in range(last - (last - first) // apart * apart, last + 1, apart)]


def as_power(value: float) -> str:
    """A number on such an axis as people write it: 0.01, 1000, and 10⁻⁸ where that is shorter.

    >>> as_power(100.0), as_power(0.01), as_power(1e-8), as_power(2e-8)
    ('100', '0.01', '10⁻⁸', '2e-08')
    """
    if value <= 0 or 1e-3 <= value <= 3e4:
        return f"{value:g}"
    power = round(math.log10(value))
    return "10" + raised(str(power)) if math.isclose(value, 10.0**power) else f"{value:g}"


def raised(power: str) -> str:
    """A whole number as an exponent is set.

    >>> raised("-12")
    '⁻¹²'
    """
    return power.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
