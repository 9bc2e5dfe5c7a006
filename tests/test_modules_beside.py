"""Models that do more than compute: hooks, losses with weights, draws of their own, sparse gradients, another model per seed."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from tolerances import LANE_AGAINST_SOLO, SUMMED32
from torch import Tensor, nn

import steprule
from steprule.problems.facts import evaluating
from steprule.problems.source import batches, stream

F = nn.functional


class Two(nn.Module):
    """Two layers, between which something happens."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(1, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(torch.tanh(self.a(x))))  # type: ignore[no-any-return]

    def between(self, h: Tensor) -> Tensor:
        return h


class ParameterHook(Two):
    def __init__(self) -> None:
        super().__init__()
        for p in self.parameters():
            p.register_hook(lambda g: g.clamp(-0.01, 0.01))


def tenth(p: Tensor) -> None:
    assert p.grad is not None
    p.grad.mul_(0.1)


class AccumulateHook(Two):
    def __init__(self) -> None:
        super().__init__()
        for p in self.parameters():
            p.register_post_accumulate_grad_hook(tenth)


class ActivationHook(Two):
    def between(self, h: Tensor) -> Tensor:
        if h.requires_grad:
            h.register_hook(lambda g: 0.1 * g)
        return h


class BackwardHook(Two):
    def __init__(self) -> None:
        super().__init__()
        self.b.register_full_backward_hook(lambda m, given, out: tuple(0.1 * g for g in given))


class BackwardPreHook(Two):
    def __init__(self) -> None:
        super().__init__()
        self.b.register_full_backward_pre_hook(lambda m, out: tuple(0.1 * g for g in out))


class ForwardHook(Two):
    def __init__(self) -> None:
        super().__init__()
        self.a.register_forward_hook(lambda m, given, out: 0.5 * out)


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return -0.1 * g


class OwnFunction(Two):
    def between(self, h: Tensor) -> Tensor:
        return Reversed.apply(h)  # type: ignore[no-any-return]


class Counting(Two):
    """Computes otherwise each time it is called."""

    calls = 0

    def between(self, h: Tensor) -> Tensor:
        self.calls += self.training
        return h / (1 + self.calls)


class InPlace(Two):
    """Works on its input in place."""

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.1
        x *= 0.9
        return super().forward(x)


class WeightNorm(Two):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.utils.parametrizations.weight_norm(nn.Linear(1, 4))


class Branching(Two):
    def between(self, h: Tensor) -> Tensor:
        return 2 * h if float(h.detach().mean()) > 0 else h


BESIDES = [
    ParameterHook, AccumulateHook, ActivationHook, BackwardHook, BackwardPreHook, ForwardHook, OwnFunction, Counting, InPlace,
    WeightNorm, Branching,
]  # fmt: skip


@pytest.mark.parametrize("model", BESIDES)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.long)])
def test_what_happens_beside_the_operations_happens_in_a_lane(model: type[nn.Module], compiled: bool) -> None:
    """Whatever a model does beside its operations, a lane of it is the training that torch's class makes in a plain loop."""
    x = torch.linspace(-1, 1, 64)[:, None]
    y = torch.sin(3 * x)
    task = steprule.Problem("besides", "", x.clone(), y.clone(), model, nn.functional.mse_loss, epochs=4, batch_size=8)
    plain = task.initial_model(0)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for rows in batches(64, 8, 4, 0):
        optimizer.zero_grad()
        nn.functional.mse_loss(plain(x[rows]), y[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        wanted = float(nn.functional.mse_loss(plain.eval()(x.clone()), y))
    found = steprule.sweep("sgd", task, {"lr": [0.1, 0.2]}, compile=compiled)
    assert found.train[0, 0] == pytest.approx(wanted, rel=LANE_AGAINST_SOLO), found.engine
    assert steprule.train("sgd", task, lr=0.1).final_loss == pytest.approx(wanted, rel=LANE_AGAINST_SOLO)
    assert steprule.train("torch.optim.SGD", task, lr=0.1).final_loss == wanted
    assert torch.equal(task.features, x)


def test_a_weighted_mean_is_no_mean_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted by class, the first samples say nothing of the weights."""
    monkeypatch.setattr("steprule.problems.facts.AT_ONCE", 50)
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    y, order = (x[:, 0] > 1).long().sort(stable=True)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 20.0]))
    task = steprule.Problem("weighted", "", x[order], y, lambda: nn.Linear(3, 2), loss, epochs=1, batch_size=100)
    run = steprule.train("sgd", task, lr=0.5)
    weight, bias = map(torch.from_numpy, run.parameters)
    assert run.final_loss == pytest.approx(float(loss(x[order] @ weight.T + bias, y)), rel=SUMMED32)


@pytest.mark.parametrize("library", ["numpy", "Python"])
def test_what_is_drawn_elsewhere_hangs_on_the_seed_too(library: str) -> None:
    """Mixup as people write it, beside a plain loop with the documented seeds; the caller's generators stay where they were."""

    def share() -> float:
        return float(np.random.beta(0.4, 0.4)) if library == "numpy" else random.betavariate(0.4, 0.4)

    def mixed(model: nn.Module, data: Any) -> Tensor:
        a, b = data
        lam = share() if model.training else 1.0
        return nn.functional.mse_loss(model(lam * a + (1 - lam) * a.flip(0)), lam * b + (1 - lam) * b.flip(0))

    x = torch.linspace(-1, 1, 60)[:, None]
    task = steprule.Problem.from_arrays(
        x, torch.sin(3 * x), lambda: nn.Linear(1, 1), training_step=mixed, epochs=2, batch_size=8
    )
    before = np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index,union-attr]
    one, other = (steprule.train("torch.optim.Adam", task, seed=3, lr=0.05) for _ in range(2))
    assert np.array_equal(np.random.get_state()[1], before[0])  # type: ignore[index]
    assert random.getstate() == before[1]
    assert np.array_equal(one.losses, other.losses)
    assert steprule.sweep("adam", task, {"lr": [0.05]}).engine.startswith("one by one")
    model = task.initial_model(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for t, (data, _) in enumerate(task.parts["train"].batches(8, 2, 3), 1):
        number = stream(3, (2, t))
        np.random.seed(number % 2**32)
        random.seed(number)
        optimizer.zero_grad()
        mixed(model, data).backward()
        optimizer.step()
    for ours, p in zip(one.parameters, model.parameters(), strict=True):
        assert np.array_equal(ours, p.detach().numpy())


def test_a_weighted_mean_whose_weighted_class_is_rare() -> None:
    """Even a hundred samples in even steps may lack it; also where the weights hide in a function."""
    x = torch.randn(4600, 3, generator=torch.Generator().manual_seed(1))
    y = torch.zeros(4600, dtype=torch.int64)
    y[torch.arange(4501, 4600, 7)] = 1
    for loss in (
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2000.0])),
        lambda a, b: F.cross_entropy(a, b, torch.tensor([1.0, 2000.0])),
        nn.CrossEntropyLoss(ignore_index=1),
    ):
        task = steprule.Problem("rare", "", x, y, lambda: nn.Linear(3, 2), loss, batch_size=100, epochs=1)
        model = task.initial_model(0)
        run = steprule.train(torch.optim.SGD, task, lr=0.0)
        assert run.final_loss == pytest.approx(loss(model(x), y).item(), rel=SUMMED32)


@pytest.mark.parametrize("what", [torch.optim.SGD, torch.optim.SparseAdam])
def test_sparse_gradients(what: Any) -> None:
    x, y = torch.arange(40) % 7, torch.arange(40) % 3
    task = steprule.Problem(
        "sparse", "", x, y, lambda: nn.Embedding(7, 3, sparse=True), F.cross_entropy, batch_size=10, epochs=2
    )
    model = task.initial_model(3)
    optimizer = what(model.parameters(), lr=0.1)
    for rows in batches(40, 10, 2, 3):
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    run = steprule.train(what, task, seed=3, lr=0.1)
    np.testing.assert_array_equal(run.parameters[0], model.weight.detach().numpy())


def test_a_model_that_comes_with_gradients() -> None:
    """As one that was trained, or scaled by its data, where it was made."""
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))

    def pretrained() -> nn.Module:
        model = nn.Linear(2, 1)
        (100 * model(x)).square().mean().backward()
        return model

    task = steprule.Problem(
        "pretrained", "", x, x.sum(1, keepdim=True), pretrained, F.mse_loss, batch_size=10, epochs=2
    )
    ours, theirs = (steprule.train(what, task, seed=3, lr=0.1).final_loss for what in ("sgd", torch.optim.SGD))
    assert ours == pytest.approx(theirs, rel=SUMMED32)


class Skips(nn.Module):
    """A layer that some seeds skip."""

    def __init__(self, more: bool) -> None:
        super().__init__()
        self.skips = bool(torch.rand(()) < 0.5)
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 1)
        if more and self.skips:
            self.c = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x if self.skips else torch.tanh(self.a(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_that_is_another_with_another_seed(compiled: bool, more: bool) -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    task = steprule.Problem(
        "skips", "", x, x.sum(1, keepdim=True), lambda: Skips(more), F.mse_loss, batch_size=10, epochs=2
    )
    found = steprule.sweep("sgd", task, {"lr": [0.1]}, seeds=list(range(6)), compile=compiled)
    alone = [steprule.train("sgd", task, seed=k, lr=0.1).final_loss for k in range(6)]
    np.testing.assert_allclose(found.train.reshape(-1), alone, rtol=LANE_AGAINST_SOLO)


def test_every_module_is_as_it_was_where_one_of_them_refuses_eval() -> None:
    class Refuses(nn.Linear):
        def train(self, mode: bool = True) -> Refuses:
            if not mode:
                raise RuntimeError("always in training")
            return super().train(mode)

    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval(), Refuses(2, 1))
    before = [module.training for module in model.modules()]
    with pytest.raises(RuntimeError, match="always in training"), evaluating(model):
        pass
    assert [module.training for module in model.modules()] == before
