"""NorMuon: Muon with each row divided by the root of its running mean square, so that no neuron is left behind."""

from typing import Annotated, Any

from steprule.hyper import Decay, Epsilon, Letter, PerRow, Rate, WeightDecay
from steprule.maths import lerp, mean, norm, sqrt
from steprule.rules.muon import Buffer, Coefficients, Kept, Nesterov, Precision, Scale, Steps, adjusted, orthogonal
from steprule.rules.rule import Paper, rule

LI_NORMUON = Paper(
    "Li, Liu, Liang, Chen, Zhao",
    2025,
    "NorMuon: Making Muon more efficient and scalable",
    "https://arxiv.org/abs/2510.05491",
)

RowMoment = Annotated[Any, PerRow(), Letter("v")]


@rule(title="NorMuon", family="matrix", paper=LI_NORMUON, as_matrix=True)
def normuon(
    p, g, buffer: Buffer, row_moment: RowMoment,
    *, lr: Rate = 0.02, weight_decay: WeightDecay = 0.0, momentum: Kept = 0.95, beta2: Decay = 0.95, nesterov: Nesterov = True,
    ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315), eps: Epsilon = 1e-10, ns_eps: Epsilon = 1e-7,
    ns_steps: Steps = 5, adjust_lr_fn: Scale = "original", precision: Precision = "bfloat16",
):  # fmt: skip
    """NorMuon as its authors' code has it: what the rows are divided by leaves the norm of the whole step as it was."""
    buffer = lerp(buffer, g, 1 - momentum)
    u = lerp(g, buffer, momentum) if nesterov else buffer
    o = orthogonal(u, ns_coefficients, ns_steps, ns_eps, precision)
    row_moment = lerp(row_moment, mean(o**2, axis=-1), 1 - beta2)
    n = o / (sqrt(row_moment) + eps)
    length = adjusted(lr, p, adjust_lr_fn) * norm(o) / (norm(n) + eps)
    p = p * (1 - lr * weight_decay) if weight_decay else p
    return p - length * n, buffer, row_moment
