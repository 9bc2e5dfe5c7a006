"""Which engine trains lanes of a problem, and why no better one: by counts and by trying."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

from torch import Tensor

from steprule.errors import InputTypeError
from steprule.lanes.kernel import source_of
from steprule.lanes.model import NotPrintable, blank
from steprule.lanes.records import Engine
from steprule.lanes.vmapped import NotBatchable, check_lanes
from steprule.problems.facts import facts_of
from steprule.problems.problem import Problem
from steprule.steppers import is_large
from steprule.training.recipe import Recipe

Compile = bool | Literal["auto"]
WORTH = 10_000_000
"""Lanes x steps x parameters from which `compile="auto"` compiles the model: by counts and not by the clock, so that the
same sweep has the same numbers on every machine."""


class Choice(NamedTuple):
    """An engine, and why it is no better one; "" for the best."""

    engine: Engine
    reason: str


def choose(task: Problem, lanes: int, recipe: Recipe, compile: Compile, *, per_kind: bool = False) -> Choice:
    """The engine for so many lanes of any rule, or of a rule `per_kind` of parameter, which no kernel steps.

    Raises `KernelError` where steprule fails at a kernel that it should print.
    """
    if compile not in (True, False, "auto"):
        raise InputTypeError("compile", expected="True, False or 'auto'", got=repr(compile))
    if reason := facts_of(task).one_by_one:
        return Choice("one by one", reason)
    if not isinstance(task.features, Tensor) or not isinstance(task.targets, Tensor):
        return Choice("one by one", "a model of several inputs")
    if compile == "auto" and is_large(blank(task)):
        return Choice("one by one", "a model of a million parameters or more, which keeps the cores busy alone")
    size = min(recipe.batch_size, task.samples)
    reason = "" if recipe.device == "cpu" else f"kernels run on the CPU, not on {recipe.device}"
    if not reason and per_kind:
        reason = "no kernel for a rule per kind of parameter"
    if not reason and (compile is True or (compile == "auto" and _work(task, lanes, recipe) >= WORTH)):
        try:
            for batch in {size, task.samples % recipe.batch_size or size}:
                source_of(task, batch)
            check_lanes(task, size, together=False)
            return Choice("kernel", "")
        except (NotPrintable, NotBatchable) as error:
            reason = f"no kernel for {error}"
    try:
        check_lanes(task, recipe.batch_size, together=True)
    except NotBatchable as error:
        return Choice("one by one", f"the model cannot be batched: {error}")
    return Choice("vmap", reason)


def first_samples(task: Problem, count: int) -> Problem:
    """The problem with its first samples alone, as one tries something out with it."""
    few = {"features": task.features[:count], "targets": task.targets[:count]}
    return replace(task, **few, validation=None, test=None, metrics={})


def _work(task: Problem, lanes: int, recipe: Recipe) -> int:
    return lanes * recipe.steps(task) * sum(p.numel() for p in blank(task).parameters())
