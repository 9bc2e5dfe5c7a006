"""Figures that teach: panels one above the other, as wide as a phone, under one legend.

`stack(paths({...}), curves("title", {...}))` draws what the reader has just seen computed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from steprule import extras
from steprule.errors import InputError
from steprule.paths import Trace
from steprule.reports.style import LOOK, STYLES, Style, style_of
from steprule.reports.walked import HIGHEST, above_minimum, grid, view, within
from steprule.surfaces.surface import Array, Surface

with extras.needed():
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

WIDTH = 5.0
"""Inches: 360 of the picture's points, about a phone's width, so that text on a phone has the size given here."""
TEXT: Any = {
    "font.size": 11.5, "axes.titlesize": 11.5, "axes.titleweight": "normal", "axes.titlelocation": "left", "axes.linewidth": 0.8,
    "grid.linewidth": 0.6, "legend.fontsize": 11.5, "text.parse_math": False,
}  # fmt: skip
METHODS = {"gradient descent": "sgd"}
"""Methods whose style goes by another name."""
PARTS = {"running sum": "momentum"}
"""Quantities that are part of a method, and so have its style."""
OTHERS = (
    Style("#000000", "-", "o"),
    Style("#000000", (0, (5, 2)), "s"),
    Style("#000000", ":", "^"),
    Style("#000000", "-.", "D"),
)
"""The styles, in order, of lines that are not methods: a method's colour stands for that method alone."""
LONGEST_IN_TWO = 22
"""The legend has two columns where no label has more characters."""
GRID = 90
SCRIBBLE = 20
"""A path that is this many times as long as its box's diagonal fills the box."""
COUNTS = ("step", "sample", "steps back")
"""Quantities along x that are whole numbers."""
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
    """The panels one above the other under one legend. Raises `InputError` where there is no panel."""
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
                # The legend shows a line as it is in the panel where it is widest.
                if label not in handles or handle.get_linewidth() > handles[label].get_linewidth():
                    handles[label] = handle
        columns = 2 if max(map(len, handles), default=0) <= LONGEST_IN_TWO else 1
        drawn.set_size_inches(WIDTH, sum(heights) + 0.24 * -(-len(handles) // columns) + 0.15)
        drawn.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=columns,
                     borderpad=0, borderaxespad=0.7, handlelength=2.2, columnspacing=3.2, labelspacing=0.25)  # fmt: skip
    return drawn


def paths(walks: Mapping[str, Trace], *, title: str = "", height: float = 2.6) -> Panel:
    """The paths of `walks`, each with its label, over the contours of their surface, with start, end and minimum.

    A path that goes to and fro many times is thin and lies beneath the others, which it would hide.
    """
    surface, traces = one_surface(walks.values()), list(walks.values())

    def draw(axes: Any, styles: Styles) -> None:
        part = view(traces, surface)
        x, y, f = grid(surface, part, GRID)
        if len(levels := _levels(f, surface.minimum)):
            axes.contour(x, y, f, levels=levels, colors="#b0b0b0", linewidths=0.7)
        many = max(t.steps for t in traces) > 60
        for k, (label, walked) in enumerate(walks.items()):
            look = styles[label]
            x, y = walked.points.T
            if many and _scribbles(walked.points):
                shape: dict[str, Any] = {"ls": "-", "lw": 0.6, "zorder": 2.5}
            else:
                width = 1.5 + 0.7 * (len(walks) - 1 - k)  # where paths coincide, the earlier one shows beside the later
                shape = {"ls": look.dash, "lw": 0.8 * width if many else width, "zorder": 3}
            axes.plot(x, y, color=look.colour, label=label, marker="" if many else look.marker, ms=4, **shape)
            axes.plot(x[-1:], y[-1:], "o", color=look.colour, ms=8, mec="#ffffff", zorder=5)
        x0, y0 = traces[0].points[0]
        axes.plot(x0, y0, "o", mfc="none", mec="black", ms=9, mew=1.8, label="start", ls="none", zorder=6)
        axes.plot([], [], "o", color="black", ms=7, label="end", ls="none")
        stars = np.array(surface.minima).reshape(-1, 2)
        if len(stars):  # above the ends, which would cover it
            axes.plot(stars[:, 0], stars[:, 1], "*", color="#FFD700", mec="black", ms=16, label="minimum", ls="none",
                      zorder=5.5)  # fmt: skip
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
        title: the quantity, with its unit where it has one.
        lines: by label y, or (x, y).
        x: the quantity along x.
        log: the logarithmic axes, "x", "y" or "xy".
        guides: thin lines, laws and limits, each with its label at its last point: beside an upright line, below a falling one, above any
            other.
        marks: whether each point has its mark.
        ticks: the numbers on the y axis, where the usual ones miss one that matters.
        height: inches.

    Raises `InputError` for a line that is not numbers of these shapes.
    """
    if set(log) - {"x", "y"}:
        raise InputError("log", expected='"", "x", "y" or "xy"', got=repr(log))
    pairs = {label: _pair(label, line) for label, line in lines.items()}
    laws = {label: _pair(label, line) for label, line in (guides or {}).items()}

    def draw(axes: Any, styles: Styles) -> None:
        widest = next(iter(pairs)) if len(pairs) > 1 else None
        for label, (along, up) in pairs.items():
            look = styles[label]
            # Where lines coincide, the earlier, wider one shows at the border of the later.
            width = 2.4 if label == widest else 1.6
            marker = look.marker if marks else ""
            axes.plot(along, up, color=look.colour, ls=look.dash, lw=width, label=label, marker=marker, ms=4)
        for label, (along, up) in laws.items():
            _draw_guide(axes, label, along, up)
        _scale_axis(axes.xaxis, axes.set_xscale, logarithmic="x" in log, whole=x in COUNTS)
        _scale_axis(axes.yaxis, axes.set_yscale, logarithmic="y" in log, whole=False)
        if len(ticks):
            axes.set_yticks(ticks)
        if laws:
            axes.margins(y=0.3)  # room for the guides' labels
        axes.set_title(title)
        axes.set_xlabel(x)
        axes.grid(alpha=0.3)

    return Panel(draw, list(lines), height)


def _draw_guide(axes: Any, label: str, along: Array, up: Array) -> None:
    """A thin line with its label at the last point."""
    axes.plot(along, up, color="#777777", lw=1.4, ls=(0, (4, 2)), zorder=1)
    where: dict[str, Any] = {"xytext": (0, 3), "va": "bottom"}
    if along[0] == along[-1]:
        where = {"xytext": (4, 0), "va": "bottom"}
    elif up[-1] < up[0]:
        where = {"xytext": (0, -3), "va": "top"}
    side = "right" if along[-1] > along[0] else "left"
    axes.annotate(label, (along[-1], up[-1]), textcoords="offset points", ha=side, **where)


def _scale_axis(axis: Any, set_scale: Any, *, logarithmic: bool, whole: bool) -> None:
    """Few plain numbers on an axis; whole ones where it counts."""
    if not logarithmic:
        axis.set_major_locator(MaxNLocator(5, integer=whole))
        return
    set_scale("log")
    low, high = axis.get_view_interval()
    narrow = high / low < 100
    axis.set_major_locator(LogLocator(numticks=5, subs=(1.0, 3.0) if narrow else (1.0,)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(_plain))


def heights(walks: Mapping[str, Trace], *, title: str = "value above the minimum", height: float = 1.75) -> Panel:
    """The value above the minimum at each step, on a logarithmic axis."""
    ground = one_surface(walks.values())
    above = {label: above_minimum(t, ground) for label, t in walks.items()}
    top = HIGHEST * max(values[0] for values in above.values())
    lines = {label: (np.arange(len(values)), within(values, top)) for label, values in above.items()}
    return replace(curves(title, lines, log="y", height=height), traces=list(walks.values()))


def _levels(values: Array, least: float) -> Array:
    """A few contours between the least value and the highest in view, equally far apart in the logarithm."""
    above = values[np.isfinite(values) & (values > least)] - least
    if not len(above):
        return np.array([])
    return np.asarray(least + above.max() * np.geomspace(1 / 500, 1, 9))


def _scribbles(points: Array) -> bool:
    """Whether a path is so much longer than the box around it that it fills the box."""
    steady = points[np.isfinite(points).all(axis=1)]
    length = np.linalg.norm(np.diff(steady, axis=0), axis=1).sum()
    return bool(length > SCRIBBLE * np.linalg.norm(np.ptp(steady, axis=0)))


def _styles(labels: Sequence[str]) -> dict[str, Style]:
    """A style per label: that of the method that the label's first word names, as in "AdaGrad, lr 0.4".

    A part of a method has that method's style. Other labels have one of `OTHERS`; so has a method's second label, in dashes, since the two
    lines may coincide.
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


def one_surface(traces: Iterable[Trace]) -> Surface:
    """Where all of them walk. Raises `InputError` where that is not one surface."""
    grounds = {t.ground for t in traces}
    if len(grounds) != 1:
        got = ", ".join(sorted(g.name for g in grounds)) or "no path"
        raise InputError("a figure of paths", expected="paths on one surface", got=got)
    return grounds.pop()


def _pair(label: str, line: Any) -> tuple[Array, Array]:
    """x and y of a line; where only y is given, x is 1, 2, 3 and so on."""
    if isinstance(line, tuple):
        x, y = np.asarray(line[0], dtype=float), np.asarray(line[1], dtype=float)
    else:
        y = np.asarray(line, dtype=float)
        x = np.arange(1, y.size + 1, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        got = f"{list(x.shape)} and {list(y.shape)}"
        raise InputError(f"line {label!r}", expected="numbers y [n], or a pair (x, y) of [n] each", got=got)
    return x, y


def _plain(value: float, _: int) -> str:
    """A power of ten as people write it: 0.01, 1000, and 10⁻⁸ where that is shorter.

    >>> _plain(100.0, 0), _plain(0.01, 0), _plain(1e-8, 0)
    ('100', '0.01', '10⁻⁸')
    """
    if value <= 0 or 1e-3 <= value <= 3e4:
        return f"{value:g}"
    power = round(np.log10(value))
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
