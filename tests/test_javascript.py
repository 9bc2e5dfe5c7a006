"""The JavaScript form, run by Node: every rule and variant against the eager form, on parameters and all states."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from typing import Any

import elementwise
import numpy as np
import pytest
from tolerances import JAVASCRIPT, ROUNDED64, SUMMED32

import steprule
from steprule import rules
from steprule.compiler import anatomy, eager, javascript
from steprule.compiler.tracer import trace
from steprule.compiler.variant import variant_of
from steprule.hyper import Rate
from steprule.rules.parts import composed

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")


def run(code: str) -> Any:
    done = subprocess.run(["node", "-"], input=code, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


CASES = [(r, v) for raw in elementwise.RULES for r in (composed(raw),) for v in r.variants()]


def _hypers(rule: Any, variant: dict[str, bool]) -> dict[str, Any]:
    away = {"momentum": 0.7, "weight_decay": 0.03, "decoupled_weight_decay": 0.02}
    own = {h.name: h.default for h in rule.hypers}
    for name, on in variant.items():
        number = away.get(name, 0.4) if on else 0.0
        own[name] = on if rule.hyper(name).is_flag else number
    return own


@needs_node
def test_a_name_that_is_free_in_python_only() -> None:

    @steprule.rule
    def delete(p, g, *, lr: Rate = 0.5):  # type: ignore[no-untyped-def]
        return p - lr * g

    printed = javascript.source(trace(delete))
    assert printed.startswith("function delete_(")
    assert run(f"{printed}\nconsole.log(JSON.stringify(delete_([1], [1], {{}}, {{lr: 0.5}}, 1, false).p))") == [0.5]


@needs_node
@pytest.mark.parametrize("size", [None, 3])
def test_every_rule_and_variant(size: int | None) -> None:
    """Twelve steps on three coordinates; the functions of all variants in one run of Node."""
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(3), rng.standard_normal((12, 3))
    code, expected = ["const found = [];", javascript.POWER], []
    for k, (rule, variant) in enumerate(CASES):
        hypers = _hypers(rule, variant)
        whole = variant_of(rule, hypers)
        used, stages = whole.slots, [javascript.source(whole.graph(absent), size) for absent in whole.stages]
        functions = [printed.replace("function " + rule.name, "function", 1) for printed in stages]
        code.append(f"const stages{k} = [{', '.join(functions)}];")
        initial = {
            s.name: eager.start(s, start, hypers) for s in rule.slots if s.name in used and not s.absent_at_first
        }
        plain = {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in initial.items()}
        code.append(
            f"{{let p = {start.tolist()}, s = {json.dumps(plain)}; const path = [];"
            f"{json.dumps(gradients.tolist())}.forEach((g, t) => {{"
            f"const r = stages{k}[Math.min(t, {len(stages) - 1})](p, g, s, {json.dumps(hypers)}, t + 1, t === 11);"
            f"p = r.p; s = {{...s, ...r.states}}; path.push([p, s, r.quantities]);}}); found.push(path);}}"
        )
        p, state, path = start, {}, []
        for t, g in enumerate(gradients, 1):
            inputs = {**hypers, **state, "p": p, "g": g, "t": float(t)}
            p, state = eager.step(rule, p, g, state, t, hypers)
            path.append((p, {n: v for n, v in state.items() if n in used}))
        graph = trace(rule, variant)
        rows = anatomy.values(graph, inputs)
        path[-1] = (*path[-1], rows)
        new = next(r for r in anatomy.rows(graph) if r.node is graph.outputs["p"])
        assert np.array_equal(rows[new.key], p), "the rows are the eager form's numbers, to the bit"
        expected.append(path)
    code.append("console.log(JSON.stringify(found));")
    found = run("\n".join(code))
    for (rule, variant), theirs, ours in zip(CASES, found, expected, strict=True):
        _, _, kept = theirs[-1]
        *_, rows = ours[-1]
        assert list(kept) == list(rows), (rule.name, variant)
        for name, value in rows.items():
            assert np.asarray(kept[name]) == pytest.approx(np.asarray(value).squeeze(), rel=JAVASCRIPT, abs=0), name
        for (p, states, _), (q, held, *_) in zip(theirs, ours, strict=True):
            assert p == pytest.approx(q, rel=JAVASCRIPT, abs=0), (rule.name, variant)
            assert set(states) == set(held), (rule.name, variant)
            for name, value in held.items():
                assert np.asarray(states[name]) == pytest.approx(np.asarray(value), rel=JAVASCRIPT, abs=0), (
                    rule.name,
                    name,
                )


@needs_node
def test_the_authors_quantities() -> None:
    hypers = composed(rules.adam).defaults
    printed = javascript.source(trace(composed(rules.adam)))
    call = f"adam([1, 2], [3, -4], {{exp_avg: [0, 0], exp_avg_sq: [0, 0]}}, {json.dumps(hypers)}, 1, true)"
    found = run(f"{printed}; console.log(JSON.stringify({call}.quantities));")
    assert found["m_hat"] == pytest.approx([3.0, -4.0], rel=ROUNDED64)
    assert found["s_hat"] == pytest.approx([3.0, 4.0], rel=ROUNDED64)
    assert math.isclose(found["p"][0], 1 - 0.001, rel_tol=SUMMED32)
