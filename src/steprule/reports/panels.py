"""Figures that teach: panels one above the other, as wide as a phone, under one legend.

`stack(paths({...}), curves("what is drawn", {...}))`: what is drawn is computed where the reader sees it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from steprule import rules
from steprule.errors import InputError
from steprule.paths import Trace
from steprule.problems import surfaces
from steprule.reports.paths import Array, above_minimum, grid, view
from steprule.reports.race_charts import LOOK
from steprule.reports.style import Style, styles_of
from steprule.rules.parts import composed

WIDTH = 5.0
"""Inches: 360 of the picture's points, about a phone's width, so that its text has there the size that it has here."""
TEXT = {"font.size": 11.5, "axes.titlesize": 11.5, "axes.titleweight": "normal", "axes.titlelocation": "left",
        "axes.linewidth": 0.8, "grid.linewidth": 0.6, "legend.fontsize": 11.5}  # fmt: skip
METHODS = {"gradient descent": "sgd"}
"""What a method is called, where its style goes by another name."""
GRID = 90
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
    styles = dict(zip(labels, styles_of([_method(label) for label in labels]), strict=True))
    rows = -(-len(labels) // 2) if max(map(len, labels), default=0) <= 22 else len(labels)
    with mpl.rc_context({**LOOK, **TEXT}):
        heights = [panel.height for panel in panels]
        drawn = Figure(figsize=(WIDTH, sum(heights) + 0.24 * rows + 0.1), layout="constrained")
        drawn.get_layout_engine().set(h_pad=0.06, w_pad=0.06)  # type: ignore[union-attr]
        grid_ = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, panel in zip(grid_, panels, strict=True):
            panel.draw(axes, styles)
        for above, below in itertools.pairwise(grid_):
            if above.get_xlabel() == below.get_xlabel():
                above.set_xlabel("")
        handles = {}
        for axes in grid_:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        drawn.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=1 if rows == len(labels) else 2,
                     borderpad=0, borderaxespad=0.2, handlelength=2.2, columnspacing=3.2, labelspacing=0.25)  # fmt: skip
    return drawn


def paths(walks: Mapping[str, Trace], *, height: float = 2.6) -> Panel:
    """The ways of `walks`, each under its label, over the contours of their surface, with start and minimum."""
    traces = list(walks.values())
    if len({t.surface for t in traces}) != 1:
        got = ", ".join(sorted({t.surface for t in traces})) or "no path"
        raise InputError("paths", expected="paths on one surface", got=got)

    def draw(axes: Any, styles: Styles) -> None:
        surface = surfaces.get(traces[0].surface)
        part = view(traces, surface)
        x, y, f = grid(surface, part, GRID)
        axes.contour(x, y, f, levels=_levels(f, surface.minimum), colors="#b0b0b0", linewidths=0.7)
        many = max(t.steps for t in traces) > 60
        for k, (label, walked) in enumerate(walks.items()):
            look, width = styles[label], 1.5 + 0.7 * (len(walks) - 1 - k)
            axes.plot(*walked.points.T, color=look.colour, ls=look.dash, lw=0.6 * width if many else width, label=label,
                      marker="" if many else look.marker, ms=4, zorder=3)  # fmt: skip
            axes.plot(*walked.points[-1:].T, look.marker, color=look.colour, ms=8, mec="#ffffff", zorder=5)
        axes.plot(*traces[0].points[0], "o", mfc="none", mec="black", ms=9, mew=1.8, label="start", ls="none", zorder=6)
        stars = np.array(surface.minima)
        if len(stars):
            axes.plot(*stars.T, "*", color="#FFD700", mec="black", ms=13, label="minimum", ls="none", zorder=4)
        axes.set(xlim=part[0], ylim=part[1], xlabel="x")
        axes.set_ylabel("y", rotation=0, va="center")

    return Panel(draw, list(walks), height, traces)


def curves(
    title: str,
    lines: Mapping[str, ArrayLike | tuple[ArrayLike, ArrayLike]],
    *,
    x: str = "step",
    log: str = "",
    guides: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    marks: bool = False,
    height: float = 1.75,
) -> Panel:
    """Lines against the step, counted from 1, or against x where a line is a pair (x, y).

    Args:
        title: what is drawn, with its unit where it has one.
        lines: under each label y, or (x, y).
        x: what lies along.
        log: the logarithmic axes, "x", "y" or "xy".
        guides: thin lines with their labels written on them: laws and limits.
        marks: whether each point has its mark.
        height: inches.
    """

    def draw(axes: Any, styles: Styles) -> None:
        for k, (label, line) in enumerate(lines.items()):
            along, up = _pair(line)
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
        for label, line in (guides or {}).items():
            along, up = _pair(line)
            axes.plot(along, up, color="#8a8a8a", lw=1.2, ls=(0, (4, 2)), zorder=1)
            axes.annotate(
                label, (along[-1], up[-1]), xytext=(0, 3), textcoords="offset points", ha="right", va="bottom"
            )
        for side, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            if side in log:
                getattr(axes, f"set_{side}scale")("log")
                axis.set_major_locator(LogLocator(numticks=5))
                axis.set_minor_formatter(NullFormatter())
                axis.set_major_formatter(FuncFormatter(_plain))
            else:
                axis.set_major_locator(MaxNLocator(5))
        axes.set_title(title)
        axes.set_xlabel(x)
        axes.grid(alpha=0.3)

    return Panel(draw, list(lines), height)


def heights(walks: Mapping[str, Trace], *, height: float = 1.75) -> Panel:
    """The value above the least one at each step, on a logarithmic axis."""
    ground = surfaces.get(next(iter(walks.values())).surface)
    least = {label: (np.arange(t.steps + 1), above_minimum(t, ground)) for label, t in walks.items()}
    return curves("value above the minimum", least, log="y", height=height)


def address(traces: Sequence[Trace]) -> str:
    """The state in which the playground shows these very paths, as its address writes it.

    >>> from steprule import trace
    >>> address([trace("sgd", lr=0.4)])
    'rule=sgd,lr=0.4&surface=quadratic&start=-5,-2&steps=20'
    """
    first = traces[0]
    ground = surfaces.get(first.surface)
    parts = []
    for walked in traces:
        usual = composed(rules.resolve(walked.of or walked.rule)).defaults
        own = [f"{n}={str(v).lower()}" for n, v in walked.hypers.items() if v != usual[n]]
        parts.append(f"rule={','.join([walked.rule, *own])}")
    name = quote(first.surface, safe="()*,") if first.surface not in surfaces.SURFACES else first.surface
    start = ",".join(f"{v:g}" for v in first.points[0])
    parts += [f"surface={name}", f"start={start}", f"steps={max(t.steps for t in traces)}"]
    if first.noise != ground.noise:
        parts.append(f"noise={first.noise:g}")
    if first.seed:
        parts.append(f"seed={first.seed}")
    return "&".join(parts)


def _levels(values: Array, least: float) -> Array:
    """A few contours between the least value and the highest in view, equally far apart in the logarithm."""
    top = float(np.nanmax(np.where(np.isfinite(values), values, np.nan))) - least
    return least + top * np.geomspace(1 / 500, 1, 9)


def _method(label: str) -> str:
    """What a label's style goes by: "AdaGrad, lr 0.4" is AdaGrad's."""
    name = label.split(",")[0].strip().lower()
    return METHODS.get(name, name)


def _pair(line: Any) -> tuple[Any, Any]:
    if isinstance(line, tuple):
        return np.asarray(line[0], dtype=float), np.asarray(line[1], dtype=float)
    up = np.asarray(line, dtype=float)
    return np.arange(1, len(up) + 1), up


def _plain(value: float, _: int) -> str:
    """A power of ten as people write it: 0.01, 1000, and 10⁻⁸ where that is shorter.

    >>> _plain(100.0, 0), _plain(0.01, 0), _plain(1e-8, 0)
    ('100', '0.01', '10⁻⁸')
    """
    power = round(np.log10(value)) if value > 0 else 0
    if -3 <= power <= 4:
        return f"{value:g}"
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
