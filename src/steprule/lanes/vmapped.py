"""Gradients of many lanes by `torch.vmap`: nothing is compiled, and any device serves."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from steprule.alone import recording
from steprule.held import most_held
from steprule.lanes.model import blank, first_line
from steprule.problems.facts import alike
from steprule.problems.problem import Problem

Gradients = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(p, x, y): the gradients [rows, lanes] and the losses [lanes] of p [rows, lanes] and a batch."""
ROOM = 1 << 29
"""Bytes that lanes trained together may hold, and as many in a step. The same on every machine: with `torch.vmap` a lane's last bits
depend on how many others there are."""
ALIKE = 1e-3
"""Gradients of one lane and of its model alone differ by less, relative to the largest: sums in another order."""


class NotBatchable(Exception):  # noqa: N818  (no fault: lanes go one by one)
    """Why `torch.vmap` cannot take a model."""


def vmapped(task: Problem, model: nn.Module, *, own_data: bool, record: bool) -> Gradients:
    """The gradients of lanes of a model; `own_data`: each with a batch of its own, `record`: recorded once and played back."""
    shapes = {n: p.shape for n, p in model.named_parameters()}

    def loss_of(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return task.loss(functional_call(model, params, (x,)), y)

    if not all(p.requires_grad for p in model.parameters()):
        raise NotBatchable("a parameter that is frozen")
    data = 0 if own_data else None
    all_losses = vmap(loss_of, in_dims=(0, data, data))

    def both(params: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        leaves = {n: v.detach().requires_grad_() for n, v in params.items()}
        losses = all_losses(leaves, x, y)
        # A lane's loss depends on no other lane's parameters: the gradient of the sum is that of each.
        gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
        return dict(zip(leaves, gradients, strict=True)), losses.detach()

    recorded: dict[Any, Any] = {}

    def played(params: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        key = x.shape, len(next(iter(params.values())))
        if key not in recorded:
            with recording():
                recorded[key] = make_fx(both)(params, x, y)
        with torch.no_grad():
            return recorded[key](params, x, y)  # type: ignore[no-any-return]

    def call(p: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        params = lanes_first(p, shapes)
        try:
            gradients, losses = (played if record else both)(params, x, y)
        except (
            Exception
        ) as error:  # whatever the user's model and loss raise when they are called with what vmap batches by
            raise NotBatchable(first_line(error)) from error
        return torch.cat([gradients[n].reshape(p.shape[1], -1) for n in shapes], dim=1).T, losses

    return call


def lanes_first(p: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The parameters of p [rows, lanes] by name, [lanes, ...]."""
    whole, row, params = p.T.contiguous(), 0, {}
    for name, shape in shapes.items():
        params[name] = whole[:, row : row + shape.numel()].reshape(-1, *shape)
        row += shape.numel()
    return params


def lanes_last(models: list[nn.Module]) -> Tensor:
    """The parameters of models as p, [rows, lanes]."""
    return torch.stack([torch.cat([p.detach().reshape(-1) for p in m.parameters()]) for m in models], 1)


@lru_cache(maxsize=64)
def lane_bytes(task: Problem, batch: int, device: str = "cpu") -> int:
    """What a step of `torch.vmap` on a batch of this size holds for each lane, in bytes: by two steps, of one lane and of two.

    Raises `NotBatchable`.
    """
    model = blank(task).to(device)
    gradients = vmapped(task, model, own_data=False, record=False)
    x, y = (data[:batch].to(device, copy=True) for data in (task.features, task.targets))
    one = lanes_last([model])
    held = [most_held(partial(gradients, p, x, y)) for p in (one, one.expand(-1, 2))]
    return max(1, held[1] - held[0])


def check_lanes(task: Problem, batch: int, *, together: bool) -> None:
    """Raises `NotBatchable` where the models of two seeds have other gradients alone than as lanes: by one model's code, under `torch.vmap`
    where they are trained `together` by it."""
    models = [task.initial_model(seed) for seed in (0, 1)]
    shapes = [[p.shape for p in m.parameters()] for m in models]
    if shapes[0] != shapes[1]:
        raise NotBatchable("a model of other parameters with another seed")
    p = lanes_last(models)
    gradients = vmapped(task, blank(task), own_data=False, record=False)
    x, y = (data[:batch] for data in (task.features, task.targets))
    lanes = [slice(2)] if together else [slice(1), slice(1, 2)]
    with looped_over():
        found = torch.cat([gradients(p[:, lane], x.clone(), y.clone())[0] for lane in lanes], 1)
    for k, model in enumerate(models):
        own = torch.autograd.grad(task.loss(model(x.clone()), y.clone()), list(model.parameters()), allow_unused=True)
        if any(g is None for g in own):
            raise NotBatchable("a parameter that gets no gradient with some seeds")
        if not alike(torch.cat([g.reshape(-1) for g in own]), found[:, k], ALIKE):
            raise NotBatchable("together its gradients are others than alone")


@contextmanager
def looped_over() -> Iterator[None]:
    """torch says nothing of an operation that vmap takes lane by lane; which one that is depends on the processor."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        yield


def lane_by_lane(function: Callable[[dict[str, Tensor]], Any], params: Mapping[str, Tensor]) -> list[Any]:
    """What a function gives of each lane's parameters, one lane after the other: for a model that vmap cannot take."""
    lanes = len(next(iter(params.values())))
    return [function({n: v[k] for n, v in params.items()}) for k in range(lanes)]
