"""Run a race: hand out blocks, keep what comes back, ask the plan what follows, until every chain is at its end."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import numpy as np

from steprule import extras
from steprule.counts import whole
from steprule.errors import InputError, StepruleError, unknown_name
from steprule.hyper import Search
from steprule.lanes import kernel
from steprule.lanes.model import blank
from steprule.problems.problem import Problem
from steprule.provenance import cores, memory_held, memory_left
from steprule.races import work
from steprule.races.protocol import Block, Chain, Lanes, Phase, blocks_of, chains_of, confirmed, next_phase
from steprule.races.spec import Runner, Spec
from steprule.races.store import Store
from steprule.sweeps.cost import held_by, steps_of

EngineName = Literal["local", "ray"]
ENGINES = ("local", "ray")
Progress = Callable[[int, int, str], None]
"""Called with (lanes done, lanes in all, what); ranges that move add some."""
SMALL = 20_000_000
"""Lanes x steps x parameters below which workers do not pay for their start."""
Submit = Callable[[Block], "Future[tuple[dict[str, Any], float]]"]


@dataclass
class _Chain:
    """A chain on its way."""

    chain: Chain
    done: list[Phase] = field(default_factory=list)
    name: str = ""
    space: Mapping[str, Search] = field(default_factory=dict)
    lanes: Lanes | None = None
    blocks: list[Block] = field(default_factory=list)
    results: dict[int, dict[str, Any]] = field(default_factory=dict)

    def begin(self, spec: Spec) -> bool:
        """Take up the next phase; False where there is none."""
        following = next_phase(spec, self.chain, self.done)
        if following is None:
            return False
        self.name, self.space, self.lanes = following
        self.blocks, self.results = blocks_of(spec, self.chain, self.name, self.lanes), {}
        return True

    def take(self, block: Block, results: dict[str, Any]) -> bool:
        """Keep a block's results; True when the phase is whole."""
        self.results[block.number] = results
        if len(self.results) < len(self.blocks):
            return False
        parts = [self.results[k] for k in range(len(self.blocks))]
        whole = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
        assert self.lanes is not None
        self.done.append(Phase(self.name, self.space, self.lanes, whole))
        return True


@dataclass(frozen=True)
class Outcome:
    """What a run of a race did."""

    phases: dict[Chain, list[Phase]]
    trained: int
    """Lanes that were trained now."""
    kept: int
    """Lanes that were there already."""
    train_seconds: float
    """Of all blocks, added over workers."""


def run(
    spec: Spec, store: Store, *, engine: EngineName = "local", workers: int | None = None, address: str | None = None,
    shard: tuple[int, int] = (0, 1), train: bool = True, progress: Progress | None = None,
) -> Outcome:  # fmt: skip
    """Bring every chain of a shard to its end. With `train` False only what is kept is read, and a gap raises."""
    index, count = shard
    chains = [_Chain(c) for k, c in enumerate(chains_of(spec)) if k % count == index]
    known = sum(spec.studies * spec.trials + confirmed(spec, spec.runner(c.chain.label)) for c in chains)
    finished = trained = kept = 0
    seconds = 0.0
    pending: dict[Future[Any], tuple[_Chain, Block]] = {}
    queue: list[tuple[_Chain, Block]] = []

    def take_up(chain: _Chain) -> None:
        """Begin phases of a chain until one has blocks that are still to be trained."""
        nonlocal known, finished, kept, seconds
        while chain.begin(spec):
            if chain.done and chain.name != "confirm":  # a range that moved
                known += len(chain.lanes or ())
            whole = False
            for block in chain.blocks:
                if found := store.load(block):
                    finished += len(block.lanes)
                    kept += len(block.lanes)
                    seconds += found[1]
                    whole = chain.take(block, found[0])
                elif train:
                    queue.append((chain, block))
                else:
                    what = f"{chain.chain.label} on {chain.chain.problem}, {chain.chain.schedule}"
                    hint = "Run the shard that has it, or this race without --shard."
                    raise InputError(what, expected="all of its blocks", got=f"no {block.name}", hint=hint)
            if not whole:
                return

    for chain in chains:
        take_up(chain)
    # In an order that mixes problems and rules: workers then seldom build the same kernel at the same time.
    queue.sort(key=lambda taken: hashlib.sha256(taken[1].name.encode()).digest())
    if queue:
        with engine_of(spec, store, engine, workers, address, known - finished) as (submit, slots):
            while queue or pending:
                while queue and len(pending) < slots:
                    chain, block = queue.pop(0)
                    pending[submit(block)] = chain, block
                ready, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in ready:
                    chain, block = pending.pop(future)
                    results, spent = future.result()
                    store.save(block, results, spent)
                    finished += len(block.lanes)
                    trained += len(block.lanes)
                    seconds += spent
                    if chain.take(block, results):
                        take_up(chain)
                if progress:
                    progress(finished, known, "race")
    return Outcome({c.chain: c.done for c in chains}, trained, kept, seconds)


def remaining(spec: Spec, store: Store, shard: tuple[int, int] = (0, 1)) -> dict[Chain, tuple[int, int]]:
    """By chain how many lanes are to be trained, where no range moves any more, and how many are kept."""
    index, count = shard
    found = {}
    for chain in (_Chain(c) for k, c in enumerate(chains_of(spec)) if k % count == index):
        missing = kept = 0
        while not missing and chain.begin(spec):
            for block in chain.blocks:
                if results := store.load(block):
                    kept += len(block.lanes)
                    chain.take(block, results[0])
                else:
                    missing += len(block.lanes)
        if missing and chain.name != "confirm":
            missing += confirmed(spec, spec.runner(chain.chain.label))
        found[chain.chain] = missing, kept
    return found


@contextmanager
def engine_of(
    spec: Spec, store: Store, name: str, workers: int | None, address: str | None, lanes: int
) -> Iterator[tuple[Submit, int]]:
    """What takes blocks, and how many it should hold at once."""
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    if name == "ray":
        from steprule.races.on_ray import cluster

        with cluster(_packed(spec, store, shared=False), address) as taken:
            yield taken
        return
    count = whole("workers", workers, 1) if workers is not None else workers_for(spec, lanes)
    if count > 1:
        try:
            sent = _packed(spec, store)
        except InputError:
            if workers is not None:
                raise
            count = 1  # it can still be raced in this process
    if count == 1:
        package = work.package_of(spec, store)
        yield lambda block: _finished(work.train_block(package, block)), 1
        return
    with extras.needed():
        import loky

    executor: Executor | None = None
    try:
        given = os.getpid(), sent
        with _without_hangup():  # loky's own helper starts here, and must outlive a terminal to clean up
            executor = loky.ProcessPoolExecutor(max_workers=count, initializer=work.begin, initargs=given)
        taking = executor
        printed = [p.name for p in spec.problems if spec.plans[p.name].engine == "kernel"]
        for part, name in product(kernel.PARTS, printed):
            taking.submit(work.build, name, part)
        yield lambda block: taking.submit(work.train_here, block), 2 * count
    except BaseException as error:
        if executor is not None:
            executor.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]
            executor = None
        if isinstance(error, loky.process_executor.BrokenProcessPool):
            hint = "Run the same command: it goes on from the blocks that are finished."
            raise StepruleError(
                "a worker died", expected="it to finish its block", got=str(error).splitlines()[0], hint=hint
            ) from error
        raise
    finally:
        if executor is not None:
            executor.shutdown(wait=True)


@contextmanager
def _without_hangup() -> Iterator[None]:
    """A process that is started inside never sees HUP; one that comes to this process waits until the end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _packed(spec: Spec, store: Store, *, shared: bool = True) -> bytes:
    """The race for other processes. Raises `InputError` where something in it cannot be sent."""
    try:
        return work.packed(spec, store, shared=shared)
    except Exception as error:
        got = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "With --workers 1 it runs in this process."
        raise InputError("workers", expected="what can be sent to another process", got=got, hint=hint) from error


def _finished(result: tuple[dict[str, Any], float]) -> Future[tuple[dict[str, Any], float]]:
    future: Future[tuple[dict[str, Any], float]] = Future()
    future.set_result(result)
    return future


def workers_for(spec: Spec, lanes: int) -> int:
    """All cores where the work is worth their start, which takes seconds, as far as memory goes and trainings do not take them all."""
    costs = []
    for task in spec.problems:
        plan = spec.plans[task.name]
        steps = steps_of(task, plan.epochs, plan.batch_size)
        slow = 1_000 if plan.engine == "one by one" or not all(r.is_rule for r in spec.runners) else 1
        costs.append(slow * steps * sum(p.numel() for p in blank(task).parameters()))
    if spec.device != "cpu" or lanes * float(np.mean(costs)) < SMALL:
        return 1
    left, most = memory_left(), max(1, cores() // max(plan.threads for plan in spec.plans.values()))
    if left is None or most == 1:
        return most
    held = max(_held(spec, task, runner) for task in spec.problems for runner in spec.runners)
    return max(1, min(most, left // (held + memory_held())))


def _held(spec: Spec, task: Problem, runner: Runner) -> int:
    """The bytes that a block of this runner holds at most."""
    plan, lanes = spec.plans[task.name], spec.block(task.name, runner.label)
    how: dict[str, Any] = {"batch_size": plan.batch_size, "engine": plan.engine, "device": spec.device}
    return held_by(task, runner.what, runner.middle, lanes, **how)
