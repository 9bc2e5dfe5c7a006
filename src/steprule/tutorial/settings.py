"""The tutorial's runs, paths and figures: its settings, and the final losses that its editions print."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Literal

from torch import nn

from steprule.problems import catalogue as problems
from steprule.problems.problem import Problem
from steprule.races.competitor import Competitor, entrant_of
from steprule.races.raced import Race
from steprule.races.setting import Setting

TORCHS = partial(nn.Linear, 5, 1)
"""The model of the tutorial's cells with torch's classes: with the first weights that torch gives it."""
BOOKS = "airfoil"
"""The problem of the book's figures."""
BOOKS_SETTINGS = (2, 10, "constant")
"""Epochs, batch size and schedule of the book's figures."""


@dataclass(frozen=True)
class BookRun:
    """One run of the tutorial: an optimizer at the settings that its chapter states."""

    label: str
    optimizer: str
    hypers: Mapping[str, Any]
    method: str
    """What the reader calls it; the same for a rule and the class that does the same."""
    book: tuple[float, ...] = ()
    """The final losses that the tutorial's two editions print, where they do."""
    model: Callable[[], nn.Module] | None = field(default=None, repr=False)

    @property
    def form(self) -> Literal["formula", "class"]:
        """Whether it runs as a rule, from its formula, or as a class of torch's."""
        return "class" if self.optimizer.startswith("torch.optim.") else "formula"

    @property
    def competitor(self) -> Competitor:
        """The same for a race."""
        return Competitor(self.optimizer, hypers=self.hypers, label=self.label, model=self.model)


def _by_formula(method: str, rule: str, hypers: Mapping[str, Any], *book: float) -> BookRun:
    return BookRun(f"{method} formula", rule, hypers, method, book)


def _by_class(method: str, name: str, hypers: Mapping[str, Any], *book: float) -> BookRun:
    return BookRun(f"{method} class", f"torch.optim.{name}", hypers, method, book, TORCHS)


# Settings: those of the chapters on AdaGrad, RMSProp, AdaDelta and Adam. Gradient descent and momentum at the settings of
# the same book's chapters on minibatch gradient descent (batch 10) and on momentum; for those no figures are quoted.
TUTORIAL: tuple[BookRun, ...] = (
    _by_formula("SGD", "sgd", {"lr": 0.05}),
    _by_class("SGD", "SGD", {"lr": 0.05}),
    _by_formula("Momentum", "sgd", {"lr": 0.02, "momentum": 0.5}),
    _by_class("Momentum", "SGD", {"lr": 0.02, "momentum": 0.5}),
    _by_formula("AdaGrad", "adagrad_eps_inside", {"lr": 0.1, "eps": 1e-6}, 0.242541, 0.243675),
    _by_class("AdaGrad", "Adagrad", {"lr": 0.1}, 0.243147),
    _by_formula("RMSProp", "rmsprop_eps_inside", {"lr": 0.01, "alpha": 0.9, "eps": 1e-6}, 0.242014, 0.243452),
    _by_class("RMSProp", "RMSprop", {"lr": 0.01, "alpha": 0.9}, 0.243676),
    _by_formula("AdaDelta", "adadelta", {"rho": 0.9, "eps": 1e-5}, 0.246483, 0.243728),
    _by_class("AdaDelta", "Adadelta", {"rho": 0.9}, 0.242104),
    _by_formula("Adam", "adam", {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-6}, 0.243004, 0.245370),
    _by_class("Adam", "Adam", {"lr": 0.01}, 0.242066),
)
"""The tutorial's eight runs, and the two base lines."""

# At the tutorial's settings, where it has a path; AdaDelta and Adam, whose chapters draw none, with the hyperparameters of
# their formulas and Adam at the learning rate of the others.
TUTORIAL_PATHS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("SGD", "sgd", {"lr": 0.4}),
    ("Momentum", "sgd", {"lr": 0.4, "momentum": 0.5}),
    ("AdaGrad", "adagrad_eps_inside", {"lr": 0.4, "eps": 1e-6}),
    ("RMSProp", "rmsprop_eps_inside", {"lr": 0.4, "alpha": 0.9, "eps": 1e-6}),
    ("AdaDelta", "adadelta", {"rho": 0.9, "eps": 1e-5}),
    ("Adam", "adam", {"lr": 0.4, "eps": 1e-6}),
)
"""Each method's path on the tutorial's quadratic: its name, the rule, its settings."""


@cache
def by_class() -> Problem:
    """The tutorial's problem as its cells with torch's classes have it: from `nn.Linear`'s own first weights."""
    return replace(problems.get(BOOKS), model=TORCHS)


def runs_of(race: Race) -> dict[str, BookRun]:
    """By label the tutorial's runs among the entrants of a race."""
    own = {e.label: e for e in race.spec.entrants}
    named = [run for run in TUTORIAL if run.label in own]
    return {run.label: run for run in named if entrant_of(run.competitor, searches=False) == own[run.label]}


def is_tutorial(race: Race) -> bool:
    """Whether a race is that of the tutorial's runs, and of nobody else."""
    return len(runs_of(race)) == len(TUTORIAL) == len(race.spec.entrants)


def figures_of(race: Race, setting: Setting) -> tuple[float, ...]:
    """The book's figures of a setting. They are of its own runs and say nothing of another problem, or of other settings."""
    config, run = race.spec.configs[setting.problem], runs_of(race).get(setting.label)
    same = (config.epochs, config.batch_size, setting.schedule) == BOOKS_SETTINGS
    if run is None or not same or race.spec.problem(setting.problem) is not problems.get(BOOKS):
        return ()
    return run.book


def floor_name(task: Problem) -> str:
    """What the least loss of a problem is, in words: by least squares on the tutorial's problem."""
    return "least-squares floor" if task is problems.get(BOOKS) else "least loss there is"
