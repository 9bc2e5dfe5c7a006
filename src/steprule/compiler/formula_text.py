"""A formula as text with the code's names: it runs as Python with `steprule.maths` in scope."""

from __future__ import annotations

import math

from steprule import maths
from steprule.compiler.graph import Graph, Kind, Node
from steprule.compiler.statements import Arg, Line, StatementPrinter
from steprule.maths import OPERATIONS
from steprule.operations import ATOM, Operation


class TextPrinter(StatementPrinter):
    """Text is sequential, like the code: `square_avg = ...` replaces the old value."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.names = {n: n.name or "" for n in self.graph.inputs.values()}
        taken = {n.name for n in self.graph.inputs.values()} | set(self.called.values()) | set(graph.outputs)
        self.hidden = taken & set(maths.NAMES)
        """Functions whose names the author's values have: they are called by their module's."""
        holder: dict[str, Node] = {name: node for node, name in self.names.items()}
        for node in self.statements:
            name = wanted = self.called[node]
            while name in holder and self.is_needed(holder[name], after=node):
                name += "_new" if name == wanted else "_"
            self.names[node] = name
            holder[name] = node

    def lines(self) -> list[Line]:
        """All statements, then the results that bear another name yet."""
        return super().lines() + self._handed_on()

    def _handed_on(self) -> list[Line]:
        """The results that bear another name yet, each before the name that it is read from gets its own new value."""
        shown = {
            n: self.names[v] if isinstance(v, Node) else self.number(v)
            for n, v in self.graph.outputs.items()
            if v is not None
        }
        waiting = {name: source for name, source in shown.items() if source != name}
        found = []
        while waiting:
            free = next((n for n in waiting if n not in [s for m, s in waiting.items() if m != n]), None)
            if free is None:  # a circle, as of two slots that change places
                name = next(iter(waiting))
                kept = f"{name}_old"
                while kept in self.names.values():
                    kept += "_"
                found.append(Line(kept, name))
                waiting = {n: kept if source == name else source for n, source in waiting.items()}
                continue
            found.append(Line(free, waiting.pop(free)))
        return found

    def defined(self, node: Node) -> str:
        """The code's name, or one like it where that is still needed."""
        return self.names[node]

    def name(self, node: Node) -> str:
        """The same name."""
        return self.names[node]

    def number(self, value: float | int | bool) -> str:
        """A constant as Python reads it."""
        return repr(value) if math.isfinite(value) else f'float("{value}")'

    def bracket(self, shown: str) -> str:
        """An operand in brackets."""
        return f"({shown})"

    def function(self, row: Operation) -> str:
        """The name by which a function is called."""
        return f"maths.{row.name}" if row.name in self.hidden else row.name

    def operation(self, node: Node, args: tuple[Arg, ...]) -> str:
        """An operation in Python."""
        row, own = OPERATIONS[node.op], self.strength(node)
        if row.sign and len(args) == 1:
            return row.sign + self.show(args[0], own)
        if node.op == "transpose":
            return f"{self.show(args[0], ATOM)}.T"
        if row.reduction and len(args) > 1:
            return f"{self.function(row)}({self.show(args[0], 0)}, axis={args[1]})"
        if node.op == "sort_by":
            return f"{self.function(row)}({self.show(args[0], 0)}, {self.show(args[1], 0)}, axis={args[2]})"
        if node.op == "pow":
            return f"{self.show(args[0], own, right=True)}**{self.show(args[1], own)}"
        if row.sign:
            return f"{self.show(args[0], own, right=row.truth)} {row.sign} {self.show(args[1], own, right=True)}"
        name = self.function(row)
        shown = [self.show(a, 0) for a in args]
        if node.op == "where" and node.kind is Kind.ELEMENT and _is_of_literals(args[0]):
            # A plain bool would pick a number where the rule has one for each element; p**0 is 1 for every element.
            shown[0] = f"({shown[0]}) & (p**0 > 0)"
        return f"{name}({', '.join(shown)})"


def _is_of_literals(arg: Arg) -> bool:
    """Whether it follows from numbers in the text alone."""
    return not isinstance(arg, Node) or (arg.op != "input" and all(_is_of_literals(a) for a in arg.args))
