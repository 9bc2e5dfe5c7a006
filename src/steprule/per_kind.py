"""A rule per kind of parameter: the names of its settings, and what each kind's rule is given of them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from steprule.errors import InputError, StepruleError, unknown_name
from steprule.hyper import Hyper
from steprule.rules.load import PER_KIND
from steprule.rules.parts import for_training
from steprule.rules.rule import Rule

KINDS = ("matrix", "embedding", "head", "vector", "other")
"""The kinds, as groups and settings call them."""
SHORT = ("matrix", "other")
"""The kinds of two rules that are spelled without their kinds."""


class NoMatrices(UserWarning):
    """A model has no hidden matrices, so the rule for them steps nothing."""

    text = "by_kind: the model{} has no hidden matrices, so the rule for them steps nothing"


@dataclass(frozen=True, eq=False)
class PerKind:
    """A rule per kind of parameter. A kind without a rule of its own is stepped by the rule of `other`.

    A setting is called `matrix_lr` where it is of one kind, and `lr` where it is of every kind whose rule has it. What is said of
    a kind stands before what is said of `other`, where that rule steps it, and that before what is said of all. Where it trains it
    answers as a `Rule` does: its hyperparameters are those of its rules, under these names.
    """

    rules: Mapping[str, Rule]
    """By kind, as they were given."""
    betas = ()
    """Each kind has its own."""

    def __steprule_identity__(self) -> tuple[object, ...]:
        """What decides its steps, for `steprule.identity`."""
        return tuple(self.rules.items())

    @property
    def name(self) -> str:
        """`by_kind:muon+adamw`, as it can be spelled where its rules are the catalogue's."""
        if tuple(self.rules) == SHORT:
            return PER_KIND + "+".join(rule.name for rule in self.rules.values())
        return PER_KIND + "+".join(f"{kind}={rule.name}" for kind, rule in self.rules.items())

    @cached_property
    def by_kind(self) -> dict[str, Rule]:
        """The rule of every kind that has one, of its own or that of `other`, with all that can be set where it trains."""
        other = self.rules.get("other")
        found = {kind: self.rules.get(kind, other) for kind in KINDS}
        return {kind: for_training(rule) for kind, rule in found.items() if rule is not None}

    def team_of(self, kind: str) -> str:
        """The kind whose rule steps this one. Kinds of one team have totals and numbers of the model in common."""
        return own_or_other(kind, self.rules)

    @cached_property
    def hypers(self) -> tuple[Hyper, ...]:
        """The settings of each rule under their names, once: `matrix_lr`, `other_lr`."""
        named = [(kind, h) for kind in self.rules for h in self.by_kind[kind].hypers if h.given is None]
        return tuple(replace(h, name=f"{kind}_{h.name}") for kind, h in named)

    @property
    def own(self) -> tuple[Hyper, ...]:
        """Those of the rules' own signatures, without what is composed with them."""
        written = {f"{kind}_{h.name}" for kind, rule in self.rules.items() for h in rule.hypers}
        return tuple(h for h in self.hypers if h.name in written)

    @property
    def defaults(self) -> dict[str, Any]:
        """Each setting's default, by name."""
        return {h.name: h.default for h in self.hypers}

    @property
    def settings(self) -> dict[str, Any]:
        """The same: all are one's own to set."""
        return self.defaults

    @property
    def all_hypers(self) -> Iterator[tuple[str, Hyper]]:
        """All that the rule of each kind is given, with its name in `bind`."""
        for kind, rule in self.by_kind.items():
            for hyper in rule.hypers:
                yield f"{kind}_{hyper.name}", hyper

    def setting(self, name: str) -> Hyper:
        """What is known of a setting, also of one for all kinds, or for a kind that `other` steps. Raises `UnknownNameError`."""
        kind, plain = taken_apart(name)
        for own, rule in self.by_kind.items():
            if kind in ("", own) and plain in rule.settings:
                return replace(rule.hyper(plain), name=name)
        raise self._unknown(name)

    hyper = setting

    def accepts(self, name: str) -> bool:
        """Whether it can be set."""
        kind, plain = taken_apart(name)
        return any(_has(rule, plain) for own, rule in self.by_kind.items() if kind in ("", own))

    def bind(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All that the rules are given, as checked plain values, by kind and name: those given, the rest at their defaults."""
        return {f"{kind}_{n}": v for kind, own in self.bound(settings).items() for n, v in own.items()}

    def bound(self, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The same apart, by kind."""
        return {kind: self.by_kind[kind].bind(own) for kind, own in self.apart(settings).items()}

    def shown(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of its rules under their names, then those given for a kind that `other` steps."""
        bound = self.bind(settings)
        more = [n for n in _flat(settings) if taken_apart(n)[0] and n in bound]
        return {n: bound[n] for n in (*self.settings, *more)}

    def betas_of(self, name: str) -> tuple[str, ...]:
        """What `betas`, or `other_betas`, stands for: `other_beta1`, `other_beta2` and so on. None for another setting."""
        kind, plain = taken_apart(name)
        having = (r.betas for k, r in self.by_kind.items() if kind in ("", k) and r.betas)
        names = next(having, ()) if plain == "betas" else ()
        return tuple(f"{kind}_{n}" if kind else n for n in names)

    def each_beta(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings in which `other_betas=(0.9, 0.99)` is `other_beta1` and `other_beta2`."""
        found: dict[str, Any] = {}
        for name, value in _flat(settings).items():
            names = self.betas_of(name)
            if names and isinstance(value, tuple | list) and len(value) == len(names):
                found |= zip(names, value, strict=True)
            else:
                found[name] = value
        return found

    def apart(
        self, settings: Mapping[str, Any], takes: Callable[[str, str], bool] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Settings by kind, where `takes(kind, name)` says whether a kind has one; its rule says so if not given.

        Raises `UnknownNameError` where none has it.
        """
        has = takes or (lambda kind, name: _has(self.by_kind[kind], name))
        levels: dict[str, list[dict[str, Any]]] = {kind: [{}, {}, {}] for kind in self.by_kind}
        for name, value in _flat(settings).items():
            kind, plain = taken_apart(name)
            having = [own for own in self.by_kind if has(own, plain)]
            for own in having:
                if (level := self._level(kind, own)) is not None:
                    levels[own][level][plain] = value
            if not having or (kind and kind not in having):
                raise self._unknown(name)
        return {kind: _joined(self.by_kind[kind], own) for kind, own in levels.items()}

    def _level(self, said: str, kind: str) -> int | None:
        """How near what is said of a kind, or of all, is to a kind: 2 for its own, None where it is not meant."""
        if said == kind:
            return 2
        if said == self.team_of(kind):
            return 1
        return None if said else 0

    def _unknown(self, name: str) -> StepruleError:
        return unknown_name("hyperparameter", name, self.defaults, where=f" of {self.name}")


def taken_apart(name: str) -> tuple[str, str]:
    """`matrix_lr` as its kind and the rule's own name; a setting for all kinds has an empty kind."""
    kind, _, plain = name.partition("_")
    return (kind, plain) if kind in KINDS and plain else ("", name)


def own_or_other(kind: str, rules: Container[str]) -> str:
    """The kind whose rule steps this one, where these have rules of their own: itself or `other`."""
    return kind if kind in rules else "other"


def _has(rule: Rule, name: str) -> bool:
    return name in rule.settings or (name == "betas" and bool(rule.betas))


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting under one name: `matrix=dict(lr=0.02)` is `matrix_lr=0.02`. Raises `InputError` for one that is given twice."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        several = name in KINDS and isinstance(value, Mapping)
        named = {f"{name}_{n}": v for n, v in value.items()} if several else {name: value}
        if twice := set(named) & set(found):
            raise InputError(f"by_kind: {twice.pop()}", expected="it once", got="twice")
        found |= named
    return found


def _joined(rule: Rule, levels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A later level stands before those before it; `betas` of one is the same as each beta of another."""
    found: dict[str, Any] = {}
    for level in levels:
        if "betas" in level:
            found = {n: v for n, v in found.items() if n not in rule.betas}
        elif "betas" in found and set(level) & set(rule.betas):
            found |= zip(rule.betas, found.pop("betas"), strict=True)
        found |= level
    return found
