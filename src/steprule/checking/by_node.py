"""Walks the JavaScript form: all cases in one run of Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steprule.checking.cases import STEPS, Case, Walk, starts
from steprule.checking.probe import POINT
from steprule.checking.report import FailedError, NotRunError
from steprule.compiler import javascript
from steprule.compiler.drawing import NOBODYS
from steprule.compiler.graph import Graph
from steprule.compiler.points import point_graph
from steprule.errors import InputError
from steprule.hyper import LOSS


def by_node(cases: Sequence[Case]) -> list[Walk | None]:
    """The walks; None for a case that asks for factorizations, which has no such form."""
    node = shutil.which("node")
    if node is None:
        raise NotRunError("node is not on the PATH")
    programs: dict[int, str] = {}
    reason = ""
    for k, case in enumerate(cases):
        try:
            programs[k] = _program(case)
        except InputError as refusal:
            reason = refusal.got
    if not programs:
        raise NotRunError(reason)
    lines = [
        javascript.POWER,
        javascript.NOISE,
        "const words = (_, v) => typeof v === 'number' && !Number.isFinite(v) ? String(v) : v;",
    ]
    lines += [f"console.log(JSON.stringify({program}, words));" for program in programs.values()]
    done = subprocess.run([node, "-"], input="\n".join(lines), capture_output=True, text=True, timeout=60)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "Error" in line]
        raise FailedError(f"JavaScript: {said[0] if said else 'node ended with an error'}")
    told: Mapping[int, str] = dict(zip(programs, done.stdout.splitlines(), strict=True))
    return [_read(told[k], case) if k in told else None for k, case in enumerate(cases)]


def _program(case: Case) -> str:
    rule, variant = case.rule, case.variant
    functions = [_function(variant.graph(absent)) for absent in variant.stages]
    read = [point_graph(variant, absent) for absent in variant.stages[1:] or variant.stages]
    points = [_function(graph) for graph in read if graph is not None] or ["p => ({p: null})"]
    looks = []
    for look in variant.looks:
        stages = ", ".join(_function(look.graph(absent)) for absent in variant.stages)
        looks.append(f"[{stages}]")
    names = json.dumps(rule.looked[: len(looks)])
    begin = {n: v.ravel().tolist() if isinstance(v, np.ndarray) else v for n, v in starts(case).items()}
    begin |= {LOSS: case.hypers[LOSS]} if LOSS in case.hypers else {}
    settings = json.dumps(dict(case.hypers))
    step = f"stages[Math.min(t, {len(functions) - 1})](p, g, s, {settings}, t + 1, false)"
    point = f"points[Math.min(t, {len(points) - 1})](p, p, s, {settings}, t + 1, false).p"
    there = f"look[Math.min(t, {len(functions) - 1})](p, g, s, {settings}, t + 1, false).p"
    drawn = f"normals(p.length, {NOBODYS.seed}, {NOBODYS.tensor}, t + 1, k)"
    found = f"k < {rule.draws} ? {drawn} : {there}.map((q, i) => 0.5 * q - 0.7 * g[i])"
    seen = f"looks.forEach((look, k) => {{ s[{names}[k]] = {found}; }});"
    gradients = [case.numbers(t).ravel().tolist() for t in range(1, STEPS + 1)]
    body = [
        f"const stages = [{', '.join(functions)}], points = [{', '.join(points)}];",
        f"const looks = [{', '.join(looks)}];",
        f"let p = {case.numbers(0).ravel().tolist()}, s = {json.dumps(begin)};",
        f"return {json.dumps(gradients)}.map((g, t) => {{",
        f"{seen} const r = {step}; p = r.p; s = {{...s, ...r.states}}; return [p, s, {point}];}});",
    ]
    return f"(() => {{ {' '.join(body)} }})() /* {rule.name} */"


def _function(graph: Graph) -> str:
    """A step as a function without a name."""
    text = javascript.source(graph)
    return f"function{text[text.index('(') :]}"


def _read(line: str, case: Case) -> Walk:
    def array(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return np.array([float(x) for x in value]).reshape(case.sizes(name))
        return np.array(float(value))

    found = []
    for p, states, point in json.loads(line):
        kept = {n: array(n, states[n]) if n in states else None for n in case.variant.slots}
        found.append({"p": array("p", p), **kept, **({} if point is None else {POINT: array(POINT, point)})})
    return found
