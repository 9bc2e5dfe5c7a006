"""Sophia and its given tensor: beside pytorch_optimizer's with the same Hessians, and Hutchinson's estimate beside autograd's products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pytorch_optimizer as po
import torch
from compare import all_apart, apart, states_apart
from latex2mathml import converter
from tolerances import HUTCHINSON_QUADRATIC, LANE_AGAINST_SOLO, PUBLISHED_FLOAT64
from torch import Tensor, nn

import steprule
from steprule import maths, optim, rules
from steprule.compiler import formula
from steprule.compiler.drawing import Key, noise
from steprule.compiler.variant import variant_of
from steprule.errors import InputError, RuleError
from steprule.hyper import Decay, GivenTensor, Rate
from steprule.rules import rule
from steprule.rules.looks import NEAR

SHAPES = ((7, 3), (1,), (), (5, 2, 3), (257,))
SETTINGS: dict[str, Any] = {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.3, "eps": 1e-3}


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def value(params: Any, t: int) -> Tensor:
    """A loss that is no square and bends another way at each step."""
    return sum(((p * p).sum() + torch.sin(2 * p + 0.1 * t).sum() for p in params), torch.zeros(()))


def grads(params: Any, t: int) -> list[Tensor]:
    leaves = [p.detach().clone().requires_grad_() for p in params]
    return list(torch.autograd.grad(value(leaves, t), leaves))


@pytest.mark.parametrize("backend", ["numba", "eager"])
def test_sophia_is_pytorch_optimizers(backend: str, float64_default: None) -> None:
    """Given the same Hessians, over 24 steps, saved and loaded in the middle."""
    mine, theirs = parameters(), parameters()
    found = optim.Sophia(mine, **SETTINGS, rho=0.2, seed=5, backend=backend)
    wanted = po.SophiaH(theirs, **SETTINGS, p=0.2)
    for t in range(1, 25):
        calls = 0

        def closure(t: int = t, found: Any = found) -> Tensor:
            nonlocal calls
            calls += 1
            found.zero_grad()
            loss = value(mine, t)
            loss.backward()
            return loss

        found.step(closure)
        assert calls == (3 if t in (1, 11, 21) else 1)
        hessian = None
        before = grads(theirs, t)
        if t in (1, 11, 21):
            drawn = [torch.from_numpy(noise(np.zeros(p.shape), Key(5, k), t, 0)) for k, p in enumerate(theirs)]
            # Weights decay before the look.
            decayed = [p.detach() * (1 - SETTINGS["lr"] * SETTINGS["weight_decay"]) for p in theirs]
            on, back = (
                grads([p + sign * NEAR * z for p, z in zip(decayed, drawn, strict=True)], t) for sign in (1, -1)
            )
            hessian = [z * (a - b) / (2 * NEAR) for z, a, b in zip(drawn, on, back, strict=True)]
        for p, g in zip(theirs, before, strict=True):
            p.grad = g
        wanted.step(hessian=hessian)
        assert all_apart(mine, theirs) <= PUBLISHED_FLOAT64, t
        for p, q in zip(mine, theirs, strict=True):
            own = {n: found.state[p][n] for n in ("exp_avg", "hessian_moment")}
            other = wanted.state[q]
            assert (
                states_apart(own, dict(zip(own, (other["momentum"], other["hessian_moment"]), strict=True)))
                <= PUBLISHED_FLOAT64
            )
        if t == 12:
            saved = found.state_dict()
            found = optim.Sophia(mine, lr=9.0, backend=backend)
            found.load_state_dict(saved)


@rule
def telling(p, g, seen, *, lr: Rate = 0.0, hessian: GivenTensor()):  # type: ignore[no-untyped-def, valid-type]
    """Keeps what it is given."""
    return p - lr * g, hessian


def test_the_estimate_is_the_noise_times_the_hessian_along_it(float64_default: None) -> None:
    """Of a square exactly, beside autograd's product; on average the diagonal."""
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(6, 6, generator=generator)
    a = a @ a.T
    p = nn.Parameter(torch.randn(6, generator=generator))
    optimizer = optim.from_rule(telling)([p], seed=2)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = p @ a @ p / 2
        loss.backward()
        return loss

    total = torch.zeros(6)
    for t in range(1, 1001):
        optimizer.step(closure)
        z = torch.from_numpy(noise(np.zeros(6), Key(2), t, 0))
        if t < 5:
            assert apart(optimizer.state[p]["seen"], z * (a @ z)) <= HUTCHINSON_QUADRATIC
        total += optimizer.state[p]["seen"]
    # The variance of an element is twice its square on the diagonal, and the squares beside it.
    spread = ((a**2).sum(1) + a.diagonal() ** 2).sqrt() / 1000**0.5
    assert ((total / 1000 - a.diagonal()).abs() <= 4 * spread).all()


@pytest.mark.parametrize(
    "clipped", [{"clip_value": 0.1}, {"clip_norm": 0.1}, {"clip_norm": 1.0, "clip_value": 0.1}], ids=str
)
@pytest.mark.parametrize("backend", ["numba", "eager"])
def test_clipping_leaves_the_estimate_alone(clipped: dict[str, float], backend: str, float64_default: None) -> None:
    """Both gradients of an estimate would be clipped to the same, and the Hessian be 0; of steps without one a total is taken too."""
    p = nn.Parameter(torch.full((4,), 2.0))
    optimizer = optim.Sophia([p], seed=2, backend=backend, **clipped)  # type: ignore[arg-type]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 3 * (p**2).sum()
        loss.backward()
        return loss

    for t in range(1, 12):
        optimizer.step(closure)
        if t == 1:
            assert (
                optimizer.state[p]["exp_avg"].norm() <= 0.04 * 0.21
            )  # clipped to a norm of 0.2 at most, of which 0.04 goes in
    first, second = (torch.from_numpy(noise(np.zeros(4), Key(2), t, 0)) for t in (1, 11))
    wanted = [0.01 * z * 6 * z for z in (first, second)]
    assert apart(optimizer.state[p]["hessian_moment"], 0.99 * wanted[0] + wanted[1]) <= HUTCHINSON_QUADRATIC


def test_it_is_in_every_form() -> None:
    report = steprule.check("sophia")
    assert report.passed, str(report)
    sophia = rules.get("sophia")
    for variant in sophia.variants():
        for latex in formula.whole_latex(variant_of(sophia, {**sophia.defaults, **variant})):
            assert converter.convert(latex)


def test_a_training_and_its_lane() -> None:
    how = {"epochs": 1, "batch_size": 50}
    found = steprule.sweep("sophia", "airfoil", {"lr": [0.01, 0.1]}, **how)  # type: ignore[arg-type]
    for k, rate in enumerate((0.01, 0.1)):
        alone = steprule.train("sophia", "airfoil", 0, lr=rate, **how)  # type: ignore[arg-type]
        assert found.train[k, 0] == pytest.approx(alone.final_loss, rel=LANE_AGAINST_SOLO)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="GivenTensor: every: expected a whole number from 1, got 0"):
        GivenTensor(every=0)
    with pytest.raises(RuleError, match=r"expected a given tensor behind the \* and without a default, got hessian"):

        @rule
        def before_the_star(p, g, hessian: GivenTensor(), *, lr: Rate = 0.1):  # type: ignore[no-untyped-def, valid-type]
            return p - lr * hessian, hessian

    with pytest.raises(RuleError, match="expected a tensor given at some steps, or gradient, got both"):

        @rule
        def both(p, g, *, lr: Rate = 0.1, hessian: GivenTensor(3), gradient):  # type: ignore[no-untyped-def, valid-type]
            return p - lr * gradient(p)

    for taken in ("t", "loss", "gradient", "noise"):
        space: dict[str, Any] = {"GivenTensor": GivenTensor}
        exec(f"def named(p, g, *, lr=0.1, {taken}: GivenTensor(2)): return p - lr * {taken}", space)
        with pytest.raises(RuleError, match=f"expected a given tensor by a name of its own, got {taken}"):
            rule(space["named"])
    with pytest.raises(RuleError, match="expected a given tensor with its number of steps, got GivenTensor alone"):

        @rule
        def bare(p, g, *, lr: Rate = 0.1, hessian: GivenTensor):  # type: ignore[no-untyped-def]
            return p - lr * hessian

    with pytest.raises(RuleError, match="expected one given tensor, got a and b"):

        @rule
        def two(p, g, *, lr: Rate = 0.1, a: GivenTensor(), b: GivenTensor(2)):  # type: ignore[no-untyped-def, valid-type]
            return p - lr * a * b


@pytest.mark.long
def test_it_stands_beside_gradient_noise_and_t() -> None:
    """A rule may look, draw and ask for the step on its own too."""

    @rule
    def all_of_it(p, g, m, *, lr: Rate = 0.01, beta: Decay = 0.9, hessian: GivenTensor(), t, gradient):  # type: ignore[no-untyped-def, valid-type]
        m = beta * m + g + 0.01 * hessian
        return p - lr * gradient(p - lr * m) / t + 1e-3 * maths.noise(p), m

    report = steprule.check(all_of_it)
    assert report.passed, str(report)
    assert (all_of_it.draws, len(all_of_it.looked)) == (2, 5)
