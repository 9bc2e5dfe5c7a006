"""NAdam: Adam with Nesterov's momentum, whose momentum grows with the step."""

from typing import Annotated

from annotated_types import Ge

from steprule.hyper import Decay, Epsilon, FirstMoment, Letter, Meaning, OnePerTensor, Rate, Search, SecondMoment
from steprule.maths import sqrt
from steprule.rules.rule import Paper, rule

DOZAT = Paper(
    "Dozat", 2016, "Incorporating Nesterov Momentum into Adam", "https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ"
)
MuProduct = Annotated[float, OnePerTensor(start=1.0), Letter(r"\Pi")]
MomentumDecay = Annotated[float, Ge(0), Meaning("how fast the momentum nears beta1", r"\psi"), Search(1e-4, 1e-1)]


@rule(paper=DOZAT)
def nadam(
    p, g, exp_avg: FirstMoment, exp_avg_sq: SecondMoment, mu_product: MuProduct,
    *, lr: Rate = 2e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-8,
    momentum_decay: MomentumDecay = 4e-3, t,
):  # fmt: skip
    """NAdam: the momentum is applied ahead of time, one step early."""
    mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    mu_product = mu_product * mu
    exp_avg = beta1 * exp_avg + (1 - beta1) * g
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    m_hat = mu_next / (1 - mu_product * mu_next) * exp_avg + (1 - mu) / (1 - mu_product) * g
    v_hat = exp_avg_sq / (1 - beta2**t)
    return p - lr * m_hat / (sqrt(v_hat) + eps), exp_avg, exp_avg_sq, mu_product
