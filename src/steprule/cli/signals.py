"""TERM and HUP end a command as Ctrl-C does: one line is printed, finished work is kept, no process is left."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def as_ctrl_c() -> Iterator[list[int]]:
    """While this lasts, TERM and HUP raise `KeyboardInterrupt`; gives a list that receives the signal's number.

    A signal that the process was told to ignore, as `nohup` does with HUP, stays ignored. After the first signal further ones are
    ignored, so that the end is not disturbed. Only the main thread can handle signals; in another one this does nothing.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in known}
    taken = [number for number, handler in before.items() if handler == signal.SIG_DFL]

    def end(number: int, frame: FrameType | None) -> None:
        for one in taken:
            signal.signal(one, signal.SIG_IGN)
        came.append(number)
        raise KeyboardInterrupt

    for number in taken:
        signal.signal(number, end)
    try:
        yield came
    finally:
        for number in taken:
            signal.signal(number, before[number])
