"""A training under way on disk: a race that ends in its middle, however hard, goes on there."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

EVERY = 20.0
"""Seconds between two of one block, at least. No number depends on it."""
DEAR = 10.0
"""So many times as long as the last one was tried for the next one waits: trying takes a twentieth of the time at most."""


class Partial:
    """The file of a block's training that is under way. What cannot be written or read is as if it were not there: it is trained again."""

    def __init__(self, path: Path, race: str) -> None:
        self.path, self.race, self.last = path, race.encode() + b"\n", time.monotonic()
        self.begun, self.dear = self.last, 0.0

    def load(self) -> bytes | None:
        """What was saved last, of this race."""
        try:
            told = self.path.read_bytes()
        except OSError:
            return None
        return told.removeprefix(self.race) if told.startswith(self.race) else None

    def is_due(self) -> bool:
        """Whether enough time has passed since something was saved, or tried; it is tried from then on."""
        self.begun = time.monotonic()
        return self.begun - self.last >= max(EVERY, self.dear)

    def save(self, told: bytes | None) -> None:
        """Save it; None removes what was saved before."""
        self.last = time.monotonic()
        self.dear = DEAR * (self.last - self.begun)
        if told is None:
            self.clear()
            return
        aside = self.path.with_suffix(".new")
        try:
            aside.write_bytes(self.race + told)
            os.replace(aside, self.path)
        except OSError:  # a full disk: the race goes on
            with suppress(OSError):
                aside.unlink(missing_ok=True)

    def clear(self) -> None:
        """The block is finished."""
        for path in (self.path, self.path.with_suffix(".new")):
            with suppress(OSError):
                path.unlink(missing_ok=True)
