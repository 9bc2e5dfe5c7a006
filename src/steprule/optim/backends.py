"""Which target steps a tensor: Numba's on the CPU, Triton's on an NVIDIA GPU, else the eager form."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from steprule import extras
from steprule.compiler.cache import interpreting
from steprule.compiler.target import Kernel
from steprule.errors import InputError


@dataclass(frozen=True)
class Target:
    """One row: the torch device whose tensors a target steps, and what imports its kernels."""

    device: str
    load: Callable[[], type[Kernel[Any]]]


def _numba() -> type[Kernel[Any]]:
    import steprule.compiler.intrinsics  # noqa: F401  (imports numba)
    from steprule.compiler.numba_cpu import NumbaKernel

    return NumbaKernel


def _triton() -> type[Kernel[Any]]:
    from steprule.compiler.triton_gpu import TritonKernel

    return TritonKernel


TARGETS = {"numba": Target("cpu", _numba), "triton": Target("cuda", _triton)}
"""Every target by the name of what compiles it, which is its package's name too."""

PLACES = {"cpu": "the CPU", "cuda": "an NVIDIA GPU"}
"""Devices in words."""

BACKENDS = ("auto", "eager", *TARGETS)
"""What `backend=` takes."""


@cache
def target_for(backend: str, device: str) -> str | None:
    """The name of the target for tensors on a device ("cpu", "cuda", ...); None is the eager form.

    Raises `InputError` where a backend that was asked for by name is not there, or steps no tensors of that device. Triton
    steps CPU tensors only in its interpreter (TRITON_INTERPRET=1).
    """
    if backend not in BACKENDS:
        raise InputError("backend", expected="one of " + ", ".join(BACKENDS), got=repr(backend))
    interpreted = device == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
    of_device = next((name for name, target in TARGETS.items() if target.device == device), None)
    if backend in TARGETS and TARGETS[backend].device != device and not (backend == "triton" and interpreted):
        hint = "backend='auto' picks a form for each."
        if backend == "triton":
            hint = "backend='auto' picks a form for each; TRITON_INTERPRET=1 runs Triton's interpreter, slowly."
        expected = f"parameters on {PLACES.get(TARGETS[backend].device, TARGETS[backend].device)}"
        raise InputError(f"backend {backend!r}", expected=expected, got=f"one on {device}", hint=hint)
    found = backend if backend in TARGETS else of_device
    if found is None or backend == "eager":
        return None
    if found == "numba" and interpreting():
        if backend == "numba":
            got = "NUMBA_DISABLE_JIT, which turns it off"
            raise InputError("backend 'numba'", expected="Numba's compiler", got=got)
        _warn("steprule runs its eager form, which is slow: NUMBA_DISABLE_JIT turns Numba's compiler off.")
        return None
    try:
        TARGETS[found].load()
    except ImportError as error:
        hint = extras.how_to_get(found)
        if backend == found:
            raise InputError(f"backend {found!r}", expected=f"{found} installed", got=str(error), hint=hint) from error
        _warn(f"steprule runs its eager form, which is slow: {found} cannot be imported ({error}). {hint}")
        return None
    return found


@cache
def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)
