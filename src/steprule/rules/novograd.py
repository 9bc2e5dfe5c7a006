"""NovoGrad: one second moment per tensor, and momentum over gradients that are normalised by it."""

from typing import Annotated, Any

from steprule.hyper import AbsentAtFirst, Decay, Epsilon, Letter, Meaning, OnePerTensor, Rate, WeightDecay
from steprule.maths import sqrt, sum, where
from steprule.rules.rule import Paper, rule

GINSBURG = Paper(
    "Ginsburg, Castonguay, Hrinchuk et al.",
    2019,
    "Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training of Deep Networks",
    "https://arxiv.org/abs/1905.11286",
)
Moments = Annotated[Any, AbsentAtFirst(), Letter("m")]
Squares = Annotated[Any, OnePerTensor(0.0), Letter("v")]
Averaging = Annotated[bool, Meaning("average the gradients in place of adding them up")]


@rule(title="NovoGrad", family="layer-wise", paper=GINSBURG)
def novograd(
    p, g, moments: Moments, grads_ema: Squares,
    *, lr: Rate = 1e-3, beta1: Decay = 0.95, beta2: Decay = 0.98, eps: Epsilon = 1e-8, weight_decay: WeightDecay = 0.0,
    grad_averaging: Averaging = False, t,
):  # fmt: skip
    """NovoGrad; both moments start at the first gradient, and weight decay goes into the momentum beside the normalised one."""
    squares = sum(g**2)
    # Two products and no lerp: where squares are infinite the tensor waits, and inf - inf would be nan.
    grads_ema = where(t > 1, beta2 * grads_ema + (1 - beta2) * squares, squares)
    u = g / (sqrt(grads_ema) + eps)
    if weight_decay:
        u = u + weight_decay * p
    if moments is None:
        moments = u
    elif grad_averaging:
        moments = beta1 * moments + (1 - beta1) * u
    else:
        moments = beta1 * moments + u
    return p - lr * moments, moments, grads_ema
