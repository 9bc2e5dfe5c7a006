"""What a notebook's cell shows of a race: its picture and its words."""

from __future__ import annotations

from steprule import extras
from steprule.counts import counted
from steprule.errors import InputError, named
from steprule.races import Race
from steprule.races.verdict import in_words
from steprule.reports import race_charts, setting_charts
from steprule.reports.panels import TEXT, WIDTH
from steprule.reports.style import LOOK
from steprule.reports.tuned_parts import FIGURES

with extras.needed():
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

NARROW = 3.6
"""Inches of a picture of one panel in small type: as wide as a phone its type can be read."""


def figure(result: Race) -> Figure:
    """The picture of a race. Raises `InputError` for one shard of several."""
    _check_whole(result)
    if not result.is_tuned:
        return _seeds(result)
    drawn = race_charts.standings(result)
    if len(drawn.axes) == 1:
        drawn.set_size_inches(NARROW, drawn.get_figheight())
    return drawn


def figure_of(result: Race, name: str) -> Figure:
    """The picture of that name, as its page has it. Raises `UnknownNameError`, `InputError` for one shard of several."""
    _check_whole(result)
    if result.is_tuned:
        return named("picture", name, FIGURES)[1](result)
    return named("picture", name, {"seeds": _seeds})(result)


def words(result: Race) -> str:
    """What it says: the verdicts of a whole race."""
    return "\n".join(in_words(result)) if result.whole else str(result.in_words())


def _check_whole(result: Race) -> None:
    if not result.whole:
        hint = "Merge all shards: steprule.races.merge."
        raise InputError("a picture of a race", expected="a whole race", got="one shard of several", hint=hint)


def _seeds(race: Race) -> Figure:
    """Every seed's final loss as wide as a phone, of the first problem and schedule."""
    settings = next(iter(race.tables.values()))
    with mpl.rc_context({**LOOK, **TEXT}):
        figure = Figure(figsize=(WIDTH, 1.3 + 0.4 * len(settings)), layout="constrained")
        axes = figure.subplots()
        setting_charts.draw_seeds(axes, race, settings, size=4.5)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set(xlabel=f"final training loss, {counted(settings[0].seeds, 'seed')} each")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2, borderpad=0)
    return figure
