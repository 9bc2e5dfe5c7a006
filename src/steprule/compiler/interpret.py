"""Run a graph's nodes one after the other, on any kind of number that a rule runs on."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from steprule import maths
from steprule.compiler.graph import OPERATORS, Node


def interpret(nodes: Iterable[Node], known: dict[Node, Any]) -> None:
    """Add the value of each node, in order, to those that are known; within `computing`."""
    for node in nodes:
        function = operator.pow if node.op == "pow" else OPERATORS.get(node.op) or getattr(maths, node.op)
        known[node] = function(*[known[a] if isinstance(a, Node) else a for a in node.args])
