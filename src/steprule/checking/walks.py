"""Walks a few steps in every form: the author's function, class, kernels, lanes, Triton, JavaScript.

A form takes all cases at once and gives a walk for each, or None where a case has no such form. A form that cannot run here raises
`NotRunError` with the reason.
"""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steprule.checking.by_node import by_node
from steprule.checking.cases import SIZE, STEPS, Array, Case, Walk, at, numbers, plain, step_class, walk
from steprule.checking.probe import POINT, elsewhere, supplied
from steprule.checking.report import FailedError, NotRunError
from steprule.compiler import eager, numba_cpu as cpu, threads
from steprule.compiler.cache import interpreting
from steprule.compiler.drawing import NOBODYS
from steprule.compiler.points import reduces
from steprule.compiler.variant import switches_of
from steprule.errors import StepruleError
from steprule.identity import by_value
from steprule.lanes import rule as lanes
from steprule.lanes.matrices import MatrixRule, MatrixStepper
from steprule.lanes.tensors import LaneStepper, TensorStepper
from steprule.optim import from_rule
from steprule.optim.backends import target_for
from steprule.rules.rule import Rule

TRITON_SECONDS = 300


def _by_numpy(cases: Sequence[Case]) -> list[Walk | None]:
    return [walk(case, np.copy) for case in cases]


def _by_floats(cases: Sequence[Case]) -> list[Walk | None]:
    """One element at a time; a rule that reduces over a tensor has no such form."""
    _needs_elements(cases)
    return [None if reduces(case.variant) else _element_by_element(case) for case in cases]


def _element_by_element(case: Case) -> Walk:
    def element(k: int) -> Callable[[Array], float]:
        return lambda array: float(array[k])

    walks = [walk(case, element(k)) for k in range(SIZE)]
    ones = {s.name for s in case.rule.slots if s.is_number}
    found = []
    for rows in zip(*walks, strict=True):  # the same step of every element
        whole: dict[str, Any] = {}
        for name, value in rows[0].items():
            if value is None or name in ones:
                whole[name] = value
            else:
                whole[name] = np.array([row[name] for row in rows])
        found.append(whole)
    return found


def _by_vmap(cases: Sequence[Case]) -> list[Walk | None]:
    """Two copies of the walk at once under `torch.func.vmap`; the first is taken."""
    return [_under_vmap(case) for case in cases]


def _under_vmap(case: Case) -> Walk:
    def both(a: Array) -> torch.Tensor:
        return torch.from_numpy(np.stack([a, a[::-1]]))

    others: dict[str, Any] = {}  # states that are not tensors: absent slots, numbers that are the same for both

    def one(p: Any, g: Any, held: dict[str, Any], t: int) -> Any:
        new_p, new = eager.whole_step(case.rule, p, g, {**others, **held}, t, case.hypers, elsewhere(g))
        there = {n: v for n, v in new.items() if isinstance(v, torch.Tensor)}
        others.clear()
        others.update({n: v for n, v in new.items() if n not in there})
        return new_p, there, eager.evaluated(case.rule, new_p, new, t, case.hypers)

    p, found = both(case.numbers(0)), []
    held: dict[str, Any] = {}
    for t in range(1, STEPS + 1):
        p, held, point = torch.func.vmap(partial(one, t=t))(p, both(case.numbers(t)), held)
        state = others | {n: v[0] for n, v in held.items()}
        found.append({"p": plain(p[0])} | {n: plain(v) for n, v in state.items() if n in case.slots})
        if case.rule.evaluation is not None:
            found[-1][POINT] = plain(point[0])
    return found


def _by_serial_kernel(cases: Sequence[Case]) -> list[Walk | None]:
    _needs_numba()
    return [walk_of_class(case, "numba") for case in cases]


def _by_parallel_kernel(cases: Sequence[Case]) -> list[Walk | None]:
    """The kernel on several threads gives the bits of one thread, on a tensor that is large enough for threads."""
    _needs_numba()
    if not threads.may_run_parallel():
        raise NotRunError("this process was forked, and its threads are gone")
    if all(case.is_of_matrices for case in cases):
        return _matrices_on_threads(cases)
    copies = cpu.SERIAL_BELOW // SIZE + 1
    found: list[Walk | None] = []
    for case in cases:
        with _threads(2):
            got = walk_of_class(case, "numba", copies)
        with threads.one_thread():
            right = walk_of_class(case, "numba", copies)
        for t, (a, b) in enumerate(zip(got, right, strict=True), start=1):
            for name in a:
                if a[name] is not None and not np.array_equal(a[name], b[name], equal_nan=True):
                    raise FailedError(f"step {t}: {name} has other bits on two threads than on one{at(case)}")
        if case.rule.draws and reduces(case.variant):
            found.append(None)  # each copy draws its own
        elif reduces(case.variant):
            _compare_over_copies(case, got, copies)
            found.append(None)
        else:
            found.append([_of_first_copy(row) for row in got])
    return found


LARGE = 222, 296
"""A matrix that is large enough for threads."""


def _matrices_on_threads(cases: Sequence[Case]) -> list[Walk | None]:
    """The same for a rule of matrices, on a matrix of its own; the author's function walks the small one."""
    ends: list[Array] = []
    for threads_ in (_threads(2), threads.one_thread()):
        with threads_, float64_default():
            p = torch.from_numpy(numbers(0, math.prod(LARGE)).reshape(LARGE)).requires_grad_()
            optimizer = from_rule(cases[0].rule)([p], **_own(cases[0]), backend="numba")
            step_class(optimizer, p, torch.from_numpy(numbers(1, math.prod(LARGE)).reshape(LARGE)))
            ends.append(plain(p))
    one, two = ends
    # A library's product may add in another order on more threads.
    if not np.allclose(one, two, rtol=1e-9, atol=1e-12, equal_nan=True):
        raise FailedError(f"step 1: p differs on two threads from that on one{at(cases[0])}")
    return [None] * len(cases)


def _needs_elements(cases: Sequence[Case]) -> None:
    if all(case.is_of_matrices for case in cases):
        raise NotRunError("a rule of matrices has no such form")


def _of_first_copy(row: Mapping[str, Any]) -> dict[str, Any]:
    """The first copy of each array: where nothing is reduced, it is the walk on one copy."""
    return {n: v if v is None or not v.ndim else v[:SIZE] for n, v in row.items()}


def _compare_over_copies(case: Case, got: Walk, copies: int) -> None:
    """Compare with the author's function on as many copies, since a reduction is over all of them."""
    wanted = walk(case, lambda a: torch.from_numpy(np.tile(a, copies)))
    for t, (mine, theirs) in enumerate(zip(got, wanted, strict=True), start=1):
        for name, right in theirs.items():
            if right is not None and not np.allclose(mine[name], right, rtol=1e-10, atol=1e-12, equal_nan=True):
                size = SIZE * copies
                raise FailedError(f"step {t}: {name} differs from torch on a tensor of {size} elements{at(case)}")


def _needs_numba() -> None:
    if interpreting():
        raise NotRunError("NUMBA_DISABLE_JIT turns Numba's compiler off")
    if target_for("auto", "cpu") is None:
        raise NotRunError("Numba cannot be imported")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(max(count, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def float64_default() -> Iterator[None]:
    """While this lasts, states of one number per tensor are float64 too; torch keeps them in the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _own(case: Case) -> dict[str, Any]:
    """The hyperparameters that are the user's to set."""
    seeded = {"seed": NOBODYS.seed} if case.rule.draws else {}
    return {n: v for n, v in case.hypers.items() if case.rule.hyper(n).given is None} | seeded


def walk_of_class(case: Case, backend: str, copies: int = 1) -> Walk:
    """The walk by the class, as a user steps it, on `copies` of the numbers in one tensor."""
    own = _own(case)
    p = torch.from_numpy(np.tile(case.numbers(0), copies)).requires_grad_()
    found = []
    with float64_default():
        optimizer = from_rule(case.rule)([p], **own, backend=backend)
        for t in range(1, STEPS + 1):
            step_class(optimizer, p, torch.from_numpy(np.tile(case.numbers(t), copies)))
            state = optimizer.state[p]
            found.append({"p": plain(p)} | {n: plain(state.get(n)) for n in case.slots})
            if case.rule.evaluation is not None:
                with optimizer.evaluated():
                    found[-1][POINT] = plain(p)
    return found


def _by_triton(cases: Sequence[Case]) -> list[Walk | None]:
    """The walk in its own process, since Triton decides at import whether to interpret."""
    _needs_elements(cases)
    if find_spec("triton") is None:
        raise NotRunError("not installed")
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "cases", Path(folder) / "walks"
        try:
            asked.write_bytes(by_value.dumps(list(cases)))
        except Exception as error:
            raise NotRunError(f"the rule cannot be sent to another process: {error}") from error
        command = [sys.executable, "-m", "steprule.checking.by_triton", str(asked), str(answer)]
        environment = {**os.environ, "TRITON_INTERPRET": "1"}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TRITON_SECONDS)
        except subprocess.TimeoutExpired:
            raise NotRunError(f"its interpreter took longer than {TRITON_SECONDS} s") from None
        if done.returncode or not answer.exists():
            lines = done.stderr.strip().splitlines()
            raise NotRunError(f"its process ended with {lines[-1] if lines else done.returncode}")
        told = pickle.loads(answer.read_bytes())
    if isinstance(told, str):
        raise FailedError(f"Triton in its interpreter: {told}")
    return list(told)


def _by_lanes(cases: Sequence[Case]) -> list[Walk | None]:
    """The sweep's compiled kernel on two lanes; the second is taken, the first has half its numbers."""
    _needs_numba()
    _needs_elements(cases)
    return [None if case.is_of_matrices else _compiled_lanes(case) for case in cases]


def _compiled_lanes(case: Case) -> Walk:
    rule = lanes.LaneRule.of(case.variant, "float64")
    table_rows, power_rows, reductions = rule.scratch
    tensors, first = lanes.layout([SIZE])
    hypers = _lane_hypers(case)
    rates = rule.rows_of(rule.hypers, hypers, 2).copy()
    slots = rule.rows_of([*rule.scalar_slots, *rule.numbers], hypers, 2).copy()
    p = np.stack([0.5 * numbers(0), numbers(0)], axis=1)
    starts = rule.rows_of(rule.states, hypers, 2)
    states = np.broadcast_to(starts[:, None], (len(rule.states), SIZE, 2)).copy()
    table, powers = np.empty((table_rows, 2)), np.ones((power_rows, 2))
    reduced, sums = np.empty((reductions, 1, 2)), np.empty((reductions, 1, 2))
    alive, found = np.ones(2, dtype=np.uint8), []
    for t in range(1, STEPS + 1):
        g = np.ascontiguousarray(np.stack([numbers(t)] * 2, axis=1))
        for k, name in enumerate(case.rule.looked[: len(rule.looks)]):
            there, look = p.copy(), getattr(rule.module, f"look{k + 1}")
            look(float(t), rates, powers, slots, table, tensors, first, reduced, sums, alive, there, g, states)
            states[rule.states.index(name)] = _in_lanes(case.rule, k, t, g, there)
        rule.module.step(float(t), rates, powers, slots, table, tensors, first, reduced, sums, alive, p, g, states)
        row: dict[str, Any] = {"p": p[:, 1].copy()}
        for name in case.slots:
            if name in rule.states:
                row[name] = states[rule.states.index(name), :, 1].copy()
            elif name in rule.kept:
                row[name] = plain(reduced[rule.kept[name], 0, 1])
            elif name in rule.scalar_slots:
                row[name] = plain(slots[rule.scalar_slots.index(name), 1])
            if name in case.absent_after(t):
                row[name] = None
        if rule.points:
            read = p.copy()
            rule.module.point(
                float(t), rates, powers, slots, table, tensors, first, reduced, sums, alive, read, g, states
            )
            row[POINT] = read[:, 1].copy()
        found.append(row)
    return found


def _lane_hypers(case: Case) -> dict[str, Array]:
    """The hyperparameters of two lanes that differ in every number that may; the second has the case's."""
    fixed = {h.name for h in case.rule.hypers if h.is_plain}
    found = {}
    for name, value in case.hypers.items():
        hyper = case.rule.hyper(name)
        other = value if name in fixed or not value else 0.5 * value
        with suppress(StepruleError):  # beyond its bounds
            hyper.validate(other, case.rule.name)
            found[name] = np.array([other, value])
            continue
        other = value
        found[name] = np.array([other, value])
    return found


def _by_lane_tensors(cases: Sequence[Case]) -> list[Walk | None]:
    """The sweep's form on torch tensors, which the batched (vmap) engine steps."""
    return [_matrix_lanes(case) if case.is_of_matrices else _tensor_lanes(case) for case in cases]


def _matrix_lanes(case: Case) -> Walk:
    rule = MatrixRule(case.rule, switches_of(case.rule, case.hypers), (case.shape,), "float64")
    stepper = MatrixStepper(rule, _lane_hypers(case), "cpu")
    p = torch.from_numpy(np.stack([0.5 * case.numbers(0).ravel(), case.numbers(0).ravel()], axis=1))
    alive, found = torch.ones(2, dtype=torch.bool), []
    for t in range(1, STEPS + 1):
        _step_lanes(stepper, t, p, torch.from_numpy(np.stack([case.numbers(t).ravel()] * 2, axis=1)), alive)
        row: dict[str, Any] = {"p": plain(p[:, 1]).reshape(case.shape)}
        for name in case.slots:
            held = stepper.states[0].get(name, stepper.scalar_slots[0].get(name))
            row[name] = None if held is None or name in case.absent_after(t) else plain(held[1])
        if case.rule.evaluation is not None:
            row[POINT] = plain(stepper.evaluated(t, p, alive)[:, 1]).reshape(case.shape)
        found.append(row)
    return found


def _step_lanes(stepper: LaneStepper, t: int, p: torch.Tensor, g: torch.Tensor, alive: torch.Tensor) -> None:
    """One step of lanes, behind what they see where the rule looks."""
    for k in range(len(stepper.rule.variant.looks)):
        stepper.see(k, _in_lanes(stepper.rule.variant.rule, k, t, g, stepper.look(k, t, p, g, alive)))
    stepper.step(t, p, g, alive)


def _in_lanes(rule: Rule, k: int, t: int, g: Any, point: Any) -> Any:
    """`supplied`, to lanes [rows, lanes] that are all of one seed."""
    if k >= rule.draws:
        return elsewhere(g)(point)
    own = supplied(rule, k, t, g, np.zeros(len(point)))
    return torch.from_numpy(own)[:, None].repeat(1, 2) if isinstance(point, torch.Tensor) else own[:, None]


def _tensor_lanes(case: Case) -> Walk:
    stepper = TensorStepper(lanes.LaneRule.of(case.variant, "float64"), _lane_hypers(case), [SIZE], "cpu")
    p = torch.from_numpy(np.stack([0.5 * numbers(0), numbers(0)], axis=1))
    alive, found = torch.ones(2, dtype=torch.bool), []
    for t in range(1, STEPS + 1):
        _step_lanes(stepper, t, p, torch.from_numpy(np.stack([numbers(t)] * 2, axis=1)), alive)
        row: dict[str, Any] = {"p": plain(p[:, 1])}
        for name in case.slots:
            row[name] = plain(stepper.states[name][:, 1]) if name in stepper.states else None
            if name in stepper.scalar_slots[0]:
                row[name] = plain(stepper.scalar_slots[0][name].expand(2)[1])
            if name in case.absent_after(t):
                row[name] = None
        if stepper.rule.points:
            row[POINT] = plain(stepper.evaluated(t, p, alive)[:, 1])
        found.append(row)
    return found


FORMS: dict[str, Callable[[Sequence[Case]], list[Walk | None]]] = {
    "floats": _by_floats,
    "numpy": _by_numpy,
    "vmap": _by_vmap,
    "Numba kernel": _by_serial_kernel,
    "Numba kernel on threads": _by_parallel_kernel,
    "Triton in its interpreter": _by_triton,
    "compiled lanes": _by_lanes,
    "lanes on tensors": _by_lane_tensors,
    "JavaScript": by_node,
}
