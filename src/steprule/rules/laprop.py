"""LaProp: the gradient is normalised first and averaged then, so that momentum and adaptivity do not meet."""

from typing import Annotated, Any

from steprule.hyper import Decay, Epsilon, Letter, Rate, SecondMoment
from steprule.maths import sqrt
from steprule.rules.rule import Paper, rule

ZIYIN = Paper(
    "Ziyin, Wang, Ueda", 2020, "LaProp: Separating Momentum and Adaptivity in Adam", "https://arxiv.org/abs/2002.04839"
)


@rule(title="LaProp", family="Adam", paper=ZIYIN)
def laprop(
    p, g, exp_avg: Annotated[Any, Letter("m")], exp_avg_sq: SecondMoment,
    *, lr: Rate = 4e-4, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-15, t,
):  # fmt: skip
    """LaProp; each gradient counts with the learning rate of its own step, as the authors have it."""
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
    s_hat = sqrt(exp_avg_sq) / sqrt(1 - beta2**t)
    exp_avg = beta1 * exp_avg + (1 - beta1) * lr * g / (s_hat + eps)
    return p - exp_avg / (1 - beta1**t), exp_avg, exp_avg_sq
