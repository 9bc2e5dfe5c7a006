"""Adam: momentum and RMSProp, both corrected for their start at zero; AdamW decouples the weight decay."""

from typing import Annotated, Any

from steprule.hyper import Decay, Epsilon, FirstMoment, Letter, Meaning, Rate, SecondMoment
from steprule.maths import lerp, maximum, sqrt
from steprule.rules.parts import before, decay
from steprule.rules.rule import Paper, rule

KINGMA = Paper("Kingma, Ba", 2015, "Adam: A Method for Stochastic Optimization", "https://arxiv.org/abs/1412.6980")
LOSHCHILOV = Paper(
    "Loshchilov, Hutter", 2019, "Decoupled Weight Decay Regularization", "https://arxiv.org/abs/1711.05101"
)
Amsgrad = Annotated[bool, Meaning("divide by the largest second moment so far")]


@rule(title="Adam", family="Adam", paper=KINGMA)
def adam(
    p, g, exp_avg: FirstMoment, exp_avg_sq: SecondMoment, max_exp_avg_sq: Annotated[Any, Letter(r"v^{\max}")],
    *, lr: Rate = 1e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-8, amsgrad: Amsgrad = False, t,
):  # fmt: skip
    """Adam; amsgrad divides by the largest second moment so far (Reddi, Kale, Kumar, 2018)."""
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
    v = exp_avg_sq
    if amsgrad:
        max_exp_avg_sq = maximum(max_exp_avg_sq, exp_avg_sq)
        v = max_exp_avg_sq
    m_hat = exp_avg / (1 - beta1**t)
    s_hat = sqrt(v) / sqrt(1 - beta2**t)  # sqrt(v_hat), where v_hat itself could overflow
    return p - lr * m_hat / (s_hat + eps), exp_avg, exp_avg_sq, max_exp_avg_sq


adamw = before(
    decay,
    adam,
    name="adamw",
    title="AdamW",
    summary="Adam with decoupled weight decay: the parameter shrinks beside the step, not through the gradient.",
    paper=LOSHCHILOV,
    weight_decay=0.01,
    decoupled_weight_decay=True,
)
