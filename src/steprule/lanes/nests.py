"""Neighbouring operations on elements share their loops, so that what only they read stays in registers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import fx

from steprule.lanes.buffers import Lifetimes, Operand, collapsed, loops, over_lanes, result_of

Kind = Literal["element", "product", "sum", "shared", "always", "other"]
"""Of an operation: each element from those at the same place; a short sum of products for each; sums of elements; the same for all lanes;
other for each lane, whatever it reads; and what has loops of its own."""
LONGEST = 16
"""Operations in the same loops: a core has 32 vector registers."""


class Plan:
    """Which operations share their loops: those behind each other on elements of one shape, and the sums at their end."""

    def __init__(
        self, graph: fx.Graph, lanes: Collection[fx.Node], lifetimes: Lifetimes, kind_of: Callable[[fx.Node], Kind]
    ) -> None:
        """`lanes`: the inputs that are another for each lane."""
        self.nest: dict[fx.Node, int] = {}
        """By operation the number of its nest of loops."""
        self._owner, differing = lifetimes.owner, set(lanes)
        number, sizes = 0, None
        inside: dict[fx.Node, Kind] = {}
        for node in graph.nodes:
            kind = kind_of(node)
            if node.op != "call_function" or kind == "shared":
                continue
            if kind != "always" and not any(read in differing for read in node.all_input_nodes):
                continue
            differing.add(node)
            if self._owner[node] is not node:
                continue
            own = None
            if kind in ("element", "product", "sum"):
                own = sizes_of(result_of(node.all_input_nodes[0] if kind == "sum" else node).shape)
            if own is None or own != sizes or len(inside) >= LONGEST or not self._follows(node, kind, inside):
                number, sizes, inside = number + 1, own, {}
            if own is not None:
                inside[node] = kind
                self.nest[node] = number

    def _follows(self, node: fx.Node, kind: Kind, inside: dict[fx.Node, Kind]) -> bool:
        """Whether all that it reads of these loops is there when they come to an element."""
        for read in node.all_input_nodes:
            owner = self._owner[read]
            if owner in inside and (kind == "product" or inside[owner] == "sum" or not _as_it_is(read, owner)):
                return False
        return True

    def is_read_behind(self, node: fx.Node) -> bool:
        """Whether an operation behind its loops reads a value."""
        left = list(node.users)
        while left:
            user = left.pop()
            if self._owner.get(user) is self._owner[node]:
                left += user.users
            elif self.nest.get(user) != self.nest[node]:
                return True
        return False


def sizes_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Over which there are loops."""
    return tuple(n for n in shape if n != 1)


def _as_it_is(view: fx.Node, owner: fx.Node) -> bool:
    """Whether a view has the elements of its owner at the same places."""
    a, b = result_of(view), result_of(owner)
    if a.storage_offset() != b.storage_offset():
        return False
    pairs = [[(n, s) for n, s in zip(t.shape, t.stride(), strict=True) if n != 1] for t in (a, b)]
    return pairs[0] == pairs[1]


@dataclass
class Value:
    """What the loops compute of each element: an expression of operands and numbers."""

    name: str
    expression: Callable[..., str]
    args: Sequence[Operand | str]
    to: Operand | None
    """Where it is kept; None where only the same loops read it."""
    added: bool = False
    """Whether it is added to what is there."""

    @property
    def memory(self) -> list[Operand]:
        """What it reads and writes."""
        return [a for a in (*self.args, self.to) if isinstance(a, Operand)]

    def lines(self, shown: Sequence[str]) -> list[str]:
        """Of an element, where `memory` is shown so."""
        left = list(shown)
        texts = [left.pop(0) if isinstance(a, Operand) else a for a in self.args]
        found = [f"{self.name} = {self.expression(*texts)}"]
        if self.to is not None:
            found.append(f"{left.pop(0)} {'+=' if self.added else '='} {self.name}")
        return found


@dataclass
class Nest:
    """Loops that are open: more operations may come into them."""

    number: int
    sizes: tuple[int, ...]
    values: list[Value] = field(default_factory=list)
    whole: bool = False
    """Whether an operation names the loops itself, which then stay as they are."""
    behind: list[str] = field(default_factory=list)
    """Lines that come after them."""

    def register_of(self, operand: Operand) -> str | None:
        """The name of the value that an operand is, where the loops have it."""
        if operand.in_register:
            return operand.buffer
        for value in self.values:
            to = value.to
            if to is not None and not value.added and (to.buffer, to.offset) == (operand.buffer, operand.offset):
                return value.name if to.axes == operand.axes else None
        return None

    def lines(self) -> list[str]:
        """All of it."""
        memory = [a.squeezed() for value in self.values for a in value.memory]
        shape = self.sizes
        if not self.whole:
            shape, memory = collapsed(shape, memory)
        heads, indices = loops(shape)
        body = list[str]()
        for value in self.values:
            count = len(value.memory)
            body += value.lines([a.element(indices) for a in memory[:count]])
            memory = memory[count:]
        found = ["    " * depth + head for depth, head in enumerate(heads)]
        return [*found, *("    " * len(heads) + line for line in over_lanes(body)), *self.behind]
