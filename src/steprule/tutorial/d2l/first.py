"""The first edition's trainings: linear regression on the airfoil data, which its cells pass on as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from steprule.problems import airfoil
from steprule.tutorial.d2l.following import Curve, Net, Step, by_class, by_formula, first_batch
from steprule.tutorial.d2l.pieces import evaluate_loss, linreg, load_array, squared_loss

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
    data_iter = load_array((features, labels), batch_size)
    X = first_batch(data_iter)
    w = nn.Parameter(torch.normal(0.0, 0.01, size=(X.shape[1], 1), dtype=X.dtype))
    b = nn.Parameter(torch.zeros(1, dtype=X.dtype))

    def net(X: Tensor) -> Tensor:
        return linreg(X, w, b)

    _train(net, by_formula(optimizer_fn, [w, b], states, hyperparams, net), data_iter, num_epochs)


def train_pytorch_ch7(
    optimizer_fn: Callable[..., torch.optim.Optimizer],
    optimizer_hyperparams: Mapping[str, Any],
    features: Tensor,
    labels: Tensor,
    batch_size: int = 10,
    num_epochs: int = 2,
) -> None:
    """Linear regression by `nn.Linear` with an Optimizer class, torch's or steprule's; prints and draws as `train_ch7`."""
    data_iter = load_array((features, labels), batch_size)
    X = first_batch(data_iter)
    net = nn.Linear(X.shape[1], 1, dtype=X.dtype)
    _train(net, by_class(optimizer_fn, optimizer_hyperparams, net, times=1), data_iter, num_epochs)


def _train(net: Net, step: Step, data_iter: Iterable[Any], num_epochs: int) -> None:
    curve = Curve(RECORD_EVERY, epochs=[0.0], losses=[evaluate_loss(net, data_iter, squared_loss)])
    curve.follow(net, step, data_iter, num_epochs)
    print(f"loss: {curve.losses[-1]:f}, {curve.seconds_per_epoch():f} sec per epoch")  # noqa: T201
    _, axes = plt.subplots()
    axes.plot(curve.epochs, curve.losses)
    axes.set(xlabel="epoch", ylabel="loss")
