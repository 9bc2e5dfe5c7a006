"""The eager form, the reference for all others: the author's function, run on numbers, its slots kept."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from steprule.compiler import pages
from steprule.compiler.variant import needs_shape, switches_of, variant_of
from steprule.errors import InputTypeError
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
        if needs_shape(rule, switches_of(rule, hypers)):
            raise InputTypeError(f"{rule.name}", expected="real parameters: it asks for their shape", got="complex ones")
        return _by_parts(rule, p, g, state, t, hypers)
    used = variant_of(rule, hypers, tuple(getattr(p, "shape", ()))).slots
    slots = []
    for slot in rule.slots:
        value = state.get(slot.name) if slot.name in used else None
        if value is None and slot.name in used and not slot.absent_at_first:
            value = start(slot, p, hypers, rule)
        slots.append(value)
    given = {**hypers, "t": float(t)} if rule.takes_t else dict(hypers)
    result = rule(p, g, *slots, **given)
    new_p, *new_slots = result if isinstance(result, tuple) else (result,)
    # A slot that this variant does not use keeps what it held, for the variant that does.
    kept = {s.name: new if s.name in used else state.get(s.name) for s, new in zip(rule.slots, new_slots, strict=True)}
    numbers = {s.name for s in rule.slots if s.per_tensor}
    return new_p, {name: _number(v) if name in numbers else v for name, v in kept.items()}


def _is_complex(p: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(p, torch.Tensor) and p.is_complex()


def _by_parts(rule: Rule, p: Any, g: Any, state: State, t: float, hypers: Mapping[str, Any]) -> tuple[Any, State]:
    """A complex parameter is two real ones, as in torch; its states are complex again."""
    import torch

    def real(value: Any) -> Any:
        is_complex = isinstance(value, torch.Tensor) and value.is_complex()
        return torch.view_as_real(value.resolve_conj()) if is_complex else value

    def whole(name: str, value: Any) -> Any:
        # A slot of one number is no element of p, whatever its shape.
        return value if name in numbers or not isinstance(value, torch.Tensor) else torch.view_as_complex(value)

    numbers = {s.name for s in rule.slots if s.per_tensor}
    new_p, new = step(rule, real(p), real(g), {name: real(value) for name, value in state.items()}, t, hypers)
    return torch.view_as_complex(new_p), {name: whole(name, value) for name, value in new.items()}


def start(slot: Slot, p: Any, hypers: Mapping[str, Any], rule: Rule | None = None) -> Any:
    """The value of a slot before the first step; `rule` says how it sees p, where that matters."""
    value = start_number(slot, hypers)
    if slot.per_tensor:
        return value
    like = p
    if slot.shape and hasattr(p, "shape"):
        sizes = slot.sizes(rule.seen(tuple(p.shape)) if rule else tuple(p.shape))
        like = p.new_empty(sizes) if hasattr(p, "new_empty") else sys.modules["numpy"].empty(sizes, p.dtype)
    return _filled(like, value, full=slot.full_precision)


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
