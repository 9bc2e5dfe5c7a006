"""Rules that look twice as strangers write and call them: looks that shapes or states decide, odd closures, odd points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tolerances import CLASS_FLOAT64, LANE_AGAINST_SOLO
from torch import Tensor

import steprule
from steprule import optim, rules
from steprule.errors import InputTypeError, UnknownNameError
from steprule.hyper import MomentumBuffer, Rate
from steprule.maths import ndim
from steprule.rules import rule

BACKEND = pytest.mark.parametrize("backend", ["numba", "eager"])


@rule
def matrices_look(p, g, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
    if ndim(p) > 1:
        g = gradient(p - lr * g)
    return p - lr * g


@rule
def vectors_look(p, g, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
    if ndim(p) == 1:
        g = gradient(p - lr * g)
    return p - lr * g


@rule
def first_looks(p, g, anchor: MomentumBuffer, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
    if anchor is None:
        anchor = gradient(p - lr * g)
    return p - lr * (g + anchor), anchor


@rule
def caught(p, g, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
    try:
        g = gradient(p - lr * g)
    except Exception:  # noqa: BLE001
        g = 0.0 * g
    return p - lr * g


DECIDED = pytest.mark.parametrize("own", [matrices_look, vectors_look, first_looks, caught], ids=lambda r: r.name)


def by_hand(own: rules.Rule, p: Tensor, steps: int, lr: float) -> tuple[Tensor, int]:
    """Of half the square of p, whose gradient is p itself; and whether a step looks."""
    anchor, looked = None, 0
    for _ in range(steps):
        there = p - lr * p
        if own is first_looks:
            looked += anchor is None
            anchor = there if anchor is None else anchor
            p = p - lr * (p + anchor)
        else:
            looks = {"matrices_look": p.ndim > 1, "vectors_look": p.ndim == 1, "caught": True}[own.name]
            looked += looks
            p = p - lr * (there if looks else p)
    return p, looked


def bowls(params: list[Tensor], optimizer: torch.optim.Optimizer, counted: list[int]) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        counted[0] += 1
        optimizer.zero_grad()
        loss = torch.stack([(p**2).sum() / 2 for p in params]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


@DECIDED
@BACKEND
def test_shapes_and_absent_states_may_decide_a_look(own: rules.Rule, backend: str) -> None:
    starts = [torch.tensor([[3.0, -4.0]], dtype=torch.float64), torch.tensor([1.0, 2.0], dtype=torch.float64)]
    params = [p.clone().requires_grad_() for p in starts]
    optimizer, counted = optim.from_rule(own)(params, lr=0.1, backend=backend), [0]
    for _ in range(3):
        optimizer.step(bowls(params, optimizer, counted))
    found = [by_hand(own, p, 3, 0.1) for p in starts]
    assert counted[0] == 3 + max(looked for _, looked in found)
    for p, (wanted, _) in zip(params, found, strict=True):
        assert (p - wanted).abs().max() <= CLASS_FLOAT64
    for p, (wanted, _) in zip(starts, [by_hand(own, p, 1, 0.1) for p in starts], strict=True):
        found_there = own(p, p, lr=0.1, gradient=lambda q: q)
        new = found_there[0] if isinstance(found_there, tuple) else found_there
        assert (new - wanted).abs().max() <= CLASS_FLOAT64, "called on numbers"


@DECIDED
def test_lanes_take_such_looks_too(own: rules.Rule) -> None:
    how: dict[str, Any] = {"epochs": 1, "batch_size": 50}
    found = steprule.sweep(own, "airfoil", {"lr": [0.003, 0.03]}, **how)
    for k, rate in enumerate((0.003, 0.03)):
        for alone in (own, optim.from_rule(own)):
            loss = steprule.train(alone, "airfoil", 0, **how, lr=rate).final_loss
            assert found.train[k, 0] == pytest.approx(loss, rel=LANE_AGAINST_SOLO)


def test_on_numbers_errors_name_the_rule() -> None:
    @rule
    def counted(p, g, *, lr: Rate = 0.1, t, gradient):  # type: ignore[no-untyped-def]
        return p - lr * gradient(p - g / t)

    with pytest.raises(InputTypeError, match=r"^counted: t: expected the number of this step"):
        counted(1.0, 1.0, gradient=lambda p: p)
    with pytest.raises(UnknownNameError, match=r"unknown hyperparameter of counted: .*'speed'"):
        counted(1.0, 1.0, t=1, speed=3.0, gradient=lambda p: p)
