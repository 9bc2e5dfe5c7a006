"""What all pictures of paths share: the part of the plane, contour levels, heights, titles, legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from steprule import rules
from steprule.hyper import said as in_words
from steprule.paths import Trace
from steprule.rules.parts import composed
from steprule.surfaces.surface import Array, Point, Surface

LOWEST = 1e-16  # values nearer to the minimum are drawn here, since a logarithmic axis has no zero
HIGHEST = 1e3  # times the start: a path that diverges leaves the axis here, so that the others can be read
GRID = 240  # points per side from which contours are drawn


def log_levels(values: Array, least: float, count: int = 16) -> Array:
    """Contour levels above the least value, equally far apart in the logarithm."""
    above = values - least
    positive = above[np.isfinite(above) & (above > 0)]
    if not len(positive):  # a flat surface has no contour
        return np.empty(0)
    low = max(float(np.quantile(positive, 0.002)), float(positive.max()) * 1e-5)
    return np.asarray(least + np.geomspace(low, float(positive.max()), count), dtype=np.float64)


def grid(surface: Surface, part: tuple[Point, Point], count: int = GRID) -> tuple[Array, Array, Array]:
    """x [count], y [count] and f [count, count] (rows are y) over a part of the plane."""
    (x0, x1), (y0, y1) = part
    x, y = np.linspace(x0, x1, count), np.linspace(y0, y1, count)
    return x, y, surface.value(np.stack(np.meshgrid(x, y), axis=-1))


def _setting(name: str, value: Any) -> str:
    """A number by its name, a flag that is on by its name alone."""
    if not isinstance(value, bool):
        return f"{name} {in_words(value, 3)}"
    return name if value else f"{name} off"


def note(trace: Trace, surface: Surface, among: Sequence[Trace] = ()) -> str:
    """What the legend says of a path: its learning rate, what is not at its default or tells it from its like, and its fate."""
    usual = composed(rules.resolve(trace.of or trace.rule)).defaults
    like = [other.hypers for other in among if (other.label or other.rule) == (trace.label or trace.rule)]
    said = {n: v for n, v in trace.hypers.items() if n == "lr" or v != usual[n] or any(h.get(n) != v for h in like)}
    shown = ", ".join(_setting(name, value) for name, value in said.items())
    text = f"{trace.label or trace.rule}  {shown}".strip()
    if trace.at_end:
        text += f" ({trace.at_end})"
    if trace.diverged_at is not None:
        return f"{text}  (diverged: not finite from step {trace.diverged_at})"
    (x0, x1), (y0, y1) = surface.window
    outside = ((trace.points < (x0, y0)) | (trace.points > (x1, y1))).any(axis=1)
    return f"{text}  (leaves the picture at step {int(np.argmax(outside))})" if outside.any() else text


READ_AT = "where the model is read"
"""What the legend says of the second, fainter track: of rules that state it (`Rule.evaluated`)."""


def above_minimum(trace: Trace, surface: Surface) -> Array:
    """f - f* at each step, what is below `LOWEST` brought there; nan after a divergence."""
    height = trace.values - surface.minimum
    return np.where(np.isfinite(height), np.maximum(height, LOWEST), np.nan)


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
    points = np.concatenate(
        [*(p for t in traces for p in (t.points, t.evaluated)), np.reshape(surface.minima, (-1, 2))]
    )
    if not ((points >= (x0, y0)) & (points <= (x1, y1))).all():
        return surface.window
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.maximum(0.15 * (high - low), 0.05 * np.array([x1 - x0, y1 - y0]))
    left, lower = np.maximum(low - margin, (x0, y0))
    right, upper = np.minimum(high + margin, (x1, y1))
    return (float(left), float(right)), (float(lower), float(upper))


def what_is_compared(traces: Sequence[Trace]) -> str:
    """How the learning rates came about; where they were given, what is drawn."""
    if all(t.tuned and not t.cautions for t in traces):
        return "each at its best learning rate here" if len(traces) > 1 else "at its best learning rate here"
    if all(t.tuned for t in traces):
        return f"{'each ' if len(traces) > 1 else ''}at the best learning rate of those tried"
    return "value against step"
