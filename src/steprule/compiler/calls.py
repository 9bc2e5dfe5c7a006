"""The calls of a step: each function of whole matrices with what it takes, turned and scaled as a library does.

A transpose moves nothing, it is a way to read. A number that a matrix is multiplied with goes into the product. The scaled sum of a
product and a matrix that lies in memory anyway is one call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from steprule.compiler.graph import Graph, Kind, Node
from steprule.maths import OPERATIONS

Arg = Node | float | int | bool
Number = Node | float


@dataclass(frozen=True)
class Turned:
    """A quantity, or its transpose."""

    node: Node
    flipped: bool = False

    def turn(self, again: bool = True) -> Turned:
        """Its transpose."""
        return Turned(self.node, self.flipped != again)


@dataclass(frozen=True, eq=False)
class Wanted:
    """What one call computes: op(args, numbers); of a product, alpha a @ b + beta added."""

    op: str
    args: tuple[Turned, ...]
    numbers: tuple[Number, ...] = ()
    alpha: Number = 1.0
    added: Turned | None = None
    beta: Number = 1.0

    @property
    def matrices(self) -> tuple[Turned, ...]:
        """All that it reads."""
        return self.args if self.added is None else (*self.args, self.added)

    def turn(self) -> Wanted:
        """The call whose result is the transpose of this product's."""
        a, b = self.args
        added = None if self.added is None else self.added.turn()
        return Wanted(self.op, (b.turn(), a.turn()), (), self.alpha, added, self.beta)


def calls_of(graph: Graph) -> dict[Node, Wanted]:
    """Each quantity that a call computes, in order."""
    return _Reader(graph).found


def base(arg: Node) -> Turned:
    """What is transposed, and whether it is."""
    flipped = False
    while arg.op == "transpose":
        inner = arg.args[0]
        assert isinstance(inner, Node)
        arg, flipped = inner, not flipped
    return Turned(arg, flipped)


class _Reader:
    def __init__(self, graph: Graph) -> None:
        live = [n for n in graph.live if n.op != "input"]
        self.uses = Counter(a for n in live for a in n.args if isinstance(a, Node))
        self.uses.update(v for v in graph.outputs.values() if isinstance(v, Node))
        matrices = [n for n in live if _of_matrices(n)]
        self.in_memory = {*matrices, *(self.scaled(a)[1].node for n in matrices for a in _matrices_of(n))}
        """What lies in memory because calls take or give it."""
        found = {n: self.call(n) for n in live if _of_matrices(n) or _is_sum(n)}
        whole = {n: c for n, c in found.items() if c is not None}
        self.found = {n: c for n, c in whole.items() if n in {*graph.live}}

    def call(self, node: Node) -> Wanted | None:
        """The call of a node, None where it is none."""
        if _is_sum(node):
            return self.sum(node)
        if node.op == "matmul":
            left, right = _matrices_of(node)
            of_left, a = self.scaled(left)
            of_right, b = self.scaled(right)
            return Wanted("matmul", (a, b), alpha=_product([*of_left, *of_right]))
        numbers = tuple(a if isinstance(a, Node) else float(a) for a in node.args[len(_matrices_of(node)) :])
        return Wanted(node.op, tuple(base(a) for a in _matrices_of(node)), numbers)

    def sum(self, node: Node) -> Wanted | None:
        """A scaled product that nobody else reads, and what is added to it, as one call."""
        for k in (0, 1):
            own, other = node.args[k], node.args[1 - k]
            if not (isinstance(own, Node) and isinstance(other, Node) and own.dims == other.dims == node.dims):
                continue
            factors, product = self.scaled(own)
            if product.node.op != "matmul" or not self.has_one_reader(own, product.node):
                continue
            others, added = self.scaled(other)
            if added.node not in self.in_memory:
                continue
            if not own.dtype == other.dtype == node.dtype:  # a library's sum is of one dtype
                continue
            if node.op == "sub":
                (others if k == 0 else factors).append(-1.0)
            inner = self.call(product.node)
            assert inner is not None
            inner = inner.turn() if product.flipped else inner
            return Wanted("matmul", inner.args, (), _product([inner.alpha, *factors]), added, _product(others))
        return None

    def scaled(self, arg: Node) -> tuple[list[Arg], Turned]:
        """The numbers of the step that a matrix is multiplied with, and the matrix."""
        factors: list[Arg] = []
        flipped = False
        while True:
            if arg.op == "transpose":
                flipped = not flipped
            elif arg.op == "neg":
                factors.append(-1.0)
            elif arg.op == "mul" and any(map(_is_number, arg.args)):
                factors.append(next(a for a in arg.args if _is_number(a)))
            else:
                return factors, Turned(arg, flipped)
            arg = next(a for a in arg.args if isinstance(a, Node) and a.kind is Kind.ELEMENT)

    def has_one_reader(self, arg: Node, end: Node) -> bool:
        """Whether all that leads from `arg` to `end` is read once."""
        while self.uses[arg] == 1 and arg is not end:
            arg = next(a for a in arg.args if isinstance(a, Node) and a.kind is Kind.ELEMENT)
        return self.uses[arg] == 1


def _matrices_of(node: Node) -> list[Node]:
    """The arguments of a call that are matrices."""
    return [a for a in node.args if isinstance(a, Node) and a.kind is Kind.ELEMENT]


def _of_matrices(node: Node) -> bool:
    return node.op != "transpose" and node.kind is Kind.ELEMENT and OPERATIONS[node.op].of_matrices


def _is_sum(node: Node) -> bool:
    return node.op in ("add", "sub") and node.kind is Kind.ELEMENT


def _is_number(arg: Arg) -> bool:
    return arg.kind is Kind.SCALAR if isinstance(arg, Node) else True


def _product(factors: Iterable[Arg]) -> Number:
    """Of numbers of the step."""
    found: Number = 1.0
    for factor in factors:
        if isinstance(found, Node) or isinstance(factor, Node):
            found = factor if found == 1.0 and isinstance(factor, Node) else Node("mul", (found, factor), Kind.SCALAR)
        else:
            found *= float(factor)
    return found
