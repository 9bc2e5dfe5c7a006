"""A judge of rules: the battery, the search for the known rule that a stranger is, and the marking of a class.

Half of it needs no torch, so nothing is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steprule import extras

if TYPE_CHECKING:
    from steprule.checking.battery import check as check
    from steprule.checking.marking import Sheet as Sheet, mark as mark
    from steprule.checking.nearest import which as which
    from steprule.checking.report import Item as Item, Parting as Parting, Report as Report

_LATER = {
    "check": "battery",
    "which": "nearest",
    "mark": "marking",
    "Sheet": "marking",
    "Item": "report",
    "Parting": "report",
    "Report": "report",
}

__all__ = ["Item", "Parting", "Report", "Sheet", "check", "mark", "which"]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'steprule.checking' has no attribute {name!r}")
    with extras.needed():
        return getattr(import_module(f"steprule.checking.{_LATER[name]}"), name)
