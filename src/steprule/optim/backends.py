"""Which form steps a tensor: Numba's on the CPU, Triton's on an NVIDIA GPU, else the eager one, which says so once."""

from __future__ import annotations

import importlib
import os
import warnings
from functools import cache
from typing import Any, Literal

from steprule import extras
from steprule.compiler.cache import interpreting
from steprule.compiler.target import Compiler
from steprule.errors import InputError

Backend = Literal["auto", "eager", "numba", "triton"]
Form = Literal["numba", "triton"]
BACKENDS = ("auto", "eager", "numba", "triton")
_MODULES: dict[Form, str] = {"numba": "numba_cpu", "triton": "triton_gpu"}


def compiler_of(form: Form) -> Compiler:
    """The module of the compiler that prints this form; numba or triton is imported with it."""
    if form == "numba":
        importlib.import_module("steprule.compiler.intrinsics")
    module: Any = importlib.import_module(f"steprule.compiler.{_MODULES[form]}")
    return module  # type: ignore[no-any-return]  # mypy knows no module by a name that is put together


@cache
def form_for(backend: str, device: str) -> Form | None:
    """The form for tensors on a device ("cpu", "cuda", ...); None is the eager form.

    Raises `InputError` where a backend that was asked for by name is not there. Triton steps CPU tensors only in its
    interpreter (TRITON_INTERPRET=1).
    """
    if backend not in BACKENDS:
        raise InputError("backend", expected="one of " + ", ".join(BACKENDS), got=repr(backend))
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    form: Form
    if backend == "eager":
        return None
    if backend == "triton" and (device == "cuda" or (device == "cpu" and interpreted)):
        form = "triton"
    elif backend == "triton":
        raise InputError(
            "backend 'triton'",
            expected="parameters on an NVIDIA GPU",
            got=f"one on {device}",
            hint="backend='auto' picks a form for each; TRITON_INTERPRET=1 runs Triton's interpreter, slowly.",
        )
    elif device == "cpu" and interpreting():
        if backend == "numba":
            raise InputError(
                "backend 'numba'", expected="Numba's compiler", got="NUMBA_DISABLE_JIT, which turns it off"
            )
        _warn("steprule runs its eager form, which is slow: NUMBA_DISABLE_JIT turns Numba's compiler off.")
        return None
    elif device == "cpu":
        form = "numba"
    elif device == "cuda" and backend == "auto":
        form = "triton"
    else:
        return None
    try:
        compiler_of(form)
    except ImportError as error:
        if backend == form:
            raise InputError(
                f"backend {form!r}", expected=f"{form} installed", got=str(error), hint=extras.how_to_get(form)
            ) from error
        _warn(
            f"steprule runs its eager form, which is slow: {form} cannot be imported ({error}). {extras.how_to_get(form)}"
        )
        return None
    return form


@cache
def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)
