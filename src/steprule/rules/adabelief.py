"""AdaBelief: Adam whose second moment is the gradient's distance from its own mean."""

from typing import Annotated, Any

from steprule.hyper import Decay, Epsilon, FirstMoment, Letter, Rate
from steprule.maths import lerp, maximum, sqrt
from steprule.rules.adam import Amsgrad
from steprule.rules.parts import before, decay
from steprule.rules.rule import Paper, rule

ZHUANG = Paper(
    "Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris, Duncan",
    2020,
    "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients",
    "https://arxiv.org/abs/2010.07468",
)


@rule(family="Adam", paper=ZHUANG)
def _undecayed(
    p, g, exp_avg: FirstMoment, exp_avg_var: Annotated[Any, Letter("s")], max_exp_avg_var: Annotated[Any, Letter(r"s^{\max}")],
    *, lr: Rate = 1e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-16, amsgrad: Amsgrad = False, t,
):  # fmt: skip
    """AdaBelief without its weight decay."""
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_var = beta2 * exp_avg_var + (1 - beta2) * (g - exp_avg) ** 2 + eps
    s = exp_avg_var
    if amsgrad:
        max_exp_avg_var = maximum(max_exp_avg_var, exp_avg_var)
        s = max_exp_avg_var
    m_hat = exp_avg / (1 - beta1**t)
    s_hat = sqrt(s) / sqrt(1 - beta2**t)
    return p - lr * m_hat / (s_hat + eps), exp_avg, exp_avg_var, max_exp_avg_var


adabelief = before(
    decay,
    _undecayed,
    name="adabelief",
    title="AdaBelief",
    summary="AdaBelief, not rectified; epsilon is added to the variance at each step and once more to its root, as the authors have it.",
    decoupled_weight_decay=True,
)
