"""AdaGrad: each element divides by the root of all its squared gradients so far, so its steps only ever shrink."""

from typing import Annotated, Any

from steprule.hyper import Epsilon, Letter, Rate, RateDecay, Start, StartsAt
from steprule.maths import sqrt
from steprule.rules.rule import Paper, rule

DUCHI = Paper(
    "Duchi, Hazan, Singer",
    2011,
    "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
    "https://jmlr.org/papers/v12/duchi11a.html",
)
Sum = Annotated[Any, StartsAt("initial_accumulator_value"), Letter("s")]


@rule(title="AdaGrad", family="adaptive", paper=DUCHI)
def adagrad(
    p, g, sum: Sum,
    *, lr: Rate = 0.01, lr_decay: RateDecay = 0.0, initial_accumulator_value: Start = 0.0, eps: Epsilon = 1e-10, t,
):  # fmt: skip
    """AdaGrad, epsilon outside the root, as torch has it."""
    sum = sum + g**2
    eta = lr / (1 + (t - 1) * lr_decay)
    return p - eta * g / (sqrt(sum) + eps), sum


@rule(title="AdaGrad, ε inside", family="adaptive", paper=DUCHI)
def adagrad_eps_inside(p, g, sum: Annotated[Any, Letter("s")], *, lr: Rate = 0.01, eps: Epsilon = 1e-6):
    """AdaGrad, epsilon inside the root, as Dive into Deep Learning has it."""
    sum = sum + g**2
    return p - lr * g / sqrt(sum + eps), sum
