"""The figures of a tuned race, for its page and as files: one panel per problem and schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from steprule import extras
from steprule.races import Cell, Race
from steprule.races.protocol import MULTIPLES
from steprule.reports.style import LOOK, Style, style_of

with extras.needed():
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

BANDS = 3
"""Competitors whose spread is drawn; all of them would hide each other."""


def standings(race: Race) -> Figure:
    """Every fresh run's loss, the mean after tuning with its 95 % interval, and the same with nothing tuned."""
    count = len(race.spec.entrants)

    def draw(axes: Any, cell: Cell) -> None:
        level, inside = cell.level_with_best, []
        for height, s in enumerate(reversed(cell.standings)):
            style = style_of(s.label)
            runs = race.losses(cell.problem, cell.schedule, s.label).ravel()
            lift = height + 0.26 * np.sin(np.arange(len(runs)) * 2.4)
            axes.plot(runs, lift, ".", color=style.colour, ms=2.2, alpha=0.35, rasterized=len(runs) > 2_000)
            if s.low is not None:
                axes.plot([s.low, s.high], [height] * 2, color="black", lw=1.6, solid_capstyle="butt")
            axes.plot(s.loss, height, style.marker, color=style.colour, mec="black", mew=0.8, ms=6.5)
            if s.default is not None:
                axes.plot(s.default, height, style.marker, mfc="white", mec=style.colour, mew=1.2, ms=5.5)
            inside += [s.loss, *np.percentile(runs, [1, 97]), s.loss if s.default is None else s.default]
        axes.set_yticks(range(count), [short(s.label) for s in reversed(cell.standings)])
        for tick, s in zip(axes.get_yticklabels(), reversed(cell.standings), strict=True):
            tick.set_fontweight("bold" if s.label in level else "normal")
        fit_axis(axes, "x", inside, logarithmic=cell.scale.ratios)
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


def best_of_k(race: Race) -> Figure:
    """What the best of k trials is worth, for every k."""

    def draw(axes: Any, cell: Cell) -> None:
        k, shown = np.arange(1, race.tuning.trials + 1), []
        for s in cell.standings:
            style = style_of(s.label)
            loss = cell.scale.loss(race.best_of_k(cell.problem, cell.schedule, s.label))
            axes.plot(k, loss, **line(style, max(1, len(k) // 6)))
            shown += list(loss)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        fit_axis(axes, "y", shown, logarithmic=cell.scale.ratios)
        axes.grid(alpha=0.25)

    return _panels(race, draw, lambda cell: "trials k", _of_loss("{} of the best of k"), _names(race))


def curves(race: Race) -> Figure:
    """The training loss against the step: medians of the tuned winners' runs; for the best three the middle half too."""

    def draw(axes: Any, cell: Cell) -> None:
        shown = [cell.initial, cell.target]
        for rank, s in enumerate(cell.standings):
            style, last = style_of(s.label), race.chain(cell.problem, cell.schedule, s.label)[-1]
            losses = last.results["curve"][last.lanes.role == "winner"]
            losses = np.where(np.isfinite(losses), losses, np.inf)
            above = 4 * abs(cell.initial) + 1  # beyond the axis: what is not finite has no place on it
            share = (np.arange(losses.shape[1]) + 1) / losses.shape[1] * 100
            low, middle, high = np.percentile(np.minimum(losses, above), [25, 50, 75], axis=0, method="nearest")
            if rank < BANDS:
                axes.fill_between(share, low, high, color=style.colour, alpha=0.18, lw=0)
            axes.plot(share, middle, **line(style, 6))
            shown += [loss for loss in middle if loss <= cell.initial]
        if np.isfinite(cell.target):
            axes.axhline(cell.target, color="black", lw=0.8, ls=(0, (2, 2)))
        # A batch's loss can be below 0 where that of all samples is not: noise on a surface is.
        fit_axis(axes, "y", shown, logarithmic=min(shown) > 0)
        axes.grid(alpha=0.25)

    marks = [*_names(race), Line2D([], [], color="black", lw=0.8, ls=(0, (2, 2)), label="target")]
    return _panels(race, draw, lambda cell: "% of the training's steps", lambda cell: "training loss of a batch", marks)


def sensitivity(race: Race) -> Figure:
    """The loss against the learning rate, all else as the winner in the middle has it."""

    def draw(axes: Any, cell: Cell) -> None:
        shown = [cell.standings[0].loss]
        for s in cell.standings:
            means = race.sensitivity(cell.problem, cell.schedule, s.label)
            if means is None:
                continue
            axes.plot(s.hypers["lr"] * MULTIPLES, cell.scale.loss(means), **line(style_of(s.label), 3))
            shown += [float(cell.scale.loss(means.min())), float(cell.scale.loss(np.percentile(means, 60)))]
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=8))
        if cell.scale.ratios:
            shown.append(1.2 * min(shown))
        fit_axis(axes, "y", shown, logarithmic=cell.scale.ratios)
        axes.grid(alpha=0.25)

    return _panels(race, draw, lambda cell: "learning rate", _of_loss("{}"), _names(race))


def profiles(race: Race) -> Figure:
    """For each competitor the share of cells in which it needs at most tau times the fewest steps to the target."""
    taus, shares = race.profile
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        end = max(1.6, float(taus[-1]) * 1.1)
        for entrant, share in zip(race.spec.entrants, shares, strict=True):
            style = style_of(entrant.label)
            axes.plot([*taus, end], [*share * 100, share[-1] * 100], drawstyle="steps-post", **line(style, 1))
        axes.set_xlabel("τ: steps to the target, over the fewest of anyone")
        axes.set_ylabel("% of problems and schedules")
        axes.set_xlim(0.98, end)
        axes.set_ylim(-3, 103)
        axes.grid(alpha=0.25)
        figure.legend(handles=_names(race), loc="outside right center", fontsize=8)
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
    race: Race, draw: Callable[[Any, Cell], None], x: Axis, y: Axis, marks: Sequence[Line2D], *, height: float = 2.5,
) -> Figure:  # fmt: skip
    """A grid: problems are columns, three a line at most, schedules lines. Where panels measure alike, the first of a line
    alone says so at its y axis."""
    columns = min(3, len(race.spec.problems))
    cells = [
        [race.cell(p.name, s) for p in race.spec.problems[k : k + columns]]
        for k in range(0, len(race.spec.problems), columns)
        for s in race.spec.schedule_names
    ]
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(max(4.6, 3.5 * columns), height * len(cells) + 0.6), layout="constrained")
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
        figure.legend(handles=marks, loc="outside lower center", ncols=min(len(marks), 2 * columns), fontsize=8)
    return figure


def line(style: Style, every: int) -> dict[str, Any]:
    """How a rule's line is drawn, with a mark at every so many points."""
    return {"color": style.colour, "ls": style.dash, "marker": style.marker, "ms": 3.5, "lw": 1.4, "markevery": every}


def _names(race: Race) -> list[Line2D]:
    return [Line2D([], [], label=short(e.label), **line(style_of(e.label), 1)) for e in race.spec.entrants]


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
