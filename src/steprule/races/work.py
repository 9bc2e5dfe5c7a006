"""Train one block, wherever it runs: what every engine calls, on one thread for the same bits everywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steprule.compiler.threads import one_thread
from steprule.identity import by_value
from steprule.lanes import kernel
from steprule.lanes.one_by_one import one_by_one
from steprule.lanes.records import Engine, Outcome, Trainings, bound, by_variant, curve_of
from steprule.lanes.train import train_lanes
from steprule.orphans import end_with
from steprule.problems import catalogue as problems, scoring
from steprule.problems.problem import Problem
from steprule.races.chain import Array, Block
from steprule.races.competitor import Entrant
from steprule.races.partial import Partial
from steprule.races.spec import Spec, TrainingConfig
from steprule.races.store import Store, partial_of
from steprule.schedules import Schedule
from steprule.trainable import stated
from steprule.training import train
from steprule.training.recipe import Recipe

Results = dict[str, Array]
"""Of a block, [lanes] each: train, validation, test, initial, died_at, curve, metrics; where they are watched also seconds, samples,
losses."""
FOUND = tuple(f.name for f in fields(Outcome))


@dataclass(frozen=True)
class Package:
    """What a worker needs to know of a race: problems by name, where they are embedded; rules, models and functions by value."""

    problems: Mapping[str, Any]
    entrants: Mapping[str, Entrant]
    schedules: Mapping[str, Schedule]
    configs: Mapping[str, TrainingConfig]
    device: str
    watches: bool
    """Whether each training is measured along its way."""
    race: str
    """The race's digest."""
    folder: str | None
    """Where long trainings are kept in their middle; None where no worker of another machine could write there."""


def package_of(spec: Spec, store: Store, *, shared: bool = True) -> Package:
    """What a worker needs that shares this machine's disk, or does not."""
    folder = str(store.folder.absolute()) if store.folder is not None and shared else None
    return Package(
        problems={p.name: p.name if p.name in problems.names() else p for p in spec.problems},
        entrants={e.label: e for e in spec.entrants},
        schedules={s.name: s for s in spec.schedules},
        configs=spec.configs,
        device=spec.device,
        watches=spec.protocol.watches,
        race=store.digest,
        folder=folder,
    )


def packed(spec: Spec, store: Store, *, shared: bool = True) -> bytes:
    """The same as bytes, for workers in other processes and on other machines."""
    return by_value.dumps(package_of(spec, store, shared=shared))


def unpacked(package: bytes) -> Package:
    """The race from its bytes."""
    return by_value.loads(package)  # type: ignore[no-any-return]


def train_block(package: Package, block: Block) -> tuple[Results, float]:
    """The results of a block, and the seconds that it took."""
    began = time.perf_counter()
    config, entrant = package.configs[block.chain.problem], package.entrants[block.chain.label]
    task = entrant.trains(problems.get(package.problems[block.chain.problem]))
    recipe = Recipe(config.epochs, config.batch_size, package.schedules[block.chain.schedule], package.device)
    with alone(config.threads):
        if package.watches:
            found = _watched(task, entrant, block, recipe)
        elif entrant.is_rule and config.engine != "one by one":
            found = _together(task, entrant, block, recipe, config.engine)
        else:
            keeper = Partial(partial_of(Path(package.folder), block), package.race) if package.folder else None
            outcome = one_by_one(task, entrant.what, _given(entrant, block), recipe, keeper)
            found = {name: getattr(outcome, name) for name in FOUND}
    return found, time.perf_counter() - began


def _together(task: Problem, entrant: Entrant, block: Block, recipe: Recipe, engine: Engine) -> Results:
    """Lanes of a rule that are trained together, those of one variant at a time."""
    rule, lanes = stated(entrant.what), _given(entrant, block)
    full = Trainings(bound(rule, lanes.hypers, len(lanes)), lanes.seeds)
    found: Results = {}
    for part in by_variant(rule, full.hypers):
        outcome = train_lanes(task, rule, full.take(part), recipe, engine)
        for name in FOUND:
            values = getattr(outcome, name)
            found.setdefault(name, np.empty((len(lanes), *values.shape[1:]), dtype=values.dtype))[part] = values
    return found


def _given(entrant: Entrant, block: Block) -> Trainings:
    """The lanes with what is searched and what is set."""
    fixed = {n: np.full(len(block.lanes), v) for n, v in entrant.fixed.items()}
    return Trainings({**block.lanes.hypers, **fixed}, block.lanes.seed)


def _watched(task: Problem, entrant: Entrant, block: Block, recipe: Recipe) -> Results:
    """Lanes that are trained by `steprule.train`, which measures the loss on all training samples along the way."""
    lanes = Trainings(block.lanes.hypers, block.lanes.seed)
    rows = []
    for lane in range(len(lanes)):
        hypers = {**lanes.point(lane), **entrant.fixed}
        rows.append(_watched_once(task, entrant, int(lanes.seeds[lane]), recipe, hypers))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _watched_once(
    task: Problem, entrant: Entrant, seed: int, recipe: Recipe, hypers: Mapping[str, Any]
) -> dict[str, Any]:
    batches: list[float] = []

    def log(step: int, numbers: Mapping[str, float]) -> None:
        if step:
            batches.append(numbers["batch_loss"])
        else:
            batches.clear()  # a training that begins again, in another way

    run = train(
        entrant.what, task, seed, recipe.epochs, recipe.batch_size, schedule=recipe.schedule, device=recipe.device,
        log=log, **hypers,
    )  # fmt: skip
    bad = np.flatnonzero(~np.isfinite(batches))
    return {
        "train": run.final_loss,
        "validation": np.nan,
        "test": np.nan,
        "initial": run.losses[0],
        "died_at": int(bad[0]) + 1 if len(bad) else 0,
        "curve": curve_of(np.array(batches)),
        "metrics": scoring.row_of(task, run.metrics),
        "seconds": run.seconds,
        "samples": run.samples,
        "losses": run.losses,
    }


def begin(parent: int, package: bytes) -> None:
    """What a worker process on this machine does first: it keeps the race, and ends with its parent."""
    end_with(parent)
    _own[:] = [package]


def train_here(block: Block) -> tuple[Results, float]:
    """`train_block` in such a worker."""
    return train_block(_of_this_worker(), block)


def build(problem: str, part: kernel.Part) -> None:
    """Build one of the kernels of a problem, so that workers share that work and do not all do the same first."""
    package = _of_this_worker()
    task, config = problems.get(package.problems[problem]), package.configs[problem]
    with alone():
        kernel.build(task, config.batch_size, part)


_own: list[bytes] = []
"""The race of this process, where it is a worker."""


@lru_cache(maxsize=1)
def _of_this_worker() -> Package:
    return unpacked(_own.pop())


@contextmanager
def alone(use: int = 1) -> Iterator[None]:
    """torch and the kernels on this thread, or on so many, for a sum over more threads has other bits.

    What is too small for a float's exponent is 0: lanes with wild settings are full of it, and a processor needs a hundred times as
    long for it.
    """
    threads, flushing = torch.get_num_threads(), float(torch.tensor(1e-308, dtype=torch.float64) * 0.1) == 0.0
    torch.set_num_threads(use)
    torch.set_flush_denormal(True)
    try:
        with one_thread() if use == 1 else nullcontext():
            yield
    finally:
        torch.set_flush_denormal(flushing)
        torch.set_num_threads(threads)
