"""A rule over lanes as operations on torch tensors: on any device, with nothing to compile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        self.sizes = list(sizes) if any(program.reductions for program in rule.stages) else [sum(sizes)]
        self.dtype = getattr(torch, rule.compute)
        lanes = len(next(iter(hypers.values())))

        def rows(names: Sequence[str]) -> dict[str, Tensor]:
            values = torch.from_numpy(rule.rows_of(names, hypers, lanes)).to(device)
            return dict(zip(names, values, strict=True))

        self.hypers = rows(rule.hypers)
        self.scalar_slots = [rows([*rule.scalar_slots, *rule.numbers]) for _ in self.sizes]
        self.states = {n: v.to(self.dtype).repeat(sum(sizes), 1) for n, v in rows(rule.states).items()}

    @property
    def clips(self) -> bool:
        """Whether gradients may be clipped by their norm."""
        return bool(self.rule.norm_rows)

    def step(
        self, t: int, p: Tensor, g: Tensor, alive: Tensor, factor: float = 1.0, norm: Tensor | None = None
    ) -> None:
        """One step of every lane; p [rows, lanes] and the states are written where `alive` [lanes].

        `norm` [lanes] is that of all gradients, where these are not all.
        """
        program = self.rule.stage(t)
        hypers = {**self.hypers, "lr": self.hypers["lr"] * factor} if "lr" in self.hypers else self.hypers
        if self.clips:
            own = torch.linalg.vector_norm(g, dim=0, dtype=torch.float64) if norm is None else norm
            hypers = {**hypers, "grad_norm": own}
        clock = torch.tensor(float(t), dtype=torch.float64, device=self.device)
        low = 0
        for k, size in enumerate(self.sizes):
            part = slice(low, low + size)
            low += size
            given = {**hypers, **self.scalar_slots[k], "t": clock, "p": p[part], "g": g[part]}
            given |= {n: v[part] for n, v in self.states.items()}
            found = _evaluated(program, given, self.dtype)
            self.scalar_slots[k] |= {n: v for n, v in found.items() if n in self.scalar_slots[k]}
            targets = {n: p if n == "p" else self.states[n] for n in found if n not in self.scalar_slots[k]}
            # A new state may be an old one, so all are there before the first is written.
            new = {n: torch.where(alive, found[n].to(self.dtype), target[part]) for n, target in targets.items()}
            for name, target in targets.items():
                target[part] = new[name]


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
