"""LAMB: Adam whose step in each tensor is as long as the tensor's own norm."""

from steprule.hyper import Decay, Epsilon, FirstMoment, Rate, SecondMoment, WeightDecay
from steprule.maths import lerp, norm, sqrt, where
from steprule.rules.rule import Paper, rule

YOU_LAMB = Paper(
    "You, Li, Reddi et al.",
    2020,
    "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
    "https://arxiv.org/abs/1904.00962",
)


@rule(title="LAMB", family="layer-wise", paper=YOU_LAMB)
def lamb(
    p, g, exp_avg: FirstMoment, exp_avg_sq: SecondMoment,
    *, lr: Rate = 1e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-6, weight_decay: WeightDecay = 0.0, t,
):  # fmt: skip
    """LAMB; weight decay is part of the direction whose norm is taken, so it is the rule's own."""
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
    m_hat = exp_avg / (1 - beta1**t)
    s_hat = sqrt(exp_avg_sq) / sqrt(1 - beta2**t)  # sqrt(v_hat), where v_hat itself could overflow
    r = m_hat / (s_hat + eps)
    if weight_decay:
        r = r + weight_decay * p
    trust = where(norm(p) > 0, where(norm(r) > 0, norm(p) / norm(r), 1.0), 1.0)
    return p - lr * trust * r, exp_avg, exp_avg_sq
