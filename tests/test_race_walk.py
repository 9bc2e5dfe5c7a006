"""A reader who follows a race from `steprule.race` to the trained block comes to no file more than twice."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from functools import cached_property
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import steprule
from steprule import races

STAYS = 25
LOOK_UP = 4
"""Lines of a function that only looks something up: nobody goes there to read on."""


def _looked_up() -> set[CodeType]:
    """The properties of the room's records."""
    found = set()
    for module in [m for n, m in sys.modules.items() if n.startswith("steprule.races.")]:
        for kind in [k for k in vars(module).values() if inspect.isclass(k)]:
            for value in vars(kind).values():
                function = getattr(value, "fget", None) if isinstance(value, property) else getattr(value, "func", None)
                if isinstance(value, property | cached_property) and function.__name__ != "stated":
                    found.add(function.__code__)
    return found


def walk() -> tuple[list[str], Counter[str]]:
    """Where the reader stays, one file after the other, and how often a call leads into each."""
    room, skipped = Path(races.__file__).parent, _looked_up()
    inside: list[str] = []
    stays: list[str] = []
    entered: Counter[str] = Counter()
    arrived = False

    def file_of(code: CodeType) -> str:
        path = Path(code.co_filename)
        lines = [line for _, _, line in code.co_lines() if line]
        short = max(lines, default=0) - code.co_firstlineno < LOOK_UP and code.co_name != "train_block"
        return "" if path.parent != room or code in skipped or code.co_name.startswith("<") or short else path.stem

    def look(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal arrived
        if arrived or event not in ("call", "return"):
            return
        name = file_of(frame.f_code)
        if name and event == "call":
            if not inside or inside[-1] != name:
                entered[name] += 1
            inside.append(name)
        elif name and inside:
            inside.pop()
        if inside and (not stays or stays[-1] != inside[-1]):
            stays.append(inside[-1])
        arrived = frame.f_code.co_name == "train_block"

    sys.setprofile(look)
    try:
        steprule.race("sgd", "airfoil", trials=0, seeds=1, epochs=1, workers=1)
    finally:
        sys.setprofile(None)
    return stays, entered


def test_no_file_is_entered_more_than_twice() -> None:
    stays, entered = walk()
    assert stays[0] == "entry"
    assert stays[-1] == "work"
    assert len(stays) < STAYS, " -> ".join(stays)
    assert max(entered.values()) <= 2, entered
