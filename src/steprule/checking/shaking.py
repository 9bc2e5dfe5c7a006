"""Shows how far rounding alone moves a rule's results: each operation's result is moved by an ulp or left."""

from __future__ import annotations

from typing import Any

import numpy as np

from steprule.compiler.graph import Graph, Node
from steprule.compiler.interpret import interpret

EXACT = frozenset(["sign", "neg", "abs", "where", "maximum", "minimum", "clamp", "max", "min"])
"""Operations that do not round."""
EITHER_ZERO = frozenset(["maximum", "minimum", "clamp", "max", "min"])
"""Operations that may give a zero of either sign, in torch too."""
ADDED = frozenset(["sum", "mean", "norm", "total"])
"""Reductions that may add in any order: where terms cancel, the error is that of the terms, not of the sum."""


def shake(graph: Graph, known: dict[Node, Any], ulp: float, rng: np.random.Generator, signs: tuple[float, ...]) -> None:
    """Compute every node of the graph into `known`, which holds the inputs.

    Results and terms are moved by `ulp` of their size up or down, or left; with `ulp` 0 all are left. Zeros that may have either sign
    get one of `signs`.
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
            if isinstance(value, float):
                known[node] = value + float(zeros)
            else:
                known[node] = np.where(value == 0, zeros, value).view(type(value))
        if ulp and not node.truth and node.op not in EXACT:
            known[node] = moved(known[node])
