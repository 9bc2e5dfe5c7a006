"""The places of one formula, the same in all its stages, and what can be written in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from annotated_types import Lt

from steprule.checking.probe import Formula
from steprule.checking.rewriting import (
    Arg,
    Change,
    Copy,
    changed,
    is_one,
    is_op,
    named,
    text_in,
)
from steprule.compiler.formula import expression
from steprule.compiler.graph import Node

Slip = tuple[str, Formula]
"""A slip in a pupil's words, and the formula that has it."""


class Places:
    """The operations of one formula. A place is known by its text, so that all stages are changed alike."""

    def __init__(self, formula: Formula) -> None:
        self.formula = formula
        self.text: dict[Node, str] = {}
        by_text: dict[str, Node] = {}
        for graph in formula.stages:
            for node in graph.live:
                self.text[node] = text_in(node, self.text)
                by_text.setdefault(self.text[node], node)
        self.nodes = list(by_text.values())
        rule = formula.rule
        used = {n.name for n in self.nodes if n.op == "input"}
        numbers = [h for h in rule.hypers if not h.is_plain and h.name in used]
        self.decays = [h.name for h in numbers if any(isinstance(b, Lt) and b.lt == 1 for b in h.bounds)]
        self.slots = [s.name for s in rule.slots if s.name in formula.slots and not s.is_number]
        self.corrections = [n for n in self.nodes if _is_correction(n)]

    def said(self, node: Node) -> str:
        """A quantity by the author's name for it, else as it is written."""
        return node.name or expression(next(g for g in reversed(self.formula.stages) if node in g.live), node)

    def rewritten(self, nodes: Sequence[Node], write: Change) -> Formula:
        """The formula with something else at these places."""
        places = {self.text[n] for n in nodes}

        def change(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg | None:
            return write(copy, node, args) if self.text[node] in places else None

        return changed(self.formula, change)


def _is_correction(node: Node) -> bool:
    """Whether it is a bias correction, `1 - x**t`."""
    return node.op == "sub" and is_one(node.args[0]) and is_op(node.args[1], "pow") and named(node.args[1].args[1], "t")


def all_and_each(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """All places together and, where there are several, each alone."""
    if nodes:
        yield list(nodes)
    if len(nodes) > 1:
        for node in nodes:
            yield [node]


# What is written in a place, from its operation and that operation's arguments.


def one(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
    """The number 1."""
    return 1.0


def first(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
    """The first argument."""
    return args[0]


def second(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
    """The second argument."""
    return args[1]


def operation(op: str, *, named: bool = False) -> Change:
    """Another operation of the same arguments; `named` keeps the author's name for it."""

    def write(copy: Copy, node: Node, args: tuple[Arg, ...]) -> Arg:
        return copy.add(op, *args, name=node.name if named else None)

    return write
