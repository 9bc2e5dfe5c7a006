"""Gradient descent, with momentum and Nesterov's momentum as options."""

from typing import Annotated

from steprule.hyper import Dampening, Meaning, Momentum, MomentumBuffer, Rate
from steprule.rules.rule import Paper, rule

SUTSKEVER = Paper(
    "Sutskever, Martens, Dahl, Hinton",
    2013,
    "On the importance of initialization and momentum in deep learning",
    "https://proceedings.mlr.press/v28/sutskever13.html",
)
Nesterov = Annotated[bool, Meaning("take the momentum's step before it is made")]


@rule(title="gradient descent", family="gradient descent", paper=SUTSKEVER)
def sgd(
    p, g, momentum_buffer: MomentumBuffer,
    *, lr: Rate = 1e-3, momentum: Momentum = 0.0, dampening: Dampening = 0.0, nesterov: Nesterov = False,
):  # fmt: skip
    """Gradient descent; with momentum, a ball that rolls on."""
    if momentum:
        if momentum_buffer is None:
            momentum_buffer = g
        else:
            momentum_buffer = momentum * momentum_buffer + (1 - dampening) * g
        g = g + momentum * momentum_buffer if nesterov else momentum_buffer
    return p - lr * g, momentum_buffer
