"""Run a graph's nodes one after the other, on any kind of number that a rule runs on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from steprule.compiler.graph import Node
from steprule.maths import OPERATIONS


def interpret(nodes: Iterable[Node], known: dict[Node, Any]) -> None:
    """Add the value of each node, in order, to those that are known; within `computing`."""
    for node in nodes:
        known[node] = OPERATIONS[node.op].call(*[known[a] if isinstance(a, Node) else a for a in node.args])
