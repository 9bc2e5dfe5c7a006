"""RMSProp: AdaGrad that forgets, so its steps need not shrink for ever."""

from math import inf
from typing import Annotated, Any

from steprule.hyper import Decay, Epsilon, Letter, Meaning, Momentum, Rate, SecondMoment
from steprule.maths import lerp, sqrt, where
from steprule.rules.rule import Paper, rule

TIELEMAN = Paper(
    "Tieleman, Hinton",
    2012,
    "Lecture 6.5: RMSProp, divide the gradient by a running average of its recent magnitude",
    "https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf",
)
Centered = Annotated[bool, Meaning("divide by the deviation from the mean gradient")]


@rule(title="RMSProp", family="adaptive", paper=TIELEMAN)
def rmsprop(
    p, g, square_avg: SecondMoment, grad_avg: Annotated[Any, Letter("m")], momentum_buffer: Annotated[Any, Letter("b")],
    *, lr: Rate = 0.01, alpha: Decay = 0.99, eps: Epsilon = 1e-8, momentum: Momentum = 0.0, centered: Centered = False,
):  # fmt: skip
    """RMSProp, epsilon outside the root, as torch has it; centered divides by the deviation (Graves, 2013)."""
    square_avg = alpha * square_avg + (1 - alpha) * g * g
    variance = square_avg
    if centered:
        grad_avg = lerp(grad_avg, g, 1 - alpha)
        # Where square_avg has overflowed, the square of the mean may have too, and inf - inf would be lost for good.
        variance = where(square_avg < inf, square_avg - grad_avg * grad_avg, square_avg)
    update = g / (sqrt(variance) + eps)
    if momentum:
        momentum_buffer = momentum * momentum_buffer + update
        update = momentum_buffer
    return p - lr * update, square_avg, grad_avg, momentum_buffer


@rule(title="RMSProp, ε inside", family="adaptive", paper=TIELEMAN)
def rmsprop_eps_inside(p, g, square_avg: SecondMoment, *, lr: Rate = 0.01, alpha: Decay = 0.9, eps: Epsilon = 1e-6):
    """RMSProp, epsilon inside the root, as Dive into Deep Learning has it."""
    square_avg = alpha * square_avg + (1 - alpha) * g * g
    return p - lr * g / sqrt(square_avg + eps), square_avg
