"""Rules of matrices beside the classes of pytorch_optimizer, at every step: vectors and convolutions too, saved in mid-run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytorch_optimizer as po
import torch
from compare import apart
from tolerances import PUBLISHED_FLOAT64
from torch import Tensor

from steprule import optim, rules

STEPS = 12
Shapes = tuple[tuple[int, ...], ...]
MATRICES: Shapes = ((5, 3), (3, 5), (1, 7), (7, 1), (1, 1), (6, 6), (70, 33))


@dataclass(frozen=True)
class Beside:
    """A class of ours, one of pytorch_optimizer's, and what both are given: each number away from its default."""

    ours: str
    theirs: Callable[..., torch.optim.Optimizer]
    settings: dict[str, Any]
    shapes: Shapes
    kept: Callable[[dict[str, Tensor], str, int], Tensor] = lambda state, name, ndim: state[name]
    """From their state of a tensor of so many axes, what ours has under this name."""
    unlike: frozenset[str] = frozenset()
    """What theirs has otherwise, and both leave at its default."""


def came_by(params: Any, beta1: float, beta2: float, beta3: float, **same: Any) -> torch.optim.Optimizer:
    return po.CAME(params, betas=(beta1, beta2, beta3), foreach=False, **same)


def sm3_by(params: Any, **same: Any) -> torch.optim.Optimizer:
    return po.SM3(params, foreach=False, **same)


def shampoo_by(params: Any, eps: float, **same: Any) -> torch.optim.Optimizer:
    """Their root is computed first at the step that is a multiple of its frequency, and their momentum is of steps: both stay off."""
    return po.Shampoo(params, lr=same["lr"], matrix_eps=eps)


def of_sm3(state: dict[str, Tensor], name: str, ndim: int) -> Tensor:
    accumulator = {"row_max": 0, "col_max": 1 if ndim > 1 else 0}.get(name)
    return state[name if accumulator is None else f"accumulator_{accumulator}"]


def of_shampoo(state: dict[str, Tensor], name: str, ndim: int) -> Tensor:
    """Theirs holds what the sums start at, ours adds it where it takes the root."""
    axis = 1 if name.startswith("right") and ndim > 1 else 0
    if name.endswith("root"):
        return state[f"inv_pre_cond_{axis}"]
    held = state[f"pre_cond_{axis}"]
    return held - SHAMPOO["eps"] * torch.eye(len(held))


CAME = {"lr": 0.03, "weight_decay": 0.2, "beta1": 0.8, "beta2": 0.7, "beta3": 0.6, "eps1": 1e-2, "eps2": 0.1}
SHAMPOO = {"lr": 0.03, "eps": 0.1}
CASES = {
    "came, clipped": Beside(
        "came", came_by, {**CAME, "clip_threshold": 0.7}, (*MATRICES, (7,), (1,), (), (2, 3, 4), (4, 3, 2, 2))
    ),
    "came, seldom clipped": Beside("came", came_by, {**CAME, "clip_threshold": 1.2}, (*MATRICES, (7,))),
    # Of a convolution it keeps a number per index of each axis, ours are of a matrix.
    "sm3": Beside("sm3", sm3_by, {"lr": 0.03, "momentum": 0.8, "eps": 0.1}, (*MATRICES, (7,), (1,), ()), of_sm3),
    "sm3, plain": Beside("sm3", sm3_by, {"lr": 0.03, "momentum": 0.0, "eps": 1e-3}, (*MATRICES, (7,)), of_sm3),
    # Theirs takes a side of one row for a side, and steps a convolution along each of its axes.
    "shampoo": Beside(
        "shampoo",
        shampoo_by,
        SHAMPOO,
        ((5, 3), (3, 5), (6, 6), (70, 33), (7,), (1,)),
        of_shampoo,
        frozenset(["momentum", "precondition_frequency", "max_precondition_dim"]),
    ),
}


def drawn(shapes: Shapes) -> Iterator[list[Tensor]]:
    """Numbers of these shapes for ever, some steps' large and some small."""
    generator = torch.Generator().manual_seed(5)
    while True:
        size = torch.randn((), generator=generator, dtype=torch.float64).exp()
        yield [size * torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("name", CASES)
def test_each_is_pytorch_optimizers(name: str, backend: str, float64_default: None) -> None:
    case = CASES[name]
    numbers = drawn(case.shapes)
    mine = [p.requires_grad_() for p in next(numbers)]
    theirs = [p.detach().clone().requires_grad_() for p in mine]
    ours = optim.from_rule(rules.get(case.ours))(mine, **case.settings, backend=backend)
    other = case.theirs(theirs, **case.settings)
    for t in range(1, STEPS + 1):
        if t == STEPS // 2:
            saved = copy.deepcopy(ours.state_dict())
            ours = optim.from_rule(rules.get(case.ours))(mine, backend=backend)
            ours.load_state_dict(saved)
        for optimizer in (ours, other):  # a schedule
            optimizer.param_groups[0]["lr"] = case.settings["lr"] * t / STEPS
        for p, q, g in zip(mine, theirs, next(numbers), strict=True):
            p.grad, q.grad = g.clone(), g.clone()
        ours.step()
        other.step()
        for p, q in zip(mine, theirs, strict=True):
            assert apart(p, q) <= PUBLISHED_FLOAT64, (t, p.shape)
            compared = {n: v for n, v in ours.state[p].items() if n != "step"}
            assert compared, "there is no state to compare"
            for key, value in compared.items():
                right = case.kept(other.state[q], key, p.ndim)
                assert apart(value.reshape(right.shape), right) <= PUBLISHED_FLOAT64, (t, p.shape, key)


@pytest.mark.parametrize("name", CASES)
def test_every_hyperparameter_is_seen(name: str, float64_default: None) -> None:
    """Else the comparison says nothing of it: the end of a run moves with each of them."""
    case = CASES[name]

    def ends(**settings: Any) -> list[Tensor]:
        numbers = drawn(case.shapes[:2])
        params = [p.requires_grad_() for p in next(numbers)]
        optimizer = optim.from_rule(rules.get(case.ours))(params, **settings, backend="eager")
        for _ in range(STEPS):
            for p, g in zip(params, next(numbers), strict=True):
                p.grad = g
            optimizer.step()
        return [p.detach() for p in params]

    right = ends(**case.settings)
    assert {*case.settings, *case.unlike} == set(rules.get(case.ours).defaults)
    for hyper, value in case.settings.items():
        found = ends(**{**case.settings, hyper: 1.1 * value + 0.01})
        gaps = [apart(a, b) for a, b in zip(found, right, strict=True)]
        assert max(gaps) > 1000 * PUBLISHED_FLOAT64, hyper
