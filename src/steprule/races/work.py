"""Train one block: what every engine calls, on one thread, so that the bits are the same everywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steprule.compiler.threads import one_thread
from steprule.identity import by_value
from steprule.lanes import kernel
from steprule.lanes.one_by_one import one_by_one
from steprule.lanes.records import WINDOWS, Lanes, bound, by_variant
from steprule.lanes.train import train_lanes
from steprule.orphans import end_with
from steprule.problems import catalogue as problems
from steprule.races.partial import Partial
from steprule.races.protocol import Block
from steprule.races.spec import Plan, Runner, Spec
from steprule.races.store import Store, partial_of
from steprule.rules.parts import for_training
from steprule.schedules import Schedule
from steprule.training.recipe import Recipe

Array = NDArray[Any]
RESULTS = ("train", "validation", "test", "initial", "died_at", "curve", "metrics")


@dataclass(frozen=True)
class Package:
    """What a worker needs to know of a race: problems by name, where they are embedded; rules, models and functions by value."""

    problems: Mapping[str, Any]
    runners: Mapping[str, Runner]
    schedules: Mapping[str, Schedule]
    plans: Mapping[str, Plan]
    device: str
    race: str
    """The race's digest."""
    folder: str | None
    """Where long trainings are kept in their middle; None where no worker of another machine could write there."""


def package_of(spec: Spec, store: Store, *, shared: bool = True) -> Package:
    """What a worker needs that shares this machine's disk, or does not."""
    named = {p.name: p.name if p.name in problems.names() else p for p in spec.problems}
    planned = {s.name: s for s in spec.schedules}
    folder = str(store.folder.absolute()) if store.folder is not None and shared else None
    return Package(named, {r.label: r for r in spec.runners}, planned, spec.plans, spec.device, store.digest, folder)


def packed(spec: Spec, store: Store, *, shared: bool = True) -> bytes:
    """The same as bytes, for workers in other processes and on other machines."""
    return by_value.dumps(package_of(spec, store, shared=shared))


def unpacked(package: bytes) -> Package:
    """The race from its bytes."""
    return by_value.loads(package)  # type: ignore[no-any-return]


def train_block(package: Package, block: Block) -> tuple[dict[str, Array], float]:
    """The results of a block, [lanes], and the seconds that it took."""
    began = time.perf_counter()
    lanes, plan, runner = block.lanes, package.plans[block.chain.problem], package.runners[block.chain.label]
    task = problems.get(package.problems[block.chain.problem])
    found: dict[str, Array] = {n: np.empty(len(lanes)) for n in RESULTS[:-2]}
    found["died_at"] = np.zeros(len(lanes), dtype=np.int64)
    found["curve"] = np.empty((len(lanes), WINDOWS))
    found["metrics"] = np.empty((len(lanes), len(task.metric_columns)))
    recipe = Recipe(plan.epochs, plan.batch_size, package.schedules[block.chain.schedule], package.device)
    given = {**lanes.hypers, **{n: np.full(len(lanes), v) for n, v in runner.fixed.items()}}
    with alone(plan.threads):
        if runner.is_rule and plan.engine != "one by one":
            rule = for_training(runner.what)
            full = Lanes(bound(rule, given, len(lanes)), lanes.seed)
            rows = by_variant(rule, full.hypers)
            parts = [(part, train_lanes(task, rule, full.take(part), recipe, plan.engine)) for part in rows]
        else:
            keeper = Partial(partial_of(Path(package.folder), block), package.race) if package.folder else None
            outcome = one_by_one(task, runner.what, Lanes(given, lanes.seed), recipe, keeper)
            parts = [(np.arange(len(lanes)), outcome)]
    for part, outcome in parts:
        for name, values in found.items():
            values[part] = getattr(outcome, name)
    return found, time.perf_counter() - began


def begin(parent: int, package: bytes) -> None:
    """What a worker process on this machine does first: it keeps the race, and ends with its parent."""
    end_with(parent)
    _own[:] = [package]


def train_here(block: Block) -> tuple[dict[str, Array], float]:
    """`train_block` in such a worker."""
    return train_block(_of_this_worker(), block)


def build(problem: str, part: kernel.Part) -> None:
    """Build one of the kernels of a problem, so that workers share that work and do not all do the same first."""
    package = _of_this_worker()
    task, plan = problems.get(package.problems[problem]), package.plans[problem]
    with alone():
        kernel.build(task, plan.batch_size, part)


_own: list[bytes] = []
"""The race of this process, where it is a worker."""


@lru_cache(maxsize=1)
def _of_this_worker() -> Package:
    return unpacked(_own.pop())


@contextmanager
def alone(use: int = 1) -> Iterator[None]:
    """torch and the kernels on this thread, or on so many, for a sum over more threads has other bits; and what is too small for a
    float's exponent is 0: lanes with wild settings are full of it, and a processor needs a hundred times as long for it."""
    threads, flushing = torch.get_num_threads(), float(torch.tensor(1e-308, dtype=torch.float64) * 0.1) == 0.0
    torch.set_num_threads(use)
    torch.set_flush_denormal(True)
    try:
        with one_thread() if use == 1 else nullcontext():
            yield
    finally:
        torch.set_flush_denormal(flushing)
        torch.set_num_threads(threads)
