"""SM3: AdaGrad whose sums of squares are bounded from above by one number per row and one per column."""

from typing import Annotated, Any

from steprule.hyper import Epsilon, Letter, Momentum, PerColumn, PerRow, Rate
from steprule.maths import lerp, max, minimum, rows, sqrt
from steprule.rules.rule import Paper, rule

ANIL = Paper(
    "Anil, Gupta, Koren, Singer",
    2019,
    "Memory-Efficient Adaptive Optimization",
    "https://arxiv.org/abs/1901.11150",
)

Averaged = Annotated[Any, Letter("m")]
LargestOfRow = Annotated[Any, PerRow(), Letter("R")]
LargestOfColumn = Annotated[Any, PerColumn(), Letter("C")]


@rule(title="SM3", family="matrix", paper=ANIL, as_matrix=True)
def sm3(
    p, g, momentum_buffer: Averaged, row_max: LargestOfRow, col_max: LargestOfColumn,
    *, lr: Rate = 0.1, momentum: Momentum = 0.0, eps: Epsilon = 1e-30,
):  # fmt: skip
    """SM3-II; a vector keeps its sums of squares as AdaGrad does. A convolution is the matrix [out, in * k * k], with two bounds."""
    bound = minimum(row_max, col_max) if rows(p) > 1 else col_max
    v = bound + g**2
    row_max = max(v, axis=-1) if rows(p) > 1 else row_max
    col_max = max(v, axis=-2)
    u = g / sqrt(v + eps)
    if momentum:
        u = momentum_buffer = lerp(momentum_buffer, u, 1 - momentum)
    return p - lr * u, momentum_buffer, row_max, col_max
