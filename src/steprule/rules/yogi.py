"""Yogi: Adam whose second moment moves by the squared gradient's size alone, so that it cannot jump."""

from typing import Annotated, Any

from annotated_types import Ge

from steprule.hyper import Decay, Epsilon, Letter, Meaning, Rate, Search, StartsAt
from steprule.maths import lerp, sqrt, where
from steprule.rules.rule import Paper, rule

ZAHEER = Paper(
    "Zaheer, Reddi, Sachan, Kale, Kumar",
    2018,
    "Adaptive Methods for Nonconvex Optimization",
    "https://papers.nips.cc/paper/8186-adaptive-methods-for-nonconvex-optimization",
)
First = Annotated[Any, StartsAt("initial_accumulator"), Letter("m")]
Second = Annotated[Any, StartsAt("initial_accumulator"), Letter("v")]
Begin = Annotated[float, Ge(0), Meaning("value at which both moments start"), Search(1e-8, 1e-2)]


@rule(title="Yogi", family="Adam", paper=ZAHEER)
def yogi(
    p, g, exp_avg: First, exp_avg_sq: Second,
    *, lr: Rate = 1e-2, beta1: Decay = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-3, initial_accumulator: Begin = 1e-6, t,
):  # fmt: skip
    """Yogi; both moments start at a number above zero, and are corrected for a start at zero all the same."""
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    # The paper's sign of v - g**2, case by case: where both are infinite it stays, and inf - inf would be nan.
    change = (1 - beta2) * g**2
    fewer = where(exp_avg_sq > g**2, exp_avg_sq - change, exp_avg_sq)
    exp_avg_sq = where(exp_avg_sq < g**2, exp_avg_sq + change, fewer)
    m_hat = exp_avg / (1 - beta1**t)
    s_hat = sqrt(exp_avg_sq) / sqrt(1 - beta2**t)
    return p - lr * m_hat / (s_hat + eps), exp_avg, exp_avg_sq
