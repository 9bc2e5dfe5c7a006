"""ASGD: gradient descent whose rate falls, and the mean of the points that it went through."""

from typing import Annotated, Any

from annotated_types import Ge

from steprule.hyper import Letter, Meaning, OnePerTensor, Rate, Search
from steprule.maths import abs, maximum, where
from steprule.rules.rule import Paper, rule

POLYAK = Paper(
    "Polyak, Juditsky",
    1992,
    "Acceleration of Stochastic Approximation by Averaging",
    "https://doi.org/10.1137/0330046",
)
Eta = Annotated[float, OnePerTensor("lr"), Letter(r"\gamma")]
Mu = Annotated[float, OnePerTensor(1.0), Letter(r"\mu")]
Average = Annotated[Any, Letter(r"\bar{\theta}")]
Fall = Annotated[
    float, Ge(0), Meaning("how fast the rate falls, and the decay of the parameter", r"\lambda"), Search(1e-6, 1e-1)
]
Power = Annotated[float, Ge(0), Meaning("power of the falling rate", r"\alpha"), Search(0.5, 1.0, "linear")]
Begin = Annotated[float, Ge(0), Meaning("step at which the averaging starts", "t_0")]


@rule(title="ASGD", family="averaging", paper=POLYAK)
def asgd(
    p, g, eta: Eta, mu: Mu, ax: Average,
    *, lr: Rate = 0.01, lambd: Fall = 1e-4, alpha: Power = 0.75, t0: Begin = 1e6, t,
):  # fmt: skip
    """ASGD as torch has it: the average is a state, and the rate of a step was set at the end of the step before."""
    p = p * (1 - lambd * eta) - eta * g
    ax = where(abs(mu - 1) > 0, ax + mu * (p - ax), p)
    return p, lr / (1 + lambd * lr * t) ** alpha, 1 / maximum(t - t0, 1), ax
