"""What trainings will take together, known before they start: counted, and measured where they are long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from steprule.counts import counted, whole
from steprule.display import Shown, duration, size
from steprule.lanes.model import blank
from steprule.lanes.records import Engine
from steprule.problems.problem import Problem
from steprule.provenance import memory_held
from steprule.sweeps.cost import TrainingCost, cost_of
from steprule.training.recipe import Recipe

LONG, STEP = 1_000_000_000, 100_000
"""Parameters x steps of a long piece of work; a step of a small model is worth so many."""
GAIN = 100
"""By how much lanes that are trained together are quicker than one by one, for small models."""


def work_of(task: Problem, epochs: int, batch_size: int) -> int:
    """The work of one training, by counts and not by the clock: `LONG` is some ten seconds, one by one."""
    return Recipe(epochs, batch_size).steps(task) * (STEP + sum(p.numel() for p in blank(task).parameters()))


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
    why_more: str = "where ranges of learning rates have to move"
    """Why there may be more."""

    def in_words(self) -> str:
        """One line."""
        more = f" (up to {self.most:,} {self.why_more})" if self.most > self.trainings else ""
        kept = f", {self.kept:,} are there already" if self.kept else ""
        found = f"{counted(self.trainings, 'training')}{more}{kept}, {counted(self.steps, 'step')}"
        if self.seconds is None or self.bytes is None:
            return found
        where = counted(self.workers * self.threads, "core")
        return f"{found}: about {duration(self.seconds)} on {where}, {size(self.bytes)} of memory"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class AlikeTrainings:
    """Trainings that are alike."""

    trainings: int
    steps: int
    """Of each."""
    work: int
    """Of each, as `work_of` counts it."""
    engine: Engine
    cost: Callable[[], TrainingCost]
    """Measures one."""


def is_long(parts: Iterable[AlikeTrainings]) -> bool:
    """Whether trainings take so long that it is worth to measure how long."""
    return sum(p.trainings * p.work / (1 if p.engine == "one by one" else GAIN) for p in parts) >= LONG


def estimate(parts: Sequence[AlikeTrainings], kept: int = 0, *, measure: bool) -> Estimate:
    """Of trainings in this process. With `measure` False only what is long is measured."""
    count, steps = sum(p.trainings for p in parts), sum(p.trainings * p.steps for p in parts)
    threads = torch.get_num_threads()
    if not (measure or is_long(parts)):
        return Estimate(count, count, kept, steps, None, 1, threads, None)
    costs = [part.cost() for part in parts]
    seconds = sum(c.once + c.seconds(p.trainings, p.steps) for p, c in zip(parts, costs, strict=True))
    held = max((c.held for c in costs), default=0) + memory_held()
    return Estimate(count, count, kept, steps, seconds, 1, threads, held)


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
    """The estimate of one training that is not measured in between; with the problem's own epochs and batch size where none are given."""
    epochs = whole("epochs", task.epochs if epochs is None else epochs, 1)
    batch_size = task.batch_size_for(batch_size)
    how: dict[str, Any] = {"batch_size": batch_size, "engine": "one by one", "device": device}
    cost = partial(cost_of, task, what, hypers, 1, 1, **how)
    one = AlikeTrainings(
        1, Recipe(epochs, batch_size).steps(task), work_of(task, epochs, batch_size), "one by one", cost
    )
    return estimate([one], measure=measure)
