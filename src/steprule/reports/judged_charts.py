"""The pictures of a judgement: standings, differences to the best, and how large a difference so many runs find."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from steprule import extras
from steprule.races.cell import CONFIDENCE
from steprule.races.judging import Comparison, Judgement, Pair
from steprule.races.power import smallest_found
from steprule.reports.race_charts import fit_axis, short
from steprule.reports.style import LOOK, Style, styles_of

with extras.needed():
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, MaxNLocator

VERDICTS = {"real": "#D55E00", "same": "#009E73", "open": "#777777"}
"""The colour of each verdict; each has its own mark too."""
MARKS = {"real": "s", "same": "D", "open": "o"}
NARROW = 5.0
"""Inches of a picture of one panel: as wide as a phone its type can be read."""
NEAR = 3
"""Up to this ratio an axis of ratios is drawn as a plain one, which has more numbers."""
MOST = 12
"""Problems that have a panel; of more the first have."""


def standings(judgement: Judgement) -> Figure:
    """Every run, and the mean of each method with its 95 % interval, or the median where a run diverged."""
    by_median = any(c.by_median for c in judgement.comparisons)
    middle = "mean, or median" if by_median else "mean"
    marks = [
        Line2D([], [], ls="", marker="o", color="#777777", mec="black", ms=6.5, label=middle),
        Line2D([], [], color="black", lw=1.6, label="its 95 % interval"),
        Line2D([], [], ls="", marker=".", color="#777777", ms=6, label="one run"),
    ]
    missed = "missed" if " until " in judgement.measure else "diverged"
    if by_median:
        marks.append(Line2D([], [], ls="", marker="x", color="#D55E00", ms=5, label=missed))
    draw = partial(_draw_standings, styles=_styles(judgement))
    return _panels(judgement, draw, lambda c: short(judgement.measure, 40), marks)


def _draw_standings(axes: Any, c: Comparison, styles: Mapping[str, Style]) -> None:
    """One problem: a row per method, the best at the top."""
    inside: list[float] = []
    level = c.level_with_best
    for height, s in enumerate(reversed(c.standings)):
        style = styles[s.method]
        values = s.values[np.isfinite(s.values)]
        lift = height + 0.26 * np.sin(np.arange(len(values)) * 2.4)
        axes.plot(values, lift, ".", color=style.colour, ms=4, alpha=0.5, rasterized=len(values) > 2_000)
        if math.isfinite(s.low) and math.isfinite(s.high):
            axes.plot([s.low, s.high], [height] * 2, color="black", lw=1.6, solid_capstyle="butt")
        if math.isfinite(s.value):
            axes.plot(s.value, height, style.marker, color=style.colour, mec="black", mew=0.8, ms=6.5)
        if s.gone:
            axes.annotate(f"× {s.gone} of {s.runs}", (1, height), xycoords=("axes fraction", "data"), ha="right",
                          va="center", fontsize=8, color="#D55E00")  # fmt: skip
        inside += [*values, s.value, s.low, s.high]
    axes.set_yticks(range(len(c.standings)), [short(s.method) for s in reversed(c.standings)])
    for tick, s in zip(axes.get_yticklabels(), reversed(c.standings), strict=True):
        tick.set_fontweight("bold" if s.method in level else "normal")
    seen = [value for value in inside if math.isfinite(value)] or [1.0]
    logarithmic = c.yardstick.is_ratio and max(seen) > NEAR * min(seen)
    fit_axis(axes, "x", seen, logarithmic=logarithmic)
    if any(s.gone for s in c.standings):  # room for the crosses
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * (high / low) ** 0.3 if logarithmic else high + 0.3 * (high - low))
    axes.set_ylim(-0.7, len(c.standings) - 0.3)
    axes.grid(axis="x", alpha=0.25)


def differences(judgement: Judgement) -> Figure:
    """How far each method is from the best of its problem, with the 95 % interval and the verdict."""

    def draw(axes: Any, c: Comparison) -> None:
        against = [p for p in c.pairs if p.a == c.standings[0].method]
        ends = [v for p in against for v in (p.difference, p.low, p.high) if math.isfinite(v)]
        least = abs(c.yardstick.shown(c.yardstick.sign * c.yardstick.least))
        reach = _reach(against, least)
        if least:
            axes.axvspan(-least, least, color="#009E73", alpha=0.13, lw=0)
        axes.axvline(0, color="black", lw=0.8)
        for height, p in enumerate(reversed(against)):
            _interval(axes, p, height, reach)
        axes.set_yticks(range(len(against)), [short(p.b) for p in reversed(against)])
        axes.set_ylim(-0.7, len(against) - 0.3)
        low, high = (
            min([0.0, -least, *(max(e, -reach) for e in ends)]),
            max([0.0, least, *(min(e, reach) for e in ends)]),
        )
        margin = 0.05 * (high - low) or 1.0
        axes.set_xlim(low - margin, high + margin)
        for height, p in enumerate(reversed(against)):
            _goes_on(axes, p, height)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:+.4g}" if v else "0"))
        axes.grid(axis="x", alpha=0.25)

    marks: list[Any] = [
        Line2D([], [], ls="-", lw=1.4, marker=MARKS[v], color=colour, ms=5.5, label=v) for v, colour in VERDICTS.items()
    ]
    if any(c.yardstick.least for c in judgement.comparisons):
        marks.append(Patch(color="#009E73", alpha=0.2, lw=0, label="what does not matter"))

    def axis(c: Comparison) -> str:
        unit = f"{c.yardstick.unit} " if c.yardstick.unit else ""
        return f"{unit}{'below' if judgement.is_higher_better else 'above'} {short(c.standings[0].method)}"

    return _panels(judgement, draw, axis, marks, fewer=1)


def _reach(against: Sequence[Pair], least: float) -> float:
    """How far the axis goes: one method far off does not press the others together."""
    sizes = [abs(p.difference) for p in against if math.isfinite(p.difference)]
    widths = [abs(v) for p in against for v in (p.low, p.high) if math.isfinite(v)]
    return 4 * float(np.median([*sizes, *widths, least])) + least if sizes else 1.0


def _interval(axes: Any, pair: Pair, height: int, reach: float) -> None:
    colour, at = VERDICTS[pair.verdict], float(np.clip(pair.difference, -reach, reach))
    low, high = (float(np.clip(v, -reach, reach)) for v in (pair.low, pair.high))
    axes.plot([low, high], [height] * 2, color=colour, lw=1.4, solid_capstyle="butt")
    axes.plot(at, height, MARKS[pair.verdict], color=colour, ms=5.5)
    if abs(pair.difference) > reach:  # beyond the axis: an arrow and the number
        text = f"{pair.difference:+.3g}" if math.isfinite(pair.difference) else "diverged"
        axes.annotate(f"{text} →" if pair.difference > 0 else f"← {text}", (at, height), xytext=(0, 6),
                      textcoords="offset points", ha="right" if at > 0 else "left", fontsize=8)  # fmt: skip


def _goes_on(axes: Any, pair: Pair, height: int) -> None:
    """An arrow at each edge of the panel beyond which the interval goes on."""
    left, right = axes.get_xlim()
    for is_beyond, edge, sign in ((pair.low < left, left, "<"), (pair.high > right, right, ">")):
        if is_beyond:
            axes.plot(edge, height, sign, color=VERDICTS[pair.verdict], ms=5, clip_on=False)
    axes.set_xlim(left, right)


def power(judgement: Judgement) -> Figure:
    """Against the number of runs the smallest difference that is found with 80 % power, and where each problem stands."""
    colours = [style.colour for style in styles_of([c.problem or "all" for c in judgement.comparisons])]
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(NARROW, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for c, colour in zip(judgement.comparisons[:MOST], colours, strict=False):
            if not math.isfinite(c.found) or c.spread is None:
                continue
            runs = np.unique(np.round(np.geomspace(2, max(100, 4 * c.per_method), 24))).tolist()
            tail = (1 - CONFIDENCE) / len(c.pairs) / 2
            gaps = [smallest_found(c.spread, n, c.freedom, tail) + c.yardstick.least for n in runs]
            found = [abs(c.yardstick.shown(c.yardstick.sign * gap)) for gap in gaps]
            axes.plot(
                runs,
                found,
                color=colour,
                lw=1.6,
                label=short(c.problem) if c.problem else "found in four of five tables",
            )
            axes.plot(c.per_method, c.found, "o", color=colour, mec="black", ms=6.5)
        axes.set(xscale="log", yscale="log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda v, _: f"{v:g}" if f"{v:g}"[0] in "25" else ""))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.yaxis.set_minor_formatter(
            FuncFormatter(lambda v, _: f"{v:g}" if f"{v:g}".lstrip("0.")[:1] in ("2", "5") else "")
        )
        units = {c.yardstick.unit for c in judgement.comparisons}
        unit = f", {units.pop()}" if len(units) == 1 and "" not in units else ""
        axes.set_xlabel(
            "tuning groups of each method"
            if all(p.how == "tuning groups" for p in judgement.pairs)
            else "runs of each method"
        )
        axes.set_ylabel(f"smallest difference found{unit}")
        axes.grid(alpha=0.25, which="both")
        handles, labels = axes.get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _styles(judgement: Judgement) -> dict[str, Style]:
    return dict(zip(judgement.compared, styles_of(judgement.compared), strict=True))


def _panels(
    judgement: Judgement,
    draw: Callable[[Any, Comparison], None],
    x: Callable[[Comparison], str],
    marks: Sequence[Any],
    *,
    fewer: int = 0,
) -> Figure:
    """A panel per problem, two per line; one alone is as wide as two."""
    shown = judgement.comparisons[:MOST]
    columns = min(2, len(shown))
    lines = [shown[k : k + columns] for k in range(0, len(shown), columns)]
    heights = [0.75 + 0.23 * (max(len(c.standings) for c in own) - fewer) for own in lines]
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(NARROW if columns == 1 else 8.4, sum(heights) + 0.6), layout="constrained")
        grid = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights)
        for row, own in zip(grid, lines, strict=True):
            for axes in row[len(own) :]:
                axes.set_visible(False)
            for axes, c in zip(row, own, strict=False):
                draw(axes, c)
                axes.set_title(short(c.problem))
                axes.set_xlabel(x(c))
        figure.legend(
            handles=marks, loc="outside lower center", ncols=min(len(marks), 4 if columns > 1 else 2), fontsize=8
        )
    return figure
