"""A model's training step as a graph of torch's own operations, traced once for one lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, grad_and_value
from torch.fx.experimental.proxy_tensor import make_fx

from steprule.alone import recording
from steprule.problems.problem import Problem


class NotPrintable(Exception):  # noqa: N818  (no fault: another engine serves)
    """Why a model's step has no kernel: it cannot be traced, or holds an operation that is not printed."""


@dataclass(frozen=True)
class ModelStep:
    """What one lane computes of its parameters and a batch: the loss and the gradients."""

    graph: fx.Graph
    shapes: dict[str, torch.Size]
    """Of each parameter, by name."""
    x: Tensor
    y: Tensor
    """A batch of the right shape."""

    @property
    def rows(self) -> int:
        """How many numbers the parameters have together."""
        return sum(s.numel() for s in self.shapes.values())

    @property
    def sizes(self) -> list[int]:
        """How many numbers each parameter has."""
        return [s.numel() for s in self.shapes.values()]


def traced(task: Problem, model: nn.Module, batch: int, *, gradient: bool = True) -> ModelStep:
    """The step of a model for batches of one size; without `gradient` the loss alone.

    Raises `NotPrintable` where torch cannot trace it: control flow that depends on the data, or buffers that the
    model changes (the running means of a batch norm).
    """
    params = {n: p.detach().clone() for n, p in model.named_parameters()}
    x, y = task.features[:batch].clone(), task.targets[:batch].clone()
    if not all(p.requires_grad for p in model.parameters()):
        raise NotPrintable("a parameter that is frozen")
    normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    if normed and model.training and list(model.buffers()):
        raise NotPrintable("a batch norm changes its running means")

    def loss_of(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return task.loss(functional_call(model, params, (x,)), y)

    def step(values: Sequence[Tensor], x: Tensor, y: Tensor) -> Any:
        if not gradient:
            return [loss_of(dict(zip(params, values, strict=True)), x, y)]
        gradients, loss = grad_and_value(loss_of)(dict(zip(params, values, strict=True)), x, y)
        return [loss, *gradients.values()]

    try:
        with recording():
            module = make_fx(step)(list(params.values()), x, y)
    except (
        Exception
    ) as error:  # whatever the user's model and loss raise when they are called with what torch traces by
        raise NotPrintable(first_line(error)) from error
    module.graph.eliminate_dead_code()
    return ModelStep(module.graph, {n: p.shape for n, p in params.items()}, x, y)


def blank(task: Problem) -> nn.Module:
    """A model whose parameters do not count; its buffers are those of every seed."""
    return task.initial_model(0)


def first_line(error: Exception) -> str:
    """What an error says in its first line, or its kind where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
