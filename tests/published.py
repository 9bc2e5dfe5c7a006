"""What is said of a published optimizer: its rule, the implementation that others use, and the numbers both are given.

The rules stand in published_adam.py (Adam and its kin), published_adaptive.py (other ways to a rate per element) and
published_steps.py (momentum, signs, norms, averages). Each is written as its paper prints it; where the implementation departs from
the paper, the rule follows the implementation and a comment says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tolerances import PUBLISHED_FLOAT64

from steprule.rules.rule import Rule

Reference = Callable[..., torch.optim.Optimizer]
"""Makes the optimizer from a list of parameters and the rule's hyperparameters by name."""


@dataclass(frozen=True)
class Published:
    """A rule beside its reference implementation. A slot that the reference keeps too has the reference's name for it."""

    rule: Rule
    reference: Reference
    hypers: Mapping[str, float | bool]
    """All of the rule's, each away from its default and from what would make a term vanish."""
    tolerance: float = PUBLISHED_FLOAT64
    shapes: tuple[tuple[int, ...], ...] = ((7,), (3, 5))


def against(reference: Reference, **settings: Any) -> Callable[[Callable[..., Any]], Published]:
    """Decorator of a rule's function. `settings` are the hyperparameters, and `Published`'s `tolerance` and `shapes`."""
    about = {name: settings.pop(name) for name in ("tolerance", "shapes") if name in settings}

    def decorated(made: Any) -> Published:
        return Published(made, reference, settings, **about)

    return decorated


def alone(params: list[torch.Tensor]) -> list[dict[str, Any]]:
    """A parameter group per tensor, for references that keep a number per group where the paper has one per tensor."""
    return [{"params": [p]} for p in params]
