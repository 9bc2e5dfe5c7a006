"""The point at which a variant's model is read, as a graph and a program, for every compiled form."""

from __future__ import annotations

from functools import lru_cache
from typing import NoReturn

from steprule.compiler.graph import Graph
from steprule.compiler.phases import totals_of
from steprule.compiler.shapes import ShapeNeededError
from steprule.compiler.split import Program, split
from steprule.compiler.tracer import traced
from steprule.compiler.variant import NOTHING, Variant
from steprule.errors import RuleError
from steprule.rules.rule import Rule


def point_graph(variant: Variant, absent: frozenset[str] = NOTHING) -> Graph | None:
    """The graph whose new p is the point, and which hands the slots on; None for a rule that is read at p.

    `absent`: the slots that are None after the step. Raises `RuleError` where the point asks for a total: it has no phases.
    """
    point = variant.rule.evaluation  # it may be stated, or stated anew, when the variant is known already
    return None if point is None else _graph(variant, point, absent)


def refuse_total(rule: Rule) -> NoReturn:
    """Raise for a point of evaluation that asks for a total: it has no phases, and each tensor would find its own sum."""
    file, line = (rule.evaluation or rule).lines
    hint = "Take the total in the rule, and keep it in a slot of OnePerModel."
    where = f"{file}:{line}: {rule.name}.evaluated"
    raise RuleError(where, expected="what each tensor has on its own", got="a total over all tensors", hint=hint)


def point_program(variant: Variant, absent: frozenset[str] = NOTHING) -> Program | None:
    """The same, split: it stores p alone."""
    point = variant.rule.evaluation
    return None if point is None else _program(variant, point, absent)


@lru_cache(maxsize=1024)
def _graph(variant: Variant, point: Rule, absent: frozenset[str]) -> Graph:
    unused = {s.name for s in variant.rule.slots} - variant.slots
    switches = dict(variant.switches)
    try:
        graph = traced(point, switches, absent=absent | unused, reduced=variant.reduced, shape=variant.shape)
    except ShapeNeededError:
        where, hint = (
            "{}:{}: {}.evaluated".format(*point.lines, variant.rule.name),
            "Let the step ask for the shape too.",
        )
        raise RuleError(
            where, expected="a point that asks for no shape, as its step does", got="one", hint=hint
        ) from None
    if totals_of(graph):
        refuse_total(variant.rule)
    return graph


@lru_cache(maxsize=1024)
def _program(variant: Variant, point: Rule, absent: frozenset[str]) -> Program:
    return split(_graph(variant, point, absent))


def points_of(variant: Variant) -> tuple[Program, ...]:
    """The programs of the point behind the first step, the second and so on, as the stages of a training; the last one repeats."""
    after = variant.stages[1:] or variant.stages
    programs = (point_program(variant, absent) for absent in after)
    return tuple(program for program in programs if program is not None)


def reduces(variant: Variant) -> bool:
    """Whether a step, a point to which it looks, or the point of evaluation, asks for a number over a whole tensor."""
    programs = points_of(variant)
    return any(
        [variant.reduces, *(look.reduces for look in variant.looks), *(q.graph.asks_for_reductions for q in programs)]
    )
