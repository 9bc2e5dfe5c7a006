"""Pictures of paths: everyone's way over the surface, and how the value fell; PNG, SVG, GIF, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from steprule import rules
from steprule.atomic import write_aside
from steprule.errors import InputError
from steprule.hyper import said as in_words
from steprule.paths import Trace
from steprule.reports.style import Style, styles_of
from steprule.rules.parts import composed
from steprule.surfaces import catalogue as surfaces
from steprule.surfaces.surface import Array, Point, Surface

FORMATS = (".png", ".svg", ".gif", ".json")
LOWEST = 1e-16  # what is nearer to the minimum is drawn here: a logarithmic axis has no zero
HIGHEST = 1e3  # times the start: what diverges leaves the axis here, so that the others can be read
GRID = 240  # points a side from which contours are drawn
FRAMES = 60  # of a GIF at most, so that long paths stay small files


def save(traces: Sequence[Trace], path: Path) -> None:
    """Write a picture of `traces`, or their points, by the ending of `path`: one of `FORMATS`.

    Raises `InputError` for another ending, `OutputError` where the file cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        expected, hint = "a name that ends in " + ", ".join(FORMATS), "steprule trace --out x.html writes a page."
        raise InputError(f"{path}", expected=expected, got=repr(path.suffix), hint=hint)
    with write_aside(path) as aside:
        if ending == ".json":
            aside.write_text(json.dumps([t.to_dict() for t in traces], indent=1, allow_nan=False) + "\n")
        elif ending == ".gif":
            figure, artists = _draw(traces)
            _lay_out(figure)
            steps = max(t.steps for t in traces)
            shown = np.unique(np.linspace(0, steps, min(FRAMES, steps + 1)).astype(int))
            frames = [*shown, *[shown[-1]] * 10]  # the end stays for a while
            animation = FuncAnimation(figure, lambda k: _show_until(artists, k), frames=frames, blit=False)
            animation.save(aside, writer=PillowWriter(fps=8), dpi=90)
        else:
            # A fixed salt and no date: the same paths give the same bytes.
            metadata = {"Date": None} if ending == ".svg" else {"Software": None}
            import matplotlib as mpl

            with mpl.rc_context({"svg.hashsalt": "steprule"}):
                draw(traces).savefig(aside, dpi=150, metadata=metadata)


def draw(traces: Sequence[Trace]) -> Figure:
    """The surface with all paths, the start and the minima; beside it f - f* against the step; the legend below."""
    return _draw(traces)[0]


def log_levels(values: Array, least: float, count: int = 16) -> Array:
    """Contour levels above the least value, equally far apart in the logarithm."""
    above = values - least
    positive = above[np.isfinite(above) & (above > 0)]
    low = max(float(np.quantile(positive, 0.002)), float(positive.max()) * 1e-5)
    return np.asarray(least + np.geomspace(low, float(positive.max()), count), dtype=np.float64)


def grid(surface: Surface, part: tuple[Point, Point], count: int = GRID) -> tuple[Array, Array, Array]:
    """x [count], y [count] and f [count, count] (rows are y) over a part of the plane."""
    (x0, x1), (y0, y1) = part
    x, y = np.linspace(x0, x1, count), np.linspace(y0, y1, count)
    return x, y, surface.value(np.stack(np.meshgrid(x, y), axis=-1))


def note(trace: Trace, surface: Surface, among: Sequence[Trace] = ()) -> str:
    """What the legend says of a path: its learning rate, what is not at its default or tells it from its like, and its fate."""
    usual = composed(rules.resolve(trace.of or trace.rule)).defaults
    like = [other.hypers for other in among if (other.label or other.rule) == (trace.label or trace.rule)]
    said = {n: v for n, v in trace.hypers.items() if n == "lr" or v != usual[n] or any(h.get(n) != v for h in like)}
    shown = [f"{n} {in_words(v, 3)}" if not isinstance(v, bool) else n if v else f"{n} off" for n, v in said.items()]
    text = "  ".join([trace.label or trace.rule, ", ".join(shown)]).strip()
    if trace.at_end:
        text += f" ({trace.at_end})"
    if trace.diverged_at is not None:
        return f"{text}  (diverged: not finite from step {trace.diverged_at})"
    (x0, x1), (y0, y1) = surface.window
    outside = ((trace.points < (x0, y0)) | (trace.points > (x1, y1))).any(axis=1)
    return f"{text}  (leaves the picture at step {int(np.argmax(outside))})" if outside.any() else text


def above_minimum(trace: Trace, surface: Surface) -> Array:
    """f - f* at each step, what is below `LOWEST` brought there; nan after a divergence."""
    height = trace.values - surface.minimum
    return np.where(np.isfinite(height), np.maximum(height, LOWEST), np.nan)


def _draw(traces: Sequence[Trace]) -> tuple[Figure, list[tuple[Line2D, Line2D, Line2D, Trace, Array]]]:
    surface = surfaces.get(traces[0].surface)
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
        (end,) = plane.plot(
            *trace.points[-1:].T, style.marker, color=style.colour, markersize=10, markeredgecolor="white", zorder=5
        )
        value = _line(fall, np.arange(len(heights), dtype=np.float64), heights, style, width, None, markers=few)
        if trace.diverged_at is not None:
            last = int(np.flatnonzero(np.isfinite(heights))[-1])
            cross = {"color": style.colour, "markersize": 13, "markeredgewidth": 4, "zorder": 8}
            plane.plot(*trace.points[last], "x", **cross)
            fall.plot(last, heights[last], "x", **cross)
        artists.append((path, end, value, trace, heights))
    begin = traces[0].points[0]
    plane.plot(
        *begin, "o", color="white", markeredgecolor="black", markersize=10, markeredgewidth=2, label="start", zorder=7
    )
    stars = np.array(surface.minima)
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
    plane.set_title(f"{ground(traces[0])}:  $f = {surface.latex}$", fontsize=_title_size(surface))
    fall.set(yscale="log", xlabel="step", ylabel="$f - f^*$ (value above the minimum)", title=what_is_compared(traces))
    fall.xaxis.set_major_locator(MaxNLocator(integer=True))
    fall.grid(alpha=0.3)
    figure.legend(*plane.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure, artists


def ground(trace: Trace) -> str:
    """Where it walked, in words: the surface, and its noise where there is any."""
    noise = f", gradient noise {trace.noise:g}, seed {trace.seed}" if trace.noise else ""
    return f"{trace.surface.replace('_', ' ')}{noise}"


def within(heights: Array, top: float) -> Array:
    """Heights up to the first above `top`, which is brought there; nan from then on."""
    over = np.flatnonzero(~(heights <= top))
    if not len(over):
        return heights
    kept = np.full_like(heights, np.nan)
    kept[: over[0]] = heights[: over[0]]
    kept[over[0]] = top
    return kept


def view(traces: Sequence[Trace], surface: Surface) -> tuple[Point, Point]:
    """The part of the window that paths, start and minima take, with a margin; all of it where a path leaves it."""
    (x0, x1), (y0, y1) = surface.window
    points = np.concatenate([*(t.points for t in traces), surface.minima])
    if not ((points >= (x0, y0)) & (points <= (x1, y1))).all():
        return surface.window
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.maximum(0.15 * (high - low), 0.05 * np.array([x1 - x0, y1 - y0]))
    (left, lower), (right, upper) = np.maximum(low - margin, (x0, y0)), np.minimum(high + margin, (x1, y1))
    return (float(left), float(right)), (float(lower), float(upper))


def _draw_surface(plane: Any, surface: Surface, part: tuple[Point, Point]) -> None:
    x, y, f = grid(surface, part)
    levels = log_levels(f, surface.minimum)
    plane.contourf(
        x,
        y,
        np.log10(np.maximum(f - surface.minimum, LOWEST)),
        levels=np.log10(levels - surface.minimum),
        cmap="Greys_r",
        alpha=0.45,
        extend="min",
    )
    plane.contour(x, y, f, levels=levels, colors="#8a8a8a", linewidths=0.6)
    plane.set(xlim=part[0], ylim=part[1], xlabel="$x$", ylabel="$y$")


def _line(axes: Any, x: Array, y: Array, style: Style, width: float, label: str | None, *, markers: bool) -> Line2D:
    marker = style.marker if markers else ""
    look = {"color": style.colour, "linestyle": style.dash, "linewidth": width, "marker": marker}
    (line,) = axes.plot(x, y, markersize=max(4.5, width + 1), label=label, zorder=4, **look)
    return line  # type: ignore[no-any-return]


def _show_until(artists: list[tuple[Line2D, Line2D, Line2D, Trace, Array]], step: int) -> list[Line2D]:
    changed = []
    for path, end, value, trace, heights in artists:
        last = min(step, trace.steps)
        path.set_data(trace.points[: last + 1].T)
        end.set_data(trace.points[last : last + 1].T)
        value.set_data(np.arange(last + 1), heights[: last + 1])
        changed += [path, end, value]
    return changed


def _lay_out(figure: Figure) -> None:
    """Place axes and legend now and leave them so: an animation need not do it again for each frame."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def what_is_compared(traces: Sequence[Trace]) -> str:
    """How the learning rates came about; where they were given, what is drawn."""
    if all(t.tuned and not t.cautions for t in traces):
        return "each at its best learning rate here" if len(traces) > 1 else "at its best learning rate here"
    if all(t.tuned for t in traces):
        return f"{'each ' if len(traces) > 1 else ''}at the best learning rate of those tried"
    return "value against step"


def _title_size(surface: Surface) -> int:
    return 11 if len(surface.latex) < 60 else 8
