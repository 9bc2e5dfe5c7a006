"""Compares every installed form with the author's function on torch tensors, over one walk.

The tolerance is measured: the graph runs again with each operation's result moved by an ulp, and a form may be off by a multiple of
the movement. A form that cannot run here is named with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from steprule.arithmetic import computing
from steprule.checking.cases import STEPS, Case, Walk, at, plain, starts, walk
from steprule.checking.probe import POINT, supplied
from steprule.checking.report import FailedError, NotRunError, in_one_line
from steprule.checking.shaking import shake
from steprule.checking.walks import FORMS
from steprule.compiler.graph import Graph, Node
from steprule.compiler.points import point_graph

# Relative, over four steps in float64: sqrt, exp, log and pow may differ in the last bits between libraries.
SAME_FLOAT64 = 1e-13
# A form may be off by this many times the movement: forms order and fold operations differently, and the functions of other libraries
# differ by an ulp or two.
SHAKEN = 60
SHAKES = 3
RUN = "run"


def compare(cases: Sequence[Case]) -> tuple[dict[str, str], float]:
    """Each form with "run" or the reason why it was not run; and the largest difference from the author's function.

    Raises `FailedError` for the first form that differs, with the place and both numbers.
    """
    found, worst = {"torch": RUN}, 0.0
    wanted = [walk(case, torch.from_numpy) for case in cases]
    allowed = [_allowed(case, right) for case, right in zip(cases, wanted, strict=True)]
    for name, run in FORMS.items():
        try:
            walks = run(cases)
        except NotRunError as reason:
            found[name] = str(reason)
            continue
        except FailedError:
            raise
        except Exception as error:
            raise FailedError(f"{in_one_line(error, cases[0].rule)} (in {name})") from error
        for case, got, right, limit in zip(cases, walks, wanted, allowed, strict=True):
            if got is not None:
                worst = max(worst, _gap(name, case, got, right, limit))
        element_wise = name != "floats" or any(w is not None for w in walks)
        found[name] = RUN if element_wise else "the rule reduces over a tensor"
    return found, worst


def _gap(form: str, case: Case, got: Walk, wanted: Walk, allowed: Walk) -> float:
    """The largest difference, relative to the largest element of its quantity."""
    worst = 0.0
    for t, (mine, theirs, limit) in enumerate(zip(got, wanted, allowed, strict=True), start=1):
        for name, right in theirs.items():
            a = mine.get(name)
            if a is None and right is None:
                continue
            if a is None or right is None:
                there, not_there = ("torch", form) if a is None else (form, "torch")
                raise FailedError(f"step {t}: {name} is there in {there} and absent in {not_there}{at(case)}")
            if np.shape(a) != np.shape(right):
                shapes = f"{np.shape(a)} in {form}, {np.shape(right)} in torch"
                raise FailedError(f"step {t}: {name} has shape {shapes}{at(case)}")
            with np.errstate(all="ignore"):
                same = (a == right) | (np.isnan(a) & np.isnan(right))
                apart = np.where(same, 0.0, np.abs(a - right))
            if not (same | (apart <= limit[name])).all():
                beyond = np.where(np.isnan(apart), np.inf, apart - limit[name])
                k = int(np.argmax(beyond))
                x, y = float(np.ravel(a)[k]), float(np.ravel(right)[k])
                raise FailedError(f"step {t}: {name} is {x!r} in {form}, {y!r} in torch{at(case)}")
            worst = max(worst, _share(apart, right))
    return worst


def _share(apart: Any, right: Any) -> float:
    """The largest finite difference, relative to the largest finite element."""
    size = float(np.max(np.abs(right), where=np.isfinite(right), initial=0.0))
    largest = float(np.max(apart, where=np.isfinite(apart), initial=0.0))
    return largest / size if size > 0 else 0.0


# The reference, and how far rounding may move it.


def _allowed(case: Case, wanted: Walk) -> Walk:
    """How far each number may be off."""
    runs = [_shaken(case, seed) for seed in range(SHAKES)]
    # Compared with the graph itself, not with the author's function: a difference between those two is not rounding.
    unmoved = _shaken(case, None)
    found = []
    for t, step in enumerate(wanted):
        row: dict[str, Any] = {}
        for name, right in step.items():
            if right is None:
                row[name] = None
                continue
            with np.errstate(all="ignore"):
                moved = np.max([np.abs(run[t][name] - unmoved[t][name]) for run in runs], axis=0)
                size = np.max(np.where(np.isfinite(right), np.abs(right), 0.0), initial=0.0)
            # Where a single ulp decides whether a number is nan, anything is allowed.
            row[name] = np.where(np.isfinite(moved), SAME_FLOAT64 * size + SHAKEN * moved, np.inf)
        found.append(row)
    return found


def _shaken(case: Case, seed: int | None) -> Walk:
    """The walk by the graph, with each operation's result moved up or down by an ulp or left; without a seed all are left."""
    ulp = 0.0 if seed is None else 2.3e-16
    rng = np.random.default_rng(seed)
    variant, found = case.variant, []
    held = starts(case)
    p: Any = case.numbers(0)
    ones = {s.name for s in case.rule.slots if s.is_number}
    for t in range(1, STEPS + 1):
        graph = variant.graph(variant.stages[min(t, len(variant.stages)) - 1])
        given = {**case.hypers, **held, **graph.values_of_shape, "p": p, "g": case.numbers(t), "t": float(t)}
        for k, (name, look) in enumerate(zip(case.rule.looked, variant.looks, strict=False)):
            there = _shaken_point(look.graph(graph.absent & look.slots), given, ulp, rng)
            given[name] = supplied(case.rule, k, t, case.numbers(t), np.broadcast_to(there, case.shape))
        names = [n for n in graph.inputs if given.get(n) is not None]
        with computing(p, [given[n] for n in names]) as (lifted, _):
            known: dict[Node, Any] = {graph.inputs[n]: v for n, v in zip(names, lifted, strict=True)}
            shake(graph, known, ulp, rng, (-1.0, 1.0))
        for name, output in graph.outputs.items():
            if output is None:
                continue
            new = np.asarray(known[output] if isinstance(output, Node) else output, dtype=np.float64)
            if name in ones:
                held[name] = float(new.reshape(-1)[0])
            else:
                held[name] = np.broadcast_to(new, case.sizes(name)).copy()
        p = held.pop("p")
        found.append({"p": plain(p)} | {n: plain(held.get(n)) for n in case.slots})
        if (point := point_graph(variant, case.absent_after(t))) is not None:
            known_then = {**case.hypers, **held, **point.values_of_shape, "p": p, "t": float(t)}
            found[-1][POINT] = np.broadcast_to(_shaken_point(point, known_then, ulp, rng), case.shape)
    return found


def _shaken_point(graph: Graph, given: Mapping[str, Any], ulp: float, rng: np.random.Generator) -> Any:
    """The point of evaluation, or of a look, by its graph, with each operation's result moved in the same way."""
    names = [n for n in graph.inputs if given.get(n) is not None]
    with computing(given["p"], [given[n] for n in names]) as (lifted, _):
        known: dict[Node, Any] = {graph.inputs[n]: v for n, v in zip(names, lifted, strict=True)}
        shake(graph, known, ulp, rng, (-1.0, 1.0))
    output = graph.outputs["p"]
    return np.asarray(known[output] if isinstance(output, Node) else output, dtype=np.float64)
