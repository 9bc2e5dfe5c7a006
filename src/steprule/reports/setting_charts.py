"""The figures of settings as given: every seed's final loss, how losses fall, and each rule's path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from steprule.paths import Trace, trace, tuned_trace
from steprule.races import Chain, Race, Setting
from steprule.races.setting import percentile
from steprule.reports.race_charts import short
from steprule.reports.style import LOOK, Style, style_of
from steprule.tutorial.settings import TUTORIAL_PATHS, figures_of, floor_name, is_tutorial, runs_of

SURFACE = "quadratic"
"""On which the paths are drawn: the tutorial's."""
BOOK: Any = {"marker": "D", "ls": "none", "color": "#FFD700", "mec": "black"}
"""How a figure of the book is marked."""


def method_of(race: Race, setting: Setting) -> str:
    """What the reader calls a setting: the tutorial's word for its own runs, else the label."""
    run = runs_of(race).get(setting.label)
    return setting.label if run is None else run.method


def style_of_setting(race: Race, setting: Setting) -> Style:
    """The style of the tutorial's method, else of the rule or class that was set."""
    run = runs_of(race).get(setting.label)
    return style_of(setting.optimizer if run is None else run.method)


def spreads(race: Race, settings: Sequence[Setting]) -> Figure:
    """Every seed's final loss. Where some lie so far out that they press the others together, once near and once whole."""
    near, whole = _ranges(race, settings)
    both = near != whole
    height = 1.3 + 0.34 * len(settings)
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(9.0, height), layout="constrained")
        panels = figure.subplots(1, 2 if both else 1, sharey=True, squeeze=False, width_ratios=[3, 1.3][: 1 + both])[0]
        for axes, ends in zip(panels, (near, whole), strict=False):
            draw_seeds(axes, race, settings, size=3.5)
            axes.set_xlim(ends)
            axes.xaxis.set_major_locator(MaxNLocator(5 if axes is panels[0] else 3))
        panels[0].set_xlabel("final loss on all training samples")
        if both:
            panels[1].set_title("everything")
            for height_, setting in enumerate(reversed(settings)):
                if beyond := int((~(setting.finals <= near[1])).sum()):
                    text = f"{beyond} of {setting.seeds} beyond →"
                    where = {"xytext": (-2, 5), "textcoords": "offset points", "ha": "right", "fontsize": 7}
                    panels[0].annotate(text, (near[1], height_), **where)
        marks = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=len(marks), fontsize=8)
    return figure


def draw_seeds(axes: Any, race: Race, settings: Sequence[Setting], *, size: float) -> None:
    """A row per setting: its seeds, the middle 95 % of them, the book's figures, the least loss that there is."""
    for height, setting in enumerate(reversed(settings)):
        style, books = style_of_setting(race, setting), figures_of(race, setting)
        # A fixed spread over the row's height, so that the same race gives the same picture.
        lift = height + 0.28 * np.sin(np.arange(setting.seeds) * 2.4)
        filled = style.colour if setting.is_rule else "none"
        axes.plot(setting.finals, lift, style.marker, ms=size, color=style.colour, mfc=filled)
        if setting.seeds > 1:
            axes.plot([setting.low, setting.high], [height] * 2, color=style.colour, lw=3, alpha=0.6)
        axes.plot(books, [height] * len(books), ms=2 * size, zorder=5, **BOOK)
    for mark in _marks(race, settings, size):
        axes.add_line(mark)
    task = race.spec.problem(settings[0].problem)
    if task.floor is not None:
        name = f"{floor_name(task)}, {task.floor:.6g}"
        axes.axvline(task.floor, color="black", linestyle=":", linewidth=1, label=name)
    axes.set_yticks(range(len(settings)), [short(s.label) for s in reversed(settings)])
    axes.set_ylim(-0.6, len(settings) - 0.4)
    axes.grid(alpha=0.3, axis="x")


def _marks(race: Race, settings: Sequence[Setting], size: float) -> list[Line2D]:
    """What the marks mean, as lines without points."""
    grey: dict[str, Any] = {"ls": "none", "marker": "o", "color": "#777777", "ms": size}
    marks = []
    if any(s.is_rule for s in settings):
        marks.append(Line2D([], [], **grey, label="formula, one seed"))
    if not all(s.is_rule for s in settings):
        marks.append(Line2D([], [], **grey, mfc="none", label="class, one seed"))
    if settings[0].seeds > 1:
        marks.append(Line2D([], [], color="#777777", lw=3, alpha=0.6, label="middle 95 % of the seeds"))
    if any(figures_of(race, s) for s in settings):
        marks.append(Line2D([], [], ms=2 * size, **BOOK, label="printed by the book"))
    return marks


def curves(race: Race, settings: Sequence[Setting]) -> Figure:
    """One panel per method: median and middle 95 % of the loss against the samples seen, formula and class."""
    methods = list(dict.fromkeys(method_of(race, s) for s in settings))
    columns = min(3, len(methods))
    lines, floor = -(-len(methods) // columns), race.spec.problem(settings[0].problem).floor
    with mpl.rc_context(LOOK):
        room = ConstrainedLayoutEngine(w_pad=0.1)  # the reader's font may be wider than the one that is measured
        figure = Figure(figsize=(max(4.6, 3.1 * columns), 2.1 * lines + 0.7), layout=room)
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        shown = [_curve(panels.flat[methods.index(method_of(race, s))], race, s, floor or 0.0) for s in settings]
        for axes, method in zip(panels.flat, methods, strict=False):
            axes.set_title(short(method))
            axes.grid(alpha=0.25)
        for axes in panels.flat[len(methods) :]:
            axes.set_visible(False)
        if floor is not None or min(shown) > 0:
            panels[0, 0].set_yscale("log")
        for axes in panels[-1]:
            axes.set_xlabel("samples seen")
        for axes in panels[:, 0]:
            axes.set_ylabel("loss" if floor is None else "loss above the least")
        kinds = {"formula": "-", "class": "--"}
        there = {"formula" if s.is_rule else "class" for s in settings}
        if len(there) > 1:
            marks = [Line2D([], [], color="#777777", ls=dashes, label=kind) for kind, dashes in kinds.items()]
            figure.legend(handles=marks, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _curve(axes: Any, race: Race, setting: Setting, floor: float) -> float:
    """Draw one setting's curve; the least loss that is drawn of its median."""
    done = race.phases[Chain(setting.problem, setting.schedule, setting.label)]
    losses = np.concatenate([phase.results["losses"] for phase in done])
    samples, colour = done[0].results["samples"][0], style_of_setting(race, setting).colour
    ends = np.array([[percentile(at, q) for at in losses.T] for q in (2.5, 50, 97.5)])
    low, middle, high = np.where(np.isfinite(ends), ends, np.nan) - floor
    axes.fill_between(samples, low, high, color=colour, alpha=0.25 if setting.is_rule else 0.12, lw=0)
    axes.plot(samples, middle, color=colour, ls="-" if setting.is_rule else "--", lw=1.8)
    return float(np.nanmin(middle, initial=losses[:, 0].max()))


def paths_of(race: Race) -> list[Trace]:
    """The tutorial's paths for the tutorial's race; else each rule at its best learning rate on the same surface."""
    if is_tutorial(race):
        return [replace(trace(rule, SURFACE, **hypers), label=label) for label, rule, hypers in TUTORIAL_PATHS]
    found = []
    for entrant in race.spec.entrants:
        if entrant.has_formula:
            others = {n: v for n, v in entrant.fixed.items() if n != "lr"}
            found.append(replace(tuned_trace(entrant.what, SURFACE, **others), label=entrant.label))
    return found


def _ranges(race: Race, settings: Sequence[Setting]) -> tuple[list[float], list[float]]:
    """The axis that shows nearly all settings well, and the one that shows everything."""
    finals = [s.finals[np.isfinite(s.finals)] for s in settings]
    everything = np.concatenate([*finals, [figure for s in settings for figure in figures_of(race, s)]])
    if not len(everything):
        return [0.0, 1.0], [0.0, 1.0]
    floor = race.spec.problem(settings[0].problem).floor
    least = min(float(everything.min()), np.inf if floor is None else floor)
    # Half of the settings decide how wide the near view is: one far out does not press the others together.
    near = 1.25 * float(np.median([np.max(losses, initial=least) for losses in finals]) - least)
    whole = 1.05 * float(everything.max() - least)
    if whole <= 1.6 * near:
        near = whole
    near, whole = near or 0.01, whole or 0.01  # one number alone
    return [least - 0.04 * near, least + near], [least - 0.04 * whole, least + whole]
