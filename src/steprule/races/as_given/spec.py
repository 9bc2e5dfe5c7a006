"""Who runs: an optimizer at given settings, under a label. The tutorial's own runs are a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Literal

from torch import nn

from steprule.problems import catalogue
from steprule.problems.problem import Problem
from steprule.races import stated
from steprule.rules.parts import for_training
from steprule.rules.rule import Rule
from steprule.trainable import Optimizable, Trainable

Form = Literal["formula", "class"]


@dataclass(frozen=True)
class Entry:
    """One who runs in a race."""

    label: str
    optimizer: Optimizable
    hypers: Mapping[str, Any] = field(default_factory=dict)
    method: str = ""
    """What the reader calls it; the same for a rule and the class that does the same."""
    book: tuple[float, ...] = ()
    """The final losses that the tutorial's two editions print, where they do."""
    model: Callable[[], nn.Module] | None = None
    """Makes its model in place of the problem's own: other first weights, say."""

    def trains(self, task: Problem) -> Problem:
        """The problem with this entry's own model, where it has one."""
        return task if self.model is None else replace(task, model=self.model)

    @property
    def form(self) -> Form:
        """Whether it runs as a rule, from its formula, or as a class of torch's kind."""
        return "formula" if Trainable.of(self.optimizer).is_rule else "class"

    def to_spec(self, task: Problem) -> dict[str, Any]:
        """What decides its results, as plain values; `task` lends a class its first parameters."""
        what = Trainable.of(self.optimizer).what
        hypers = self.hypers
        if isinstance(what, Rule):
            rule = for_training(what)
            bound = rule.bind(self.hypers)
            hypers = {n: bound[n] for n in rule.settings}
        return {"label": self.label, **stated.of_optimizer(what, hypers, task, shown=hypers)}


TORCHS = partial(nn.Linear, 5, 1)
"""The model of the tutorial's cells with torch's classes: with the first weights that torch gives it."""

# Settings: FACTS of the chapter on AdaGrad, RMSProp, AdaDelta and Adam. Gradient descent and momentum at the settings of
# the same book's chapters on minibatch gradient descent (batch 10) and on momentum; for those no figures are quoted.
TUTORIAL: tuple[Entry, ...] = (
    Entry("SGD formula", "sgd", {"lr": 0.05}, "SGD"),
    Entry("SGD class", "torch.optim.SGD", {"lr": 0.05}, "SGD", model=TORCHS),
    Entry("Momentum formula", "sgd", {"lr": 0.02, "momentum": 0.5}, "Momentum"),
    Entry("Momentum class", "torch.optim.SGD", {"lr": 0.02, "momentum": 0.5}, "Momentum", model=TORCHS),
    Entry("AdaGrad formula", "adagrad_eps_inside", {"lr": 0.1, "eps": 1e-6}, "AdaGrad", (0.242541, 0.243675)),
    Entry("AdaGrad class", "torch.optim.Adagrad", {"lr": 0.1}, "AdaGrad", (0.243147,), model=TORCHS),
    Entry(
        "RMSProp formula",
        "rmsprop_eps_inside",
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-6},
        "RMSProp",
        (0.242014, 0.243452),
    ),
    Entry("RMSProp class", "torch.optim.RMSprop", {"lr": 0.01, "alpha": 0.9}, "RMSProp", (0.243676,), model=TORCHS),
    Entry("AdaDelta formula", "adadelta", {"rho": 0.9, "eps": 1e-5}, "AdaDelta", (0.246483, 0.243728)),
    Entry("AdaDelta class", "torch.optim.Adadelta", {"rho": 0.9}, "AdaDelta", (0.242104,), model=TORCHS),
    Entry(
        "Adam formula", "adam", {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-6}, "Adam", (0.243004, 0.245370)
    ),
    Entry("Adam class", "torch.optim.Adam", {"lr": 0.01}, "Adam", (0.242066,), model=TORCHS),
)
"""The tutorial's eight runs, and the two base lines."""

BOOKS = "airfoil"
"""The problem of the book's figures."""
BOOKS_SETTINGS = (2, 10, "constant")
"""Epochs, batch size and schedule of the book's figures."""


@cache
def by_class() -> Problem:
    """The tutorial's problem as its cells with torch's classes have it: from `nn.Linear`'s own first weights."""
    return replace(catalogue.get(BOOKS), model=TORCHS)
