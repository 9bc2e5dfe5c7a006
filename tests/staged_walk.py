"""Walks of rules of matrices in each form beside the author's function: stages on numpy, kernels, lanes, text, JavaScript."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from steprule import macros, maths
from steprule.arithmetic import Real, computing
from steprule.compiler import eager, javascript
from steprule.compiler.formula import text
from steprule.compiler.graph import Node
from steprule.compiler.interpret import interpret
from steprule.compiler.stages import COPY, Call, MatrixPass, Staged, StagedProgram
from steprule.compiler.variant import Variant, switches_of, variant_of
from steprule.lanes.matrices import MatrixRule, MatrixStepper
from steprule.optim import from_rule
from steprule.rules.rule import Rule

Shape = tuple[int, ...]
Row = dict[str, Any]
"""p and the slots behind a step, by name."""


def numbers(shape: Shape, seed: int) -> NDArray[np.float64]:
    """Of a start or a gradient."""
    return np.random.default_rng(seed).normal(size=shape)


def by_author(rule: Rule, hypers: Mapping[str, Any], shape: Shape, steps: int) -> list[Row]:
    """The walk by the author's function, on tensors in float64."""
    p, state, found = torch.from_numpy(numbers(shape, 0)), eager.State(), []
    for t in range(1, steps + 1):
        p, state = eager.step(rule, p, torch.from_numpy(numbers(shape, t)), state, float(t), hypers)
        found.append({"p": p} | {n: v for n, v in state.items() if v is not None})
    return found


def by_stages(rule: Rule, hypers: Mapping[str, Any], shape: Shape, steps: int) -> Iterator[Row]:
    """The walk by the stages, each interpreted on numpy arrays. Raises `UnstagedError` where there are none."""
    variant = variant_of(rule, hypers, shape)
    program = variant.program()
    assert isinstance(program, Staged)
    p = numbers(shape, 0)
    held: Row = {s.name: eager.start(s, p, hypers, rule) for s in rule.slots if s.name in variant.slots}
    for t in range(1, steps + 1):
        own = _Stages(program, {**hypers, **held, "p": p, "g": numbers(shape, t), "t": float(t)})
        p, held = own.columns.pop("p"), {n: own.columns.get(n, own.new.get(n)) for n in held}
        yield {"p": p, **held}


class _Stages:
    """One step of one tensor, stage by stage."""

    def __init__(self, program: Staged, values: Mapping[str, Any]) -> None:
        roots, self.new = program.scalars(values)
        self.way: StagedProgram = program.way_of(roots)
        self.roots = dict(zip(program.roots, roots, strict=True))
        self.columns = {n: np.array(values[n], dtype=float) for n in self.way.columns}
        self.numbers: dict[Node, float] = {n: float(values[n.name or ""]) for n in self.way.given}
        self.left: dict[str, NDArray[Any]] = {}
        for stage in self.way.stages:
            self.call(stage) if isinstance(stage, Call) else self.go(stage)
        with computing(self.columns["p"], []):
            known = self.known({})
            interpret([n for n in self.way.closing.per_tensor if n.op != "input"], known)
            self.new |= {n: float(known[v] if isinstance(v, Node) else v) for n, v in self.way.numbers.items()}

    def call(self, call: Call) -> None:
        def number(x: Any) -> float:
            return self.roots[x] if isinstance(x, Node) else x

        read = {o: self.left[o.name].T if o.flipped else self.left[o.name] for o in call.operands}
        args = [read[o] for o in call.args]
        if call.op == COPY:
            found = args[0].copy()
        else:
            assert call.op == "matmul"
            found = number(call.alpha) * (args[0] @ args[1])
            if call.added is not None:
                found = found + number(call.beta) * read[call.added]
        assert found.shape == self.way.sizes(call.out.dims)
        self.left[call.out.name] = found

    def go(self, part: MatrixPass) -> None:
        shape = self.way.sizes(part.domain)
        lies = {"full": shape, "row": (*shape[:1], 1), "column": (1, *shape[1:])}
        loaded = {n: self.left[n] if n in self.left else self.columns[n] for n in part.loads}
        assert all(x.shape == lies[part.kinds[n]] for n, x in loaded.items())
        with computing(self.columns["p"], list(loaded.values())) as (lifted, _):
            known = self.known({self.way.graph.inputs[n]: x for n, x in zip(loaded, lifted, strict=True)})
            interpret([n for n in (*part.per_tensor, *part.elements) if n.op != "input"], known)
            interpret(part.reductions, known)
            written = {n: known[v] if isinstance(v, Node) else float(v) for n, v in (part.stores or {}).items()}
        places = iter(part.filled)
        for node in part.reductions:
            if node in part.along:
                self.left[part.along[node].name] = np.asarray(known[node])
            else:
                self.numbers[self.way.reductions[next(places)]] = float(np.ravel(known[node])[0])
        for name, value in written.items():
            whole = np.broadcast_to(np.asarray(value, dtype=float), shape).copy()
            (self.columns if name in self.columns else self.left)[name] = whole

    def known(self, arrays: dict[Node, Any]) -> dict[Node, Any]:
        scalars = {n: bool(v) if n.truth else Real(v) for n, v in self.roots.items()}
        return arrays | scalars | {n: Real(v) for n, v in self.numbers.items()}


def by_class(rule: Rule, hypers: Mapping[str, Any], shape: Shape, steps: int, backend: str = "numba") -> Iterator[Row]:
    """The walk by the class and its kernels."""
    p = torch.from_numpy(numbers(shape, 0)).requires_grad_()
    optimizer = from_rule(rule)([p], **hypers, backend=backend)
    for t in range(1, steps + 1):
        p.grad = torch.from_numpy(numbers(shape, t))
        optimizer.step()
        yield {"p": p.detach().clone()} | {n: v.clone() for n, v in optimizer.state[p].items() if n != "step"}


def by_lanes(rule: Rule, hypers: Mapping[str, Any], shape: Shape, steps: int) -> Iterator[Row]:
    """The walk by lanes; the other lane begins elsewhere and has another learning rate."""
    own = MatrixRule(rule, switches_of(rule, hypers), (shape,), "float64")
    two = {n: np.array([v * 0.5 if n == "lr" else v, v]) for n, v in hypers.items()}
    stepper = MatrixStepper(own, two, "cpu")
    p = torch.from_numpy(np.stack([0.5 * numbers(shape, 0).ravel(), numbers(shape, 0).ravel()], axis=1))
    for t in range(1, steps + 1):
        g = torch.from_numpy(np.stack([numbers(shape, t).ravel()] * 2, axis=1))
        stepper.step(t, p, g, torch.ones(2, dtype=torch.bool))
        yield {"p": p[:, 1].clone().reshape(shape)} | {
            n: v[1] for n, v in {**stepper.states[0], **stepper.scalar_slots[0]}.items()
        }


def by_text(rule: Rule, hypers: Mapping[str, Any], shape: Shape, steps: int) -> Iterator[Row]:
    """The walk by the printed text, run as Python on tensors."""
    variant: Variant = variant_of(rule, hypers, shape)
    p = torch.from_numpy(numbers(shape, 0))
    held: Row = {s.name: eager.start(s, p, hypers, rule) for s in rule.slots if s.name in variant.slots}
    functions = {n: getattr(maths, n) for n in maths.NAMES}
    for t in range(1, steps + 1):
        scope: Row = {**functions, "maths": maths, "macros": macros}
        scope |= {n: Real(v) if isinstance(v, float) else v for n, v in hypers.items()}
        numbers_ = {n: Real(v) if isinstance(v, float) else v for n, v in held.items()}
        with computing(p, [p]):
            exec(
                text(variant.graph()),
                scope | numbers_ | {"p": p, "g": torch.from_numpy(numbers(shape, t)), "t": Real(t)},
                scope,
            )
        p, held = scope.get("p", p), {n: scope.get(n, held[n]) for n in held}
        yield {"p": p, **held}


NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs Node")


def by_javascript(rule: Rule, hypers: Mapping[str, Any], shape: Shape, steps: int) -> list[Row]:
    """The walk by the printed JavaScript, run by Node."""
    return javascripts([(rule, hypers, shape)], steps)[0]


def javascripts(cases: Sequence[tuple[Rule, Mapping[str, Any], Shape]], steps: int) -> list[list[Row]]:
    """The same of several cases in one run; the last step's row has `quantities`, by the formula's keys."""
    code = [javascript.POWER, javascript.MATRICES]
    for rule, hypers, shape in cases:
        graph, p = variant_of(rule, hypers, shape).graph(), numbers(shape, 0)
        printed = javascript.source(graph, p.size).replace(f"function {rule.name}", "function", 1)
        held = {n: v.ravel().tolist() if isinstance(v, np.ndarray) else v for n, v in _starts(rule, hypers, p).items()}
        gradients = [numbers(shape, t).ravel().tolist() for t in range(1, steps + 1)]
        code.append(
            f"{{ const step = {printed}; let p = {p.ravel().tolist()}, s = {json.dumps(held)};"
            f"console.log(JSON.stringify({json.dumps(gradients)}.map((g, k) => {{"
            f"const r = step(p, g, s, {json.dumps(dict(hypers))}, k + 1, k === {steps - 1});"
            "p = r.p; s = {...s, ...r.states}; return {p, ...s, ...(r.quantities ? {quantities: r.quantities} : {})}; }))); }"
        )
    done = subprocess.run([str(NODE), "-"], input="\n".join(code), capture_output=True, text=True, check=True)
    return [
        [_as_author(case, row) for row in json.loads(line)]
        for case, line in zip(cases, done.stdout.splitlines(), strict=True)
    ]


def _starts(rule: Rule, hypers: Mapping[str, Any], p: NDArray[np.float64]) -> Row:
    used = variant_of(rule, hypers, p.shape).slots
    return {s.name: eager.start(s, p, hypers, rule) for s in rule.slots if s.name in used}


def _as_author(case: tuple[Rule, Mapping[str, Any], Shape], told: Row) -> Row:
    """Flat lists in the shapes that the author's function has."""
    rule, hypers, shape = case
    shapes = {n: np.shape(v) for n, v in _starts(rule, hypers, numbers(shape, 0)).items()} | {"p": shape}
    return {n: np.reshape(v, shapes[n]) if shapes.get(n) else v for n, v in told.items()}
