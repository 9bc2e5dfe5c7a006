"""`optimizer.grad_norm`: what `clip_grad_norm_` would have returned, in every form, with several groups, AMP, shards of nothing."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from tolerances import ROUNDED32, ROUNDED64

import steprule
from steprule import optim


def params(dtype: torch.dtype = torch.float64, seed: int = 0) -> list[torch.nn.Parameter]:
    torch.manual_seed(seed)
    shapes = ((3, 4), (5,), (), (0,), (7, 1, 2))
    found = [torch.nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]
    for p in found:
        p.grad = torch.randn_like(p)
    return found


def expected(own: list[torch.nn.Parameter]) -> float:
    """What torch returns, which changes the gradients."""
    other = copy.deepcopy(own)
    for p, q in zip(own, other, strict=True):
        q.grad = None if p.grad is None else p.grad.clone()
    return float(torch.nn.utils.clip_grad_norm_(other, 1e9))


@pytest.mark.parametrize("name", ["SGD", "Adam", "Lion", "Muon", "LAMB", "Prodigy", "Adafactor", "ScheduleFreeAdamW"])
@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_it_is_what_torch_returns(name: str, backend: str) -> None:
    own = params()
    if name == "Muon":  # of matrices alone
        own = own[:1]
    made: Any = getattr(optim, name)
    optimizer = made(own, lr=0.01, clip_norm=0.1, backend=backend)
    assert optimizer.grad_norm is None
    for step in range(3):
        for p in own:
            p.grad = torch.randn_like(p) * 10.0**step
        norm = expected(own)
        optimizer.step()
        assert optimizer.grad_norm.shape == ()
        assert optimizer.grad_norm.item() == pytest.approx(norm, rel=ROUNDED64)


def test_without_clipping_there_is_none_and_a_live_number_decides() -> None:
    own = params()
    optimizer = optim.Adam(own, lr=0.01)
    optimizer.step()
    assert optimizer.grad_norm is None
    optimizer.param_groups[0]["clip_norm"] = 1.0
    optimizer.step()
    assert optimizer.grad_norm.item() == pytest.approx(expected(own), rel=ROUNDED64)
    optimizer.param_groups[0]["clip_norm"] = 0.0
    optimizer.step()
    assert optimizer.grad_norm is None


def test_groups_that_clip_share_one_norm_and_others_are_left_out() -> None:
    own = params()
    groups = [{"params": own[:2]}, {"params": own[2:4], "clip_norm": 5.0}, {"params": own[4:], "clip_norm": 0.0}]
    optimizer = optim.AdamW(groups, lr=0.01, clip_norm=1.0)
    norm = expected(own[:4])
    optimizer.step()
    assert optimizer.grad_norm.item() == pytest.approx(norm, rel=ROUNDED64)


def test_rules_per_kind_clip_by_one_norm() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)).double()
    optimizer = steprule.by_kind(matrix="muon", other="adamw")(model, show=False, clip_norm=1.0)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    norm = expected(list(model.parameters()))
    optimizer.step()
    assert optimizer.grad_norm.item() == pytest.approx(norm, rel=ROUNDED64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision(dtype: torch.dtype) -> None:
    own = params(dtype)
    exact = math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in own if p.grad is not None))
    optimizer = optim.Adam(own, lr=0.01, clip_norm=0.5)
    optimizer.step()
    assert optimizer.grad_norm.item() == pytest.approx(exact, rel=ROUNDED32)


def test_infinite_and_missing_gradients() -> None:
    own = params()
    optimizer = optim.SGD(own, lr=0.01, clip_norm=0.5)
    own[0].grad = None
    norm = expected(own)
    optimizer.step()
    assert optimizer.grad_norm.item() == pytest.approx(norm, rel=ROUNDED64)
    assert own[1].grad is not None
    own[1].grad[0] = math.inf
    optimizer.step()
    assert optimizer.grad_norm.item() == math.inf


def test_it_is_no_state() -> None:
    own = params()
    optimizer = optim.Adam(own, lr=0.01, clip_norm=0.5)
    optimizer.step()
    assert copy.deepcopy(optimizer).grad_norm is None
    assert "grad_norm" not in str(optimizer.state_dict())
