"""Lion: the sign of an interpolated momentum, so every element moves by the same amount."""

from steprule.hyper import Decay, FirstMoment, Rate
from steprule.maths import lerp, sign
from steprule.rules.parts import before, decay
from steprule.rules.rule import Paper, rule

CHEN = Paper(
    "Chen, Liang, Huang, Real, Wang et al.",
    2023,
    "Symbolic Discovery of Optimization Algorithms",
    "https://arxiv.org/abs/2302.06675",
)


@rule(family="sign", paper=CHEN)
def _undecayed(p, g, exp_avg: FirstMoment, *, lr: Rate = 1e-4, beta1: Decay = 0.9, beta2: Decay = 0.99):
    """Lion without its weight decay."""
    c = lerp(exp_avg, g, 1 - beta1)
    exp_avg = lerp(exp_avg, g, 1 - beta2)
    return p - lr * sign(c), exp_avg


# Through the gradient, weight decay would be lost in the sign: each element would move by lr, however large it is.
lion = before(
    decay,
    _undecayed,
    name="lion",
    title="Lion",
    summary="Lion; weight decay is decoupled, as the paper has it, unless decoupled_weight_decay=False.",
    fix_flags=False,
    decoupled_weight_decay=True,
)
