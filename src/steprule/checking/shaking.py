"""How far rounding alone may move a rule's results: each operation's result moves by an ulp or not."""

from __future__ import annotations

from typing import Any

import numpy as np

from steprule.compiler.graph import Graph, Node
from steprule.compiler.interpret import interpret

EXACT = frozenset(["sign", "neg", "abs", "where", "maximum", "minimum", "clamp", "max", "min"])
"""Operations that round nothing."""
EITHER_ZERO = frozenset(["maximum", "minimum", "clamp", "max", "min"])
"""Operations whose zeros have either sign, in torch too."""
ADDED = frozenset(["sum", "mean", "norm"])
"""Reductions, whose order of adding is free: what cancels errs by its terms and not by its sum."""


def shake(graph: Graph, known: dict[Node, Any], ulp: float, rng: np.random.Generator, signs: tuple[float, ...]) -> None:
    """Compute every node of the graph into `known`, which holds the inputs; results and terms are moved by `ulp` of their size, up,
    down or not. Zeros of either sign get one of `signs`. With `ulp` 0 nothing is moved.
    """

    def moved(value: Any) -> Any:
        factor = 1 + ulp * rng.choice([-1.0, 0.0, 1.0], size=np.shape(value))
        return type(value)(value * factor) if isinstance(value, float) else value * factor

    for node in graph.live:
        if node.op == "input":
            continue
        source = node.args[0] if ulp and node.op in ADDED else None
        if isinstance(source, Node):
            exact = known[source]
            known[source] = moved(exact)
            interpret([node], known)
            known[source] = exact
        else:
            interpret([node], known)
        if ulp and node.op in EITHER_ZERO:
            value = known[node]
            zeros = 0 * rng.choice(signs, size=np.shape(value))
            known[node] = (
                value + float(zeros)
                if isinstance(value, float)
                else np.where(value == 0, zeros, value).view(type(value))
            )
        if ulp and not node.truth and node.op not in EXACT:
            known[node] = moved(known[node])
