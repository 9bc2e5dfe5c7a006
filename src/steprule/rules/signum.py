"""Signum: the sign of a mean of gradients, which needs one bit per element where many machines train."""

from typing import Annotated, Any

from steprule.hyper import Decay, Letter, Rate
from steprule.maths import lerp, sign
from steprule.rules.parts import before, decay
from steprule.rules.rule import Paper, rule

BERNSTEIN = Paper(
    "Bernstein, Wang, Azizzadenesheli, Anandkumar",
    2018,
    "signSGD: Compressed Optimisation for Non-Convex Problems",
    "https://arxiv.org/abs/1802.04434",
)


@rule(family="sign", paper=BERNSTEIN)
def _undecayed(p, g, momentum_buffer: Annotated[Any, Letter("b")], *, lr: Rate = 1e-3, momentum: Decay = 0.9):
    """Signum without its weight decay."""
    momentum_buffer = lerp(momentum_buffer, g, 1 - momentum)
    return p - lr * sign(momentum_buffer), momentum_buffer


# Through the gradient, weight decay would be lost in the sign: each element would move by lr, however large it is.
signum = before(
    decay,
    _undecayed,
    name="signum",
    title="Signum",
    summary="Signum: the sign of a mean of gradients; momentum=0 is signSGD, and weight decay is decoupled.",
    decoupled_weight_decay=True,
)
