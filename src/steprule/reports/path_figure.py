"""Paths as a matplotlib figure, animated too: everyone's way over the surface, and how the value fell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from steprule import extras
from steprule.paths import Trace
from steprule.reports.style import Style, styles_of
from steprule.reports.walked import (
    HIGHEST,
    LOWEST,
    READ_AT,
    above_minimum,
    grid,
    ground,
    log_levels,
    note,
    view,
    what_is_compared,
    within,
)
from steprule.surfaces.surface import Array, Point, Surface

with extras.needed():
    from matplotlib.animation import FuncAnimation, PillowWriter
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.mathtext import MathTextParser
from matplotlib.ticker import MaxNLocator

FAINT: dict[str, Any] = {"linewidth": 5, "alpha": 0.45, "solid_capstyle": "round"}
FRAMES = 60  # of a GIF at most, so that long paths stay small files


def draw(traces: Sequence[Trace]) -> Figure:
    """The surface with all paths, the start and the minima; beside it f - f* against the step; the legend below."""
    return _draw(traces)[0]


def save_png(traces: Sequence[Trace], path: Path) -> None:
    """Write the figure; the same paths give the same bytes."""
    draw(traces).savefig(path, format="png", dpi=150, metadata={"Software": None})


def save_gif(traces: Sequence[Trace], path: Path) -> None:
    """Write the paths as they are walked."""
    figure, artists = _draw(traces)
    _lay_out(figure)
    steps = max(t.steps for t in traces)
    shown = np.unique(np.linspace(0, steps, min(FRAMES, steps + 1)).astype(int))
    frames = [*shown, *[shown[-1]] * 10]  # the end stays for a while
    animation = FuncAnimation(figure, lambda k: _show_until(artists, k), frames=frames, blit=False)
    animation.save(path, writer=PillowWriter(fps=8), dpi=90)


class Drawn(NamedTuple):
    """A path as it is drawn."""

    path: Line2D
    end: Line2D
    value: Line2D
    track: Line2D | None
    """Where the model is read, of a rule that states it."""
    trace: Trace
    heights: Array


def _draw(traces: Sequence[Trace]) -> tuple[Figure, list[Drawn]]:
    surface = traces[0].ground
    rows = -(-len(traces) // 3)
    figure = Figure(figsize=(11.5, 5.2 + 0.28 * rows), layout="constrained")
    plane, fall = figure.subplots(1, 2, width_ratios=[1.15, 1])
    _draw_surface(plane, surface, view(traces, surface))
    artists = []
    top = max(above_minimum(t, surface)[0] for t in traces) * HIGHEST
    styles = styles_of([t.label or t.rule for t in traces])
    for k, (trace, style) in enumerate(zip(traces, styles, strict=True)):
        # Where paths coincide, the earlier, wider one shows at the border and between the dashes of the later.
        width = 1.7 + min(0.8, 4 / len(traces)) * (len(traces) - 1 - k)
        heights = within(above_minimum(trace, surface), top)
        few = trace.steps <= 60
        path = _line(
            plane, trace.points[:, 0], trace.points[:, 1], style, width, note(trace, surface, traces), markers=few
        )
        track = _track(plane, trace, style) if trace.elsewhere is not None else None
        (end,) = plane.plot(
            *trace.points[-1:].T, style.marker, color=style.colour, markersize=10, markeredgecolor="white", zorder=5
        )
        value = _line(fall, np.arange(len(heights), dtype=np.float64), heights, style, width, None, markers=few)
        if trace.diverged_at is not None:
            last = int(np.flatnonzero(np.isfinite(heights))[-1])
            cross = {"color": style.colour, "markersize": 13, "markeredgewidth": 4, "zorder": 8}
            plane.plot(*trace.points[last], "x", **cross)
            fall.plot(last, heights[last], "x", **cross)
        artists.append(Drawn(path, end, value, track, trace, heights))
    if any(drawn.track for drawn in artists):
        plane.plot([], [], color="#6a6a6a", label=READ_AT, **FAINT)
    _draw_marks(plane, traces[0].points[0], surface)
    plane.set_title(f"{ground(traces[0])}:  {_formula(surface)}", fontsize=_title_size(surface))
    fall.set(yscale="log", xlabel="step", ylabel="$f - f^*$ (value above the minimum)", title=what_is_compared(traces))
    fall.xaxis.set_major_locator(MaxNLocator(integer=True))
    fall.grid(alpha=0.3)
    figure.legend(*plane.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure, artists


def _draw_marks(plane: Any, begin: Array, surface: Surface) -> None:
    """The start and the minima."""
    plane.plot(
        *begin, "o", color="white", markeredgecolor="black", markersize=10, markeredgewidth=2, label="start", zorder=7
    )
    stars = np.reshape(surface.minima, (-1, 2))
    plane.plot(
        stars[:, 0],
        stars[:, 1],
        "*",
        color="#FFD700",
        markeredgecolor="black",
        markersize=16,
        label="minimum",
        zorder=7,
        linestyle="none",
    )


def _draw_surface(plane: Any, surface: Surface, part: tuple[Point, Point]) -> None:
    x, y, f = grid(surface, part)
    levels = log_levels(f, surface.minimum)
    if len(levels):
        heights = np.log10(np.maximum(f - surface.minimum, LOWEST))
        steps = np.log10(levels - surface.minimum)
        plane.contourf(x, y, heights, levels=steps, cmap="Greys_r", alpha=0.45, extend="min")
        plane.contour(x, y, f, levels=levels, colors="#8a8a8a", linewidths=0.6)
    plane.set(xlim=part[0], ylim=part[1], xlabel="$x$", ylabel="$y$")


def _line(axes: Any, x: Array, y: Array, style: Style, width: float, label: str | None, *, markers: bool) -> Line2D:
    marker = style.marker if markers else ""
    look = {"color": style.colour, "linestyle": style.dash, "linewidth": width, "marker": marker}
    (line,) = axes.plot(x, y, markersize=max(4.5, width + 1), label=label, zorder=4, **look)
    return line  # type: ignore[no-any-return]


def _track(plane: Any, trace: Trace, style: Style) -> Line2D:
    """Where the model is read, fainter than the way."""
    (line,) = plane.plot(*trace.evaluated.T, color=style.colour, zorder=3, **FAINT)
    return line  # type: ignore[no-any-return]


def _show_until(artists: list[Drawn], step: int) -> list[Line2D]:
    changed = []
    for path, end, value, track, trace, heights in artists:
        last = min(step, trace.steps)
        path.set_data(trace.points[: last + 1].T)
        end.set_data(trace.points[last : last + 1].T)
        value.set_data(np.arange(last + 1), heights[: last + 1])
        changed += [path, end, value]
        if track is not None:
            track.set_data(trace.evaluated[: last + 1].T)
            changed.append(track)
    return changed


def _lay_out(figure: Figure) -> None:
    """Place axes and legend now and leave them so: an animation need not do it again for each frame."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _formula(surface: Surface) -> str:
    """As matplotlib draws mathematics; in plain letters where it cannot, as it cannot draw cases."""
    drawn = f"$f = {surface.latex}$"
    try:
        MathTextParser("path").parse(drawn)
    except ValueError:
        return f"f = {surface.formula}".replace("$", r"\$")
    return drawn


def _title_size(surface: Surface) -> int:
    return 11 if len(surface.latex) < 60 else 8
