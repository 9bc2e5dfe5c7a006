"""RAdam: Adam that trusts its second moment only when it has seen enough gradients to know it."""

from steprule.hyper import Decay, Epsilon, FirstMoment, Rate, SecondMoment
from steprule.maths import lerp, sqrt, where
from steprule.rules.rule import Paper, rule

LIU = Paper(
    "Liu, Jiang, He, Chen, Liu, Gao, Han",
    2020,
    "On the Variance of the Adaptive Learning Rate and Beyond",
    "https://arxiv.org/abs/1908.03265",
)


@rule(title="RAdam", family="Adam", paper=LIU)
def radam(
    p, g, exp_avg: FirstMoment, exp_avg_sq: SecondMoment,
    *, lr: Rate = 1e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-8, t,
):  # fmt: skip
    """RAdam: momentum alone while rho_t, the length of the average, is at most 5; then Adam, rectified by r."""
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
    m_hat = exp_avg / (1 - beta1**t)
    rho_inf = 2 / (1 - beta2) - 1
    rho_t = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    r = sqrt((rho_t - 4) * (rho_t - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho_t))
    ell = sqrt(1 - beta2**t) / (sqrt(exp_avg_sq) + eps)
    return p - lr * m_hat * where(rho_t > 5, r * ell, 1.0), exp_avg, exp_avg_sq
