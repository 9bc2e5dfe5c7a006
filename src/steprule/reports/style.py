"""One look for every picture: the same rule has the same colour everywhere, told apart without colour too.

Colours are Okabe and Ito's, safe for the common kinds of colour blindness, with three of Tol's where eight are too few;
dashes and markers differ as well, for print and for grey.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from steprule import rules


@dataclass(frozen=True)
class Style:
    """How one rule is drawn. `dash` is matplotlib's; `plotly_dash` and `plotly_marker` are plotly's words for the same."""

    colour: str
    dash: str | tuple[int, tuple[float, ...]] = "-"
    marker: str = "o"

    @property
    def plotly_dash(self) -> str:
        """The dash in plotly's words."""
        if isinstance(self.dash, str):
            return {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}[self.dash]
        return ",".join(f"{2 * length}px" for length in self.dash[1])

    @property
    def plotly_marker(self) -> str:
        """The marker in plotly's words."""
        words = {"o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond", "P": "cross"}
        return {**words, "X": "x", "<": "triangle-left", ">": "triangle-right", "p": "pentagon"}.get(
            self.marker, "circle"
        )


_LONG = (0, (8, 3))
STYLES = {
    "sgd": Style("#555555", "-", "o"),
    "momentum": Style("#999933", ":", "s"),
    "adagrad": Style("#0072B2", "-", "^"),
    "rmsprop": Style("#D55E00", (0, (3.5, 1.5)), "s"),
    "adadelta": Style("#009E73", (0, (5, 1.2, 1, 1.2)), "D"),
    "adam": Style("#CC79A7", "-", "v"),
    "adamw": Style("#882255", "--", "P"),
    "adamax": Style("#E69F00", "-.", "X"),
    "nadam": Style("#56B4E9", "--", "<"),
    "radam": Style("#332288", "-.", ">"),
    "lion": Style("#117733", _LONG, "p"),
    "lars": Style("#AA4499", "--", "D"),
    "lamb": Style("#44AA99", "-.", "o"),
}
"""By family: a rule with epsilon inside the root has its family's colour and marker, and dots."""

_DASHES = ("-", "--", "-.", (0, (5, 1.2, 1, 1.2)), _LONG)
_MARKERS = "X<>pPoDsv^"
_SPARE = [
    Style(stated.colour, dash, marker)
    for dash in _DASHES
    for marker in _MARKERS
    for stated in STYLES.values()
    if dash != stated.dash and marker != stated.marker
]
"""For names without a style of their own: none is drawn as one that is stated, nor with a family's dots."""


def style_of(name: str) -> Style:
    """The style of a rule, a torch class or a method by its name; a name without one always gets the same spare one."""
    key = name.lower().removeprefix("torch.optim.")
    family = key.removesuffix("_eps_inside")
    if family in STYLES:
        return STYLES[key] if family == key else replace(STYLES[family], dash=":")
    return _SPARE[zlib.crc32(name.encode()) % len(_SPARE)]


def title_of(name: str) -> str:
    """A rule's name as papers write it; a name of one's own as it is."""
    return (rules.CATALOGUE[name].title if name in rules.CATALOGUE else "") or name


def styles_of(names: Sequence[str]) -> list[Style]:
    """The styles in one picture: each name's own, and another colour, dash and marker for the second of a family."""
    own = [style_of(name) for name in names]
    found: list[Style] = []
    for style in own:
        if style.colour in {s.colour for s in found}:
            taken = {s.colour for s in (*found, *own)}
            spare = next((s for s in _SPARE if s.colour not in taken), style)
            style = replace(spare, dash="-" if style.dash != "-" else "--")
        found.append(style)
    return found
