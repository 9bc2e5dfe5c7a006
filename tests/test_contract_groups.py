"""Groups that differ in numbers only step together; each parameter is stepped by its own group's numbers, as by torch's class."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from contract import NAMES
from tolerances import CLASS_FLOAT64
from torch import Tensor

from steprule import optim

SHAPES = [(3,), (2, 4), (), (5, 1), (7,), (1, 1), (4,)]
TUNED: dict[str, dict[str, list[Any]]] = {
    "SGD": {"lr": [0.1, 0.03], "momentum": [0.9, 0.5], "dampening": [0.2, 0.0]},
    "Adagrad": {"lr": [0.1, 0.03], "lr_decay": [0.1, 0.2], "initial_accumulator_value": [0.3, 0.7]},
    "RMSprop": {"lr": [0.01, 0.03], "alpha": [0.9, 0.5], "momentum": [0.9, 0.5]},
    "Adadelta": {"lr": [1.0, 0.3], "rho": [0.9, 0.5]},
    "Adam": {"lr": [0.1, 0.03], "betas": [(0.9, 0.99), (0.5, 0.9)], "eps": [1e-8, 1e-3]},
    "AdamW": {"lr": [0.1, 0.03], "betas": [(0.9, 0.99), (0.5, 0.9)], "weight_decay": [0.1, 0.4]},
    "Adamax": {"lr": [0.1, 0.03], "betas": [(0.9, 0.99), (0.5, 0.9)]},
    "NAdam": {"lr": [0.1, 0.03], "betas": [(0.9, 0.99), (0.5, 0.9)], "momentum_decay": [0.004, 0.1]},
    "RAdam": {"lr": [0.1, 0.03], "betas": [(0.9, 0.99), (0.5, 0.9)]},
}
SWITCHES: dict[str, list[Any]] = {"weight_decay": [0.0, 0.0, 0.1], "maximize": [False, False, True]}


def models(name: str, seed: int) -> tuple[list[Tensor], torch.optim.Optimizer, list[Tensor], torch.optim.Optimizer]:
    """The same groups of one or two parameters for ours and for torch's class."""
    draw = random.Random(f"{name} {seed}")
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(s, dtype=torch.float64, generator=generator) for s in SHAPES]
    cuts = [0, 1, 3, 4, 6, 7]
    settings = [{k: draw.choice(v) for k, v in {**SWITCHES, **TUNED[name]}.items()} for _ in cuts[1:]]
    found: list[Any] = []
    for module in (optim, torch.optim):
        params = [v.clone().requires_grad_() for v in values]
        groups = [{"params": params[a:b], **s} for a, b, s in zip(cuts, cuts[1:], settings)]  # noqa: B905
        found += [params, getattr(module, name)(groups)]
    return tuple(found)  # type: ignore[return-value]


def give(params: list[Tensor], seed: int, absent: float = 0.0) -> None:
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    for p in params:
        g = torch.randn(p.shape, dtype=p.dtype, generator=generator)
        p.grad = None if draw.random() < absent else g


def same(
    ours: torch.optim.Optimizer, params: list[Tensor], theirs: torch.optim.Optimizer, wanted: list[Tensor]
) -> None:
    for p, q in zip(params, wanted, strict=True):
        assert torch.allclose(p, q, rtol=CLASS_FLOAT64, atol=CLASS_FLOAT64)
        assert ours.state[p].keys() == theirs.state[q].keys()
        for key, value in theirs.state[q].items():
            if isinstance(value, Tensor):
                assert torch.allclose(ours.state[p][key].double(), value.double(), rtol=1e-6, atol=CLASS_FLOAT64), key


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", TUNED)
def test_groups_that_differ_are_stepped_as_by_torch(name: str, seed: int, float64_default: None) -> None:
    """Numbers and switches by group, parameters that miss steps, a setting that changes, a parameter that moves on, a group more."""
    p, ours, q, theirs = models(name, seed)
    for t in range(14):
        for params, optimizer in ((p, ours), (q, theirs)):
            give(params, 100 * seed + t, absent=0.3 if 2 < t < 7 else 0.0)
            groups = optimizer.param_groups
            if t == 4:
                groups[1]["lr"] = 0.007
            if t == 6:
                groups[2]["weight_decay"] = 0.3 if groups[2]["weight_decay"] == 0 else 0
            if t == 8:  # from one group to the next: the parameters are the same in the same order
                groups[1]["params"].insert(0, groups[0]["params"].pop())
            if t == 9:
                groups[0], groups[3] = groups[3], groups[0]
            if t == 10:
                new = torch.full((2,), 0.5, dtype=torch.float64, requires_grad=True)
                optimizer.add_param_group({"params": [new], "lr": 0.02})
                params.append(new)
            if t == 12:
                del groups[1]
            optimizer.step()
        same(ours, p, theirs, q)


def test_groups_step_together_where_only_numbers_differ() -> None:
    params = [torch.ones(3, requires_grad=True) for _ in range(5)]
    optimizer = optim.Adam([{"params": [p], "lr": 0.01 * k} for k, p in enumerate(params, start=1)])
    for k, p in enumerate(params):
        p.grad = torch.full((3,), 1.0 + k)
    optimizer.step()
    assert [plan.where for plan in optimizer._plans] == [(0, 1, 2, 3, 4)]
    for group in optimizer.param_groups[1::2]:
        group["weight_decay"] = 0.1
        optimizer.step()
    assert [plan.where for plan in optimizer._plans] == [(0, 2, 4), (1, 3)]
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    optimizer.step()
    assert [plan.where for plan in optimizer._plans] == [(0, 1, 2, 3, 4)]


@pytest.mark.parametrize("backend", ["numba", "eager"])
@pytest.mark.parametrize("settings", [{"clip_norm": 0.5}, {"clip_value": 0.1, "clip_norm": 0.3, "zero_grad": True}])
def test_clips_by_group(settings: dict[str, Any], backend: Any) -> None:
    """The norm is that of all groups; each group has bounds of its own."""
    values = [torch.tensor([1.0, -2.0]), torch.tensor([3.0]), torch.tensor([0.5, 0.2, 0.1])]
    more = [{}, {"clip_norm": 0.9, "lr": 0.2}, {**({"clip_value": 0.4} if "clip_value" in settings else {}), "lr": 0.3}]
    params = [torch.zeros_like(v).requires_grad_() for v in values]
    groups = [{"params": [p], **m} for p, m in zip(params, more, strict=True)]
    optimizer = optim.SGD(groups, lr=0.1, backend=backend, **settings)
    own = [{"lr": 0.1, **settings, **m} for m in more]
    clipped = [
        v.clamp(-s["clip_value"], s["clip_value"]) if "clip_value" in s else v for v, s in zip(values, own, strict=True)
    ]
    norm = torch.cat(clipped).norm()
    for p, v in zip(params, values, strict=True):
        p.grad = v.clone()
    optimizer.step()
    for p, v, s in zip(params, clipped, own, strict=True):
        wanted = -s["lr"] * v * min(1.0, s["clip_norm"] / (norm + 1e-6))
        assert torch.allclose(p.detach(), wanted, rtol=1e-5)
        assert bool(settings.get("zero_grad")) == bool((p.grad == 0).all())


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_in_several_groups_is_stepped_in_their_order(name: str, count: int) -> None:
    """torch warns of it and steps it once a group, in order; the groups between have their turn."""
    results = []
    for module in (optim, torch.optim):
        if not hasattr(module, name):
            pytest.skip("torch has no such class")
        memory = torch.linspace(1, 2, 6, dtype=torch.float64)
        tied = [torch.nn.Parameter(memory[:4]) for _ in range(count)]
        for k, p in enumerate(tied):
            p.data = memory[k : k + 3]
        between = torch.nn.Parameter(memory[5:].clone())
        params = [tied[0], between, *tied[1:]]
        optimizer = getattr(module, name)(
            [{"params": [p], "lr": 0.1 * k, "weight_decay": 0.1 * (k % 2)} for k, p in enumerate(params, start=1)]
        )
        for t in range(3):
            for k, p in enumerate(params):
                p.grad = torch.full_like(p, 1.0 + k + t)
            optimizer.step()
        results.append((memory.clone(), between.detach().clone()))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6)


def test_a_gradient_that_two_groups_share_is_zeroed_after_both_have_read_it() -> None:
    shared = torch.ones(4)
    params = [torch.zeros(4, requires_grad=True) for _ in range(3)]
    for p in params:
        p.grad = shared
    optimizer = optim.SGD(
        [{"params": [p], "lr": 0.1 * k, "maximize": k == 2} for k, p in enumerate(params, start=1)], zero_grad=True
    )
    optimizer.step()
    assert [p[0].item() for p in params] == pytest.approx([-0.1, 0.2, -0.3])
    assert not shared.any()


def test_a_plan_that_was_copied_away_is_made_anew() -> None:
    p, ours, q, theirs = models("Adam", 7)
    give(p, 1)
    give(q, 1)
    ours.step()
    theirs.step()
    ours, p = copy.deepcopy((ours, p))
    theirs, q = copy.deepcopy((theirs, q))
    ours.step()
    theirs.step()
    same(ours, p, theirs, q)
