"""What a step of some groups computes, and which of their parameters a kernel may step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steprule.compiler import eager
from steprule.compiler.graph import Graph
from steprule.compiler.variant import Variant, variant
from steprule.hyper import Slot
from steprule.optim import one_by_one
from steprule.optim.backends import target_for
from steprule.optim.live import refuse_new_plan
from steprule.optim.memory import Ranges, ranges_of, share_memory, sharing
from steprule.optim.precision import LOW, STOCHASTIC
from steprule.optim.settings import DIAGNOSTICS, PASS, Settings, Stepped, beyond_torch
from steprule.optim.sharding import Cut, cut_of, refuse_flat, refuse_parts
from steprule.optim.signature import (
    PLAIN,
    has_own_operations,
    is_number,
    is_plain,
    is_within,
    parts_here,
    placed_alike,
    shard,
    span_of,
)
from steprule.optim.states import as_numbers, begin, check_whole, in_dtype, lay_as
from steprule.rules.compensated import COMPENSATION

States = Mapping[Tensor, Any]
"""An optimizer's `state`."""


@dataclass
class Begun:
    """The states of one parameter that kernels step, all there."""

    slots: list[Tensor]
    numbers: list[Tensor]
    absent: frozenset[str]
    """The slots that the rule fills at this step."""
    pending: list[tuple[dict[str, Any], str, Tensor]]
    """Which of them become states when it has: the state, the slot's name, its tensor."""


@dataclass
class Parted:
    """The parameters of some groups, by what steps them. Each is a place among the members, or belongs to one."""

    places: list[int] = field(default_factory=list)
    """Those that kernels step."""
    targets: list[str] = field(default_factory=list)
    """The target of each of those."""
    others: list[int] = field(default_factory=list)
    """Those with a gradient that no kernel may touch, or that share memory with another."""
    together: set[int] = field(default_factory=set)
    """Those that share memory which the step writes."""
    resting: list[int] = field(default_factory=list)
    """Plain ones without a gradient."""
    strange: list[int] = field(default_factory=list)
    """Those without a gradient whose type only Python can ask."""


class Computation:
    """What groups that differ in numbers only have in common: the variant of the rule, its program, its slots. It holds no tensor."""

    def __init__(
        self, optimizer: Stepped, where: tuple[int, ...], settings: Settings, shape: tuple[int, ...] | None = None
    ) -> None:
        """`shape`: that of one of the parameters, where the rule asks for shapes; parameters of other shapes have the same slots."""
        self.rule, self.backend, self.stochastic = optimizer.rule, optimizer.backend, settings.stochastic
        # Where torch's class has no `step`, its states get one: the random numbers of each step are others.
        self.counts_steps, self.torch_counts = optimizer.counts_steps or self.stochastic, optimizer.counts_steps
        self.moves, self.state_dtype, self.diagnoses = optimizer.moves, settings.state_dtype, settings.diagnoses
        self.switches, self.zeroes, self.special = settings.switches, settings.zeroes, settings.special
        self.by_shape = shape is not None
        self.variant = variant(self.rule, self.switches, shape)
        self.used = self.variant.slots
        self.of_model = [s for s in self.rule.slots if s.per_model and s.name in self.used]
        self.has_phases = bool(self.of_model) or any(map(self.variant.rounds, self.variant.stages))
        """Whether all tensors must have told something before any is stepped."""
        self.clip_group, self.clips = optimizer.clip_group, bool(dict(self.switches).get("clip_norm"))
        self.nonfinite = optimizer.nonfinite
        self.torchs = one_by_one.torchs_class(type(optimizer))
        self.beyond = beyond_torch(optimizer, optimizer.param_groups[where[0]])
        may_use_torch = self.backend != "eager" or self.special
        self.by_torch = may_use_torch and self.torchs is not None and not self.beyond
        # A gradient that another plan reads too is zeroed when all have read it.
        self.zeroes_late = self.zeroes and shares_gradients(optimizer, where)
        self.is_compiled = self.variant.is_compiled
        self.writes_g = self.is_compiled and self.zeroes and not self.zeroes_late
        program = self.variant.program(zero_grad=self.writes_g) if self.is_compiled else None
        self.given = bool(program and program.given)
        self.numbers = dict(program.numbers) if program else {}
        # What a first step alone reads, as it fills a slot that was absent, is a column of its kernel only.
        stages = [self.variant.program(absent, zero_grad=self.writes_g) for absent in self.variant.stages if program]
        columns = {*(program.columns if program else self.used), *(name for own in stages for name in own.columns)}
        self.slots = [s for s in self.rule.slots if not s.is_number and s.name in columns]
        self.starts = ["step"] if self.counts_steps else []
        self.starts += [s.name for s in self.rule.slots if s.per_tensor and s.name in self.used]
        self.captured, self.on_device = settings.captured, tuple(self.starts) if settings.captured else ()
        """Whether a CUDA graph may record its steps; then the states of one number lie on the device, which alone reads them."""
        self.starts = [] if self.captured else self.starts
        if self.captured:
            refuse_new_plan(optimizer)
        self.names = (*(s.name for s in self.slots), *self.starts)
        """The keys of a state that a kernel's step reads."""
        known = [n for n in self.starts if n not in self.numbers and (n != "step" or self.rule.takes_t)]
        self.needed = {n: "t" if n == "step" else n for n in known}
        """What the scalars depend on, of each tensor: the states' names, and the names in the rule."""

    def variant_for(self, p: Tensor) -> Variant:
        """The variant that steps a parameter."""
        return variant(self.rule, self.switches, tuple(p.shape)) if self.by_shape else self.variant

    def sizes_of(self, slot: Slot, p: Tensor) -> tuple[int, ...] | None:
        """The shape of a slot of elements, where it is not the parameter's."""
        return slot.sizes(self.rule.seen(tuple(p.shape))) if slot.shape else None

    def begin(self, p: Tensor, state: dict[str, Any], hypers: Mapping[str, Any]) -> Begun:
        """The states of a parameter; those that are missing begin."""
        numbers = {s.name: s for s in self.rule.slots if s.per_tensor}
        starts = {n: 0.0 if n == "step" else eager.start_number(numbers[n], hypers) for n in self.starts}
        as_numbers(state, starts, p, as_torch=self.torchs is not None)
        absent = frozenset(s.name for s in self.slots if s.absent_at_first and state.get(s.name) is None)
        found = Begun([], [state[name] for name in self.starts], absent, [])
        for slot in self.slots:
            held = state.get(slot.name)
            if held is None:
                sizes = self.sizes_of(slot, p)
                held = begin(slot, p, hypers, absent=slot.name in absent, sizes=sizes, wanted=self.state_dtype)
                if slot.name not in absent:
                    state[slot.name] = held
                elif self.variant_for(p).graph(absent).outputs[slot.name] is not None:
                    found.pending.append((state, slot.name, held))
            elif (kept := in_dtype(slot, p, held, self.state_dtype)) is not held:
                state[slot.name] = held = kept
            found.slots.append(held)
        return found

    def _forget(self, states: States, members: Sequence[Tensor], grads: Sequence[Tensor | None]) -> None:
        """Take away what Kahan summation kept for parameters that now step without: when they step with it again it would be false."""
        if not self.moves and COMPENSATION not in {s.name for s in self.rule.slots}:
            for p, g in zip(members, grads, strict=True):
                if g is not None and isinstance(state := states.get(p), dict):
                    state.pop(COMPENSATION, None)

    def graph_of(self, p: Tensor, state: Mapping[str, Any]) -> Graph:
        """What a step of a parameter from this state computes."""
        own = self.variant_for(p)
        return own.graph(eager.absent_of(own, state))

    # Which parameters a kernel steps.

    @property
    def wants_whole(self) -> bool:
        """Whether it asks for a number over a whole tensor, so that a shard alone does not do."""
        return self.given or self.by_shape or not self.variant.adds_up

    def cut_of(self, p: Tensor) -> Cut | None:
        """Over which processes a parameter is cut, where that matters."""
        return cut_of(p, self.clip_group) if self.has_phases or self.nonfinite != PASS else None

    def refuse_parts(self, name: str, params: Sequence[Tensor]) -> None:
        """Raise where a number over all tensors, or over one, would be that of a part which this process has."""
        checks = self.nonfinite != PASS
        own = "" if self.has_phases or not checks else "nonfinite"
        option, sums = "clip_norm" if self.clips else own, self.has_phases or checks
        refuse_parts(name, params, option=option, sums=sums, reduces=self.wants_whole, by=self.clip_group)
        if self.diagnoses:
            refuse_flat(f"{name}: {DIAGNOSTICS}", params)
        for p in params if self.stochastic else ():
            if (p.dtype in LOW or self.state_dtype in LOW) and has_own_operations(p):
                what = f"{name}: rounding={STOCHASTIC!r} does not support a {type(p).__name__}"
                raise RuntimeError(f"{what}: its elements are not all here, or not plain numbers")

    def part(self, states: States, members: Sequence[Tensor], grads: Sequence[Tensor | None]) -> Parted:
        """The members by what steps them."""
        self._forget(states, members, grads)
        found, targets = Parted(), dict[int, str]()
        for m, (p, g) in enumerate(zip(members, grads, strict=True)):
            if g is None:
                (found.resting if type(p) in PLAIN else found.strange).append(m)
            elif (target := self.target_of(states, p, g)) is not None:
                targets[m] = target
            else:
                found.others.append(m)
        stepped = [*targets, *found.others]
        params, own = [members[m] for m in stepped], [grads[m] for m in stepped]
        shared = sharing(params, own, states, self.names, writes_g=self.zeroes)
        found.together = {stepped[k] for k in shared}
        found.places = [m for m in targets if m not in found.together]
        found.targets = [targets[m] for m in found.places]
        found.others = sorted({*found.others, *found.together})
        return found

    def target_of(self, states: States, p: Tensor, g: Tensor) -> str | None:
        """The target whose kernel may step this parameter, or None."""
        if self.special or not self.is_compiled:
            return None
        target = target_for(self.backend, p.device.type, matrices=self.by_shape)
        here = None if target is None else parts_here(p, g, self.zeroes)
        if here is None:
            return None
        whole = p
        p, g = here
        if (self.wants_whole and p is not whole) or (self.by_shape and not p.is_contiguous()):
            return None
        state = states.get(whole) if self.names else None
        begins = [s for s in self.slots if s.absent_at_first and not (state and state.get(s.name) is not None)]
        if begins and g.dtype != p.dtype and self.by_torch:
            return None  # the state that begins now has the gradient's dtype in torch
        if not state:
            return target
        check_whole(state, [*self.starts, *(s.name for s in self.rule.slots)], self._always())
        fits = all(self._fits(slot, state.get(slot.name), p, whole) for slot in self.slots)
        return target if fits and all(map(is_number, self._numbers(state))) else None

    def _fits(self, slot: Slot, held: Any, p: Tensor, whole: Tensor) -> bool:
        """Whether a kernel may step this state of a parameter, of which `p` is the part in this process."""
        if held is None:
            return True
        if not isinstance(held, Tensor) or not placed_alike(held, whole):
            return False
        held, sizes = shard(held), self.sizes_of(slot, p)
        if not is_plain(held) or held.device != p.device:
            return False
        return (
            held.shape == sizes and held.is_contiguous()
            if sizes is not None
            else held.shape == p.shape and lay_as(held, p)
        )

    def _numbers(self, state: Mapping[str, Any]) -> list[Any]:
        """The states of one number that a kernel's step takes as they are: a plain number becomes a tensor first, None does not."""
        return [state[n] for n in self.starts if n in state and (state[n] is None or isinstance(state[n], Tensor))]

    def _always(self) -> list[str]:
        """The keys that torch's class wants in a state that has begun; a rule of one's own begins what is missing."""
        if self.torchs is None:
            return []
        off = tuple((n, False if isinstance(v, bool) else v) for n, v in self.switches)
        least = variant(self.rule, off, self.variant.shape).slots
        known = (s for s in self.rule.slots if s.name != COMPENSATION)  # which torch's class has not
        slots = [s.name for s in known if not s.absent_at_first and s.name in least]
        return [*(["step"] if self.torch_counts else []), *slots]

    def ranges(self, states: States, params: Sequence[Tensor], grads: Sequence[Tensor | None]) -> Ranges:
        """Addresses and bytes [tensors, columns, 2]: of p, g, the slots and the states of one number."""
        return ranges_of(params, grads, states, self.names)

    def refuse(self, name: str, states: States, params: Sequence[Tensor]) -> None:
        """Raise for what only torch's own step could do, where it cannot; and for memory that is not there."""
        for p in params:
            state = states.get(p)
            held = state.values() if isinstance(state, Mapping) else ()
            for t in (p, p.grad, *held):
                if type(t) in PLAIN and t.layout is torch.strided and not is_within(t):
                    raise RuntimeError(
                        f"{name}: a tensor of {span_of(t) * t.element_size()} bytes in a storage of "
                        f"{t.untyped_storage().nbytes()}: its memory was given away"
                    )
        sparse = any(p.grad is not None and p.grad.layout is not torch.strided for p in params)
        if (sparse or self.special) and not self.by_torch:
            one_by_one.refuse_options(name, self.torchs, self.beyond)


def shares_gradients(optimizer: Stepped, where: tuple[int, ...]) -> bool:
    """Whether gradients of an optimizer with more groups than these lie in one another's memory, wherever those are."""
    groups = optimizer.param_groups
    if len(groups) == len(where):
        return False
    return share_memory(shard(grad) for group in groups for p in group["params"] if (grad := p.grad) is not None)
