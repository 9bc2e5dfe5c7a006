"""Scion: each step is the longest one within a ball, whose norm is chosen for each kind of layer."""

from typing import Annotated, Any, Literal

from annotated_types import Gt, Le

from steprule.hyper import Epsilon, Letter, Meaning, Neutral, Rate, Search, WeightDecay
from steprule.maths import columns, lerp, norm, rows, sign, size, sqrt
from steprule.rules.muon import Coefficients, Precision, Steps, orthogonal
from steprule.rules.rule import Paper, rule

PETHICK = Paper(
    "Pethick, Xie, Antonakopoulos, Zhu, Silveti-Falls, Cevher",
    2025,
    "Training Deep Learning Models with Norm-Constrained LMOs",
    "https://arxiv.org/abs/2502.07529",
)

Ball = Annotated[Literal["spectral", "sign", "row", "column", "rms"], Meaning("the norm whose ball the step lies in")]
Constrained = Annotated[bool, Meaning("keep the parameter itself within the ball")]
Share = Annotated[
    float,
    Gt(0),
    Le(1),
    Neutral(1),
    Meaning("share of the new gradient in the running one", r"\alpha"),
    Search(0.01, 1.0),
]
Radius = Annotated[float, Gt(0), Meaning("radius of the ball", r"\rho"), Search(0.1, 3000.0)]


def longest(d: Any, ball: str, step: Any, eps: Any) -> Any:
    """The longest matrix along d within the ball of radius 1 of a norm; `step` gives the orthogonal factor."""
    if ball == "spectral":  # of hidden layers, from RMS norm to RMS norm
        return sqrt(rows(d) / columns(d)) * step(d)
    if ball == "sign":  # of the last layer: no output moves by more than 1
        return sign(d) / columns(d)
    if ball == "row":
        return d / (sqrt(columns(d)) * norm(d, axis=-1) + eps)
    if ball == "column":  # of embeddings with one column for each token
        return d / (norm(d, axis=-2) / sqrt(rows(d)) + eps)
    return d / (norm(d) / sqrt(size(d)) + eps)  # of biases


@rule(title="Scion", family="matrix", paper=PETHICK, as_matrix=True)
def scion(
    p, g, d: Annotated[Any, Letter("d")],
    *, lr: Rate = 1e-3, momentum: Share = 0.1, weight_decay: WeightDecay = 0.0, ball: Ball = "spectral", scale: Radius = 1.0,
    constrained: Constrained = False, ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315), eps: Epsilon = 1e-8,
    ns_eps: Epsilon = 1e-7, ns_steps: Steps = 5, precision: Precision = "bfloat16",
):  # fmt: skip
    """Scion for one kind of layer; `constrained` keeps the parameter itself within `scale` of zero, in that norm."""
    d = lerp(d, g, momentum)
    u = longest(d, ball, lambda x: orthogonal(x, ns_coefficients, ns_steps, ns_eps, precision), eps)
    if constrained:
        p = p * (1 - lr)
    elif weight_decay:
        p = p * (1 - lr * weight_decay)
    return p - lr * scale * u, d
