"""What one training takes in one process: a few of its steps are run, timed and weighed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from steprule.alone import drawing
from steprule.held import most_held
from steprule.lanes import train as engines
from steprule.lanes.records import Engine, Trainings
from steprule.problems.facts import evaluating
from steprule.problems.problem import Problem
from steprule.trainable import Stating, Trainable, stated
from steprule.training.recipe import Recipe
from steprule.training.under_way import Training
from steprule.ways import Way

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


@dataclass(frozen=True)
class TrainingCost:
    """What a training of a problem takes in one process, measured on a few steps."""

    once: float
    """Seconds before the first step, for all trainings together: what is imported, and the kernels of a model and a rule."""
    step: float
    """Seconds per step."""
    ends: float
    """Seconds of measuring losses, before the first step and after the last."""
    held: int
    """Bytes that trainings hold at one time in one process."""

    def seconds(self, trainings: int, steps: int) -> float:
        """Those of so many trainings of so many steps each, without `once`."""
        return trainings * (steps * self.step + self.ends)


def cost_of(
    task: Problem, what: Any, hypers: Mapping[str, Any], lanes: int, seeds: int, *, batch_size: int, engine: Engine,
    device: str = "cpu",
) -> TrainingCost:  # fmt: skip
    """The cost of a training where so many lanes of so many seeds are trained together, all with these hyperparameters.

    Raises what the training itself would raise.
    """
    if isinstance(what, Stating) and engine != "one by one":
        return _cost_of_lanes(task, stated(what), hypers, lanes, seeds, batch_size, engine, device)
    who = Trainable.of(what)
    return who.in_some_way(partial(_cost_alone, task, who, hypers, batch_size, device))


def _cost_alone(
    task: Problem, who: Trainable, hypers: Mapping[str, Any], batch_size: int, device: str, way: Way
) -> TrainingCost:
    """By the first steps of a training; the very first is apart, which makes what is made once."""
    began = time.perf_counter()
    training, held = _behind_first_step(task, who, hypers, batch_size, device, way)
    once, took = time.perf_counter() - began, list[float]()
    with training.seeded():
        for step in training.steps():
            took.append(step.seconds)
            if sum(took) > ENOUGH and len(took) > 2:
                break
    samples = sum(part.samples for part in task.parts.values()) + task.parts["train"].samples
    return TrainingCost(once, float(np.median(took)), samples * _seconds_per_sample(training), held)


def _behind_first_step(
    task: Problem, who: Trainable, hypers: Mapping[str, Any], batch_size: int, device: str, way: Way
) -> tuple[Training, int]:
    """A training behind its first step, and the most bytes that it held."""
    kept = []

    def first() -> None:
        passes = min(PASSES, max(1, TIMED // Recipe(1, batch_size).steps(task)))
        kept.append(Training(task, who, hypers, 0, Recipe(passes, batch_size, device=device), way))
        with kept[0].seeded():
            next(kept[0].steps())

    held = most_held(first)
    return kept[0], held


def held_by(
    task: Problem, what: Any, hypers: Mapping[str, Any], lanes: int, *, batch_size: int, engine: Engine, device: str = "cpu"
) -> int:  # fmt: skip
    """The bytes that so many trainings hold at one time in one process."""
    if isinstance(what, Stating) and engine != "one by one":
        return engines.held_by(task, stated(what), lanes, min(batch_size, task.samples), engine, device)
    who = Trainable.of(what)
    return who.in_some_way(lambda way: _behind_first_step(task, who, hypers, batch_size, device, way)[1])


def _seconds_per_sample(training: Training) -> float:
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


def _cost_of_lanes(
    task: Problem, rule: Stating, hypers: Mapping[str, Any], lanes: int, seeds: int, batch_size: int, engine: Engine, device: str
) -> TrainingCost:  # fmt: skip
    """By whole trainings on a few batches: more epochs add steps, a part held out adds samples that are measured."""
    size = min(batch_size, task.samples)
    batches = min(BATCHES, task.samples // size)
    few_samples = {"features": task.features[: batches * size], "targets": task.targets[: batches * size]}
    part = replace(task, **few_samples, validation=None, test=None)

    def trained(what: Problem, count: int, epochs: int) -> float:
        each = {n: np.full(count, v) for n, v in rule.bind(hypers).items()}
        own = Trainings(each, np.arange(count) % min(seeds, count))
        began = time.perf_counter()
        engines.train_lanes(what, rule, own, Recipe(epochs, size, device=device), engine)
        return time.perf_counter() - began

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
    per_sample = max(0.0, trained(held_out, few, 1) - short) / task.samples / few
    counts = [task.samples, *(len(pair[0]) for pair in (task.validation, task.test) if pair)]
    held = engines.held_by(task, rule, lanes, size, engine, device)
    return TrainingCost(max(0.0, once - short), step, sum(counts) * per_sample, held)
