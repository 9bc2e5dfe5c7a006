"""The bench times whole steps against torch's, a process's first step, and whole training iterations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from steprule.benching.fresh import Once, once
from steprule.benching.loops import MODELS, Iteration, iterations
from steprule.benching.own import Swap, swap
from steprule.benching.steps import QUICK, WORKLOADS, Result, Workload, bench, chain, contender, machine, silent
from steprule.errors import InputError
from steprule.trainable import Optimizable

__all__ = [
    "MODELS",
    "QUICK",
    "WORKLOADS",
    "Iteration",
    "Once",
    "Result",
    "Swap",
    "Workload",
    "bench",
    "chain",
    "iterations",
    "machine",
    "once",
    "report",
    "swap",
]


def report(
    names: Sequence[Optimizable] | None = None,
    *,
    quick: bool = False,
    compiled: bool = False,
    device: str = "cpu",
    progress: Callable[[str], None] = silent,
) -> dict[str, Any]:
    """All results of `steprule bench` as plain values: `machine`, `steps`, `once`, `iterations`.

    `names`: torch's classes or any RULE; if not given, all classes that torch has for the steps, Adam and RMSprop for the rest. The first
    step and whole iterations are timed only for classes that torch has.

    Raises `UnknownNameError`, and `InputError` for a device that this machine lacks.
    """
    _check_device(device)
    few = ["Adam", "RMSprop"]
    if names:
        few = [one.name for one in map(contender, names) if one.theirs]
    steps = bench(names, QUICK if quick else WORKLOADS, device=device, compiled=compiled, progress=progress)
    found: dict[str, Any] = {"machine": machine(device), "steps": steps, "once": [], "iterations": []}
    if not quick:
        if not names or "AdamW" in few:
            progress("the chain of clip, AdamW, average and zero")
            steps.append(chain(device=device))
        if device == "cpu":
            found["once"] = once(few, compiled=compiled, progress=progress)
            found["iterations"] = iterations(few, progress=progress)
    for part in ("steps", "once", "iterations"):
        found[part] = [asdict(r) for r in found[part]]
    return found


def _check_device(device: str) -> None:
    import torch

    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        got = f"{device!r}, and torch sees no NVIDIA GPU" if device.startswith("cuda") else repr(device)
        raise InputError("--device", expected="cpu, or cuda with an NVIDIA GPU", got=got)
