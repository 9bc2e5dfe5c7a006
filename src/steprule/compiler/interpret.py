"""Run a graph's nodes one after the other, on any kind of number that a rule runs on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from steprule.compiler.graph import Node
from steprule.maths import OPERATIONS


def interpret(nodes: Iterable[Node], known: dict[Node, Any]) -> None:
    """Add the value of each node, in order, to those that are known; within `computing`."""
    for node in nodes:
        args = [known[a] if isinstance(a, Node) else a for a in node.args]
        row = OPERATIONS[node.op]
        if node.op == "sort_by" or (row.reduction and len(args) > 1):  # along an axis
            known[node] = row.call(*args[:-1], axis=args[-1])
        else:
            known[node] = row.call(*args)
