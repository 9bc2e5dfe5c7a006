"""The JavaScript form of rules of matrices, run by Node: every rule, variant and kind of shape against the author's function."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import elementwise
import numpy as np
import pytest
from staged_walk import javascripts, needs_node, numbers
from tolerances import MATRICES_FLOAT64

from steprule import rules
from steprule.cli import main
from steprule.compiler import anatomy, eager, javascript
from steprule.compiler.variant import variant_of
from steprule.errors import InputError
from steprule.hyper import Rate
from steprule.maths import cast, norm
from steprule.rules.rule import Rule, rule

STEPS = 20
SHAPES = [(8, 8), (3, 5), (5, 3), (1, 4), (4, 1), (6,), ()]
AWAY = {"lr": 0.03, "weight_decay": 0.2, "ns_steps": 3}
FACTORIZE = ("soap", "shampoo")
PRINTED = [r for r in elementwise.OF_MATRICES if r.name not in FACTORIZE]


def _hypers(of: Rule, variant: dict[str, Any]) -> dict[str, Any]:
    own = {h.name: AWAY.get(h.name, h.default) for h in of.hypers}
    on = {n: AWAY.get(n, value) if value else value for n, value in variant.items()}
    return own | on


@needs_node
@pytest.mark.parametrize("of", PRINTED, ids=lambda r: r.name)
def test_every_rule_and_variant(of: Rule) -> None:
    """On numpy in float64; the quantities of the last step too."""
    cases = [(of, _hypers(of, variant), shape) for variant, shape in product(of.variants(), SHAPES)]
    assert {h["adjust_lr_fn"] for _, h, _ in cases if "adjust_lr_fn" in h} in (
        set(),
        {"original", "match_rms_adamw", "spectral"},
    )
    for (_, hypers, shape), theirs in zip(cases, javascripts(cases, STEPS), strict=True):
        p, state = numbers(shape, 0), eager.State()
        for t, row in enumerate(theirs, 1):
            g, before = numbers(shape, t), {"p": p, **state}
            p, state = eager.step(of, p, g, state, t, hypers)
            for name, value in {"p": p, **state}.items():
                if value is not None:
                    _compare(row[name], value, (of.name, hypers, shape, t, name))
        graph = variant_of(of, hypers, shape).graph()
        rows = anatomy.values(graph, {**hypers, **before, "g": g, "t": float(STEPS)})
        assert list(theirs[-1]["quantities"]) == list(rows)
        for name, value in rows.items():
            _compare(theirs[-1]["quantities"][name], value, (of.name, hypers, shape, name))


def _compare(got: Any, wanted: Any, where: Any) -> None:
    limit = MATRICES_FLOAT64 * max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(np.ravel(got), np.ravel(wanted), rtol=0, atol=limit, err_msg=str(where))


@needs_node
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_is_numpys(dtype: str) -> None:
    """From the smallest numbers to what overflows, with halves between two neighbours."""

    @rule(as_matrix=True)
    def rounding(p, g, *, lr: Rate = 1.0):  # type: ignore[no-untyped-def]
        return cast(g, dtype) + 0 * lr * norm(p, axis=-1)

    drawn, bits = np.random.default_rng(0), 8 if dtype == "bfloat16" else 11
    halves = (2.0**bits + np.arange(64) + 0.5) * 2.0 ** -drawn.integers(0, 30, 64)
    spread = drawn.standard_normal(400) * 10.0 ** drawn.uniform(-45, 40, 400)
    given = np.concatenate([halves, -halves, spread, [0.0, -0.0, 65504.0, 65519.9, 65520.0, 3.4e38, -3.4e38, 1e-46]])
    with np.errstate(over="ignore"):
        wanted = rounding(np.zeros(given.shape), given)
    printed = javascript.source(variant_of(rounding, rounding.defaults, given.shape).graph())
    told = _run(f"{printed}\nconst r = rounding({[0.0] * len(given)}, {given.tolist()}, {{}}, {{lr: 1}}, 1, false).p;")
    np.testing.assert_array_equal(told, wanted)


def _run(code: str) -> Any:
    import subprocess

    tell = "console.log(r.map((v) => (Number.isFinite(v) ? v : v > 0 ? 'inf' : v < 0 ? '-inf' : 'nan')).join(' '));"
    done = subprocess.run(["node", "-"], input=f"{code}\n{tell}", capture_output=True, text=True, check=True)
    return np.array([float(v) for v in done.stdout.split()])


def test_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "muon", "--as", "javascript"]) == 0
    printed = capsys.readouterr().out
    assert "function muon(p, g, states, hypers, t, keep)" in printed
    assert printed.count("= product(") == 15, "three for each of the five steps of Newton-Schulz"


def test_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "soap", "--as", "javascript"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"got soap, which asks for eigenvectors, qr, sort_by", said)
    assert said.count("\n") == 1
    assert main(["show", "shampoo", "--as", "javascript"]) == 2
    assert "got shampoo, which asks for inverse_root" in capsys.readouterr().err
    with pytest.raises(InputError, match="on a tensor of 3 axes"):
        javascript.source(variant_of(rules.adafactor, rules.adafactor.defaults, (2, 3, 4)).graph())
