"""The kernel of a model's step: printed, or refused for a reason; a fault of our own is an error."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal

from steprule.compiler import cache
from steprule.compiler.threads import may_run_parallel
from steprule.errors import KernelError, StepruleError
from steprule.lanes.loop import evaluation, training
from steprule.lanes.model import NotPrintable, blank, first_line, traced
from steprule.lanes.step import Source, compiled, printed
from steprule.problems.facts import facts_of
from steprule.problems.problem import Problem

Part = Literal["loops", "whole batch", "last batch"]
PARTS: tuple[Part, ...] = ("loops", "whole batch", "last batch")
"""What `build` builds, each apart from the others."""


@lru_cache(maxsize=64)
def source_of(
    task: Problem, batch: int, own_data: bool = False, width: int | None = None, gradient: bool = True
) -> Source:
    """The model's step for batches of one size, or its loss alone.

    Raises `NotPrintable`, with the reason, for what has no kernel; `KernelError` where steprule fails at one that has.
    """
    if cache.interpreting():
        raise NotPrintable("a Numba that NUMBA_DISABLE_JIT turns off")
    if facts_of(task).reduction != "mean":
        raise NotPrintable("a loss that is not a mean over the samples")
    step = traced(task, blank(task) if gradient else blank(task).eval(), batch, gradient=gradient)
    with our_faults(f"problem {task.name}: the model's kernel could not be printed"):
        return printed(step, compute_of(task), own_data=own_data, width=width)


@contextmanager
def our_faults(what: str) -> Iterator[None]:
    """What fails inside is a fault of steprule, and no reason to take another engine in silence."""
    try:
        yield
    except (StepruleError, NotPrintable):
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        hint = (
            "A fault of steprule: please report it. compile=False (of a sweep: --no-compile) trains without a kernel."
        )
        raise KernelError(what, got=f"{type(error).__name__}: {first_line(error)} ({where})", hint=hint) from error


def build(task: Problem, batch_size: int, part: Part) -> None:
    """Build one of the parts for lanes with data of their own: the loops and the loss, or the step of a batch."""
    size = min(batch_size, task.samples)
    full = source_of(task, size, True)
    if part == "loops":
        loss = source_of(task, size, False, full.width, False)
        training(full, parallel=may_run_parallel())
        evaluation(loss, parallel=may_run_parallel())
        compiled(loss)
    elif part == "whole batch":
        compiled(full)
    else:
        compiled(source_of(task, task.samples % batch_size or size, True, full.width))


def compute_of(task: Problem) -> str:
    """The dtype of a problem's models."""
    return str(next(blank(task).parameters()).dtype).removeprefix("torch.")
