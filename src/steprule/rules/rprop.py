"""Rprop: a step size per element that grows while the gradient's sign stays, and shrinks where it turns."""

from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt

from steprule.hyper import Letter, Meaning, Rate, Search, StartsAt
from steprule.maths import clamp, sign, where
from steprule.rules.rule import Paper, rule

RIEDMILLER = Paper(
    "Riedmiller, Braun",
    1993,
    "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm",
    "https://doi.org/10.1109/ICNN.1993.298623",
)
Shrink = Annotated[
    float,
    Gt(0),
    Lt(1),
    Meaning("factor of the step size where the sign turns", r"\eta^{-}"),
    Search(0.2, 0.95, "linear"),
]
Grow = Annotated[
    float, Gt(1), Meaning("factor of the step size where the sign stays", r"\eta^{+}"), Search(1.01, 2.0, "linear")
]
Least = Annotated[float, Ge(0), Meaning("smallest step size", r"\Gamma^{\min}")]
Most = Annotated[float, Gt(0), Meaning("largest step size", r"\Gamma^{\max}")]
StepSize = Annotated[Any, StartsAt("lr"), Letter(r"\Delta")]


@rule(title="Rprop", family="sign", paper=RIEDMILLER)
def rprop(
    p, g, prev: Annotated[Any, Letter("g'")], step_size: StepSize,
    *, lr: Rate = 0.01, etas: tuple[Shrink, Grow] = (0.5, 1.2), step_sizes: tuple[Least, Most] = (1e-6, 50.0),
):  # fmt: skip
    """Rprop; the learning rate is the first step size, and an element whose sign has just turned waits for a step."""
    shrink, grow = etas
    least, most = step_sizes
    turn = sign(g * prev)
    step_size = where(turn > 0, grow * step_size, where(turn < 0, shrink * step_size, step_size))
    step_size = clamp(step_size, least, most)
    g = where(turn < 0, 0.0, g)
    return p - step_size * sign(g), g, step_size
