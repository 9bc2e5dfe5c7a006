"""What torch can do in one thread at a time: draw from its global generator, and record operations.

Seeding, drawing and putting the caller's state back are three calls on one generator of the process. Recording patches torch's modules
for all threads. Between those calls another thread would change a number, or fail.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_lock = threading.RLock()


@contextmanager
def drawing(devices: Sequence[Any] = ()) -> Iterator[None]:
    """Inside, this thread alone draws from torch's global generators, which are put back at the end: the CPU's and these devices'."""
    import torch  # not needed by a rule

    with _lock, torch.random.fork_rng(devices=devices):
        yield


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
