"""The graph of a variant: the operations of a rule's step in order, from which every form is printed.

Every target is printed from this graph, so none can drift from the rule. It is our own and not `torch.fx`'s, so that
showing a rule needs no torch (`benchmarks/show_without_torch.py` has the figures), and small: a node is an operation, its
arguments, and the name that the author gave the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from steprule.hyper import Value
from steprule.rules.rule import Rule

Dims = tuple[str, ...]
"""The axes of an array, by name (shapes.py)."""


class Kind(StrEnum):
    """How often a node is computed: once a step, once a model when a total is known, once a tensor, or once an element."""

    SCALAR = "scalar"
    MODEL = "model"
    REDUCTION = "reduction"
    ELEMENT = "element"


@dataclass(frozen=True, eq=False)
class Macro:
    """What a function of the library that is written in the language itself was called with, for formulas."""

    name: str
    of: Any
    """What it was called with first: a `Node`, mostly."""
    others: tuple[Any, ...]
    inner: Macro | None = None
    """Where the function hands on what another such function gave: that one."""


@dataclass(eq=False)
class Node:
    """One operation. `args` are nodes or plain numbers; an `input` has none. `name` is the author's."""

    op: str
    args: tuple[Node | float | int | bool, ...]
    kind: Kind
    name: str | None = None
    truth: bool = False
    """Whether it is a truth value (a comparison), not a number."""
    dims: Dims | None = None
    """The axes of an array; None for a number, and where the rule asks for no shape."""
    dtype: str = ""
    """The dtype that it was cast to; empty for the one computed in."""
    macro: Macro | None = None
    """Where it is the result of such a function: its name and what it was called with."""
    place: str = ""
    """For a total: where the author asks for it. The same place in another variant is the same total."""

    def __repr__(self) -> str:
        shown = ", ".join(a.name or f"<{a.op}>" if isinstance(a, Node) else repr(a) for a in self.args)
        return f"{self.name or '_'} = {self.op}({shown})"


@dataclass(eq=False)
class Way:
    """One way through a rule: what its ifs on numbers of the step were told, and what comes out."""

    answers: Mapping[Node, bool]
    outputs: dict[str, Node | float | None]


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
    sizes: Mapping[str, int] | None = None
    """The size of each axis, where the rule asks for shapes: the graph then holds for tensors of one shape, as the rule sees them."""
    dims_of: Mapping[str, Dims] = field(default_factory=dict)
    """The axes of p, g and each slot of elements, there."""
    ways: list[Way] = field(default_factory=list)
    """Where it asks for shapes: each way through its ifs on numbers of the step. `outputs` merges them."""

    @property
    def values_of_shape(self) -> dict[str, float]:
        """The numbers of the shape that go into a step."""
        return {f"{name}(p)": float(n) for name, n in (self.sizes or {}).items() if name != "1"}

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
