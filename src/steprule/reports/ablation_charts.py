"""The picture of an ablation: what the loss gains or loses without each part, with its interval and its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from steprule import extras
from steprule.races.ablation import Effect, Findings, Panel
from steprule.races.ablation.words import SAID
from steprule.reports.race_charts import short
from steprule.reports.style import LOOK

with extras.needed():
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, MaxNLocator

COLOURS = {"helps": "#A34A00", "hurts": "#0072B2", "nothing": "#4F8A5B", "open": "#777777"}
MARKS = {"helps": "^", "hurts": "v", "nothing": "D", "open": "o"}
"""The colour of each verdict, as in its entry of the table, and the mark that tells it apart without colour."""
NARROW = 5.0
"""Inches of a picture of one panel: as wide as a phone its type can be read."""


def effects(found: Findings) -> Figure:
    """A panel per problem and schedule, two per line, with a row per part. The grey bar ends at the smallest effect that is found."""
    panels = found.panels
    columns = min(2, len(panels))
    lines = [panels[k : k + columns] for k in range(0, len(panels), columns)]
    height = 0.9 + 0.3 * len(found.parts)
    with mpl.rc_context(LOOK):
        width = NARROW if columns == 1 else 8.4
        figure = Figure(figsize=(width, height * len(lines) + 0.6), layout="constrained")
        grid = figure.subplots(len(lines), columns, squeeze=False)
        for row, own in zip(grid, lines, strict=True):
            for axes in row[len(own) :]:
                axes.set_visible(False)
            for axes, panel in zip(row, own, strict=False):
                _draw(axes, found, panel)
        figure.legend(handles=_marks(), loc="outside lower center", ncols=2 if columns == 1 else 3, fontsize=8)
    return figure


def _draw(axes: Any, found: Findings, panel: Panel) -> None:
    cell, own = panel.cell, list(reversed(panel.effects))
    least = cell.scale.percent(cell.scale.least(found.race.matters)) if cell.scale.tells else 0.0
    reach = _reach(own, least)
    axes.axvspan(-least, least, color=COLOURS["nothing"], alpha=0.12, lw=0)
    axes.axvline(0, color="black", lw=0.8)
    for height, effect in enumerate(own):
        _interval(axes, effect, height, reach)
    axes.set_yticks(range(len(own)), [short(e.part) for e in own])
    axes.set_ylim(-0.7, len(own) - 0.3)
    axes.set_xlim(-1.08 * reach, 1.08 * reach)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:+.4g}" if v else "0"))
    axes.grid(axis="x", alpha=0.25)
    axes.set_title(f"{short(cell.problem)}, {cell.schedule}")
    axes.set_xlabel(f"{cell.measure.loss} without the part, %{cell.scale.of}")


def _interval(axes: Any, effect: Effect, height: int, reach: float) -> None:
    colour = COLOURS[effect.verdict]
    percent, low, high = effect.pair.percent
    if effect.found is not None:
        seen = min(effect.found, reach)
        axes.plot([-seen, seen], [height] * 2, color="#b0b0b0", lw=6, alpha=0.45, solid_capstyle="butt")
    at = float(np.clip(percent, -reach, reach))
    if low is not None and high is not None:
        ends = [float(np.clip(v, -reach, reach)) for v in (low, high)]
        axes.plot(ends, [height] * 2, color=colour, lw=1.4, solid_capstyle="butt")
        for end, whole, sign in zip(ends, (low, high), "<>", strict=True):
            if end != whole:  # it goes on beyond the axis
                axes.plot(end, height, sign, color=colour, ms=4, clip_on=False)
    axes.plot(at, height, MARKS[effect.verdict], color=colour, ms=6)
    if at != percent:  # beyond the axis: an arrow and the number
        text = f"{percent:+.3g} →" if percent > 0 else f"← {percent:+.3g}"
        side = "right" if percent > 0 else "left"
        axes.annotate(text, (at, height), xytext=(0, 6), textcoords="offset points", ha=side, fontsize=8)


def _reach(own: Sequence[Effect], least: float) -> float:
    """How far the axis goes: one part that is worth much does not press the others together."""
    seen = [abs(v) for e in own for v in e.pair.percent if v is not None and np.isfinite(v)]
    return max(3 * least, 4 * float(np.median(seen))) if seen else max(3 * least, 1.0)


def _marks() -> list[Any]:
    marks: list[Any] = [
        Line2D([], [], lw=1.4, marker=MARKS[v], color=COLOURS[v], ms=6, label=said) for v, said in SAID.items()
    ]
    return [*marks, Patch(color=COLOURS["nothing"], alpha=0.2, lw=0, label="what does not matter"),
            Line2D([], [], color="#b0b0b0", lw=6, alpha=0.45, label="up to the smallest effect found")]  # fmt: skip
