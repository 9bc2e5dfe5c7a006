"""The classes: torch's own constructors, argument checks and state layout, with a rule's step; and classes from any rule."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from steprule import rules
from steprule.errors import unknown_name
from steprule.optim.base import BEYOND, RuleOptimizer
from steprule.rules.parts import equipped
from steprule.rules.rule import Rule


class SGD(RuleOptimizer, torch.optim.SGD):
    """`torch.optim.SGD` by the rule `sgd`."""

    rule = equipped(rules.sgd)
    counts_steps = False


class Adagrad(RuleOptimizer, torch.optim.Adagrad):
    """`torch.optim.Adagrad` by the rule `adagrad`."""

    rule = equipped(rules.adagrad)


class RMSprop(RuleOptimizer, torch.optim.RMSprop):
    """`torch.optim.RMSprop` by the rule `rmsprop`."""

    rule = equipped(rules.rmsprop)


class Adadelta(RuleOptimizer, torch.optim.Adadelta):
    """`torch.optim.Adadelta` by the rule `adadelta`."""

    rule = equipped(rules.adadelta)


class Adam(RuleOptimizer, torch.optim.Adam):
    """`torch.optim.Adam` by the rule `adam`."""

    rule = equipped(rules.adam)


class AdamW(RuleOptimizer, torch.optim.AdamW):
    """`torch.optim.AdamW` by the rule `adam` with decoupled weight decay."""

    rule = equipped(rules.adamw)


class Adamax(RuleOptimizer, torch.optim.Adamax):
    """`torch.optim.Adamax` by the rule `adamax`."""

    rule = equipped(rules.adamax)


class NAdam(RuleOptimizer, torch.optim.NAdam):
    """`torch.optim.NAdam` by the rule `nadam`."""

    rule = equipped(rules.nadam)


class RAdam(RuleOptimizer, torch.optim.RAdam):
    """`torch.optim.RAdam` by the rule `radam`."""

    rule = equipped(rules.radam)


NAMES = ("SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Lion")


def from_rule(rule: Rule | str, *, name: str | None = None) -> type[RuleOptimizer]:
    """An Optimizer class from any rule; its constructor takes the rule's hyperparameters by name, with their defaults.

    >>> import steprule, torch
    >>> Slow = steprule.optim.from_rule("rmsprop_eps_inside")
    >>> optimizer = Slow([torch.zeros(2, requires_grad=True)], lr=0.1, weight_decay=0.01)
    """
    found = equipped(rules.resolve(rule))
    parameters = [inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    defaults = {h.name: h.default for h in found.hypers if h.given is None}
    parameters += [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=v)
        for n, v in {**defaults, "zero_grad": False, "backend": "auto"}.items()
    ]

    class FromRule(RuleOptimizer):
        rule = found

        def __init__(self, params: Iterable[Any], **hypers: Any) -> None:
            own = {n: hypers.pop(n) for n in ("zero_grad", "backend") if n in hypers}
            if given := {h.name for h in found.hypers if h.given} & set(hypers):
                raise unknown_name("hyperparameter", given.pop(), defaults, where=f" of {found.name}")
            numbers = {n: float(v) if isinstance(v, Tensor) else v for n, v in hypers.items()}
            bound = {n: hypers.get(n, v) for n, v in found.bind(numbers).items() if n in defaults}
            super().__init__(params, bound, **own)

    FromRule.__name__ = FromRule.__qualname__ = name or found.name
    FromRule.__doc__ = f"{found.summary}\n\nMade from the rule `{found.name}`.\n\n{BEYOND}"
    FromRule.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return FromRule


Lion = from_rule("lion", name="Lion")
