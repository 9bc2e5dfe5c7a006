"""How many threads a kernel may use: as many as torch would, and one in a child that was forked.

`steprule` imports this file first of all, before anything forks; so neither torch nor numba is imported here.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PARALLEL = threading.Lock()
"""Held while a parallel form runs: Numba's workqueue layer aborts when two threads enter it at once. Another thread may
hold it while this one forks, so a child that may not run a parallel form must not take it."""


class _State:
    """Of this process."""

    forked = False
    started = False
    """Whether Numba's threads have been launched, here or in the process from which this one was forked."""


class _Alone(threading.local):
    on = False


_ALONE = _Alone()


def allowed() -> int:
    """How many threads a kernel that this thread launches may use.

    It is torch's count for this thread (`torch.set_num_threads`, OMP_NUM_THREADS; torchrun sets one per rank); Numba's
    own mask bounds it further, in the kernel.
    """
    if not may_run_parallel():
        return 1
    import torch

    return torch.get_num_threads()


def may_run_parallel() -> bool:
    """False in a forked child, whose OpenMP has lost its threads: it hangs, or is killed. False within `one_thread`."""
    return not (_State.forked or _ALONE.on)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the serial forms on this thread: the caller keeps the other cores busy."""
    before, _ALONE.on = _ALONE.on, True
    try:
        yield
    finally:
        _ALONE.on = before


def launch() -> None:
    """Launch Numba's threads, once per process; to be called before a parallel form is compiled or read from its cache.

    A thread of its own does it: Numba sets OpenMP's count for the thread that launches, and that count is torch's too.
    """
    if not _State.started:
        from numba import get_num_threads

        _State.started = True
        launcher = threading.Thread(target=get_num_threads)
        launcher.start()
        launcher.join()


@contextmanager
def parallel_form(threads: int) -> Iterator[None]:
    """Run a parallel form on at most so many threads, and on no more than Numba's own mask of this thread has."""
    from numba import config, get_num_threads, set_num_threads

    with PARALLEL:
        if threads >= config.NUMBA_NUM_THREADS:
            yield
            return
        mask = get_num_threads()
        set_num_threads(min(mask, threads))
        try:
            yield
        finally:
            set_num_threads(mask)


def _after_fork() -> None:
    # A hook, not a process number remembered: a number is used again, and is 1 in every container.
    _State.forked = _State.forked or _State.started or not _forked_by_a_server()


def _forked_by_a_server() -> bool:
    """Whether multiprocessing's fork server forks: it has only imported modules, so its children are fresh processes."""
    server = sys.modules.get("multiprocessing.forkserver")
    forking = sys._getframe(1).f_back  # frame 0 is this function, 1 the hook, the next what called os.fork
    return server is not None and forking is not None and forking.f_code is server.main.__code__


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
