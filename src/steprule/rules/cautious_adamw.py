"""Cautious AdamW: AdamW that moves no element against its gradient."""

from steprule.hyper import Decay, Epsilon, FirstMoment, Rate, SecondMoment
from steprule.maths import lerp, maximum, size, sqrt, sum, where
from steprule.rules.parts import before, decay
from steprule.rules.rule import Paper, rule

LIANG = Paper(
    "Liang, Chen, Liu, Liu",
    2024,
    "Cautious Optimizers: Improving Training with One Line of Code",
    "https://arxiv.org/abs/2411.16085",
)


@rule(family="Adam", paper=LIANG)
def _undecayed(
    p, g, exp_avg: FirstMoment, exp_avg_sq: SecondMoment,
    *, lr: Rate = 1e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-8, t,
):  # fmt: skip
    """Cautious AdamW without its weight decay."""
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
    agree = exp_avg * g > 0
    share = sum(agree) / size(g)
    m_hat = exp_avg / (1 - beta1**t)
    s_hat = sqrt(exp_avg_sq) / sqrt(1 - beta2**t)
    step = where(agree, m_hat / (s_hat + eps), 0.0) / maximum(share, 1e-3)
    return p - lr * step, exp_avg, exp_avg_sq


cautious_adamw = before(
    decay,
    _undecayed,
    name="cautious_adamw",
    title="Cautious AdamW",
    summary="AdamW that waits where momentum and gradient disagree; the others' steps grow as the waiting ones' share does.",
    weight_decay=0.01,
    decoupled_weight_decay=True,
)
