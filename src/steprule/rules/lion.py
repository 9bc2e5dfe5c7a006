"""Lion: the sign of an interpolated momentum, so every element moves by the same amount."""

from steprule.hyper import Decay, FirstMoment, Rate
from steprule.maths import sign
from steprule.rules.rule import Paper, rule

CHEN = Paper(
    "Chen, Liang, Huang, Real, Wang et al.",
    2023,
    "Symbolic Discovery of Optimization Algorithms",
    "https://arxiv.org/abs/2302.06675",
)


@rule(paper=CHEN)
def lion(p, g, exp_avg: FirstMoment, *, lr: Rate = 1e-4, beta1: Decay = 0.9, beta2: Decay = 0.99):
    """Lion; with weight decay, decouple it as the paper does (decoupled_weight_decay=True)."""
    c = beta1 * exp_avg + (1 - beta1) * g
    exp_avg = beta2 * exp_avg + (1 - beta2) * g
    return p - lr * sign(c), exp_avg
