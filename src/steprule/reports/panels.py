"""Figures that teach: panels one above the other, as wide as a phone, under one legend.

`stack(paths({...}), curves("what is drawn", {...}))`: what is drawn is computed where the reader sees it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from steprule.errors import InputError
from steprule.paths import Trace
from steprule.reports.paths import HIGHEST, above_minimum, grid, view, within
from steprule.reports.style import LOOK, STYLES, Style, style_of
from steprule.surfaces import catalogue as surfaces
from steprule.surfaces.surface import Array, Surface

WIDTH = 5.0
"""Inches: 360 of the picture's points, about a phone's width, so that its text has there the size that it has here."""
TEXT: Any = {
    "font.size": 11.5, "axes.titlesize": 11.5, "axes.titleweight": "normal", "axes.titlelocation": "left", "axes.linewidth": 0.8,
    "grid.linewidth": 0.6, "legend.fontsize": 11.5, "text.parse_math": False,
}  # fmt: skip
METHODS = {"gradient descent": "sgd"}
"""What a method is called, where its style goes by another name."""
PARTS = {"running sum": "momentum"}
"""Of which method a quantity is a part: it has that method's style."""
OTHERS = (
    Style("#000000", "-", "o"),
    Style("#000000", (0, (5, 2)), "s"),
    Style("#000000", ":", "^"),
    Style("#000000", "-.", "D"),
)
"""The styles of what is no method, in order: a colour says which method it is, and nothing else."""
LONGEST_IN_TWO = 22
"""Characters of a label where the legend has two columns."""
GRID = 90
SCRIBBLE = 20
"""How many times as long as the box around it a way is that fills the box."""
COUNTS = ("step", "sample", "steps back")
"""What lies along in whole numbers."""
Styles = Mapping[str, Style]


@dataclass(frozen=True)
class Panel:
    """One drawing of a figure: `draw(axes, styles)`, where `styles` says how each of `labels` looks in all panels."""

    draw: Callable[[Any, Styles], None]
    labels: Sequence[str]
    height: float
    """In inches."""
    traces: Sequence[Trace] = field(default=())


def stack(*panels: Panel) -> Figure:
    """The panels one above the other, and above them the legend of all. Raises `InputError` where there is none."""
    if not panels:
        raise InputError("a figure", expected="one panel or more", got="none")
    labels = list(dict.fromkeys(label for panel in panels for label in panel.labels))
    styles = _styles(labels)
    with mpl.rc_context({**LOOK, **TEXT}):
        heights = [panel.height for panel in panels]
        drawn = Figure(layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.06))
        grid_ = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, panel in zip(grid_, panels, strict=True):
            panel.draw(axes, styles)
        for above, below in itertools.pairwise(grid_):
            if above.get_xlabel() == below.get_xlabel():
                above.set_xlabel("")
        handles: dict[str, Any] = {}
        for axes in grid_:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                # A line that is thin in one panel is shown as it is in another.
                if label not in handles or handle.get_linewidth() > handles[label].get_linewidth():
                    handles[label] = handle
        columns = 2 if max(map(len, handles), default=0) <= LONGEST_IN_TWO else 1
        drawn.set_size_inches(WIDTH, sum(heights) + 0.24 * -(-len(handles) // columns) + 0.15)
        drawn.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=columns,
                     borderpad=0, borderaxespad=0.7, handlelength=2.2, columnspacing=3.2, labelspacing=0.25)  # fmt: skip
    return drawn


def paths(walks: Mapping[str, Trace], *, title: str = "", height: float = 2.6) -> Panel:
    """The ways of `walks`, each under its label, over the contours of their surface, with start, end and minimum.

    A way that goes to and fro many times lies beneath the others and is thin, for it would bury them.
    """
    surface, traces = _one_surface(walks), list(walks.values())

    def draw(axes: Any, styles: Styles) -> None:
        part = view(traces, surface)
        x, y, f = grid(surface, part, GRID)
        if len(levels := _levels(f, surface.minimum)):
            axes.contour(x, y, f, levels=levels, colors="#b0b0b0", linewidths=0.7)
        many = max(t.steps for t in traces) > 60
        for k, (label, walked) in enumerate(walks.items()):
            look, width = styles[label], (1.5 + 0.7 * (len(walks) - 1 - k)) * (0.8 if many else 1.0)
            scribble = many and _scribbles(walked.points)
            axes.plot(*walked.points.T, color=look.colour, ls="-" if scribble else look.dash, lw=0.6 if scribble else width,
                      label=label, marker="" if many else look.marker, ms=4, zorder=2.5 if scribble else 3)  # fmt: skip
            axes.plot(*walked.points[-1:].T, "o", color=look.colour, ms=8, mec="#ffffff", zorder=5)
        axes.plot(*traces[0].points[0], "o", mfc="none", mec="black", ms=9, mew=1.8, label="start", ls="none", zorder=6)
        axes.plot([], [], "o", color="black", ms=7, label="end", ls="none")
        stars = np.array(surface.minima)
        if len(stars):  # above the ends, which would cover it
            axes.plot(*stars.T, "*", color="#FFD700", mec="black", ms=16, label="minimum", ls="none", zorder=5.5)
        axes.set(xlim=part[0], ylim=part[1], xlabel="x", title=title)
        axes.set_ylabel("y", rotation=0, va="center", labelpad=8)

    return Panel(draw, list(walks), height, traces)


def curves(
    title: str,
    lines: Mapping[str, ArrayLike | tuple[ArrayLike, ArrayLike]],
    *,
    x: str = "step",
    log: str = "",
    guides: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    marks: bool = False,
    ticks: Sequence[float] = (),
    height: float = 1.75,
) -> Panel:
    """Lines against the step, counted from 1, or against x where a line is a pair (x, y).

    Args:
        title: what is drawn, with its unit where it has one.
        lines: under each label y, or (x, y).
        x: what lies along.
        log: the logarithmic axes, "x", "y" or "xy".
        guides: thin lines, laws and limits, each with its label at its last point: beside it where the line is upright, below it where the
            line falls, above it elsewhere.
        marks: whether each point has its mark.
        ticks: the numbers on the upward axis, where those it would choose miss one that matters.
        height: inches.

    Raises `InputError` for a line that is no such numbers.
    """

    if set(log) - {"x", "y"}:
        raise InputError("log", expected='"", "x", "y" or "xy"', got=repr(log))
    pairs = {label: _pair(label, line) for label, line in lines.items()}
    laws = {label: _pair(label, line) for label, line in (guides or {}).items()}

    def draw(axes: Any, styles: Styles) -> None:
        for k, (label, (along, up)) in enumerate(pairs.items()):
            look = styles[label]
            # Where lines coincide, the earlier, wider one shows at the border of the later.
            width = 1.6 + (0.8 if k == 0 and len(lines) > 1 else 0.0)
            axes.plot(
                along,
                up,
                color=look.colour,
                ls=look.dash,
                lw=width,
                label=label,
                marker=look.marker if marks else "",
                ms=4,
            )
        for label, (along, up) in laws.items():
            axes.plot(along, up, color="#777777", lw=1.4, ls=(0, (4, 2)), zorder=1)
            upright = along[0] == along[-1]
            below = up[-1] < up[0] and not upright
            away = (4, 0) if upright else (0, -3 if below else 3)
            axes.annotate(
                label,
                (along[-1], up[-1]),
                xytext=away,
                textcoords="offset points",
                ha="right" if along[-1] > along[0] else "left",
                va="top" if below else "bottom",
            )
        for side, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            if side in log:
                getattr(axes, f"set_{side}scale")("log")
                axis.set_major_locator(LogLocator(numticks=5, subs=(1.0, 3.0) if _decades(axis) < 2 else (1.0,)))
                axis.set_minor_formatter(NullFormatter())
                axis.set_major_formatter(FuncFormatter(_plain))
            else:
                axis.set_major_locator(MaxNLocator(5, integer=side == "x" and x in COUNTS))
        if len(ticks):
            axes.set_yticks(ticks)
        if laws:
            axes.margins(y=0.3)  # room for what is written on them
        axes.set_title(title)
        axes.set_xlabel(x)
        axes.grid(alpha=0.3)

    return Panel(draw, list(lines), height)


def heights(walks: Mapping[str, Trace], *, title: str = "value above the minimum", height: float = 1.75) -> Panel:
    """The value above the least one at each step, on a logarithmic axis."""
    ground = _one_surface(walks)
    above = {label: above_minimum(t, ground) for label, t in walks.items()}
    top = HIGHEST * max(height_[0] for height_ in above.values())
    lines = {label: (np.arange(len(height_)), within(height_, top)) for label, height_ in above.items()}
    return replace(curves(title, lines, log="y", height=height), traces=list(walks.values()))


def _levels(values: Array, least: float) -> Array:
    """A few contours between the least value and the highest in view, equally far apart in the logarithm."""
    above = values[np.isfinite(values) & (values > least)] - least
    return np.asarray(least + above.max() * np.geomspace(1 / 500, 1, 9) if len(above) else [])


def _scribbles(points: Array) -> bool:
    """Whether a way is so much longer than the box around it that it fills the box."""
    steady = points[np.isfinite(points).all(axis=1)]
    length = np.linalg.norm(np.diff(steady, axis=0), axis=1).sum()
    return bool(length > SCRIBBLE * np.linalg.norm(np.ptp(steady, axis=0)))


def _styles(labels: Sequence[str]) -> dict[str, Style]:
    """A method's own style, by the label's first word: "AdaGrad, lr 0.4" is AdaGrad's. A part of a method has that method's.

    What is no method has one of `OTHERS`, and so has the second of a method, in dashes, for the two may coincide.
    """
    found: dict[str, Style] = {}
    own = {label: _own_style(label) for label in labels}
    colours = {style.colour for style in own.values() if style}
    more = [replace(style, dash=":") for style in STYLES.values() if style.colour not in colours]
    left: list[Style] = []
    for label, style in own.items():
        taken = {s.colour for other, s in found.items() if other not in PARTS}
        if style is None or (label not in PARTS and style.colour in taken):
            left = left or [*OTHERS, *more]
            style = next((s for s in left if style is None or s.dash != "-"), left[0])
            left.remove(style)
        found[label] = style
    return found


def _own_style(label: str) -> Style | None:
    """The style of the method that a label names, or None."""
    first = PARTS.get(label) or METHODS.get(label.lower()) or re.split(r"[\s,]", label.lower())[0]
    known = first.removeprefix("torch.optim.").removesuffix("_eps_inside") in STYLES
    return style_of(first) if known else None


def _one_surface(walks: Mapping[str, Trace]) -> Surface:
    """Where all of them walk. Raises `InputError` where that is not one surface."""
    names = sorted({t.surface for t in walks.values()})
    if len(names) != 1:
        raise InputError("a figure of paths", expected="paths on one surface", got=", ".join(names) or "no path")
    return surfaces.get(names[0])


def _pair(label: str, line: Any) -> tuple[Array, Array]:
    """x and y of a line: y alone lies at 1, 2, 3 and so on."""
    x, y = (np.asarray(part, dtype=float) for part in (line if isinstance(line, tuple) else (None, line)))
    if x.ndim == 0:
        x = np.arange(1, y.size + 1, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        got = f"{list(y.shape)}" if x.ndim == 0 else f"{list(x.shape)} and {list(y.shape)}"
        raise InputError(f"line {label!r}", expected="numbers y [n], or a pair (x, y) of [n] each", got=got)
    return x, y


def _decades(axis: Any) -> float:
    low, high = axis.get_view_interval()
    return float(np.log10(high / low))


def _plain(value: float, _: int) -> str:
    """A power of ten as people write it: 0.01, 1000, and 10⁻⁸ where that is shorter.

    >>> _plain(100.0, 0), _plain(0.01, 0), _plain(1e-8, 0)
    ('100', '0.01', '10⁻⁸')
    """
    if value <= 0 or 1e-3 <= value <= 3e4:
        return f"{value:g}"
    power = round(np.log10(value))
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
