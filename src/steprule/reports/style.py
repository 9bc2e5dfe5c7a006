"""One look for every picture: the same rule has the same colour everywhere, and is told apart without colour too.

Colours are Okabe and Ito's, safe for the common kinds of colour blindness, with three of Tol's where eight are too few;
dashes and markers differ as well, for print and for grey.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

LOOK: Any = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"],
    "font.size": 9.0, "svg.fonttype": "none", "svg.hashsalt": "steprule", "axes.spines.top": False,
    "axes.spines.right": False, "axes.titlesize": 9.5, "axes.titleweight": "bold", "legend.frameon": False,
}  # fmt: skip
"""Of every figure, as matplotlib names it. The same figure gives the same SVG."""


@dataclass(frozen=True)
class Style:
    """How one rule is drawn, in matplotlib's words."""

    colour: str
    dash: str | tuple[int, tuple[float, ...]] = "-"
    marker: str = "o"


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

TITLES = {
    "sgd": "gradient descent",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSProp",
    "adadelta": "AdaDelta",
    "adam": "Adam",
    "adamw": "AdamW",
    "adamax": "AdaMax",
    "nadam": "NAdam",
    "radam": "RAdam",
    "lion": "Lion",
    "lars": "LARS",
    "lamb": "LAMB",
}
"""As papers write them."""

_SPARE = [Style(s.colour, ":", m) for s, m in zip(STYLES.values(), "X<>pPoDsv^o", strict=False)]


def style_of(name: str) -> Style:
    """The style of a rule, a torch class or a method by its name; a name of one's own always gets the same spare one."""
    key = name.lower().removeprefix("torch.optim.")
    family = key.removesuffix("_eps_inside")
    if family in STYLES:
        return STYLES[key] if family == key else replace(STYLES[family], dash=":")
    return _SPARE[zlib.crc32(name.encode()) % len(_SPARE)]


def title_of(name: str) -> str:
    """A rule's name as papers write it; a name of one's own as it is."""
    family = name.removesuffix("_eps_inside")
    return TITLES.get(family, family) + (", ε inside" if family != name else "")


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
