"""The eager form, the reference for all others: the author's function, run on numbers, its slots kept."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from steprule.compiler import pages
from steprule.compiler.variant import variant_of
from steprule.hyper import Slot
from steprule.rules.rule import Rule

State = dict[str, Any]
"""A slot's value by its name; None where it is not allocated."""


def step(rule: Rule, p: Any, g: Any, state: State, t: float, hypers: Mapping[str, Any]) -> tuple[Any, State]:
    """One step of one parameter: the new p and the new state. Nothing given is written to, and nothing of it is handed back.

    `p` and `g`: float, numpy array or torch tensor of one shape. `state`: {} before the first step. `t`: the number of
    this step, from 1. `hypers`: all of the rule's, as `Rule.bind` gives them.
    """
    if _is_complex(p):
        return _by_parts(rule, p, g, state, t, hypers)
    used = variant_of(rule, hypers).slots
    slots = []
    for slot in rule.slots:
        value = state.get(slot.name) if slot.name in used else None
        if value is None and slot.name in used and not slot.absent_at_first:
            value = start(slot, p, hypers)
        slots.append(value)
    given = {**hypers, "t": float(t)} if rule.takes_t else dict(hypers)
    result = rule(p, g, *slots, **given)
    new_p, *new_slots = result if isinstance(result, tuple) else (result,)
    # A slot that this variant does not use keeps what it held, for the variant that does.
    kept = {s.name: new if s.name in used else state.get(s.name) for s, new in zip(rule.slots, new_slots, strict=True)}
    numbers = {s.name for s in rule.slots if s.per_tensor}
    return new_p, {name: _number(v) if name in numbers else v for name, v in kept.items()}


def evaluated(rule: Rule, p: Any, state: State, t: float, hypers: Mapping[str, Any]) -> Any:
    """The point at which the model is read after step `t`: p itself where the rule states no other, or no step was taken.

    All as in `step`; `state` is what the last step gave.
    """
    if rule.evaluation is None or t == 0:
        return p
    if _is_complex(p):
        return _whole(evaluated(rule, _real(p), {n: _real(v) for n, v in state.items()}, t, hypers))
    used = variant_of(rule, hypers).slots
    slots = [state.get(s.name) if s.name in used else None for s in rule.slots]
    given = {**hypers, "t": float(t)} if rule.takes_t else dict(hypers)
    return rule.evaluation(p, p, *slots, **given)[0]


def _is_complex(p: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(p, torch.Tensor) and p.is_complex()


def _by_parts(rule: Rule, p: Any, g: Any, state: State, t: float, hypers: Mapping[str, Any]) -> tuple[Any, State]:
    """A complex parameter is two real ones, as in torch; its states are complex again."""
    numbers = {s.name for s in rule.slots if s.per_tensor}
    new_p, new = step(rule, _real(p), _real(g), {name: _real(value) for name, value in state.items()}, t, hypers)
    # A slot of one number is no element of p, whatever its shape.
    return _whole(new_p), {name: value if name in numbers else _whole(value) for name, value in new.items()}


def _real(value: Any) -> Any:
    import torch

    is_complex = isinstance(value, torch.Tensor) and value.is_complex()
    return torch.view_as_real(value.resolve_conj()) if is_complex else value


def _whole(value: Any) -> Any:
    import torch

    return torch.view_as_complex(value) if isinstance(value, torch.Tensor) else value


def start(slot: Slot, p: Any, hypers: Mapping[str, Any]) -> Any:
    """The value of a slot before the first step."""
    value = start_number(slot, hypers)
    return value if slot.per_tensor else _filled(p, value, full=slot.full_precision)


def start_number(slot: Slot, hypers: Mapping[str, Any]) -> Any:
    """What every element of a slot is before the first step."""
    return hypers[slot.start] if isinstance(slot.start, str) else slot.start


def _filled(p: Any, value: Any, *, full: bool) -> Any:
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(p, torch.Tensor):
        wide = full and p.element_size() < 4
        return pages.full_like(p, value, torch.float32) if wide else pages.full_like(p, value)
    if numpy is not None and isinstance(p, numpy.ndarray):
        return numpy.full_like(p, value, dtype=numpy.float32 if full and p.itemsize < 4 else None)
    return float(value)


def _number(value: Any) -> Any:
    """One number a tensor: arrays keep reductions as arrays of one element."""
    numpy = sys.modules.get("numpy")
    return float(value.item()) if numpy is not None and isinstance(value, numpy.ndarray) else value
