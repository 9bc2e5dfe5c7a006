"""The later edition's trainings: the same regression, whose cells pass on a loader.

Its runs from the formula take 2 epochs. Its concise runs take 4, with a loss without the factor 1/2, so with twice the gradient. The two
kinds must not be compared with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from steprule.counts import whole
from steprule.errors import InputError, unknown_name
from steprule.problems import airfoil
from steprule.tutorial.d2l.figures import Animator
from steprule.tutorial.d2l.following import Curve, Net, Step, by_class, by_formula, first_batch
from steprule.tutorial.d2l.pieces import linreg, load_array

EVALUATE_EVERY = 200  # samples
LOSSES = (0.22, 0.35)  # the curve is drawn between these

DATA_URL = ""
"""Empty, since nothing is fetched: the data are part of the package."""
DATA_HUB: dict[str, tuple[str, str]] = {}
"""Cells note the addresses and checksums of their data here; `download` does not need them."""


def download(name: str) -> str:
    """The path of the package's own "airfoil" data, the only ones that this chapter's regression needs; nothing is fetched."""
    if name != "airfoil":
        raise unknown_name("data set", name, ["airfoil"])
    return str(airfoil.FILE)


def get_data_ch11(batch_size: int = 10, n: int = airfoil.TUTORIAL_ROWS) -> tuple[DataLoader[Any], int]:
    """A shuffled loader of the first n airfoil rows, 1 to 1503, as float32; and the number of features, 5.

    Each column has mean 0 and standard deviation 1 over all 1,503 rows.
    """
    features, labels = airfoil.tutorial(whole("n", n, 1, airfoil.ROWS))
    return load_array((torch.from_numpy(features), torch.from_numpy(labels)), batch_size), features.shape[1]


def train_ch11(
    trainer_fn: Callable[[list[Tensor], Any, Any], Any],
    states: Any,
    hyperparams: Mapping[str, Any],
    data_iter: Iterable[Any],
    feature_dim: int,
    num_epochs: int = 2,
) -> tuple[list[float], list[float]]:
    """Linear regression with an optimizer from the formula; prints the loss and the time, draws the loss.

    `trainer_fn(params, states, hyperparams)` updates w [feature_dim, 1] and b [1] in place from their gradients, which begin at 0 in
    each step. Weights begin at N(0, 0.01^2), the bias at 0. Returns per point of the curve the seconds of the steps so far and the loss:
    half the mean squared error on all data, after every 200 samples and at the end.
    """
    X = first_batch(data_iter)
    if whole("feature_dim", feature_dim, 1) != X.shape[1]:
        raise InputError("feature_dim", expected=f"{X.shape[1]}, as the data have", got=str(feature_dim))
    w = torch.normal(0.0, 0.01, size=(feature_dim, 1), dtype=X.dtype).requires_grad_()
    b = torch.zeros(1, dtype=X.dtype, requires_grad=True)

    def net(X: Tensor) -> Tensor:
        return linreg(X, w, b)

    curve = _train(net, by_formula(trainer_fn, [w, b], states, hyperparams, net), data_iter, num_epochs)
    return curve.timer.cumsum(), curve.losses


def train_concise_ch11(
    trainer_fn: Callable[..., torch.optim.Optimizer],
    hyperparams: Mapping[str, Any],
    data_iter: Iterable[Any],
    num_epochs: int = 4,
) -> None:
    """Linear regression by `nn.Linear` with an Optimizer class, torch's or steprule's, on the whole squared error.

    The gradient is so twice that of `train_ch11`. Weights begin at N(0, 0.01^2), the bias as `nn.Linear` has it. It prints and draws half
    the mean squared error.
    """
    X = first_batch(data_iter)
    net = nn.Linear(X.shape[1], 1, dtype=X.dtype)
    nn.init.normal_(net.weight, std=0.01)
    _train(net, by_class(trainer_fn, hyperparams, net, times=2), data_iter, num_epochs)


def _train(net: Net, step: Step, data_iter: Iterable[Any], num_epochs: int) -> Curve:
    animator = Animator(xlabel="epoch", ylabel="loss", xlim=(0, num_epochs), ylim=LOSSES)
    curve = Curve(EVALUATE_EVERY)
    curve.follow(net, step, data_iter, num_epochs, animator.add)
    print(f"loss: {curve.losses[-1]:.3f}, {curve.seconds_per_epoch():.3f} sec/epoch")  # noqa: T201
    return curve
