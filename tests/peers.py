"""The classes of the tests that compare `steprule.optim` with torch: settings away from neutral, slots, and Lion by its formula."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

OTHER_SIDES: dict[str, Callable[..., torch.optim.Optimizer]] = {}
"""Further makers of optimizers by the name of their side: the tests' own mistakes."""


class Lion(torch.optim.Optimizer):
    """Lion as its paper prints it, one tensor after the other; torch has no such class."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, p.grad, group)
        return loss

    def _move(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        # A group that our class has saved may hold the two apart.
        beta1, beta2 = group["betas"] if "betas" in group else (group["beta1"], group["beta2"])
        state = self.state[p]
        if not state:
            state["step"] = torch.tensor(0.0, dtype=torch.get_default_dtype())
            state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        state["step"] += 1
        m = state["exp_avg"]
        if p.is_complex():  # two real numbers, as in torch's classes
            p, g, m = torch.view_as_real(p), torch.view_as_real(g.resolve_conj()), torch.view_as_real(m)
        c = m * beta1 + g * (1 - beta1)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(torch.sign(c), alpha=-group["lr"])
        m.lerp_(g, 1 - beta2)


@dataclass(frozen=True)
class Peer:
    """A class and what the tests need to know of it."""

    name: str
    settings: dict[str, Any]
    slots: tuple[str, ...]
    """The names in a parameter's state under these settings, without those of one number."""
    numbers: tuple[str, ...] = ("step",)
    """The states of one number."""
    steps_before: int = 3
    """Steps until each branch of the formula has been taken."""
    changes: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Settings that a run may change, each with the values it may get."""

    def make(self, side: str, params: Any, **changed: Any) -> torch.optim.Optimizer:
        """A new optimizer: side "torch" is torch's class, "torch foreach" its form of another order, "steprule" ours."""
        settings = {**self.settings, **changed}
        if side in OTHER_SIDES:
            return OTHER_SIDES[side](params, **settings)
        if side == "steprule":
            from steprule import optim

            return getattr(optim, self.name)(params, **settings)
        if self.name == "Lion":
            return Lion(params, **settings)
        return getattr(torch.optim, self.name)(params, **settings, foreach=side == "torch foreach")


RATES = {"lr": (0.01, 0.003, 0.03), "weight_decay": (0.0, 0.02)}
BETAS = {**RATES, "betas": ((0.8, 0.95), (0.9, 0.99))}

PEERS = [
    Peer(
        "SGD",
        {"lr": 0.05, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01},
        ("momentum_buffer",),
        (),
        changes={**RATES, "momentum": (0.0, 0.5, 0.9)},
    ),
    Peer("Adagrad", {"lr": 0.1, "lr_decay": 0.02, "weight_decay": 0.01, "eps": 1e-3}, ("sum",), changes=RATES),
    Peer(
        "RMSprop",
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "momentum": 0.8, "centered": True, "weight_decay": 0.01},
        ("square_avg", "momentum_buffer", "grad_avg"),
        changes={**RATES, "momentum": (0.5, 0.9)},
    ),
    Peer(
        "Adadelta",
        {"lr": 0.7, "rho": 0.85, "eps": 1e-3, "weight_decay": 0.01},
        ("square_avg", "acc_delta"),
        changes={"weight_decay": (0.0, 0.02), "lr": (0.7, 0.2)},
    ),
    Peer(
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "amsgrad": True, "weight_decay": 0.01},
        ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
        changes=BETAS,
    ),
    Peer(
        "AdamW",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
        ("exp_avg", "exp_avg_sq"),
        changes=BETAS,
    ),
    Peer(
        "Adamax",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.01},
        ("exp_avg", "exp_inf"),
        changes=BETAS,
    ),
    Peer(
        "NAdam",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.01},
        ("exp_avg", "exp_avg_sq"),
        ("step", "mu_product"),
        changes=BETAS,
    ),
    # Its variance is only used from the sixth step on.
    Peer(
        "RAdam",
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.01},
        ("exp_avg", "exp_avg_sq"),
        steps_before=6,
        changes={**BETAS, "betas": ((0.8, 0.99), (0.9, 0.995))},
    ),
    Peer(
        "Rprop",
        {"lr": 0.01, "etas": (0.6, 1.3), "step_sizes": (0.004, 0.02)},
        ("prev", "step_size"),
        changes={"etas": ((0.6, 1.3), (0.5, 1.2)), "step_sizes": ((0.004, 0.02), (0.001, 0.015))},
    ),
    # The average is the parameter itself until the step after t0.
    Peer(
        "ASGD",
        {"lr": 0.05, "lambd": 0.1, "alpha": 0.6, "t0": 1.0, "weight_decay": 0.01},
        ("ax",),
        ("step", "eta", "mu"),
        steps_before=4,
        changes={**RATES, "t0": (1.0, 3.0)},
    ),
    Peer("Lion", {"lr": 0.01}, ("exp_avg",), changes={"lr": (0.01, 0.003)}),
]
BY_NAME = {peer.name: peer for peer in PEERS}
