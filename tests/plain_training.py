"""A training without any of the package's loops: torch's gradients in float64, the rule's own function on arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steprule.compiler import eager
from steprule.problems.catalogue import half_mse
from steprule.problems.problem import Problem
from steprule.problems.source import batches
from steprule.rules import Rule


def plain_loss(
    task: Problem, rule: Rule, hypers: Mapping[str, Any], seed: int, *, passes: int, size: int,
) -> float:  # fmt: skip
    """The half mean squared error on all samples at the end; first weights and batches are those of `steprule.train`."""
    model = task.initial_model(seed).double()
    x, y = task.features.double(), task.targets.double()
    states: list[eager.State] = [{} for _ in model.parameters()]
    for t, rows in enumerate(batches(len(x), size, passes, seed), 1):
        model.zero_grad()
        half_mse(model(x[rows]), y[rows]).backward()
        for k, p in enumerate(model.parameters()):
            assert p.grad is not None
            new, states[k] = eager.step(rule, p.detach().numpy(), p.grad.numpy(), states[k], t, hypers)
            p.data.copy_(torch.from_numpy(np.asarray(new)))
    return half_mse(model(x), y).item()
