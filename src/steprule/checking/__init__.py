"""A judge of rules: the battery, which known rule a stranger is, and the marking of a class.

In reading order: report.py (what is found), probe.py (one fixed walk), rewriting.py and mutants.py (known slips, from a rule's graph),
nearest.py (which rule it is), parting.py (where two part), walks.py, by_triton.py and forms.py (a few steps in every form), judged.py,
questions.py and battery.py (the items), pupil.py, marking.py and sheet.py (a class). Half of it needs no torch, so nothing is
imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steprule import extras

if TYPE_CHECKING:
    from steprule.checking.battery import check as check
    from steprule.checking.marking import Sheet as Sheet
    from steprule.checking.marking import mark as mark
    from steprule.checking.nearest import which as which
    from steprule.checking.report import Item as Item
    from steprule.checking.report import Parting as Parting
    from steprule.checking.report import Report as Report

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
