"""A case is a rule with its numbers, and a walk of it some steps long, as every form is asked to walk it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steprule.checking.probe import POINT
from steprule.compiler import eager
from steprule.compiler.variant import Variant, variant_of
from steprule.rules.rule import Rule

Array = NDArray[np.float64]
Walk = list[dict[str, Any]]
"""Holds per step p and each slot that the variant uses, as arrays; None for a slot that is absent. Of a rule that states where its model
is read, it holds that point too, as `POINT`."""

SIZE, STEPS = 7, 4


@dataclass(frozen=True)
class Case:
    """A rule with its hyperparameters, which every form walks."""

    rule: Rule
    hypers: Mapping[str, Any]

    @property
    def variant(self) -> Variant:
        """The variant that the hyperparameters choose."""
        return variant_of(self.rule, self.hypers)

    def point(self, p: Any, state: eager.State, t: int) -> dict[str, Any]:
        """The point of evaluation by the author's function, behind step t, as a walk holds it."""
        if self.rule.evaluation is None:
            return {}
        return {POINT: plain(eager.evaluated(self.rule, p, state, t, self.hypers))}

    def absent_after(self, t: int) -> frozenset[str]:
        """The slots that are still absent behind step t."""
        stages = self.variant.stages
        return stages[min(t + 1, len(stages)) - 1]


def numbers(seed: int, count: int = SIZE) -> Array:
    """Random numbers for a start or a gradient."""
    return np.random.default_rng(seed).normal(size=count)


def at(case: Case) -> str:
    """The switches that are not at their defaults, in words."""
    on = []
    for name, value in case.hypers.items():
        if case.rule.hyper(name).switches and value != case.rule.defaults[name]:
            on.append(f"{name}={value}")
    return f", with {', '.join(on)}" if on else ""


def plain(value: Any) -> Any:
    """A value of any form as a float64 array; None stays None."""
    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        value = value.detach().double().numpy()
    return np.array(value, dtype=np.float64)


def walk(case: Case, convert: Callable[[Array], Any]) -> Walk:
    """The walk by the author's function; `convert` turns arrays into the type that is walked."""
    p, state, found = convert(numbers(0)), eager.State(), []
    for t in range(1, STEPS + 1):
        p, state = eager.step(case.rule, p, convert(numbers(t)), state, t, case.hypers)
        kept = {n: plain(v) for n, v in state.items() if n in case.variant.slots}
        found.append({"p": plain(p)} | kept | case.point(p, state, t))
    return found


def starts(case: Case) -> dict[str, Any]:
    """The value of each slot before the first step."""
    p = numbers(0)
    used = [s for s in case.rule.slots if s.name in case.variant.slots and not s.absent_at_first]
    return {s.name: eager.start(s, p, case.hypers) for s in used}
