"""Which target steps a tensor: Numba's on the CPU, Triton's on an NVIDIA GPU or by name, else the eager form."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from steprule import extras
from steprule.compiler.cache import interpreting
from steprule.compiler.target import Kernel
from steprule.errors import InputError


@dataclass(frozen=True)
class Target:
    """One row: the torch device whose tensors a target steps, and what imports its kernels."""

    device: str
    load: Callable[[], type[Kernel[Any]]]
    of_matrices: Callable[[], type[Kernel[Any]]] | None = None
    """Imports its kernels of rules of matrices, where it has such."""


def _numba() -> type[Kernel[Any]]:
    import steprule.compiler.intrinsics  # noqa: F401  (imports numba)
    from steprule.compiler.numba_cpu import NumbaKernel

    return NumbaKernel


def _numba_of_matrices() -> type[Kernel[Any]]:
    from steprule.compiler.numba_matrix import StagedKernel

    return StagedKernel


def _triton() -> type[Kernel[Any]]:
    from steprule.compiler.triton_gpu import TritonKernel

    return TritonKernel


TARGETS = {"numba": Target("cpu", _numba, _numba_of_matrices), "triton": Target("cuda", _triton)}
"""Every target by the name of what compiles it, which is its package's name too."""

UNTRIED = {"cuda": "amd", "xpu": "intel"}
"""By torch's device what Triton calls its compiler for cards of another maker than NVIDIA, for which kernels were compiled at most: there
Triton is asked for by name. torch has AMD's cards under the name "cuda"."""

PLACES = {"cpu": "the CPU", "cuda": "an NVIDIA GPU"}
"""Devices in words."""

BACKENDS = ("auto", "eager", *TARGETS)
"""What `backend=` takes."""


@cache
def target_for(backend: str, device: str, *, matrices: bool = False) -> str | None:
    """The name of the target for tensors on a device ("cpu", "cuda", ...); None is the eager form. `matrices`: for a rule of those.

    Raises `InputError` where a backend that was asked for by name is not there, or steps no tensors of that device. Triton
    steps CPU tensors only in its interpreter (TRITON_INTERPRET=1).
    """
    found = _target_for(backend, device)
    if not matrices or found is None or TARGETS[found].of_matrices is not None:
        return found
    if backend == found:
        hint = "backend='auto' runs such a rule as torch's own operations there."
        raise InputError(
            f"backend {backend!r}", expected="a rule that asks for no shape", got="one of matrices", hint=hint
        )
    return None


def _target_for(backend: str, device: str) -> str | None:
    if backend not in BACKENDS:
        raise InputError("backend", expected="one of " + ", ".join(BACKENDS), got=repr(backend))
    interpreted = device == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
    if backend == "triton" and _is_untried(device):
        return _tried(device)
    of_device = next((name for name, target in TARGETS.items() if target.device == device), None)
    if backend in TARGETS and TARGETS[backend].device != device and not (backend == "triton" and interpreted):
        hint = "backend='auto' picks a form for each."
        if backend == "triton":
            hint = "backend='auto' picks a form for each; TRITON_INTERPRET=1 runs Triton's interpreter, slowly."
        expected = f"parameters on {PLACES.get(TARGETS[backend].device, TARGETS[backend].device)}"
        raise InputError(f"backend {backend!r}", expected=expected, got=f"one on {device}", hint=hint)
    found = backend if backend in TARGETS else of_device
    if found == "triton" and _is_untried(device):
        _warn(
            f"steprule runs its eager form, which is slow: kernels were never run on {_maker(device)}'s cards. backend='triton' tries it."
        )
        return None
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


def _is_untried(device: str) -> bool:
    return device in UNTRIED and (device != "cuda" or torch.version.hip is not None)


def _maker(device: str) -> str:
    return {"amd": "AMD", "intel": "Intel"}[UNTRIED[device]]


def _tried(device: str) -> str:
    """Triton, where it has a compiler for such cards. Raises `InputError` where it has none, or is not there."""
    try:
        TARGETS["triton"].load()
        from steprule.compiler.triton_calls import COMPILERS
    except ImportError as error:
        raise InputError(
            "backend 'triton'", expected="triton installed", got=str(error), hint=extras.how_to_get("triton")
        ) from error
    if UNTRIED[device] not in COMPILERS:
        expected, got = f"a Triton that compiles for {_maker(device)}'s cards", f"one for {' and '.join(COMPILERS)}"
        raise InputError(
            "backend 'triton'", expected=expected, got=got, hint="backend='auto' runs the eager form there."
        )
    return "triton"


@cache
def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)
