"""What the ifs on one way through a rule, and the bounds of its numbers, tell of a further comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from steprule.compiler.graph import Node
from steprule.hyper import Hyper
from steprule.rules.rule import Rule

_OPPOSITE = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}
_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}

Fact = tuple[str, float]
"""A sign and a number: what is compared is on the left of the sign."""


def implied(rule: Rule, decided: Mapping[Node, bool], condition: Node) -> bool | None:
    """The answer to a condition, where earlier answers and bounds leave but one: a way that no step can go is not traced.

    Only conditions on the step number and on hyperparameters have one, for these are never nan.
    """
    asked = _compared(condition)
    if asked is None:
        return None
    x, (sign, number) = asked
    name = x.name or ""
    if x.op != "input" or name not in {"t"} | {h.name for h in rule.hypers}:
        return None
    facts: list[Fact] = [("ge", 1.0)] if name == "t" else [*_bounds_of(rule.hyper(name))]
    for node, answer in decided.items():
        earlier = _compared(node)
        if earlier is not None and earlier[0] is x:
            sign_then, number_then = earlier[1]
            facts.append((sign_then if answer else _OPPOSITE[sign_then], number_then))
    return _follows(facts, sign, number)


def _compared(node: Node) -> tuple[Node, Fact] | None:
    """A comparison of a node with a number."""
    if node.op not in _OPPOSITE:
        return None
    a, b = node.args
    if isinstance(a, Node) and not isinstance(b, Node):
        return a, (node.op, float(b))
    if isinstance(b, Node) and not isinstance(a, Node):
        return b, (_MIRRORED[node.op], float(a))
    return None


def _bounds_of(hyper: Hyper) -> Iterator[Fact]:
    for bound in hyper.bounds:
        for sign in ("ge", "gt", "le", "lt"):
            if (limit := getattr(bound, sign, None)) is not None:
                yield sign, float(limit)


def _follows(facts: list[Fact], sign: str, c: float) -> bool | None:
    """Whether `x sign c` holds wherever all facts do; None where it may and may not."""
    low, is_open = max([(-math.inf, False), *((v, s == "gt") for s, v in facts if s in ("ge", "gt", "eq"))])
    high, is_closed = min([(math.inf, True), *((v, s != "lt") for s, v in facts if s in ("le", "lt", "eq"))])
    below = high < c or (high == c and not is_closed)
    above = low > c or (low == c and is_open)
    if sign in ("eq", "ne"):
        if (sign, c) in facts:
            return True
        if (_OPPOSITE[sign], c) in facts:
            return False
        if below or above:
            return sign == "ne"
        return True if sign == "eq" and low == high == c else None
    if sign in ("ge", "gt"):
        opposite = _follows(facts, _OPPOSITE[sign], c)
        return None if opposite is None else not opposite
    if below or (sign == "le" and high == c):
        return True
    return False if above or (sign == "lt" and low == c) else None
