"""The figures of a tuned race, for its page and as files: one panel per problem and schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from steprule import extras
from steprule.races import Cell, Race
from steprule.races.protocol import MULTIPLES
from steprule.reports.race_styles import is_quiet, line, names, styles_in
from steprule.reports.style import LOOK, Style

with extras.needed():
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

BANDS = 3
"""Competitors whose spread is drawn; all of them would hide each other."""
SHADES = (
    (10.0, 1.0, "within 10 % of the rule's best"),
    (50.0, 0.5, "within 50 %"),
    (200.0, 0.22, "within 200 %"),
    (math.inf, 0.06, "further, or diverged"),
)
"""Of a learning rate: how many per cent it may be above the rule's best, how dark it is drawn, and in words."""


HANDLE, LETTER = 0.55, 0.065
"""Inches that a legend's entry takes, without and per letter of its words."""
LOWEST = 1.2
"""Inches of a panel, title and axis with it."""
ROOM = 0.2
"""Of a panel's width, for numbers of what lies beyond it."""
DEFAULT: Any = {"ls": "", "marker": "o", "mfc": "white", "mec": "#D55E00", "mew": 1.4, "ms": 5}
"""How a rule's own learning rate is marked."""


def standings(race: Race) -> Figure:
    """Every fresh run's loss, the mean after tuning with its 95 % interval, and the same with nothing tuned."""
    count, styles, order = len(race.spec.entrants), styles_in(race), race.order

    def draw(axes: Any, cell: Cell) -> None:
        level, inside = cell.level_with_best, []
        for height, s in enumerate(map(cell.standing, reversed(order))):
            style = styles[s.label]
            runs = race.losses(cell.problem, cell.schedule, s.label).ravel()
            lift = height + 0.26 * np.sin(np.arange(len(runs)) * 2.4)
            axes.plot(runs, lift, ".", color=style.colour, ms=2.2, alpha=0.35, rasterized=len(runs) > 2_000)
            if s.low is not None:
                axes.plot([s.low, s.high], [height] * 2, color="black", lw=1.6, solid_capstyle="butt")
            axes.plot(s.loss, height, style.marker, color=style.colour, mec="black", mew=0.8, ms=_size(style))
            inside += [s.loss, *(end for end in (s.low, s.high) if end is not None), *np.percentile(runs, [1, 97])]
        axes.set_yticks(range(count), [short(label) for label in reversed(order)])
        for tick, label in zip(axes.get_yticklabels(), reversed(order), strict=True):
            tick.set_fontweight("bold" if label in level else "normal")
        defaults = {k: cell.standing(label).default for k, label in enumerate(reversed(order))}
        untuned = {k: loss for k, loss in defaults.items() if loss is not None}
        near, beyond = _near(inside, untuned, logarithmic=cell.scale.ratios)
        fit_axis(axes, "x", [*inside, *near.values()], logarithmic=cell.scale.ratios)
        _make_room(axes, beyond.values(), logarithmic=cell.scale.ratios)
        for height, default in near.items():
            _hollow(axes, default, height, styles[order[-1 - height]])
        for height, default in beyond.items():
            _outside(axes, default, height, styles[order[-1 - height]])
        axes.set_ylim(-0.7, count - 0.3)
        axes.grid(axis="x", alpha=0.25)

    interval = [Line2D([], [], color="black", lw=1.6, label="its 95 % interval")]
    marks = [
        Line2D([], [], ls="", marker="o", color="#777", mec="black", ms=6.5, label="tuned, mean"),
        *(interval if race.tells_luck else []),
        Line2D([], [], ls="", marker="o", mfc="white", mec="#777", ms=5.5, label="untuned, mean"),
        Line2D([], [], ls="", marker=".", color="#777", ms=4, label="one training of a tuned winner"),
    ]
    return _panels(race, draw, _of_loss("{}"), lambda cell: "", marks, height=0.8 + 0.21 * count)


def _near(
    inside: Sequence[float], untuned: Mapping[int, float], *, logarithmic: bool
) -> tuple[dict[int, float], dict[int, float]]:
    """By row the untuned that lie no further out than the others are wide, and those beyond, which would press the others together."""
    scale = np.log if logarithmic else np.asarray
    seen = scale([value for value in inside if np.isfinite(value)])
    low, high = float(seen.min()), float(seen.max())
    reach = max(high - low, 0.4 if logarithmic else 0.4 * abs(high))
    at = {row: float(scale(value)) if not logarithmic or value > 0 else -np.inf for row, value in untuned.items()}
    near = {row: untuned[row] for row, own in at.items() if low - reach <= own <= high + reach}
    return near, {row: value for row, value in untuned.items() if row not in near}


def _make_room(axes: Any, beyond: Collection[float], *, logarithmic: bool) -> None:
    """Widen the panel on the sides beyond which something lies, by what its number takes."""
    low, high = axes.get_xlim()
    wider = (high / low) ** ROOM if logarithmic else ROOM * (high - low)
    if any(value > high for value in beyond):
        axes.set_xlim(right=high * wider if logarithmic else high + wider)
    if any(value < low for value in beyond):
        axes.set_xlim(left=low / wider if logarithmic else low - wider)


def _hollow(axes: Any, value: float, height: int, style: Style) -> None:
    axes.plot(value, height, style.marker, mfc="white", mec=style.colour, mew=1.2, ms=_size(style) - 1)


def _size(style: Style) -> float:
    """A star is smaller than its points say."""
    return 9.0 if style.marker == "*" else 6.5


def _outside(axes: Any, value: float, height: int, style: Style) -> None:
    """A number at the edge behind which it lies, with an arrow."""
    right = value > axes.get_xlim()[1]
    text = f"{value:.3g} →" if right else f"← {value:.3g}"
    axes.annotate(text, (1 if right else 0, height), xycoords=("axes fraction", "data"), ha="right" if right else "left",
                  va="center", fontsize=7.5, color=style.colour)  # fmt: skip


def best_of_k(race: Race) -> Figure:
    """What the best of k trials is worth, for every k."""

    styles = styles_in(race)

    def draw(axes: Any, cell: Cell) -> None:
        k, shown = np.arange(1, race.tuning.trials + 1), []
        for s in cell.standings:
            loss = cell.scale.loss(race.best_of_k(cell.problem, cell.schedule, s.label))
            axes.plot(k, loss, **line(styles[s.label], max(1, len(k) // 6)))
            shown += list(loss)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        fit_axis(axes, "y", shown, logarithmic=cell.scale.ratios)
        axes.grid(alpha=0.25)

    return _panels(race, draw, lambda cell: "trials k", _of_loss("{} of the best of k"), names(race, short))


def curves(race: Race) -> Figure:
    """The training loss against the step: medians of the tuned winners' runs; for three that stand out the middle half too."""
    styles = styles_in(race)
    banded = [label for label in race.order if not is_quiet(styles[label])][:BANDS]

    def draw(axes: Any, cell: Cell) -> None:
        shown = [cell.initial, cell.target]
        for s in cell.standings:
            style, losses = styles[s.label], race.curves(cell.problem, cell.schedule, s.label)
            above = 4 * abs(cell.initial) + 1  # beyond the axis: what is not finite has no place on it
            share = (np.arange(losses.shape[1]) + 1) / losses.shape[1] * 100
            low, middle, high = np.percentile(np.minimum(losses, above), [25, 50, 75], axis=0, method="nearest")
            if s.label in banded:
                axes.fill_between(share, low, high, color=style.colour, alpha=0.18, lw=0)
            axes.plot(share, middle, **line(style, 6))
            shown += [loss for loss in middle if loss <= cell.initial]
        if np.isfinite(cell.target):
            axes.axhline(cell.target, color="black", lw=0.8, ls=(0, (2, 2)))
        # A batch's loss can be below 0 where that of all samples is not: noise on a surface is.
        fit_axis(axes, "y", shown, logarithmic=min(shown) > 0)
        axes.grid(alpha=0.25)

    marks = [*names(race, short), Line2D([], [], color="black", lw=0.8, ls=(0, (2, 2)), label="target")]
    return _panels(race, draw, lambda cell: "% of the training's steps", lambda cell: "training loss of a batch", marks)


def sensitivity(race: Race) -> Figure:
    """A strip per rule: how far each learning rate is above the rule's best, all else as the winner in the middle has it."""
    order = race.order

    def draw(axes: Any, cell: Cell) -> None:
        seen: list[float] = []
        for height, label in enumerate(reversed(order)):
            means = race.sensitivity(cell.problem, cell.schedule, label)
            if means is None:
                axes.annotate("no learning rate is searched", (0.5, height), xycoords=("axes fraction", "data"), ha="center",
                              va="center", fontsize=7.5)  # fmt: skip
                continue
            rates = cell.standing(label).hypers["lr"] * MULTIPLES
            edges = rates[0] * (rates[1] / rates[0]) ** (np.arange(len(rates) + 1) - 0.5)
            above = [cell.scale.percent(float(gap)) for gap in means - means.min()]
            shades = [next(alpha for most, alpha, _ in SHADES if not percent > most) for percent in above]
            first = 0
            for shade, alike in groupby(shades):
                last = first + len(list(alike))
                axes.fill_between(edges[[first, last]], height - 0.36, height + 0.36, color="black", alpha=shade, lw=0)
                first = last
            axes.plot(rates[int(np.argmin(means))], height, "|", color="white", ms=7, mew=1.6)
            default = race.spec.entrant(label).defaults.get("lr")
            if default is not None and edges[0] <= default <= edges[-1]:
                axes.plot(default, height, **DEFAULT)
            seen += [edges[0], edges[-1]]
        axes.set_yticks(range(len(order)), [short(label) for label in reversed(order)])
        axes.set_ylim(-0.7, len(order) - 0.3)
        axes.set_xscale("log")
        if seen:
            axes.set_xlim(min(seen), max(seen))
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="x", alpha=0.25)

    marks: list[Any] = [Patch(color="black", alpha=alpha, lw=0, label=text) for _, alpha, text in SHADES]
    marks.append(Line2D([], [], **DEFAULT, label="the rule's default, where it is in sight"))
    height = 0.8 + 0.21 * len(order)
    return _panels(race, draw, _of_rate, lambda cell: "", marks, height=height)


def _of_rate(cell: Cell) -> str:
    return f"learning rate (shade: {cell.measure.loss})"


def profiles(race: Race) -> Figure:
    """For each competitor the share of cells in which it needs at most tau times the fewest steps to the target."""
    taus, shares = race.profile
    styles = styles_in(race)
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        end = max(1.6, float(taus[-1]) * 1.1)
        for entrant, share in zip(race.spec.entrants, shares, strict=True):
            look = line(styles[entrant.label], max(1, len(taus) // 6))
            axes.plot([*taus, end], [*share * 100, share[-1] * 100], drawstyle="steps-post", **look)
        axes.set_xlabel("τ: steps to the target, over the fewest of anyone")
        axes.set_ylabel("% of problems and schedules")
        axes.set_xlim(0.98, end)
        axes.set_ylim(-3, 103)
        axes.grid(alpha=0.25)
        figure.legend(handles=names(race, short), loc="outside right center", fontsize=8)
    return figure


Axis = Callable[[Cell], str]
"""What stands at an axis of a cell's panel."""


def _of_loss(text: str) -> Axis:
    """The cell's own loss in a text, and how its axis runs."""
    return lambda cell: f"{text.format(cell.measure.loss)}{' (log scale)' if cell.scale.ratios else ''}"


def fit_axis(axes: Any, which: str, shown: Sequence[float], *, logarithmic: bool) -> None:
    """Let an axis hold what is to be seen, with a margin, also where all of it is one number."""
    seen = [value for value in shown if np.isfinite(value)] or [1.0]
    low, high = min(seen), max(seen)
    axis, limits = getattr(axes, f"{which}axis"), getattr(axes, f"set_{which}lim")
    if logarithmic:
        getattr(axes, f"set_{which}scale")("log")
        margin = max((high / low) ** 0.05, 1.01)
        limits(low / margin, high * margin)
        _plain_ticks(axis)
        return
    margin = 0.05 * (high - low) or 0.01 * abs(high) or 0.01
    limits(low - margin, high + margin)
    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.4g}"))


def _panels(
    race: Race, draw: Callable[[Any, Cell], None], x: Axis, y: Axis, marks: Sequence[Any], *, height: float = 2.5,
) -> Figure:  # fmt: skip
    """A grid: a column per problem, at most three per line, and a line per schedule. Where panels measure alike, only the first of
    a line says so at its y axis."""
    problems = race.spec.problems
    columns = min(3, len(problems))
    cells = []
    for first in range(0, len(problems), columns):
        beside_it = problems[first : first + columns]
        cells += [[race.cell(p.name, schedule) for p in beside_it] for schedule in race.spec.schedule_names]
    width = max(4.6, 3.5 * columns)
    widest = max(len(str(mark.get_label())) for mark in marks)
    beside = max(1, min(len(marks), 2 * columns, int(width / (HANDLE + LETTER * widest))))
    below = 0.35 + 0.2 * -(-len(marks) // beside)  # the legend
    with mpl.rc_context(LOOK):
        room = ConstrainedLayoutEngine(w_pad=0.1)  # the reader's font may be wider than the one that is measured
        figure = Figure(figsize=(width, max(LOWEST, height) * len(cells) + below), layout=room)
        grid = figure.subplots(len(cells), columns, squeeze=False)
        for line, own in zip(grid, cells, strict=True):
            for axes in line[len(own) :]:
                axes.set_visible(False)
            for k, (axes, cell) in enumerate(zip(line, own, strict=False)):
                draw(axes, cell)
                axes.set_title(f"{short(cell.problem)}, {cell.schedule}")
                axes.set_xlabel(x(cell))
                if k == 0 or y(cell) != y(own[0]):
                    axes.set_ylabel(y(cell))
        figure.legend(handles=marks, loc="outside lower center", ncols=beside, fontsize=8)
    return figure


def _plain_ticks(axis: Any) -> None:
    low, high = axis.get_view_interval()
    subs: tuple[float, ...] = (1, 1.5, 2, 3, 4, 5, 7)
    if high > 6 * low:
        subs = (1, 2, 5)
    if high > 300 * low:
        subs = (1,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.3g}"))
    axis.set_minor_formatter(NullFormatter())


def short(name: str, most: int = 24) -> str:
    """A name as a label: not too long, and no mathematics to matplotlib."""
    return (name if len(name) <= most else name[: most - 1] + "…").replace("$", r"\$")
