"""A rule as a page has it: the functions of its stages as JavaScript, and its formula as MathML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from steprule.compiler import anatomy, formula, javascript
from steprule.compiler.graph import Graph
from steprule.compiler.points import point_graph
from steprule.compiler.variant import Variant, asks_for_shapes
from steprule.reports.mathml import mathml
from steprule.rules.rule import Rule


class Functions(NamedTuple):
    """What a page runs of one variant, each a list in JavaScript."""

    steps: str
    """The functions of the stages, from the first step to the one that repeats."""
    points: str
    """The functions that give the point where the model is read, by stage; an empty list for a rule that is read at p."""
    looks: str
    """By look a list of the functions of its stages."""


def functions(variant: Variant, size: int | None) -> Functions:
    """The functions of a variant for tensors of `size` numbers, or of any number where `size` is None.

    Raises `InputError` for a rule that asks for more than products and transposes of matrices.
    """
    steps = [variant.graph(absent) for absent in variant.stages]
    looks = [_listed([look.graph(absent) for absent in variant.stages], size) for look in variant.looks]
    return Functions(_listed(steps, size), _listed(_points(variant), size), f"[{', '.join(looks)}]")


def function(graph: Graph, size: int | None) -> str:
    """A step of a tensor of `size` numbers, as a function without a name."""
    head, body = javascript.source(graph, size).split("(", 1)
    assert head.startswith("function ")
    return f"function ({body}"


def slots(rule: Rule, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """The states of a rule beside a parameter of this shape: how each starts, and of how many numbers it is."""
    return [
        {"name": s.name, "start": s.start, "perTensor": s.is_number, "size": math.prod(s.sizes(rule.seen(shape)))}
        for s in rule.states
    ]


def supplied(rule: Rule) -> dict[str, Any]:
    """What whoever steps a rule supplies, and whether its functions call those of matrices."""
    shapes = asks_for_shapes(rule)
    return {"looked": rule.looked, "draws": rule.draws, "asksForLoss": rule.asks_for_loss, "asksForShapes": shapes}


def helpers(rules: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the functions of these rules call, as `supplied` says it, and the page for them."""
    asked = {name for about in rules for name in ("draws", "asksForShapes") if about[name]}
    return [
        text for name, text in (("draws", javascript.NOISE), ("asksForShapes", javascript.MATRICES)) if name in asked
    ]


def about(variant: Variant, maths: Maths) -> dict[str, Any]:
    """What the page says of a variant: its formula by stage, its letters, and the slots that it starts with."""
    found: dict[str, Any] = {
        "stages": [_rows(variant.graph(absent), maths) for absent in variant.stages],
        "where": _where(variant, maths),
        "slots": sorted(variant.slots - variant.first_absent),
    }
    if points := _points(variant):
        found["evaluated"] = [maths(formula.point_letters(graph)) for graph in points]
    if variant.looks:
        shown = [maths(lines[-1]) for lines in formula.look_latex(variant)]
        found["looks"] = list(zip(formula.supplied(variant), shown, strict=True))
    return found


def _points(variant: Variant) -> list[Graph]:
    """The graphs of where the model is read, behind the first step and so on."""
    after = variant.stages[1:] or variant.stages
    return [graph for absent in after if (graph := point_graph(variant, absent)) is not None]


def _listed(graphs: Iterable[Graph], size: int | None) -> str:
    return f"[{', '.join(function(graph, size) for graph in graphs)}]"


def _rows(graph: Graph, maths: Maths) -> list[dict[str, Any]]:
    return [{"key": r.key, "shown": maths(f"{r.left} = {r.right}" if r.left else r.right)} for r in anatomy.rows(graph)]


def _where(variant: Variant, maths: Maths) -> list[dict[str, Any]]:
    known = formula.where(variant.graph(), *(look.graph() for look in variant.looks))
    return [{"shown": maths(letter), "name": name} for letter, name, _ in known]


class Maths:
    """Formulas as MathML, each once: many variants share their lines."""

    def __init__(self) -> None:
        self.drawn: list[str] = []
        self.places: dict[str, int] = {}

    def __call__(self, latex: str) -> int:
        """The place of a formula in `drawn`."""
        if latex not in self.places:
            self.places[latex] = len(self.drawn)
            self.drawn.append(mathml(latex))
        return self.places[latex]
