"""D-Adapted Adam: Adam that finds its learning rate, from a lower bound of the way from start to solution."""

from typing import Annotated

from annotated_types import Gt

from steprule.hyper import Decay, FirstMoment, Meaning, Rate, Search, SecondMoment, WeightDecay
from steprule.maths import abs, maximum, minimum, sqrt, total, where
from steprule.rules.prodigy import Corrected, Decoupled, Distance, FirstDistance, Growth, Progress
from steprule.rules.rule import Paper, rule

DEFAZIO_MISHCHENKO = Paper(
    "Defazio and Mishchenko",
    2023,
    "Learning-Rate-Free Learning by D-Adaptation",
    "https://arxiv.org/abs/2301.07733",
)

Epsilon = Annotated[float, Gt(0), Meaning("keeps the denominator from zero", r"\epsilon"), Search(1e-10, 1e-3)]
"""Above zero: the second moment of the estimate is zero at the first step."""


@rule(title="DAdaptAdam", family="Adam", paper=DEFAZIO_MISHCHENKO)
def dadapt_adam(
    p, g, s, exp_avg: FirstMoment, exp_avg_sq: SecondMoment, d: Distance, numerator: Progress,
    *, lr: Rate = 1.0, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-8, d0: FirstDistance = 1e-6,
    growth_rate: Growth = 0.0, use_bias_correction: Corrected = False, weight_decay: WeightDecay = 0.0,
    decoupled_weight_decay: Decoupled = False, t,
):  # fmt: skip
    """D-Adapted Adam; its learning rate is a factor of the one that it finds, and is left at 1."""
    if weight_decay and not decoupled_weight_decay:
        g = g + weight_decay * p
    keep = sqrt(beta2)
    rate = d * lr
    if use_bias_correction:
        rate = rate * sqrt(1 - beta2**t) / (1 - beta1**t)
    numerator = keep * numerator + (1 - keep) * total(rate * (g * s / (sqrt(exp_avg_sq) + eps)))
    exp_avg = beta1 * exp_avg + (1 - beta1) * rate * g
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
    s = keep * s + (1 - keep) * rate * g
    length = total(abs(s))
    d_hat = where(length > 0, numerator / ((1 - keep) * length), d)
    d = maximum(d, where(growth_rate > 0, minimum(d_hat, d * growth_rate), d_hat))
    if weight_decay and decoupled_weight_decay:
        p = p * (1 - rate * weight_decay)
    return p - exp_avg / (sqrt(exp_avg_sq) + eps), s, exp_avg, exp_avg_sq, d, numerator
