"""One look for every picture: a rule has the same colour everywhere, and is told apart without it too.

Colours are Okabe and Ito's, safe for the common kinds of colour blindness, with three of Tol's where eight are too few;
dashes and markers differ as well, for print and for grey.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeAlias

from steprule import rules

Dash: TypeAlias = str | tuple[int, tuple[float, ...]]
"""As matplotlib takes it: a sign, or an offset and the lengths of strokes and gaps in points."""


@dataclass(frozen=True)
class Style:
    """How one rule is drawn, in matplotlib's words."""

    colour: str
    dash: Dash = "-"
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

DARK = {
    "#0072b2": "#56b4e9",
    "#d55e00": "#f5904a",
    "#009e73": "#3fcf9f",
    "#cc79a7": "#e7a3c8",
    "#555555": "#bdbdbd",
    "#999933": "#c9c95a",
    "#882255": "#d77aa9",
    "#e69f00": "#f2b632",
    "#56b4e9": "#8fcdf3",
    "#332288": "#a79be6",
    "#117733": "#5fc583",
    "#aa4499": "#d98acb",
    "#44aa99": "#6fd0c0",
    "#ffd700": "#ffd700",
    "#777777": "#a0a0a0",
    "#888888": "#9a9a9a",
    "#8a8a8a": "#8a8a8a",
    "#999999": "#8a8a8a",
    "#b0b0b0": "#5c6064",
    "#ffffff": "#1e2129",
}
"""What each colour of the light picture becomes in the dark: as far from the dark ground as it is from white. Black is the
page's own ink."""

LOOK: Any = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"],
    "font.size": 9.0, "svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "steprule", "axes.spines.top": False,
    "axes.spines.right": False, "axes.titlesize": 9.5, "axes.titleweight": "bold", "legend.frameon": False,
}  # fmt: skip
"""What matplotlib is told for every figure."""

_DASHES: tuple[Dash, ...] = ("-", "--", "-.", (0, (5, 1.2, 1, 1.2)), _LONG)
_MARKERS = "X<>pPoDsv^"
_SPARE = [
    Style(stated.colour, dash, marker)
    for dash, marker, stated in product(_DASHES, _MARKERS, STYLES.values())
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
    """The styles in one picture: each name's own, and another colour, dash and marker for the second of a family.

    Where all colours are taken, a name keeps its own style, which differs in dash or marker, unless that is drawn already.
    """
    own = [style_of(name) for name in names]
    found: list[Style] = []
    for style in own:
        if style.colour in {s.colour for s in found}:
            taken = {s.colour for s in (*found, *own)}
            free = next((s for s in _SPARE if s.colour not in taken), None)
            if free is not None:
                style = replace(free, dash="-" if style.dash != "-" else "--")
            elif style in found:
                style = next((s for s in _SPARE if s not in (*found, *own)), style)
        found.append(style)
    return found


def strokes(dash: Dash) -> list[float]:
    """Lengths of strokes and gaps in pixels; none for a whole line."""
    named = {"-": (), "--": (6, 3), ":": (1.5, 2.5), "-.": (7, 3, 1.5, 3)}
    return list(named[dash] if isinstance(dash, str) else (1.5 * d for d in dash[1]))


CORNERS = {
    "s": (4, 45), "^": (3, -90), "v": (3, 90), "<": (3, 180), ">": (3, 0), "D": (4, 0), "p": (5, -90), "P": (12, -15), "X": (12, 30),
}  # fmt: skip
"""How many corners a marker has, and in which direction the first lies, in degrees; a circle is drawn with 16."""


def outline(marker: str, size: float) -> str:
    """A marker around the origin as an SVG path, `size` from its middle to its corners.

    >>> outline("D", 4)
    'M4.0,0.0L0.0,4.0L-4.0,0.0L-0.0,-4.0Z'
    """
    count, first = CORNERS.get(marker, (16, 0))
    points = []
    for k in range(count):
        angle = math.radians(first + 360 * k / count)
        radius = 0.45 * size if marker in "PX" and k % 3 == 2 else size  # a cross goes in between its arms
        points.append(f"{radius * math.cos(angle):.1f},{radius * math.sin(angle):.1f}")
    return f"M{'L'.join(points)}Z"
