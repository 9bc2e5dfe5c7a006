"""A rule over lanes as operations on torch tensors: on any device, with nothing to compile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steprule.arithmetic import Truth, computing_in
from steprule.arithmetic.tensors import reduced_over
from steprule.compiler.graph import Kind, Node
from steprule.compiler.split import Program
from steprule.lanes.rule import LaneRule
from steprule.maths import OPERATIONS


class TensorStepper:
    """The tensors of some lanes, stepped on a device: elements [rows, lanes] in the compute dtype, scalars [lanes] in float64."""

    def __init__(self, rule: LaneRule, hypers: Mapping[str, Any], sizes: Sequence[int], device: str) -> None:
        self.rule, self.device = rule, device
        # Without reductions a tensor's rows know nothing of each other: all tensors are one.
        self.sizes = list(sizes) if any(program.reductions for program in rule.programs) else [sum(sizes)]
        self.dtype = getattr(torch, rule.compute)
        lanes = len(next(iter(hypers.values())))

        def rows(names: Sequence[str]) -> dict[str, Tensor]:
            values = torch.from_numpy(rule.rows_of(names, hypers, lanes)).to(device)
            return dict(zip(names, values, strict=True))

        self.hypers = rows(rule.hypers)
        self.scalar_slots = [rows([*rule.scalar_slots, *rule.numbers]) for _ in self.sizes]
        self.states = {n: v.to(self.dtype).repeat(sum(sizes), 1) for n, v in rows(rule.states).items()}

    def step(self, t: int, p: Tensor, g: Tensor, alive: Tensor, factor: float = 1.0) -> None:
        """One step of every lane; p [rows, lanes] and the states are written where `alive` [lanes]."""
        program = self.rule.stage(t)
        more = {}
        if self.rule.norm_rows:
            more["grad_norm"] = torch.linalg.vector_norm(g, dim=0, dtype=torch.float64)
        for k, part, given in self._given(t, p, g, factor):
            given |= more
            found = _evaluated(program, given, self.dtype)
            self.scalar_slots[k] |= {n: v for n, v in found.items() if n in self.scalar_slots[k]}
            targets = {n: p if n == "p" else self.states[n] for n in found if n not in self.scalar_slots[k]}
            # A new state may be an old one, so all are there before the first is written.
            new = {n: torch.where(alive, found[n].to(self.dtype), target[part]) for n, target in targets.items()}
            for name, target in targets.items():
                target[part] = new[name]

    def evaluated(self, t: int, p: Tensor, alive: Tensor, factor: float = 1.0) -> Tensor:
        """The point of evaluation behind step t, [rows, lanes]; p itself where the rule states no other, and where not `alive`."""
        points = self.rule.points
        if not points:
            return p
        found = p.clone()
        for _, part, given in self._given(t, p, p, factor):
            point = _evaluated(points[min(t, len(points)) - 1], given, self.dtype)["p"]
            found[part] = torch.where(alive, point.to(self.dtype), p[part])
        return found

    def _given(self, t: int, p: Tensor, g: Tensor, factor: float) -> Iterator[tuple[int, slice, dict[str, Tensor]]]:
        """What goes into the program of each tensor, with its place and its rows."""
        hypers = {**self.hypers, "lr": self.hypers["lr"] * factor} if "lr" in self.hypers else self.hypers
        clock = torch.tensor(float(t), dtype=torch.float64, device=self.device)
        low = 0
        for k, size in enumerate(self.sizes):
            part = slice(low, low + size)
            low += size
            given = {**hypers, **self.scalar_slots[k], "t": clock, "p": p[part], "g": g[part]}
            yield k, part, given | {n: v[part] for n, v in self.states.items()}


def _evaluated(program: Program, given: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The program's outputs, by name, without slots that the variant does not use."""
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

    inputs = {node: name for name, node in program.graph.inputs.items()}
    for node in program.graph.live:
        if node.op == "input":
            values[node] = given[inputs[node]]
            continue
        args = [operand(node, a) for a in node.args]
        if OPERATIONS[node.op].reduction:
            values[node] = reduced_over(OPERATIONS[node.op], args[0].to(torch.float64), 0).to(dtype)
            continue
        with computing_in(torch.float64 if node.kind is Kind.SCALAR else dtype):
            values[node] = whole(OPERATIONS[node.op].call(*args))
    outputs = program.graph.outputs.items()
    return {n: values[v] if isinstance(v, Node) else whole(v) for n, v in outputs if v is not None}
