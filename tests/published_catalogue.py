"""Rules of the catalogue that torch has not, each beside the implementation that others use.

Where pytorch_optimizer departs from the authors, a reference below says in which number, and is given what undoes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_optimizer as po
import torch
from published import Published
from tolerances import PUBLISHED_BESIDE_TINY

from steprule import rules


def uncorrected_eps(make: Callable[..., torch.optim.Optimizer], beta2: float, eps: float) -> torch.optim.Optimizer:
    """pytorch_optimizer corrects the eps of some classes for the start of v; it is given that much more at each step."""
    optimizer = make()
    steps = iter(range(1, 1_000_000))

    def larger(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        t = next(steps)
        for group in optimizer.param_groups:
            group["eps"] = eps * (1 - beta2**t) ** 0.5

    optimizer.register_step_pre_hook(larger)
    return optimizer


class CautiousAdamW(torch.optim.AdamW):
    """torch's AdamW, of whose step each element is taken, or not: the paper's one line. pytorch_optimizer has other factors."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        before = {p: p.detach().clone() for group in self.param_groups for p in group["params"]}
        super().step()
        for group in self.param_groups:
            for p in group["params"]:
                decayed = before[p] * (1 - group["lr"] * group["weight_decay"])
                mask = (self.state[p]["exp_avg"] * p.grad > 0).to(p.dtype)
                p.copy_(decayed + (p - decayed) * mask / mask.mean().clamp(min=1e-3))


def adopt_by(
    params: Any,
    beta1: float,
    beta2: float,
    clip_exponent: float,
    decoupled_weight_decay: bool,
    weight_decay: float,
    **same: Any,
) -> torch.optim.Optimizer:
    """Its clip is one step ahead of the authors', and its decoupled decay begins at the step that moves nothing of theirs."""
    begins = 0.0 if decoupled_weight_decay else weight_decay
    optimizer = po.ADOPT(
        params, betas=(beta1, beta2), clip_lambda=lambda t: (t - 1) ** clip_exponent, weight_decouple=decoupled_weight_decay,
        weight_decay=begins, foreach=False, **same,
    )  # fmt: skip

    def goes_on(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            group["weight_decay"] = weight_decay

    optimizer.register_step_post_hook(goes_on)
    return optimizer


def laprop_by(params: Any, beta1: float, beta2: float, eps: float, **same: Any) -> torch.optim.Optimizer:
    return uncorrected_eps(lambda: po.LaProp(params, betas=(beta1, beta2), foreach=False, **same), beta2, eps)


def mars_by(params: Any, beta1: float, beta2: float, eps: float, **same: Any) -> torch.optim.Optimizer:
    return uncorrected_eps(
        lambda: po.MARS(params, betas=(beta1, beta2), optimize_1d=True, foreach=False, **same), beta2, eps
    )


adabelief = Published(
    rules.adabelief,
    lambda params, beta1, beta2, amsgrad, **same: po.AdaBelief(
        params, betas=(beta1, beta2), ams_bound=amsgrad, foreach=False, **same
    ),
    {"lr": 0.03, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True},
)
yogi = Published(
    rules.yogi,
    lambda params, beta1, beta2, initial_accumulator, **same: po.Yogi(
        params, betas=(beta1, beta2), initial_accumulator=initial_accumulator, foreach=False, **same
    ),
    {"lr": 0.03, "beta1": 0.8, "beta2": 0.95, "eps": 2e-3, "initial_accumulator": 0.02},
)
adan = Published(
    rules.adan,
    lambda params, beta1, beta2, beta3, **same: po.Adan(params, betas=(beta1, beta2, beta3), foreach=False, **same),
    {"lr": 0.03, "beta1": 0.8, "beta2": 0.7, "beta3": 0.95, "eps": 1e-3, "weight_decay": 0.1},
)
ademamix = Published(
    rules.ademamix,
    lambda params, beta1, beta2, beta3, warmup, **same: po.AdEMAMix(
        params, betas=(beta1, beta2, beta3), t_alpha_beta3=warmup, weight_decouple=True, foreach=False, **same
    ),
    {
        "lr": 0.03, "beta1": 0.8, "beta2": 0.95, "beta3": 0.99, "alpha": 3.0, "warmup": 7.5, "eps": 1e-3, "weight_decay": 0.1,
    },
)  # fmt: skip
adopt = Published(
    rules.adopt,
    adopt_by,
    {
        "lr": 0.03, "beta1": 0.8, "beta2": 0.95, "clip_exponent": 0.2, "eps": 0.3, "weight_decay": 0.2,
        "decoupled_weight_decay": True,
    },
)  # fmt: skip
mars = Published(
    rules.mars,
    mars_by,
    {"lr": 0.03, "beta1": 0.8, "beta2": 0.95, "gamma": 0.1, "eps": 1e-3, "weight_decay": 0.1},
    tolerance=PUBLISHED_BESIDE_TINY,
)
cautious_adamw = Published(
    rules.cautious_adamw,
    lambda params, beta1, beta2, **same: CautiousAdamW(params, betas=(beta1, beta2), foreach=False, **same),
    {"lr": 0.03, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.2},
)
laprop = Published(
    rules.laprop,
    laprop_by,
    {"lr": 0.03, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3},
    tolerance=PUBLISHED_BESIDE_TINY,
)
stable_adamw = Published(
    rules.stable_adamw,
    lambda params, beta1, beta2, **same: po.StableAdamW(params, betas=(beta1, beta2), foreach=False, **same),
    {"lr": 0.03, "beta1": 0.8, "beta2": 0.95, "eps": 0.2, "weight_decay": 0.2},
)
signum = Published(
    rules.signum,
    lambda params, **same: po.SignSGD(params, foreach=False, **same),
    {"lr": 0.03, "momentum": 0.7, "weight_decay": 0.1},
)
novograd = Published(
    rules.novograd,
    lambda params, beta1, beta2, **same: po.NovoGrad(params, betas=(beta1, beta2), foreach=False, **same),
    {"lr": 0.03, "beta1": 0.8, "beta2": 0.7, "eps": 0.1, "weight_decay": 0.1, "grad_averaging": True},
)
