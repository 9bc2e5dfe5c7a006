"""Where the tensors of a model's step lie in a block's buffers, which scratch is free, and loops over both."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
VIEWS = {
    aten.view.default, aten._unsafe_view.default, aten.t.default, aten.transpose.int, aten.permute.default,
    aten.expand.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default, aten.unsqueeze.default,
    aten.alias.default, aten.detach.default, aten.slice.Tensor, aten.select.int, aten.reshape.default,
}  # fmt: skip
"""Operations whose result is another look at their first operand."""
LANES = "for l in range(LANES):"
"""The innermost loop; how many lanes a block has is known at the end."""
REGISTER = "v"
"""What the name of a value that no buffer holds begins with."""


@dataclass(frozen=True)
class Operand:
    """A tensor of the graph as printed code reads it: a buffer, and where in it each element lies."""

    buffer: str
    """p, g, x, y; s for scratch of each lane, w for sums that are being added up, u for scratch that all lanes share; or the name of
    a value."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    per_lane: bool

    def at(self, indices: Sequence[str]) -> str:
        """The row of an element."""
        terms = [f"{i} * {s}" if s != 1 else i for i, s in zip(indices, self.strides, strict=True) if s]
        return " + ".join([*terms, str(self.offset)] if self.offset or not terms else terms)

    def element(self, indices: Sequence[str]) -> str:
        """An element, as it is written within the loop over lanes."""
        if self.in_register:
            return self.buffer
        row = self.at(indices)
        return f"{self.buffer}[({row}) * LANES + l]" if self.per_lane else f"{self.buffer}[{row}]"

    @property
    def in_register(self) -> bool:
        """Whether no buffer holds it."""
        return self.buffer.startswith(REGISTER)

    @property
    def axes(self) -> list[tuple[int, int]]:
        """The sizes and strides of its dimensions that are not one."""
        return [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]

    def squeezed(self) -> Operand:
        """The same without dimensions of one."""
        return replace(self, shape=tuple(n for n, _ in self.axes), strides=tuple(s for _, s in self.axes))

    def expanded(self, shape: tuple[int, ...]) -> Operand:
        """The same broadcast to a shape."""
        missing = len(shape) - len(self.shape)
        sizes = (1,) * missing + self.shape
        strides = (0,) * missing + self.strides
        found = tuple(0 if n == 1 and m != 1 else s for n, m, s in zip(sizes, shape, strides, strict=True))
        return replace(self, shape=shape, strides=found)


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a tensor whose last dimension lies closest."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


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


def collapsed(shape: tuple[int, ...], operands: Sequence[Operand]) -> tuple[tuple[int, ...], list[Operand]]:
    """Neighbouring dimensions as one where they lie one within the other in every operand: fewer, longer loops."""
    sizes: list[int] = []
    strides: list[list[int]] = []
    """[dimensions left][operands]"""
    for k, n in enumerate(shape):
        if n == 1:
            continue
        own = [a.strides[k] for a in operands]
        if strides and all(outer == inner * n for outer, inner in zip(strides[-1], own, strict=True)):
            sizes[-1] *= n
            strides[-1] = own
        else:
            sizes.append(n)
            strides.append(own)
    left = tuple(sizes)
    return left, [replace(a, shape=left, strides=tuple(s[i] for s in strides)) for i, a in enumerate(operands)]


@dataclass(frozen=True)
class Rows:
    """Rows of scratch that one tensor takes."""

    buffer: str
    first: int
    count: int


class Scratch:
    """The rows of scratch. Those of each lane are taken again once nobody reads them; those that lanes share are not."""

    def __init__(self) -> None:
        self.lane_rows = self.shared_rows = self.sum_rows = 0
        self._sums = 0
        self._free: dict[int, list[Rows]] = {}
        """By how many they are."""
        self._all: list[Rows] = []

    def take(self, count: int, *, per_lane: bool) -> Rows:
        """So many rows that hold nothing."""
        if per_lane and self._free.get(count):
            return self._free[count].pop()
        if per_lane:
            rows = Rows("s", self.lane_rows, count)
            self.lane_rows += count
        else:
            rows = Rows("u", self.shared_rows, count)
            self.shared_rows += count
        self._all.append(rows)
        return rows

    def sums(self, count: int) -> int:
        """The first of so many rows in which the loops that are open add up."""
        first, self._sums = self._sums, self._sums + count
        self.sum_rows = max(self.sum_rows, self._sums)
        return first

    def end_sums(self) -> None:
        """Those loops are closed."""
        self._sums = 0

    def give_back(self, rows: Rows) -> None:
        """No later operation reads them."""
        self._free.setdefault(rows.count, []).append(rows)

    def first_of(self, operand: Operand) -> int:
        """The first row of the tensor that an operand looks at."""
        own = (rows for rows in self._all if rows.buffer == operand.buffer)
        return next(rows.first for rows in own if rows.first <= operand.offset < rows.first + rows.count)


class Lifetimes:
    """Whose rows each tensor of a graph looks at, and which operation reads those last."""

    def __init__(self, graph: fx.Graph) -> None:
        self.owner: dict[fx.Node, fx.Node] = {}
        self.last_reader: dict[fx.Node, fx.Node] = {}
        for node in graph.nodes:
            view = node.op == "call_function" and (node.target in VIEWS or node.target is operator.getitem)
            self.owner[node] = self.owner[node.all_input_nodes[0]] if view else node
            for used in node.all_input_nodes:
                self.last_reader[self.owner[used]] = node

    def ends_at(self, node: fx.Node) -> list[fx.Node]:
        """Whose rows nobody reads behind this operation."""
        owners = dict.fromkeys(self.owner[used] for used in node.all_input_nodes)
        return [owner for owner in owners if self.last_reader.get(owner) is node]


def result_of(node: fx.Node) -> Any:
    """What torch noted of an operation's result, of the first that is there where there are several: shape, strides, dtype."""
    found = node.meta["val"]
    return next(one for one in found if one is not None) if isinstance(found, tuple | list) else found
