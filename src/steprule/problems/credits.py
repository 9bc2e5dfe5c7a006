"""Who is to be named beside what was trained on the package's own data."""

from __future__ import annotations

from collections.abc import Iterable

from steprule.problems import airfoil, digits, letters
from steprule.problems.names import EMBEDDED

_BY_FAMILY = {"airfoil": airfoil.CREDIT, "digits": digits.CREDIT, "letters": letters.CREDIT}


def credits_of(problems: Iterable[str]) -> str:
    """The credits of these problems' data, each once; empty where none of them travels with the package."""
    families = dict.fromkeys(name.partition("-")[0] for name in problems if name in EMBEDDED)
    return "; ".join(_BY_FAMILY[family] for family in families)
