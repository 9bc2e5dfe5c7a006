"""How each competitor of a race is drawn: of many lines three and one's own stand out, the others are grey."""

from __future__ import annotations

from typing import Any

from steprule import extras, rules
from steprule.races import Race
from steprule.races.competitor import Entrant
from steprule.reports.style import STYLES, Style, styles_of
from steprule.rules.rule import Rule
from steprule.trainable import Trainable

with extras.needed():
    from matplotlib.lines import Line2D

FEW = 6
"""Competitors that all have colours; of more the eye follows none."""
FIRST = 3
"""Of more so many stand out: those of the lowest mean rank."""
INK = "#000000"
"""One's own rules: the page's ink, which no rule of the catalogue wears."""
OWN = tuple(Style(INK, dash, marker) for dash in ("-", "--", "-.", ":") for marker in "*hd8")
GREY = Style("#999999", "-", "o")


def styles_in(race: Race) -> dict[str, Style]:
    """By label the style of every competitor, in all figures of the race."""
    own = [e.label for e in race.spec.entrants if is_own(e)]
    found = dict(zip(own, OWN * (len(own) // len(OWN) + 1), strict=False))
    others = [e for e in race.spec.entrants if e.label not in found]
    if len(race.spec.entrants) > FEW:
        shown = [label for label in race.order if label not in found][:FIRST]
        found |= {e.label: GREY for e in others if e.label not in shown}
        others = [e for e in others if e.label in shown]
    return found | dict(zip([e.label for e in others], styles_of([_name(e) for e in others]), strict=True))


def is_own(entrant: Entrant) -> bool:
    """Whether it is neither a rule of the catalogue nor a class of torch's."""
    what: Any = entrant.what
    if isinstance(what, Rule):
        return rules.CATALOGUE.get(what.name) is not what
    return not str(getattr(what, "__module__", "")).startswith("torch.")


def is_quiet(style: Style) -> bool:
    """Whether it is drawn in grey, beneath the others."""
    return style == GREY


def line(style: Style, every: int) -> dict[str, Any]:
    """How a line is drawn, with a mark at every so many points; one's own is thicker, a grey one has no marks."""
    if is_quiet(style):
        return {"color": style.colour, "ls": "-", "lw": 0.8, "alpha": 0.6, "zorder": 1.5}
    width, size = (2.0, 5.0) if style.colour == INK else (1.4, 3.5)
    return {
        "color": style.colour, "ls": style.dash, "marker": style.marker, "ms": size, "lw": width, "markevery": every, "zorder": 2.5,
    }  # fmt: skip


def names(race: Race, said: Any) -> list[Line2D]:
    """The legend of lines: who stands out, in the race's order, then all others in one word. `said` shortens a label."""
    styles = styles_in(race)
    told = [label for label in race.order if not is_quiet(styles[label])]
    found = [Line2D([], [], label=said(label), **line(styles[label], 1)) for label in told]
    if others := len(styles) - len(told):
        found.append(Line2D([], [], label=f"the {others} others", **line(GREY, 1)))
    return found


def _name(entrant: Entrant) -> str:
    """By which its style is found: its label where that is a rule's name, else its optimizer's."""
    known = entrant.label.lower().removeprefix("torch.optim.").removesuffix("_eps_inside") in STYLES
    return entrant.label if known else Trainable.of(entrant.what).name
