"""Whatever befalls a tensor between two steps, the step gives torch's numbers or torch's error, and writes nowhere else.

The matrix: each event of `events.py` x parameter, gradient and each state x each class, on small tensors and on ones that
the parallel kernel steps, beside torch's class. Buffers lie between guard words, memory that was replaced is watched, and
each side runs in a process of its own, so that a crash is a result.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from beside import Death, server
from events import COMPLEX, EVENTS, Guards, Place, Surroundings
from peers import BY_NAME, PEERS, Peer
from seen import Comparison, Moment, Record, moment, step
from torch import Tensor

SIZES = {"small": [(6, 6), (6, 6), (5,), ()], "large": [(300, 300), (300, 300), (5,)]}
"""The parallel kernel begins at 65,536 elements."""
STEPS_AFTER = 3
SAMPLE = 40
"""Cases per class in the default suite."""
BATCH = 150

OF_TWO_DIMENSIONS = frozenset(
    [
        "data_transposed_elsewhere",
        "data_transposed",
        "data_six_dimensional",
        "all_six_dimensional",
        "transposed",
        "overlapping_the_other",
        "shape_turned",
    ]
)
OF_SOME_DIMENSION = OF_TWO_DIMENSIONS | frozenset(
    [
        "data_shrunk",
        "data_reshaped",
        "all_shrunk",
        "set_half",
        "resize_smaller",
        "resize_larger",
        "shape_taller",
        "shape_shorter",
        "shape_much_taller",
        "shape_a_row",
    ]
)
OF_PARAMETERS = frozenset({"listed_twice", "parameter_subclass", "replaced_by_parameter"})
OF_STATES = frozenset({"no_value", "a_number", "with_the_gradient"})
NOT_OF_PARAMETERS = frozenset({"with_the_parameter", "with_the_other_parameter", "the_other", "with_a_sibling"})
ONCE = frozenset(
    [
        "nothing",
        "all_six_dimensional",
        "all_shrunk",
        "all_elsewhere",
        "state_deleted",
        "state_emptied",
        "state_other_dictionary",
        "step_in_inference",
        "step_under_default_float64",
    ]
)
"""Events that do not look at the place: they stand in the matrix once per class."""

DTYPES = ("float64", "float16", "bfloat16", "int64")
MIXED = frozenset(
    f"{form}{d}"
    for form in ("", "data_", "data_read_as_")
    for d in DTYPES
    if not (form == "data_read_as_" and d == "float64")
)


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
    if name in ONCE:
        return kind == "parameter"
    if kind in peer.numbers and name in OF_SOME_DIMENSION:
        return False
    if name in OF_PARAMETERS:
        return kind == "parameter"
    if name in OF_STATES:
        return is_state
    if name == "with_a_sibling":
        return kind in peer.slots and len(peer.slots) > 1
    if name in COMPLEX and kind in peer.numbers:
        return False
    return not (kind == "parameter" and name in NOT_OF_PARAMETERS)


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
    dtype = torch.complex64 if case.event in COMPLEX else torch.float32
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


def may_go_on(case: Case) -> bool:
    """Where torch raises and ours need not: `MAY_GO_ON` says why."""
    return False


def failures(cases: Sequence[Case], *, side: str = "steprule") -> dict[Case, list[str]]:
    """What differs, per case."""
    theirs = _in_batches("torch", cases)
    ours = _in_batches(side, cases)
    found = {c: compared(c, a, b) for c, a, b in zip(cases, ours, theirs, strict=True)}
    return {case: lines for case, lines in found.items() if lines}


def compared(case: Case, ours: Record | Death, theirs: Record | Death) -> list[str]:
    return Comparison(may_go_on(case)).of(ours, theirs)


def _in_batches(side: str, cases: Sequence[Case]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(cases), BATCH):
        found += server().run(run, [(side, case) for case in cases[start : start + BATCH]])
    return found


def told(found: dict[Case, list[str]]) -> str:
    return f"{len(found)} cases:\n" + "\n".join(f"{case}: {'; '.join(lines[:3])}" for case, lines in found.items())


def sample(peer: Peer) -> list[Case]:
    cases = matrix(peer)
    return random.Random(peer.name).sample(cases, min(SAMPLE, len(cases)))


@pytest.mark.parametrize("peer", PEERS, ids=[p.name for p in PEERS])
def test_a_sample_of_the_matrix(peer: Peer) -> None:
    found = failures(sample(peer))
    assert not found, told(found)
