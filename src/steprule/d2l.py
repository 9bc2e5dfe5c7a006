"""The tutorial's own helper names, on top of the rest: its cells run with only their import lines changed.

Unlike the rest of the package these print and draw, because the tutorial's do. Cells that begin with

    import d2lzh_pytorch as d2l

run with `from steprule import d2l`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

from steprule.problems import airfoil
from steprule.problems.problem import half_mse

Point = tuple[float, float]
RECORD_EVERY = 100  # samples, as in the tutorial


def train_2d(trainer: Callable[[float, float, float, float], tuple[float, float, float, float]]) -> list[Point]:
    """20 steps of `trainer(x1, x2, s1, s2)` from (-5, -2) with states 0; prints the end, returns the 21 points."""
    x1, x2, s1, s2 = -5.0, -2.0, 0.0, 0.0
    results = [(x1, x2)]
    steps = 20
    for _ in range(steps):
        x1, x2, s1, s2 = trainer(x1, x2, s1, s2)
        results.append((x1, x2))
    print(f"epoch {steps}, x1 {x1:f}, x2 {x2:f}")  # noqa: T201
    return results


def show_trace_2d(f: Callable[[Any, Any], Any], results: Sequence[Point]) -> None:
    """Contours of `f(x1, x2)`, which is called with arrays, and the path over them."""
    path = np.array(results, dtype=np.float64)
    low, high = np.minimum(path.min(axis=0), (-5.5, -3.0)), np.maximum(path.max(axis=0), (1.0, 1.0))
    x1, x2 = np.meshgrid(np.linspace(low[0], high[0], 120), np.linspace(low[1], high[1], 120))
    _, axes = plt.subplots()
    axes.contour(x1, x2, np.broadcast_to(f(x1, x2), x1.shape), colors="#1f77b4")
    axes.plot(path[:, 0], path[:, 1], "-o", color="#ff7f0e")
    axes.set(xlabel="x1", ylabel="x2")


def get_data_ch7() -> tuple[Tensor, Tensor]:
    """Features [1500, 5] and labels [1500], float32, each column with mean 0 and standard deviation 1."""
    features, labels = airfoil.tutorial()
    return torch.from_numpy(features), torch.from_numpy(labels)


def train_ch7(
    optimizer_fn: Callable[[list[Tensor], Any, Mapping[str, Any]], None],
    states: Any,
    hyperparams: Mapping[str, Any],
    features: Tensor,
    labels: Tensor,
    batch_size: int = 10,
    num_epochs: int = 2,
) -> None:
    """Linear regression with an optimizer from the formula; prints the loss and the time, draws the loss.

    `optimizer_fn(params, states, hyperparams)` updates `p.data` from `p.grad.data` in place, for params w [5, 1], b [1].
    """
    w = nn.Parameter(torch.normal(0.0, 0.01, size=(features.shape[1], 1)))
    b = nn.Parameter(torch.zeros(1))

    def step(x: Tensor, y: Tensor) -> None:
        for parameter in (w, b):
            parameter.grad = None
        half_mse(x @ w + b, y).backward()  # type: ignore[no-untyped-call]
        optimizer_fn([w, b], states, hyperparams)

    _train(lambda x: x @ w + b, step, features, labels, batch_size, num_epochs)


def train_pytorch_ch7(
    optimizer_fn: Callable[..., torch.optim.Optimizer],
    optimizer_hyperparams: Mapping[str, Any],
    features: Tensor,
    labels: Tensor,
    batch_size: int = 10,
    num_epochs: int = 2,
) -> None:
    """The same with an Optimizer class, torch's or steprule's, and `nn.Linear`; prints and draws the same."""
    net = nn.Linear(features.shape[1], 1)
    optimizer = optimizer_fn(net.parameters(), **optimizer_hyperparams)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        half_mse(net(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    _train(net, step, features, labels, batch_size, num_epochs)


def _train(
    predict: Callable[[Tensor], Tensor],
    step: Callable[[Tensor, Tensor], None],
    features: Tensor,
    labels: Tensor,
    batch_size: int,
    num_epochs: int,
) -> None:
    def full_loss() -> float:
        with torch.no_grad():
            return half_mse(predict(features), labels).item()

    losses = [full_loss()]
    began = time.perf_counter()
    for _ in range(num_epochs):
        began = time.perf_counter()  # the tutorial prints the time of the last epoch
        for i, rows in enumerate(torch.split(torch.randperm(len(features)), batch_size)):
            step(features[rows], labels[rows])
            if (i + 1) * batch_size % RECORD_EVERY == 0:
                losses.append(full_loss())
    print(f"loss: {losses[-1]:f}, {time.perf_counter() - began:f} sec per epoch")  # noqa: T201
    _, axes = plt.subplots()
    axes.plot(np.linspace(0, num_epochs, len(losses)), losses)
    axes.set(xlabel="epoch", ylabel="loss")
