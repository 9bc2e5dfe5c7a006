"""A step taken apart: every quantity of a variant's formula in order, with its value, to be followed by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steprule.arithmetic import computing
from steprule.compiler import formula
from steprule.compiler.graph import Graph, Node
from steprule.compiler.interpret import interpret


@dataclass(frozen=True)
class Quantity:
    """One quantity: `key`, the code's name for it, once only; how it comes about, in LaTeX; its place in the graph."""

    key: str
    left: str
    """The letter that it gets; empty for a factor without a name, such as a bias correction."""
    right: str
    node: Node


def rows(graph: Graph) -> list[Quantity]:
    """The statements of the formula, and before its reader each number that the step shares, in order.

    >>> from steprule import rules
    >>> from steprule.compiler.tracer import trace
    >>> [row.key for row in rows(trace(rules.rmsprop_eps_inside))]
    ['1 - alpha', 'square_avg', 'p']
    """
    found: list[Quantity] = []
    results = set(graph.outputs.values())
    for node, name, left, right in formula.parts(graph):
        # The result has its name for itself: decoupled decay rebinds p on the way to it.
        name = f"{name}, inner" if name in graph.outputs and node not in results else name
        key, count = name, 1
        while any(row.key == key for row in found):
            count += 1
            key = f"{name}_{count}"
        found.append(Quantity(key, left, right, node))
    return found


def values(graph: Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each row where p, g, the slots, hyperparameters and t are `inputs`: of any kind a rule runs on.

    >>> from steprule import rules
    >>> from steprule.compiler.tracer import trace
    >>> graph = trace(rules.rmsprop_eps_inside)
    >>> found = values(graph, {"p": 1.0, "g": 2.0, "square_avg": 0.0, "lr": 0.1, "alpha": 0.9, "eps": 1e-6})
    >>> round(found["square_avg"], 6), round(found["p"], 6)
    (0.4, 0.683773)
    """
    names = list(graph.inputs)
    own = inputs["p"].shape if graph.sizes is not None else None
    inputs = {**graph.values_of_shape, **inputs}
    for name, dims in graph.dims_of.items():  # as the rule sees them
        if name in names and (sizes := tuple((graph.sizes or {})[d] for d in dims)):
            inputs[name] = inputs[name].reshape(sizes)
    with computing(inputs["p"], [inputs[n] for n in names]) as (lifted, back):
        known: dict[Node, Any] = dict(zip(graph.inputs.values(), lifted, strict=True))
        interpret([n for n in graph.live if n.op != "input"], known)
        found = {row.key: back(known[row.node]) for row in rows(graph)}
    if own is None:
        return found
    count = math.prod(own)
    return {k: v.reshape(own) if hasattr(v, "shape") and math.prod(v.shape) == count else v for k, v in found.items()}
