"""`by_kind`: a rule per kind of parameter, with one name for each setting; called with a model it makes the optimizer."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from steprule import rules
from steprule.errors import InputError, InputTypeError, unknown_name
from steprule.hyper import Hyper
from steprule.optim.classes import NAMES, class_of, from_rule
from steprule.optim.kinds import KINDS, Found, kinds_of
from steprule.optim.mixed import Mixed, arguments
from steprule.optim.optimizer import RuleOptimizer
from steprule.rules.parts import for_training
from steprule.rules.rule import Rule

SPELLED = "by_kind:"
"""How a command line begins one: `by_kind:muon+adamw`, `by_kind:matrix=muon+head=sgd+other=adamw`."""
_SHORT = ("matrix", "other")
"""The kinds of two rules that are spelled without their kinds."""


@dataclass(frozen=True)
class ByKind:
    """A rule per kind of parameter. A kind without a rule of its own is stepped by the rule of `other`.

    A setting is called `matrix_lr` where it is of one kind, and `lr` where it is of every kind whose rule has it. What is said of
    a kind stands before what is said of `other`, where that rule steps it, and that before what is said of all.
    """

    rules: Mapping[str, Rule]
    """By kind, as they were given."""

    def __steprule_identity__(self) -> tuple[object, ...]:
        """What decides its steps, for `steprule.identity`."""
        return tuple(self.rules.items())

    @property
    def name(self) -> str:
        """`by_kind:muon+adamw`, as it can be spelled where its rules are the catalogue's."""
        if tuple(self.rules) == _SHORT:
            return SPELLED + "+".join(rule.name for rule in self.rules.values())
        return SPELLED + "+".join(f"{kind}={rule.name}" for kind, rule in self.rules.items())

    @cached_property
    def by_kind(self) -> dict[str, Rule]:
        """The rule of every kind that has one, of its own or that of `other`, with all that can be set where it trains."""
        other = self.rules.get("other")
        found = {kind: self.rules.get(kind, other) for kind in KINDS}
        return {kind: for_training(rule) for kind, rule in found.items() if rule is not None}

    @cached_property
    def hypers(self) -> dict[str, Hyper]:
        """The settings of each rule, once, under their names: `matrix_lr`."""
        return {
            f"{kind}_{h.name}": replace(h, name=f"{kind}_{h.name}")
            for kind in self.rules
            for h in self.by_kind[kind].hypers
            if h.given is None
        }

    @property
    def defaults(self) -> dict[str, Any]:
        """The same names with their defaults."""
        return {name: hyper.default for name, hyper in self.hypers.items()}

    def setting(self, name: str) -> Hyper:
        """What is known of a setting, also of one for all kinds, or for a kind that `other` steps. Raises `UnknownNameError`."""
        kind, plain = _taken_apart(name)
        having = [rule for k, rule in self.by_kind.items() if kind in ("", k) and plain in rule.settings]
        if not having:
            raise self._unknown(name)
        return replace(having[0].hyper(plain), name=name)

    def accepts(self, name: str) -> bool:
        """Whether it can be set."""
        kind, plain = _taken_apart(name)
        return any(_has(rule, plain) for k, rule in self.by_kind.items() if kind in ("", k))

    def bind(self, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """By kind all hyperparameters of its rule as checked plain values: those given, the rest at their defaults."""
        apart = self.apart(settings, lambda kind, name: _has(self.by_kind[kind], name))
        return {kind: rule.bind(apart[kind]) for kind, rule in self.by_kind.items()}

    def shown(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of its rules under their names, then those given for a kind that `other` steps."""
        bound = self.bind(settings)
        found = {name: bound[kind][plain] for name in self.hypers for kind, plain in [_taken_apart(name)]}
        for name in _flat(settings):
            kind, plain = _taken_apart(name)
            if kind and kind not in self.rules and plain in bound[kind]:
                found[name] = bound[kind][plain]
        return found

    def apart(self, settings: Mapping[str, Any], takes: Callable[[str, str], bool]) -> dict[str, dict[str, Any]]:
        """Settings by kind, where `takes(kind, name)` says whether a kind has one. Raises `UnknownNameError` where none has it."""
        levels: dict[str, list[dict[str, Any]]] = {kind: [{}, {}, {}] for kind in self.by_kind}
        for name, value in _flat(settings).items():
            kind, plain = _taken_apart(name)
            taken = False
            for own, (of_all, of_other, of_own) in levels.items():
                if not takes(own, plain):
                    continue
                if kind == own:
                    of_own[plain] = value
                elif kind == "other" and own not in self.rules:
                    of_other[plain] = value
                elif not kind:
                    of_all[plain] = value
                taken = taken or kind in ("", own)
            if not taken:
                raise self._unknown(name)
        return {kind: _joined(self.by_kind[kind], own) for kind, own in levels.items()}

    def kinds_of(self, model: nn.Module, said: Mapping[str, str] | None = None) -> list[Found]:
        """The kinds of a model's parameters, each of which has a rule. Raises `InputError` for one that has none.

        The weight of a convolution is a matrix where the rule of matrices sees it as one (`as_matrix`), else `other`.
        """
        as_matrix = "matrix" in self.rules and getattr(self.rules["matrix"], "as_matrix", False)
        found = kinds_of(model, said, convolutions="matrix" if as_matrix else "other")
        for one in found:
            if one.kind not in self.by_kind:
                got = f"{one.name}, which is of kind {one.kind!r}"
                raise InputError("by_kind", expected="a rule for every parameter", got=got, hint="Give other=.")
        return found

    def __call__(
        self,
        params: nn.Module | Iterable[Any],
        *,
        kinds: Mapping[str, str] | None = None,
        show: bool = True,
        backend: str = "auto",
        fused_unscale: bool = False,
        **settings: Any,
    ) -> Mixed:
        """The optimizer of a model.

        Args:
            params: the model, whose modules tell the kinds; or groups that name theirs, `{"params": [...], "kind": "matrix"}`.
            kinds: by pattern of names the kinds that are other than what would be found; see `steprule.optim.kinds.kinds_of`.
            show: print on stderr which rule steps what, every parameter once.
            backend: as of every class of `steprule.optim`.
            fused_unscale: the same.
            settings: `lr=0.01` for all rules that have it, `matrix_lr=0.02` or `matrix=dict(lr=0.02)` for one kind.

        Raises `StepruleError` for a parameter without a rule, and for settings that none of the rules has.
        """
        classes = {kind: _class_of(self.rules.get(kind) or self.rules["other"]) for kind in self.by_kind}
        apart = self.apart(settings, lambda kind, name: _takes(classes[kind], name))
        groups = _groups(self.kinds_of(params, kinds)) if isinstance(params, nn.Module) else _given(params, kinds)
        made = Mixed(
            groups,
            classes,
            {kind: arguments(cls, apart[kind]) for kind, cls in classes.items()},
            backend=backend,
            fused_unscale=fused_unscale,
        )
        if show:
            sys.stderr.write(table(made) + "\n")
        return made

    def _unknown(self, name: str) -> Exception:
        return unknown_name("hyperparameter", name, self.hypers, where=f" of {self.name}")


def by_kind(**given: Rule | str | type[RuleOptimizer]) -> ByKind:
    """A rule for each kind of parameter: `matrix`, `embedding`, `head`, `vector`, and `other` for all kinds that have none.

    Each is a rule in any way to say one, or a class of `steprule.optim`. What is made can be called with a model, and trains, sweeps
    and races as a rule does.

    >>> import steprule
    >>> mixture = steprule.by_kind(matrix="lion", other="adamw")
    >>> model = nn.Sequential(nn.Embedding(5, 8), nn.Flatten(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 5))
    >>> optimizer = mixture(model, matrix_lr=0.02, vector=dict(weight_decay=0.0), show=False)
    >>> [(group["kind"], group["lr"], len(group["params"])) for group in optimizer.param_groups]
    [('matrix', 0.02, 1), ('embedding', 0.001, 1), ('head', 0.001, 1), ('vector', 0.001, 2)]

    Raises `StepruleError` for another kind, and for what is no rule.
    """
    for kind in given:
        if kind not in KINDS:
            raise unknown_name("kind", kind, KINDS)
    if not given:
        raise InputError("by_kind", expected="a rule for a kind: " + ", ".join(KINDS), got="none")
    return ByKind({kind: _rule_of(given[kind]) for kind in KINDS if kind in given})


def spelled(text: str) -> ByKind:
    """From `by_kind:muon+adamw`, the rules of hidden matrices and of all else, or `by_kind:matrix=muon+head=sgd+other=adamw`.

    Raises `InputError` for what is spelled otherwise.
    """
    parts = [part.partition("=") for part in text.removeprefix(SPELLED).split("+")]
    if len(parts) == len(_SHORT) and not any(sign for _, sign, _ in parts):
        return by_kind(**dict(zip(_SHORT, (name for name, _, _ in parts), strict=True)))
    kinds = [kind for kind, _, _ in parts]
    if not all(sign and rule for _, sign, rule in parts) or len(set(kinds)) < len(kinds):
        hint = "As in by_kind:matrix=lion+other=adamw."
        raise InputError(text, expected="two rules, or each kind once with its rule", got=repr(text), hint=hint)
    return by_kind(**{kind: rule for kind, _, rule in parts})


def table(optimizer: Mixed) -> str:
    """Which rule steps what: every parameter once, with its shape and its kind; a last line sums it up."""
    rows = [("parameter", "shape", "kind", "rule")]
    count: dict[str, int] = {}
    for k, group in enumerate(optimizer.param_groups):
        rule = optimizer.stepping(group).rule.name
        names = group.get("param_names") or [f"group {k}, {i}" for i in range(len(group["params"]))]
        for name, p in zip(names, group["params"], strict=True):
            rows.append((name, " x ".join(map(str, p.shape)) or "one number", group["kind"], rule))
            count[rule] = count.get(rule, 0) + p.numel()
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    shares = ", ".join(f"{numbers:,} numbers by {rule}" for rule, numbers in count.items())
    return "\n".join([*lines, f"{len(rows) - 1} parameters: {shares}.", *without_matrices(optimizer.param_groups)])


def without_matrices(groups: Iterable[Mapping[str, Any]]) -> list[str]:
    """The line that says so where no group has hidden matrices."""
    if any(group["kind"] == "matrix" for group in groups):
        return []
    return ["by_kind: the model has no hidden matrices, so the rule for them steps nothing."]


def _rule_of(given: object) -> Rule:
    if isinstance(given, type) and issubclass(given, RuleOptimizer) and "rule" in given.__dict__:
        raw = getattr(given, "made_from", None)
        return raw if isinstance(raw, Rule) else rules.get(given.rule.name)
    return rules.resolve(given)  # type: ignore[arg-type]


def _class_of(rule: Rule) -> type[RuleOptimizer]:
    """The class of `steprule.optim` for a rule of the catalogue, torch's drop-in where torch has it."""
    if rules.CATALOGUE.get(rule.name) is not rule:
        return from_rule(rule)
    return next(cls for cls in map(class_of, NAMES) if cls.rule.name == rule.name)


def _takes(cls: type[RuleOptimizer], name: str) -> bool:
    return name in inspect.signature(cls).parameters or name in cls.rule.betas


def _has(rule: Rule, name: str) -> bool:
    return name in rule.settings or (name == "betas" and bool(rule.betas))


def _taken_apart(name: str) -> tuple[str, str]:
    """`matrix_lr` as its kind and the rule's own name; of a setting for all kinds the kind is empty."""
    kind, _, plain = name.partition("_")
    return (kind, plain) if kind in KINDS and plain else ("", name)


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
    """The last level stands before the others; `betas` of one level is the same as each beta of another."""
    found: dict[str, Any] = {}
    for level in levels:
        if "betas" in level:
            found = {n: v for n, v in found.items() if n not in rule.betas}
        elif "betas" in found and set(level) & set(rule.betas):
            found |= zip(rule.betas, found.pop("betas"), strict=True)
        found |= level
    return found


def _groups(found: Sequence[Found]) -> list[dict[str, Any]]:
    """A group per kind that the model has."""
    by = {kind: [(one.name, one.parameter) for one in found if one.kind == kind] for kind in KINDS}
    return [{"params": params, "kind": kind} for kind, params in by.items() if params]


def _given(params: Any, kinds: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """Groups that name their kinds. Raises for parameters alone, which do not tell what they are."""
    if kinds is not None:
        raise InputTypeError(
            "by_kind: kinds", expected="a model beside it", got="groups", hint="A group names its own."
        )
    groups = [params] if isinstance(params, Tensor | Mapping) else list(params)
    if not groups or not all(isinstance(group, Mapping) for group in groups):
        got = "parameters alone, which do not tell their kinds" if groups else "nothing"
        hint = "Pass the model itself, or groups as {'params': [...], 'kind': 'matrix'}."
        raise InputTypeError("by_kind", expected="a model, or groups with a kind", got=got, hint=hint)
    return [dict(group) for group in groups]
