"""What one thread can do at a time: draw from global generators, and record torch's operations.

The generators are those of torch, numpy and Python. Seeding, drawing and putting the caller's state back are three calls on generators
of the process. Recording patches torch's modules for all threads. Between those calls another thread would change a number, or fail.
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
    """Inside, this thread alone draws from the global generators, which are put back at the end: torch's of the CPU and of these devices,
    numpy's and Python's."""
    import torch  # not needed by a rule

    with _lock, torch.random.fork_rng(devices=devices):
        before = np.random.get_state(), random.getstate()
        try:
            yield
        finally:
            np.random.set_state(before[0])
            random.setstate(before[1])


def seed(number: int) -> None:
    """Begin all of them anew. Inside of `drawing`."""
    import torch

    torch.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Where the generators of the CPU are."""

    torchs: Any
    numpys: Any
    pythons: Any

    @classmethod
    def now(cls) -> Drawn:
        """As they are."""
        import torch

        return cls(torch.random.get_rng_state(), np.random.get_state(), random.getstate())

    def put_back(self) -> None:
        """Let them go on from here. Inside of `drawing`."""
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
    """Inside, this thread alone records."""
    with _lock:
        yield


def _anew() -> None:
    """In a forked child no thread goes on that held the lock."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_anew)
