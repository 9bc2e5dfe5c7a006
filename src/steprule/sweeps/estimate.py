"""What trainings will take, known before they start: a few of their steps are run, timed and weighed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from steprule.alone import drawing
from steprule.counts import whole
from steprule.display import Shown, duration, size
from steprule.held import most_held
from steprule.lanes import train as engines
from steprule.lanes.train import Engine
from steprule.problems.facts import evaluating
from steprule.problems.problem import Problem
from steprule.provenance import memory_held
from steprule.rules.parts import for_training
from steprule.rules.rule import Rule
from steprule.schedules import constant
from steprule.steppers import Way
from steprule.trainable import Trainable
from steprule.training.under_way import Recipe, Training

LONG, STEP = 1_000_000_000, 100_000
"""Parameters x steps of a long piece of work; a step of a small model is worth so many."""
GAIN = 100
"""By how much lanes that are trained together are quicker than one by one, for small models."""
ENOUGH = 0.25
"""Seconds of steps that are enough to time one."""
BATCHES = 8
"""Batches on which lanes are timed."""
LONGEST = 4_096
"""Epochs of those, at most."""
PASSES, TIMED = 200, 2_000
"""Passes over the data, at most, in which a step is timed, and steps."""
FEW = 32
"""Samples on which measuring a loss is timed first."""


def steps_of(task: Problem, epochs: int, batch_size: int) -> int:
    """The steps of one training."""
    return epochs * task.parts["train"].steps(batch_size)


def work_of(task: Problem, epochs: int, batch_size: int) -> int:
    """The work of one training, by counts and not by the clock: `LONG` is some ten seconds, one by one."""
    return steps_of(task, epochs, batch_size) * (STEP + sum(p.numel() for p in engines.blank(task).parameters()))


@dataclass(frozen=True)
class Cost:
    """What a training of a problem takes in one process, measured on a few steps."""

    once: float
    """Seconds before the first step, for all trainings together: what is imported, and the kernels of a model and a rule."""
    step: float
    """Seconds a step."""
    ends: float
    """Seconds of measuring losses, before the first step and after the last."""
    held: int
    """Bytes that trainings hold at one time in one process."""

    def seconds(self, trainings: int, steps: int) -> float:
        """Of so many trainings of so many steps each, `once` apart."""
        return trainings * (steps * self.step + self.ends)


@dataclass(frozen=True, repr=False)
class Estimate(Shown):
    """What is still to be done, and what it will take on this machine."""

    trainings: int
    """To be made; in a race where no range of learning rates has to move."""
    most: int
    """To be made in a race where every range moves as often as it may."""
    kept: int
    """That are there already."""
    steps: int
    """Of all trainings together."""
    seconds: float | None
    """Wall time, from a few steps of each optimizer on each problem. None where all is short, and nothing was measured."""
    workers: int
    """Processes."""
    threads: int
    """Of each process."""
    bytes: int | None
    """What they hold together; None as well."""

    def in_words(self) -> str:
        """One line."""
        more = (
            f" (up to {self.most:,} where ranges of learning rates have to move)" if self.most > self.trainings else ""
        )
        kept = f", {self.kept:,} are there already" if self.kept else ""
        found = f"{_count(self.trainings, 'training')}{more}{kept}, {_count(self.steps, 'step')}"
        if self.seconds is None or self.bytes is None:
            return found
        where = _count(self.workers * self.threads, "core")
        return f"{found}: about {duration(self.seconds)} on {where}, {size(self.bytes)} of memory"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return asdict(self)


def cost_of(
    task: Problem, what: Any, hypers: Mapping[str, Any], lanes: int, seeds: int, *, batch_size: int, engine: Engine,
    device: str = "cpu",
) -> Cost:  # fmt: skip
    """The cost of a training where so many lanes of so many seeds are trained together, all with these hyperparameters.

    Raises what the training itself would raise.
    """
    if isinstance(what, Rule) and engine != "one by one":
        return _of_lanes(task, for_training(what), hypers, lanes, seeds, batch_size, engine, device)
    return Trainable.of(what).in_some_way(partial(_of_one, task, what, hypers, batch_size, torch.device(device)))


def _of_one(
    task: Problem, what: Any, hypers: Mapping[str, Any], batch_size: int, device: torch.device, way: Way
) -> Cost:
    """By the first steps of a training; the very first is apart, which makes what is made once."""
    began = time.perf_counter()
    training, held = _begun(task, what, hypers, batch_size, device, way)
    once, took = time.perf_counter() - began, list[float]()
    with training.seeded():
        for _, _, seconds, _ in training.steps():
            took.append(seconds)
            if sum(took) > ENOUGH and len(took) > 2:
                break
    samples = sum(part.samples for part in task.parts.values()) + task.parts["train"].samples
    return Cost(once, float(np.median(took)), samples * _a_sample(training), held)


def _begun(
    task: Problem, what: Any, hypers: Mapping[str, Any], batch_size: int, device: torch.device, way: Way
) -> tuple[Training, int]:
    """A training behind its first step, and the most bytes that it held."""
    kept = []

    def first() -> None:
        passes = min(PASSES, max(1, TIMED // steps_of(task, 1, batch_size)))
        recipe = Recipe(task, Trainable.of(what), hypers, 0, passes, batch_size, constant(), device)
        kept.append(Training(recipe, way))
        with kept[0].seeded():
            next(kept[0].steps())

    held = most_held(first)
    return kept[0], held


def held_by(
    task: Problem, what: Any, hypers: Mapping[str, Any], lanes: int, *, batch_size: int, engine: Engine, device: str = "cpu"
) -> int:  # fmt: skip
    """The bytes that so many trainings hold at one time in one process."""
    if isinstance(what, Rule) and engine != "one by one":
        return engines.held_by(task, for_training(what), lanes, min(batch_size, task.samples), engine, device)
    return Trainable.of(what).in_some_way(
        lambda way: _begun(task, what, hypers, batch_size, torch.device(device), way)[1]
    )


def _a_sample(training: Training) -> float:
    """Seconds of measuring the loss of one sample: of a few, or of many together where that is quick."""
    task, part, most = training.task, training.data, training.facts.at_once
    for at_once in (min(FEW, most), most):
        began, seen = time.perf_counter(), 0
        with torch.no_grad(), evaluating(training.model), drawing(), training.stepper.averaged():
            for piece, count in part.pieces(at_once):
                task.loss_of(training.model, piece)
                seen += count
                if time.perf_counter() - began > ENOUGH:
                    break
        took = (time.perf_counter() - began) / seen
        if seen < part.samples:
            break
    return took


def _of_lanes(
    task: Problem, rule: Rule, hypers: Mapping[str, Any], lanes: int, seeds: int, batch_size: int, engine: Engine, device: str
) -> Cost:  # fmt: skip
    """By whole trainings on a few batches: more epochs add steps, a part held out adds samples that are measured."""
    size = min(batch_size, task.samples)
    batches = min(BATCHES, task.samples // size)
    part = replace(
        task,
        features=task.features[: batches * size],
        targets=task.targets[: batches * size],
        validation=None,
        test=None,
    )
    how: Any = {"batch_size": size, "engine": engine, "device": device}

    def trained(what: Problem, count: int, epochs: int) -> float:
        each = {n: np.full(count, v) for n, v in rule.bind(hypers).items()}
        return _timed(
            lambda: engines.train_lanes(what, rule, each, np.arange(count) % min(seeds, count), epochs=epochs, **how)
        )

    few, epochs = min(seeds, lanes), 1
    once = trained(part, few, epochs)
    short = trained(part, few, epochs)
    while short < ENOUGH and few < lanes:
        few = min(4 * few, lanes)
        trained(part, few, epochs)  # another number of lanes may build something of its own
        short = trained(part, few, epochs)
    longer = short
    while longer - short < ENOUGH and epochs < LONGEST:
        epochs *= 4
        longer = trained(part, few, epochs)
    step = max(0.0, longer - short) / ((epochs - 1) * batches * few)
    held_out = replace(part, test=(task.features, task.targets))
    trained(held_out, few, 1)
    a_sample = max(0.0, trained(held_out, few, 1) - short) / task.samples / few
    counts = [task.samples, *(len(pair[0]) for pair in (task.validation, task.test) if pair)]
    held = engines.held_by(task, rule, lanes, size, engine, device)
    return Cost(max(0.0, once - short), step, sum(counts) * a_sample, held)


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@dataclass(frozen=True)
class Some:
    """Trainings that are alike."""

    trainings: int
    steps: int
    """Of each."""
    work: int
    """Of each, as `work_of` counts it."""
    engine: Engine
    cost: Callable[[], Cost]
    """Measures one."""


def is_long(parts: Iterable[Some]) -> bool:
    """Whether trainings take so long that it is worth to measure how long."""
    return sum(p.trainings * p.work / (1 if p.engine == "one by one" else GAIN) for p in parts) >= LONG


def estimate(parts: Sequence[Some], kept: int = 0, *, measure: bool) -> Estimate:
    """Of trainings in this process. With `measure` False only what is long is measured."""
    count, steps, threads = (
        sum(p.trainings for p in parts),
        sum(p.trainings * p.steps for p in parts),
        torch.get_num_threads(),
    )
    if not (measure or is_long(parts)):
        return Estimate(count, count, kept, steps, None, 1, threads, None)
    costs = [part.cost() for part in parts]
    seconds = sum(c.once + c.seconds(p.trainings, p.steps) for p, c in zip(parts, costs, strict=True))
    held = max((c.held for c in costs), default=0) + memory_held()
    return Estimate(count, count, kept, steps, seconds, 1, threads, held)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def of_training(
    task: Problem,
    what: Any,
    hypers: Mapping[str, Any],
    epochs: int | None,
    batch_size: int | None,
    device: str,
    *,
    measure: bool,
) -> Estimate:
    """Of one training, of which nothing is measured in between; the problem's own epochs and batch size where none are given."""
    epochs = whole("epochs", task.epochs if epochs is None else epochs, 1)
    batch_size = task.batch_size_for(batch_size)
    how: dict[str, Any] = {"batch_size": batch_size, "engine": "one by one", "device": device}
    cost = partial(cost_of, task, what, hypers, 1, 1, **how)
    one = Some(1, steps_of(task, epochs, batch_size), work_of(task, epochs, batch_size), "one by one", cost)
    return estimate([one], measure=measure)
