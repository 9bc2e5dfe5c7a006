"""`steprule.sweep`: one rule over many hyperparameter points and seeds."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steprule.compiler import cache
from steprule.compiler.variant import needs_shape, switches_of
from steprule.counts import seeds_of
from steprule.errors import unknown_name
from steprule.keywords import shows
from steprule.lanes.choose import Choice, Compile, choose
from steprule.lanes.model import blank
from steprule.lanes.one_by_one import one_by_one
from steprule.lanes.records import WINDOWS, Array, Outcome, Trainings, bound, by_variant, taken
from steprule.lanes.train import train_lanes
from steprule.optim.mixture import warn_without_matrices
from steprule.per_kind import PerKind
from steprule.problems import catalogue as problems, scoring
from steprule.problems.problem import Problem
from steprule.problems.source import PARTS
from steprule.provenance import check_device, versions
from steprule.rules.rule import Rule
from steprule.schedules import Given
from steprule.sweeps.cost import cost_of
from steprule.sweeps.estimate import AlikeTrainings, Estimate, estimate, work_of
from steprule.sweeps.points import Points, points_of
from steprule.sweeps.result import Sweep
from steprule.trainable import Optimizable, Stating, Trainable, stated
from steprule.training.recipe import Recipe

AT_ONCE = 16_384
"""Lanes that are trained together."""
SHARED = 64
"""Points of one seed from which they are trained apart from other seeds."""
Progress = Callable[[int, int, str], None]
"""Called with (lanes done, lanes in all, label)."""


class Options(TypedDict, total=False):
    """How a sweep is made, whatever it trains; `steprule.sweep` explains each."""

    compile: Compile
    device: str
    progress: Progress | None
    told: Callable[[Estimate], None] | None
    measure: bool


DEFAULTS: Options = {"compile": "auto", "device": "cpu", "progress": None, "told": None, "measure": False}


@shows(Options, DEFAULTS)
def sweep(
    rule: Optimizable,
    problem: str | Problem = "airfoil",
    hypers: Mapping[str, ArrayLike] | None = None,
    seeds: int | Iterable[int] = 1,
    *,
    schedule: Given | Sequence[Given] = "constant",
    epochs: int | Sequence[int] | None = None,
    batch_size: int | Sequence[int] | None = None,
    **options: Unpack[Options],
) -> Sweep:
    """Train `problem` at every hyperparameter point with every seed, thousands at once.

    Args:
        rule: a rule; or an Optimizer class or a factory, whose lanes run one by one.
        problem: a problem, its name, or `file.py:name`.
        hypers: by name one number for all points, or an array [points]; arrays are of one length. Any of the rule's.
        seeds: how many, from 0; or the seeds themselves. A seed decides the initial weights and the batches, for all
            points alike.
        schedule: of the learning rate, as in `steprule.train`; or one for each point.
        epochs: passes over the data; the problem's own if not given; or one for each point.
        batch_size: samples per step; the same. Points that share both are trained together.
        options: by keyword, any of these:

            - `compile="auto"`: True prints the model as a kernel over lanes; False takes `torch.vmap`, which compiles nothing;
              "auto" compiles where lanes x steps x parameters make it worth its seconds.
            - `device="cpu"`: where to train, as torch names it; kernels run on the CPU, elsewhere everything is torch's operations.
            - `progress=None`: called with (lanes done, lanes in all, label).
            - `told=None`: called with what it will take, before anything is trained; what it raises ends the sweep.
            - `measure=False`: whether seconds and memory are measured for `told` even where the sweep is short.

    Raises:
        StepruleError: an unknown name, a value out of bounds, arrays of different lengths.

    >>> found = sweep("adam", "airfoil", {"lr": [0.001, 0.01, 0.1]}, seeds=2, compile=False)
    >>> found.train.shape, found.best
    ((3, 2), 1)
    """
    began, before = time.perf_counter(), cache.seconds()
    _check_names(options)
    options = {**DEFAULTS, **options}
    task, who = problems.get(problem), Trainable.of(rule)
    what = who.what
    numbers = seeds_of(seeds)
    device = options["device"]
    check_device(device)
    scoring.check_metrics(task)
    if isinstance(what, PerKind):
        warn_without_matrices(what, blank(task), task.name)
    plan = {
        "schedule": schedule,
        "epochs": task.epochs if epochs is None else epochs,
        "batch_size": task.batch_size if batch_size is None else batch_size,
    }
    points = points_of(task, what, hypers or {}, plan, device)
    work = _work_of(task, what, points, numbers, options["compile"])
    if (told := options["told"]) is not None:
        asked = time.perf_counter()
        told(_estimate(work, measure=options["measure"]))
        began += time.perf_counter() - asked
    found = _trained(work, options["progress"])
    return Sweep(
        optimizer=who.name,
        problem=task.name,
        hypers=points.hypers,
        seeds=numbers,
        schedule=_one_or_all([r.schedule.name for r in points.recipes]),
        epochs=_one_or_all([r.epochs for r in points.recipes]),
        batch_size=_one_or_all([r.batch_size for r in points.recipes]),
        metrics=scoring.by_part(task.metric_columns, found.pop("metrics")),
        **found,
        engine=": ".join(filter(None, work.groups[-1].choice)),
        seconds=time.perf_counter() - began,
        compile_seconds=cache.seconds() - before,
        versions=versions(),
        limits=_limits(what, points),
    )


@dataclass(frozen=True)
class Group:
    """Points that can be trained together: they share a recipe and a variant of the rule."""

    members: NDArray[np.int64]
    recipe: Recipe
    choice: Choice


@dataclass(frozen=True)
class Work:
    """What a sweep is to train."""

    task: Problem
    what: Any
    points: Points
    seeds: tuple[int, ...]
    full: dict[str, Array]
    """All hyperparameters of a rule, [points]."""
    groups: list[Group]

    @property
    def lanes(self) -> int:
        """How many trainings."""
        return len(self.points) * len(self.seeds)


def _check_names(options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in Options.__annotations__:
            raise unknown_name("argument", name, inspect.signature(sweep).parameters, where=" of sweep")


def _work_of(task: Problem, what: Any, points: Points, seeds: tuple[int, ...], compile: Compile) -> Work:
    """The groups of the points, and how each is trained; what a function of one's own gives is known before anything is."""
    full: dict[str, Array] = {}
    parts: list[NDArray[np.int64]] = [np.arange(len(points))]
    groups = []
    choice = Choice("one by one", "an optimizer that is not a rule")
    if isinstance(what, Stating):
        full = bound(stated(what), points.hypers, len(points))
        parts = by_variant(stated(what), full)
    for recipe in dict.fromkeys(points.recipes):
        for part in parts:
            members = np.array([k for k in part if points.recipes[k] == recipe], dtype=np.int64)
            if not len(members):
                continue
            recipe.schedule.factors(recipe.steps(task))
            if isinstance(what, Stating):
                choice = choose(task, len(points) * len(seeds), recipe, compile, _unprinted(what, full, part))
            groups.append(Group(members, recipe, choice))
    return Work(task, what, points, seeds, full, groups)


def _unprinted(what: Any, full: Mapping[str, Array], part: NDArray[np.int64]) -> str:
    """What it is, where no kernel steps lanes of it."""
    if isinstance(what, PerKind):
        return "a rule per kind of parameter"
    rule = stated(what)
    assert isinstance(rule, Rule)
    if rule.asks_for_loss:
        return "a rule that asks for the loss"
    if rule.draws:
        return "a rule that draws noise"
    if len(rule.looked) > 1:
        return "a rule that looks more than once"
    first = {n: v[part[0]].item() for n, v in full.items()}
    return "a rule of matrices" if needs_shape(rule, switches_of(rule, first)) else ""


def _estimate(work: Work, *, measure: bool) -> Estimate:
    parts = []
    for group in work.groups:
        members, recipe, engine = group.members, group.recipe, group.choice.engine
        size = recipe.epochs, recipe.batch_size
        hypers = work.points.point(members[len(members) // 2])
        seeds = 1 if len(members) >= SHARED else len(work.seeds)
        lanes = min(len(members) * seeds, AT_ONCE)
        how: dict[str, Any] = {"batch_size": recipe.batch_size, "engine": engine, "device": recipe.device}
        cost = partial(cost_of, work.task, work.what, hypers, lanes, seeds, **how)
        count = len(members) * len(work.seeds)
        parts.append(AlikeTrainings(count, recipe.steps(work.task), work_of(work.task, *size), engine, cost))
    return estimate(parts, measure=measure)


def _trained(work: Work, progress: Progress | None) -> dict[str, Any]:
    """The fields of `Outcome` as [points, seeds], the initial losses as [seeds]."""
    shape = len(work.points), len(work.seeds)
    found: dict[str, Array] = {n: np.empty(shape) for n in PARTS}
    found |= {"died_at": np.zeros(shape, dtype=np.int64), "curve": np.empty((*shape, WINDOWS))}
    found["metrics"] = np.empty((*shape, len(work.task.metric_columns)))
    initial, done = np.empty(len(work.seeds)), 0
    for group in work.groups:
        for points, seeds in _calls(group.members, len(work.seeds)):
            if progress is not None:
                progress(done, work.lanes, "sweep" if len(seeds) > 1 else f"seed {work.seeds[seeds[0]]}")
            outcome = _outcome(work, group, np.repeat(points, len(seeds)), np.tile(seeds, len(points)))
            for name, array in found.items():
                own = getattr(outcome, name)
                array[np.ix_(points, seeds)] = own.reshape(len(points), len(seeds), *own.shape[1:])
            initial[seeds] = outcome.initial[-len(seeds) :]
            done += len(points) * len(seeds)
    return {**found, "initial": initial}


def _outcome(work: Work, group: Group, points: Array, seeds: Array) -> Outcome:
    """The outcome of the lanes of these points with these seeds, [lanes] each."""
    numbers, engine = np.array(work.seeds)[seeds], group.choice.engine
    if engine == "one by one":
        return one_by_one(work.task, work.what, Trainings(taken(work.points.hypers, points), numbers), group.recipe)
    lanes = Trainings(taken(work.full, points), numbers)
    return train_lanes(work.task, stated(work.what), lanes, group.recipe, engine)


def _calls(members: Array, seeds: int) -> Iterator[tuple[Array, Array]]:
    """Points and seeds to train together: many points of one seed, which share its batches, or few of many seeds."""
    if len(members) >= SHARED:
        for s in range(seeds):
            for low in range(0, len(members), AT_ONCE):
                yield members[low : low + AT_ONCE], np.array([s])
    else:
        together = max(1, AT_ONCE // len(members))
        for low in range(0, seeds, together):
            yield members, np.arange(low, min(low + together, seeds))


def _limits(what: Any, points: Points) -> dict[str, tuple[float, float]]:
    if not isinstance(what, Stating):
        return {}
    return {n: stated(what).setting(n).limits for n in points.hypers}


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(set(values)) == 1 else tuple(values)
