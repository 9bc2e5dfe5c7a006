"""Move transposes outwards: what is computed of transposes is the transpose of what is computed of the rest.

So a pass reads a matrix as it lies, and the transpose is left to the product that asks for it, which turns nothing.
"""

from __future__ import annotations

from dataclasses import replace

from steprule.compiler.graph import Graph, Kind, Node
from steprule.compiler.split import is_reduction
from steprule.maths import OPERATIONS

Arg = Node | float | int | bool
_ACROSS = {-1: -2, -2: -1}


def outwards(graph: Graph) -> Graph:
    """The same graph with transposes as far out as they go; the graph given stays as it is."""
    return _Mover(graph).moved


class _Mover:
    def __init__(self, graph: Graph) -> None:
        self.new: dict[Node, tuple[Node, bool]] = {}
        """Of each node, what it is the transpose of, if it is one; else itself, as it is now."""
        self.nodes: list[Node] = []
        self.turned: dict[Node, Node] = {}
        for node in graph.live:
            self.new[node] = (node, False) if node.op == "input" else self._take(node)
        outputs = {k: self._straight(v) if isinstance(v, Node) else v for k, v in graph.outputs.items()}
        self.moved = replace(graph, nodes=self.nodes, outputs=outputs)

    def _take(self, node: Node) -> tuple[Node, bool]:
        if node.kind is Kind.SCALAR:
            return self._add(node), False
        args = [self.new[a] for a in node.args if isinstance(a, Node) and a.kind is Kind.ELEMENT]
        if node.op == "transpose":
            inner, flipped = args[0]
            return inner, not flipped
        all_flipped = bool(args) and all(flipped for _, flipped in args)
        if not all_flipped or (node.kind is Kind.ELEMENT and OPERATIONS[node.op].of_matrices):
            return self._add(replace(node, args=tuple(map(self._straight, node.args)))), False
        inner_args = tuple(self.new[a][0] if isinstance(a, Node) else a for a in node.args)
        if node.kind is not Kind.ELEMENT:  # over the whole tensor: in whatever order
            return self._add(replace(node, args=inner_args)), False
        dims = None if node.dims is None else node.dims[::-1]
        if is_reduction(node):
            x, axis = inner_args
            assert type(axis) is int
            inner_args = x, _ACROSS[axis]
        return self._add(replace(node, args=inner_args, dims=dims)), True

    def _straight(self, arg: Arg) -> Arg:
        """An argument as it is meant, turned where it must be."""
        if not isinstance(arg, Node):
            return arg
        inner, flipped = self.new[arg]
        if not flipped:
            return inner
        if inner not in self.turned:
            dims = None if inner.dims is None else inner.dims[::-1]
            self.turned[inner] = self._add(replace(inner, op="transpose", args=(inner,), dims=dims, name=None))
        return self.turned[inner]

    def _add(self, node: Node) -> Node:
        self.nodes.append(node)
        return node
