"""MARS: AdamW by gradients from which a share of their change is taken, against the noise of small batches."""

from typing import Annotated, Any

from annotated_types import Ge

from steprule.hyper import Decay, Epsilon, FirstMoment, Letter, Meaning, Neutral, Rate, Search, SecondMoment
from steprule.maths import lerp, maximum, norm, sqrt
from steprule.rules.parts import before, decay
from steprule.rules.rule import Paper, rule

YUAN = Paper(
    "Yuan, Liu, Wu, Zhou, Gu",
    2024,
    "MARS: Unleashing the Power of Variance Reduction for Training Large Models",
    "https://arxiv.org/abs/2411.10438",
)
Gamma = Annotated[
    float, Ge(0), Neutral(0), Meaning("how much of the gradient's change counts", r"\gamma"), Search(1e-3, 1)
]


@rule(family="Adam", paper=YUAN)
def _undecayed(
    p, g, exp_avg: FirstMoment, exp_avg_sq: SecondMoment, last_grad: Annotated[Any, Letter("g'")],
    *, lr: Rate = 3e-3, beta1: Decay = 0.95, beta2: Decay = 0.99, gamma: Gamma = 0.025, eps: Epsilon = 1e-8, t,
):  # fmt: skip
    """MARS without its weight decay."""
    c = g + gamma * beta1 / (1 - beta1) * (g - last_grad)
    c = c / maximum(norm(c), 1.0)
    exp_avg = lerp(exp_avg, c, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * c * c
    m_hat = exp_avg / (1 - beta1**t)
    s_hat = sqrt(exp_avg_sq) / sqrt(1 - beta2**t)
    return p - lr * m_hat / (s_hat + eps), exp_avg, exp_avg_sq, g


mars = before(
    decay,
    _undecayed,
    name="mars",
    title="MARS",
    summary="MARS-AdamW in its approximate form, for vectors too: the last step's gradient stands for the last point's on this batch.",
    decoupled_weight_decay=True,
)
