"""`steprule.sweep`: one rule over many hyperparameter points and seeds, and what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from steprule import schedules
from steprule.compiler import cache
from steprule.display import Shown
from steprule.errors import InputError, InputTypeError
from steprule.hyper import said
from steprule.lanes import train as engines
from steprule.lanes.one_by_one import one_by_one
from steprule.lanes.step import NotBatchable
from steprule.lanes.train import WINDOWS, Engine
from steprule.problems import problem as problems
from steprule.problems import scoring
from steprule.problems.facts import facts_of
from steprule.problems.problem import Problem
from steprule.rules.parts import for_training
from steprule.rules.rule import Rule
from steprule.schedules import Given, Schedule, WarmUp
from steprule.steppers import is_large
from steprule.sweeps.estimate import Estimate, Some, cost_of, estimate, steps_of, work_of
from steprule.training import (
    Optimizable,
    batch_size_of,
    check_device,
    name_of,
    resolve,
    seeds_of,
    versions,
)

Compile = bool | Literal["auto"]
WORTH = 10_000_000
"""Lanes x steps x parameters from which `compile="auto"` compiles the model: by counts and not by the clock, so that the
same sweep has the same numbers on every machine."""
AT_ONCE = 16_384
"""Lanes that are trained together."""
SHARED = 64
"""Points of one seed from which they are trained apart from other seeds."""
END = 12
"""The best is called at an end of what was tried where it lies among the outer twelfth of the values."""
Array = NDArray[Any]


@dataclass(frozen=True, repr=False)
class Sweep(Shown):
    """Every lane of a sweep: `[points, seeds]`, in the order in which they were given."""

    optimizer: str
    problem: str
    hypers: Mapping[str, Array]
    """What was varied, and what else was given: [points]."""
    seeds: tuple[int, ...]
    schedule: str | tuple[str, ...]
    epochs: int | tuple[int, ...]
    batch_size: int | tuple[int, ...]
    """One for all points, or one each."""
    train: Array = field(repr=False)
    """The loss on all training samples after the last step."""
    validation: Array = field(repr=False)
    test: Array = field(repr=False)
    """The same on what was held out; nan where the problem holds nothing out."""
    initial: Array = field(repr=False)
    """The loss on all training samples before the first step, [seeds]."""
    died_at: Array = field(repr=False)
    """The step at which the batch loss was not finite; 0 where it always was."""
    curve: Array = field(repr=False)
    """[points, seeds, windows]: the mean batch loss of each part of the training."""
    engine: str
    """How: "kernel", "vmap" or "one by one"; and why no better."""
    seconds: float
    """Wall time, compilation included."""
    compile_seconds: float
    """What building the model's kernel took of it."""
    versions: Mapping[str, str] = field(repr=False, default_factory=dict)
    metrics: Mapping[str, Mapping[str, Array]] = field(repr=False, default_factory=dict)
    """The problem's metrics after the last step, by part ("train", "validation", "test") and name, [points, seeds]; they choose nothing."""
    limits: Mapping[str, tuple[float, float]] = field(repr=False, default_factory=dict)
    """By name the least and the largest number that the rule allows, inf for none."""

    def in_words(self) -> str:
        """How much was trained, and which point was best."""
        head = f"{self.optimizer} on {self.problem}: {len(self.train)} points x {len(self.seeds)} seeds"
        best = self.best
        if best is None:
            found = "no best: every point diverged with some seed"
        else:
            losses = ", ".join(f"{n} {v[best].mean():.5g}" for n, v in self.measured.items())
            scores = scoring.in_words(
                {p: {n: v[best].mean() for n, v in own.items()} for p, own in self.metrics.items()}
            )
            found = f"best by the {self.chosen_by}: {_shown(self.point(best))}; {losses}{scores and '; '}{scores}"
        pace = f"{self.lanes:,} trainings in {self.seconds:.2f} s ({self.engine}), {int(self.diverged.sum())} diverged"
        return "\n    ".join([head, found, *self.cautions, pace])

    @property
    def measured(self) -> dict[str, Array]:
        """The losses that there are, by split: train, and what the problem holds out."""
        held = {"train": self.train, "validation": self.validation, "test": self.test}
        return {n: v for n, v in held.items() if n == "train" or not np.isnan(v).all()}

    @property
    def chosen_by(self) -> str:
        """Which loss points are chosen by: "validation loss", or "training loss" where there is no validation split."""
        return "validation loss" if "validation" in self.measured else "training loss"

    @property
    def order(self) -> Array:
        """The points from the best on, without those that diverged with some seed."""
        means = self.scores.mean(axis=1)
        order = np.argsort(means, kind="stable")
        return np.asarray(order[np.isfinite(means[order])])

    @property
    def at_end(self) -> dict[str, str]:
        """By name at which end of the tried values the best lies, "lowest" or "highest", where numbers lie beyond."""
        found: dict[str, str] = {}
        for name, values in self.hypers.items():
            tried = np.unique(values)
            if self.best is None or len(tried) < 3 or tried.dtype.kind not in "fi":
                continue
            at, edge = int(np.searchsorted(tried, values[self.best])), -(-len(tried) // END)
            low, high = self.limits.get(name, (-np.inf, np.inf))
            if at < edge and not np.isclose(tried[0], low, rtol=1e-9, atol=0):
                found[name] = "lowest"
            elif at >= len(tried) - edge and not np.isclose(tried[-1], high, rtol=1e-9, atol=0):
                found[name] = "highest"
        return found

    @property
    def cautions(self) -> list[str]:
        """What to know before the best is taken for the best there is, in sentences."""
        return [
            f"The best {name} lies at the {end} of what was tried, {said(v.min().item(), 3)}..{said(v.max().item(), 3)}: "
            "better ones may lie beyond."
            for name, end in self.at_end.items()
            for v in [self.hypers[name]]
        ]

    @property
    def lanes(self) -> int:
        """How many trainings."""
        return self.train.size

    @property
    def lanes_per_second(self) -> float:
        """Trainings a second, compilation apart."""
        return self.lanes / max(self.seconds - self.compile_seconds, 1e-9)

    @property
    def diverged(self) -> Array:
        """Lanes that died, or ended above where they began."""
        with np.errstate(invalid="ignore"):
            return (self.died_at > 0) | ~(self.train <= self.initial)

    @property
    def scores(self) -> Array:
        """What points are chosen by: the validation loss, or the training loss where nothing was held out; inf where a
        lane diverged."""
        chosen = self.measured.get("validation", self.train)
        return np.where(self.diverged | ~np.isfinite(chosen), np.inf, chosen)

    @property
    def best(self) -> int | None:
        """The point with the least mean score over the seeds; None where every point diverged with some seed."""
        return int(self.order[0]) if len(self.order) else None

    def point(self, k: int) -> dict[str, float | bool]:
        """The hyperparameters of one point."""
        return {name: values[k].item() for name, values in self.hypers.items()}

    def scores_of(self, k: int) -> str:
        """The metrics of one point in words, means over the seeds; empty where there are none."""
        return scoring.in_words({p: {n: v[k].mean() for n, v in own.items()} for p, own in self.metrics.items()})

    @property
    def _plan(self) -> dict[str, Any]:
        return {"schedule": self.schedule, "epochs": self.epochs, "batch_size": self.batch_size}

    def to_dict(self) -> dict[str, Any]:
        """All but the curves as plain values, for JSON; what is not finite is None."""

        def plain(values: Array) -> Any:
            return [plain(v) if np.ndim(v) else float(v) if np.isfinite(v) else None for v in values]

        return {
            "optimizer": self.optimizer,
            "problem": self.problem,
            "hypers": {n: v.tolist() for n, v in self.hypers.items()},
            "seeds": list(self.seeds),
            **{n: list(v) if isinstance(v, tuple) else v for n, v in self._plan.items()},
            "train": plain(self.train),
            "validation": plain(self.validation),
            "test": plain(self.test),
            "metrics": {part: {n: plain(v) for n, v in own.items()} for part, own in self.metrics.items()},
            "died_at": self.died_at.tolist(),
            "diverged": self.diverged.tolist(),
            "best": self.best,
            "chosen_by": self.chosen_by,
            "at_end": self.at_end,
            "engine": self.engine,
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "lanes_per_second": self.lanes_per_second,
            "versions": dict(self.versions),
        }


def sweep(
    rule: Optimizable,
    problem: str | Problem = "airfoil",
    hypers: Mapping[str, ArrayLike] | None = None,
    seeds: int | Iterable[int] = 1,
    *,
    schedule: Given | Sequence[Given] = "constant",
    epochs: int | Sequence[int] | None = None,
    batch_size: int | Sequence[int] | None = None,
    compile: Compile = "auto",
    device: str = "cpu",
    progress: Callable[[int, int, str], None] = lambda done, total, label: None,
    told: Callable[[Estimate], None] | None = None,
    measure: bool = False,
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
        batch_size: samples a step; the same. Points that share both are trained together.
        compile: True prints the model as a kernel over lanes; False takes `torch.vmap`, which compiles nothing; "auto"
            compiles where lanes x steps x parameters make it worth its seconds.
        device: where to train, as torch names it; kernels run on the CPU, elsewhere everything is torch's operations.
        progress: called with (lanes done, lanes in all, label).
        told: called with what it will take, before anything is trained; what it raises ends the sweep.
        measure: whether seconds and memory are measured for `told` even where the sweep is short.

    Raises:
        StepruleError: an unknown name, a value out of bounds, arrays of different lengths.

    >>> found = sweep("adam", "airfoil", {"lr": [0.001, 0.01, 0.1]}, seeds=2, compile=False)
    >>> found.train.shape, found.best
    ((3, 2), 1)
    """
    began, before = time.perf_counter(), cache.seconds()
    task, what = problems.get(problem), resolve(rule)
    numbers = seeds_of(seeds)
    check_device(device)
    scoring.check_metrics(task)
    given = _points(_each_beta(hypers or {}, what), name_of(what))
    plans = {
        "schedule": schedule,
        "epochs": task.epochs if epochs is None else epochs,
        "batch_size": task.batch_size if batch_size is None else batch_size,
    }
    points = _count(given, plans, name_of(what))
    given = {n: np.broadcast_to(v, (points,)).copy() for n, v in given.items()}
    plan = {n: _each(n, v, points) for n, v in plans.items()}
    for size in set(plan["batch_size"]):
        batch_size_of(task, size, size)
    full = bound(for_training(what), given, points) if isinstance(what, Rule) else {}
    shape = (points, len(numbers))
    found: dict[str, Any] = {n: np.empty(shape) for n in ("train", "validation", "test")}
    found |= {"died_at": np.zeros(shape, dtype=np.int64), "curve": np.empty((*shape, WINDOWS))}
    found["metrics"] = np.empty((*shape, len(task.metric_columns)))
    initial = np.empty(len(numbers))
    parts = engines.groups(for_training(what), full) if isinstance(what, Rule) else [np.arange(points)]
    done = 0
    alone: tuple[Engine, str] = "one by one", "an optimizer that is no rule"
    groups = []
    for own, members in _by_plan(plan, parts):
        # What a function of one's own gives is known before anything is trained.
        own["schedule"].factors(steps_of(task, own["epochs"], own["batch_size"]))
        how = choose(task, what, points * len(numbers), own, compile, device) if isinstance(what, Rule) else alone
        groups.append((own, members, *how))
    if told is not None:
        asked = time.perf_counter()
        told(_estimate(task, what, given, groups, len(numbers), device, measure=measure))
        began += time.perf_counter() - asked
    for own, members, engine, _ in groups:
        for some, lanes_of in _calls(members, len(numbers)):
            progress(done, points * len(numbers), "sweep" if len(lanes_of) > 1 else f"seed {numbers[lanes_of[0]]}")
            k, s = (a.ravel() for a in np.meshgrid(some, lanes_of, indexing="ij"))
            lanes = np.array(numbers)[s]
            if isinstance(what, Rule) and engine != "one by one":
                values = {n: v[k] for n, v in full.items()}
                outcome = engines.train_lanes(
                    task, for_training(what), values, lanes, engine=engine, device=device, **own
                )
            else:
                outcome = one_by_one(task, what, given, k, lanes, device=device, **own)
            for name, array in found.items():
                array[k, s] = getattr(outcome, name)
            initial[s] = outcome.initial
            done += len(k)
    _, _, engine, reason = groups[-1]
    return Sweep(
        optimizer=name_of(what),
        problem=task.name,
        hypers=given,
        seeds=numbers,
        schedule=_told([s.name for s in plan["schedule"]]),
        epochs=_told(plan["epochs"]),
        batch_size=_told(plan["batch_size"]),
        initial=initial,
        metrics=scoring.by_part(task.metric_columns, found.pop("metrics")),
        **found,
        engine=engine + (f": {reason}" if reason else ""),
        seconds=time.perf_counter() - began,
        compile_seconds=cache.seconds() - before,
        versions=versions(),
        limits={h.name: h.limits for h in for_training(what).hypers if h.name in given}
        if isinstance(what, Rule)
        else {},
    )


def _estimate(
    task: Problem, what: Any, given: Mapping[str, Array], groups: Sequence[tuple[dict[str, Any], Array, Engine, str]], seeds: int,
    device: str, *, measure: bool,
) -> Estimate:  # fmt: skip
    parts = []
    for own, members, engine, _ in groups:
        size = {"epochs": own["epochs"], "batch_size": own["batch_size"]}
        hypers = {n: v[members[len(members) // 2]].item() for n, v in given.items()}
        distinct = 1 if len(members) >= SHARED else seeds
        lanes = min(len(members) * distinct, AT_ONCE)
        how: dict[str, Any] = {"batch_size": own["batch_size"], "engine": engine, "device": device}
        cost = partial(cost_of, task, what, hypers, lanes, distinct, **how)
        parts.append(Some(len(members) * seeds, steps_of(task, **size), work_of(task, **size), engine, cost))
    return estimate(parts, measure=measure)


def _shown(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{n}={said(v, 4)}" for n, v in point.items())


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


def _by_plan(plan: Mapping[str, list[Any]], parts: Sequence[Array]) -> Iterator[tuple[dict[str, Any], Array]]:
    """The points that share schedule, epochs, batch size and variant of the rule."""
    rows = list(zip(*plan.values(), strict=True))
    for own in dict.fromkeys(rows):
        for part in parts:
            members = np.array([k for k in part if rows[k] == own], dtype=np.int64)
            if len(members):
                yield dict(zip(plan, own, strict=True)), members


def _count(given: Mapping[str, Array], plans: Mapping[str, Any], where: str) -> int:
    """How many points there are. Raises `InputError` for arrays of different lengths."""
    lengths = {n: len(a) for n, a in given.items() if a.ndim}
    lengths |= {n: len(v) for n, v in plans.items() if not _is_one(v)}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{n}: {c}" for n, c in lengths.items())
        hint = "One value a point: np.meshgrid(...) and ravel() give all combinations."
        raise InputError(f"{where}: hypers", expected="arrays of one length", got=got, hint=hint)
    return next(iter(lengths.values()), 1)


def _each(name: str, value: Any, points: int) -> list[Any]:
    """A schedule, a number of epochs or a batch size for each point."""
    given = [value] * points if _is_one(value) else value
    values = [getattr(v, "item", lambda v=v: v)() for v in given]
    if name == "schedule":
        return [schedules.get(v) for v in values]
    for one in dict.fromkeys(values):
        if isinstance(one, bool) or not isinstance(one, int) or one < 1:
            raise InputError(name, expected="a whole number, 1 or more", got=repr(one))
    return values


def _is_one(value: Any) -> bool:
    """One value for all points, and no sequence of them."""
    return isinstance(value, str | int | float | np.generic | Schedule | WarmUp) or callable(value)


def _told(values: list[Any]) -> Any:
    return values[0] if len(set(values)) == 1 else tuple(values)


def _points(hypers: Mapping[str, ArrayLike], where: str) -> dict[str, Array]:
    """Every given hyperparameter as an array: of one dimension, or of none where it is the same for all points."""
    arrays = {}
    for name, value in hypers.items():
        array = np.asarray(value)
        if array.ndim > 1 or array.size == 0 or array.dtype.kind not in "bifU":
            raise InputTypeError(
                f"{where}: {name}", expected="a number or a choice, or an array of one dimension", got=repr(value)[:60]
            )
        arrays[name] = array
    return arrays


def _each_beta(hypers: Mapping[str, Any], what: Any) -> dict[str, Any]:
    """`betas` as beta1, beta2 and so on, for a rule that has them."""
    found = dict(hypers)
    if isinstance(what, Rule) and what.betas and "betas" in found:
        betas = found.pop("betas")
        if not isinstance(betas, tuple | list) or len(betas) != len(what.betas):
            expected = f"{len(what.betas)} numbers, or arrays by the name of each"
            raise InputTypeError(f"{what.name}: betas", expected=expected, got=repr(betas)[:60])
        found |= zip(what.betas, betas, strict=True)
    return found


def bound(rule: Rule, given: Mapping[str, Array], points: int) -> dict[str, Array]:
    """All of the rule's hyperparameters, checked, [points]."""
    for name, values in given.items():
        hyper = rule.setting(name)
        for value in np.unique(values) if values.dtype.kind != "f" else values[[np.argmin(values), np.argmax(values)]]:
            hyper.validate(value.item(), rule.name)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            hyper.validate(float("nan"), rule.name)
    found = {h.name: np.asarray(given[h.name]) if h.name in given else np.full(points, h.default) for h in rule.hypers}
    return {h.name: found[h.name].astype(np.int64) if h.is_whole else found[h.name] for h in rule.hypers}


def choose(
    task: Problem, rule: Rule, lanes: int, plan: Mapping[str, Any], compile: Compile, device: str = "cpu"
) -> tuple[Engine, str]:
    """The engine, and why it is no better one."""
    if compile not in (True, False, "auto"):
        raise InputTypeError("compile", expected="True, False or 'auto'", got=repr(compile))
    if reason := facts_of(task).one_by_one:
        return "one by one", reason
    if not isinstance(task.features, Tensor) or not isinstance(task.targets, Tensor):
        return "one by one", "a model of several inputs"
    if compile == "auto" and is_large(engines.blank(task)):
        return "one by one", "a model of a million parameters or more, which keeps the cores busy alone"
    count, size = task.samples, plan["batch_size"]
    steps = plan["epochs"] * -(-count // size)
    work = lanes * steps * sum(p.numel() for p in engines.blank(task).parameters())
    reason = "" if device == "cpu" else f"kernels run on the CPU, not on {device}"
    if device == "cpu" and (compile is True or (compile == "auto" and work >= WORTH)):
        try:
            for batch in {min(size, count), count % size or min(size, count)}:
                engines.source_of(task, batch)
            engines.check_lanes(task, min(size, count), together=False)
            return "kernel", ""
        except NotBatchable as error:
            reason = f"no kernel for {error}"
    try:
        engines.check_lanes(task, size, together=True)
    except NotBatchable as error:
        return "one by one", f"the model cannot be batched: {error}"
    return "vmap", reason


def pays_after(rule: Optimizable, problem: str | Problem, found: Sweep) -> float | None:
    """After how many seconds of what needs no compilation the kernel of a sweep had paid for its own.

    From some steps of `torch.vmap` here and now; None where there was no kernel, or none that is faster.
    """
    what, task = resolve(rule), problems.get(problem)
    if found.engine != "kernel" or not isinstance(what, Rule) or isinstance(found.batch_size, tuple):
        return None
    lanes, size = min(found.lanes, 1_024), min(found.batch_size, task.samples // 9 or 1)
    hypers = {h.name: np.full(lanes, h.default) for h in for_training(what).hypers}
    count = 9 * size
    part = _few(task, count)
    took: dict[int, list[float]] = {1: [], 33: []}
    for epochs in (1, 1, 33, 1, 33):  # the first builds what the others need; with one apart is what is done once
        began = time.perf_counter()
        engines.train_lanes(
            part, for_training(what), hypers, [0] * lanes, epochs=epochs, batch_size=size, engine="vmap"
        )
        took[epochs].append(time.perf_counter() - began)
    epochs = found.epochs if isinstance(found.epochs, int) else max(found.epochs)
    slow = (min(took[33]) - min(took[1])) / (32 * 9) / lanes * epochs * -(-task.samples // size)
    gained = slow - 1 / found.lanes_per_second
    return slow * found.compile_seconds / gained if gained > 0 else None


def _few(task: Problem, size: int) -> Problem:
    """The problem with its first samples, as one tries something out with it."""
    few = {"features": task.features[:size], "targets": task.targets[:size]}
    return replace(task, **few, validation=None, test=None, metrics={})
