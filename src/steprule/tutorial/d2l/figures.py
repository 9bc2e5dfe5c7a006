"""The tutorial's figures: their size, curves in one call, and a figure that grows while a training goes on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from steprule.counts import counted
from steprule.errors import InputError, InputTypeError

Limits = tuple[float, float] | Sequence[float] | None
FORMATS = ("-", "m--", "g-.", "r:")


def use_svg_display() -> None:
    """Draw figures as SVG in a notebook; elsewhere nothing changes."""
    if _in_notebook():
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg")  # type: ignore[no-untyped-call]


def set_figsize(figsize: Sequence[float] = (3.5, 2.5)) -> None:
    """Width and height of the figures to come, in inches. Raises `InputError` for other than two above 0."""
    use_svg_display()
    if not _several(figsize) or len(figsize) != 2 or not all(number(inches) > 0 for inches in figsize):
        raise InputError("figsize", expected="width and height in inches, above 0", got=repr(figsize))
    plt.rcParams["figure.figsize"] = [number(inches) for inches in figsize]


def plot(
    X: Any, Y: Any = None, xlabel: str | None = None, ylabel: str | None = None, legend: Sequence[str] | None = None,
    xlim: Limits = None, ylim: Limits = None, xscale: str = "linear", yscale: str = "linear",
    fmts: Sequence[str] = FORMATS, figsize: Sequence[float] | None = None, axes: Axes | None = None,
) -> None:  # fmt: skip
    """Draw one curve or several into the current axes, or into `axes`, which are cleared first.

    Args:
        X: numbers, [points], or one row of numbers per curve. One row serves all curves.
        Y: the same; None draws X against 0, 1, 2, ...
        xlabel: the text along the x axis.
        ylabel: the text along the y axis.
        legend: one name per curve.
        xlim: lowest and highest x.
        ylim: lowest and highest y.
        xscale: "linear" or "log".
        yscale: "linear" or "log".
        fmts: matplotlib's formats of the lines; they repeat where there are more curves.
        figsize: width and height of a new figure, in inches; those of `set_figsize` if not given.
        axes: the axes to draw into.

    Raises:
        InputError: X and Y of different lengths.
    """
    ys = _curves(X if Y is None else Y)
    xs = [np.arange(len(y)) for y in ys] if Y is None else _curves(X)
    if len(xs) == 1:
        xs = xs * len(ys)
    if [len(x) for x in xs] != [len(y) for y in ys]:
        got = f"x: {_lengths(xs)}; y: {_lengths(ys)}"
        raise InputError("plot", expected="as many x as y for each curve", got=got)
    if figsize is not None:
        set_figsize(figsize)
    axes = axes or plt.gca()
    axes.clear()
    for x, y, fmt in zip(xs, ys, cycle(fmts), strict=False):
        axes.plot(x, y, fmt)
    _dress(axes, xlabel, ylabel, legend, xlim, ylim, xscale, yscale)


class Animator:
    """A figure that grows by `add`; a notebook shows each state of it in the same place.

    `X` and `Y` hold the points of each curve. The arguments are those of `plot`; `nrows` and `ncols` lay out more axes, and curves are
    drawn into the first.

    >>> animator = Animator(xlabel="epoch", ylim=(0, 1), legend=["train", "test"])
    >>> animator.add(1, (0.5, None))
    >>> animator.add(2, (0.3, 0.4))
    >>> animator.X, animator.Y
    ([[1.0, 2.0], [2.0]], [[0.5, 0.3], [0.4]])
    """

    def __init__(
        self, xlabel: str | None = None, ylabel: str | None = None, legend: Sequence[str] | None = None,
        xlim: Limits = None, ylim: Limits = None, xscale: str = "linear", yscale: str = "linear",
        fmts: Sequence[str] = FORMATS, nrows: int = 1, ncols: int = 1, figsize: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        use_svg_display()
        size = None if figsize is None else (figsize[0], figsize[1])
        self.fig, axes = plt.subplots(nrows, ncols, figsize=size, squeeze=False)
        self.axes: list[Axes] = list(axes.flat)
        self.X: list[list[float]] = []
        self.Y: list[list[float]] = []
        self._fmts = fmts
        self._dressing = (xlabel, ylabel, legend, xlim, ylim, xscale, yscale)
        self._lines: list[Line2D] = []
        self._shown: Any = None

    def add(self, x: Any, y: Any) -> None:
        """Add one point per curve: `x` and `y` are one number, or one per curve; None adds nothing to its curve."""
        ys = list(y) if _several(y) else [y]
        xs = list(x) if _several(x) else [x] * len(ys)
        axes = self.axes[0]
        if not self._lines:
            self.X, self.Y = [[] for _ in ys], [[] for _ in ys]
            self._lines = [axes.plot([], [], fmt)[0] for _, fmt in zip(ys, cycle(self._fmts), strict=False)]
            _dress(axes, *self._dressing)
        if not len(xs) == len(ys) == len(self.Y):
            raise InputError("Animator.add", expected=counted(len(self.Y), "point"), got=f"{len(xs)} x and {len(ys)} y")
        for i, (a, b) in enumerate(zip(xs, ys, strict=True)):
            if a is not None and b is not None:
                self.X[i].append(number(a))
                self.Y[i].append(number(b))
        for line, a, b in zip(self._lines, self.X, self.Y, strict=True):
            line.set_data(a, b)
        axes.relim()
        axes.autoscale_view()
        self._show()

    def _show(self) -> None:
        """Show the present state in a notebook; a script shows the figure at its end by pyplot."""
        if not _in_notebook():
            return
        if self._shown is None:
            from IPython.display import display

            plt.close(self.fig)  # otherwise the notebook shows it again at the cell's end
            self._shown = display(self.fig, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._shown.update(self.fig)


def number(value: Any) -> float:
    """A plain number, also from an array or a tensor of one element, with or without a gradient."""
    return float(value.item() if hasattr(value, "item") else value)


def _curves(values: Any) -> list[NDArray[Any]]:
    """One curve of numbers, or one row per curve, as arrays."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    try:
        if not any(map(_several, values)):
            return [np.array([number(v) for v in values])]
        curves = []
        for row in values:
            curves += _curves(row)
        return curves
    except (TypeError, ValueError) as error:
        if isinstance(error, InputTypeError):
            raise
        raise InputTypeError("plot", expected="numbers, or rows of numbers", got=repr(values)[:60]) from error


def _lengths(curves: Sequence[Sequence[Any] | NDArray[Any]]) -> str:
    return " and ".join(str(len(curve)) for curve in curves) or "none"


def _several(value: Any) -> bool:
    """Whether it holds numbers and is not one itself."""
    return isinstance(value, list | tuple | range) or getattr(value, "ndim", 0) > 0


def _dress(
    axes: Axes, xlabel: str | None, ylabel: str | None, legend: Sequence[str] | None, xlim: Limits, ylim: Limits,
    xscale: str, yscale: str,
) -> None:  # fmt: skip
    axes.set(xlabel=xlabel or "", ylabel=ylabel or "", xscale=xscale, yscale=yscale)
    if xlim is not None:
        axes.set_xlim(xlim[0], xlim[1])
    if ylim is not None:
        axes.set_ylim(ylim[0], ylim[1])
    if legend:
        axes.legend(legend)
    axes.grid()


def _in_notebook() -> bool:
    """Whether a notebook's kernel runs this. IPython is asked only where it is already imported."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
