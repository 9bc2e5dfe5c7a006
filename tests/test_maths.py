"""Every function of `maths`, on every kind of number, against torch on NaN, signed zero, inf and the rest."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from tolerances import MATHS_FLOAT64

from steprule import maths, rule
from steprule.arithmetic import Real, integer_power
from steprule.compiler.formula import text
from steprule.compiler.tracer import trace

NAN, INF = math.nan, math.inf
VALUES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 710.0, 1e-310, 1e308, -1e308, INF, -INF, NAN]
PAIRS = list(itertools.product(VALUES, VALUES))
TRIPLES = list(itertools.product(VALUES, [-1.0, 0.5, NAN], [1.0, 0.25, NAN]))

UNARY = {
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "log": torch.log,
    "abs": torch.abs,
    "sign": torch.sign,
    "neg": torch.neg,
    "tanh": torch.tanh,
}
UNARY |= {
    "square": lambda x: x**2,
    "cube": lambda x: x**3,
    "inverse": lambda x: 1 / x,
    "root": lambda x: x**0.5,
    "two_to": lambda x: 2.0**x,
}
BINARY = {
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "divide": torch.div,
    "multiply": torch.mul,
    "power": torch.pow,
    "atan2": torch.atan2,
}
OPERATORS: dict[str, Any] = {
    "neg": lambda x: -x, "square": lambda x: x**2, "cube": lambda x: x**3, "inverse": lambda x: 1 / x, "root": lambda x: x**0.5,
    "two_to": lambda x: 2.0**x, "divide": lambda a, b: a / b, "multiply": lambda a, b: a * b, "power": lambda a, b: a**b,
}  # fmt: skip
# The sign of a zero out of these is not defined: torch's own depends on where the element lies in a vector.
EITHER_ZERO = {"maximum", "minimum", "clamp"}
REDUCTIONS = {
    "norm": torch.linalg.vector_norm, "mean": torch.mean, "sum": torch.sum, "max": torch.amax, "min": torch.amin,
    "size": lambda x: torch.tensor(float(x.numel())).to(x.dtype),
    "total": torch.sum,  # called by hand, one tensor is the whole model
}  # fmt: skip


def function(name: str) -> Any:
    return OPERATORS.get(name) or getattr(maths, name)


def in_a_rule(body: Any) -> Any:
    """`body(p, g, slot)` run inside a rule, as authors meet it."""
    return rule(_template(body))


def _template(body: Any) -> Any:
    def applied(p, g, s, *, lr: float = 0.0):  # type: ignore[no-untyped-def]
        return body(p, g, s), s

    return applied


def same(got: float, wanted: float, *, zero_sign: bool = True) -> bool:
    if math.isnan(wanted):
        return math.isnan(got)
    if wanted == 0 and zero_sign:
        return got == 0 and math.copysign(1, got) == math.copysign(1, wanted)
    return got == wanted or math.isclose(got, wanted, rel_tol=MATHS_FLOAT64)


def on_each_kind(body: Any, *values: float) -> dict[str, float]:
    """The result on a float, a numpy array, a 0-d numpy array, and a torch tensor long enough to be vectorised."""
    padded = (*values, 0.0, 0.0)[:3]
    applied = in_a_rule(body)
    return {
        "float": applied(*padded)[0],
        "numpy": float(applied(*(np.full(9, v) for v in padded))[0][4]),
        "numpy 0-d": float(applied(*(np.array(v) for v in padded))[0]),
        "torch": float(applied(*(torch.full((9,), v, dtype=torch.float64) for v in padded))[0][4]),
    }


@pytest.mark.parametrize("name", UNARY)
def test_of_one_number(name: str) -> None:
    for x in VALUES:
        wanted = UNARY[name](torch.full((9,), x, dtype=torch.float64))[4].item()
        for kind, got in on_each_kind(lambda p, g, s: function(name)(p), x).items():
            assert same(got, wanted), f"{name}({x}) on {kind}: got {got}, torch gives {wanted}"


@pytest.mark.parametrize("name", BINARY)
def test_of_two_numbers(name: str) -> None:
    for a, b in PAIRS:
        wanted = BINARY[name](torch.full((9,), a, dtype=torch.float64), torch.full((9,), b, dtype=torch.float64))[
            4
        ].item()
        for kind, got in on_each_kind(lambda p, g, s: function(name)(p, g), a, b).items():
            assert same(got, wanted, zero_sign=name not in EITHER_ZERO), (
                f"{name}({a}, {b}) on {kind}: got {got}, torch gives {wanted}"
            )


def test_clamp() -> None:
    for x, low, high in TRIPLES:
        wanted = torch.clamp(*(torch.full((9,), v, dtype=torch.float64) for v in (x, low, high)))[4].item()
        for kind, got in on_each_kind(maths.clamp, x, low, high).items():
            assert same(got, wanted, zero_sign=False), (
                f"clamp({x}, {low}, {high}) on {kind}: got {got}, torch gives {wanted}"
            )
        for kind, got in on_each_kind(lambda p, g, s: maths.clamp(p, low, high), x).items():  # noqa: B023
            assert same(got, wanted, zero_sign=False), f"clamp({x}, {low}, {high}), plain bounds, on {kind}"


def test_lerp() -> None:
    ends = [0.0, 1.0, -2.5, 1e-300, 1e308, -1e308, INF, NAN]
    for a, b, weight in itertools.product(ends, ends, [0.0, 0.1, 0.5, 0.75, 1.0, -0.25, NAN]):
        wanted = torch.lerp(*(torch.full((9,), v, dtype=torch.float64) for v in (a, b, weight)))[4].item()
        bodies = {"its weight an element": maths.lerp, "a plain weight": lambda p, g, s: maths.lerp(p, g, weight)}  # noqa: B023
        for how, body in bodies.items():
            for kind, got in on_each_kind(body, a, b, weight).items():
                assert same(got, wanted, zero_sign=False), (
                    f"lerp({a}, {b}, {weight}), {how}, on {kind}: {got}, {wanted}"
                )


def test_lerp_is_exact_where_the_formula_of_two_products_is_not() -> None:
    """Equal ends stay as they are, and each end is reached; 0.9 * x + 0.1 * x is x only for some x."""
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    middle = in_a_rule(lambda p, g, s: maths.lerp(p, g, 0.1))
    assert torch.equal(middle(values, values, values)[0], values)
    assert not torch.equal(0.9 * values + 0.1 * values, values)
    reached = in_a_rule(lambda p, g, s: maths.lerp(p, g, 1.0))
    assert torch.equal(reached(1e10 * values, values, values)[0], values)


def test_where_takes_each_branch_as_it_is() -> None:
    for a, b in PAIRS:
        for condition in (-1.0, 1.0, NAN):
            wanted = a if condition > 0 else b
            for kind, got in on_each_kind(lambda p, g, s: maths.where(p > 0, g, s), condition, a, b).items():
                assert same(got, wanted), f"where({condition} > 0, {a}, {b}) on {kind}"


@pytest.mark.parametrize("name", REDUCTIONS)
def test_over_the_tensor(name: str) -> None:
    rows = [[3.0, -4.0, 0.0], [1.0, NAN, 2.0], [INF, 1.0, -2.0], [INF, -INF, 1.0], [-0.0, -0.0, -0.0]]
    applied = in_a_rule(lambda p, g, s: p * 0 + function(name)(g))
    for row in rows:
        wanted = REDUCTIONS[name](torch.tensor(row, dtype=torch.float64)).item()
        zeros = [0.0] * 3
        by_torch = applied(*(torch.tensor(v, dtype=torch.float64) for v in (zeros, row, zeros)))[0][0].item()
        by_numpy = float(applied(*(np.array(v) for v in (zeros, row, zeros)))[0][0])
        assert same(by_torch, wanted, zero_sign=False)
        assert same(by_numpy, wanted, zero_sign=False)
    for x in VALUES:  # a float is a tensor of one element
        assert same(
            applied(0.0, x, 0.0)[0],
            REDUCTIONS[name](torch.tensor([x], dtype=torch.float64)).item() + 0.0,
            zero_sign=False,
        )


@pytest.mark.parametrize("exponent", [2, 3, 4, 5, 7, -2, 6.0])
def test_integer_powers_are_products_on_every_kind(exponent: float) -> None:
    values = np.random.default_rng(0).normal(size=200)
    raised = in_a_rule(lambda p, g, s: p**exponent)
    wanted = [float(integer_power(Real(v), int(exponent))) for v in values]
    zeros = np.zeros(200)
    assert raised(values, zeros, zeros)[0].tolist() == wanted
    assert raised(*(torch.from_numpy(v) for v in (values, zeros, zeros)))[0].tolist() == wanted
    assert [raised(float(v), 0.0, 0.0)[0] for v in values] == wanted
    graph = trace(raised)
    assert any(n.op == "pow" for n in graph.nodes)
    assert text(graph) == f"p = p**{exponent}".replace("-2", "(-2)")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plain_numbers_keep_the_dtype_of_the_rule(dtype: torch.dtype) -> None:
    """0.1 must be the dtype's 0.1, not torch's default dtype's, and must not promote."""
    body = in_a_rule(lambda p, g, s: p + maths.where(g > 0, 0.1, 0.2) + maths.maximum(g, 0.3) / 3)
    p = torch.zeros(3, dtype=dtype)
    wanted = torch.tensor(0.1, dtype=dtype) + torch.tensor(1.0, dtype=dtype) / 3
    assert torch.equal(body(p, p + 1, p)[0], wanted.expand(3))
    array = np.zeros(3, dtype=str(dtype).removeprefix("torch."))
    assert body(array, array + 1, array)[0].tolist() == wanted.expand(3).tolist()


def test_the_vocabulary_is_closed() -> None:
    public = [
        n
        for n in vars(maths)
        if not n.startswith("_") and callable(getattr(maths, n)) and getattr(maths, n).__module__ == maths.__name__
    ]
    assert sorted(public) == sorted([*maths.NAMES, "cast", "noise"])
    of_matrices = {n for n in maths.NAMES if maths.OPERATIONS[n].of_matrices or maths.OPERATIONS[n].of_shape}
    tested = {*UNARY, *BINARY, *REDUCTIONS, "clamp", "lerp", "where", *of_matrices, *maths.ROUNDED}  # test_matrices.py
    assert set(maths.NAMES) <= tested


def test_a_new_operation_is_a_row_and_nothing_else() -> None:
    """A child adds one and has it in every form: the table there is its own."""
    program = """
import math
import numpy as np, torch
from steprule import rule, sweep, optim
from steprule.arithmetic import apply
from steprule.compiler import formula, javascript
from steprule.compiler.tracer import trace
from steprule.operations import row

@row(latex=r"\\cosh", floats=math.cosh)
def cosh(x):
    return apply("cosh", x)

@rule
def warped(p, g, *, lr: float = 0.1):
    return p - lr * cosh(g)

wanted = 1 - 0.1 * math.cosh(2)
assert abs(warped(1.0, 2.0) - wanted) < 1e-15
assert np.allclose(warped(np.ones(3), np.full(3, 2.0)), wanted, atol=1e-15)
assert torch.allclose(warped(torch.ones(3).double(), torch.full((3,), 2.0).double()), torch.tensor(wanted).double(), atol=1e-15)
assert formula.text(trace(warped)) == "p = p - lr * cosh(g)"
assert formula.latex(trace(warped))[0].endswith(r"\\cosh\\left(g_{t}\\right)")
assert "Math.cosh(g[i])" in javascript.source(trace(warped))
p = torch.ones(3, dtype=torch.float64, requires_grad=True)
p.grad = torch.full((3,), 2.0, dtype=torch.float64)
optim.from_rule(warped)([p], backend="numba").step()
assert torch.allclose(p.detach(), torch.tensor(wanted).double(), atol=1e-15)
one, other = (sweep(warped, "airfoil-linear", {"lr": [1e-4, 2e-4]}, epochs=1, compile=c).train for c in (True, False))
assert np.allclose(one, other, rtol=1e-5)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
