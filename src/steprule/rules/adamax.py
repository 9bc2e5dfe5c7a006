"""AdaMax: Adam with the infinity norm in place of the second moment."""

from typing import Annotated, Any

from steprule.hyper import Decay, Epsilon, FirstMoment, Letter, Rate
from steprule.maths import abs, lerp, maximum
from steprule.rules.adam import KINGMA
from steprule.rules.rule import rule


@rule(title="AdaMax", family="Adam", paper=KINGMA)
def adamax(
    p, g, exp_avg: FirstMoment, exp_inf: Annotated[Any, Letter("u")],
    *, lr: Rate = 2e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-8, t,
):  # fmt: skip
    """AdaMax, epsilon beside the gradient's absolute value, as torch has it (section 7.1 of Adam's paper)."""
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_inf = maximum(beta2 * exp_inf, abs(g) + eps)
    return p - lr / (1 - beta1**t) * exp_avg / exp_inf, exp_avg, exp_inf
