"""Rewrites a graph: copies it with changes, spells it out as papers do, and tells what stands where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from typing import TypeGuard

from steprule.checking.probe import Formula
from steprule.compiler.graph import Graph, Kind, Node

Arg = Node | float | int | bool
Change = Callable[["Copy", Node, tuple[Arg, ...]], Arg | None]
"""Takes a node and its copied arguments; gives what stands in the node's place, or None to copy it."""


class Copy:
    """A graph, copied node by node with a change."""

    def __init__(self, graph: Graph, change: Change) -> None:
        self.nodes: list[Node] = []
        self.inputs = graph.inputs
        self.copies: dict[Node, Arg] = {}
        for node in graph.live:
            args = tuple(self.copies[a] if isinstance(a, Node) else a for a in node.args)
            found = change(self, node, args)
            if found is None and node.op == "input":
                found = node
            elif found is None:
                found = self.add(node.op, *args, name=node.name, truth=node.truth)
            self.copies[node] = found
        outputs = {n: self.copies[v] if isinstance(v, Node) else v for n, v in graph.outputs.items()}
        self.graph = replace(graph, nodes=self.nodes, outputs=outputs)

    def add(self, op: str, *args: Arg, name: str | None = None, truth: bool = False) -> Node:
        """A new operation, of the widest kind among its arguments: here a kind only serves to match patterns."""
        kinds = [a.kind for a in args if isinstance(a, Node)]
        widest = next((kind for kind in (Kind.ELEMENT, Kind.REDUCTION) if kind in kinds), Kind.SCALAR)
        node = Node(op, args, widest, name, truth)
        self.nodes.append(node)
        return node


def changed(formula: Formula, change: Change) -> Formula:
    """The formula with each of its graphs copied with a change."""
    return replace(formula, stages=tuple(Copy(graph, change).graph for graph in formula.stages))


def with_outputs(formula: Formula, outputs: Callable[[Graph], dict[str, Node | float | None]]) -> Formula:
    """The formula with other results, chosen among the quantities that it has."""

    def stage(graph: Graph) -> Graph:
        return replace(graph, outputs={**graph.outputs, **outputs(graph)})

    return replace(formula, stages=tuple(map(stage, formula.stages)))


def spelled_out(formula: Formula) -> Formula:
    """The formula as papers write it: `lerp` as a sum, a square as a product, one root of a quotient instead of two."""

    def change(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg | None:
        if node.op == "lerp" and is_op(node.args[2], "sub") and is_one(node.args[2].args[0]):
            keep = args[2].args[1] if isinstance(args[2], Node) else 0.0
            return copy.add("add", copy.add("mul", keep, args[0]), copy.add("mul", args[2], args[1]), name=node.name)
        if node.op == "pow" and node.args[1] == 2 and is_element(node):
            return copy.add("mul", args[0], args[0], name=node.name)
        if node.op == "div" and is_op(node.args[0], "sqrt") and is_op(node.args[1], "sqrt"):
            quotient = copy.add("div", node_of(args[0]).args[0], node_of(args[1]).args[0])
            return copy.add("sqrt", quotient, name=node.name)
        return None

    return changed(formula, change)


def node_of(arg: Arg) -> Node:
    """The argument, which must be an operation."""
    if not isinstance(arg, Node):
        raise TypeError(f"expected an operation, got {arg!r}")
    return arg


def is_op(arg: object, op: str) -> TypeGuard[Node]:
    """Whether it is this operation."""
    return isinstance(arg, Node) and arg.op == op


def is_element(arg: object) -> TypeGuard[Node]:
    """Whether it is one number per element."""
    return isinstance(arg, Node) and arg.kind is Kind.ELEMENT


def named(arg: object, *names: str) -> TypeGuard[Node]:
    """Whether it is an input of one of these names."""
    return isinstance(arg, Node) and arg.op == "input" and arg.name in names


def is_one(arg: object) -> bool:
    """Whether it is the plain number 1."""
    return not isinstance(arg, Node) and arg == 1


def contains(node: Node, name: str) -> bool:
    """Whether a value depends on the input of this name."""
    return any(named(n, name) for n in below(node))


def below(value: object) -> set[Node]:
    """The operations and inputs that a value depends on, itself among them."""
    found: set[Node] = set()
    todo = [value]
    while todo:
        node = todo.pop()
        if isinstance(node, Node) and node not in found:
            found.add(node)
            todo += node.args
    return found


def text_in(node: Node, known: dict[Node, str]) -> str:
    """A short text that is the same for the same operation, made from its arguments' texts.

    It is a digest: written out, a quantity that is used twice would double the text at each use.
    """
    if node.op == "input":
        return str(node.name)
    args = [known[a] if isinstance(a, Node) else repr(a) for a in node.args]
    return blake2b(f"{node.op}({', '.join(args)})".encode(), digest_size=12).hexdigest()


def text_of(formula: Formula) -> tuple[tuple[tuple[str, str], ...], ...]:
    """A formula as text, which tells whether two formulas are the same."""
    found = []
    for graph in formula.stages:
        known: dict[Node, str] = {}
        for node in graph.live:
            known[node] = text_in(node, known)
        outputs = [(n, known[v] if isinstance(v, Node) else repr(v)) for n, v in graph.outputs.items()]
        found.append(tuple(outputs))
    return tuple(found)
