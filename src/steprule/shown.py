"""What results share: they show themselves in words in a terminal, and as a picture in a notebook."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib import import_module

_BARS = "▁▂▃▄▅▆▇█"


class Shown:
    """A result: `print` gives its words, a notebook's cell its picture."""

    def in_words(self) -> str:
        """What it says, in a line or a few."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.in_words()

    def _repr_html_(self) -> str:
        # By name: imports run one way, and what draws stands above what is drawn.
        return str(import_module("steprule.reports.notebook").html(self))


def sparkline(values: Iterable[float], width: int = 24) -> str:
    """Values as a line of bars, logarithmic where all are positive; what is not finite is a cross.

    >>> sparkline([8, 4, 2, 1])
    '█▆▃▁'
    """
    every = list(values)
    if len(every) > width:
        every = [every[round(k * (len(every) - 1) / (width - 1))] for k in range(width)]
    finite = [v for v in every if math.isfinite(v)]
    if not finite:
        return "×" * len(every)
    scale = math.log if min(finite) > 0 else float
    low, high = scale(min(finite)), scale(max(finite))
    step = (high - low) / (len(_BARS) - 1) or 1.0
    return "".join(_BARS[round((scale(v) - low) / step)] if math.isfinite(v) else "×" for v in every)
