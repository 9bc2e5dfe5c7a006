"""Adan: Nesterov's momentum by the difference of two gradients, in all of Adam's moments."""

from typing import Annotated, Any

from steprule.hyper import Decay, Epsilon, FirstMoment, Letter, Rate, SecondMoment, StartsAt, WeightDecay
from steprule.maths import lerp, sqrt
from steprule.rules.rule import Paper, rule

XIE = Paper(
    "Xie, Zhou, Li, Lin, Yan",
    2022,
    "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models",
    "https://arxiv.org/abs/2208.06677",
)
Last = Annotated[Any, StartsAt("g"), Letter("g'")]


@rule(title="Adan", family="Adam", paper=XIE)
def adan(
    p, g, exp_avg: FirstMoment, exp_avg_diff: Annotated[Any, Letter("d")], exp_avg_sq: SecondMoment, last_grad: Last,
    *, lr: Rate = 1e-3, beta1: Decay = 0.98, beta2: Decay = 0.92, beta3: Decay = 0.99, eps: Epsilon = 1e-8,
    weight_decay: WeightDecay = 0.0, t,
):  # fmt: skip
    """Adan; the betas are what is kept, as in the authors' code, and weight decay is a division behind the step."""
    change = g - last_grad
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_diff = lerp(exp_avg_diff, change, 1 - beta2)
    exp_avg_sq = beta3 * exp_avg_sq + (1 - beta3) * (g + beta2 * change) ** 2
    m_hat = exp_avg / (1 - beta1**t) + beta2 * exp_avg_diff / (1 - beta2**t)
    s_hat = sqrt(exp_avg_sq) / sqrt(1 - beta3**t)
    p = p - lr * m_hat / (s_hat + eps)
    if weight_decay:
        p = p / (1 + lr * weight_decay)
    return p, exp_avg, exp_avg_diff, exp_avg_sq, g
