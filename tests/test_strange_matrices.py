"""Rules of matrices as strangers write them: their formulas, and what is refused in a line."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from compare import apart
from tolerances import CAST_ROUNDED, LANE_AGAINST_SOLO, MATRICES_FLOAT64, MUON_BFLOAT16
from torch import nn

import steprule
from steprule import optim
from steprule.compiler import formula
from steprule.compiler.variant import variant_of
from steprule.errors import RuleError
from steprule.hyper import Decay, Rate, Square
from steprule.maths import cast, inverse_root, mean, norm, qr, sqrt
from steprule.rules import rule


@rule(as_matrix=True)
def raised(p, g, m, *, lr: Rate = 0.1, k: Rate = 2.0):  # type: ignore[no-untyped-def]
    m = m + g
    a = (m + g).T @ (2 * m)
    b = (m @ p.T).T @ inverse_root(m @ m.T, 2 * k)
    c = (g.T) ** 2 + inverse_root(m @ m.T, 4).T @ m
    return p - lr * (p @ a + b @ c + m.T.T), m


def test_what_is_raised_stands_in_brackets() -> None:
    """A transpose of a sum or a product is no sum or product with the transpose of its last part."""
    printed = "\n".join(formula.whole_latex(variant_of(raised, raised.defaults, (3, 3))))
    assert r"{\left(m_{t} + g_{t}\right)}^{\top} \, \left(2 \, m_{t}\right)" in printed
    assert r"{\left(m_{t} \, \theta_{t-1}^{\top}\right)}^{\top}" in printed
    assert r"{\left(m_{t} \, m_{t}^{\top}\right)}^{-1/\left(2 \, \eta\right)}" in printed
    assert r"{\left(g_{t}^{\top}\right)}^{\odot 2}" in printed
    assert r"{\left({\left(m_{t} \, m_{t}^{\top}\right)}^{-1/4}\right)}^{\top}" in printed


@rule(as_matrix=True)
def rooted(p, g, *, lr: Rate = 0.1, k: float = 4.0):  # type: ignore[no-untyped-def]
    q = qr(g @ g.T)
    return p - lr * inverse_root(g @ g.T + q @ q.T, k) @ g


@pytest.mark.parametrize("backend", ["numba", "eager"])
@pytest.mark.parametrize("k", [4.0, -2.0, 0.0])
def test_a_root_may_be_any_number(k: float, backend: str) -> None:
    """Also 0, as nothing raises in a rule: the power -1/0 is that by minus infinity."""
    p, generator = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True), torch.Generator().manual_seed(1)
    g = p.grad = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    optim.from_rule(rooted)([p], lr=0.1, k=k, backend=backend).step()
    values, vectors = torch.linalg.eigh(g @ g.T + torch.eye(3, dtype=torch.float64))
    power = -1 / k if k else -math.inf
    assert (p + 0.1 * (vectors * values**power) @ vectors.T @ g).abs().max() <= MATRICES_FLOAT64


def test_each_lane_has_its_own_root() -> None:
    how: dict[str, Any] = {"epochs": 1, "batch_size": 50}
    found = steprule.sweep(rooted, "airfoil", {"lr": [0.01, 0.03], "k": [2.0, 4.0]}, **how)
    for lane, (lr, k) in enumerate(((0.01, 2.0), (0.03, 4.0))):
        alone = steprule.train(rooted, "airfoil", 0, **how, lr=lr, k=k).final_loss
        assert found.train[lane, 0] == pytest.approx(alone, rel=LANE_AGAINST_SOLO)


def test_a_root_is_one_number() -> None:
    @rule(as_matrix=True)
    def elements(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * inverse_root(g @ g.T, p) @ g

    with pytest.raises(RuleError, match="expected one number, got a root of another number for each element"):
        variant_of(elements, elements.defaults)


def test_an_annotation_that_lacks_its_argument_is_refused() -> None:
    with pytest.raises(RuleError, match=r'slot L: annotation: expected Square\("rows"\), say, got Square'):

        @rule(as_matrix=True)
        def squares(p, g, L: Square, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
            return p - lr * L @ g, L + g @ g.T  # type: ignore[operator]


@rule(as_matrix=True)
def rounded(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    x = cast(g, "bfloat16")
    return p - lr * (qr(g.T).T + 0.1 * (x @ x.T) @ x)


def test_a_product_of_what_was_cast_is_added_to_what_was_not() -> None:
    """No call of a library adds two dtypes."""
    generator, ends = torch.Generator().manual_seed(1), []
    p = torch.randn(4, 6, generator=generator)
    g = torch.randn(4, 6, generator=generator)
    for backend in ("numba", "eager"):
        q = p.clone().requires_grad_()
        q.grad = g.clone()
        optim.from_rule(rounded)([q], lr=0.1, backend=backend).step()
        ends.append(q.detach())
    assert apart(*ends) <= MUON_BFLOAT16


def test_products_of_two_dtypes_and_factors_of_what_was_cast_are_refused() -> None:
    @rule(as_matrix=True)
    def two(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * (cast(g, "bfloat16") @ g.T) @ p

    @rule(as_matrix=True)
    def factor(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * qr(cast(g @ g.T, "float16")) @ p

    with pytest.raises(RuleError, match=r"one dtype, got bfloat16 @ the parameter's dtype\. Cast both"):
        variant_of(two, two.defaults)
    with pytest.raises(RuleError, match="expected qr of what was not cast, got qr of float16"):
        variant_of(factor, factor.defaults)


@rule
def normed(p: Any, g: Any, m: Any, *, lr: Rate = 0.05, beta: Decay = 0.9) -> tuple[Any, Any]:
    """All of a cast's operations: with itself, numbers of the step, what is of the whole tensor."""
    x = cast(g, "bfloat16")
    y = x * x + beta * x
    m = beta * m + y / (norm(y) + 1e-3)
    return p - lr * m, m


@rule
def by_rows(p: Any, g: Any, *, lr: Rate = 0.05) -> Any:
    x = cast(g, "float16")
    return p - lr * (x / (sqrt(mean(x * x, axis=-1)) + 1e-3) + 0.3 * x)


@pytest.mark.parametrize("shape", [(40, 33), (1, 7), (300, 200)], ids=str)
@pytest.mark.parametrize("own", [normed, by_rows], ids=["normed", "by_rows"])
def test_what_follows_from_a_cast_is_rounded_after_each_operation(own: Any, shape: tuple[int, int]) -> None:
    """As torch does. Unrounded, these rules differ by 1e-3."""
    found = []
    for backend in ("numba", "eager"):
        generator = torch.Generator().manual_seed(0)
        p = nn.Parameter(torch.randn(shape, generator=generator))
        optimizer = optim.from_rule(own)([p], lr=0.3, backend=backend)  # type: ignore[call-arg]
        for _ in range(4):
            p.grad = torch.randn(shape, generator=generator)
            optimizer.step()
        found.append(p.detach())
    assert apart(*found) <= CAST_ROUNDED


def test_torchs_muon_has_no_convolutions() -> None:
    """By kind they are `other` there; a rule whose class takes them has them as matrices."""
    for own, kind in (("muon", "other"), ("normuon", "matrix")):
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 2))
        mixture = steprule.by_kind(matrix=own, other="adamw")
        assert {one.name: one.kind for one in mixture.kinds_of(model)}["0.weight"] == kind
        optimizer = mixture(model, show=False)
        before = model[0].weight.detach().clone()
        model(torch.ones(1, 1, 4, 4)).square().sum().backward()
        optimizer.step()
        assert not torch.equal(before, model[0].weight)
