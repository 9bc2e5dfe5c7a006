"""The classes: torch's own constructors, argument checks and state layout, with a rule's step; and classes from any rule."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from steprule import rules
from steprule.optim.base import RuleOptimizer
from steprule.rules.parts import composed
from steprule.rules.rule import Rule


class SGD(RuleOptimizer, torch.optim.SGD):
    """`torch.optim.SGD` by the rule `sgd`."""

    rule = composed(rules.sgd)
    counts_steps = False


class Adagrad(RuleOptimizer, torch.optim.Adagrad):
    """`torch.optim.Adagrad` by the rule `adagrad`."""

    rule = composed(rules.adagrad)


class RMSprop(RuleOptimizer, torch.optim.RMSprop):
    """`torch.optim.RMSprop` by the rule `rmsprop`."""

    rule = composed(rules.rmsprop)


class Adadelta(RuleOptimizer, torch.optim.Adadelta):
    """`torch.optim.Adadelta` by the rule `adadelta`."""

    rule = composed(rules.adadelta)


class Adam(RuleOptimizer, torch.optim.Adam):
    """`torch.optim.Adam` by the rule `adam`."""

    rule = composed(rules.adam)


class AdamW(RuleOptimizer, torch.optim.AdamW):
    """`torch.optim.AdamW` by the rule `adam` with decoupled weight decay."""

    rule = composed(rules.adamw)


class Adamax(RuleOptimizer, torch.optim.Adamax):
    """`torch.optim.Adamax` by the rule `adamax`."""

    rule = composed(rules.adamax)


class NAdam(RuleOptimizer, torch.optim.NAdam):
    """`torch.optim.NAdam` by the rule `nadam`."""

    rule = composed(rules.nadam)


class RAdam(RuleOptimizer, torch.optim.RAdam):
    """`torch.optim.RAdam` by the rule `radam`."""

    rule = composed(rules.radam)


NAMES = ("SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Lion")


def from_rule(rule: Rule | str, *, name: str | None = None) -> type[RuleOptimizer]:
    """An Optimizer class from any rule; its constructor takes the rule's hyperparameters by name, with their defaults.

    >>> import steprule, torch
    >>> Slow = steprule.optim.from_rule("rmsprop_eps_inside")
    >>> optimizer = Slow([torch.zeros(2, requires_grad=True)], lr=0.1, weight_decay=0.01)
    """
    found = composed(rules.resolve(rule))
    parameters = [inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [inspect.Parameter(h.name, inspect.Parameter.KEYWORD_ONLY, default=h.default) for h in found.hypers]

    class FromRule(RuleOptimizer):
        rule = found

        def __init__(self, params: Iterable[Any], **hypers: Any) -> None:
            numbers = {n: float(v) if isinstance(v, Tensor) else v for n, v in hypers.items()}
            bound = found.bind(numbers)
            super().__init__(params, {n: hypers.get(n, v) for n, v in bound.items()})

    FromRule.__name__ = FromRule.__qualname__ = name or found.name
    FromRule.__doc__ = f"{found.summary}\n\nMade from the rule `{found.name}`."
    FromRule.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return FromRule


Lion = from_rule("lion", name="Lion")
