"""CAME: Adafactor's step, averaged, and the shorter the further single steps are from their average."""

from typing import Annotated, Any

from annotated_types import Ge, Gt

from steprule.hyper import (
    Decay,
    FirstMoment,
    Letter,
    Meaning,
    PerColumn,
    PerRow,
    Rate,
    Search,
    SecondMoment,
    WeightDecay,
)
from steprule.maths import lerp, maximum, mean, ndim, norm, size, sqrt
from steprule.rules.rule import Paper, rule

LUO = Paper(
    "Luo, Ren, Zheng, Jiang, Jiang, You",
    2023,
    "CAME: Confidence-guided Adaptive Memory Efficient Optimization",
    "https://arxiv.org/abs/2307.02047",
)

RowSquare = Annotated[Any, PerRow(), Letter("R")]
ColumnSquare = Annotated[Any, PerColumn(), Letter("C")]
RowDoubt = Annotated[Any, PerRow(), Letter(r"\hat{R}")]
ColumnDoubt = Annotated[Any, PerColumn(), Letter(r"\hat{C}")]
LeastSquare = Annotated[
    float, Ge(0), Meaning("added to each square of the gradient", r"\epsilon_{1}"), Search(1e-30, 1e-6)
]
LeastDoubt = Annotated[
    float,
    Ge(0),
    Meaning("added to each square of what a step is off its average", r"\epsilon_{2}"),
    Search(1e-16, 1e-3),
]
Threshold = Annotated[float, Gt(0), Meaning("root mean square above which a step is clipped", "d"), Search(0.1, 10.0)]


def root(row: Any, column: Any) -> Any:
    """The root of the matrix of rank one whose means along rows and columns these are; the product itself may be too small for float32."""
    return sqrt(row / mean(row, axis=-2)) * sqrt(column)


@rule(title="CAME", family="matrix", paper=LUO)
def came(
    p, g, exp_avg: FirstMoment, exp_avg_sq_row: RowSquare, exp_avg_sq_col: ColumnSquare, exp_avg_res_row: RowDoubt,
    exp_avg_res_col: ColumnDoubt, exp_avg_sq: SecondMoment,
    *, lr: Rate = 2e-4, beta1: Decay = 0.9, beta2: Decay = 0.999, beta3: Decay = 0.9999, eps1: LeastSquare = 1e-30,
    eps2: LeastDoubt = 1e-16, clip_threshold: Threshold = 1.0, weight_decay: WeightDecay = 0.0,
):  # fmt: skip
    """CAME as its authors' class has it: nothing is corrected for its start, and a vector has no doubt, only the average of its steps."""
    square = g**2 + eps1
    if ndim(p) > 1:
        exp_avg_sq_row = lerp(exp_avg_sq_row, mean(square, axis=-1), 1 - beta2)
        exp_avg_sq_col = lerp(exp_avg_sq_col, mean(square, axis=-2), 1 - beta2)
        u = g / root(exp_avg_sq_row, exp_avg_sq_col)
    else:
        exp_avg_sq = lerp(exp_avg_sq, square, 1 - beta2)
        u = g / sqrt(exp_avg_sq)
    clipped = u / maximum(1, norm(u) / (sqrt(size(u)) * clip_threshold))
    exp_avg = step = lerp(exp_avg, clipped, 1 - beta1)
    if ndim(p) > 1:
        doubt = (clipped - exp_avg) ** 2 + eps2
        exp_avg_res_row = lerp(exp_avg_res_row, mean(doubt, axis=-1), 1 - beta3)
        exp_avg_res_col = lerp(exp_avg_res_col, mean(doubt, axis=-2), 1 - beta3)
        step = exp_avg / root(exp_avg_res_row, exp_avg_res_col)
    p = p * (1 - lr * weight_decay) if weight_decay else p
    return p - lr * step, exp_avg, exp_avg_sq_row, exp_avg_sq_col, exp_avg_res_row, exp_avg_res_col, exp_avg_sq
