"""Adafactor: Adam's second moment kept as one number per row and one per column of a matrix."""

from typing import Annotated, Any

from annotated_types import Ge, Le

from steprule.hyper import Letter, Meaning, PerColumn, PerRow, Rate, Search, WeightDecay
from steprule.maths import lerp, maximum, mean, minimum, ndim, norm, size, sqrt
from steprule.rules.rule import Paper, rule

SHAZEER = Paper(
    "Shazeer, Stern",
    2018,
    "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
    "https://arxiv.org/abs/1804.04235",
)

Power = Annotated[
    float, Le(0), Meaning("power of the step with which new squares weigh", r"\tau"), Search(-1.0, -0.5, "linear")
]
LeastRoot = Annotated[
    float,
    Ge(0),
    Meaning("least root of an estimated square; torch takes the dtype's own epsilon", r"\epsilon_{1}"),
    Search(1e-10, 1e-3),
]
LeastScale = Annotated[
    float, Ge(0), Meaning("least root mean square that a parameter counts as", r"\epsilon_{2}"), Search(1e-5, 0.1)
]
Threshold = Annotated[float, Ge(1), Meaning("root mean square above which a step is clipped", "d"), Search(1.0, 10.0)]


@rule(title="Adafactor", family="matrix", paper=SHAZEER)
def adafactor(
    p, g, row_var: Annotated[Any, PerRow(), Letter("R")], col_var: Annotated[Any, PerColumn(), Letter("C")],
    variance: Annotated[Any, Letter("v")],
    *, lr: Rate = 1e-2, beta2_decay: Power = -0.8, eps1: LeastRoot = 2**-23, eps2: LeastScale = 1e-3, d: Threshold = 1.0,
    weight_decay: WeightDecay = 0.0, t,
):  # fmt: skip
    """Adafactor as torch has it: the step is in parts of the parameter's own root mean square, and clipped by its own."""
    share = t**beta2_decay
    length = maximum(eps2, norm(p) / sqrt(size(p))) * minimum(lr, 1 / sqrt(t))
    if ndim(p) > 1:
        row_var = lerp(row_var, mean(g**2, axis=-1), share)
        col_var = lerp(col_var, mean(g**2, axis=-2), share)
        v = row_var * col_var / maximum(mean(row_var, axis=-2), eps1)
    else:
        v = variance = lerp(variance, g**2, share)
    u = g / sqrt(maximum(v, eps1**2))
    clip = maximum(1, norm(u) / (sqrt(size(u)) * d))
    p = p * (1 - lr * weight_decay) if weight_decay else p
    return p - length / clip * u, row_var, col_var, variance
