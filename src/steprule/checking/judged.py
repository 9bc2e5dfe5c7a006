"""The rule under judgement as every item sees it: its variants, its class, and notes for the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steprule.checking.cases import numbers, step_class
from steprule.compiler.drawing import NOBODYS
from steprule.compiler.variant import variant_of
from steprule.maths import ROUNDED
from steprule.optim import from_rule
from steprule.optim.optimizer import RuleOptimizer
from steprule.rules.rule import Rule


@dataclass
class Judged:
    """A rule under judgement."""

    raw: Rule
    """As its author wrote it."""
    rule: Rule
    """With weight decay and ascent composed before it."""
    forms: dict[str, str] = field(default_factory=dict)
    """Each form with "run", or why it was not run."""

    def variants(self) -> Iterator[dict[str, float | bool]]:
        """Every variant of the rule's own switches; the switches that every rule gets stay at their defaults."""
        composed_with_all = ("weight_decay", "decoupled_weight_decay", "maximize")
        seen = []
        for variant in self.rule.variants():
            own = {n: self.rule.defaults[n] if n in composed_with_all else v for n, v in variant.items()}
            if own not in seen:
                seen.append(own)
                yield own

    def exact(self) -> Iterator[dict[str, Any]]:
        """The variants that round nothing to another dtype, for what is compared in float64; all, where each does."""
        found = list(self.variants())
        exact = [v for v in found if not self._rounds(v)]
        yield from exact or found

    @property
    def settings(self) -> dict[str, Any]:
        """The rule's defaults, but for what they round to another dtype, where that can be turned off."""
        return next(self.exact()) if self._rounds({}) else {}

    def _rounds(self, variant: dict[str, Any]) -> bool:
        graph = variant_of(self.rule, self.rule.bind(variant)).graph()
        return any(node.op in ROUNDED for node in graph.nodes)

    def optimizer(self, params: list[Tensor], variant: dict[str, Any]) -> RuleOptimizer:
        """An optimizer of the rule's class on these parameters."""
        seeded = {"seed": NOBODYS.seed} if self.rule.draws else {}
        return from_rule(self.rule)(params, **variant, **seeded)


def go(p: Tensor, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Take these steps, each with the gradient of its number."""
    for t in steps:
        step_class(optimizer, p, torch.from_numpy(numbers(t, p.numel())).reshape(p.shape))
