"""DoG: the step size is the largest distance from the start, over the root of all squares of gradients."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from annotated_types import Gt

from steprule.hyper import Epsilon, Letter, Meaning, OnePerModel, OnePerTensor, Rate, Search, StartsAt
from steprule.maths import maximum, sqrt, sum, total
from steprule.rules.rule import Paper, Rule, rule

IVGI = Paper(
    "Ivgi, Hinder, Carmon",
    2023,
    "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule",
    "https://arxiv.org/abs/2302.12022",
)

Anchor = Annotated[Any, StartsAt("p"), Letter(r"\theta_{0}")]
Distance = Annotated[float, OnePerModel(0.0), Letter(r"\bar{r}")]
Squares = Annotated[float, OnePerModel("eps"), Letter("G")]
OwnDistance = Annotated[float, OnePerTensor(0.0), Letter(r"\bar{r}")]
OwnSquares = Annotated[float, OnePerTensor("eps"), Letter("G")]
FirstDistance = Annotated[
    float,
    Gt(0),
    Meaning("distance that is taken as gone at first, in parts of 1 plus the norm of the start", r"r_{\epsilon}"),
    Search(1e-8, 1e-2),
]


def _dog(over: Callable[[Any], Any], distance: Any, sums: Any, name: str, title: str, summary: str) -> Rule:
    """The rule whose sums go `over` all tensors, or over one; its slots are numbers of the model, or of the tensor."""

    @rule(name=name, title=title, family="gradient descent", paper=IVGI)
    def stated(
        p, g, p0: Anchor, rbar: distance, squares: sums,
        *, lr: Rate = 1.0, reps_rel: FirstDistance = 1e-6, eps: Epsilon = 1e-8,
    ):  # fmt: skip
        first = reps_rel * (1 + sqrt(over(p0**2)))
        now = sqrt(over((p - p0) ** 2))
        rbar = maximum(maximum(rbar, first), now)
        squares = squares + over(g**2)
        return p - lr * rbar / sqrt(squares) * g, p0, rbar, squares

    return replace(stated, summary=summary)


dog = _dog(
    total, Distance, Squares, "dog", "DoG",
    "DoG; its learning rate is a factor of the one that it finds, and is left at 1. Its authors read the averaged weights.",
)  # fmt: skip
ldog = _dog(
    sum, OwnDistance, OwnSquares, "ldog", "LDoG",
    "DoG for each tensor on its own, as if it were the whole model.",
)  # fmt: skip
