"""`steprule.train`: one training, measured as it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steprule import schedules
from steprule.counts import whole
from steprule.errors import InputTypeError
from steprule.optim.mixture import warn_without_matrices
from steprule.per_kind import PerKind
from steprule.problems import catalogue as problems, scoring
from steprule.problems.problem import Problem
from steprule.provenance import check_device, versions
from steprule.trainable import Optimizable, Trainable
from steprule.training.recipe import Recipe
from steprule.training.record import Run
from steprule.training.under_way import Training

RECORD_EVERY = 100  # samples between two points of the loss curve
POINTS = 200  # of it at most: where there are more samples, a point stands for more of them
MEASURED = 10_000_000_000  # parameters x samples that may be measured for it; two points per pass are taken in any case

Log = Callable[[int, Mapping[str, float]], object]
"""Is told numbers of a step, by name."""


def train(
    rule: Optimizable,
    problem: str | Problem = "airfoil",
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int | None = None,
    *,
    schedule: schedules.Given = "constant",
    device: str = "cpu",
    log: Log | None = None,
    diagnostics: bool = False,
    **hypers: Any,
) -> Run:
    """Train `problem` with `rule`.

    Args:
        rule: a rule (its states are kept in the open, no `torch.optim`), an Optimizer class, or a factory.
        problem: a problem or its name.
        seed: of the initial weights and of the order of the samples, 0 or more.
        epochs: passes over the data, 1 or more; the problem's own if not given.
        batch_size: samples per step, 1 or more; the problem's own if not given. The last batch of an epoch may be smaller.
        schedule: of the learning rate, by name ("linear", "warmup(0.1)+cosine"), or a function `(t, total) -> factor`; see
            `steprule.schedules`.
        device: where to train, as torch names it.
        log: called as `log(step, numbers)`. Behind each step, from 1, with its `batch_loss`, from before the step; where the curve
            has a point, at step 0 too, with the `loss` on all training samples. What it raises comes through as it is. An
            optimizer that has to be called in another way (`step(closure)`) trains anew, so that step 0 comes again.
        diagnostics: `log` also has what each step knew, under the names of `RuleOptimizer.diagnostics`. A rule then trains by its
            compiled class, whose numbers differ by rounding; a class has to be one of `steprule.optim`, a factory to take it.
        hypers: the rule's hyperparameters, or the class's arguments.

    Raises:
        StepruleError: an unknown name, a value out of bounds, a device that is not there.

    >>> run = train("adam", lr=0.01)
    >>> run.losses.shape, run.final_loss < 0.26
    ((31,), True)
    """
    task = problems.get(problem)
    seed = whole("seed", seed, 0)
    epochs = whole("epochs", task.epochs if epochs is None else epochs, 1)
    size = task.batch_size_for(batch_size)
    planned = schedules.get(schedule)
    who = Trainable.of(rule)
    check_device(device)
    if isinstance(who.what, PerKind):
        warn_without_matrices(who.what, task.initial_model(seed), task.name)
    scoring.check_metrics(task)
    if not isinstance(diagnostics, bool):
        raise InputTypeError("diagnostics", expected="a bool", got=repr(diagnostics))
    recipe = Recipe(epochs, size, planned, device, diagnostics)
    begin = partial(Training, task, who, hypers, seed, recipe)
    return who.in_some_way(lambda way: _trained(begin(way), who.name, recipe, log))


def _copied(tensors: Iterable[Tensor]) -> tuple[NDArray[Any], ...]:
    return tuple(t.detach().cpu().numpy().copy() for t in tensors)


def _trained(training: Training, name: str, recipe: Recipe, log: Log | None) -> Run:
    task = training.task
    samples, losses, seconds = [0], [training.measured()], 0.0
    if log:
        log(0, {"loss": losses[0]})
    every, total = _between_points(training), recipe.epochs * task.samples
    with training.seeded():
        for t, step in enumerate(training.steps(), 1):
            seconds += step.seconds
            numbers = {"batch_loss": step.loss, **(training.stepper.diagnostics if log and training.alive else {})}
            if step.seen // every > step.before // every or step.seen == total:
                samples.append(step.seen)
                losses.append(training.measured())
                numbers["loss"] = losses[-1]
            if log:
                log(t, numbers)
    with training.stepper.averaged() if training.alive else nullcontext():
        parameters, buffers = _copied(training.model.parameters()), _copied(training.model.buffers())
    return Run(
        optimizer=name,
        problem=task.name,
        seed=training.seed,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        schedule=recipe.schedule.name,
        hypers=training.stepper.hypers,
        samples=np.array(samples, dtype=np.int64),
        losses=np.array(losses),
        seconds=seconds,
        parameters=parameters,
        buffers=buffers,
        versions=versions(),
        metrics=training.scored(),
        held_out={part: training.measured(part) for part in task.parts if part != "train"},
    )


def _between_points(training: Training) -> int:
    """How many samples lie between two points of the loss curve."""
    if training.data.points:
        return training.data.points
    task = training.task
    work = task.samples * sum(p.numel() for p in training.model.parameters())
    points = min(POINTS, max(2 * training.epochs, MEASURED // max(1, work)))
    return RECORD_EVERY * max(1, -(-training.epochs * task.samples // (RECORD_EVERY * points)))
