"""The 2-D surfaces as problems: the model is a point, a sample is a disturbance of its gradient."""

from __future__ import annotations

import numpy as np
import sympy
import torch
from torch import Tensor, nn

from steprule.problems.problem import Problem
from steprule.surfaces.surface import Surface, X, Y

SAMPLES = 200
RELATIVE = 1.0
"""Standard deviation of a sample's disturbance, over the length of the gradient at the start."""
SPREAD = 0.02
"""Standard deviation of the seeds' starts about the surface's own, over the window's width."""


class Walker(nn.Module):
    """A point on a surface: for each sample its height above the minimum, and the disturbance times the point."""

    def __init__(self, surface: Surface) -> None:
        super().__init__()
        widths = torch.tensor([high - low for low, high in surface.window])
        self.at = nn.Parameter(torch.tensor(surface.start) + SPREAD * widths * torch.randn(2))
        self.height = sympy.lambdify((X, Y), surface.expression - sympy.Float(surface.minimum), torch)

    def forward(self, disturbance: Tensor) -> Tensor:
        """[samples, 2] -> [samples]"""
        heights: Tensor = disturbance @ self.at + self.height(self.at[0], self.at[1])
        return heights


def problem_of(surface: Surface) -> Problem:
    """Walk down a surface with noise on the gradient; scored without noise, by the height above the minimum."""
    rng = np.random.default_rng(0)
    disturbance = rng.standard_normal((SAMPLES, 2))
    disturbance -= disturbance.mean(axis=0)  # so that all samples together are the surface itself
    disturbance *= RELATIVE * float(np.linalg.norm(surface.gradient(surface.start)))
    still = torch.zeros(1, 2), torch.zeros(1)
    return Problem(
        name=surface.name,
        summary=f"down the surface {surface.name.replace('_', ' ')} with noise on the gradient",
        features=torch.from_numpy(disturbance.astype(np.float32)),
        targets=torch.zeros(SAMPLES),
        model=lambda: Walker(surface),
        loss=_mean,
        floor=0.0,
        validation=still,
        test=still,
        batch_size=10,
        epochs=5,
    )


def _mean(heights: Tensor, targets: Tensor) -> Tensor:
    return (heights - targets).mean()
