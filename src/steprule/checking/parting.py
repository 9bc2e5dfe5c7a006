"""Walks two rules side by side to the first step and quantity in which they part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from steprule.checking import probe
from steprule.checking.cases import numbers
from steprule.checking.report import Parting
from steprule.compiler import eager
from steprule.rules.parts import composed
from steprule.rules.rule import Rule

STEPS = 30  # at their defaults


def parting(ours: Rule, theirs: Rule, names: Mapping[str, str] | None = None) -> Parting | None:
    """Where two rules part: they walk from the same start with the same gradients, at their defaults and a common learning rate.

    Where they do not part, they walk again with all common numbers away from their defaults: this shows a weight decay whose default
    is 0 and an epsilon that is too small to be seen. `names` maps our states that are compared to theirs; the same names if not given.
    """
    ours, theirs = composed(ours), composed(theirs)
    pairs = {s.name: s.name for s in ours.slots} if names is None else names
    hypers = [r.bind({"lr": 0.01} if "lr" in r.defaults else {}) for r in (ours, theirs)]
    found = first_difference((ours, theirs), hypers, *walk_at_defaults(), pairs)
    if found is not None:
        return found
    values = {n: v for n, v in probe.probing(ours).items() if n in theirs.defaults and not theirs.hyper(n).is_plain}
    hypers = [{**r.defaults, **values} for r in (ours, theirs)]
    found = first_difference((ours, theirs), hypers, probe.start(), list(probe.gradients()), pairs)
    return None if found is None else replace(found, settings=values)


def walk_at_defaults() -> tuple[Any, list[Any]]:
    """The start and the gradients of the walk at defaults."""
    return numbers(0, 5), [numbers(t, 5) for t in range(1, STEPS + 1)]


def first_difference(
    both: tuple[Rule, Rule], hypers: list[dict[str, Any]], start: Any, gradients: list[Any], names: Mapping[str, str]
) -> Parting | None:
    """The first step at which p, where the model is read, or one of these states differs.

    `names` maps the first rule's states to the second's.
    """
    p = [start, start]
    states: list[dict[str, Any]] = [{}, {}]
    for t, g in enumerate(gradients, start=1):
        for k, r in enumerate(both):
            p[k], states[k] = eager.step(r, p[k], g, states[k], t, hypers[k])
        ours, theirs = states
        pairs = [("p", p[0], p[1])]
        if any(r.evaluation for r in both):
            read = [eager.evaluated(r, p[k], states[k], t, hypers[k]) for k, r in enumerate(both)]
            pairs.insert(0, (probe.POINT, *read))
        pairs += [(n, ours[n], theirs[other]) for n, other in names.items() if n in ours and other in theirs]
        for name, a, b in reversed(pairs):  # a state shows the cause, p the effect
            if probe.differs(a, b):
                return Parting(t, name, *worst(a, b))
    return None


def worst(a: Any, b: Any) -> tuple[float, float]:
    """Both numbers at the element that differs most; nan for an absent one."""
    if a is None or b is None:
        return _first(a), _first(b)
    x, y = np.ravel(np.asarray(a, dtype=np.float64)), np.ravel(np.asarray(b, dtype=np.float64))
    with np.errstate(all="ignore"):
        gap = np.abs(x - y) / np.maximum(np.maximum(np.abs(x), np.abs(y)), 1e-300)
    gap = np.where(np.isnan(gap) & ~(np.isnan(x) & np.isnan(y)), np.inf, gap)
    k = int(np.nanargmax(gap))
    return float(x[k]), float(y[k])


def _first(value: Any) -> float:
    return math.nan if value is None else float(np.ravel(value)[0])
