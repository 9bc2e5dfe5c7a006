"""Prodigy: Adam that finds its learning rate, from how far all parameters have come along their gradients."""

from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt

from steprule.hyper import (
    Decay,
    Epsilon,
    FirstMoment,
    Letter,
    Meaning,
    Neutral,
    OnePerModel,
    Rate,
    Search,
    SecondMoment,
    StartsAt,
    WeightDecay,
)  # fmt: skip
from steprule.maths import abs, maximum, minimum, sqrt, total, where
from steprule.rules.rule import Paper, rule

MISHCHENKO_DEFAZIO = Paper(
    "Mishchenko and Defazio",
    2023,
    "Prodigy: An Expeditiously Adaptive Parameter-Free Learner",
    "https://arxiv.org/abs/2306.06101",
)

Anchor = Annotated[Any, StartsAt("p"), Letter(r"\theta_{0}")]
Distance = Annotated[float, OnePerModel("d0"), Letter("d")]
LargestDistance = Annotated[float, OnePerModel("d0"), Letter(r"d_{\max}")]
Progress = Annotated[float, OnePerModel(0.0), Letter("r")]
DistanceDecay = Annotated[
    float,
    Ge(0),
    Lt(1),
    Meaning("decay of what the distance is estimated from; 0: the root of beta2", r"\beta_3"),
    Search(0.5, 0.9999, "complement"),
]
FirstDistance = Annotated[float, Gt(0), Meaning("first estimate of the distance", "d_0"), Search(1e-8, 1e-2)]
Coefficient = Annotated[float, Gt(0), Meaning("factor of each estimate of the distance", "c_d"), Search(0.1, 10.0)]
Growth = Annotated[
    float,
    Ge(0),
    Neutral(0),
    Meaning("most that the distance grows by in a step; 0: no limit", r"\gamma"),
    Search(1.01, 10.0),
]
Corrected = Annotated[bool, Meaning("correct the bias of both moments")]
Safeguard = Annotated[bool, Meaning("leave the learning rate out of the estimate, as for a warm-up")]
Decoupled = Annotated[bool, Meaning("decay beside the step, not through the gradient")]


@rule(title="Prodigy", family="Adam", paper=MISHCHENKO_DEFAZIO)
def prodigy(
    p, g, s, p0: Anchor, exp_avg: FirstMoment, exp_avg_sq: SecondMoment, d: Distance, d_max: LargestDistance, d_numerator: Progress,
    *, lr: Rate = 1.0, beta1: Decay = 0.9, beta2: Decay = 0.999, d_decay: DistanceDecay = 0.0, eps: Epsilon = 1e-8,
    d0: FirstDistance = 1e-6, d_coef: Coefficient = 1.0, growth_rate: Growth = 0.0, use_bias_correction: Corrected = False,
    safeguard_warmup: Safeguard = False, weight_decay: WeightDecay = 0.0, decoupled_weight_decay: Decoupled = True, t,
):  # fmt: skip
    """Prodigy; its learning rate is a factor of the one that it finds, and is left at 1."""
    if weight_decay and not decoupled_weight_decay:
        g = g + weight_decay * p
    keep = where(d_decay > 0, d_decay, sqrt(beta2))
    rate = d * lr
    if use_bias_correction:
        rate = rate * sqrt(1 - beta2**t) / (1 - beta1**t)
    d_numerator = keep * d_numerator + total(d / d0 * rate * (g * (p0 - p)))
    s = keep * s + d / d0 * (d if safeguard_warmup else rate) * g
    exp_avg = beta1 * exp_avg + (1 - beta1) * d * g
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * d**2 * g * g
    length = total(abs(s))
    d_hat = where(length > 0, d_coef * d_numerator / length, d)
    d_max = maximum(d_max, d_hat)
    d = where(d == d0, maximum(d, d_hat), d)
    d = where(growth_rate > 0, minimum(d_max, d * growth_rate), d_max)
    if weight_decay and decoupled_weight_decay:
        p = p * (1 - rate * weight_decay)
    return p - rate * exp_avg / (sqrt(exp_avg_sq) + d * eps), s, p0, exp_avg, exp_avg_sq, d, d_max, d_numerator
