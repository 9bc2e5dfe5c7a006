"""torch's contract, for the test files of that name: one switch between our classes and torch's, and children that may die.

`STEPRULE_REFERENCE=1 python -m pytest tests/test_contract_*.py tests/test_torch_suite.py` runs every test on torch's own
classes in place of ours. What a test says must hold there too; what torch has not at all is marked `only_ours`.
"""

from __future__ import annotations

import faulthandler
import importlib
import inspect
import multiprocessing
import os
import pickle
import select
import signal
import time
import warnings
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch
from torch import Tensor

REFERENCE = os.environ.get("STEPRULE_REFERENCE") == "1"
optim: Any = torch.optim if REFERENCE else importlib.import_module("steprule.optim")

only_ours = pytest.mark.skipif(REFERENCE, reason="torch's classes have no such option or class")

SETTINGS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "Adagrad": {"lr": 0.1},
    "RMSprop": {"lr": 0.05},
    "Adadelta": {"lr": 1.0},
    "Adam": {"lr": 0.1},
    "AdamW": {"lr": 0.1},
    "Adamax": {"lr": 0.1},
    "NAdam": {"lr": 0.1},
    "RAdam": {"lr": 0.1},
    "Rprop": {"lr": 0.1},
    "ASGD": {"lr": 0.1, "lambd": 0.1, "t0": 1.0},
}
"""Every class that torch has as well, with settings under which each keeps a state."""

NAMES = list(SETTINGS)
FUSED = ("SGD", "Adagrad", "Adam", "AdamW")  # torch's classes that know `fused`
LARGE = 200_000  # elements; past 65,536 a kernel runs on several threads


def make(name: str, params: Any, module: Any = None, **settings: Any) -> Any:
    """An optimizer of that name, ours or torch's as the switch says; `module=torch.optim` for the other side.

    A weight decay is left out where torch's class has none.
    """
    if not decays(name):
        settings.pop("weight_decay", None)
    return getattr(module or optim, name)(params, **{**SETTINGS.get(name, {}), **settings})


def decays(name: str) -> bool:
    """Whether torch's class has a weight decay."""
    return "weight_decay" in inspect.signature(getattr(torch.optim, name, make)).parameters or name not in NAMES


def parameter(*shape: int, value: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    """A ramp from 0 to `value`, so that no two elements are alike."""
    count = int(torch.Size(shape).numel())
    return torch.nn.Parameter(torch.linspace(value / max(count, 1), value, count).reshape(shape).to(dtype))


def feed(params: Iterable[Tensor], t: int) -> None:
    """Gradients that follow from the parameters and from the step's number."""
    for p in params:
        p.grad = (p.detach() * (1 + 0.25 * (t % 3)) + 0.125).to(p.dtype)


def train(optimizer: Any, steps: int = 1, start: int = 0) -> None:
    for t in range(start, start + steps):
        feed((p for group in optimizer.param_groups for p in group["params"]), t)
        optimizer.step()


def tensors(state: Any) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if isinstance(v, Tensor)}


# Children


class ChildError(AssertionError):
    """A child ended by a signal, or ran past its limit."""


def in_child(function: Callable[..., Any], *args: Any, seconds: float = 60) -> Any:
    """`function(*args)` in a forked child: its value, or its exception; `ChildError` where the child did.

    For small tensors only: a forked child of a process in which torch has run threads must not run them itself.
    """
    importlib.import_module("torch._dynamo")  # which torch imports at the first step: here, not in each child
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forks beside threads
        pid = os.fork()
    if not pid:
        faulthandler.disable()  # a child that dies is one line of the parent's
        os.close(read)
        with os.fdopen(write, "wb") as out:
            out.write(_outcome(function, args))
        os._exit(0)
    os.close(write)
    said, end = b"", time.monotonic() + seconds
    while select.select([read], [], [], max(0.0, end - time.monotonic()))[0]:
        chunk = os.read(read, 1 << 16)
        if not chunk:
            break
        said += chunk
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(read)
    _, status = os.waitpid(pid, 0)
    return _taken(said, os.waitstatus_to_exitcode(status), function)


def in_fresh(function: Callable[..., Any], *args: Any, seconds: float = 120) -> Any:
    """The same in a process in which no thread has run yet: for large tensors, and for measures of memory.

    Its ancestor has imported torch and numba, not us, and the child imports the function's module.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "numba", "pytest"])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(sender, function, args))
    child.start()
    sender.close()
    said = b""
    try:
        if receiver.poll(seconds):
            said = receiver.recv_bytes()
    except EOFError:
        pass
    child.join(5 if said else 1)
    late = child.is_alive()
    if late:
        child.kill()
        child.join()
    return _taken(said, 0 if late and said else child.exitcode or 0, function)


def _outcome(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    try:
        return pickle.dumps((True, function(*args)))
    except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to the parent
        try:
            return pickle.dumps((False, error))
        except Exception:  # noqa: BLE001
            return pickle.dumps((False, RuntimeError(repr(error))))


def _send(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    sender.send_bytes(_outcome(function, args))
    sender.close()


def _taken(said: bytes, status: int, function: Callable[..., Any]) -> Any:
    what = getattr(function, "__name__", repr(function))
    if status < 0:
        raise ChildError(f"{what}: the child was ended by {signal.Signals(-status).name}")
    if not said:
        raise ChildError(f"{what}: the child said nothing and ended with {status}")
    good, value = pickle.loads(said)
    if not good:
        raise value
    return value


def resident() -> int:
    """The resident memory of this process in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The largest resident memory that this process has had, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
