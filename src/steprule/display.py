"""Results show themselves: in words in a terminal, as a picture in a notebook."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from steprule import extras
from steprule.errors import MissingPackageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BARS = "▁▂▃▄▅▆▇█"


class Drawer(Protocol):
    """What makes pictures of results."""

    def drawn(self, result: Any) -> Figure:
        """A result as a matplotlib figure."""

    def html(self, result: Any) -> str:
        """A result as a notebook's cell shows it."""

    def write_picture(self, result: Any, path: Path, of: str) -> None:
        """Write a result's main picture, or the one of that name, in the form that the ending names."""

    def write_page(self, result: Any, path: Path) -> None:
        """Write the page of a result that has one."""


_drawers: list[Callable[[], Drawer]] = []


def draw_by(load: Callable[[], Drawer]) -> None:
    """Say who draws results; `load` is called at the first picture. The root package says it, for it stands above both."""
    _drawers[:] = [load]


class Shown:
    """A result: `print` gives its words, a notebook's cell its picture."""

    def in_words(self) -> str:
        """What it says, in a line or a few."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.in_words()

    def plot(self) -> Figure:
        """Its picture as a matplotlib figure: `run.plot().savefig("run.png")`.

        Raises `InputError` where there is nothing to draw, as in one shard of a race, `MissingPackageError` without matplotlib.
        """
        with extras.needed():
            drawer = _drawers[0]()
        return drawer.drawn(self)

    def _repr_html_(self) -> str | None:
        try:
            with extras.needed():
                drawer = _drawers[0]()
        except MissingPackageError:
            return None  # then a cell shows its words
        return drawer.html(self)


def write_picture(result: Shown, path: Path, of: str = "") -> None:
    """Write a result's main picture, or the one of that name, as the ending names: .svg, .pdf, .png.

    Raises as `Shown.plot` does, `UnknownNameError` for another name, `OutputError` where it cannot be written.
    """
    with extras.needed():
        drawer = _drawers[0]()
    drawer.write_picture(result, path, of)


def write_page(result: Shown, path: Path) -> None:
    """Write a result's page as one HTML file. Raises `OutputError` where it cannot, `MissingPackageError` without matplotlib."""
    with extras.needed():
        drawer = _drawers[0]()
    drawer.write_page(result, path)


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(0.4), duration(95), duration(5_000), duration(200_000)
    ('1 s', '95 s', '83 min', '56 h')
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3600:.0f} h"


def size(count: int) -> str:
    """Bytes as people say them.

    >>> size(3_000_000), size(2_500_000_000)
    ('3 MB', '2.5 GB')
    """
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


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
