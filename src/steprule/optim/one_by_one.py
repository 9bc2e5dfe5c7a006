"""Tensors that no kernel may touch, stepped one by one: by torch's own class, or by the author's function.

torch's class is what strangers' tensors are made for: sparse, complex, meta, fake, overlapping, wrapped ones get its numbers and
its errors. The author's function serves where torch has no such class, or where something is on that torch's class lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from steprule.arithmetic import exchanging
from steprule.compiler import eager
from steprule.compiler.drawing import Key
from steprule.compiler.rounding import draw_of, rounded
from steprule.hyper import Slot
from steprule.optim.precision import LOW
from steprule.optim.settings import Stepped
from steprule.optim.signature import has_own_operations
from steprule.optim.states import as_numbers, begin, dtype_of, in_dtype, keep_count
from steprule.rules.rule import Rule


def torchs_class(cls: type) -> Any:
    """The class of torch.optim that `cls` stands for; None for a rule that torch has not."""
    for base in cls.__mro__:
        if f"{base.__module__}.".startswith("torch.optim.") and base is not torch.optim.Optimizer:
            return base
    return None


def step_by_torch(optimizer: torch.optim.Optimizer, group: dict[str, Any], params: list[Tensor]) -> None:
    """The own step of torch's class for some parameters of a group."""
    for p in params:
        count = optimizer.state[p].get("step") if p in optimizer.state else None
        if not isinstance(count, Tensor) or count.numel() != 1:  # torch says what is wrong
            continue
        if count.device.type == "cpu" and not has_own_operations(count):
            keep_count(count, count.item() + 1.0)
    step = torchs_class(type(optimizer)).step
    if getattr(step, "hooked", False):  # some instance of torch's class has wrapped it to run hooks, which were run
        step = step.__wrapped__
    part = {**group, "params": params}
    if "fused" in part and not group.get("capturable"):
        part.update(fused=None, foreach=False)  # one tensor after the other
    # Another that shares the states: the optimizer itself keeps its groups, for threads that step it meanwhile.
    stand_in = object.__new__(type(optimizer))
    stand_in.__dict__.update(dict(optimizer.__dict__))  # copied at once: another thread may write to it
    for scale in ("grad_scale", "found_inf"):
        stand_in.__dict__.pop(scale, None)
    # An optimizer of several rules has as defaults what all have; torch's step asks for its own, as `differentiable`.
    stand_in.__dict__.update(param_groups=[part], defaults={**part, **optimizer.defaults})
    step(stand_in)


@contextmanager
def unscaled(params: Sequence[Tensor], scale: float | None) -> Iterator[None]:
    """A block in which each gradient is divided by what the loss was multiplied with; the gradients themselves stay as they are."""
    if scale is None:
        yield
        return
    scaled = [(p, p.grad) for p in params]
    try:
        with torch.no_grad():
            for p, g in scaled:
                p.grad = g / scale  # type: ignore[operator, assignment]
        yield
    finally:
        for p, g in scaled:
            p.grad = g


def resolved(t: Tensor) -> Tensor:
    """The tensor as plain numbers: conjugation, sign and zeros carried out, and nothing of a subclass that has the memory of one."""
    if type(t) is not Tensor and not has_own_operations(t):
        t = t.as_subclass(Tensor)
    if t._is_zerotensor():
        return torch.zeros(t.shape, dtype=t.dtype, device=t.device)
    return t.resolve_conj().resolve_neg()


def step_by_rule(
    optimizer: Stepped,
    p: Tensor,
    used: frozenset[str],
    hypers: Mapping[str, Any],
    known: Mapping[str, float],
    key: Key | None = None,
    wanted: torch.dtype | None = None,
) -> None:
    """The author's function on one parameter, its results copied into the tensors that are there.

    `used` names the slots, `known` are the totals. Numbers of the model stay as they are: they are all tensors'. `key`: by whose random
    numbers it is rounded, if by chance. `wanted`: the dtype of states that its group says, here and below.
    """
    one, state = _one(optimizer, p, used, hypers, wanted, counts=key is not None)
    with exchanging(known):
        new_p, new = one.step(optimizer.rule, {})
    if optimizer.moves:
        _write([(p, new_p)])
        return
    new = {n: v for n, v in new.items() if n not in _of_model(optimizer.rule)}
    slots = {s.name: s for s in optimizer.rule.slots}
    # Each result with the tensor that it goes to: the one that is there, or a new one.
    kept: dict[str, tuple[Any, Any]] = {}
    for name, value in new.items():
        held, slot = state.get(name), slots[name]
        if not isinstance(held, Tensor) and value is not None:
            held = value.clone() if slot.is_number else value.to(dtype_of(slot, p, wanted), copy=True)
            if key is not None and not slot.is_number:  # it lies as a kernel lays it, which decides its random numbers
                sizes = slot.sizes(optimizer.rule.seen(tuple(p.shape))) if slot.shape else None
                held = begin(slot, p.detach(), hypers, absent=True, sizes=sizes, wanted=wanted)
        if value is not None:
            kept[name] = held, value
    results = {"p": (p, new_p), **kept}
    if key is not None:
        results |= _by_chance(optimizer.rule, results, key, int(one.t))
    if counted := optimizer.counts_steps or key is not None:
        keep_count(state["step"], one.t)
    _write([*results.values(), *([(state["step"], one.t)] if counted else [])])
    state.update({name: held for name, (held, _) in kept.items() if state.get(name) is not held})


def _by_chance(
    rule: Rule, results: Mapping[str, tuple[Tensor, Any]], key: Key, t: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """The results that go to tensors of low precision, rounded by chance."""
    numbers = {slot.name for slot in rule.slots if slot.is_number}
    return {
        name: (held, rounded(value.float(), resolved(held.detach()), key, t, draw_of(rule, name)))
        for name, (held, value) in results.items()
        if held.dtype in LOW and name not in numbers
    }


def parts_of(
    optimizer: Stepped,
    p: Tensor,
    used: frozenset[str],
    hypers: Mapping[str, Any],
    known: Mapping[str, float],
    wanted: torch.dtype | None = None,
) -> dict[str, float]:
    """What one parameter adds to each total; to those that follow from others it is right when these are known."""
    one, _ = _one(optimizer, p, used, hypers, wanted)
    return eager.parts_of(optimizer.rule, one, {}, known)


def numbers_of(
    optimizer: Stepped,
    p: Tensor,
    used: frozenset[str],
    hypers: Mapping[str, Any],
    known: Mapping[str, float],
    wanted: torch.dtype | None = None,
) -> dict[str, float]:
    """The new numbers of the model, as one parameter gives them."""
    one, _ = _one(optimizer, p, used, hypers, wanted)
    with exchanging(known):
        _, new = one.step(optimizer.rule, {})
    return {name: float(new[name]) for name in _of_model(optimizer.rule) if name in used}


def _of_model(rule: Rule) -> list[str]:
    return [slot.name for slot in rule.slots if slot.per_model]


def _one(
    optimizer: Stepped,
    p: Tensor,
    used: frozenset[str],
    hypers: Mapping[str, Any],
    wanted: torch.dtype | None,
    *,
    counts: bool = False,
) -> tuple[eager.One, dict[str, Any]]:
    """What a step takes of one parameter, and its state, in which the numbers that were missing have begun."""
    rule, counts, grad = optimizer.rule, counts or optimizer.counts_steps, p.grad
    assert grad is not None
    if grad.layout is not torch.strided:
        raise RuntimeError(f"{rule.name} does not support sparse gradients")
    if grad.shape != p.shape:
        raise RuntimeError(f"{_sizes(grad, p)}: a gradient and its parameter")
    starts = {"step": 0.0} if counts else {}
    starts |= {s.name: eager.start_number(s, hypers) for s in rule.slots if s.per_tensor and s.name in used}
    state: dict[str, Any] = optimizer.state[p] if starts or used else {}
    as_numbers(state, starts, p, as_torch=torchs_class(type(optimizer)) is not None)
    for slot in rule.slots if wanted is not None else ():
        if slot.name in used and isinstance(state.get(slot.name), Tensor):
            state[slot.name] = in_dtype(slot, p, state[slot.name], wanted)
    held = {slot.name: _held(rule, slot, state.get(slot.name), p) for slot in rule.slots}
    t = state["step"].item() + 1.0 if counts else 1.0
    own = resolved(p.detach())
    if p.dtype in LOW or wanted is not None:
        # What is computed in float32 comes back so: whoever stores it rounds, each tensor in its own way.
        own = own.float() if p.dtype in LOW else own
        for slot in rule.slots:
            if slot.name in used and held[slot.name] is None and not (slot.absent_at_first or slot.looked):
                sizes = slot.sizes(rule.seen(tuple(p.shape))) if slot.shape else None
                held[slot.name] = begin(slot, p.detach(), hypers, absent=False, sizes=sizes, wanted=wanted)
    return eager.One(own, resolved(grad.detach()).to(own.dtype), held, t, hypers), state


def _held(rule: Rule, slot: Slot, value: Any, p: Tensor) -> Any:
    """A state as the author's function takes it."""
    if not isinstance(value, Tensor):
        return value
    if slot.is_number:
        return value.item()
    sizes = slot.sizes(rule.seen(tuple(p.shape))) if slot.shape else p.shape
    if value.shape != sizes:
        like = p if sizes is p.shape else p.new_empty(sizes)
        raise RuntimeError(f"{_sizes(value, like)}: state {slot.name!r} and its parameter; is it of another model?")
    return resolved(value)


def _write(pairs: Sequence[tuple[Tensor, Any]]) -> None:
    """Copy a value into each tensor; where one of them cannot be written, as an immutable zero, none of them is."""
    before: list[tuple[Tensor, Tensor]] = []
    try:
        for there, value in pairs:
            before.append((there, there.detach().clone()))
            if isinstance(value, Tensor):
                there.copy_(value)
            else:
                there.fill_(value)
    except BaseException:
        # What torch refuses to a tensor made in inference mode it has done already when it says so.
        with torch.inference_mode():
            for there, old in reversed(before):
                with suppress(RuntimeError):
                    there.copy_(old)
        raise


def _sizes(t: Tensor, p: Tensor) -> str:
    """In torch's words."""
    axis = next((d for d in range(min(t.dim(), p.dim())) if t.shape[d] != p.shape[d]), 0)
    ours, theirs = (x.shape[axis] if x.dim() else 1 for x in (t, p))
    return f"The size of tensor a ({ours}) must match the size of tensor b ({theirs}) at non-singleton dimension {axis}"


def refuse_options(name: str, base: Any, what: Sequence[str]) -> None:
    """Raise where only torch's own step would do and there is none, or it lacks what is on."""
    which = f"{name} does not support sparse gradients, differentiable or capturable"
    if base is None:
        raise RuntimeError(f"{which}: rules of one's own have no such form")
    if what:
        raise RuntimeError(f"{which} together with {', '.join(what)}: torch's own step has no such part")


def zero(params: Iterable[Tensor]) -> None:
    """Zero the gradients that are there."""
    with torch.no_grad():
        for p in params:
            if (g := p.grad) is not None and not g._is_zerotensor():
                g.zero_()
