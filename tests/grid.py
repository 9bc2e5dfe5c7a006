"""Every option of every rule that torch has, away from neutral: one table, read by the parity tests."""

from __future__ import annotations

import inspect
import itertools
from dataclasses import dataclass, field
from typing import Any

import torch


def torch_accepts(settings: dict[str, Any]) -> bool:
    """torch refuses Nesterov's momentum without momentum or with dampening."""
    return not settings.get("nesterov") or (settings.get("momentum", 0) > 0 and settings.get("dampening", 0) == 0)


@dataclass(frozen=True)
class Counterpart:
    """A rule and the class in torch that it must equal; `base` are settings away from neutral, `options` the grid."""

    rule: str
    torch_class: type[torch.optim.Optimizer]
    base: dict[str, Any]
    options: dict[str, list[Any]] = field(default_factory=dict)

    def settings(self) -> list[dict[str, Any]]:
        """Each combination of options over the base, those left out that this torch's class does not take."""
        known = set(inspect.signature(self.torch_class).parameters)
        options = {k: v for k, v in self.options.items() if k in known}
        combos = [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
        return [{**self.base, **combo} for combo in combos if torch_accepts(combo)]


DECAY = {"weight_decay": [0.0, 0.03]}
BOTH = {**DECAY, "maximize": [False, True]}
BETAS = {"betas": (0.83, 0.97)}

COUNTERPARTS = [
    Counterpart(
        "sgd",
        torch.optim.SGD,
        {"lr": 0.03},
        {"momentum": [0.0, 0.8], "dampening": [0.0, 0.3], "nesterov": [False, True], **BOTH},
    ),
    Counterpart(
        "adagrad",
        torch.optim.Adagrad,
        {"lr": 0.2, "eps": 1e-3},
        {"lr_decay": [0.0, 0.07], "initial_accumulator_value": [0.0, 0.4], **BOTH},
    ),
    Counterpart(
        "rmsprop",
        torch.optim.RMSprop,
        {"lr": 0.03, "alpha": 0.9, "eps": 1e-3},
        {"momentum": [0.0, 0.7], "centered": [False, True], **BOTH},
    ),
    Counterpart("adadelta", torch.optim.Adadelta, {"lr": 0.7, "rho": 0.85, "eps": 1e-4}, BOTH),
    Counterpart(
        "adam",
        torch.optim.Adam,
        {"lr": 0.03, **BETAS, "eps": 1e-3},
        {"amsgrad": [False, True], "decoupled_weight_decay": [False, True], **BOTH},
    ),
    Counterpart("adamw", torch.optim.AdamW, {"lr": 0.03, **BETAS, "eps": 1e-3}, {"amsgrad": [False, True], **BOTH}),
    Counterpart("adamax", torch.optim.Adamax, {"lr": 0.03, **BETAS, "eps": 1e-3}, BOTH),
    Counterpart(
        "nadam",
        torch.optim.NAdam,
        {"lr": 0.03, **BETAS, "eps": 1e-3, "momentum_decay": 0.03},
        {"decoupled_weight_decay": [False, True], **BOTH},
    ),
    Counterpart(
        "radam",
        torch.optim.RAdam,
        {"lr": 0.03, **BETAS, "eps": 1e-3},
        {"decoupled_weight_decay": [False, True], **BOTH},
    ),
    Counterpart(
        "rprop",
        torch.optim.Rprop,
        {"lr": 0.03},
        {"etas": [(0.5, 1.2), (0.63, 1.4)], "step_sizes": [(1e-6, 50.0), (0.01, 0.05)], **BOTH},
    ),
    Counterpart(
        "asgd",
        torch.optim.ASGD,
        {"lr": 0.05, "lambd": 0.1},
        {"alpha": [0.75, 0.6], "t0": [0.0, 3.0, 1e6], **BOTH},
    ),
]


CASES = [(c, s) for c in COUNTERPARTS for s in c.settings()]
IDS = [f"{c.rule}-" + "-".join(f"{k}={v}" for k, v in s.items() if k not in c.base) for c, s in CASES]
