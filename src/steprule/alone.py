"""Lets one thread at a time draw from the global generators, or record torch's operations.

Seeding, drawing and putting the caller's state back are three calls on generators of the whole process, and recording patches torch's
modules for all threads. Another thread between those calls would change a number, or fail.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

_lock = threading.RLock()


@contextmanager
def drawing(devices: Sequence[Any] = ()) -> Iterator[None]:
    """While this lasts, only this thread draws from the global generators; at the end they are put back.

    They are torch's of the CPU and of these devices, numpy's and Python's.
    """
    import torch  # a rule does not need it

    with _lock, torch.random.fork_rng(devices=devices):
        numpys, pythons = np.random.get_state(), random.getstate()
        try:
            yield
        finally:
            np.random.set_state(numpys)
            random.setstate(pythons)


def seed(number: int) -> None:
    """Seed all of them. Only inside `drawing`."""
    import torch

    if torch.accelerator.is_available():
        torch.manual_seed(number)
    else:  # without the seeds that it keeps for devices which may come: each notes who asked, and that takes longer than all else
        torch.default_generator.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The states of the CPU's generators."""

    torchs: Any
    numpys: Any
    pythons: Any

    @classmethod
    def now(cls) -> Drawn:
        """The present states."""
        import torch

        return cls(torch.random.get_rng_state(), np.random.get_state(), random.getstate())

    def put_back(self) -> None:
        """Let the generators go on from these states. Only inside `drawing`."""
        import torch

        torch.random.set_rng_state(self.torchs)
        np.random.set_state(self.numpys)
        random.setstate(self.pythons)

    def same(self, other: Drawn) -> bool:
        """Whether nothing was drawn between the two."""
        numpys = all(np.array_equal(a, b) for a, b in zip(self.numpys, other.numpys, strict=True))
        return bool((self.torchs == other.torchs).all()) and numpys and self.pythons == other.pythons


@contextmanager
def recording() -> Iterator[None]:
    """While this lasts, only this thread records."""
    with _lock:
        yield


def _anew() -> None:
    """Make a new lock in a forked child, where the thread that held the old one does not exist."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_anew)
