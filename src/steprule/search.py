"""Where a race looks for good values of a hyperparameter: a range and its scale."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Literal, get_args

from steprule.errors import InputError, InputTypeError

Scale = Literal["log", "linear", "complement"]


@dataclass(frozen=True)
class Search:
    """Where a race looks for good values. `scale` is "log", "linear" or "complement" (logarithmic in 1 - value).

    Raises `InputError` for another scale, where low is not below high, for a "log" range that does not begin above 0 and a "complement"
    range that does not end below 1; `InputTypeError` for ends that are no numbers.
    """

    low: float
    high: float
    scale: Scale = "log"

    def __post_init__(self) -> None:
        what = f"Search({self.low!r}, {self.high!r}, {self.scale!r})"
        if self.scale not in (scales := get_args(Scale)):
            raise InputError(what, expected=f"a scale of {', '.join(map(repr, scales))}", got=repr(self.scale))
        ends = (self.low, self.high)
        if not all(isinstance(end, numbers.Real) and not isinstance(end, bool) for end in ends):
            raise InputTypeError(what, expected="two numbers and a scale", got=repr(ends))
        if not all(map(math.isfinite, ends)) or not self.low < self.high:
            raise InputError(what, expected="finite numbers, low below high", got=f"{self.low!r} and {self.high!r}")
        hint = f'Write Search({self.low!r}, {self.high!r}, "linear").'
        if self.scale == "log" and self.low <= 0:
            raise InputError(what, expected="a logarithmic range to begin above 0", got=repr(self.low), hint=hint)
        if self.scale == "complement" and self.high >= 1:
            raise InputError(what, expected="a range towards 1 to end below it", got=repr(self.high), hint=hint)

    def at(self, share: float) -> float:
        """The value at a share of the way from low to high, on the scale.

        >>> Search(1e-4, 1.0).at(0.5), Search(0, 1, "linear").at(0.25), round(Search(0.9, 0.999, "complement").at(0.5), 6)
        (0.01, 0.25, 0.99)
        """
        if self.scale == "linear":
            found = self.low + share * (self.high - self.low)
        elif self.scale == "complement":
            found = 1 - float((1 - self.low) ** (1 - share) * (1 - self.high) ** share)
        else:
            found = float(self.low ** (1 - share) * self.high**share)
        return min(max(found, self.low), self.high)  # rounding leads out of no bound

    def share(self, value: float) -> float:
        """How far a value lies on the way from low to high, on the scale: 0 to 1 inside; what `at` turns back.

        >>> round(Search(0.9, 0.999, "complement").share(0.99), 6)
        0.5
        """
        a, b, c = self.low, value, self.high
        if self.scale == "complement":
            a, b, c = (1 - x for x in (a, b, c))
        if self.scale != "linear":
            a, b, c = (math.log(x) if x > 0 else -math.inf for x in (a, b, c))
        return (b - a) / (c - a) if c != a else math.nan
