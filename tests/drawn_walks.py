"""A few steps of a drawn rule in every form, each form's walk as plain arrays."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray

from steprule import maths, optim
from steprule.arithmetic import computing
from steprule.checking.cases import plain
from steprule.checking.shaking import shake
from steprule.compiler import eager, formula, javascript, numba_cpu as cpu
from steprule.compiler.graph import Node
from steprule.compiler.variant import Variant, variant_of
from steprule.lanes import rule as lanes
from steprule.lanes.tensors import TensorStepper
from steprule.reports.mathml import mathml
from steprule.rules.rule import Rule

EPS = {"float64": 2.3e-16, "float32": 1.2e-7, "bfloat16": 1.2e-7}
"""Of the dtype in which the maths is done: bfloat16 is computed in float32, and rounded where it is stored."""
STEPS = 4
SIZE = 9
SHAKES = 4
AGAIN = 64  # shakes before a difference counts: what one ulp decides may be missed by four
LANES = 3
SAMPLE = 60
Array = NDArray[Any]
Walk = list[dict[str, Any]]
"""After each step: p and each slot by name; None for one that is absent."""
NODE = shutil.which("node")


@dataclass
class Case:
    """A rule, one variant of it, values for its hyperparameters, and what it starts from and meets."""

    rule: Rule
    hypers: dict[str, Any]
    start: Array
    gradients: Array
    special: bool = False
    """Whether it meets nan, inf, and what only float64 can hold."""

    @property
    def variant(self) -> Variant:
        return variant_of(self.rule, self.hypers)

    @property
    def lengths(self) -> list[int]:
        """Of the tensors that a form over several steps; the first is looked at. What has totals is alone, as in the other forms."""
        alone = any(map(self.variant.rounds, self.variant.stages))
        return [SIZE] if alone else [SIZE, 4]

    @property
    def steps(self) -> range:
        """The numbers of its steps, from 1."""
        return range(1, len(self.gradients) + 1)


def case_of(
    rule: Rule, hypers: dict[str, Any], rng: np.random.Generator, *, steps: int = STEPS, special: bool = False
) -> Case:
    """These values for its hyperparameters; the start and the gradients are drawn."""
    start, gradients = rng.normal(size=SIZE), rng.normal(size=(steps, SIZE))
    if special:
        wild = np.array([0.0, -0.0, 1e-310, -1e-200, 1e150, -1e300, np.inf, -np.inf, np.nan])
        start = np.where(rng.random(SIZE) < 0.4, wild, start)
        gradients = np.where(rng.random((steps, SIZE)) < 0.4, rng.choice(wild, (steps, SIZE)), gradients)
    return Case(rule, hypers, start, gradients, special)


def cases(rule: Rule, seed: int) -> Iterator[Case]:
    """Two variants at most; the second starts from special values, where nothing is reduced over them."""
    rng = np.random.default_rng(seed)
    variants = list(rule.variants())
    for k in rng.permutation(len(variants))[:2]:
        hypers = {**rule.defaults, **variants[k]}
        for name, value in hypers.items():
            if type(value) is float and value != 0:
                hypers[name] = float(value * rng.choice([1.0, 0.7, 1.3]))
        special = k == len(variants) - 1 and not variant_of(rule, hypers).reduces
        yield case_of(rule, hypers, rng, special=bool(special))


def taken(case: Case, outputs: Mapping[str, Any], state: dict[str, Any]) -> Array:
    """The new p of a step's results, by name; those of the slots go into `state`."""
    numbers = {s.name for s in case.rule.slots if s.is_number}
    values = {n: np.array(v, dtype=np.float64) for n, v in outputs.items() if v is not None}
    whole = {n: np.broadcast_to(v, case.start.shape).copy() for n, v in values.items() if n not in numbers}
    state |= {n: float(v.reshape(())) for n, v in values.items() if n in numbers}
    state |= {n: v for n, v in whole.items() if n != "p"}
    return whole["p"]


def walk(case: Case, convert: Callable[[Array], Any]) -> Walk:
    """By the author's function, on what `convert` makes."""
    p, state, found = convert(case.start), eager.State(), []
    for t in case.steps:
        p, state = eager.step(case.rule, p, convert(case.gradients[t - 1]), state, t, case.hypers)
        found.append({"p": plain(p)} | {n: plain(v) for n, v in state.items() if n in case.variant.slots})
    return found


def walk_by_floats(case: Case) -> Walk:
    alone = [walk(case, lambda a, k=k: float(a[k])) for k in range(SIZE)]  # type: ignore[misc]
    numbers = {s.name for s in case.rule.slots if s.is_number}

    def joined(t: int, name: str, first: Any) -> Any:
        if first is None or name in numbers:
            return first
        return np.array([one[t][name] for one in alone])

    return [{n: joined(t, n, v) for n, v in row.items()} for t, row in enumerate(alone[0])]


def walk_by_vmap(case: Case) -> Walk:
    """Two copies of the walk at once, under `torch.func.vmap`; the first is looked at."""

    def both(a: Array) -> torch.Tensor:
        return torch.from_numpy(np.stack([a, a[::-1]]))

    others: dict[str, Any] = {}
    """What is no tensor: absent slots, numbers that are the same for both."""

    def one(p: Any, g: Any, held: dict[str, Any], t: int) -> Any:
        new_p, new = eager.step(case.rule, p, g, {**others, **held}, t, case.hypers)
        there = {n: v for n, v in new.items() if isinstance(v, torch.Tensor)}
        others.clear()
        others.update({n: v for n, v in new.items() if n not in there})
        return new_p, there

    p, held, found = both(case.start), {}, []
    for t in case.steps:
        p, held = torch.func.vmap(partial(one, t=t))(p, both(case.gradients[t - 1]), held)
        state = others | {n: v[0] for n, v in held.items()}
        found.append({"p": plain(p[0])} | {n: plain(v) for n, v in state.items() if n in case.variant.slots})
    return found


def as_stored(dtype: str, values: Array) -> Array:
    """The values as a tensor of this dtype keeps them."""
    return torch.from_numpy(values).to(getattr(torch, dtype)).double().numpy()


def walk_shaken(case: Case, seed: int | None, dtype: str) -> Walk:
    """By the graph, each result moved by an ulp or not; without a seed none is."""
    rng, eps = np.random.default_rng(seed), 0.0 if seed is None else EPS[dtype]
    kept = partial(as_stored, dtype) if dtype == "bfloat16" else np.copy
    p, found = kept(case.start), []
    rule, variant = case.rule, case.variant
    state: dict[str, Any] = {
        s.name: eager.start(s, p, case.hypers) for s in rule.slots if s.name in variant.slots and not s.absent_at_first
    }
    for t in case.steps:
        graph = variant.graph(variant.stages[min(t, len(variant.stages)) - 1])
        known: dict[Node, Any] = {}
        given = {**case.hypers, **state, "p": p, "g": kept(case.gradients[t - 1]), "t": float(t)}
        names = [n for n in graph.inputs if given.get(n) is not None]
        with computing(p, [given[n] for n in names]) as (lifted, _):
            known |= {graph.inputs[n]: v for n, v in zip(names, lifted, strict=True)}
            shake(graph, known, eps, rng, ((1.0,), (-1.0,), (-1.0, 1.0))[(seed or 0) % 3])
        outputs = {n: known[v] if isinstance(v, Node) else v for n, v in graph.outputs.items()}
        p = kept(taken(case, outputs, state))
        state |= {n: kept(v) for n, v in state.items() if isinstance(v, np.ndarray)}
        found.append({"p": p} | {n: plain(state.get(n)) for n in variant.slots})
    return found


# Kernels whose source runs as plain Python.


def as_python(source: str) -> types.SimpleNamespace:
    """The functions of a kernel's source, run by Python itself."""
    source = re.sub(r"^(from|import) (numba|steprule).*$", "", source, flags=re.M)
    scope: dict[str, Any] = {
        "Disjoint": None,
        "njit": lambda *_, **__: lambda f: f,
        "carray": _at,
        "pointer": lambda a, d: (a, d),
    }
    exec(compile(source, "<kernel>", "exec"), scope)
    return types.SimpleNamespace(**scope)


def _at(address: Any, count: Any) -> Any:
    where, dtype = address
    size = np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * (int(count) * size)).from_address(int(where)), dtype=dtype)


class PythonKernel(cpu.NumbaKernel):
    """Numba's passes without Numba."""

    @cached_property
    def compiled(self) -> list[Callable[..., None]]:  # type: ignore[override]
        module = as_python(self.source())
        functions = [getattr(module, f"pass{k}") for k in range(len(self.program.passes))]
        return [lambda count, threads, *others, f=f: f(0, count, *others) for f in functions]


def walk_by_kernel(case: Case, make: Callable[..., Any], dtype: str = "float64", *, parallel: bool = False) -> Walk:
    """As a bucket of the class does, on two tensors; the first is looked at."""
    rule, variant = case.rule, case.variant
    sizes, count = case.lengths, len(case.lengths)
    tensors = [case.start[:n].astype(dtype) for n in sizes]
    states = [
        {
            s.name: np.full_like(x, eager.start_number(s, case.hypers))
            for s in rule.slots
            if not s.is_number and not s.absent_at_first
        }
        for x in tensors
    ]
    numbers = {
        s.name: np.full(count, float(eager.start_number(s, case.hypers)))
        for s in rule.slots
        if s.is_number and s.name in variant.slots
    }
    found = []
    for t in case.steps:
        absent = variant.stages[min(t, len(variant.stages)) - 1]
        program = variant.program(absent)
        grads = [case.gradients[t - 1][:n].astype(dtype) for n in sizes]
        known = {**case.hypers, "t": float(t)}
        new = {n for n in program.stores if n in absent}
        for state, x in zip(states, tensors, strict=True):
            state |= {n: np.empty_like(x) for n in new}
        for phase in (*variant.measurements(absent), program):
            kernel = make(phase, tuple(dtype for _ in phase.columns), dtype)
            columns = [
                [{"p": x, "g": g}.get(n, state.get(n)) for x, g, state in zip(tensors, grads, states, strict=True)]
                for n in phase.columns
            ]
            addresses = np.array([[a.ctypes.data for a in row] for row in columns], dtype=np.int64)
            found_scalars = [
                phase.scalars({**known, **{n: float(v[k]) for n, v in numbers.items()}}) for k in range(count)
            ]
            table = np.array([values for values, _ in found_scalars], dtype=dtype).reshape(count, -1).T.copy()
            chunks = kernel.chunks(sizes, None)
            given = [numbers[n.name] for n in phase.given]
            with np.errstate(all="ignore"):
                run = kernel.launch if phase is program else kernel.add_up
                closed = run(addresses, chunks, table, np.arange(count, dtype=np.int32), given)
            if phase is not program:
                known |= closed
        for name in numbers:
            if name in closed:
                numbers[name] = np.array(closed[name])
            elif name in found_scalars[0][1]:
                numbers[name] = np.array([new[name] for _, new in found_scalars])
        row = {"p": plain(tensors[0])}
        for name in variant.slots:
            row[name] = plain(numbers[name][0] if name in numbers else states[0].get(name))
        found.append(row)
    return found


def lane_hypers(case: Case) -> dict[str, Array]:
    """Of three lanes; the first has other numbers than the case."""
    return {n: np.array([0.5 * v, v, v]) if type(v) is float else np.array([v] * LANES) for n, v in case.hypers.items()}


def absent_after(case: Case, t: int) -> frozenset[str]:
    stages = case.variant.stages
    return stages[min(t + 1, len(stages)) - 1] if t < len(case.steps) else stages[-1]


def walk_by_lane_tensors(case: Case) -> Walk:
    """As the vmap engine of a sweep steps: three lanes of two tensors, the third lane dead; the second lane's first tensor is looked at."""
    stepper = TensorStepper(lanes.LaneRule.of(case.variant, "float64"), lane_hypers(case), case.lengths, "cpu")

    def of_lanes(values: Array) -> torch.Tensor:
        return torch.from_numpy(np.stack([np.concatenate([values[:n] for n in case.lengths])] * LANES, axis=1))

    p, alive, found = of_lanes(case.start), torch.tensor([True, True, False]), []
    for t in case.steps:
        stepper.step(t, p, of_lanes(case.gradients[t - 1]), alive)
        row: dict[str, Any] = {"p": plain(p[:SIZE, 1])}
        for name in case.variant.slots:
            absent = name in absent_after(case, t)
            held = stepper.states[name][:SIZE] if name in stepper.states else stepper.scalar_slots[0].get(name)
            row[name] = None if absent or held is None else plain(held.expand(*held.shape[:-1], LANES)[..., 1])
        found.append(row)
    assert np.array_equal(p[:SIZE, 2].numpy(), case.start, equal_nan=True), "a dead lane moved"
    return found


def walk_by_lanes(case: Case, compiled: bool) -> Walk:
    """Three lanes, of which the second is looked at; the others have other values."""
    rule = lanes.LaneRule.of(case.variant, "float64")
    module = rule.module if compiled else as_python(lanes.text_of(rule))
    table_rows, power_rows, reductions = rule.scratch
    hypers, width = lane_hypers(case), LANES
    tensors, first = lanes.layout([SIZE])

    def rows(names: Sequence[str]) -> Array:
        return rule.rows_of(names, hypers, width).copy()

    p = np.stack([case.start * 0.5, case.start, case.start], axis=1)
    states = np.broadcast_to(rows(rule.states)[:, None], (len(rule.states), SIZE, width)).copy()
    rates, slots = rows(rule.hypers), rows([*rule.scalar_slots, *rule.numbers])
    table, powers = np.empty((table_rows, width)), np.ones((power_rows, width))
    reduced, sums = np.empty((reductions, 1, width)), np.empty((reductions, 1, width))
    alive = np.array([1, 1, 0], dtype=np.uint8)
    found = []
    for t in case.steps:
        g = np.ascontiguousarray(np.stack([case.gradients[t - 1]] * width, axis=1))
        with np.errstate(all="ignore"):
            module.step(float(t), rates, powers, slots, table, tensors, first, reduced, sums, alive, p, g, states)
        row: dict[str, Any] = {"p": p[:, 1].copy()}
        for name in case.variant.slots:
            if name in rule.states:
                row[name] = states[rule.states.index(name), :, 1].copy()
            elif name in rule.scalar_slots:
                row[name] = plain(slots[rule.scalar_slots.index(name), 1])
            elif name in rule.kept:
                row[name] = plain(reduced[rule.kept[name], 0, 1])
            if name in absent_after(case, t):
                row[name] = None
        found.append(row)
    assert np.array_equal(p[:, 2], case.start, equal_nan=True), "a dead lane moved"
    return found


def walk_by_text(case: Case) -> Walk:
    """By the formula, printed as Python."""
    rule, variant = case.rule, case.variant
    p, found = case.start.copy(), []
    state: dict[str, Any] = {
        s.name: eager.start(s, p, case.hypers) for s in rule.slots if s.name in variant.slots and not s.absent_at_first
    }
    for t in case.steps:
        graph = variant.graph(variant.stages[min(t, len(variant.stages)) - 1])
        scope: dict[str, Any] = {n: getattr(maths, n) for n in maths.NAMES}
        text = formula.python(graph)
        exec(text, scope)
        given = {**case.hypers, **state, "p": p, "g": case.gradients[t - 1], "t": float(t)}
        wanted = re.search(r"def \w+\((.*)\):", text).group(1).replace("*, ", "").split(", ")  # type: ignore[union-attr]
        slots = [n for n in wanted if n in variant.slots]
        named = [n for n in wanted if n not in slots and n not in ("p", "g")]
        with computing(p, [given[n] for n in ("p", "g", *slots, *named)]) as (lifted, back):
            results = scope[rule.name](
                *lifted[: 2 + len(slots)], **dict(zip(named, lifted[2 + len(slots) :], strict=True))
            )
            results = [back(v) for v in (results if isinstance(results, tuple) else (results,))]
        there = [n for n, v in graph.outputs.items() if v is not None]
        p = taken(case, dict(zip(there, results, strict=True)), state)
        found.append({"p": p} | {n: plain(state.get(n)) for n in variant.slots})
    return found


# JavaScript: all of a batch in one run of Node.


def javascript_of(case: Case, size: int | None) -> str:
    """A program that prints the walk as JSON; numbers that JSON lacks as words."""
    rule, variant = case.rule, case.variant
    functions = [
        javascript.source(variant.graph(absent), size).replace("function " + rule.name, "function", 1)
        for absent in variant.stages
    ]
    begin = {
        s.name: eager.start_number(s, case.hypers)
        if s.is_number
        else [float(eager.start_number(s, case.hypers))] * SIZE
        for s in rule.slots
        if s.name in variant.slots and not s.absent_at_first
    }
    hypers = json.dumps(case.hypers)
    step = f"stages[Math.min(t, {len(functions) - 1})](p, g, s, {hypers}, t + 1, true)"
    lines = [
        f"const stages = [{', '.join(functions)}];",
        f"let p = {_js(case.start)}, s = {json.dumps(begin)};",
        f"return {_js(case.gradients)}.map((g, t) => {{ const r = {step}; p = r.p; s = {{...s, ...r.states}}; return [p, s]; }});",
    ]
    return f"(() => {{ {' '.join(lines)} }})()"


def _js(values: Array) -> str:
    return json.dumps(values.tolist()).replace("-Infinity", "(-Infinity)")


def run_javascript(programs: Sequence[str]) -> list[Any]:
    lines = [javascript.POWER, "const out = (k, f) => { let r; try { r = f(); } catch (e) { r = String(e); }"]
    lines.append(
        "console.log(JSON.stringify(r, (_, v) => typeof v === 'number' && !Number.isFinite(v) ? String(v) : v)); };"
    )
    code = "\n".join([*lines, *(f"out({k}, () => {program});" for k, program in enumerate(programs))])
    done = subprocess.run([str(NODE), "-"], input=code, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise AssertionError(done.stderr[:2000])
    return [json.loads(line) for line in done.stdout.splitlines()]


def walk_of(told: Any, case: Case) -> Walk:
    if isinstance(told, str):
        raise AssertionError(f"JavaScript: {told}")
    number = partial(np.array, dtype=np.float64)
    read = lambda v: number([float(x) for x in v]) if isinstance(v, list) else number(float(v))  # noqa: E731
    return [{"p": read(p)} | {n: read(s[n]) if n in s else None for n in case.variant.slots} for p, s in told]


def in_latex(case: Case) -> str:
    """What is wrong with the formula in LaTeX: each result has its line, each line is one that MathML can be made of."""
    for absent in case.variant.stages:
        graph = case.variant.graph(absent)
        try:
            lines = formula.latex(graph)
            for line in lines:
                ElementTree.fromstring(mathml(line))
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__}: {error}"[:300]
        changed = [n for n, v in graph.outputs.items() if v is not None and v is not graph.inputs.get(n)]
        if len(lines) < len(changed):
            return f"{len(lines)} lines for {len(changed)} results"
    return ""


# The class.

BACKENDS = ("eager", "numba", "triton")


def walk_by_class(case: Case, dtype: torch.dtype, backend: str) -> Walk:
    """As a user steps it, over two parameters; the first is looked at."""
    params = [torch.from_numpy(case.start[:n].copy()).to(dtype).requires_grad_() for n in case.lengths]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # slots of one number per tensor have it
    try:
        optimizer = optim.from_rule(case.rule)(params, **case.hypers, backend=backend)
        found = []
        for g in case.gradients:
            for p in params:
                p.grad = torch.from_numpy(g[: p.numel()].copy()).to(dtype)
            optimizer.step()
            state = optimizer.state[params[0]]
            found.append({"p": plain(params[0])} | {n: plain(state.get(n)) for n in case.variant.slots})
    finally:
        torch.set_default_dtype(before)
    return found
