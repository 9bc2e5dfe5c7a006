"""The point at which a variant's model is read, as a graph and a program, for every compiled form."""

from __future__ import annotations

from functools import lru_cache

from steprule.compiler.graph import Graph
from steprule.compiler.split import Program, split
from steprule.compiler.tracer import trace
from steprule.compiler.variant import NOTHING, Variant
from steprule.rules.rule import Rule


def point_graph(variant: Variant, absent: frozenset[str] = NOTHING) -> Graph | None:
    """The graph whose new p is the point, and which hands the slots on; None for a rule that is read at p.

    `absent`: the slots that are None after the step.
    """
    point = variant.rule.evaluation  # it may be stated, or stated anew, when the variant is known already
    return None if point is None else _graph(variant, point, absent)


def point_program(variant: Variant, absent: frozenset[str] = NOTHING) -> Program | None:
    """The same, split: it stores p alone."""
    point = variant.rule.evaluation
    return None if point is None else _program(variant, point, absent)


@lru_cache(maxsize=1024)
def _graph(variant: Variant, point: Rule, absent: frozenset[str]) -> Graph:
    unused = {s.name for s in variant.rule.slots} - variant.slots
    return trace(point, dict(variant.switches), absent=absent | unused, reduced=variant.reduced)


@lru_cache(maxsize=1024)
def _program(variant: Variant, point: Rule, absent: frozenset[str]) -> Program:
    return split(_graph(variant, point, absent))


def points_of(variant: Variant) -> tuple[Program, ...]:
    """The programs of the point behind the first step, the second and so on, as the stages of a training; the last one repeats."""
    after = variant.stages[1:] or variant.stages
    programs = (point_program(variant, absent) for absent in after)
    return tuple(program for program in programs if program is not None)


def reduces(variant: Variant) -> bool:
    """Whether a step, or the point of evaluation, asks for a number over a whole tensor."""
    return variant.reduces or any(program.graph.asks_for_reductions for program in points_of(variant))
