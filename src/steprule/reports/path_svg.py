"""Paths as an SVG picture, light or dark as the screen: the ways over the surface, and how the value fell.

It is written without a drawing library, so a class needs numpy and sympy alone. Colours are attributes, which every viewer knows; a style
sheet changes them where the reader's screen is dark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from steprule.paths import Trace
from steprule.reports.contours import curves
from steprule.reports.style import DARK, Style, outline, strokes, styles_of
from steprule.reports.ticks import as_power, powers, raised, ticks
from steprule.reports.walked import (
    HIGHEST,
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

WIDTH, LEFT, RIGHT = 600, 72, 586
LINE = 22
"""From one line of the legend to the next, in pixels."""
MIDDLE = 'text-anchor="middle"'
GRID = 140
"""Points per side from which contours are drawn."""
FEW = 60
"""Steps up to which each has its mark."""
FARTHEST = 1e5
"""Pixels from the picture beyond which nothing is told apart."""
STAR = "M0,-9L2.1,-2.9L8.6,-2.8L3.4,1.1L5.3,7.3L0,3.6L-5.3,7.3L-3.4,1.1L-8.6,-2.8L-2.1,-2.9Z"


_FAINT = 'fill="none" stroke="currentColor" stroke-opacity=".55" stroke-width="5" stroke-linejoin="round" stroke-linecap="round"'
_EDGE = 'stroke="#1b1b1b" stroke-width="1.5"'
MARKS = {"start": (outline("o", 5), f'fill="#ffffff" {_EDGE}'), "minimum": (STAR, f'fill="#FFD700" {_EDGE}')}


@dataclass(frozen=True)
class _Box:
    """One pair of axes: where it lies in the picture, and which numbers it spans; `log` for the upward axis."""

    name: str
    top: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False

    def at(self, x: Array, y: Array) -> Array:
        """Points in pixels [n, 2]."""
        low, high = self.y
        if self.log:
            low, high, y = np.log10(low), np.log10(high), np.log10(y)
        across = LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (RIGHT - LEFT)
        up = self.bottom - (y - low) / (high - low) * (self.bottom - self.top)
        return np.clip(np.stack([across, up], axis=-1), -FARTHEST, FARTHEST)


def svg(traces: Sequence[Trace]) -> str:
    """The picture as text; the same paths give the same text."""
    surface = traces[0].ground
    styles = styles_of([t.label or t.rule for t in traces])
    heights = [above_minimum(t, surface) for t in traces]
    top = max(h[0] for h in heights) * HIGHEST
    heights = [within(h, top) for h in heights]
    across, up = view(traces, surface)
    plane = _Box("plane", 62, 400, across, up)
    steps = max(t.steps for t in traces)
    fall = _Box("fall", 476, 676, (-0.02 * steps, 1.02 * steps), _span(heights), log=True)
    tracks = [
        _track(k, style, plane, trace.elsewhere)
        for k, (trace, style) in enumerate(zip(traces, styles, strict=True))
        if trace.elsewhere is not None
    ]
    ways = [
        _way(k, style, plane, trace.points, len(traces)) + _way(k, style, fall, _against_step(h), len(traces))
        for k, (trace, style, h) in enumerate(zip(traces, styles, heights, strict=True))
    ]
    marks = _marks(plane, [traces[0].points[0]], "start") + _marks(plane, surface.minima, "minimum")
    notes = [note(t, surface, traces) for t in traces]
    legend, height = _legend(notes, styles, fall.bottom + 68, two_points=bool(tracks))
    said = f"{', '.join(notes)} on {ground(traces[0])}"
    body = "".join(
        [
            _contours(surface, plane), _frame(plane, "x", "y"), _frame(fall, "step", "f − f*"), _titles(traces, surface),
            *tracks, *ways, marks, legend,
        ]
    )  # fmt: skip
    clips = "".join(f'<clipPath id="{box.name}">{_rectangle(box)}</clipPath>' for box in (plane, fall))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}" role="img" '
        f'color="#1b1b1b" fill="currentColor" font-family="system-ui,sans-serif" font-size="14"><title>{escape(said)}</title>'
        f'<style>{_sheet(styles)}</style><defs>{clips}</defs><rect class="paper" width="100%" height="100%" fill="#ffffff"/>{body}</svg>\n'
    )


def _sheet(styles: Sequence[Style]) -> str:
    """The style sheet: what changes on a dark screen."""
    ways = "".join(f".w{k}{{color:{DARK.get(s.colour.lower(), s.colour)}}}" for k, s in enumerate(styles))
    dark = f"svg{{color:#ececec}}.paper{{fill:#1e2129}}{ways}"
    return f":root{{color-scheme:light dark}}@media(prefers-color-scheme:dark){{{dark}}}"


def _span(heights: Sequence[Array]) -> tuple[float, float]:
    """The heights that the lower axes span, with a margin."""
    every = np.concatenate(heights)
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    margin = max((high / low) ** 0.05, 1.3)
    return low / margin, high * margin


def _against_step(heights: Array) -> Array:
    return np.stack([np.arange(len(heights), dtype=np.float64), heights], axis=-1)


def _contours(surface: Surface, plane: _Box) -> str:
    """Each level's area in a thin veil, so that lower ground is darker, and its line."""
    x, y, f = grid(surface, (plane.x, plane.y), GRID)
    areas = []
    for level in log_levels(f, surface.minimum):
        rings = [plane.at(*ring.T) for ring in curves(x, y, f, float(level))]
        areas.append(f'<path d="{"".join(_line(ring) + "Z" for ring in rings)}"/>')
    look = 'fill-opacity=".035" stroke="currentColor" stroke-opacity=".3" stroke-width=".8"'
    return f'<g clip-path="url(#{plane.name})" {look} fill-rule="evenodd">{"".join(areas)}</g>'


def _line(points: Array) -> str:
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _frame(box: _Box, x: str, y: str) -> str:
    """The axes: a frame, ticks with their numbers, and what they are."""
    shown = [_rectangle(box, 'fill="none" stroke="currentColor" stroke-opacity=".5"')]
    low = box.y[0] if box.log else 0.0
    for value in ticks(*box.x, 6):
        at, _ = box.at(np.array([value]), np.array([low or box.y[0]]))[0]
        shown.append(f'<path d="M{at:.1f},{box.bottom:g}v5" stroke="currentColor"/>')
        shown.append(_text(_number(value), at, box.bottom + 20, MIDDLE))
    for value in powers(*box.y, 6) if box.log else ticks(*box.y, 6):
        _, at = box.at(np.array([box.x[0]]), np.array([value]))[0]
        reach = f"H{RIGHT}" if box.log else "h-5"
        faint = ' stroke-opacity=".2"' if box.log else ""
        label = as_power(value) if box.log else _number(value)
        shown.append(f'<path d="M{LEFT},{at:.1f}{reach}" stroke="currentColor"{faint}/>')
        shown.append(_text(label, LEFT - 9, at + 5, 'text-anchor="end"'))
    middle = (box.top + box.bottom) / 2
    shown.append(_text(x, (LEFT + RIGHT) / 2, box.bottom + 38, MIDDLE))
    shown.append(_text(y, 0, 0, f'transform="translate(14,{middle:g})rotate(-90)" {MIDDLE}'))
    return "".join(shown)


def _rectangle(box: _Box, look: str = "") -> str:
    return f'<rect x="{LEFT}" y="{box.top:g}" width="{RIGHT - LEFT}" height="{box.bottom - box.top:g}" {look}/>'


def _number(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")


def _titles(traces: Sequence[Trace], surface: Surface) -> str:
    formula = "f = " + re.sub(r"\^(\d+)", lambda found: raised(found[1]), surface.formula).translate(
        str.maketrans("*-", "·−")
    )
    size = min(14.0, 1.8 * (RIGHT - LEFT) / len(formula))
    compared = f"value above the minimum, {what_is_compared(traces)}".replace(", value against step", "")
    return (
        _text(ground(traces[0]), LEFT, 24, 'font-size="16" font-weight="600"')
        + _text(formula, LEFT, 48, f'font-size="{size:.1f}"')
        + _text(compared, LEFT, 466, 'font-weight="600"')
    )


def _way(k: int, style: Style, box: _Box, points: Array, count: int) -> str:
    """A path, or the values along it: its line, a mark per step where they are few, and its end, or where it diverged."""
    finite = np.isfinite(points).all(axis=1)
    steps = len(points) if finite.all() else int(np.argmin(finite))
    at = box.at(*points[:steps].T)
    # Where paths coincide, the earlier, wider one shows at the border and between the dashes of the later.
    width = 2 + min(0.9, 5 / count) * (count - 1 - k)
    shown = [f'<path d="{_line(at)}" fill="none" stroke-linejoin="round" {_stroke(style, width)}/>']
    if len(points) <= FEW + 1:
        shown += [_shape(outline(style.marker, 4), place) for place in at]
    if steps == len(points):
        shown.append(_shape(outline(style.marker, 6), at[-1], 'stroke="#ffffff"'))
    else:
        shown.append(_shape("M-7,-7L7,7M7,-7L-7,7", at[-1], 'stroke="currentColor" stroke-width="4"'))
    return f'<g class="w{k}" color="{style.colour}" clip-path="url(#{box.name})">{"".join(shown)}</g>'


def _track(k: int, style: Style, box: _Box, points: Array) -> str:
    """Where the model is read, fainter than the way: up to the last point that is finite, which has a mark."""
    finite = np.isfinite(points).all(axis=1)
    at = box.at(*points[: len(points) if finite.all() else int(np.argmin(finite))].T)
    shown = f'<path d="{_line(at)}" {_FAINT}/>' + _shape(outline(style.marker, 6), at[-1], 'fill-opacity=".6"')
    return f'<g class="w{k}" color="{style.colour}" clip-path="url(#{box.name})">{shown}</g>'


def _stroke(style: Style, width: float) -> str:
    dash = " ".join(f"{length:g}" for length in strokes(style.dash))
    return f'stroke="currentColor" stroke-width="{width:.1f}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _shape(path: str, place: Sequence[float] | Array, look: str = "") -> str:
    x, y = place
    return f'<path d="{path}" transform="translate({x:.1f},{y:.1f})" {look}/>'


def _marks(box: _Box, points: Sequence[Point], name: str) -> str:
    """Start or minimum, at each of the points."""
    path, look = MARKS[name]
    return "".join(_shape(path, place, look) for place in box.at(*np.reshape(points, (-1, 2)).T))


def _legend(notes: Sequence[str], styles: Sequence[Style], top: float, *, two_points: bool) -> tuple[str, float]:
    """A line per path, then start, minimum and the fainter track where there is one; and where it ends."""
    shown = []
    for k, (words, style) in enumerate(zip(notes, styles, strict=True)):
        y = top + LINE * k
        sample = f'<path d="M{LEFT},{y - 5:g}h40" {_stroke(style, 2.5)}/>' + _shape(
            outline(style.marker, 5), (LEFT + 20, y - 5)
        )
        shown.append(f'<g class="w{k}" color="{style.colour}">{sample}</g>{_text(words, LEFT + 52, y)}')
    y = top + LINE * len(notes)
    for x, name in zip((LEFT + 20, LEFT + 120), MARKS, strict=True):
        path, look = MARKS[name]
        shown.append(_shape(path, (x, y - 5), look) + _text(name, x + 16, y))
    if two_points:
        shown.append(f'<path d="M{LEFT + 220},{y - 5:g}h40" {_FAINT}/>' + _text(READ_AT, LEFT + 272, y))
    return "".join(shown), y + 18


def _text(words: str, x: float, y: float, look: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(words)}</text>'
