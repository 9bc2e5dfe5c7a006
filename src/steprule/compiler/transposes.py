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
        """By node: what it is the transpose of and True, or itself and False."""
        self.nodes: list[Node] = []
        self.transposes: dict[Node, Node] = {}
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
        of_call = node.kind is Kind.ELEMENT and (OPERATIONS[node.op].of_matrices or _adds_a_product(node))
        if not all_flipped or of_call:
            straight = tuple(self._straight(a, of_call=of_call) for a in node.args)
            return self._add(replace(node, args=straight)), False
        inner_args = tuple(self.new[a][0] if isinstance(a, Node) else a for a in node.args)
        if node.kind is not Kind.ELEMENT:  # over the whole tensor: in whatever order
            return self._add(replace(node, args=inner_args)), False
        dims = None if node.dims is None else node.dims[::-1]
        if is_reduction(node):
            x, axis = inner_args
            assert type(axis) is int
            inner_args = x, _ACROSS[axis]
        return self._add(replace(node, args=inner_args, dims=dims)), True

    def _straight(self, arg: Arg, *, of_call: bool = False) -> Arg:
        """An argument as it is meant, turned where it must be."""
        if not isinstance(arg, Node):
            return arg
        inner, flipped = self.new[arg]
        if not flipped:
            return inner
        return self._transposed(inner) if of_call else self._turned(inner)

    def _transposed(self, node: Node) -> Node:
        """The transpose as a call reads it, which turns nothing."""
        if node not in self.transposes:
            dims = None if node.dims is None else node.dims[::-1]
            self.transposes[node] = self._add(replace(node, op="transpose", args=(node,), dims=dims, name=None))
        return self.transposes[node]

    def _turned(self, node: Node) -> Node:
        """The transpose as a pass reads it beside what is not turned. What follows from one array alone is turned there: that may be what
        a call gives, which can lie so from the start."""
        if node not in self.turned:
            arrays = [a for a in node.args if isinstance(a, Node) and a.kind is Kind.ELEMENT]
            if len(arrays) != 1 or is_reduction(node) or OPERATIONS[node.op].of_matrices:
                self.turned[node] = self._transposed(node)
            else:
                args = tuple(self._turned(a) if a is arrays[0] else a for a in node.args)
                dims = None if node.dims is None else node.dims[::-1]
                self.turned[node] = self._add(replace(node, args=args, dims=dims))
        return self.turned[node]

    def _add(self, node: Node) -> Node:
        self.nodes.append(node)
        return node


def _adds_a_product(node: Node) -> bool:
    """Whether it may be one call with a product: a sum whose other part that call reads as it lies."""
    return node.op in ("add", "sub") and any(_scaled(a).op == "matmul" for a in node.args if isinstance(a, Node))


def _scaled(arg: Node) -> Node:
    """What is multiplied with numbers, or turned."""
    while arg.op in ("mul", "neg", "transpose"):
        arrays = [a for a in arg.args if isinstance(a, Node) and a.kind is Kind.ELEMENT]
        if len(arrays) != 1:
            break
        arg = arrays[0]
    return arg
