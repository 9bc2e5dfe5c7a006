"""When compiling pays: the seconds after which a sweep's kernel has caught up."""

from __future__ import annotations

import time

import numpy as np

from steprule.lanes.choose import first_samples
from steprule.lanes.records import Trainings, named_hypers
from steprule.lanes.train import train_lanes
from steprule.problems import catalogue as problems
from steprule.problems.problem import Problem
from steprule.sweeps.result import Sweep
from steprule.trainable import Optimizable, Stating, Trainable, stated
from steprule.training.recipe import Recipe


def pays_after(rule: Optimizable, problem: str | Problem, found: Sweep) -> float | None:
    """After how many seconds of what needs no compilation the kernel of a sweep had paid for its own.

    From some steps of `torch.vmap` here and now; None where there was no kernel, or none that is faster.
    """
    what, task = Trainable.of(rule).what, problems.get(problem)
    if found.engine != "kernel" or not isinstance(what, Stating) or isinstance(found.batch_size, tuple):
        return None
    count, size = min(found.lanes, 1_024), min(found.batch_size, task.samples // 9 or 1)
    hypers = {n: np.full(count, h.default) for n, h in named_hypers(stated(what))}
    lanes = Trainings(hypers, np.zeros(count, dtype=np.int64))
    part = first_samples(task, 9 * size)
    took: dict[int, list[float]] = {1: [], 33: []}
    for epochs in (1, 1, 33, 1, 33):  # the first builds what the others need; with one apart is what is done once
        began = time.perf_counter()
        train_lanes(part, stated(what), lanes, Recipe(epochs, size), "vmap")
        took[epochs].append(time.perf_counter() - began)
    epochs = found.epochs if isinstance(found.epochs, int) else max(found.epochs)
    slow = (min(took[33]) - min(took[1])) / (32 * 9) / count * epochs * -(-task.samples // size)
    gained = slow - 1 / found.lanes_per_second
    return slow * found.compile_seconds / gained if gained > 0 else None
