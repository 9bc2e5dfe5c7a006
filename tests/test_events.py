"""Whatever befalls a tensor between two steps, the step gives torch's numbers or torch's error, and writes nowhere else.

The matrix: each event of `events.py` x parameter, gradient and each state x each class, on small tensors and on ones that
the parallel kernel steps, beside torch's class. Buffers lie between guard words, memory that was replaced is watched, and
each side runs in a process of its own, so that a crash is a result.
"""

from __future__ import annotations

import math
import os
import random
import signal
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from allowances import TORCH_DIES, TORCH_WRONG, WITHIN_ONE_PARAMETER
from beside import Death, server
from compare import Comparison
from events import CANCELLING, COMPLEX, EVENTS
from peers import BY_NAME, OTHER_SIDES, PEERS, Peer
from seen import Moment, Record, moment, step
from surroundings import Guards, Place, Surroundings
from torch import Tensor

from steprule import optim

SIZES = {"small": [(6, 6), (6, 6), (5,), ()], "large": [(300, 300), (300, 300), (5,)]}
"""The parallel kernel begins at 65,536 elements."""
STEPS_AFTER = 3
SAMPLE = 15
"""Cases per class in the default suite."""
BATCH = 150

OF_SOME_DIMENSION = frozenset(
    {"data_transposed_elsewhere", "data_transposed", "data_six_dimensional", "transposed", "overlapping_the_other"}
    | {"data_shrunk", "data_reshaped", "set_half", "resize_smaller", "resize_larger", "mkldnn", "shape_taller"}
    | {"shape_shorter", "shape_much_taller", "shape_a_row", "shape_turned"}
    | {name for name in EVENTS if name.startswith("data_read_as_")}
)
OF_PARAMETERS = frozenset({"listed_twice", "parameter_subclass", "replaced_by_parameter"})
OF_STATES = frozenset({"no_value", "with_the_gradient", "mkldnn"})
NOT_OF_PARAMETERS = frozenset(
    {"with_the_parameter", "with_the_other_parameter", "the_other", "sparse", "int64", "data_int64"}
)
NOT_OF_GRADIENTS = frozenset({"swapped", "on_meta", "int64", "float64", "float16", "bfloat16"})
"""autograd holds a gradient, so it is not swapped; it takes those dtypes by `.data` alone."""
ONCE = frozenset(
    {"nothing", "all_six_dimensional", "all_shrunk", "all_elsewhere", "state_deleted", "state_emptied"}
    | {"state_other_dictionary", "step_in_inference", "step_under_default_float64"}
)
"""Events that do not look at the place: they stand in the matrix once per class."""


class Case(NamedTuple):
    peer: str
    kind: str
    event: str
    size: str
    fresh: bool
    """Whether each step has a new gradient object; else the first one is filled again."""

    def __str__(self) -> str:
        return f"{self.peer} {self.kind} {self.event} {self.size}{' fresh' if self.fresh else ''}"


def fits(peer: Peer, kind: str, name: str) -> bool:
    is_state = kind not in ("parameter", "gradient")
    if peer.name == "Lion" and name in WITHIN_ONE_PARAMETER:
        return False  # torch has no Lion whose order of writes could be asked for
    if name in ONCE:
        return kind == "parameter"
    if kind in peer.numbers and name in OF_SOME_DIMENSION:
        return False
    if name in OF_PARAMETERS:
        return kind == "parameter"
    if name == "a_python_count":
        return kind in peer.numbers and (peer.name, kind) != ("ASGD", "step")  # torch is wrong there
    if name == "a_number":
        return kind in peer.slots
    if name in OF_STATES:
        return is_state
    if name == "with_a_sibling":
        return kind in peer.slots and len(peer.slots) > 1
    if name in COMPLEX and kind in peer.numbers:
        return False
    return name not in {"parameter": NOT_OF_PARAMETERS, "gradient": NOT_OF_GRADIENTS}.get(kind, ())


def matrix(peer: Peer) -> list[Case]:
    return [
        Case(peer.name, kind, name, size, fresh)
        for kind in ("parameter", "gradient", *peer.slots, *peer.numbers)
        for name in EVENTS
        if fits(peer, kind, name)
        for size in SIZES
        for fresh in ((False, True) if kind == "parameter" else (False,))
    ]


def drawn(shape: Sequence[int], dtype: torch.dtype, draw: torch.Generator) -> Tensor:
    if dtype.is_complex:
        return torch.randn(shape, dtype=dtype, generator=draw)
    return torch.randn(shape, generator=draw).mul(3 if dtype is torch.int64 else 1).to(dtype)


def give_gradients(s: Surroundings, draw: torch.Generator, *, fresh: bool) -> None:
    """A gradient for each parameter: a new object, or new values in the old one, if it takes them."""
    for p in s.params:
        values = drawn(p.shape if fresh or p.grad is None else p.grad.shape, p.dtype, draw)
        try:
            if fresh:
                p.grad = s.guards.buffer(values)
            elif p.grad is not None:
                p.grad.copy_(values)
        except (RuntimeError, TypeError, NotImplementedError):
            pass  # expanded, without memory, made in inference mode: it stays as it is


def surrounded(side: str, case: Case, draw: torch.Generator) -> Surroundings:
    peer, guards = BY_NAME[case.peer], Guards()
    dtype = torch.float64 if case.event in CANCELLING else torch.float32
    if case.event in COMPLEX:
        dtype = torch.complex64
    params = [torch.nn.Parameter(guards.buffer(drawn(shape, dtype, draw))) for shape in SIZES[case.size]]
    s = Surroundings(peer.make(side, params), params, peer.slots, peer.numbers, guards)
    give_gradients(s, draw, fresh=True)
    return s


def guard_states(s: Surroundings) -> None:
    for k in range(len(s.params)):
        held = s.state(k)
        for name, value in list(held.items()):
            if isinstance(value, Tensor):
                held[name] = s.guards.buffer(value)


def run(job: tuple[str, Case]) -> Record:
    """One side's record of a case."""
    side, case = job
    draw = torch.Generator().manual_seed(7)
    record = Record()
    with torch.no_grad():
        s = surrounded(side, case, draw)
        steps_before = BY_NAME[case.peer].steps_before
        for k in range(steps_before + STEPS_AFTER):
            if k == 1:
                guard_states(s)
            if k == steps_before:
                record.moments.append(befall(s, Place(case.kind), case.event))
            if not (k == steps_before and case.kind == "gradient"):
                give_gradients(s, draw, fresh=case.fresh)
            record.moments.append(step(s, f"step {k + 1}"))
            if record.moments[-1].error:
                break
        record.broken = s.guards.broken()
    return record


def befall(s: Surroundings, place: Place, name: str) -> Moment:
    try:
        EVENTS[name](s, place, place.get(s))
    except Exception as error:  # noqa: BLE001  # what torch refuses to do is compared as well
        return moment(s, name, error)
    return moment(s, name)


def failures(cases: Sequence[Case], *, side: str = "steprule") -> dict[Case, list[str]]:
    """What differs, per case."""
    theirs = _in_batches("torch", cases)
    ours = _in_batches(side, cases)
    found = {c: compared(c, a, b) for c, a, b in zip(cases, ours, theirs, strict=True)}
    return {case: lines for case, lines in found.items() if lines}


def compared(case: Case, ours: Record | Death, theirs: Record | Death) -> list[str]:
    return Comparison([case.event]).of(ours, theirs)


def _in_batches(side: str, cases: Sequence[Case]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        parallel = side != "torch" and any(case.size == "large" for case in batch)
        found += server(parallel=parallel).run(run, [(side, case) for case in batch])
    return found


def told(found: dict[Case, list[str]]) -> str:
    return f"{len(found)} cases:\n" + "\n".join(f"{case}: {'; '.join(lines[:3])}" for case, lines in found.items())


def sample(peer: Peer, size: str, count: int) -> list[Case]:
    """Some of each class; mixtures of dtypes, each with kernels of its own to compile, of one class only."""
    cases = [case for case in matrix(peer) if case.size == size]
    if peer.name != "SGD":
        cases = [c for c in cases if not any(dtype in c.event for dtype in ("float", "int64"))]
    return random.Random(peer.name).sample(cases, count)


@pytest.mark.parametrize("peer", PEERS, ids=[p.name for p in PEERS])
def test_a_sample_of_the_matrix(peer: Peer) -> None:
    found = failures(sample(peer, "small", SAMPLE))
    assert not found, told(found)


@pytest.mark.long
def test_a_sample_of_large_tensors() -> None:
    found = failures([case for peer in PEERS for case in sample(peer, "large", 2)])
    assert not found, told(found)


def wrong_elements(shift: int) -> int:
    """Eight parameters, each a window `shift` further on in one memory, descend by whole numbers: how many end elsewhere."""
    size, steps = 400_000, 40
    memory, expected = torch.zeros(size + 7 * shift), torch.zeros(size + 7 * shift)
    params = []
    for k in range(8):
        p = torch.nn.Parameter(torch.empty(0))
        p.data = memory[k * shift : k * shift + size]
        p.grad = torch.full((size,), float(k + 1))
        expected[k * shift : k * shift + size] -= steps * (k + 1)
        params.append(p)
    optimizer = optim.SGD(params, lr=1.0)
    for _ in range(steps):
        optimizer.step()
    return int((memory != expected).sum())


@pytest.mark.parametrize("shift", [0, 1000])
def test_threads_do_not_race_for_one_memory(shift: int) -> None:
    assert server(parallel=True).run(wrong_elements, [shift]) == [0]


@pytest.mark.long
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("peer", PEERS, ids=[p.name for p in PEERS])
def test_the_whole_matrix(peer: Peer, size: str) -> None:
    found = failures([case for case in matrix(peer) if case.size == size])
    assert not found, told(found)


def after_zero_gradients(job: tuple[str, str]) -> float:
    side, name = job
    p = torch.nn.Parameter(torch.ones(4, dtype=torch.float16))
    optimizer = getattr(torch.optim if side == "torch" else optim, name)([p], lr=0.1, weight_decay=0.0)
    for _ in range(3):
        p.grad = torch.zeros_like(p)
        optimizer.step()
    return float(p.detach()[0])


def test_zero_gradients_in_float16_move_nothing() -> None:
    names = [peer.name for peer in PEERS if peer.name != "Lion"]
    ours, theirs = (server().run(after_zero_gradients, [(side, n) for n in names]) for side in ("steprule", "torch"))
    assert ours == [1.0] * len(names)
    assert any(map(math.isnan, theirs)), f"no longer so, remove it: {TORCH_WRONG['zero gradients in float16']}"


@pytest.mark.parametrize("side", ["steprule", "torch"])
def test_a_python_count_of_asgd_counts(side: str) -> None:
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = (torch.optim if side == "torch" else optim).ASGD([p])
    for _ in range(3):
        p.grad = torch.ones(4)
        optimizer.step()
        optimizer.state[p]["step"] = float(optimizer.state[p]["step"])
    found = optimizer.state[p]["step"]
    assert found == (1.0 if side == "torch" else 3.0), TORCH_WRONG["a Python count of ASGD's"]


# The comparison itself: what it takes for equal, and what it must not miss.


class Careless(torch.optim.SGD):
    """Plain descent that writes where its parameters first were, and one element too far."""

    def __init__(self, params: Any, lr: float, **_: Any) -> None:
        super().__init__(params, lr=lr)
        self.first = [p.detach().as_strided((p.numel() + 1,), (1,)) for g in self.param_groups for p in g["params"]]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for memory, p in zip(self.first, self.param_groups[0]["params"], strict=True):
            memory[:-1] -= 0.1 * p.grad.reshape(-1)
            memory[-1] = 0.0


class Crashing(torch.optim.SGD):
    """Ends its process where a gradient is a zero tensor."""

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        if any(torch._is_zerotensor(p.grad) for p in self.param_groups[0]["params"]):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().step(closure)


OTHER_SIDES |= {"careless": Careless, "crashing": Crashing}


def test_torch_beside_itself() -> None:
    cases = [case for peer in PEERS for size in SIZES for case in sample(peer, size, 5) if case.event not in TORCH_DIES]
    assert failures(cases, side="torch") == {}


def test_what_is_written_elsewhere_is_seen() -> None:
    case = Case("SGD", "parameter", "data_elsewhere", "small", fresh=False)
    lines = failures([case], side="careless")[case]
    assert {"memory: memory that was replaced is written", "memory: guard words behind a buffer of 36 elements"} <= set(
        lines
    )


def test_a_crash_has_a_culprit() -> None:
    cases = [Case("SGD", "gradient", name, "small", fresh=False) for name in ("nothing", "zero_tensor", "replaced")]
    assert failures(cases, side="crashing") == {cases[1]: ["dies: SIGSEGV"]}


@pytest.mark.long
def test_torch_takes_each_event_somewhere() -> None:
    cases = [c for c in matrix(BY_NAME["NAdam"]) if c.size == "small" and c.event not in TORCH_DIES]
    records = server().run(run, [("torch", case) for case in cases])
    taken = {c.event for c, r in zip(cases, records, strict=True) if all(m.in_step or not m.error for m in r.moments)}
    assert taken == set(EVENTS) - TORCH_DIES
