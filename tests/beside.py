"""Two sides, each in a process of its own: what a job leaves behind is a value, a crash too.

A `Server` is a fresh interpreter that has started no thread, so that its forked children may. A child runs the jobs of a
batch one after the other and sends each result as it comes. Where it dies, the job that it was at is run again in a child of
its own, and if that lives, each of those before it; the culprit's result is a `Death`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SECONDS = 60.0
"""What one job may take before its child is taken for hung: a kernel may have to be compiled."""


@dataclass(frozen=True)
class Death:
    """The child of a job died, or hung."""

    by: str


Job = Callable[[Any], Any]
Outcome = tuple[list[Any], Death | None]


class Server:
    """A process that forks a child per batch. `parallel`: ours is imported in the child, whose kernels may then be parallel."""

    def __init__(self, *, parallel: bool = False) -> None:
        folders = [str(Path(__file__).parent), *sys.path]
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import beside; beside.serve({theirs.fileno()}, {parallel})"],
            pass_fds=[theirs.fileno()],
            # Threads that wait by spinning would take the core from the next test.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(f for f in folders if f), "OMP_WAIT_POLICY": "passive"},
        )
        theirs.close()
        self._connection = Connection(ours.detach())

    def run(self, job: Job, batch: Sequence[Any]) -> list[Any]:
        """`job` of each item of the batch, or a `Death`; `job` is a function of a module of the tests."""
        found: list[Any] = []
        while len(found) < len(batch):
            results, death = self._once(job, batch[len(found) :])
            if death is None:
                return found + results
            alone, death_alone = self._once(job, [batch[len(found) + len(results)]])
            if death_alone is None:  # one of the jobs before it has damaged the process
                earlier = [self._once(job, [item]) for item in batch[len(found) : len(found) + len(results)]]
                results = [kept[0] if died is None else died for kept, died in earlier]
                if not any(isinstance(r, Death) for r in results):
                    alone = [Death(f"{death.by}, after the jobs before it; not alone")]
            found += [*results, *(alone or [death_alone])]
        return found

    def _once(self, job: Job, batch: Sequence[Any]) -> Outcome:
        module = Path(sys.modules[job.__module__].__file__ or "").stem
        # In bytes until the child reads them: to read them imports the tests, and with them steprule.
        self._connection.send((module, job.__name__, [pickle.dumps(item) for item in batch]))
        results, death = self._connection.recv()
        return [pickle.loads(result) for result in results], death

    def close(self) -> None:
        self._connection.close()
        self._process.wait(timeout=60)


@cache
def server(*, parallel: bool = False) -> Server:
    """The one server of its kind of this process; it ends with it, by the end of its socket."""
    return Server(parallel=parallel)


def serve(descriptor: int, parallel: bool) -> None:
    """What the server's process does until its socket closes."""
    # Torch's own step imports dynamo, ours loads a compiler and a kernel: no child should pay for it. None of it starts a
    # thread, which would be lost in the children.
    import torch
    import torch._dynamo

    if parallel:
        with contextlib.suppress(ImportError):
            import numba

            numba.njit(lambda x: x)(1)
    else:
        from steprule import optim

        parameter = torch.nn.Parameter(torch.zeros(4))
        parameter.grad = torch.zeros(4)
        optim.SGD([parameter]).step()

    connection = Connection(descriptor)
    while True:
        try:
            module, name, batch = connection.recv()
        except EOFError:
            return
        connection.send(_in_child(module, name, batch))


def _in_child(module: str, name: str, batch: list[bytes]) -> tuple[list[bytes], Death | None]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            _work(getattr(importlib.import_module(module), name), map(pickle.loads, batch), write)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    return _ended(pid, *_gathered(read, len(batch)), len(batch))


def _ended(pid: int, results: list[bytes], hung: bool, expected: int) -> tuple[list[bytes], Death | None]:
    """The results, and how the child ended if it did so before the last of them."""
    if hung:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if hung:
        return results, Death(f"no answer in {SECONDS:.0f} s")
    # All results came: what breaks at the very end of a process is no job's result.
    if len(results) == expected:
        return results, None
    if os.WIFSIGNALED(status):
        return results, Death(signal.Signals(os.WTERMSIG(status)).name)
    return results, Death(f"exit {os.WEXITSTATUS(status)}")


def _work(job: Job, batch: Iterable[Any], write: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # the C library's last words on a damaged heap
    warnings.simplefilter("ignore")
    with os.fdopen(write, "wb") as pipe:
        for item in batch:
            try:
                found = job(item)
            except Exception as error:  # noqa: BLE001  # the tests' own mistake, named
                found = Death(f"the test itself raised {error!r}")
            result = pickle.dumps(found, protocol=5)
            pipe.write(struct.pack("<Q", len(result)) + result)
            pipe.flush()


def _gathered(read: int, expected: int) -> tuple[list[bytes], bool]:
    """The results that come until the child's end of the pipe closes; and whether it hung."""
    results: list[bytes] = []
    buffer = bytearray()
    with os.fdopen(read, "rb", buffering=0) as pipe:
        while len(results) < expected:
            if not select.select([pipe], [], [], SECONDS)[0]:
                return results, True
            piece = pipe.read(1 << 20)
            if not piece:
                break
            buffer += piece
            while len(buffer) >= 8 and len(buffer) >= 8 + (size := struct.unpack_from("<Q", buffer)[0]):
                results.append(bytes(buffer[8 : 8 + size]))
                del buffer[: 8 + size]
    return results, False
