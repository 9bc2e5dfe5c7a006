"""What a notebook's cell shows of a race, tuned or as given: its picture and its words."""

from __future__ import annotations

from typing import Any

import numpy as np

from steprule import extras
from steprule.errors import InputError
from steprule.races import Race
from steprule.races.as_given import Comparison
from steprule.races.verdict import in_words
from steprule.reports import race_charts
from steprule.reports.panels import TEXT, WIDTH
from steprule.reports.style import LOOK, style_of

with extras.needed():
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

NARROW = 3.6
"""Inches of a picture of one panel in small type: as wide as a phone its type can be read."""


def figure(result: Any) -> Figure:
    """The picture of a race. Raises `InputError` for one shard of several."""
    return _of_race(result) if isinstance(result, Race) else _of_comparison(result)


def words(result: Any) -> str:
    """What it says: the verdicts of a whole race."""
    return "\n".join(in_words(result)) if isinstance(result, Race) and result.whole else str(result.in_words())


def _of_race(result: Race) -> Figure:
    if not result.whole:
        hint = "Merge all shards: steprule.races.merge."
        raise InputError("a picture of a race", expected="a whole race", got="one shard of several", hint=hint)
    drawn = race_charts.standings(result)
    if len(drawn.axes) == 1:
        drawn.set_size_inches(NARROW, drawn.get_figheight())
    return drawn


def _of_comparison(result: Comparison) -> Figure:
    """Every seed's final loss, the middle 95 % of them, and the book's figures."""
    rows = result.rows[::-1]
    with mpl.rc_context({**LOOK, **TEXT}):
        figure = Figure(figsize=(WIDTH, 1.3 + 0.4 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for height, row in enumerate(rows):
            style = style_of(row.method)
            losses = np.array([run.final_loss for (label, _), run in result.runs.items() if label == row.label])
            lift = height + 0.28 * np.sin(np.arange(len(losses)) * 2.4)
            filled = "none" if row.form == "class" else style.colour
            first = (
                {"seed": "one seed", "bar": "middle 95 % of the seeds", "book": "printed by the book"}
                if not height
                else {}
            )
            axes.plot(losses, lift, style.marker, ms=4.5, color=style.colour, mfc=filled, label=first.get("seed"))
            if len(result.seeds) > 1:
                axes.plot(
                    [row.low, row.high], [height, height], color=style.colour, lw=3, alpha=0.6, label=first.get("bar")
                )
            if row.book:
                axes.plot(
                    row.book,
                    [height] * len(row.book),
                    "D",
                    ms=9,
                    color="#FFD700",
                    mec="black",
                    zorder=5,
                    label=first.get("book"),
                )
        if result.floor is not None:
            axes.axvline(result.floor, color="black", linestyle=":", linewidth=1, label=result.floor_name)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set(xlabel=f"final training loss, {len(result.seeds)} seed{'s' if len(result.seeds) > 1 else ''} each")
        axes.grid(alpha=0.3, axis="x")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2, borderpad=0)
    return figure
