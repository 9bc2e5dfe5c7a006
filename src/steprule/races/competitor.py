"""Who runs in a race: a competitor as a user gives it, and the entrant that the race makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from torch import nn

from steprule.errors import InputError, InputTypeError
from steprule.foreign import parameters_of
from steprule.hyper import Hyper, Search
from steprule.per_kind import PerKind, taken_apart
from steprule.problems.problem import Problem
from steprule.races import spaces
from steprule.rules.load import load_object
from steprule.rules.rule import Rule
from steprule.trainable import Optimizable, Stating, Trainable, is_by_kind, stated


@dataclass(frozen=True)
class Competitor:
    """One who runs in a race: a rule as it is, or any `torch.optim.Optimizer` class or factory with what is to be searched.

    >>> import torch
    >>> Competitor(torch.optim.Adam, {"lr": Search(1e-5, 10)}, label="torch's Adam").label
    "torch's Adam"
    """

    optimizer: Optimizable
    space: Mapping[str, Search] | None = None
    """By name what is searched. None: all numbers of a rule, the learning rate alone of a class. The race gives every
    learning rate the same range and widens a rule's narrow ranges within its bounds; a class has none, so its ranges stay.
    Nothing is searched where settings are compared as given."""
    hypers: Mapping[str, Any] = field(default_factory=dict)
    """What is set and not searched."""
    label: str = ""
    """The name in the results; the optimizer's own if not given."""
    model: Callable[[], nn.Module] | None = None
    """Makes its model in place of the problem's own: one with other first weights, say."""


@dataclass(frozen=True)
class Entrant:
    """A competitor as the race takes it."""

    label: str
    what: Any
    """The rule, or what makes the optimizer."""
    space: Mapping[str, Search]
    fixed: Mapping[str, Any]
    defaults: Mapping[str, Any]
    """The hyperparameters of one who tunes nothing, those that are searched."""
    model: Callable[[], nn.Module] | None = None

    @property
    def is_rule(self) -> bool:
        """Whether it can be trained by the thousand, or one by one."""
        return isinstance(self.what, Stating)

    @property
    def has_formula(self) -> bool:
        """Whether it is one rule, whose formula can be shown and whose path can be drawn."""
        return isinstance(self.what, Rule)

    @property
    def shown(self) -> dict[str, Any]:
        """Hyperparameters under which a rule's formula is the one that is raced: what is searched is switched on."""
        on = {n: s.high for n, s in self.space.items() if self.known[n].switches}
        return stated(self.what).shown({**on, **self.fixed})

    @property
    def known(self) -> dict[str, Hyper]:
        """By name what a rule says of each hyperparameter that is searched or set; nothing of a class."""
        return {n: stated(self.what).hyper(n) for n in (*self.space, *self.fixed)} if self.is_rule else {}

    @property
    def middle(self) -> dict[str, Any]:
        """Hyperparameters in the middle of what is searched."""
        found = {n: s.at(0.5) for n, s in self.space.items()}
        known = self.known
        whole = {n: round(v) for n, v in found.items() if n in known and known[n].is_whole}
        return {**found, **whole, **self.fixed}

    def trains(self, task: Problem) -> Problem:
        """The problem with this entrant's own model, where it has one."""
        return task if self.model is None else _with_model(task, self.model)


@lru_cache(maxsize=256)
def _with_model(task: Problem, model: Callable[[], nn.Module]) -> Problem:
    """One problem per model, for what is known of a problem is kept by its identity."""
    return replace(task, model=model)


def competitor_of(given: Optimizable | Competitor) -> Competitor:
    """The competitor that is given, by name or as itself; a rule, a class or a factory becomes one with nothing set."""
    names = isinstance(given, str) and ":" in given and not is_by_kind(given)
    found = load_object(given, kind="optimizer") if names else given  # type: ignore[arg-type]
    return found if isinstance(found, Competitor) else Competitor(given)  # type: ignore[arg-type]


def entrant_of(given: Optimizable | Competitor, *, searches: bool = True) -> Entrant:
    """The entrant of a competitor; without a space where the race `searches` nothing. Raises `StepruleError`."""
    own = competitor_of(given)
    who = Trainable.of(own.optimizer)
    what, label = who.what, own.label or who.name
    for name, range_ in (own.space or {}).items():
        if not isinstance(range_, Search):
            raise InputTypeError(f"{label}: {name}", expected="a Search(low, high)", got=repr(range_))
    if own.model is not None and not callable(own.model):
        raise InputTypeError(f"{label}: model", expected="a function that makes one", got=repr(own.model))
    if not searches:
        own = replace(own, space={})
    space, fixed = _of_rule(what, own) if isinstance(what, Stating) else _of_class(what, own, label)
    space = {n: s for n, s in space.items() if n not in fixed}
    defaults = {n: v for n, v in _defaults_of(what).items() if n in space}
    return Entrant(label, what, space, fixed, defaults, own.model)


def _defaults_of(what: Any) -> dict[str, Any]:
    """The hyperparameters' defaults: all of a rule's, those of a class that are numbers."""
    if isinstance(what, Stating):
        return stated(what).defaults
    return {n: p.default for n, p in parameters_of(what).items() if isinstance(p.default, int | float)}


def usual_space(what: Any) -> Mapping[str, Search]:
    """What is searched where a competitor names nothing: all numbers of a rule, as declared; for a class the learning rate alone."""
    if isinstance(what, Stating):
        return spaces.declared(what)
    return {"lr": spaces.RATE} if "lr" in parameters_of(what) else {}


def _of_rule(what: Stating, own: Competitor) -> tuple[Mapping[str, Search], dict[str, Any]]:
    """The space and what is set of a rule."""
    rule = stated(what)
    # Raises where the rule has none of that name.
    known = {n: rule.setting(n) for n in own.space or {}}
    bound = rule.bind(own.hypers)
    if isinstance(rule, PerKind):
        return _of_kinds(rule, own, known)
    named = {n for given in own.hypers for n in rule.tuples.get(given, (given,))}
    space: Mapping[str, Search] = {}
    if own.space is None:
        space = spaces.space_of(what)
    elif own.space:
        space = spaces.widened(own.space, known, spaces.declared(what))
    return space, {n: bound[n] for n in bound if n in named}


def _of_kinds(
    rule: PerKind, own: Competitor, known: Mapping[str, Hyper]
) -> tuple[Mapping[str, Search], dict[str, Any]]:
    """The same of a rule per kind. What is set for all kinds is searched for none, and what is set for one is not searched for it."""
    fixed = rule.each_beta(own.hypers)
    space = spaces.space_of(rule) if own.space is None else spaces.widened(own.space, known, spaces.declared(rule))
    return {n: s for n, s in space.items() if n not in fixed and taken_apart(n)[1] not in fixed}, fixed


def _of_class(what: Any, own: Competitor, label: str) -> tuple[Mapping[str, Search], dict[str, Any]]:
    """The same of a class or a factory; one whose arguments cannot be read may take any."""
    parameters = parameters_of(what)
    declared = usual_space(what) if own.space is None else own.space
    takes_any = not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in {**declared, **own.hypers}:
        if name not in parameters and not takes_any:
            expected = "one of its arguments: " + ", ".join(parameters)
            raise InputError(f"{label}: {name}", expected=expected, got=repr(name))
    return spaces.of_class(declared) if declared else {}, dict(own.hypers)
