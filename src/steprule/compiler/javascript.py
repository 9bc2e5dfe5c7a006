"""The JavaScript form: one step of one tensor in float64, with every quantity of the formula kept.

`step(p, g, states, hypers, t, keep)` takes arrays of one length and returns `{p, states, quantities}`: the new parameter,
the new states, and, where `keep` is true, each row of `anatomy.rows`: an array where it is one number an element.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial, reduce

from steprule.compiler import anatomy
from steprule.compiler.graph import Graph, Kind, Node
from steprule.compiler.writing import Constant, Writer
from steprule.maths import OPERATIONS

# C's pow, as torch has it: one to any power and any number to the power 0 are 1, for nan too, and minus one to infinity. And
# Python's rest and whole part of a division, whose signs are the divisor's.
POWER = " ".join([
    "const power = (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Infinity)) ? 1 : a ** b;",
    "const modulo = (a, b) => { const r = a % b; return r !== 0 && (r < 0) !== (b < 0) ? r + b : r; };",
    "const floorDivide = (a, b) => b === 0 ? a / b : Math.round((a - modulo(a, b)) / b);",
])  # fmt: skip

HELPERS = ("power(", "modulo(", "floorDivide(")
"""What it defines."""

RESERVED = frozenset({
    "arguments", "await", "case", "catch", "const", "debugger", "default", "delete", "do", "enum", "eval",
    "export", "extends", "function", "implements", "instanceof", "interface", "let", "new", "null", "package",
    "private", "protected", "public", "static", "super", "switch", "this", "throw", "typeof", "undefined",
    "var", "void",
})  # fmt: skip
"""Names that are free in Python and not in JavaScript."""


def source(graph: Graph, size: int | None = None) -> str:
    """A variant of a rule as a JavaScript function, for arrays of any length or, five times faster, of `size` alone.

    The second kind needs `POWER` before it.

    >>> from steprule import rules
    >>> from steprule.compiler.tracer import trace
    >>> print(source(trace(rules.sgd)).splitlines()[0])
    function sgd(p, g, states, hypers, t, keep) {
    """
    return JavaScriptPrinter(graph, size).text


class JavaScriptPrinter(Writer):
    """One function, whose lines compute the nodes in order."""

    columns_of_table = ("javascript",)
    called = "Math.{name}({operands})"

    def __init__(self, graph: Graph, size: int | None) -> None:
        self.size = size
        self.names: dict[Node, str] = {}
        self.i = 0
        """Which element is being written, where their number is known."""
        slots = {s.name for s in graph.rule.slots}
        lines = ["const n = p.length;"] if size is None else []
        for name, node in graph.inputs.items():
            if name in ("p", "g", "t"):
                self.names[node] = name
            else:
                self.names[node] = f"{name}_"
                lines.append(f"const {name}_ = {'states' if name in slots else 'hypers'}.{name};")
        for node in graph.live:
            if node.op != "input":
                self.names[node] = f"{node.name or node.op}_{len(self.names)}"
                lines += self._lines(node, self.names[node])
        numbers = {s.name for s in graph.rule.slots if s.is_number}
        results = {n: self._result(v, whole=n not in numbers) for n, v in graph.outputs.items() if v is not None}
        states = ", ".join(f"{n}: {v}" for n, v in results.items() if n != "p")
        kept = ", ".join(f"{json.dumps(r.key)}: {self._result(r.node, whole=False)}" for r in anatomy.rows(graph))
        lines.append(f"return {{p: {results['p']}, states: {{{states}}}, quantities: keep ? {{{kept}}} : null}};")
        head = [POWER] if size is None and any(name in line for line in lines for name in HELPERS) else []
        body = [f"  {line}" for line in (*head, *lines)]
        name = f"{graph.rule.name}_" if graph.rule.name in RESERVED else graph.rule.name
        self.text = "\n".join([f"function {name}(p, g, states, hypers, t, keep) {{", *body, "}"])

    def _lines(self, node: Node, name: str) -> list[str]:
        if OPERATIONS[node.op].reduction:
            return [f"const {name} = {self._reduced(node)};"]
        if node.kind is not Kind.ELEMENT:
            return [f"const {name} = {self.expression(node)};"]
        if self.size is None:
            return [f"const {name} = Array.from({{length: n}}, (_, i) => {self.expression(node)});"]
        return self._each(lambda i: f"const {name}${i} = {self.expression(node)};")

    def _reduced(self, node: Node) -> str:
        """A reduction, from the first element to the last."""
        of, part_of = OPERATIONS[node.op].reduction, node.args[0]
        assert of is not None
        if not (isinstance(part_of, Node) and part_of.kind is Kind.ELEMENT):
            return self.of(of.of_one, self.show(part_of))  # a total of what a tensor has one number for
        join = partial(self.of, OPERATIONS[of.join].call)

        def part() -> str:
            return f"({self.of(of.each, self.show(node.args[0]))})"

        if self.size is None:
            each = f"Array.from({{length: n}}, (_, i) => {part()})"
            return self.of(of.end, f"{each}.reduce((a, b) => {join('a', 'b')}, {self.show(of.start)})", "n")
        total = reduce(lambda a, b: f"({join(a, b)})", self._each(lambda _: part()))
        return self.of(of.end, total, str(self.size))

    def _each(self, write: Callable[[int], str]) -> list[str]:
        """What `write` gives for each element, where their number is known."""
        written = []
        for i in range(self.size or 0):
            self.i = i
            written.append(write(i))
        return written

    def _result(self, value: Node | Constant, *, whole: bool = True) -> str:
        """A result as an array, or as one number where it is one a tensor (or, unless `whole`, one for all elements)."""
        if isinstance(value, Node) and value.kind is Kind.ELEMENT:
            if self.size is None or value.op == "input":
                return self.names[value]
            return f"[{', '.join(f'{self.names[value]}${i}' for i in range(self.size))}]"
        shown = self.show(value)
        if not whole:
            return shown
        return f"Array(n).fill({shown})" if self.size is None else f"[{', '.join([shown] * self.size)}]"

    def show(self, arg: Node | Constant) -> str:
        """An operand: an element of an array, a name, or a constant."""
        if isinstance(arg, Node):
            if arg.kind is not Kind.ELEMENT:
                return self.names[arg]
            if self.size is None:
                return f"{self.names[arg]}[i]"
            return f"{self.names[arg]}[{self.i}]" if arg.op == "input" else f"{self.names[arg]}${self.i}"
        value = float(arg)
        if math.isfinite(value):
            return f"({value!r})"
        return "(NaN)" if math.isnan(value) else "(Infinity)" if value > 0 else "(-Infinity)"
