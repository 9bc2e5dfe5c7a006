"""A few steps in every form: by the author's function, by class and kernel, by lanes, by Triton's interpreter, by JavaScript.

A form takes all cases at once and gives a walk for each, or None where a case has no such form. One that cannot be run here raises
`NotRunError` with the reason.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steprule.checking.report import FailedError
from steprule.compiler import eager, javascript, threads
from steprule.compiler import numba_cpu as cpu
from steprule.compiler.cache import interpreting
from steprule.compiler.variant import Variant, variant_of
from steprule.identity import by_value
from steprule.lanes import rule as lanes
from steprule.lanes.tensors import TensorStepper
from steprule.optim import from_rule
from steprule.optim.backends import form_for
from steprule.rules.rule import Rule

Array = NDArray[np.float64]
Walk = list[dict[str, Any]]
"""After each step: p and each slot that the variant uses, as arrays; None for one that is absent."""

SIZE, STEPS = 7, 4
TRITON_SECONDS = 300


@dataclass(frozen=True)
class Case:
    """A rule with its hyperparameters: what every form walks."""

    rule: Rule
    hypers: Mapping[str, Any]

    @property
    def variant(self) -> Variant:
        """The variant that the hyperparameters choose."""
        return variant_of(self.rule, self.hypers)


def numbers(seed: int, count: int = SIZE) -> Array:
    """What starts and gradients are drawn from."""
    return np.random.default_rng(seed).normal(size=count)


class NotRunError(Exception):
    """A form that cannot be run here; the text is the reason."""


def at(case: Case) -> str:
    """The switches that are not at their defaults, in words."""
    on = [n for n, v in case.hypers.items() if case.rule.hyper(n).switches and v != case.rule.defaults[n]]
    return f", with {', '.join(f'{n}={case.hypers[n]}' for n in on)}" if on else ""


def plain(value: Any) -> Any:
    """A value of any form as a float64 array; None stays None."""
    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        value = value.detach().double().numpy()
    return np.array(value, dtype=np.float64)


def walk(case: Case, convert: Callable[[Array], Any]) -> Walk:
    """By the author's function, on what `convert` makes of arrays."""
    p, state, found = convert(numbers(0)), eager.State(), []
    for t in range(1, STEPS + 1):
        p, state = eager.step(case.rule, p, convert(numbers(t)), state, t, case.hypers)
        found.append({"p": plain(p)} | {n: plain(v) for n, v in state.items() if n in case.variant.slots})
    return found


def starts(case: Case) -> dict[str, Any]:
    """What each slot holds before the first step."""
    p = numbers(0)
    return {
        s.name: eager.start(s, p, case.hypers)
        for s in case.rule.slots
        if s.name in case.variant.slots and not s.absent_at_first
    }


def _by_numpy(cases: Sequence[Case]) -> list[Walk | None]:
    return [walk(case, np.copy) for case in cases]


def _by_floats(cases: Sequence[Case]) -> list[Walk | None]:
    """An element at a time; a rule that reduces over a tensor has no such form."""
    found: list[Walk | None] = []
    for case in cases:
        if case.variant.reduces:
            found.append(None)
            continue
        alone = [walk(case, lambda a, k=k: float(a[k])) for k in range(SIZE)]  # type: ignore[misc]
        ones = {s.name for s in case.rule.slots if s.per_tensor}
        found.append(
            [
                {n: v if v is None or n in ones else np.array([one[t][n] for one in alone]) for n, v in row.items()}
                for t, row in enumerate(alone[0])
            ]
        )
    return found


def _by_vmap(cases: Sequence[Case]) -> list[Walk | None]:
    """Two copies of the walk at once under `torch.func.vmap`; the first is looked at."""
    return [_under_vmap(case) for case in cases]


def _under_vmap(case: Case) -> Walk:
    def both(a: Array) -> torch.Tensor:
        return torch.from_numpy(np.stack([a, a[::-1]]))

    others: dict[str, Any] = {}  # what is no tensor: absent slots, numbers that are the same for both

    def one(p: Any, g: Any, held: dict[str, Any], t: int) -> Any:
        new_p, new = eager.step(case.rule, p, g, {**others, **held}, t, case.hypers)
        there = {n: v for n, v in new.items() if isinstance(v, torch.Tensor)}
        others.clear()
        others.update({n: v for n, v in new.items() if n not in there})
        return new_p, there

    p, found = both(numbers(0)), []
    held: dict[str, Any] = {}
    for t in range(1, STEPS + 1):
        p, held = torch.func.vmap(partial(one, t=t))(p, both(numbers(t)), held)
        state = others | {n: v[0] for n, v in held.items()}
        found.append({"p": plain(p[0])} | {n: plain(v) for n, v in state.items() if n in case.variant.slots})
    return found


def _by_serial_kernel(cases: Sequence[Case]) -> list[Walk | None]:
    _needs_numba()
    return [walk_of_class(case, "numba") for case in cases]


def _by_parallel_kernel(cases: Sequence[Case]) -> list[Walk | None]:
    """The kernel on several threads, on a tensor large enough for them, beside the serial one on the same tensor.

    Of the first variant alone: both are printed from the same lines, and a parallel one takes seconds to compile.
    """
    _needs_numba()
    if not threads.may_run_parallel():
        raise NotRunError("this process was forked, and its threads are gone")
    copies = cpu.SERIAL_BELOW // SIZE + 1
    found: list[Walk | None] = []
    for case in cases[:1]:
        with _threads(2):
            got = walk_of_class(case, "numba", copies)
        with threads.one_thread():
            right = walk_of_class(case, "numba", copies)
        for t, (a, b) in enumerate(zip(got, right, strict=True), start=1):
            for name in a:
                if a[name] is not None and not np.array_equal(a[name], b[name], equal_nan=True):
                    raise FailedError(f"step {t}: {name} has other bits on two threads than on one{at(case)}")
        # Where nothing is reduced, the first copy is the walk itself; a reduction is over all copies.
        first = [{n: v if v is None or not v.ndim else v[:SIZE] for n, v in row.items()} for row in got]
        found.append(_over_copies(case, got, copies) if case.variant.reduces else first)
    return found + [None] * (len(cases) - 1)


def _over_copies(case: Case, got: Walk, copies: int) -> Walk | None:
    """None, when the walk on many copies is the author's function's; there is no walk on one copy to hand on."""
    wanted = walk(case, lambda a: torch.from_numpy(np.tile(a, copies)))
    for t, (mine, theirs) in enumerate(zip(got, wanted, strict=True), start=1):
        for name, right in theirs.items():
            if right is not None and not np.allclose(mine[name], right, rtol=1e-10, atol=1e-12, equal_nan=True):
                raise FailedError(
                    f"step {t}: {name} differs from torch on a tensor of {SIZE * copies} elements{at(case)}"
                )
    return None


def _needs_numba() -> None:
    if interpreting():
        raise NotRunError("NUMBA_DISABLE_JIT turns Numba's compiler off")
    if form_for("auto", "cpu") is None:
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
    """Under it one-number-a-tensor states are float64 too; torch keeps them in the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def walk_of_class(case: Case, backend: str, copies: int = 1) -> Walk:
    """By the class, as a user steps it, on so many copies of the numbers in one tensor."""
    own = {n: v for n, v in case.hypers.items() if case.rule.hyper(n).given is None}
    p = torch.from_numpy(np.tile(numbers(0), copies)).requires_grad_()
    found = []
    with float64_default():
        optimizer = from_rule(case.rule)([p], **own, backend=backend)
        for t in range(1, STEPS + 1):
            p.grad = torch.from_numpy(np.tile(numbers(t), copies))
            optimizer.step()
            state = optimizer.state[p]
            found.append({"p": plain(p)} | {n: plain(state.get(n)) for n in case.variant.slots})
    return found


def _by_triton(cases: Sequence[Case]) -> list[Walk | None]:
    """In a process of its own: Triton reads whether to interpret when it is imported."""
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
    """The sweep's compiled kernel, two lanes, of which the second is looked at; the first has half its numbers."""
    _needs_numba()
    return [_compiled_lanes(case) for case in cases]


def _compiled_lanes(case: Case) -> Walk:
    rule = lanes.LaneRule.of(case.variant, "float64")
    table_rows, power_rows, reductions = rule.scratch
    tensors, first = lanes.layout([SIZE])
    hypers = _lane_hypers(case)
    rates, slots = (
        rule.rows_of(names, hypers, 2).copy() for names in (rule.hypers, [*rule.scalar_slots, *rule.numbers])
    )
    p = np.stack([0.5 * numbers(0), numbers(0)], axis=1)
    starts = rule.rows_of(rule.states, hypers, 2)
    states = np.broadcast_to(starts[:, None], (len(rule.states), SIZE, 2)).copy()
    table, powers = np.empty((table_rows, 2)), np.ones((power_rows, 2))
    reduced, sums = np.empty((reductions, 1, 2)), np.empty((reductions, 1, 2))
    alive, found = np.ones(2, dtype=np.uint8), []
    for t in range(1, STEPS + 1):
        g = np.ascontiguousarray(np.stack([numbers(t)] * 2, axis=1))
        rule.module.step(float(t), rates, powers, slots, table, tensors, first, reduced, sums, alive, p, g, states)
        row: dict[str, Any] = {"p": p[:, 1].copy()}
        for name in case.variant.slots:
            if name in rule.states:
                row[name] = states[rule.states.index(name), :, 1].copy()
            elif name in rule.kept:
                row[name] = plain(reduced[rule.kept[name], 0, 1])
            elif name in rule.scalar_slots:
                row[name] = plain(slots[rule.scalar_slots.index(name), 1])
            if name in _absent_after(case, t):
                row[name] = None
        found.append(row)
    return found


def _lane_hypers(case: Case) -> dict[str, Array]:
    """Two lanes that differ in every number that may; the second has the case's."""
    plain = {h.name for h in case.rule.hypers if h.is_plain}
    return {n: np.array([v, v] if n in plain or not v else [0.5 * v, v]) for n, v in case.hypers.items()}


def _absent_after(case: Case, t: int) -> frozenset[str]:
    """The slots that are still absent when step t is done."""
    stages = case.variant.stages
    return stages[min(t + 1, len(stages)) - 1]


def _by_lane_tensors(cases: Sequence[Case]) -> list[Walk | None]:
    """The sweep's form on torch tensors, which the batched (vmap) engine steps."""
    return [_tensor_lanes(case) for case in cases]


def _tensor_lanes(case: Case) -> Walk:
    stepper = TensorStepper(lanes.LaneRule.of(case.variant, "float64"), _lane_hypers(case), [SIZE], "cpu")
    p = torch.from_numpy(np.stack([0.5 * numbers(0), numbers(0)], axis=1))
    alive, found = torch.ones(2, dtype=torch.bool), []
    for t in range(1, STEPS + 1):
        stepper.step(t, p, torch.from_numpy(np.stack([numbers(t)] * 2, axis=1)), alive)
        row: dict[str, Any] = {"p": plain(p[:, 1])}
        for name in case.variant.slots:
            row[name] = plain(stepper.states[name][:, 1]) if name in stepper.states else None
            if name in stepper.scalar_slots[0]:
                row[name] = plain(stepper.scalar_slots[0][name].expand(2)[1])
            if name in _absent_after(case, t):
                row[name] = None
        found.append(row)
    return found


def _by_javascript(cases: Sequence[Case]) -> list[Walk | None]:
    """All walks in one run of Node."""
    node = shutil.which("node")
    if node is None:
        raise NotRunError("node is not on the PATH")
    lines = [javascript.POWER, "const words = (_, v) => typeof v === 'number' && !Number.isFinite(v) ? String(v) : v;"]
    lines += [f"console.log(JSON.stringify({_javascript_of(case)}, words));" for case in cases]
    done = subprocess.run([node, "-"], input="\n".join(lines), capture_output=True, text=True, timeout=60)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "Error" in line]
        raise FailedError(f"JavaScript: {said[0] if said else 'node ended with an error'}")
    return [_read(line, case) for line, case in zip(done.stdout.splitlines(), cases, strict=True)]


def _javascript_of(case: Case) -> str:
    rule, variant = case.rule, case.variant
    printed = [javascript.source(variant.graph(absent)) for absent in variant.stages]
    functions = [f"function{text[text.index('(') :]}" for text in printed]
    begin = {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in starts(case).items()}
    step = f"stages[Math.min(t, {len(functions) - 1})](p, g, s, {json.dumps(dict(case.hypers))}, t + 1, false)"
    gradients = [numbers(t).tolist() for t in range(1, STEPS + 1)]
    body = [
        f"const stages = [{', '.join(functions)}];",
        f"let p = {numbers(0).tolist()}, s = {json.dumps(begin)};",
        f"return {json.dumps(gradients)}.map((g, t) => {{const r = {step}; p = r.p; s = {{...s, ...r.states}}; return [p, s];}});",
    ]
    return f"(() => {{ {' '.join(body)} }})() /* {rule.name} */"


def _read(line: str, case: Case) -> Walk:
    def numbers_of(value: Any) -> Any:
        return np.array([float(x) for x in value] if isinstance(value, list) else float(value))

    return [
        {"p": numbers_of(p)} | {n: numbers_of(s[n]) if n in s else None for n in case.variant.slots}
        for p, s in json.loads(line)
    ]


FORMS: dict[str, Callable[[Sequence[Case]], list[Walk | None]]] = {
    "floats": _by_floats,
    "numpy": _by_numpy,
    "vmap": _by_vmap,
    "Numba kernel": _by_serial_kernel,
    "Numba kernel on threads": _by_parallel_kernel,
    "Triton in its interpreter": _by_triton,
    "compiled lanes": _by_lanes,
    "lanes on tensors": _by_lane_tensors,
    "JavaScript": _by_javascript,
}
