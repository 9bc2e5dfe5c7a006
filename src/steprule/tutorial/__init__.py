"""The tutorial's home: its rules that teach, and its own helper names (d2l).

`steprule train torch.optim.Adam --on steprule.tutorial:by_class` trains as its cells with torch's classes do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steprule.races.as_given.spec import by_class as by_class

__all__ = ["by_class"]


def __getattr__(name: str) -> Any:
    if name != "by_class":
        raise AttributeError(f"module 'steprule.tutorial' has no attribute {name!r}")
    return import_module("steprule.races.as_given.spec").by_class
