"""Ends a process together with the one that started it, however that one ends."""

from __future__ import annotations

import os
import threading
import time

LOOK_EVERY = 1.0
"""Seconds."""


def end_with(parent: int) -> None:
    """End this process within seconds of `parent`, the process that started it.

    A killed parent cannot end its children. The child then gets another parent, and a thread here notices. Windows keeps the dead
    parent's number, so there this does nothing.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        os._exit(1)  # nobody waits for this process any more

    if os.name == "posix":
        threading.Thread(target=watch, name="steprule-parent", daemon=True).start()
