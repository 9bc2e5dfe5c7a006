"""Muon: momentum whose matrix is made orthogonal, so that no direction of it is larger than another."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt

from steprule.hyper import Epsilon, Letter, Meaning, Neutral, Rate, Search, WeightDecay
from steprule.macros import Triple, polar
from steprule.maths import cast, columns, lerp, maximum, rows, sqrt
from steprule.rules.rule import Paper, rule

JORDAN_MUON = Paper(
    "Jordan et al.",
    2024,
    "Muon: An optimizer for hidden layers in neural networks",
    "https://kellerjordan.github.io/posts/muon/",
)

Buffer = Annotated[Any, Letter("B")]
Kept = Annotated[
    float, Ge(0), Lt(1), Neutral(0), Meaning("decay of the momentum", r"\mu"), Search(0.5, 0.9999, "complement")
]
Coefficients = tuple[Annotated[float, Meaning("coefficient of Newton-Schulz", "c")], ...]
Scale = Annotated[
    Literal["original", "match_rms_adamw", "spectral"], Meaning("how the length of a step follows from the shape")
]
Precision = Annotated[
    Literal["bfloat16", "full"], Meaning("in which dtype Newton-Schulz iterates; full is the parameter's")
]
Nesterov = Annotated[bool, Meaning("look ahead: the step is of the momentum that comes next")]
Steps = Annotated[int, Ge(1), Meaning("steps of Newton-Schulz")]


def adjusted(lr: Any, p: Any, scale: str) -> Any:
    """The learning rate of a matrix by its shape, in one of the published ways."""
    if (
        scale == "match_rms_adamw"
    ):  # Liu et al., 2025, https://arxiv.org/abs/2502.16982: as long as AdamW's steps mostly are
        return lr * 0.2 * sqrt(maximum(rows(p), columns(p)))
    if scale == "spectral":  # Pethick et al., 2025, https://arxiv.org/abs/2502.07529
        return lr * sqrt(rows(p) / columns(p))
    return lr * sqrt(maximum(1, rows(p) / columns(p)))


def orthogonal(u: Any, coefficients: Any, steps: int, eps: Any, precision: str) -> Any:
    """The orthogonal factor of u by the same Newton-Schulz step several times; torch takes it in bfloat16."""
    step: Triple = coefficients
    return polar(cast(u, "bfloat16") if precision == "bfloat16" else u, [step] * steps, eps)


@rule(title="Muon", family="matrix", paper=JORDAN_MUON, as_matrix=True)
def muon(
    p, g, momentum_buffer: Buffer,
    *, lr: Rate = 1e-3, weight_decay: WeightDecay = 0.1, momentum: Kept = 0.95, nesterov: Nesterov = True,
    ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315), eps: Epsilon = 1e-7, ns_steps: Steps = 5,
    adjust_lr_fn: Scale = "original", precision: Precision = "bfloat16",
):  # fmt: skip
    """Muon as torch has it: Newton-Schulz in bfloat16, decoupled weight decay, a step as long as the shape of the matrix says."""
    momentum_buffer = lerp(momentum_buffer, g, 1 - momentum)
    u = lerp(g, momentum_buffer, momentum) if nesterov else momentum_buffer
    o = orthogonal(u, ns_coefficients, ns_steps, eps, precision)
    p = p * (1 - lr * weight_decay) if weight_decay else p
    return p - adjusted(lr, p, adjust_lr_fn) * o, momentum_buffer
