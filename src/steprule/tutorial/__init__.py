"""The tutorial's home: its settings and figures, rules that teach, and its own helper names (d2l).

`steprule train torch.optim.Adam --on steprule.tutorial:by_class` trains as its cells with torch's classes do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steprule.tutorial.settings import TORCHS as TORCHS, TUTORIAL as TUTORIAL, by_class as by_class

__all__ = ["TORCHS", "TUTORIAL", "by_class"]


def __getattr__(name: str) -> Any:
    # Rules that teach are drawn where there is no torch, which the settings need.
    if name not in __all__:
        raise AttributeError(f"module 'steprule.tutorial' has no attribute {name!r}")
    return getattr(import_module("steprule.tutorial.settings"), name)
