"""Fold scalars: factors that every element would be multiplied with become one factor per step.

`lr * (m / (1 - beta1**t))` is one product with a number that the host computes in float64. So an element is rounded less
often, nothing overflows half-way, and no element is divided where a product serves: `m / s` becomes `m * (1 / s)`.
Which end a `lerp` starts at, and the share that it goes from there, are numbers of the step too where its weight is one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from steprule.compiler.graph import Graph, Kind, Node
from steprule.maths import OPERATIONS

Arg = Node | float | int | bool


def fold(graph: Graph) -> Graph:
    """The same graph with its scalar factors folded; the graph given stays as it is."""
    return _Folder(graph).folded


class _Folder:
    def __init__(self, graph: Graph) -> None:
        live = graph.live
        outputs = [n for n in graph.outputs.values() if isinstance(n, Node)]
        self.uses = Counter([a for n in live for a in n.args if isinstance(a, Node)] + outputs)
        self.new: dict[Node, Node] = {}
        self.nodes: list[Node] = []
        self.known: dict[object, Node] = {}
        self.single: set[Node] = set()
        """New nodes whose result only one other uses: folded away, nobody misses them."""
        for node in live:
            self.new[node] = node if node.op == "input" else self._take(node)
            if self.uses[node] == 1:
                self.single.add(self.new[node])
        found = {k: self.new[v] if isinstance(v, Node) else v for k, v in graph.outputs.items()}
        self.folded = replace(graph, nodes=self.nodes, outputs=found)

    def _take(self, node: Node) -> Node:
        args = tuple(self.new[a] if isinstance(a, Node) else a for a in node.args)
        op = node.op
        if node.kind is Kind.ELEMENT and op == "div" and _is_scalar(args[1]):
            op, args = "mul", (args[0], self._scalar("div", 1.0, args[1]))
        if node.kind is Kind.ELEMENT and op == "mul":
            args = self._gather(args)
        if node.kind is Kind.ELEMENT and op == "lerp" and _is_scalar(args[2]):
            op, args = "add", self._from_the_nearer_end(node, *args)
        return self._add(replace(node, op=op, args=args))

    def _gather(self, args: tuple[Arg, ...]) -> tuple[Arg, ...]:
        """scalar * (scalar * x) as (scalar * scalar) * x, where nobody else needs the inner product."""
        factor, x = args if _is_factor(args[0]) else args[::-1]
        if not (_is_factor(factor) and isinstance(x, Node) and x.op == "mul" and x in self.single):
            return args
        inner, y = x.args if _is_factor(x.args[0]) else x.args[::-1]
        return (self._scalar("mul", factor, inner), y) if _is_factor(inner) else args

    def _from_the_nearer_end(self, node: Node, a: Arg, b: Arg, weight: Arg) -> tuple[Node, Node]:
        """lerp(a, b, weight) as the end to start from and what is added to it."""
        near = self._scalar("lt", self._scalar("abs", weight), 0.5)
        share = self._scalar("where", near, weight, self._scalar("sub", weight, 1.0))
        like = replace(node, name=None)
        end = self._add(replace(like, op="where", args=(near, a, b)))
        way = self._add(replace(like, op="sub", args=(b, a)))
        return end, self._add(replace(like, op="mul", args=(share, way)))

    def _scalar(self, op: str, *args: Arg) -> Node:
        key = (op, *(x if isinstance(x, Node) else repr(x) for x in args))
        if key not in self.known:
            self.known[key] = self._add(Node(op, args, Kind.SCALAR, truth=OPERATIONS[op].truth))
        return self.known[key]

    def _add(self, node: Node) -> Node:
        self.nodes.append(node)
        return node


def _is_scalar(arg: Arg) -> bool:
    return isinstance(arg, Node) and arg.kind is Kind.SCALAR


def _is_factor(arg: Arg) -> bool:
    return _is_scalar(arg) or (not isinstance(arg, Node) and not isinstance(arg, bool))
