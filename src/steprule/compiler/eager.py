"""The eager form, the reference for all others: the author's function, run on numbers, its slots kept."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from steprule.arithmetic import exchanging
from steprule.compiler import pages
from steprule.compiler.drawing import NOBODYS, Key, noise
from steprule.compiler.graph import Graph
from steprule.compiler.phases import clipping_places, rounds_of
from steprule.compiler.points import refuse_total
from steprule.compiler.variant import Variant, needs_shape, switches_of, variant_of
from steprule.errors import InputError, InputTypeError
from steprule.hyper import Slot
from steprule.rules.rule import Rule

State = dict[str, Any]
"""A slot's value by its name; None where it is not allocated."""

__all__ = [
    "NOBODYS", "Key", "One", "State", "Team", "absent_of", "evaluated", "look_together", "looking", "one_number", "parts_of", "start",
    "start_number", "step", "step_teams", "step_together", "total_parts", "whole_step",
]  # fmt: skip

ONE_NUMBER = 1e-9
"""How far two forms' values of a number of the model may be apart, relative: both are computed in float64."""


def step(rule: Rule, p: Any, g: Any, state: State, t: float, hypers: Mapping[str, Any]) -> tuple[Any, State]:
    """One step of one parameter: the new p and the new state. Nothing given is written to, and nothing of it is handed back.

    `p` and `g`: float, numpy array or torch tensor of one shape. `state`: {} before the first step; where a rule looks twice, it has
    the gradients of the looks of this step too, see `looking`. `t`: the number of
    this step, from 1. `hypers`: all of the rule's, as `Rule.bind` gives them.
    """
    if _is_complex(p):
        if needs_shape(rule, switches_of(rule, hypers)):
            raise InputTypeError(
                f"{rule.name}", expected="real parameters: it asks for their shape", got="complex ones"
            )
        return _by_parts(rule, p, g, state, t, hypers)
    used = variant_of(rule, hypers, tuple(getattr(p, "shape", ()))).slots
    slots = []
    for slot in rule.slots:
        value = state.get(slot.name) if slot.name in used or slot.looked else None
        if value is None and slot.name in used and not slot.absent_at_first and not slot.looked:
            value = start(slot, p, hypers, rule)
        slots.append(value)
    given = {**hypers, "t": float(t)} if rule.takes_t else dict(hypers)
    result = rule(p, g, *slots, **given)
    new_p, *new_slots = result if isinstance(result, tuple) else (result,)
    # A slot that this variant does not use keeps what it held, for the variant that does.
    pairs = zip(rule.slots, new_slots, strict=True)
    kept = {s.name: new if s.name in used else state.get(s.name) for s, new in pairs if not s.looked}
    numbers = {s.name for s in rule.slots if s.is_number}
    return new_p, {name: _number(v) if name in numbers else v for name, v in kept.items()}


def evaluated(rule: Rule, p: Any, state: State, t: float, hypers: Mapping[str, Any]) -> Any:
    """The point at which the model is read after step `t`: p itself where the rule states no other, or no step was taken.

    All as in `step`; `state` is what the last step gave.
    """
    if rule.point is None or t == 0:
        return p
    if _is_complex(p):
        return _whole(evaluated(rule, _real(p), {n: _real(v) for n, v in state.items()}, t, hypers))
    used = variant_of(rule, hypers).slots
    slots = [state.get(s.name) if s.name in used else None for s in rule.slots]
    given = {**hypers, "t": float(t)} if rule.takes_t else dict(hypers)
    with exchanging({}) as exchange:
        assert rule.evaluation is not None
        point = rule.evaluation(p, p, *slots, **given)[0]
    if exchange.parts:
        refuse_total(rule)
    return point


def looking(
    rule: Rule,
    p: Any,
    g: Any,
    state: State,
    t: float,
    hypers: Mapping[str, Any],
    gradient: Callable[[Any], Any],
    key: Key = NOBODYS,
) -> State:
    """The state with what step t sees where it looks, and the noise that it draws: `gradient` gives the gradient at a point, `key` says
    whose noise it is. All as in `step`."""
    if not any(slot.looked for slot in rule.slots):
        return state
    looks = rule.looks_in(t, hypers, state)
    for k, (name, look) in enumerate(zip(rule.looked[:looks], rule.looks, strict=False)):
        if k >= rule.draws:
            state = {**state, name: gradient(step(look, p, g, state, t, hypers)[0])}
        elif state.get(name) is None:  # else it is given already
            state = {**state, name: noise(p, key, t, k)}
    return state


def whole_step(
    rule: Rule,
    p: Any,
    g: Any,
    state: State,
    t: float,
    hypers: Mapping[str, Any],
    gradient: Callable[[Any], Any],
    key: Key = NOBODYS,
) -> tuple[Any, State]:
    """`step`, behind what it sees where it looks and the noise that it draws."""
    return step(rule, p, g, looking(rule, p, g, state, t, hypers, gradient, key), t, hypers)


@dataclass(frozen=True)
class One:
    """What a step takes of one tensor among several, as `step` does."""

    p: Any
    g: Any
    state: State
    t: float
    hypers: Mapping[str, Any]
    key: Key = NOBODYS
    """Whose noise it draws."""

    def step(self, rule: Rule, model: State) -> tuple[Any, State]:
        """One step, with the numbers of the model."""
        return step(rule, self.p, self.g, {**self.state, **model}, self.t, self.hypers)


@dataclass(frozen=True)
class Team:
    """Tensors that one rule steps together: what it asks of all tensors, it asks of these."""

    rule: Rule
    ones: Sequence[One]
    model: State
    """The numbers of the model, as `step_together` has them."""


def step_teams(teams: Sequence[Team]) -> list[list[tuple[Any, State]]]:
    """One step of the tensors of several rules, which have the norm by which gradients are clipped in common, and nothing else."""
    norms: list[dict[str, float]] = [{} for _ in teams]
    if len(teams) > 1:
        norms = [_adding(team, clipping_places(_graphs(team.rule, team.ones))) for team in teams]
    norm = sum(value for own in norms for value in own.values())
    return [
        step_together(team.rule, team.ones, team.model, dict.fromkeys(own, norm))
        for team, own in zip(teams, norms, strict=True)
    ]


def _adding(team: Team, places: frozenset[str]) -> dict[str, float]:
    """What a team adds to totals that follow from no others."""
    return total_parts([parts_of(team.rule, one, team.model, {}) for one in team.ones], places) if places else {}


def look_together(
    rule: Rule, ones: Sequence[One], model: State, gradients: Callable[[list[Any]], Sequence[Any]]
) -> list[One]:
    """The tensors of one model with what the step sees where it looks, and the noise that it draws; `gradients` gives the gradients of
    all at a point of each."""
    looks = max((rule.looks_in(one.t, one.hypers, one.state) for one in ones), default=0)
    for k, (name, look) in enumerate(zip(rule.looked[:looks], rule.looks, strict=False)):
        found: Sequence[Any]
        if k < rule.draws:
            found = [noise(one.p, one.key, one.t, k) for one in ones]
        else:
            found = gradients([point for point, _ in step_together(look, ones, dict(model))])
        ones = [replace(one, state={**one.state, name: seen}) for one, seen in zip(ones, found, strict=True)]
    return list(ones)


def step_together(
    rule: Rule, ones: Sequence[One], model: State, given: Mapping[str, float] | None = None
) -> list[tuple[Any, State]]:
    """One step of several tensors that are one model: as `step` of each, with totals over all of them.

    `model`, {} before the first step, has the numbers of the model by name; they are brought up to the step, and each state has them
    too. `given` are totals that are known already, by place. Raises `InputError` where a number would come out as several.
    """
    variants = [variant_of(rule, one.hypers) for one in ones]
    for slot in rule.slots:
        users = [one for one, v in zip(ones, variants, strict=True) if slot.per_model and slot.name in v.slots]
        if users:
            model.setdefault(slot.name, start_number(slot, users[0].hypers))
    known = dict(given or {})
    for places in rounds_of(_graphs(rule, ones)):
        if unknown := places.difference(known):
            known |= total_parts([parts_of(rule, one, model, known) for one in ones], unknown)
    found = []
    for one in ones:
        with exchanging(known):
            found.append(one.step(rule, model))
    for name in model.keys() if found else ():
        model[name] = one_number(rule, name, [state[name] for _, state in found])
    return found


def _graphs(rule: Rule, ones: Sequence[One]) -> list[Graph]:
    """What a step of each of them computes."""
    variants = [variant_of(rule, one.hypers) for one in ones]
    return [v.graph(absent_of(v, one.state)) for v, one in zip(variants, ones, strict=True)]


def parts_of(rule: Rule, one: One, model: State, known: Mapping[str, float]) -> dict[str, float]:
    """What one tensor adds to each total; to those that follow from others it is right when these are known."""
    with exchanging(known) as exchange:
        one.step(rule, model)
    return exchange.parts


def total_parts(parts: Iterable[Mapping[str, float]], places: Iterable[str]) -> dict[str, float]:
    """The totals at these places, from what each tensor adds."""
    found: dict[str, float] = {}
    for own in parts:
        for place in own.keys() & places:
            found[place] = found.get(place, 0.0) + own[place]
    return found


def absent_of(variant: Variant, state: Mapping[str, Any]) -> frozenset[str]:
    """The slots that are absent on entry to a step from this state."""
    return frozenset(s for s in variant.first_absent if state.get(s) is None)


def one_number(rule: Rule, name: str, values: Sequence[Any]) -> float:
    """The new value of a number of the model, of what each tensor gives for it. Raises `InputError` where these differ."""
    numbers = [float(v) for v in values]
    for other in numbers:
        if not math.isclose(other, numbers[0], rel_tol=ONE_NUMBER) and not (
            other != other and numbers[0] != numbers[0]
        ):
            hint = "Give what it follows from the same value in all groups; count the model's steps in a slot of OnePerModel."
            expected, got = "one number for the whole model", f"{numbers[0]!r} and {other!r}"
            raise InputError(f"{rule.name}: the new {name}", expected=expected, got=got, hint=hint)
    return numbers[0]


def _is_complex(p: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(p, torch.Tensor) and p.is_complex()


def _by_parts(rule: Rule, p: Any, g: Any, state: State, t: float, hypers: Mapping[str, Any]) -> tuple[Any, State]:
    """A complex parameter is two real ones, as in torch; its states are complex again."""
    numbers = {s.name for s in rule.slots if s.is_number}
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


def start(slot: Slot, p: Any, hypers: Mapping[str, Any], rule: Rule | None = None) -> Any:
    """The value of a slot before the first step; `rule` says how it sees p, where that matters."""
    value = start_number(slot, hypers)
    if slot.is_number:
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
    """One number per tensor: arrays keep reductions as arrays of one element."""
    numpy = sys.modules.get("numpy")
    return float(value.item()) if numpy is not None and isinstance(value, numpy.ndarray) else value
