"""Run a race: hand out blocks, keep what comes back, ask the protocol what follows, until all is done."""

from __future__ import annotations

import hashlib
import os
import signal
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import numpy as np

from steprule import extras
from steprule.errors import InputError, StepruleError
from steprule.lanes import kernel
from steprule.lanes.model import blank
from steprule.problems.problem import Problem
from steprule.provenance import cores, memory_held, memory_left
from steprule.races import work
from steprule.races.chain import Block, Chain, Phase, Planned
from steprule.races.competitor import Entrant
from steprule.races.protocol import Tuned
from steprule.races.spec import Spec
from steprule.races.stage import stages_of
from steprule.races.store import Store
from steprule.sweeps.cost import held_by
from steprule.training.recipe import Recipe

EngineName = Literal["local", "ray"]
ENGINES = ("local", "ray")
Progress = Callable[[int, int, str], None]
"""Called with (lanes done, lanes in all, what); ranges that move add some."""
SMALL = 20_000_000
"""Lanes x steps x parameters below which workers do not pay for their start."""
Shard = tuple[int, int]
"""Which part of a race, from 0, and of how many."""
Cell = tuple[str, str]
"""A problem and a schedule."""
Submit = Callable[[Block], "Future[tuple[dict[str, Any], float]]"]


@dataclass(frozen=True)
class Onward:
    """What follows a look at a cell."""

    stages: Mapping[Chain, int]
    """Of each chain that goes on how many stages it is to have; {} where none does."""
    trains: bool = True
    """Whether that is worth training. Where it is not, only what is kept already is taken up."""


class Referee(typing.Protocol):
    """Who looks at a race until decided."""

    def look(self, phases: Mapping[Chain, Sequence[Phase]], seconds: Mapping[Chain, float], trained: float) -> Onward:
        """What follows, when every chain of a cell has the stages that it was to have.

        Args:
            phases: of every chain of the cell.
            seconds: what they took, added over workers.
            trained: what all that was trained by this call took so far, added over workers.
        """


@dataclass
class _Chain:
    """A chain on its way."""

    chain: Chain
    entrant: Entrant
    done: list[Phase] = field(default_factory=list)
    planned: Planned | None = None
    blocks: list[Block] = field(default_factory=list)
    results: dict[int, dict[str, Any]] = field(default_factory=dict)
    stages: int = 1
    """How many it is to have, where its protocol knows stages."""
    looked: int = 0
    """Its phases at the last look."""
    trains: bool = True
    kept: int = 0
    seconds: float = 0.0

    @property
    def cell(self) -> Cell:
        """Where it stands."""
        return self.chain.problem, self.chain.schedule

    @property
    def waits(self) -> bool:
        """Whether it has the stages that it was to have."""
        return len(stages_of(self.done)) >= self.stages

    def begin(self, spec: Spec) -> bool:
        """Take up the next phase; False where there is none, or it waits for a look."""
        if isinstance(spec.protocol, Tuned) and self.waits:
            return False
        self.planned = spec.protocol.following(self.chain, self.entrant, self.done)
        if self.planned is None:
            if not self.done:
                raise InputError("protocol", expected="a first phase of each chain", got="None")
            return False
        if self.planned.name in [phase.name for phase in self.done]:
            expected = "each phase of a chain under a name of its own"
            raise InputError("protocol", expected=expected, got=f"{self.planned.name!r} twice")
        self.blocks = self.planned.blocks(self.chain, spec.block(self.chain.problem, self.chain.label))
        self.results = {}
        return True

    def take(self, block: Block, results: dict[str, Any], seconds: float) -> bool:
        """Keep a block's results; True when the phase is whole."""
        self.results[block.number] = results
        self.seconds += seconds
        if len(self.results) < len(self.blocks) or self.planned is None:
            return False
        parts = [self.results[b.number] for b in self.blocks]
        whole = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
        self.done.append(Phase(self.planned.name, self.planned.space, self.planned.lanes, whole))
        return True

    @property
    def expected(self) -> int:
        """How many lanes it has, as far as that is known now."""
        if self.planned is None:
            return sum(len(phase.lanes) for phase in self.done)
        before = [p for p in self.done if p.name != self.planned.name]
        return sum(len(phase.lanes) for phase in before) + len(self.planned.lanes) + self.planned.to_come


class Going:
    """The chains of a shard, and the blocks that are still to be trained.

    With `train` False only what is kept is read, and a gap raises; behind a look it ends what is read of the cell.
    """

    def __init__(
        self, spec: Spec, store: Store, shard: Shard = (0, 1), referee: Referee | None = None, *, train: bool
    ) -> None:
        self.spec, self.store, self.referee, self.train = spec, store, referee, train
        self.queue: list[tuple[_Chain, Block]] = []
        self.trained = self.kept = 0
        self.seconds = self.kept_seconds = 0.0
        self.chains = {c: _Chain(c, spec.entrant(c.label), trains=train) for c in chains_of(spec, shard)}
        for chain in self.chains.values():
            self._take_up(chain)

    def _take_up(self, chain: _Chain) -> None:
        """Begin phases of a chain until one has blocks that are still to be trained."""
        while chain.begin(self.spec):
            whole = False
            for block in chain.blocks:
                if found := self.store.load(block):
                    self.kept += len(block.lanes)
                    chain.kept += len(block.lanes)
                    self.kept_seconds += found[1]
                    whole = chain.take(block, *found)
                elif chain.trains:
                    self.queue.append((chain, block))
                elif chain.stages > 1:
                    return  # a race that was stopped within this stage: it is read to the look before
                else:
                    what = f"{chain.chain.label} on {chain.chain.problem}, {chain.chain.schedule}"
                    hint = "Run the shard that has it, or this race without --shard."
                    raise InputError(what, expected="all of its blocks", got=f"no {block.name}", hint=hint)
            if not whole:
                return
        self._look(chain.cell)

    def _look(self, cell: Cell) -> None:
        """Ask who goes on, once all chains of a cell wait for it."""
        mine = [c for c in self.chains.values() if c.cell == cell]
        if self.referee is None or not all(c.waits for c in mine):
            return
        seconds = {c.chain: c.seconds for c in mine}
        for c in mine:
            c.looked = len(c.done)
        onward = self.referee.look({c.chain: c.done for c in mine}, seconds, self.seconds)
        again = [self.chains[chain] for chain in onward.stages]
        for c in again:
            c.stages, c.trains = onward.stages[c.chain], self.train and onward.trains
        for c in again:
            self._take_up(c)

    def keep(self, chain: _Chain, block: Block, results: dict[str, Any], seconds: float) -> None:
        """A block has been trained."""
        self.store.save(block, results, seconds)
        self.trained += len(block.lanes)
        self.seconds += seconds
        if chain.take(block, results, seconds):
            self._take_up(chain)

    @property
    def expected(self) -> int:
        """How many lanes there are, as far as that is known now."""
        return sum(chain.expected for chain in self.chains.values())

    @property
    def phases(self) -> dict[Chain, list[Phase]]:
        """What is done; in a race until decided what was done at the last look."""
        return {c.chain: c.done if self.referee is None else c.done[: c.looked] for c in self.chains.values()}


@dataclass(frozen=True)
class Ran:
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
    shard: Shard = (0, 1), train: bool = True, progress: Progress | None = None, referee: Referee | None = None,
) -> Ran:  # fmt: skip
    """Bring every chain of a shard to its end. With `train` False only what is kept is read, and a gap raises."""
    going = Going(spec, store, shard, referee, train=train)
    # In an order that mixes problems and rules: workers then seldom build the same kernel at the same time.
    queue = going.queue
    queue.sort(key=lambda taken: hashlib.sha256(taken[1].name.encode()).digest())
    pending: dict[Future[Any], Any] = {}
    if queue:
        left = going.expected - going.kept
        with engine_of(spec, store, engine, workers, address, left) as (submit, slots):
            while queue or pending:
                while queue and len(pending) < slots:
                    chain, block = queue.pop(0)
                    pending[submit(block)] = chain, block
                ready, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in ready:
                    going.keep(*pending.pop(future), *future.result())
                if progress:
                    progress(going.kept + going.trained, going.expected, "race")
    return Ran(going.phases, going.trained, going.kept, going.kept_seconds + going.seconds)


def chains_of(spec: Spec, shard: Shard) -> list[Chain]:
    """The chains of a shard. Those of one cell stay together where they wait for one another."""
    index, count = shard
    if isinstance(spec.protocol, Tuned) and spec.protocol.stages > 1:
        cells = list(dict.fromkeys((c.problem, c.schedule) for c in spec.chains))
        return [c for c in spec.chains if cells.index((c.problem, c.schedule)) % count == index]
    return [c for k, c in enumerate(spec.chains) if k % count == index]


@contextmanager
def engine_of(
    spec: Spec, store: Store, name: str, workers: int | None, address: str | None, lanes: int
) -> Iterator[tuple[Submit, int]]:
    """What takes blocks, and how many it should hold at once."""
    if name == "ray":
        from steprule.races.on_ray import cluster

        with cluster(_packed(spec, store, shared=False), address) as taken:
            yield taken
        return
    count = workers_for(spec, lanes) if workers is None else workers
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
    with _processes(count, sent) as executor:
        printed = [p.name for p in spec.problems if spec.configs[p.name].engine == "kernel"]
        for part, problem in product(kernel.PARTS, printed):
            executor.submit(work.build, problem, part)
        yield lambda block: executor.submit(work.train_here, block), 2 * count


@contextmanager
def _processes(count: int, package: bytes) -> Iterator[Executor]:
    """So many processes that have the race. Raises `StepruleError` where one dies."""
    with extras.needed():
        import loky

    executor: Executor | None = None
    try:
        given = os.getpid(), package
        with _without_hangup():  # loky's own helper starts here, and must outlive a terminal to clean up
            executor = loky.ProcessPoolExecutor(max_workers=count, initializer=work.begin, initargs=given)
        with warnings.catch_warnings():
            # loky takes an allocator that keeps what lanes have used for a leak, and begins a worker anew: nothing is lost.
            warnings.filterwarnings("ignore", message="A worker was restarted", category=UserWarning)
            yield executor
    except BaseException as error:
        if executor is not None:
            executor.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]
            executor = None
        if isinstance(error, loky.process_executor.BrokenProcessPool):
            hint = "Run the same command: it goes on from the blocks that are finished."
            got = str(error).splitlines()[0]
            raise StepruleError("a worker died", expected="it to finish its block", got=got, hint=hint) from error
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
        hint = "With one worker it runs in this process."
        raise InputError("workers", expected="what can be sent to another process", got=got, hint=hint) from error


def _finished(result: tuple[dict[str, Any], float]) -> Future[tuple[dict[str, Any], float]]:
    future: Future[tuple[dict[str, Any], float]] = Future()
    future.set_result(result)
    return future


def workers_for(spec: Spec, lanes: int) -> int:
    """All cores where the work is worth their start, which takes seconds, as far as memory goes and trainings do not take them all."""
    costs = []
    for task in spec.problems:
        config = spec.configs[task.name]
        steps = Recipe(config.epochs, config.batch_size).steps(task)
        slow = 1_000 if config.engine == "one by one" or not all(e.is_rule for e in spec.entrants) else 1
        costs.append(slow * steps * sum(p.numel() for p in blank(task).parameters()))
    if spec.device != "cpu" or lanes * float(np.mean(costs)) < SMALL:
        return 1
    left, most = memory_left(), max(1, cores() // max(config.threads for config in spec.configs.values()))
    if left is None or most == 1:
        return most
    held = max(_held(spec, task, entrant) for task in spec.problems for entrant in spec.entrants)
    return max(1, min(most, left // (held + memory_held())))


def _held(spec: Spec, task: Problem, entrant: Entrant) -> int:
    """The bytes that a block of this entrant holds at most."""
    config, lanes = spec.configs[task.name], spec.block(task.name, entrant.label)
    how: dict[str, Any] = {"batch_size": config.batch_size, "engine": config.engine, "device": spec.device}
    return held_by(entrant.trains(task), entrant.what, entrant.middle, lanes, **how)
