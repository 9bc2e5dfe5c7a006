"""StepPrinter: what operations of a model's step are printed with: loops, constants, scratch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from steprule.lanes.buffers import Lifetimes, Operand, Rows, Scratch, collapsed, contiguous, result_of
from steprule.lanes.model import ModelStep

LANES = "for l in range(LANES):"
"""The innermost loop; how many lanes a block has is known at the end."""


class StepPrinter:
    """The lines of a model's step so far, and where each tensor of its graph lies."""

    def __init__(self, step: ModelStep, own_data: bool) -> None:
        self.step = step
        self.lines: list[str] = []
        self.constants: dict[str, str] = {}
        """By value, their names."""
        self.scratch = Scratch()
        self.lifetimes = Lifetimes(step.graph)
        self.operands: dict[fx.Node, Any] = {}
        """An `Operand` each, or a tuple of them where an operation has several results."""
        self._rows: dict[fx.Node, Rows] = {}
        """The scratch of each lane's results that somebody still reads."""
        inputs = [n for n in step.graph.nodes if n.op == "placeholder"]
        first = 0
        for node, shape in zip(inputs[:-2], step.shapes.values(), strict=True):
            self.operands[node] = Operand("p", tuple(shape), contiguous(shape), first, per_lane=True)
            first += shape.numel()
        for node, name, data in zip(inputs[-2:], "xy", (step.x, step.y), strict=True):
            self.operands[node] = Operand(name, tuple(data.shape), contiguous(data.shape), 0, per_lane=own_data)

    def number(self, value: float) -> str:
        """The name of a constant in the dtype of the model."""
        return self.constants.setdefault(repr(float(value)), f"C{len(self.constants)}")

    def new(self, node: fx.Node, per_lane: bool) -> Operand:
        """Scratch for a result, in torch's own strides where these leave no gap."""
        meta = result_of(node)
        shape, strides = tuple(meta.shape), tuple(meta.stride())
        extent = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if meta.numel() and extent != meta.numel():
            strides = contiguous(shape)
        rows = self.scratch.take(max(1, meta.numel()), per_lane=per_lane)
        if per_lane:
            self._rows[node] = rows
        self.operands[node] = Operand(rows.buffer, shape, strides, rows.first, per_lane)
        return self.operands[node]  # type: ignore[no-any-return]

    def over_an_operand(self, node: fx.Node) -> Operand | None:
        """The operand of an elementwise operation that nobody reads behind it and that may be written over."""
        meta = result_of(node)
        for arg in node.all_input_nodes:
            operand, owner = self.operands[arg], self.lifetimes.owner[arg]
            fits = isinstance(operand, Operand) and operand.shape == tuple(meta.shape)
            if not fits or operand.strides != tuple(meta.stride()) or owner not in self._rows:
                continue
            if self.lifetimes.last_reader[owner] is node and self._rows[owner].count == meta.numel():
                self._rows[node] = self._rows.pop(owner)
                self.operands[node] = operand
                return operand  # type: ignore[no-any-return]
        return None

    def release(self, node: fx.Node) -> None:
        """Give back the scratch that nobody reads behind this operation."""
        for owner in self.lifetimes.ends_at(node):
            if owner in self._rows:
                self.scratch.give_back(self._rows.pop(owner))

    def number_per_lane(self) -> str:
        """A row of scratch, as it is written within the loop over lanes."""
        return f"s[{self.scratch.take(1, per_lane=True).first}, l]"

    def emit(self, heads: Sequence[str], inner: Sequence[str]) -> None:
        """Nested loops with these heads around some lines."""
        for depth, head in enumerate(heads):
            self.lines.append("    " * depth + head)
        self.lines += ["    " * len(heads) + line for line in inner]

    def elementwise(self, node: fx.Node, expression: Callable[..., str], args: Sequence[Any]) -> None:
        """Each element of the result from those of the operands at the same place; any other argument is a constant."""
        per_lane = any(a.per_lane for a in args if isinstance(a, Operand))
        out = (self.over_an_operand(node) if per_lane else None) or self.new(node, per_lane)
        operands = [a.expanded(out.shape) for a in args if isinstance(a, Operand)]
        shape, folded = collapsed(out.shape, [out, *operands])
        heads, indices = loops(shape)
        shown = [a.element(indices) for a in folded]
        target = shown.pop(0)
        texts = [shown.pop(0) if isinstance(a, Operand) else self.number(a) for a in args]
        line = f"{target} = {expression(*texts)}"
        self.emit(heads, over_lanes([line]) if out.per_lane else [line])


def loops(shape: Sequence[int], letter: str = "i") -> tuple[list[str], list[str]]:
    """The heads of nested loops over a shape, and the index of each dimension."""
    indices = [f"{letter}{k}" if n != 1 else "0" for k, n in enumerate(shape)]
    heads = [f"for {letter}{k} in range({n}):" for k, n in enumerate(shape) if n != 1]
    return heads, indices


def over_lanes(lines: Sequence[str]) -> list[str]:
    """Some lines within the loop over lanes."""
    return [LANES, *(f"    {line}" for line in lines)]


def within(head: str, lines: Sequence[str]) -> list[str]:
    """Some lines within a loop with this head."""
    return [head, *(f"    {line}" for line in lines)]
