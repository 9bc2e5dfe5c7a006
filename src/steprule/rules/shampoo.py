"""Shampoo: AdaGrad with a matrix in place of each sum of squares, one for the rows and one for the columns."""

from typing import Annotated, Any

from annotated_types import Ge, Gt

from steprule.hyper import Letter, Meaning, Momentum, PerColumn, PerRow, Rate, Search, Square
from steprule.maths import columns, inverse_root, rows, sum
from steprule.rules.rule import Paper, rule

GUPTA = Paper(
    "Gupta, Koren, Singer",
    2018,
    "Shampoo: Preconditioned Stochastic Tensor Optimization",
    "https://arxiv.org/abs/1802.09568",
)

Buffer = Annotated[Any, Letter("m")]
Left = Annotated[Any, Square("rows"), Letter("L")]
Right = Annotated[Any, Square("columns"), Letter("R")]
LeftRoot = Annotated[Any, Square("rows"), Letter("P")]
RightRoot = Annotated[Any, Square("columns"), Letter("Q")]
RowSquares = Annotated[Any, PerRow(), Letter("l")]
ColumnSquares = Annotated[Any, PerColumn(), Letter("r")]
Ridge = Annotated[
    float, Gt(0), Meaning("where each sum starts: this many times the identity", r"\epsilon"), Search(1e-8, 1.0)
]
Largest = Annotated[int, Ge(1), Meaning("rows or columns above which of a side's matrix the diagonal is kept alone")]
Every = Annotated[float, Ge(1), Meaning("steps from one computation of the roots to the next", "f"), Search(1, 100)]


@rule(title="Shampoo", family="matrix", paper=GUPTA, as_matrix=True)
def shampoo(
    p, g, momentum_buffer: Buffer, left: Left, right: Right, left_root: LeftRoot, right_root: RightRoot,
    row_squares: RowSquares, col_squares: ColumnSquares,
    *, lr: Rate = 0.1, momentum: Momentum = 0.0, eps: Ridge = 1e-4, precondition_frequency: Every = 1.0,
    max_precondition_dim: Largest = 1200, t,
):  # fmt: skip
    """Shampoo of a matrix, or of a vector as one side; a convolution is [out, in * k * k]. No grafting, no blocks, no forgetting."""
    has_left = rows(p) > 1
    has_right = columns(p) > 1 or not has_left
    k = 4 if has_left and has_right else 2  # two for each side
    due = (t - 1) % precondition_frequency == 0
    u = g
    if momentum:
        u = momentum_buffer = momentum * momentum_buffer + g
    if has_left and rows(p) <= max_precondition_dim:
        left = left + g @ g.T
        if due:
            left_root = inverse_root(left, k, eps)
        u = left_root @ u
    elif has_left:
        row_squares = row_squares + sum(g**2, axis=-1)
        u = u / (row_squares + eps) ** (1 / k)
    if has_right and columns(p) <= max_precondition_dim:
        right = right + g.T @ g
        if due:
            right_root = inverse_root(right, k, eps)
        u = u @ right_root
    elif has_right:
        col_squares = col_squares + sum(g**2, axis=-2)
        u = u / (col_squares + eps) ** (1 / k)
    return p - lr * u, momentum_buffer, left, right, left_root, right_root, row_squares, col_squares
