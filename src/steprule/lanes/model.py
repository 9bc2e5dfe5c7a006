"""A model's training step for one lane, as a graph of torch's own operations, traced once."""

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

    Raises what torch raises where a model cannot be traced: control flow that depends on the data, or buffers that it
    changes (the running means of a batch norm).
    """
    params = {n: p.detach().clone() for n, p in model.named_parameters()}
    x, y = task.features[:batch].clone(), task.targets[:batch].clone()
    if not all(p.requires_grad for p in model.parameters()):
        raise ValueError("a parameter that is frozen")
    if (
        list(model.buffers())
        and model.training
        and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    ):
        raise ValueError("a batch norm changes its running means")

    def loss_of(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return task.loss(functional_call(model, params, (x,)), y)

    def step(values: Sequence[Tensor], x: Tensor, y: Tensor) -> Any:
        if not gradient:
            return [loss_of(dict(zip(params, values, strict=True)), x, y)]
        gradients, loss = grad_and_value(loss_of)(dict(zip(params, values, strict=True)), x, y)
        return [loss, *gradients.values()]

    with recording():
        module = make_fx(step)(list(params.values()), x, y)
    module.graph.eliminate_dead_code()
    return ModelStep(module.graph, {n: p.shape for n, p in params.items()}, x, y)
