"""AdEMAMix: AdamW with two means of gradients, a fast one and one that remembers ten thousand steps."""

from typing import Annotated, Any

from annotated_types import Ge

from steprule.hyper import Decay, Epsilon, FirstMoment, Letter, Meaning, Neutral, OffAtZero, Rate, Search, SecondMoment
from steprule.maths import exp, lerp, log, minimum, sqrt, where
from steprule.rules.parts import before, decay
from steprule.rules.rule import Paper, rule

PAGLIARDINI = Paper(
    "Pagliardini, Ablin, Grangier",
    2024,
    "The AdEMAMix Optimizer: Better, Faster, Older",
    "https://arxiv.org/abs/2409.03137",
)
Slow = Annotated[Any, Letter("m^{s}")]
Mix = Annotated[float, Ge(0), Neutral(0), Meaning("how much the slow mean counts", r"\alpha"), Search(0.1, 20)]
WarmUp = Annotated[float, Ge(0), OffAtZero(), Meaning("steps until the slow mean counts in full", "T")]


@rule(family="Adam", paper=PAGLIARDINI)
def _undecayed(
    p, g, exp_avg: FirstMoment, exp_avg_slow: Slow, exp_avg_sq: SecondMoment,
    *, lr: Rate = 1e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, beta3: Decay = 0.9999, alpha: Mix = 5.0, warmup: WarmUp = 0.0,
    eps: Epsilon = 1e-8, t,
):  # fmt: skip
    """AdEMAMix without its weight decay."""
    slow = beta3
    if warmup:
        # The slow mean's half-life grows in a line from the fast one's; its share of the step grows in a line from nothing.
        s = minimum(t / warmup, 1.0)
        growing = exp(1 / ((1 - s) / log(beta1) + s / log(beta3)))
        slow = where(t < warmup, minimum(growing, beta3), beta3)
        alpha = alpha * s
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_slow = lerp(exp_avg_slow, g, 1 - slow)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
    m = exp_avg / (1 - beta1**t) + alpha * exp_avg_slow
    s_hat = sqrt(exp_avg_sq) / sqrt(1 - beta2**t)
    return p - lr * m / (s_hat + eps), exp_avg, exp_avg_slow, exp_avg_sq


ademamix = before(
    decay,
    _undecayed,
    name="ademamix",
    title="AdEMAMix",
    summary="AdEMAMix: the slow mean is not corrected for its start; warmup, if any, lets its half-life and its share grow.",
    decoupled_weight_decay=True,
)
