"""LARS: momentum whose step in each tensor is as long as the tensor's own norm allows."""

from typing import Annotated

from annotated_types import Ge

from steprule.hyper import Meaning, Momentum, MomentumBuffer, Rate, Search, WeightDecay
from steprule.maths import norm, where
from steprule.rules.rule import Paper, rule

YOU_LARS = Paper(
    "You, Gitman, Ginsburg", 2017, "Large Batch Training of Convolutional Networks", "https://arxiv.org/abs/1708.03888"
)
Trust = Annotated[
    float, Ge(0), Meaning("share of the parameter's norm that a step may be", r"\kappa"), Search(1e-4, 1e-1)
]


@rule(title="LARS", family="layer-wise", paper=YOU_LARS)
def lars(
    p, g, momentum_buffer: MomentumBuffer,
    *, lr: Rate = 0.1, momentum: Momentum = 0.9, trust_coefficient: Trust = 1e-3, weight_decay: WeightDecay = 0.0,
):  # fmt: skip
    """LARS; a tensor whose parameter or gradient is all zero takes the plain step."""
    length = norm(g)
    if weight_decay:
        length = length + weight_decay * norm(p)
        g = g + weight_decay * p
    local = where(norm(p) > 0, where(length > 0, trust_coefficient * norm(p) / length, 1.0), 1.0)
    update = lr * local * g
    if momentum:
        if momentum_buffer is None:
            momentum_buffer = update
        else:
            momentum_buffer = momentum * momentum_buffer + update
        update = momentum_buffer
    return p - update, momentum_buffer
