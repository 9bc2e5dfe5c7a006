"""Sophia divides an average of gradients by an average of the Hessian's diagonal, and clips what comes out."""

from typing import Annotated, Any

from annotated_types import Gt

from steprule.hyper import Decay, Epsilon, FirstMoment, GivenTensor, Letter, Meaning, Rate, Search
from steprule.maths import clamp, maximum
from steprule.rules.parts import before, decay
from steprule.rules.rule import Paper, rule

LIU = Paper(
    "Liu, Li, Hall, Liang, Ma",
    2023,
    "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training",
    "https://arxiv.org/abs/2305.14342",
)
Curvature = Annotated[Any, Letter("h")]
Clip = Annotated[float, Gt(0), Meaning("largest step, in units of the learning rate", r"\rho"), Search(1e-3, 1.0)]


@rule(family="Adam", paper=LIU)
def _undecayed(
    p, g, exp_avg: FirstMoment, hessian_moment: Curvature,
    *, lr: Rate = 6e-2, beta1: Decay = 0.96, beta2: Decay = 0.99, rho: Clip = 1e-2, eps: Epsilon = 1e-12,
    hessian: GivenTensor(every=10),  # type: ignore[valid-type]
):  # fmt: skip
    """Sophia without its weight decay."""
    exp_avg = beta1 * exp_avg + (1 - beta1) * g
    if hessian is not None:
        hessian_moment = beta2 * hessian_moment + (1 - beta2) * hessian
    return p - lr * clamp(exp_avg / maximum(hessian_moment, eps), -rho, rho), exp_avg, hessian_moment


sophia = before(
    decay,
    _undecayed,
    name="sophia",
    title="Sophia",
    summary="Sophia-H: every tenth step looks a second time, for Hutchinson's estimate of the Hessian's diagonal.",
    decoupled_weight_decay=True,
)
