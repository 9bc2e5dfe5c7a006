"""StableAdamW: AdamW with Adafactor's clipping of the update, against spikes of the loss."""

from steprule.hyper import Decay, Epsilon, FirstMoment, Rate, SecondMoment, WeightDecay
from steprule.maths import lerp, maximum, mean, sqrt
from steprule.rules.rule import Paper, rule

WORTSMAN = Paper(
    "Wortsman, Dettmers, Zettlemoyer, Morcos, Farhadi, Schmidt",
    2023,
    "Stable and Low-Precision Training for Large-Scale Vision-Language Models",
    "https://arxiv.org/abs/2304.13013",
)


@rule(title="StableAdamW", family="Adam", paper=WORTSMAN)
def stable_adamw(
    p, g, exp_avg: FirstMoment, exp_avg_sq: SecondMoment,
    *, lr: Rate = 1e-3, beta1: Decay = 0.9, beta2: Decay = 0.99, eps: Epsilon = 1e-8, weight_decay: WeightDecay = 0.01, t,
):  # fmt: skip
    """StableAdamW; a tensor whose gradient outgrows its second moment is stepped, and decayed, by a smaller rate."""
    # Decays that begin at 0: the moments need no correction for their start.
    keep1 = (beta1**t - beta1) / (beta1**t - 1)
    keep2 = (beta2**t - beta2) / (beta2**t - 1)
    exp_avg = lerp(exp_avg, g, 1 - keep1)
    exp_avg_sq = keep2 * exp_avg_sq + (1 - keep2) * g**2
    # Squared behind the division: a gradient whose square is infinite counts as nothing, and not as nan.
    rate = lr / maximum(sqrt(mean((g / maximum(sqrt(exp_avg_sq), eps)) ** 2)), 1.0)
    if weight_decay:
        p = p * (1 - rate * weight_decay)
    return p - rate * exp_avg / (sqrt(exp_avg_sq) + eps), exp_avg, exp_avg_sq
