"""What a step is supplied with: noise, and the gradients where the rule looks, computed at those points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from steprule.compiler.drawing import Key, noise
from steprule.errors import InputTypeError
from steprule.hyper import LOSS
from steprule.optim import groups
from steprule.optim.settings import Settings, Stepped
from steprule.optim.signature import has_own_operations

SEED = "seed"
"""The key of a group that says of which seed its noise is."""


def check_closure(optimizer: Stepped, closure: object) -> None:
    """Raise `InputTypeError` where a rule looks twice, or asks for the loss, and nobody says how."""
    if closure is not None or not (optimizer.rule.looks_twice or optimizer.rule.asks_for_loss):
        return
    twice = optimizer.rule.looks_twice
    hint = (
        "Write step(closure), where closure() zeroes the gradients, computes the loss, calls backward and returns it."
    )
    raise InputTypeError(
        f"{type(optimizer).__name__}.step",
        expected=f"a closure: its rule {'looks at the gradient twice' if twice else 'asks for the loss'}",
        got="none",
        hint=hint if twice else "Behind backward(), write step(lambda: loss).",
    )


@contextmanager
def told(optimizer: Stepped, loss: Any) -> Iterator[None]:
    """A block in which the groups of rules that ask for the loss have it. Raises `InputTypeError` where it is no number."""
    groups = [g for g in optimizer.param_groups if optimizer.stepping(g).rule.asks_for_loss]
    if groups:
        try:
            loss = float(loss.detach() if isinstance(loss, Tensor) else loss)
        except (TypeError, ValueError, RuntimeError):
            where, hint = f"{type(optimizer).__name__}.step", "Let the closure return it."
            raise InputTypeError(where, expected="the loss, one number", got=repr(loss)[:60], hint=hint) from None
    try:
        for group in groups:
            group[LOSS] = loss
        yield
    finally:
        for group in groups:
            group.pop(LOSS, None)


@contextmanager
def supplied(optimizer: Stepped, closure: Callable[[], Any] | None) -> Iterator[None]:
    """A block in which the states have the noise of this step, and the gradients of each of its looks, behind those of the first one.

    Parameters and gradients are what they were before the block, also where the closure fails.
    """
    rule, put = optimizer.rule, list[dict[str, Any]]()
    stepped = {p: p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None}
    try:
        looks = _looks_in(optimizer)
        for k, name in enumerate(rule.looked):
            if k < rule.draws:
                seen = _noise(optimizer, k)
            elif k < looks:
                assert closure is not None
                seen = _gradients(optimizer, k, closure, stepped)
            else:  # a kernel reads what a step that does not look makes nothing of
                seen = {p: _beside(p, None) for p in stepped}
            for p, gradient in seen.items():
                optimizer.state[p][name] = gradient
                put.append(optimizer.state[p])
        yield
    finally:
        for state in put:
            for name in rule.looked:
                state.pop(name, None)


def _looks_in(optimizer: Stepped) -> int:
    """How often this step looks: as often as the parameter that looks most."""
    found = 0
    for group in optimizer.param_groups:
        hypers = Settings(optimizer, group, None).hypers
        states = [optimizer.state.get(p, {}) for p in group["params"] if p.grad is not None]
        # Those that have taken as many steps, and have the same states, look as often.
        kinds = {(float(state.get("step", 0.0)), frozenset(state)): state for state in states}
        found = max([found, *(optimizer.rule.looks_in(t + 1.0, hypers, s) for (t, _), s in kinds.items())])
    return found


def _noise(optimizer: Stepped, draw: int) -> dict[Tensor, Tensor]:
    """The noise of a draw, of each parameter that steps. A parameter's number among all is which tensor it is."""
    found, tensor = dict[Tensor, Tensor](), 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                if type(p) is not Tensor and has_own_operations(p):
                    what = f"{optimizer.rule.name} draws noise, which a {type(p).__name__} does not support"
                    raise RuntimeError(f"{what}: its elements are not all here, or not plain numbers")
                t = float(optimizer.state.get(p, {}).get("step", 0.0)) + 1.0
                found[p] = noise(p.detach(), Key(int(group[SEED]), tensor), t, draw)
            tensor += 1
    return found


def _gradients(
    optimizer: Stepped, k: int, closure: Callable[[], Any], stepped: Mapping[Tensor, Tensor]
) -> dict[Tensor, Tensor]:
    """The gradients at the points of a look."""
    every = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [(p, p.detach().clone()) for p in stepped]
    try:
        with torch.inference_mode(False):
            groups.step(_mover(optimizer, k), None)
        for p in every:
            p.grad = None
        with torch.enable_grad():
            closure()
        return {p: _beside(p, p.grad) for p in stepped}
    finally:
        with torch.no_grad():
            for p, before in kept:
                p.copy_(before)
        for p in every:
            p.grad = stepped.get(p)


def _beside(p: Tensor, gradient: Tensor | None) -> Tensor:
    """A gradient as a state of its parameter: as that lies, and none is zero."""
    if gradient is None:
        return torch.zeros_like(p, memory_format=torch.preserve_format)
    if gradient.layout is not torch.strided:
        raise RuntimeError("a rule that looks twice does not support sparse gradients")
    gradient = gradient.detach()
    if type(gradient) is Tensor and gradient.stride() != p.stride() and gradient.shape == p.shape:
        return torch.empty_like(p, dtype=gradient.dtype).copy_(gradient)
    return gradient


def _mover(optimizer: Stepped, k: int) -> Stepped:
    """The optimizer as one whose step puts the parameters to the points of a look, and writes nothing else."""
    own = optimizer.__dict__
    movers: list[Stepped] = own.setdefault("_movers", [])
    while len(movers) <= k:
        made: type[Stepped] = _moving(type(optimizer), len(movers))  # type: ignore[arg-type]  # a class is hashable
        movers.append(object.__new__(made))
    mover, plans = movers[k], ("_plans", "_are_tied")
    kept = {name: mover.__dict__[name] for name in plans if name in mover.__dict__}
    mover.__dict__.clear()
    mover.__dict__.update({n: v for n, v in own.items() if n not in (*plans, "_movers")} | kept)
    return mover


@lru_cache(maxsize=256)
def _moving(cls: type[Stepped], k: int) -> type[Stepped]:
    """The class of a mover."""
    found: Any = type(f"{cls.__name__}Look{k + 1}", (cls,), {})
    found.rule, found.moves = cls.rule.looks[k], True  # behind its making: it is no class of its own
    return found  # type: ignore[no-any-return]
