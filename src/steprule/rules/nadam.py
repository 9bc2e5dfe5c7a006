"""NAdam: Adam with Nesterov's momentum, whose momentum grows with the step."""

from typing import Annotated

from annotated_types import Ge

from steprule.hyper import Decay, Epsilon, FirstMoment, Letter, Meaning, OnePerTensor, Rate, Search, SecondMoment
from steprule.maths import lerp, sqrt
from steprule.rules.rule import Paper, rule

DOZAT = Paper(
    "Dozat", 2016, "Incorporating Nesterov Momentum into Adam", "https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ"
)
MuProduct = Annotated[float, OnePerTensor(start=1.0), Letter(r"\Pi")]
MomentumDecay = Annotated[float, Ge(0), Meaning("how fast the momentum nears beta1", r"\psi"), Search(1e-4, 1e-1)]


@rule(title="NAdam", family="Adam", paper=DOZAT)
def nadam(
    p, g, exp_avg: FirstMoment, exp_avg_sq: SecondMoment, mu_product: MuProduct,
    *, lr: Rate = 2e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-8,
    momentum_decay: MomentumDecay = 4e-3, t,
):  # fmt: skip
    """NAdam: the momentum is applied ahead of time, one step early."""
    mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    mu_product = mu_product * mu
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
    eta_next, eta = lr * mu_next / (1 - mu_product * mu_next), lr * (1 - mu) / (1 - mu_product)
    s_hat = sqrt(exp_avg_sq) / sqrt(1 - beta2**t)  # sqrt(v_hat), where v_hat itself could overflow
    return p - (eta_next * exp_avg + eta * g) / (s_hat + eps), exp_avg, exp_avg_sq, mu_product
