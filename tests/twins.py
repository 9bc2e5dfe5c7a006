"""Our class and torch's beside each other: the same parameters, gradients and steps."""

from __future__ import annotations

from typing import Any

import torch
from grid import COUNTERPARTS, Counterpart
from torch import Tensor

from steprule import optim

NAMES = [c.rule for c in COUNTERPARTS]
SHAPES = [(3, 5), (7,), (), (1, 1), (0,), (2, 3, 4)]


def ours(case: Counterpart) -> type[torch.optim.Optimizer]:
    return getattr(optim, case.torch_class.__name__)  # type: ignore[no-any-return]


def parameters(dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in SHAPES]


def set_gradients(params: list[Tensor], t: int, centre: float = 0.0) -> None:
    """A rough convex loss with its minimum near `centre`, and noise that depends on the step alone."""
    generator = torch.Generator().manual_seed(t)
    for p in params:
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        x = p.detach() - centre
        p.grad = x + 0.3 * torch.sin(5 * x) + 0.1 * noise


def run(optimizers: list[torch.optim.Optimizer], steps: range) -> None:
    for t in steps:
        for optimizer in optimizers:
            set_gradients(optimizer.param_groups[0]["params"], t)
            optimizer.step()


def both(case: Counterpart, make: Any, steps: int = 5, **extra: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The same parameters through both classes; `make()` gives them, gradients follow from their values."""
    a, b = make(), make()
    mine, theirs = ours(case)(a, **case.base, **extra), case.torch_class(b, **case.base, **extra)
    for _ in range(steps):
        for p in (*a, *b):
            p.grad = (p.detach() * 1.5 + 0.25).to(p.dtype)
        mine.step()
        theirs.step()
    return a, b
