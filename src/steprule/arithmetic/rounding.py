"""Rounding to bfloat16 and to float16, of Python floats and of arrays: half to even, beyond the range to inf."""

from __future__ import annotations

import math
from typing import Any


def _bits_of(x: float, kept: int) -> float:
    """x rounded to so many significant bits, half to even."""
    fraction, exponent = math.frexp(x)
    return math.ldexp(float(round(fraction * 2**kept)), exponent - kept)


def to_bfloat16(x: float) -> float:
    """A float rounded to 8 significant bits, within float32's range."""
    if not math.isfinite(x) or x == 0:
        return x
    found = _bits_of(x, 8) if math.fabs(x) >= 2.0**-126 else round(x * 2.0**133) * 2.0**-133
    return math.copysign(math.inf, x) if math.fabs(found) > 3.3895313892515355e38 else found


def to_float16(x: float) -> float:
    """A float rounded to 11 significant bits, up to 65,504."""
    if not math.isfinite(x) or x == 0:
        return x
    found = _bits_of(x, 11) if math.fabs(x) >= 2.0**-14 else round(x * 2.0**24) * 2.0**-24
    return math.copysign(math.inf, x) if math.fabs(found) > 65504 else found


def arrays_to_bfloat16(np: Any, x: Any) -> Any:
    """Arrays of float32 or narrower, rounded by their bits; NaN stays."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(x), x, rounded.astype(x.dtype))
