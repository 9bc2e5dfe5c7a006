"""SOAP: Adam in the basis of Shampoo's preconditioner, whose eigenvectors are turned along now and then."""

from typing import Annotated, Any

from annotated_types import Ge

from steprule.hyper import (
    Decay,
    Epsilon,
    FirstMoment,
    Letter,
    Meaning,
    Rate,
    Search,
    SecondMoment,
    Square,
    WeightDecay,
)
from steprule.macros import turned, whitening
from steprule.maths import columns, lerp, rows, sort_by, sqrt
from steprule.rules.rule import Paper, rule

VYAS = Paper(
    "Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson, Kakade",
    2024,
    "SOAP: Improving and Stabilizing Shampoo using Adam",
    "https://arxiv.org/abs/2409.11321",
)

Left = Annotated[Any, Square("rows"), Letter("L")]
Right = Annotated[Any, Square("columns"), Letter("R")]
LeftBasis = Annotated[Any, Square("rows"), Letter("Q_{L}")]
RightBasis = Annotated[Any, Square("columns"), Letter("Q_{R}")]
Largest = Annotated[int, Ge(1), Meaning("rows or columns above which a side keeps its own axes")]
Every = Annotated[float, Ge(1), Meaning("steps from one turn of the bases to the next", "f"), Search(1, 100)]


@rule(title="SOAP", family="matrix", paper=VYAS, as_matrix=True)
def soap(
    p, g, exp_avg: FirstMoment, exp_avg_sq: SecondMoment, left: Left, right: Right, left_basis: LeftBasis, right_basis: RightBasis,
    *, lr: Rate = 3e-3, beta1: Decay = 0.95, beta2: Decay = 0.95, eps: Epsilon = 1e-8, weight_decay: WeightDecay = 0.01,
    precondition_frequency: Every = 10.0, max_precondition_dim: Largest = 10_000, t,
):  # fmt: skip
    """SOAP; a vector, or a side of more than `max_precondition_dim`, keeps its own axes. The first gradient makes the bases only."""
    is_matrix = rows(p) > 1 and columns(p) > 1
    has_left = is_matrix and rows(p) <= max_precondition_dim
    has_right = is_matrix and columns(p) <= max_precondition_dim
    left = lerp(left, g @ g.T, 1 - beta2) if has_left else left
    right = lerp(right, g.T @ g, 1 - beta2) if has_right else right
    if t == 1:
        left_basis = whitening(left) if has_left else left_basis
        right_basis = whitening(right) if has_right else right_basis
        return p, exp_avg, exp_avg_sq, left, right, left_basis, right_basis

    def into(x: Any) -> Any:
        x = left_basis.T @ x if has_left else x
        return x @ right_basis if has_right else x

    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = lerp(exp_avg_sq, into(g) ** 2, 1 - beta2)
    u = into(exp_avg) / (sqrt(exp_avg_sq) + eps)
    u = left_basis @ u if has_left else u
    u = u @ right_basis.T if has_right else u
    p = p - lr * sqrt(1 - beta2 ** (t - 1)) / (1 - beta1 ** (t - 1)) * u
    p = p * (1 - lr * weight_decay) if weight_decay else p
    if (t - 1) % precondition_frequency == 0:
        if has_left:
            left_basis, keys = turned(left, left_basis)
            exp_avg_sq = sort_by(exp_avg_sq, keys.T, axis=-2)
        if has_right:
            right_basis, keys = turned(right, right_basis)
            exp_avg_sq = sort_by(exp_avg_sq, keys, axis=-1)
    return p, exp_avg, exp_avg_sq, left, right, left_basis, right_basis
