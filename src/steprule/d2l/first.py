"""The first edition's trainings: linear regression on the airfoil data, which its cells hand on as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from steprule.d2l.following import Curve, Net
from steprule.d2l.pieces import evaluate_loss, linreg, load_array, squared_loss
from steprule.problems import airfoil

RECORD_EVERY = 100  # samples


def get_data_ch7() -> tuple[Tensor, Tensor]:
    """Features [1500, 5] and labels [1500], float32, each column with mean 0 and standard deviation 1."""
    features, labels = airfoil.tutorial()
    return torch.from_numpy(features), torch.from_numpy(labels)


def train_ch7(
    optimizer_fn: Callable[[list[Tensor], Any, Any], Any],
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

    def net(X: Tensor) -> Tensor:
        return linreg(X, w, b)

    def step(X: Tensor, y: Tensor) -> None:
        w.grad = b.grad = None
        squared_loss(net(X), y).mean().backward()  # type: ignore[no-untyped-call]
        optimizer_fn([w, b], states, hyperparams)

    _train(net, step, features, labels, batch_size, num_epochs)


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

    def step(X: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        squared_loss(net(X), y).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    _train(net, step, features, labels, batch_size, num_epochs)


def _train(
    net: Net, step: Callable[[Tensor, Tensor], None], features: Tensor, labels: Tensor, batch_size: int, num_epochs: int
) -> None:
    data_iter = load_array((features, labels), batch_size)
    curve = Curve(RECORD_EVERY, epochs=[0.0], losses=[evaluate_loss(net, data_iter, squared_loss)])
    curve.follow(net, step, data_iter, num_epochs)
    print(f"loss: {curve.losses[-1]:f}, {curve.seconds_per_epoch():f} sec per epoch")  # noqa: T201
    _, axes = plt.subplots()
    axes.plot(curve.epochs, curve.losses)
    axes.set(xlabel="epoch", ylabel="loss")
