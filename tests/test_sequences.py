"""Drawn sequences of what users do to a model and its optimizer, step for step beside torch's class.

A sequence is a number: its seed draws a class, its settings, two to five parameters, their groups and dtype, and up to twenty
doings. Each doing has a seed of its own, so that a failing sequence may be cut down: `python tests/test_sequences.py --count
100000 --seed 7` prints one line, and each failing sequence with the doings that it needs.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
import pickle
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from allowances import MEMORY_SHARED, TORCH_DIES, WITHIN_ONE_PARAMETER
from beside import server
from compare import Comparison
from events import EVENTS
from peers import PEERS, Peer
from seen import Moment, Record, moment, seen
from surroundings import Guards, Place, Surroundings
from torch import Tensor

BATCH = 1000
SAMPLE = 80
LARGE = (300, 230)
"""More than 65,536 elements, from which on the kernel is parallel."""

DTYPES = [torch.float32] * 6 + [torch.float64] * 2 + [torch.bfloat16, torch.float16, torch.complex64]
HALVES = (torch.bfloat16, torch.float16)
OPTIONS = {
    "SGD": [{}, {"nesterov": True, "dampening": 0.0}, {"maximize": True}, {"momentum": 0.0}],
    "Adagrad": [{}, {"initial_accumulator_value": 0.3}],
    "RMSprop": [{}, {"centered": False}, {"centered": False, "momentum": 0.0}],
    "Adam": [{}, {"amsgrad": False}, {"maximize": True}, {"lr": 0.02, "weight_decay": 0.0}],
    "AdamW": [{}, {"amsgrad": True}],
}
IN_OTHERS_TOO = MEMORY_SHARED | {name for name in EVENTS if "copy_on_write" in name}
"""Events after which other tensors may have their values in the memory of one."""
BEFALLING = sorted(set(EVENTS) - TORCH_DIES - WITHIN_ONE_PARAMETER)


@dataclass(frozen=True)
class Doing:
    name: str
    seed: int
    event: str = ""

    def __str__(self) -> str:
        return self.event or self.name


@dataclass
class Run:
    """One side of a sequence under way."""

    side: str
    peer: Peer
    settings: dict[str, Any]
    s: Surroundings
    shapes: list[tuple[int, ...]]
    dtype: torch.dtype
    events: list[str] = field(default_factory=list)
    """What has befallen so far."""
    hook_calls: int = 0
    losses_given_back: int = 0

    def values(self, shape: Sequence[int], draw: random.Random, dtype: torch.dtype | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(draw.randrange(2**31))
        dtype = dtype or self.dtype
        if dtype.is_complex:
            return torch.randn(shape, dtype=dtype, generator=generator)
        found = torch.randn(shape, generator=generator)
        if (
            dtype is torch.float16
        ):  # torch rounds a small gradient's square to a subnormal number, and divides by its root
            found += 0.2 * torch.sign(found)
        return found.to(dtype)

    def parameter(self, shape: tuple[int, ...], draw: random.Random) -> torch.nn.Parameter:
        return torch.nn.Parameter(self.s.guards.buffer(self.values(shape, draw)))

    def again(self, side: str) -> torch.optim.Optimizer:
        """A new optimizer over the same parameters in the same groups."""
        groups = [{"params": list(group["params"])} for group in self.s.optimizer.param_groups]
        return self.peer.make(side, groups, **self.settings)

    def seen(self) -> dict[str, Any]:
        return {"hook calls": seen(self.hook_calls), "losses given back": seen(self.losses_given_back)}


DOINGS: dict[str, tuple[float, Callable[[Run, random.Random], None]]] = {}


def doing(weight: float) -> Callable[[Callable[[Run, random.Random], None]], Callable[[Run, random.Random], None]]:
    def named(run: Callable[[Run, random.Random], None]) -> Callable[[Run, random.Random], None]:
        DOINGS[run.__name__] = (weight, run)
        return run

    return named


@doing(8)
def step(run: Run, draw: random.Random) -> None:
    around, run.s.around = run.s.around, Surroundings.around
    with around():
        run.s.optimizer.step()


@doing(1)
def step_with_closure(run: Run, draw: random.Random) -> None:
    weights = [run.values(p.shape, draw, p.dtype) for p in run.s.params]

    def closure() -> Tensor:
        run.s.optimizer.zero_grad()
        products = [(p * w).sum() for p, w in zip(run.s.params, weights, strict=True) if p.requires_grad]
        loss = sum(((x.real if x.is_complex() else x).double() for x in products), torch.zeros((), dtype=torch.float64))
        loss.backward()
        return loss

    run.losses_given_back += isinstance(run.s.optimizer.step(closure), Tensor)


@doing(5)
def new_gradients(run: Run, draw: random.Random) -> None:
    for p in run.s.params:
        p.grad = run.s.guards.buffer(run.values(p.shape, draw, p.dtype))


@doing(3)
def gradients_filled_again(run: Run, draw: random.Random) -> None:
    for p in run.s.params:
        values = run.values(p.shape, draw, p.dtype)
        if p.grad is not None:
            p.grad.copy_(values)


@doing(1)
def some_gradients_none(run: Run, draw: random.Random) -> None:
    for p in run.s.params:
        if draw.random() < 0.5:
            p.grad = None


@doing(1)
def zero_grad_to_none(run: Run, draw: random.Random) -> None:
    run.s.optimizer.zero_grad()


@doing(1)
def zero_grad_in_place(run: Run, draw: random.Random) -> None:
    run.s.optimizer.zero_grad(set_to_none=False)


@doing(1)
def group_added(run: Run, draw: random.Random) -> None:
    if len(run.s.params) < 7:
        shape = drawn_shape(draw)
        new = run.parameter(shape, draw)
        run.s.optimizer.add_param_group({"params": [new], "lr": draw.choice([0.005, 0.02])})
        run.s.params.append(new)


@doing(0.5)
def group_removed(run: Run, draw: random.Random) -> None:
    groups = run.s.optimizer.param_groups
    if len(groups) > 1:
        del groups[draw.randrange(len(groups))]


@doing(2)
def setting_changed(run: Run, draw: random.Random) -> None:
    name = draw.choice(sorted(run.peer.changes))
    group = draw.choice(run.s.optimizer.param_groups)
    group[name] = draw.choice(run.peer.changes[name])


@doing(0.7)
def state_cleared(run: Run, draw: random.Random) -> None:
    run.s.optimizer.state.clear()


def loads_alike(run: Run) -> bool:
    """Whether each state has its parameter's dtype: torch casts others as it loads them, we keep what is more precise.

    NAdam's product is one of them: torch makes it in float32 and casts it down to a half-precision parameter's dtype. Where a state
    shares memory with another tensor, torch's loaded one goes on to share it, and ours has memory of its own.
    """
    halves = any(p.dtype in HALVES for p in run.s.params)
    if not MEMORY_SHARED.isdisjoint(run.events):
        return False
    return not ("mu_product" in run.s.numbers and halves) and all(
        not isinstance(t := run.s.state(k).get(name), Tensor) or t.dtype is p.dtype
        for k, p in enumerate(run.s.params)
        for name in (*run.s.slots, *(n for n in run.s.numbers if n != "step"))
    )


@doing(1.5)
def loaded_anew(run: Run, draw: random.Random) -> None:
    if loads_alike(run):
        saved = run.s.optimizer.state_dict()
        new = run.again(run.side)
        new.load_state_dict(saved)
        run.s.optimizer = new


@doing(1)
def by_way_of_torchs_class(run: Run, draw: random.Random) -> None:
    """Saved, loaded into torch's class, stepped by it, and back."""
    if loads_alike(run):
        theirs = run.again("torch")
        theirs.load_state_dict(run.s.optimizer.state_dict())
        theirs.step()
        ours = run.again(run.side)
        ours.load_state_dict(theirs.state_dict())
        run.s.optimizer = ours


@doing(0.7)
def copied(run: Run, draw: random.Random) -> None:
    run.s.optimizer, run.s.params = copy.deepcopy((run.s.optimizer, run.s.params))


@doing(0.7)
def pickled(run: Run, draw: random.Random) -> None:
    run.s.optimizer, run.s.params = pickle.loads(pickle.dumps((run.s.optimizer, run.s.params)))


@doing(0.5)
def hooked(run: Run, draw: random.Random) -> None:
    def halve(*_: Any) -> None:
        run.hook_calls += 1
        for p in run.s.params[:1]:
            if p.grad is not None:
                p.grad = p.grad * 0.5

    def count(*_: Any) -> None:
        run.hook_calls += 100

    run.s.optimizer.register_step_pre_hook(halve)
    run.s.optimizer.register_step_post_hook(count)


@doing(11)
def befall(run: Run, draw: random.Random) -> None:
    raise AssertionError("has an event's name, and is done by it")


UNSEEN = frozenset(
    {"new_gradients", "gradients_filled_again", "some_gradients_none", "zero_grad_to_none", "zero_grad_in_place"}
    | {"group_removed", "setting_changed", "hooked"}
)
"""Doings whose outcome the next step shows: nothing is compared before it."""


def drawn_shape(draw: random.Random) -> tuple[int, ...]:
    if draw.random() < 0.4:
        return draw.choice([(6, 6), (4, 6)])
    return tuple(
        draw.choice([1, 2, 2, 3, 4, 0] if draw.random() < 0.1 else [1, 2, 2, 3, 4]) for _ in range(draw.randrange(7))
    )


def doings(seed: int) -> list[Doing]:
    draw = random.Random(f"{seed} doings")
    names, weights = list(DOINGS), [w for w, _ in DOINGS.values()]
    found = [Doing("new_gradients", draw.randrange(2**31)), Doing("step", 0)]
    while len(found) < draw.randint(8, 22):
        name = draw.choices(names, weights)[0]
        found.append(Doing(name, draw.randrange(2**31), draw.choice(BEFALLING) if name == "befall" else ""))
        if name == "befall" and draw.random() < 0.6:
            found.append(Doing("step", 0))
    return found


def begun(side: str, seed: int) -> Run:
    """The model and its optimizer."""
    draw = random.Random(f"{seed} model")
    peer = draw.choice(PEERS)
    dtype = draw.choice(DTYPES)
    shapes = [drawn_shape(draw) for _ in range(draw.randint(2, 5))]
    shapes[1] = shapes[0] if draw.random() < 0.7 else shapes[1]
    if draw.random() < 0.02:
        shapes[:2] = [LARGE, LARGE]
    settings = dict(draw.choice(OPTIONS.get(peer.name, [{}])))
    if peer.name == "RMSprop" and dtype in HALVES:
        settings["centered"] = False  # the difference of two averages, each with eight bits
    s = Surroundings(None, [], peer.slots, peer.numbers, Guards())  # type: ignore[arg-type]
    run = Run(side, peer, settings, s, shapes, dtype)
    s.params = [run.parameter(shape, draw) for shape in shapes]
    cuts = sorted({0, len(shapes), *(draw.randrange(len(shapes)) for _ in range(draw.choice([0, 0, 1, 2, 3])))})
    groups: list[dict[str, Any]] = [{"params": s.params[a:b]} for a, b in itertools.pairwise(cuts)]
    for group in groups[1:]:
        group["lr"] = draw.choice([0.004, 0.006])
    s.optimizer = peer.make(side, groups, **settings)
    return run


def do(run: Run, what: Doing) -> Moment:
    draw = random.Random(what.seed)
    in_step = what.name in ("step", "step_with_closure", "by_way_of_torchs_class")
    watched = run.s.guards.watched()
    try:
        if what.event == "storage_freed_and_back" and not IN_OTHERS_TOO.isdisjoint(run.events):
            pass  # what the others had there is lost
        elif what.event:
            kind = draw.choice(["parameter", "gradient", *run.s.slots, *run.s.numbers])
            run.events.append(what.event)
            place = Place(kind, draw.choice([0, 0, 1, draw.randrange(len(run.s.params))]))
            EVENTS[what.event](run.s, place, place.get(run.s))
        else:
            DOINGS[what.name][1](run, draw)
    except Exception as error:  # noqa: BLE001  # what torch refuses is compared as well
        run.s.guards.unwatch(watched)
        found = moment(run.s, str(what), error, in_step=in_step)
        if in_step:
            recover(run)
    else:
        found = Moment(str(what), {}, compared=False) if what.name in UNSEEN else moment(run.s, str(what))
    found.tensors |= run.seen()
    return found


def recover(run: Run) -> None:
    """After a step that raised, all parameters are new, and the optimizer is the same, without states."""
    draw = random.Random(len(run.s.params))
    s = run.s
    s.optimizer.state.clear()
    new = {id(p): run.parameter(tuple(n for n in p.shape if n < 500), draw) for p in s.params}
    for group in s.optimizer.param_groups:
        group["params"] = [new.get(id(p), p) for p in group["params"]]
    s.params = [new[id(p)] for p in s.params]


def perform(job: tuple[str, int, Sequence[int] | None]) -> Record:
    """One side's record of a sequence, or of some of its doings."""
    side, seed, kept = job
    record = Record()
    with torch.no_grad():
        run = begun(side, seed)
        record.moments.append(moment(run.s, "the beginning"))
        listed = doings(seed)
        for k in range(len(listed)) if kept is None else kept:
            record.moments.append(do(run, listed[k]))
        record.broken = run.s.guards.broken()
    return record


def compared(jobs: Sequence[tuple[int, Sequence[int] | None]], side: str) -> list[list[str]]:
    """The differences of each sequence from torch's."""
    sides = [(server(), "torch"), (server(parallel=True) if side != "torch" else server(), side)]
    if side == "torch":
        theirs, ours = (s.run(perform, [(which, *job) for job in jobs]) for s, which in sides)
    else:
        with ThreadPoolExecutor(2) as pool:
            theirs, ours = pool.map(lambda s: s[0].run(perform, [(s[1], *job) for job in jobs]), sides)
    found = []
    for (seed, kept), mine, reference in zip(jobs, ours, theirs, strict=True):
        listed = doings(seed)
        done = listed if kept is None else [listed[k] for k in kept]
        found.append(Comparison(map(str, done)).of(mine, reference))
    return found


def failing(seeds: Sequence[int], side: str = "steprule") -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for start in range(0, len(seeds), BATCH):
        batch = seeds[start : start + BATCH]
        lines = compared([(seed, None) for seed in batch], side)
        found |= {seed: line for seed, line in zip(batch, lines, strict=True) if line}
    return found


def shrunk(seed: int, side: str = "steprule") -> tuple[list[int], list[str]]:
    """The fewest doings found that still fail, by dropping one after the other, and how they fail."""
    kept = list(range(len(doings(seed))))
    lines = compared([(seed, kept)], side)[0]
    shorter = True
    while shorter:
        shorter = False
        tries = [kept[:k] + kept[k + 1 :] for k in range(len(kept))]
        for attempt, found in zip(tries, compared([(seed, t) for t in tries], side), strict=True):
            if found:
                kept, lines, shorter = attempt, found, True
                break
    return kept, lines


def told(seed: int, side: str = "steprule") -> str:
    kept, lines = shrunk(seed, side)
    listed = doings(seed)
    run = begun("torch", seed)
    model = f"{run.peer.name} {run.settings or ''} {run.dtype} {[tuple(p.shape) for p in run.s.params]}"
    return f"seed {seed}: {model}: {', '.join(str(listed[k]) for k in kept)}\n    {'; '.join(lines[:2]) or 'not again'}"


def seeds_of(count: int, seed: int) -> Iterator[int]:
    return iter(range(seed * 1_000_000, seed * 1_000_000 + count))


def is_plain(seed: int) -> bool:
    """Whether it needs but the kernels that each class has anyway: a kernel per mixture of dtypes is seconds to compile."""
    draw = random.Random(f"{seed} model")
    peer, dtype = draw.choice(PEERS), draw.choice(DTYPES)
    mixes = any("float" in what.event or "int64" in what.event for what in doings(seed))
    return dtype is torch.float32 and not mixes and peer.name not in OPTIONS


def check(seeds: Iterable[int]) -> None:
    asked = list(seeds)
    found = failing(asked)
    assert not found, f"{len(found)} of {len(asked)}:\n" + "\n".join(map(told, sorted(found)[:5]))


def test_drawn_sequences() -> None:
    check(itertools.islice(filter(is_plain, itertools.count()), SAMPLE))


@pytest.mark.long
def test_many_drawn_sequences() -> None:
    """`STEPRULE_SEQUENCES` and `STEPRULE_SEED` ask for more, and for others."""
    check(seeds_of(int(os.environ.get("STEPRULE_SEQUENCES", "5000")), int(os.environ.get("STEPRULE_SEED", "1"))))


def kind_of(lines: list[str]) -> str:
    """A failure without its numbers, to count alike ones."""
    return lines[0].partition(" has ")[0].partition(" torch")[0][:100]


def main() -> int:
    parser = argparse.ArgumentParser(description="Drawn sequences beside torch's classes.")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", default="steprule", help='"steprule", or "torch" to prove the harness')
    parser.add_argument("--show", type=int, default=10, help="failing sequences to cut down and print")
    arguments = parser.parse_args()
    found = failing(list(seeds_of(arguments.count, arguments.seed)), arguments.side)
    out = sys.stdout.write
    for seed in sorted(found)[: arguments.show]:
        out(told(seed, arguments.side) + "\n")
    for kind, times in Counter(map(kind_of, found.values())).most_common(20):
        out(f"{times:6} {kind}\n")
    out(f"failing seeds: {' '.join(map(str, sorted(found)))}\n" if found else "")
    out(f"{arguments.count} sequences of seed {arguments.seed}: {len(found)} fail\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
