"""A training under way on disk: a race that ends in its middle, however hard, goes on there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from steprule import by_value

EVERY = 20.0
"""Seconds between two of one block. No number depends on it."""


def _whole(part: Any) -> Any:
    """An optimizer with all its attributes: torch's own pickle keeps states and groups alone, and a count of steps would be lost."""
    if isinstance(part, torch.optim.Optimizer) and type(part).__getstate__ is torch.optim.Optimizer.__getstate__:
        return object.__new__, (type(part),), dict(vars(part))
    return NotImplemented


def dumps(state: Any) -> bytes:
    """A training under way as bytes."""
    return by_value.dumps(state, _whole)


class Partial:
    """The file of a block's training that is under way. What cannot be written or read is as if it were not there: it is trained again."""

    def __init__(self, path: Path, race: str) -> None:
        self.path, self.race, self.last = path, race, time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """What was saved last, of this race."""
        try:
            found = by_value.loads(self.path.read_bytes())
            return dict(found["state"]) if found["race"] == self.race else None
        except Exception:  # noqa: BLE001  (none there, cut off, or of code that has changed)
            return None

    def save(self, *, state: Callable[[], dict[str, Any]], **rest: Any) -> None:
        """Save where enough time has passed; `state` gives what is dear to take."""
        if time.monotonic() - self.last < EVERY:
            return
        aside = self.path.with_suffix(".new")
        try:
            aside.write_bytes(dumps({"race": self.race, "state": {**rest, "state": state()}}))
            os.replace(aside, self.path)
        except Exception:  # noqa: BLE001  (an optimizer that cannot be pickled, a full disk)
            with suppress(OSError):
                aside.unlink(missing_ok=True)
        self.last = time.monotonic()

    def clear(self) -> None:
        """The block is finished."""
        for path in (self.path, self.path.with_suffix(".new")):
            with suppress(OSError):
                path.unlink(missing_ok=True)
