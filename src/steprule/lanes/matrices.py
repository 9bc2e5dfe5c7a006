"""A rule of matrices over lanes: each tensor is a stack [lanes, rows, columns] of torch's batched functions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.arithmetic import computing_in
from steprule.arithmetic.floats import function_of
from steprule.arithmetic.tensors import reduced_over
from steprule.compiler import eager
from steprule.compiler.graph import Graph, Kind, Node
from steprule.compiler.phases import rounds_of
from steprule.compiler.points import point_graph
from steprule.compiler.split import is_reduction
from steprule.compiler.variant import Switches, Variant, variant
from steprule.hyper import Slot
from steprule.lanes.tensors import Totals, totals
from steprule.maths import OPERATIONS
from steprule.rules.rule import Rule

Values = dict[Node, Any]
"""Numbers are [lanes], or [] where all lanes have the same; arrays are [lanes, rows, columns]."""


@dataclass(frozen=True)
class MatrixRule:
    """One variant of a rule that asks for shapes, for lanes of some tensors."""

    rule: Rule
    switches: Switches
    shapes: tuple[tuple[int, ...], ...]
    """Of the model's parameters."""
    compute: str
    """float32 or float64, as the parameters are."""

    @property
    def variant(self) -> Variant:
        """Of the first tensor."""
        return self.variants()[0]

    def variants(self) -> list[Variant]:
        """Of each tensor."""
        return [variant(self.rule, self.switches, shape) for shape in self.shapes]

    def slots_of(self, own: Variant) -> list[Slot]:
        """The slots of elements that a tensor uses."""
        return [s for s in self.rule.slots if not s.is_number and s.name in own.slots]

    def sizes(self, slot: Slot, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a slot as the rule sees it."""
        return slot.sizes(self.rule.seen(shape))

    @property
    def kept(self) -> int:
        """The numbers that a lane keeps in states of elements."""
        pairs = zip(self.variants(), self.shapes, strict=True)
        return sum(math.prod(self.sizes(s, shape)) for own, shape in pairs for s in self.slots_of(own))


class MatrixStepper:
    """The tensors of some lanes, stepped on a device as `TensorStepper` does it: p [rows, lanes]."""

    def __init__(self, rule: MatrixRule, hypers: Mapping[str, NDArray[Any]], device: str) -> None:
        self.rule, self.device, self.dtype = rule, device, getattr(torch, rule.compute)
        self.lanes = len(next(iter(hypers.values())))
        # A choice by name is a matter of the variant.
        numbers = {n: v for n, v in hypers.items() if v.dtype.kind in "fiub"}
        self.hypers = {n: torch.as_tensor(v, dtype=torch.float64, device=device) for n, v in numbers.items()}
        self.variants = rule.variants()
        self.scalar_slots = [self._begun(own, shape, numbers=True) for own, shape in self._each()]
        self.states = [self._begun(own, shape, numbers=False) for own, shape in self._each()]

    def _each(self) -> Iterator[tuple[Variant, tuple[int, ...]]]:
        return zip(self.variants, self.rule.shapes, strict=True)

    def _begun(self, own: Variant, shape: tuple[int, ...], *, numbers: bool) -> dict[str, Tensor]:
        """The states of a tensor before its first step; what is absent then is left out."""
        found = {}
        for slot in self.rule.rule.slots:
            if slot.name not in own.slots or slot.absent_at_first or slot.is_number != numbers:
                continue
            start = self.hypers[slot.start] if isinstance(slot.start, str) else torch.tensor(float(slot.start))
            start = start.to(self.device, torch.float64).expand(self.lanes)
            if not numbers:
                sizes = self.rule.sizes(slot, shape)
                start = start.to(self.dtype).reshape(-1, *(1 for _ in sizes)).expand(self.lanes, *sizes)
            found[slot.name] = start.clone()
        return found

    def step(
        self, t: int, p: Tensor, g: Tensor, alive: Tensor, factor: float = 1.0, given: Totals | None = None
    ) -> None:
        """One step of every lane; p [rows, lanes] and the states are written where `alive` [lanes].

        `given` are the totals, where tensors of other steppers add to them too.
        """
        known = totals([self], t, [(p, g)], factor) if given is None else given
        found = [own.outputs() for own in self._evaluated(t, p, g, factor, known)]
        for k, own in enumerate(found):
            self._write(k, own, p, alive)

    def graph(self, t: int) -> Graph:
        """What step t computes, of the first tensor; in totals all are alike."""
        return self.variants[0].graph(eager.absent_of(self.variants[0], self.states[0]))

    def adds(self, t: int, p: Tensor, g: Tensor, factor: float, places: frozenset[str], known: Totals) -> Totals:
        """What its tensors add to the totals at these places; `known` are those that they follow from."""
        return _added(self._evaluated(t, p, g, factor, known), places)

    def look(self, k: int, t: int, p: Tensor, g: Tensor, alive: Tensor, factor: float = 1.0) -> Tensor:
        """The point to which step t looks, of its k-th look from 0: p itself where not `alive`."""
        pairs = zip(self.variants, self.states, strict=True)
        graphs = [own.look(k).graph(eager.absent_of(own, states)) for own, states in pairs]
        known: Totals = {}
        for places in rounds_of(graphs):
            known = {**known, **_added(self._evaluate(graphs, t, p, g, factor, known), places)}
        found = p.clone()
        for j, own in enumerate(self._evaluate(graphs, t, p, g, factor, known)):
            part = self._part(j)
            found[part] = torch.where(alive, self._rows(own.outputs()["p"], j), p[part])
        return found

    @property
    def looks(self) -> int:
        """How often a step looks: as often as the tensor that looks most."""
        return max(len(own.looks) for own in self.variants)

    def see(self, k: int, gradient: Tensor) -> None:
        """Take what the k-th look found, [rows, lanes]."""
        for j, states in enumerate(self.states):
            seen = self.rule.rule.seen(self.rule.shapes[j])
            states[self.rule.rule.looked[k]] = gradient[self._part(j)].T.reshape(self.lanes, *seen)

    def _evaluated(self, t: int, p: Tensor, g: Tensor, factor: float, known: Totals) -> list[_Evaluated]:
        graphs = [own.graph(eager.absent_of(own, s)) for own, s in zip(self.variants, self.states, strict=True)]
        return self._evaluate(graphs, t, p, g, factor, known)

    def _evaluate(
        self, graphs: Sequence[Graph], t: int, p: Tensor, g: Tensor, factor: float, known: Totals
    ) -> list[_Evaluated]:
        return [_Evaluated(o, self._given(k, o, p, g, t, factor), known, self) for k, o in enumerate(graphs)]

    def evaluated(self, t: int, p: Tensor, alive: Tensor, factor: float = 1.0) -> Tensor:
        """The point of evaluation behind step t, [rows, lanes]; p itself where the rule states no other, and where not `alive`."""
        found = p
        for k, (own, states) in enumerate(zip(self.variants, self.states, strict=True)):
            graph = point_graph(own, eager.absent_of(own, states))
            if graph is not None:
                found = found.clone() if found is p else found
                point = _Evaluated(graph, self._given(k, graph, p, p, t, factor), {}, self).outputs()["p"]
                part = self._part(k)
                found[part] = torch.where(alive, self._rows(point, k), p[part])
        return found

    def _part(self, k: int) -> slice:
        first = sum(math.prod(shape) for shape in self.rule.shapes[:k])
        return slice(first, first + math.prod(self.rule.shapes[k]))

    def _given(self, k: int, graph: Graph, p: Tensor, g: Tensor, t: int, factor: float) -> Values:
        """What goes into a step of a tensor."""
        seen = self.rule.rule.seen(self.rule.shapes[k])
        arrays = {n: v[self._part(k)].T.reshape(self.lanes, *seen) for n, v in (("p", p), ("g", g))}
        hypers = {**self.hypers, "lr": self.hypers["lr"] * factor} if "lr" in self.hypers else self.hypers
        numbers: dict[str, Any] = {**hypers, **self.scalar_slots[k], **graph.values_of_shape, "t": float(t)}
        known = {**arrays, **self.states[k]}
        return {
            node: known[n] if n in known else torch.as_tensor(numbers[n], dtype=torch.float64, device=self.device)
            for n, node in graph.inputs.items()
        }

    def _rows(self, value: Any, k: int) -> Tensor:
        """A new p of a tensor as rows of p."""
        seen = self.rule.rule.seen(self.rule.shapes[k])
        return self._spread(value, seen).reshape(self.lanes, -1).T

    def _spread(self, value: Any, sizes: tuple[int, ...]) -> Tensor:
        value = torch.as_tensor(value, dtype=self.dtype, device=self.device)
        if value.dim() < 1 + len(sizes):
            value = value.reshape(-1, *(1 for _ in sizes)) if value.dim() else value
        spread: Tensor = value.expand(self.lanes, *sizes)
        return spread

    def _write(self, k: int, found: Mapping[str, Any], p: Tensor, alive: Tensor) -> None:
        part, shape = self._part(k), self.rule.shapes[k]
        for slot in self.rule.rule.slots:
            new = found.get(slot.name)
            if new is None:
                continue
            if slot.is_number:
                held, new = (
                    self.scalar_slots[k][slot.name],
                    torch.as_tensor(new, dtype=torch.float64, device=self.device),
                )
                self.scalar_slots[k][slot.name] = torch.where(alive, new.expand(self.lanes), held)
                continue
            new = self._spread(new, self.rule.sizes(slot, shape))
            held = self.states[k].get(slot.name, new)
            self.states[k][slot.name] = torch.where(alive.reshape(-1, *(1 for _ in new.shape[1:])), new, held)
        p[part] = torch.where(alive, self._rows(found["p"], k), p[part])


class _Evaluated:
    """The quantities of one tensor's graph, each computed when it is first asked for."""

    def __init__(self, graph: Graph, given: Values, known: Mapping[str, Tensor], stepper: MatrixStepper) -> None:
        self.graph, self.known, self.dtype, self.lanes = graph, known, stepper.dtype, stepper.lanes
        self.values = dict(given)

    def outputs(self) -> dict[str, Any]:
        """All results by name; where lanes go different ways through ifs on the step, each its own."""
        names = [n for n, v in self.graph.outputs.items() if v is not None]
        masks = [(self._mask(way.answers), way) for way in self.graph.ways]
        taken = [(mask, way) for mask, way in masks if bool(mask.any())]
        found: dict[str, Any] = {n: self._value(taken[0][1].outputs[n]) for n in names}
        for mask, way in taken[1:]:
            for n in names:
                new, old = self._value(way.outputs[n]), found[n]
                wide = max(getattr(new, "dim", int)(), getattr(old, "dim", int)())
                found[n] = torch.where(
                    mask.reshape(-1, *(1 for _ in range(wide - 1))), _wide(new, wide), _wide(old, wide)
                )
        return found

    def _mask(self, answers: Mapping[Node, bool]) -> Tensor:
        """The lanes that go a way."""
        mask = torch.ones(self.lanes, dtype=torch.bool, device=next(iter(self.values.values())).device)
        for node, told in answers.items():
            mask = mask & (torch.as_tensor(self._value(node)).to(torch.bool) == told)
        return mask

    def part(self, place: str) -> Tensor | None:
        """What the tensor adds to a total, [lanes]; None where it has no part in it."""
        node = next((n for n in self.graph.live if n.place == place), None)
        if node is None:
            return None
        of, value = node.args[0], self._value(node.args[0])
        if isinstance(of, Node) and of.kind is Kind.ELEMENT:
            value = value.to(torch.float64).reshape(self.lanes, -1).sum(1)
        return torch.as_tensor(value, dtype=torch.float64).expand(self.lanes)

    def _value(self, value: Any) -> Any:
        if not isinstance(value, Node):
            return value
        if value not in self.values:
            alone = replace(self.graph, outputs={"": value})
            for node in alone.live:
                if node not in self.values:
                    self.values[node] = self.known[node.place] if node.place else self._computed(node)
        return self.values[value]

    def _computed(self, node: Node) -> Any:
        row = OPERATIONS[node.op]
        args: list[Any] = [self.values[a] if isinstance(a, Node) else a for a in node.args]
        if is_reduction(node):
            x = args[0].to(torch.float64)
            if len(args) > 1:
                return reduced_over(row, x, int(args[1]), keepdim=True).to(self.dtype)
            return reduced_over(row, x.reshape(self.lanes, -1), 1).to(self.dtype)
        if row.of_matrices:
            matrices = [a for a in args if isinstance(a, Tensor) and a.dim() > 1]
            # An axis, or the number of a root, which may be another for each lane.
            numbers = [self._fitted(a, 3) if isinstance(a, Tensor) else a for a in args[len(matrices) :]]
            found = function_of(torch, row, row.torch)(*matrices, *numbers)
            return found.to(getattr(torch, node.dtype)) if node.dtype else found
        scalar = node.kind in (Kind.SCALAR, Kind.MODEL)
        wide = 1 + len(node.dims or ()) if node.kind is Kind.ELEMENT else 0
        fitted = [a if scalar else self._fitted(a, wide) for a in args]
        with computing_in(torch.float64 if scalar else self.dtype):
            found = row.call(*fitted)
        rounded = getattr(torch, node.dtype) if node.dtype and isinstance(found, Tensor) else None
        return found if rounded is None else found.to(rounded)

    def _fitted(self, arg: Any, wide: int) -> Any:
        """An operand beside arrays: a number of each lane stands before rows and columns."""
        if not isinstance(arg, Tensor):
            return arg
        arg = arg.to(self.dtype) if arg.dtype is torch.float64 else arg
        return _wide(arg, wide)


def _added(tensors: Sequence[_Evaluated], places: Collection[str]) -> Totals:
    """What some tensors add to the totals at these places."""
    parts = {place: [x for own in tensors if (x := own.part(place)) is not None] for place in places}
    return {place: torch.stack(own).sum(0) for place, own in parts.items() if own}


def _wide(value: Any, axes: int) -> Any:
    """Lanes first, then as many axes of one as it lacks."""
    if not isinstance(value, Tensor) or not value.dim() or value.dim() >= axes:
        return value
    return value.reshape(value.shape[0], *(1 for _ in range(axes - value.dim())), *value.shape[1:])
