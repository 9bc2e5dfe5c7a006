"""The JavaScript form: one step of one tensor in float64, every quantity of the formula kept, for a page in the browser.

`step(p, g, states, hypers, t)` takes arrays of one length and returns `{p, states, quantities}`: the new parameter, the new
states, and each quantity under the author's name, an array where it is one number an element.
"""

from __future__ import annotations

import math

from steprule.compiler.graph import Graph, Kind, Node
from steprule.compiler.printing import Operations

# C's pow, as torch has it: one to any power and any number to the power 0 are 1, for nan too, and minus one to infinity.
_POWER = "const power = (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Infinity)) ? 1 : a ** b;"


def source(graph: Graph) -> str:
    """A variant of a rule as a JavaScript function.

    >>> from steprule import rules
    >>> from steprule.compiler.graph import trace
    >>> print(source(trace(rules.sgd)).splitlines()[0])
    function sgd(p, g, states, hypers, t) {
    """
    return _Printer(graph).text


class _Printer(Operations):
    def __init__(self, graph: Graph) -> None:
        self.names: dict[Node, str] = {}
        slots = {s.name for s in graph.rule.slots}
        lines = ["const n = p.length;"]
        for name, node in graph.inputs.items():
            if name in ("p", "g", "t"):
                self.names[node] = name
            else:
                self.names[node] = f"{name}_"
                lines.append(f"const {name}_ = {'states' if name in slots else 'hypers'}.{name};")
        kept: dict[str, str] = {}
        uses_power = False
        for node in graph.live:
            if node.op == "input":
                continue
            name = f"{node.name or node.op}_{len(self.names)}"
            uses_power |= "power(" in (line := self._line(node, name))
            lines.append(line)
            self.names[node] = name
            if node.name:
                kept[node.name] = name  # the last that bears the author's name, as it stands at the rule's return
        results = {n: self._result(v) for n, v in graph.outputs.items() if v is not None}
        states = ", ".join(f"{n}: {v}" for n, v in results.items() if n != "p")
        quantities = ", ".join(f"{n}: {v}" for n, v in kept.items())
        lines.append(f"return {{p: {results['p']}, states: {{{states}}}, quantities: {{{quantities}}}}};")
        head = [f"  {_POWER}"] if uses_power else []
        body = [f"  {line}" for line in lines]
        self.text = "\n".join([f"function {graph.rule.name}(p, g, states, hypers, t) {{", *head, *body, "}"])

    def _line(self, node: Node, name: str) -> str:
        if node.kind is Kind.REDUCTION and node.op in ("norm", "mean", "sum"):
            x = self.show(node.args[0])
            term = f"{x} * {x}" if node.op == "norm" else x
            total = f"Array.from({{length: n}}, (_, i) => {term}).reduce((a, b) => a + b, 0)"
            return f"const {name} = {'Math.sqrt(' + total + ')' if node.op == 'norm' else total + ' / n' if node.op == 'mean' else total};"
        if node.kind is Kind.ELEMENT:
            return f"const {name} = Array.from({{length: n}}, (_, i) => {self.expression(node)});"
        return f"const {name} = {self.expression(node)};"

    def _result(self, value: Node | float | int | bool) -> str:
        if isinstance(value, Node) and value.kind is Kind.ELEMENT:
            return self.names[value]
        shown = self.show(value)
        return shown if isinstance(value, Node) and value.kind is Kind.SCALAR else f"Array(n).fill({shown})"

    def show(self, arg: Node | float | int | bool) -> str:
        if isinstance(arg, Node):
            return f"{self.names[arg]}[i]" if arg.kind is Kind.ELEMENT else self.names[arg]
        value = float(arg)
        shown = (
            repr(value)
            if math.isfinite(value)
            else "NaN"
            if math.isnan(value)
            else "Infinity"
            if value > 0
            else "-Infinity"
        )
        return f"({shown})"

    def pick(self, condition: str, a: str, b: str) -> str:
        return f"(({condition}) ? {a} : {b})"

    def function(self, name: str, x: str) -> str:
        return f"Math.{name}({x})"

    def power(self, a: str, b: str) -> str:
        return f"power({a}, {b})"
