"""A case is a rule with its numbers, and a walk of it some steps long, as every form is asked to walk it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steprule.checking.probe import POINT, elsewhere
from steprule.compiler import eager
from steprule.compiler.drawing import NOBODYS, noise
from steprule.compiler.variant import Variant, needs_shape, switches_of, variant_of
from steprule.hyper import OF_THE_LOSS
from steprule.optim.optimizer import RuleOptimizer
from steprule.rules.rule import Rule

Array = NDArray[np.float64]
Walk = list[dict[str, Any]]
"""Holds per step p and each slot that the variant uses, as arrays; None for a slot that is absent. Of a rule that states where its model
is read, it holds that point too, as `POINT`."""

SIZE, STEPS = 7, 4
MATRIX = 3, 4
"""What a rule that asks for shapes walks: neither square nor of as many elements as another axis."""


@dataclass(frozen=True)
class Case:
    """A rule with its hyperparameters, which every form walks."""

    rule: Rule
    hypers: Mapping[str, Any]

    @property
    def is_of_matrices(self) -> bool:
        """Whether the rule asks for the shape of its parameter."""
        return needs_shape(self.rule, switches_of(self.rule, self.hypers))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the parameter."""
        return MATRIX if self.is_of_matrices else (SIZE,)

    @property
    def variant(self) -> Variant:
        """The variant that the hyperparameters choose."""
        return variant_of(self.rule, self.hypers, self.shape)

    @property
    def slots(self) -> list[str]:
        """The states that the variant uses."""
        return [s.name for s in self.rule.states if s.name in self.variant.slots]

    def numbers(self, seed: int) -> Array:
        """Random numbers for a start or a gradient."""
        return numbers(seed, math.prod(self.shape)).reshape(self.shape)

    def sizes(self, name: str) -> tuple[int, ...]:
        """The shape of p or of a slot of elements."""
        slot = next((s for s in self.rule.slots if s.name == name), None)
        return slot.sizes(self.shape) if slot is not None and slot.shape else self.shape

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
    p, state, found = convert(case.numbers(0)), eager.State(), []
    for t in range(1, STEPS + 1):
        g = convert(case.numbers(t))
        drawn = (noise(case.numbers(0), NOBODYS, t, k) for k in range(case.rule.draws))
        state = {**state, **{n: convert(v) for n, v in zip(case.rule.looked, drawn, strict=False)}}
        p, state = eager.whole_step(case.rule, p, g, state, t, case.hypers, elsewhere(g))
        kept = {n: plain(v) for n, v in state.items() if n in case.slots}
        found.append({"p": plain(p)} | kept | case.point(p, state, t))
    return found


def step_class(optimizer: torch.optim.Optimizer, p: torch.Tensor, g: torch.Tensor) -> None:
    """One step of a class on one parameter with gradient g; one whose rule looks twice sees `elsewhere` behind it."""
    p.grad = g
    if not (isinstance(optimizer, RuleOptimizer) and (optimizer.rule.looks_twice or optimizer.rule.asks_for_loss)):
        optimizer.step()
        return
    calls = 0

    def closure() -> float:
        nonlocal calls
        p.grad = elsewhere(g)(p.detach()) if calls else g
        calls += 1
        return float(OF_THE_LOSS.default)

    optimizer.step(closure)


def starts(case: Case) -> dict[str, Any]:
    """The value of each slot before the first step."""
    p = case.numbers(0)
    used = [s for s in case.rule.states if s.name in case.variant.slots and not s.absent_at_first]
    return {s.name: eager.start(s, p, case.hypers, case.rule) for s in used}
