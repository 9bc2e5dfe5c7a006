"""AdaDelta: the root of past updates over the root of past gradients; the learning rate is gone, or 1."""

from typing import Annotated, Any

from steprule.hyper import Decay, Epsilon, Letter, Rate, SecondMoment
from steprule.maths import sqrt
from steprule.rules.rule import Paper, rule

ZEILER = Paper("Zeiler", 2012, "ADADELTA: An Adaptive Learning Rate Method", "https://arxiv.org/abs/1212.5701")


@rule(title="AdaDelta", family="adaptive", paper=ZEILER)
def adadelta(
    p, g, square_avg: SecondMoment, acc_delta: Annotated[Any, Letter("u")],
    *, lr: Rate = 1.0, rho: Decay = 0.9, eps: Epsilon = 1e-6,
):  # fmt: skip
    """AdaDelta, epsilon inside both roots, as the paper and torch have it."""
    square_avg = rho * square_avg + (1 - rho) * g * g
    delta = sqrt(acc_delta + eps) / sqrt(square_avg + eps) * g
    acc_delta = rho * acc_delta + (1 - rho) * delta * delta
    return p - lr * delta, square_avg, acc_delta
