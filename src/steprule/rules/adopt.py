"""ADOPT: Adam that divides by the second moment of the steps before, so that it converges with any beta2."""

from typing import Annotated, Any

from annotated_types import Ge

from steprule.hyper import AbsentAtFirst, Decay, Epsilon, FirstMoment, Letter, Meaning, Rate, Search, WeightDecay
from steprule.maths import clamp, lerp, maximum, sqrt
from steprule.rules.parts import Decoupled
from steprule.rules.rule import Paper, rule

TANIGUCHI = Paper(
    "Taniguchi, Harada, Minegishi, Oshima, Jeong, Nagahara, Iiyama, Suzuki, Iwasawa, Matsuo",
    2024,
    "ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal Rate",
    "https://arxiv.org/abs/2411.02853",
)
Late = Annotated[Any, AbsentAtFirst(), Letter("v")]
Power = Annotated[
    float, Ge(0), Meaning("power of the step by which the bound of an update grows"), Search(0.1, 0.9, "linear")
]


@rule(title="ADOPT", family="Adam", paper=TANIGUCHI)
def adopt(
    p, g, exp_avg: FirstMoment, exp_avg_sq: Late,
    *, lr: Rate = 1e-3, beta1: Decay = 0.9, beta2: Decay = 0.9999, eps: Epsilon = 1e-6, clip_exponent: Power = 0.25,
    weight_decay: WeightDecay = 0.0, decoupled_weight_decay: Decoupled = False, t,
):  # fmt: skip
    """ADOPT; the first step only begins the second moment and moves nothing, and updates are clipped as the authors do."""
    if weight_decay and not decoupled_weight_decay:
        g = g + weight_decay * p
    if exp_avg_sq is None:
        return p, exp_avg, g * g
    if weight_decay and decoupled_weight_decay:
        p = p * (1 - lr * weight_decay)
    bound = (t - 1) ** clip_exponent
    update = clamp(g / maximum(sqrt(exp_avg_sq), eps), -bound, bound)
    exp_avg = lerp(exp_avg, update, 1 - beta1)
    return p - lr * exp_avg, exp_avg, beta2 * exp_avg_sq + (1 - beta2) * g * g
