"""The statements of a formula: which quantities have a line of their own, and where brackets stand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass

from steprule.compiler.graph import Graph, Node
from steprule.maths import OPERATIONS
from steprule.operations import ATOM, SUM

LONGEST_REPEATED = 6  # an unnamed quantity of more operations than this, used twice, is a statement of its own

Arg = Node | float | int | bool


@dataclass(frozen=True)
class Line:
    """One statement: what is defined, and by what. `again` where the name stood for another value before."""

    left: str
    right: str
    again: bool = False


class StatementPrinter(ABC):
    """What both forms share: which nodes are statements, in which order, and where brackets stand."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.live = self._live()
        self.outputs = {n: name for name, n in graph.outputs.items() if isinstance(n, Node) and n.op != "input"}
        self.called = self._called()
        self.statements = [n for n in self.live if n in self.called]
        self.place = {n: i for i, n in enumerate(self.statements)}
        self.last_use = {a: i for n, i in self.place.items() for a in self._read_by(n)}
        self.lasting = {n for n in graph.outputs.values() if isinstance(n, Node)}

    def operands(self, node: Node) -> list[Node]:
        """The nodes that its expression shows."""
        return [a for a in node.args if isinstance(a, Node)]

    def _live(self) -> list[Node]:
        """The nodes that the results show, in order."""
        wanted: set[Node] = set()
        todo = [n for n in self.graph.outputs.values() if isinstance(n, Node)]
        while todo:
            node = todo.pop()
            if node not in wanted:
                wanted.add(node)
                todo += self.operands(node)
        return [n for n in (*self.graph.inputs.values(), *self.graph.nodes) if n in wanted]

    def _called(self) -> dict[Node, str]:
        """The name of each node that is a statement: an output, the author's, or long and used more than once."""
        uses = Counter(a for n in self.live for a in self.operands(n))
        called: dict[Node, str] = {}
        size: dict[Node, int] = {}
        for node in self.live:
            if node.op == "input":
                continue
            size[node] = 1 + sum(1 if a in called else size.get(a, 1) for a in self.operands(node))
            if name := self.outputs.get(node) or node.name:
                called[node] = name
            elif uses[node] > 1 and size[node] > LONGEST_REPEATED:
                called[node] = f"r{len(called) + 1}"
        return called

    def _read_by(self, statement: Node) -> set[Node]:
        """The names that a statement's expression reads: what has none is written out in it."""
        found: set[Node] = set()
        todo = self.operands(statement)
        while todo:
            node = todo.pop()
            if node.op == "input" or node in self.called:
                found.add(node)
            else:
                todo += self.operands(node)
        return found

    def is_needed(self, node: Node, *, after: Node) -> bool:
        """Whether a quantity's name is not free for another: it is read later, or is a result."""
        return self.last_use.get(node, -1) > self.place[after] or node in self.lasting

    def lines(self) -> list[Line]:
        """All statements, in order."""
        return [
            Line(self.defined(node), self.expression(node), again=node not in self.outputs and self.rebinds(node))
            for node in self.statements
        ]

    def rebinds(self, node: Node) -> bool:
        """Whether the name of this inner quantity is also an input's: g after weight decay."""
        return self.called[node] in self.graph.inputs

    def show(self, arg: Arg, strength: int, *, right: bool = False) -> str:
        """`arg` as an operand of an operation that binds with `strength`."""
        if not isinstance(arg, Node):
            shown = self.number(arg)
            return self.bracket(shown) if arg < 0 and strength > SUM else shown
        if arg.op == "input" or arg in self.statements:
            return self.name(arg)
        shown, own = self.expression(arg), self.strength(arg)
        return self.bracket(shown) if own < strength or (right and own == strength) else shown

    def strength(self, node: Node) -> int:
        """How strongly a node's operation binds."""
        return OPERATIONS[node.op].strength if node.op in OPERATIONS else ATOM

    def expression(self, node: Node) -> str:
        """What a node is, from the names that are known."""
        return self.operation(node, node.args)

    # What a form says in its own way.

    @abstractmethod
    def defined(self, node: Node) -> str:
        """The left side of a statement."""

    @abstractmethod
    def name(self, node: Node) -> str:
        """An input or a statement where it is read."""

    @abstractmethod
    def number(self, value: float | int | bool) -> str:
        """A constant."""

    @abstractmethod
    def bracket(self, shown: str) -> str:
        """An operand in brackets."""

    @abstractmethod
    def operation(self, node: Node, args: tuple[Arg, ...]) -> str:
        """An operation on its operands."""
