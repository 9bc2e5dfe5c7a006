"""LaProp: the gradient is normalised first and averaged then, so that momentum and adaptivity do not meet."""

from typing import Annotated, Any

from steprule.hyper import Decay, Epsilon, Letter, OnePerTensor, Rate, SecondMoment
from steprule.maths import sqrt, where
from steprule.rules.rule import Paper, rule

ZIYIN = Paper(
    "Ziyin, Wang, Ueda", 2020, "LaProp: Separating Momentum and Adaptivity in Adam", "https://arxiv.org/abs/2002.04839"
)
MeanRate = Annotated[float, OnePerTensor(0.0), Letter(r"\bar{\gamma}")]


@rule(title="LaProp", family="Adam", paper=ZIYIN)
def laprop(
    p, g, exp_avg: Annotated[Any, Letter("m")], exp_avg_sq: SecondMoment, exp_avg_lr: MeanRate,
    *, lr: Rate = 4e-4, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-15, t,
):  # fmt: skip
    """LaProp; each gradient counts with the learning rate of its own step, and the mean of these rates corrects for the start."""
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
    s_hat = sqrt(exp_avg_sq) / sqrt(1 - beta2**t)
    exp_avg = beta1 * exp_avg + (1 - beta1) * lr * g / (s_hat + eps)
    # With one learning rate it is (1 - beta1**t) lr, and its share of lr is Adam's correction.
    exp_avg_lr = beta1 * exp_avg_lr + (1 - beta1) * lr
    return p - exp_avg * where(exp_avg_lr > 0, lr / exp_avg_lr, 0.0), exp_avg, exp_avg_sq, exp_avg_lr
