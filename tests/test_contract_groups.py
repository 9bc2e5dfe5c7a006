"""Groups that differ in numbers only step together; each parameter is stepped by its own group's numbers, as by torch's class."""

from __future__ import annotations

import copy
import inspect
import random
import sys
import threading
from typing import Any

import numpy as np
import pytest
import torch
from contract import NAMES
from thinning import thinned
from tolerances import CLASS_FLOAT64, ROUNDED32, SUMMED32
from torch import Tensor

from steprule import optim

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # once a process, of torch's own

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
    "Rprop": {"lr": [0.1, 0.03], "etas": [(0.5, 1.2), (0.7, 1.4)], "step_sizes": [(1e-6, 50.0), (0.01, 0.1)]},
    "ASGD": {"lr": [0.1, 0.03], "lambd": [1e-4, 0.1], "alpha": [0.75, 0.5], "t0": [1e6, 1.0]},
}
SWITCHES: dict[str, list[Any]] = {"weight_decay": [0.0, 0.0, 0.1], "maximize": [False, False, True]}


def models(name: str, seed: int) -> tuple[list[Tensor], torch.optim.Optimizer, list[Tensor], torch.optim.Optimizer]:
    """The same groups of one or two parameters for ours and for torch's class."""
    draw = random.Random(f"{name} {seed}")
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(s, dtype=torch.float64, generator=generator) for s in SHAPES]
    cuts = [0, 1, 3, 4, 6, 7]
    # A class of torch's that has no weight decay would pass over a group's.
    switches = {k: v for k, v in SWITCHES.items() if k in inspect.signature(getattr(torch.optim, name)).parameters}
    settings = [{k: draw.choice(v) for k, v in {**switches, **TUNED[name]}.items()} for _ in cuts[1:]]
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
                assert torch.allclose(
                    ours.state[p][key].double(), value.double(), rtol=ROUNDED32, atol=CLASS_FLOAT64
                ), key


@pytest.mark.parametrize("seed", thinned(range(3), 3))
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
            if t == 6 and "weight_decay" in groups[2]:
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
        assert torch.allclose(p.detach(), wanted, rtol=SUMMED32, atol=0)
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
        assert torch.allclose(ours, theirs, rtol=ROUNDED32, atol=0)


def test_a_gradient_that_two_groups_share_is_zeroed_after_both_have_read_it() -> None:
    shared = torch.ones(4)
    params = [torch.zeros(4, requires_grad=True) for _ in range(3)]
    for p in params:
        p.grad = shared
    optimizer = optim.SGD(
        [{"params": [p], "lr": 0.1 * k, "maximize": k == 2} for k, p in enumerate(params, start=1)], zero_grad=True
    )
    optimizer.step()
    assert [p[0].item() for p in params] == pytest.approx([-0.1, 0.2, -0.3], rel=ROUNDED32)
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


# Memory that groups of several plans share: groups are stepped in their order, whatever could step together.


def _one_memory() -> list[Tensor]:
    w = torch.ones(4)
    return [torch.nn.Parameter(w) for _ in range(3)]


def _overlapping() -> list[Tensor]:
    base = torch.ones(12)
    return [torch.nn.Parameter(t) for t in (torch.ones(2), base[0:8], base[4:12])]


def _a_gradient_that_is_a_parameter() -> list[Tensor]:
    return [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]


def _a_sparse_gradient_of_the_same_memory() -> list[Tensor]:
    w = torch.ones(4, 3)
    return [torch.nn.Parameter(w), torch.nn.Parameter(w), torch.nn.Parameter(torch.ones(2))]


def _a_strided_view() -> list[Tensor]:
    w = torch.ones(8)
    return [torch.nn.Parameter(w), torch.nn.Parameter(w[::2]), torch.nn.Parameter(torch.ones(2))]


SHARING = [
    _one_memory,
    _overlapping,
    _a_gradient_that_is_a_parameter,
    _a_sparse_gradient_of_the_same_memory,
    _a_strided_view,
]


@pytest.mark.parametrize("decays", [(0.5, 0.0, 0.25), (0.5, 0.0, 0.0)])
@pytest.mark.parametrize("shared", SHARING, ids=lambda f: f.__name__.strip("_"))
def test_groups_that_share_memory_are_stepped_in_their_order(shared: Any, decays: tuple[float, ...]) -> None:
    results = []
    for module in (optim, torch.optim):
        params = shared()
        optimizer = module.SGD(
            [{"params": [p], "weight_decay": d} for p, d in zip(params, decays, strict=True)], lr=0.1
        )
        for t in range(3):
            for k, p in enumerate(params):
                p.grad = torch.full_like(p, k + t + 1.0)
            if shared is _a_gradient_that_is_a_parameter:
                params[2].grad = params[1].data
            if shared is _a_sparse_gradient_of_the_same_memory:
                params[1].grad = torch.sparse_coo_tensor([[0]], torch.ones(1, 3), (4, 3))
            optimizer.step()
        results.append([p.detach().clone() for p in params])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=ROUNDED32, atol=0)


def test_threads_that_step_sparse_gradients_lose_no_group() -> None:
    params = [torch.nn.Parameter(torch.zeros(50, 2)) for _ in range(3)]
    optimizer = optim.SGD([{"params": [p], "maximize": k == 1} for k, p in enumerate(params)], lr=0.1)
    for p in params:
        p.grad = torch.sparse_coo_tensor([[0, 2]], torch.ones(2, 2), (50, 2))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=lambda: [optimizer.step() for _ in range(100)]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(optimizer.param_groups) == 3
    # Two threads that write one number may lose a step of the other's, as with torch's class; a lost group would lose hundreds.
    moved = [abs(float(p.detach()[0, 0])) for p in params]
    assert all(10.0 <= way <= 20.001 for way in moved), moved


def test_a_setting_that_cannot_be_used_moves_nothing() -> None:
    """All scalars of all kernels are computed before any of them runs."""
    params = [
        torch.zeros(3, dtype=d, requires_grad=True)
        for d in (torch.float32, torch.float32, torch.float64, torch.float64)
    ]
    optimizer = optim.Adam([{"params": params[:2]}, {"params": params[2:]}], lr=0.1)
    for p in params[::2]:
        p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.param_groups[1]["lr"] = None
    for p in params:
        p.grad = torch.ones_like(p)
    kept = [(p.detach().clone(), p._version) for p in params]
    with pytest.raises(TypeError):
        optimizer.step()
    for p, (values, version) in zip(params, kept, strict=True):
        assert torch.equal(p, values)
        assert p._version == version
    assert optimizer.state[params[0]]["step"].item() == 1


# The unscale in the step leaves the gradients as they are, whoever steps them.


def stepped_scaled(optimizer: Any, scale: float = 8.0) -> None:
    """What `torch.amp.GradScaler` sets for the time of a step."""
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(scale), torch.tensor(0.0)
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf


def test_scaled_gradients_stay_scaled_where_torchs_class_steps() -> None:
    p = torch.ones(3, dtype=torch.complex64, requires_grad=True)
    p.grad = torch.full((3,), 8.0 + 0j)
    optimizer = optim.SGD([p], lr=0.5, fused_unscale=True)
    stepped_scaled(optimizer)
    assert p.detach()[0] == 0.5
    assert p.grad[0] == 8


@pytest.mark.parametrize("zero_grad", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_shared_gradient_is_unscaled_once_for_each(groups: int, zero_grad: bool) -> None:
    a, b = (torch.zeros(3, requires_grad=True) for _ in range(2))
    a.grad = b.grad = torch.full((3,), 8.0)
    given = [a, b] if groups == 1 else [{"params": [a]}, {"params": [b], "maximize": True}]
    optimizer = optim.SGD(given, lr=1.0, fused_unscale=True, zero_grad=zero_grad)
    stepped_scaled(optimizer)
    assert [a[0].item(), b[0].item()] == [-1.0, -1.0 if groups == 1 else 1.0]
    assert a.grad[0] == (0.0 if zero_grad else 8.0)


def test_a_step_that_raises_leaves_gradients_scaled_and_unzeroed() -> None:
    a, b = torch.zeros(3, dtype=torch.complex64, requires_grad=True), torch.zeros(4, 2, requires_grad=True)
    a.grad, b.grad = torch.ones(3, dtype=torch.complex64), torch.sparse_coo_tensor([[0]], torch.ones(1, 2), (4, 2))
    optimizer = optim.Adam([{"params": [a]}, {"params": [b], "maximize": True}], zero_grad=True, fused_unscale=True)
    with pytest.raises(RuntimeError, match="sparse"):
        stepped_scaled(optimizer)
    assert a.grad[0] == 1
    assert b.grad.to_dense()[0, 0] == 1


def test_sparse_gradients_and_foreign_memory_that_groups_share_are_zeroed_last() -> None:
    sparse = torch.sparse_coo_tensor([[0, 2]], torch.ones(2, 2), (4, 2))
    memory = np.ones(4, np.float32)
    for shape, grads in (((4, 2), [sparse, sparse]), ((4,), [torch.from_numpy(memory), torch.from_numpy(memory)])):
        a, b = (torch.zeros(shape, requires_grad=True) for _ in range(2))
        a.grad, b.grad = grads
        optim.SGD([{"params": [a]}, {"params": [b], "maximize": True}], lr=1.0, zero_grad=True).step()
        assert [a.flatten()[0].item(), b.flatten()[0].item()] == [-1.0, 1.0]


def test_a_look_that_is_taken_again_holds_nothing_more() -> None:
    w = torch.ones(8)
    a, b, c = torch.nn.Parameter(w), torch.nn.Parameter(w), torch.nn.Parameter(torch.ones(4, 2))
    optimizer = optim.SGD([{"params": [a]}, {"params": [b, c], "maximize": True}], lr=0.1)
    for t in range(20):
        a.grad, b.grad = torch.ones(8), torch.ones(8)
        c.grad = torch.sparse_coo_tensor([[0]], torch.ones(1, 2), (4, 2)) if t % 2 else None
        optimizer.step()
        held = sys.getrefcount(b)
        if t == 2:
            first = held
    assert held == first
