"""`steprule.sweep`: one rule over many hyperparameter points and seeds, and what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steprule.compiler import cache
from steprule.errors import InputError, InputTypeError
from steprule.hyper import said
from steprule.problems import problem as problems
from steprule.problems.problem import Init, Problem
from steprule.rules.parts import composed
from steprule.rules.rule import Rule
from steprule.shown import Shown
from steprule.sweeps import engine as engines
from steprule.sweeps.engine import WINDOWS, Engine, Outcome
from steprule.sweeps.kernel import NotBatchable
from steprule.training import SCHEDULES, Optimizable, check_device, name_of, resolve, seeds_of, train, versions

Compile = bool | Literal["auto"]
WORTH = 10_000_000
"""Lanes x steps x parameters from which `compile="auto"` compiles the model: by counts and not by the clock, so that the
same sweep has the same numbers on every machine."""
AT_ONCE = 16_384
"""Lanes that are trained together."""
SHARED = 64
"""Points of one seed from which they are trained apart from other seeds."""
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

    def in_words(self) -> str:
        """How much was trained, and which point was best."""
        best = ", ".join(f"{n}={said(v, '.4g')}" for n, v in self.point(self.best).items())
        held = {"train": self.train, "validation": self.validation, "test": self.test}
        losses = ", ".join(f"{n} {v[self.best].mean():.5g}" for n, v in held.items() if not np.isnan(v).all())
        head = f"{self.optimizer} on {self.problem}: {len(self.train)} points x {len(self.seeds)} seeds"
        pace = f"{self.lanes:,} trainings in {self.seconds:.2f} s ({self.engine}), {int(self.diverged.sum())} diverged"
        return f"{head}\n    best: {best}; {losses}\n    {pace}"

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
        chosen = self.train if np.isnan(self.validation).all() else self.validation
        return np.where(self.diverged | ~np.isfinite(chosen), np.inf, chosen)

    @property
    def best(self) -> int:
        """The point with the least mean score over the seeds."""
        return int(np.argmin(self.scores.mean(axis=1)))

    def point(self, k: int) -> dict[str, float | bool]:
        """The hyperparameters of one point."""
        return {name: values[k].item() for name, values in self.hypers.items()}

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
            "died_at": self.died_at.tolist(),
            "diverged": self.diverged.tolist(),
            "best": self.best,
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
    schedule: str | Sequence[str] = "constant",
    epochs: int | Sequence[int] | None = None,
    batch_size: int | Sequence[int] | None = None,
    init: Init = "same",
    compile: Compile = "auto",
    device: str = "cpu",
    progress: Callable[[int, int, str], None] = lambda done, total, label: None,
) -> Sweep:
    """Train `problem` at every hyperparameter point with every seed, thousands at once.

    Args:
        rule: a rule; or an Optimizer class or a factory, whose lanes run one by one.
        problem: a problem, its name, or `file.py:name`.
        hypers: by name one number for all points, or an array [points]; arrays are of one length. Any of the rule's.
        seeds: how many, from 0; or the seeds themselves. A seed decides the initial weights and the batches, for all
            points alike.
        schedule: of the learning rate, "constant" or "linear" (to zero); or one for each point.
        epochs: passes over the data; the problem's own if not given; or one for each point.
        batch_size: samples a step; the same. Points that share both are trained together.
        init: as in `steprule.train`.
        compile: True prints the model as a kernel over lanes; False takes `torch.vmap`, which compiles nothing; "auto"
            compiles where lanes x steps x parameters make it worth its seconds.
        device: where to train, as torch names it; kernels run on the CPU, elsewhere everything is torch's operations.
        progress: called with (lanes done, lanes in all, label).

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
    given = _points(_each_beta(hypers or {}, what), name_of(what))
    plans = {
        "schedule": schedule,
        "epochs": task.epochs if epochs is None else epochs,
        "batch_size": task.batch_size if batch_size is None else batch_size,
    }
    points = _count(given, plans, name_of(what))
    given = {n: np.broadcast_to(v, (points,)).copy() for n, v in given.items()}
    plan = {n: _each(n, v, points) for n, v in plans.items()}
    full = bound(composed(what), given, points) if isinstance(what, Rule) else {}
    shape = (points, len(numbers))
    found: dict[str, Any] = {n: np.empty(shape) for n in ("train", "validation", "test")}
    found |= {"died_at": np.zeros(shape, dtype=np.int64), "curve": np.empty((*shape, WINDOWS))}
    initial = np.empty(len(numbers))
    parts = engines.groups(composed(what), full) if isinstance(what, Rule) else [np.arange(points)]
    engine: Engine = "one by one"
    reason, done = "an optimizer that is no rule", 0
    for own, members in _by_plan(plan, parts):
        if isinstance(what, Rule):
            engine, reason = choose(task, what, points * len(numbers), own, compile, device)
        for some, lanes_of in _calls(members, len(numbers)):
            progress(done, points * len(numbers), "sweep" if len(lanes_of) > 1 else f"seed {numbers[lanes_of[0]]}")
            k, s = (a.ravel() for a in np.meshgrid(some, lanes_of, indexing="ij"))
            lanes = np.array(numbers)[s]
            if isinstance(what, Rule) and engine != "one by one":
                values = {n: v[k] for n, v in full.items()}
                outcome = engines.train_lanes(
                    task, composed(what), values, lanes, init=init, engine=engine, device=device, **own
                )
            else:
                outcome = one_by_one(task, what, given, k, lanes, init=init, device=device, **own)
            for name, array in found.items():
                array[k, s] = getattr(outcome, name)
            initial[s] = outcome.initial
            done += len(k)
    return Sweep(
        optimizer=name_of(what),
        problem=task.name,
        hypers=given,
        seeds=numbers,
        schedule=_told(plan["schedule"]),
        epochs=_told(plan["epochs"]),
        batch_size=_told(plan["batch_size"]),
        initial=initial,
        **found,
        engine=engine + (f": {reason}" if reason else ""),
        seconds=time.perf_counter() - began,
        compile_seconds=cache.seconds() - before,
        versions=versions(),
    )


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
    for one in dict.fromkeys(values):
        if name == "schedule":
            if one not in SCHEDULES:
                raise InputError("schedule", expected="one of " + ", ".join(SCHEDULES), got=repr(one))
        elif isinstance(one, bool) or not isinstance(one, int) or one < 1:
            raise InputError(name, expected="a whole number, 1 or more", got=repr(one))
    return values


def _is_one(value: Any) -> bool:
    """One value for all points, and no sequence of them."""
    return isinstance(value, str | int | float | np.generic)


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
        hyper = rule.hyper(name)
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
    count, size = len(task.features), plan["batch_size"]
    steps = plan["epochs"] * -(-count // size)
    work = lanes * steps * sum(p.numel() for p in task.model().parameters())
    reason = "" if device == "cpu" else f"kernels run on the CPU, not on {device}"
    if device == "cpu" and (compile is True or (compile == "auto" and work >= WORTH)):
        try:
            for batch in {min(size, count), count % size or min(size, count)}:
                engines.source_of(task, batch)
            return "kernel", ""
        except NotBatchable as error:
            reason = f"no kernel for {error}"
    try:
        hypers = {h.name: np.full(1, h.default) for h in composed(rule).hypers}
        engines.train_lanes(_few(task, size), composed(rule), hypers, [0], epochs=1, batch_size=size, engine="vmap")
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
    lanes, size = min(found.lanes, 1_024), min(found.batch_size, len(task.features) // 9 or 1)
    hypers = {h.name: np.full(lanes, h.default) for h in composed(what).hypers}
    count = 9 * size
    part = replace(task, features=task.features[:count], targets=task.targets[:count], validation=None, test=None)
    took: dict[int, list[float]] = {1: [], 33: []}
    for epochs in (1, 1, 33, 1, 33):  # the first builds what the others need; with one apart is what is done once
        began = time.perf_counter()
        engines.train_lanes(part, composed(what), hypers, [0] * lanes, epochs=epochs, batch_size=size, engine="vmap")
        took[epochs].append(time.perf_counter() - began)
    epochs = found.epochs if isinstance(found.epochs, int) else max(found.epochs)
    slow = (min(took[33]) - min(took[1])) / (32 * 9) / lanes * epochs * -(-len(task.features) // size)
    gained = slow - 1 / found.lanes_per_second
    return slow * found.compile_seconds / gained if gained > 0 else None


def _few(task: Problem, size: int) -> Problem:
    """The problem with one batch of its samples, to try whether a model can be batched at all."""
    return replace(task, features=task.features[:size], targets=task.targets[:size], validation=None, test=None)


def one_by_one(
    task: Problem, what: Any, given: Mapping[str, Array], points: Array, seeds: Array, *, schedule: str, epochs: int,
    batch_size: int, init: Init = "same", device: str = "cpu",
) -> Outcome:  # fmt: skip
    """Train these points with these seeds, [lanes] each, a training after the other: what cannot be batched."""
    found: dict[str, list[Any]] = {n: [] for n in ("train", "validation", "test", "initial", "died_at", "curve")}
    for k, seed in zip(points, seeds, strict=True):
        own = {n: v[k].item() for n, v in given.items()}
        run = train(what, task, int(seed), epochs, batch_size, init=init, schedule=schedule, device=device, **own)
        p = np.concatenate([np.asarray(x).reshape(-1) for x in run.parameters])[:, None]
        found["initial"].append(float(run.losses[0]))
        found["train"].append(run.final_loss)
        for name, part in (("validation", task.validation), ("test", task.test)):
            found[name].append(engines.evaluate(task, p, *part)[0] if part else np.nan)
        bad = np.flatnonzero(~np.isfinite(run.losses))
        found["died_at"].append(-(-int(run.samples[bad[0]]) // batch_size) if len(bad) else 0)
        at = np.linspace(run.samples[0], run.samples[-1], WINDOWS)
        found["curve"].append(np.interp(at, run.samples, run.losses))
    return Outcome(**{n: np.array(v) for n, v in found.items()})
