"""The graph of a variant: the operations of a rule's step in order, from which every form is printed.

Every target is printed from this graph, so none can drift from the rule. It is our own and not `torch.fx`'s, so that
showing a rule needs no torch (`benchmarks/show_without_torch.py` has the figures), and small: a node is an operation, its
arguments, and the name that the author gave the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from steprule.hyper import Value
from steprule.rules.rule import Rule


class Kind(StrEnum):
    """How often a node is computed: once a step, once a model when a total is known, once a tensor, or once an element."""

    SCALAR = "scalar"
    MODEL = "model"
    REDUCTION = "reduction"
    ELEMENT = "element"


@dataclass(eq=False)
class Node:
    """One operation. `args` are nodes or plain numbers; an `input` has none. `name` is the author's."""

    op: str
    args: tuple[Node | float | int | bool, ...]
    kind: Kind
    name: str | None = None
    truth: bool = False
    """Whether it is a truth value (a comparison), not a number."""
    place: str = ""
    """Of a total, where the author asks for it: the same place in another variant is the same total."""

    def __repr__(self) -> str:
        shown = ", ".join(a.name or f"<{a.op}>" if isinstance(a, Node) else repr(a) for a in self.args)
        return f"{self.name or '_'} = {self.op}({shown})"


@dataclass(eq=False)
class Graph:
    """What one variant of a rule computes, in order."""

    rule: Rule
    switches: Mapping[str, Value]
    absent: frozenset[str]
    """The slots that were None."""
    inputs: dict[str, Node] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    asks_for_reductions: bool = False
    """Whether the rule calls one, be it of a number that is one already."""
    outputs: dict[str, Node | float | None] = field(default_factory=dict)
    """The new p and each new slot; None for a slot that stays absent."""

    @property
    def live(self) -> list[Node]:
        """The nodes that an output depends on, in order."""
        wanted: set[Node] = set()
        todo = [n for n in self.outputs.values() if isinstance(n, Node)]
        while todo:
            node = todo.pop()
            if node not in wanted:
                wanted.add(node)
                todo += [a for a in node.args if isinstance(a, Node)]
        return [n for n in (*self.inputs.values(), *self.nodes) if n in wanted]
