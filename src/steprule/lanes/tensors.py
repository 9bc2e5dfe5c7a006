"""A rule over lanes as operations on torch tensors: on any device, with nothing to compile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from steprule.arithmetic import Truth, computing_in
from steprule.arithmetic.tensors import reduced_over
from steprule.compiler import eager
from steprule.compiler.graph import Graph, Kind, Node
from steprule.compiler.phases import rounds_of
from steprule.compiler.split import Program
from steprule.lanes.rule import LaneRule
from steprule.maths import OPERATIONS

Totals = Mapping[str, Tensor]
"""Totals by place, [lanes] each in float64."""


class LaneStepper(Protocol):
    """The tensors of some lanes, stepped by one rule; p and g are [rows, lanes]."""

    rule: Any
    hypers: dict[str, Tensor]
    """[lanes]"""
    scalar_slots: list[dict[str, Tensor]]
    """Per tensor its slots of one number, each [lanes]."""

    def step(
        self, t: int, p: Tensor, g: Tensor, alive: Tensor, factor: float = 1.0, given: Totals | None = None
    ) -> None:
        """One step of every lane, where `alive` [lanes]."""

    def graph(self, t: int) -> Graph:
        """What step t computes."""

    def adds(self, t: int, p: Tensor, g: Tensor, factor: float, places: frozenset[str], known: Totals) -> Totals:
        """What its tensors add to the totals at these places."""

    @property
    def looks(self) -> int:
        """How often a step looks: as often as the tensor that looks most."""

    def look(self, k: int, t: int, p: Tensor, g: Tensor, alive: Tensor, factor: float = 1.0) -> Tensor:
        """The point to which step t looks, of its k-th look from 0: p itself where not `alive`."""

    def see(self, k: int, gradient: Tensor) -> None:
        """Take what the k-th look found, [rows, lanes]."""

    def evaluated(self, t: int, p: Tensor, alive: Tensor, factor: float = 1.0) -> Tensor:
        """The point of evaluation behind step t."""


class TensorStepper:
    """The tensors of some lanes, stepped on a device: elements [rows, lanes] in the compute dtype, scalars [lanes] in float64."""

    def __init__(self, rule: LaneRule, hypers: Mapping[str, Any], sizes: Sequence[int], device: str) -> None:
        self.rule, self.device = rule, device
        # Without reductions a tensor's rows know nothing of each other: all tensors are one.
        reduces = any(program.reductions for program in rule.programs) or rule.has_phases
        self.sizes = list(sizes) if reduces else [sum(sizes)]
        self.dtype = getattr(torch, rule.compute)
        lanes = len(next(iter(hypers.values())))

        def rows(names: Sequence[str]) -> dict[str, Tensor]:
            values = torch.from_numpy(rule.rows_of(names, hypers, lanes)).to(device)
            return dict(zip(names, values, strict=True))

        self.hypers = rows(rule.hypers)
        self.scalar_slots = [rows([*rule.scalar_slots, *rule.numbers]) for _ in self.sizes]
        self.states = {n: v.to(self.dtype).repeat(sum(sizes), 1) for n, v in rows(rule.states).items()}

    def step(
        self, t: int, p: Tensor, g: Tensor, alive: Tensor, factor: float = 1.0, given: Totals | None = None
    ) -> None:
        """One step of every lane; p [rows, lanes] and the states are written where `alive` [lanes].

        `given` are the totals, where tensors of other steppers add to them too.
        """
        program = self.rule.stage(t)
        if given is None:
            given = totals([self], t, [(p, g)], factor)
        known = {**self._known(t, factor), **given}
        for k, part, own in self._tensors(p, g):
            found = _evaluated(program, known | own, self.dtype)
            self.scalar_slots[k] |= {n: v for n, v in found.items() if n in self.scalar_slots[k]}
            targets = {n: p if n == "p" else self.states[n] for n in found if n not in self.scalar_slots[k]}
            # A new state may be an old one, so all are there before the first is written.
            new = {n: torch.where(alive, found[n].to(self.dtype), target[part]) for n, target in targets.items()}
            for name, target in targets.items():
                target[part] = new[name]

    def graph(self, t: int) -> Graph:
        """What step t computes."""
        return self.rule.variant.graph(self.rule.absent(t))

    def adds(self, t: int, p: Tensor, g: Tensor, factor: float, places: frozenset[str], known: Totals) -> Totals:
        """What its tensors add to the totals at these places; `known` are those that they follow from."""
        phase = self.rule.variant.measurement(self.rule.absent(t), places)
        return self._adds(phase, p, g, {**self._known(t, factor), **known})

    def _adds(self, phase: Program, p: Tensor, g: Tensor, known: Totals) -> Totals:
        """The same by the program that measures it."""
        parts = [_evaluated(phase, {**known, **own}, self.dtype, wide=True) for _, _, own in self._tensors(p, g)]
        found = {}
        for place in phase.graph.outputs:
            of_tensors = [own[place].to(torch.float64).expand(p.shape[1]) for own in parts]
            found[place] = torch.stack(of_tensors).sum(0)
        return found

    def evaluated(self, t: int, p: Tensor, alive: Tensor, factor: float = 1.0) -> Tensor:
        """The point of evaluation behind step t, [rows, lanes]; p itself where the rule states no other, and where not `alive`."""
        points = self.rule.points
        if not points:
            return p
        return self._moved(points[min(t, len(points)) - 1], p, p, alive, self._known(t, factor))

    @property
    def looks(self) -> int:
        """As `LaneStepper` says."""
        return len(self.rule.variant.looks)

    def look(self, k: int, t: int, p: Tensor, g: Tensor, alive: Tensor, factor: float = 1.0) -> Tensor:
        """The point to which step t looks, of its k-th look from 0: p itself where not `alive`."""
        look, absent, known = self.rule.variant.looks[k], self.rule.absent(t), self._known(t, factor)
        for phase in look.measurements(absent):
            known |= self._adds(phase, p, g, known)
        return self._moved(look.program(absent), p, g, alive, known)

    def see(self, k: int, gradient: Tensor) -> None:
        """Take what the k-th look found, [rows, lanes]."""
        if (name := self.rule.variant.rule.looked[k]) in self.states:
            self.states[name] = gradient

    def _moved(self, program: Program, p: Tensor, g: Tensor, alive: Tensor, known: Totals) -> Tensor:
        """What a program makes of p, [rows, lanes]; nothing is written."""
        found = p.clone()
        for _, part, own in self._tensors(p, g):
            point = _evaluated(program, {**known, **own}, self.dtype)["p"]
            found[part] = torch.where(alive, point.to(self.dtype), p[part])
        return found

    def _known(self, t: int, factor: float) -> dict[str, Tensor]:
        """What all tensors have in common at step t."""
        hypers = {**self.hypers, "lr": self.hypers["lr"] * factor} if "lr" in self.hypers else self.hypers
        return {**hypers, "t": torch.tensor(float(t), dtype=torch.float64, device=self.device)}

    def _tensors(self, p: Tensor, g: Tensor) -> Iterator[tuple[int, slice, dict[str, Tensor]]]:
        """Each tensor's place and rows, and what a step takes of it."""
        low = 0
        for k, size in enumerate(self.sizes):
            part = slice(low, low + size)
            low += size
            own = {"p": p[part], "g": g[part]} | {n: v[part] for n, v in self.states.items()}
            yield k, part, self.scalar_slots[k] | own


def totals(
    steppers: Sequence[LaneStepper],
    t: int,
    tensors: Sequence[tuple[Tensor, Tensor]],
    factor: float,
    given: Totals | None = None,
) -> Totals:
    """The totals of step t over all tensors of some steppers of one rule. `tensors` are the p and g of each; `given` is known already."""
    known = dict(given or {})
    for places in rounds_of(stepper.graph(t) for stepper in steppers):
        if unknown := places.difference(known):
            parts = [own.adds(t, p, g, factor, unknown, known) for own, (p, g) in zip(steppers, tensors, strict=True)]
            known |= summed(parts)
    return known


def begin_together(steppers: Sequence[LaneStepper]) -> None:
    """Begin the numbers of the model of steppers of one rule alike, as the first of them does."""
    for name, first, *others in _numbers(steppers):
        for held in others:
            held[name] = first[name]


def check_numbers(steppers: Sequence[LaneStepper]) -> None:
    """Raise `InputError` where a number of the model has come out as several, as settings differ between steppers of one rule."""
    for name, first, *others in _numbers(steppers):
        for held in others:
            alike = torch.isclose(held[name], first[name], rtol=eager.ONE_NUMBER, atol=0.0, equal_nan=True)
            apart = ~alike.reshape(-1)  # a constant is one number for all lanes
            if apart.any():
                lanes = [value[name].expand(len(apart))[apart][0] for value in (first, held)]
                eager.one_number(steppers[0].rule.variant.rule, name, lanes)


def _numbers(steppers: Sequence[LaneStepper]) -> Iterator[tuple[Any, ...]]:
    """The name of each number of the model, then all that hold it by that name."""
    for slot in steppers[0].rule.variant.rule.slots:
        if slot.per_model:
            holders = (held for stepper in steppers for held in stepper.scalar_slots if slot.name in held)
            yield slot.name, *holders


def summed(parts: Iterable[Totals]) -> dict[str, Tensor]:
    """The totals, from what each of some steppers adds."""
    found: dict[str, Tensor] = {}
    for own in parts:
        for place, value in own.items():
            found[place] = found[place] + value if place in found else value
    return found


def _evaluated(
    program: Program, given: Mapping[str, Tensor], dtype: torch.dtype, *, wide: bool = False
) -> dict[str, Tensor]:
    """The program's outputs, by name, without slots that the variant does not use; the last reductions `wide` in float64."""
    values: dict[Node, Any] = {}

    def operand(node: Node, arg: Any) -> Any:
        if not isinstance(arg, Node):
            return arg
        value = values[arg]
        narrow = node.kind is not Kind.SCALAR and arg.kind is Kind.SCALAR and value.dtype is torch.float64
        return value.to(dtype) if narrow else value

    def whole(value: Any) -> Tensor:
        """What constants alone give is a plain number, or a truth value."""
        if isinstance(value, Tensor):
            return value
        plain = bool(value) if isinstance(value, bool | Truth) else float(value)
        kind = torch.bool if isinstance(plain, bool) else torch.float64
        return torch.tensor(plain, dtype=kind, device=given["p"].device)

    inputs, outputs = {node: name for name, node in program.graph.inputs.items()}, program.graph.outputs
    for node in program.graph.live:
        if node.op == "input":
            values[node] = given[inputs[node]]
            continue
        args = [operand(node, a) for a in node.args]
        if OPERATIONS[node.op].reduction:
            reduced = reduced_over(OPERATIONS[node.op], args[0].to(torch.float64), 0)
            values[node] = reduced if wide and node in outputs.values() else reduced.to(dtype)
            continue
        with computing_in(torch.float64 if node.kind is Kind.SCALAR else dtype):
            values[node] = whole(OPERATIONS[node.op].call(*args))
    return {n: values[v] if isinstance(v, Node) else whole(v) for n, v in outputs.items() if v is not None}
