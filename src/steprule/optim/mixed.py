"""One optimizer whose groups step by rules of their own, one rule per kind of parameter."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from steprule.errors import InputError, unknown_name
from steprule.optim.optimizer import RuleOptimizer
from steprule.optim.settings import PASS, Stepped
from steprule.per_kind import KINDS, own_or_other
from steprule.rules.points import MODE

Classes = Mapping[str, type[RuleOptimizer]]
"""By kind the class whose rule steps it; that of `other` steps the kinds that have none."""
_OF_A_GROUP = ("params", "param_names", "kind")
_OTHER = "Was it saved by a `by_kind` of other rules, or of another model?"


class Mixed(RuleOptimizer):
    """A `torch.optim.Optimizer` of several rules: each group has a `kind`, and the rule of its kind steps it.

    Groups, states, checkpoints, hooks, closures, `clip_norm` over all gradients, averages of the weights and everything else are
    those of one optimizer. A group has the keys of its own class beside `kind`. `steprule.by_kind` makes it.
    """

    classes: Classes
    settings: Mapping[str, Mapping[str, Any]]
    """By kind what its class is given, for groups that are added later; every kind that has a rule is there."""

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        classes: Classes,
        settings: Mapping[str, Mapping[str, Any]],
        **of_all: Any,
    ) -> None:
        """`of_all` is what holds for all groups: `backend`, `fused_unscale`, `clip_group` and `nonfinite`, as every class takes them."""
        self.classes, self.settings, self._of_all = dict(classes), dict(settings), of_all
        self._unscales: dict[str, bool] = {}  # by kind: whether its class unscales gradients in its step
        self.backend, self.clip_group = of_all.get("backend", "auto"), of_all.get("clip_group")
        self.nonfinite = of_all.get("nonfinite", PASS)
        torch.optim.Optimizer.__init__(self, groups, {})
        if of_all.get("fused_unscale") or all(self._unscales.values()):
            self._step_supports_amp_scaling = True  # torch's name: GradScaler looks for it

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch; the group names its `kind`, and what it says of its settings stands before those of its kind.

        Raises `InputError` for a group without a kind that has a rule.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")  # torch's own words
        kind = param_group.get("kind")
        if kind is None:
            hint = "Pass the model itself, or groups as {'params': [...], 'kind': 'matrix'}."
            raise InputError("a parameter group", expected="a kind: one of " + ", ".join(KINDS), got="none", hint=hint)
        if not isinstance(kind, str) or kind not in self.settings:
            raise unknown_name("kind", kind, self.settings, where=" that has a rule")
        cls = self._class_of(kind)
        own = {n: v for n, v in param_group.items() if n not in _OF_A_GROUP}
        params = param_group["params"]
        if "param_names" in param_group:
            params = list(zip(param_group["param_names"], params, strict=True))
        made = cls(params, **{**self.settings[kind], **own}, **self._of_all)
        self.defaults = {}  # a group has what its own class gave it
        group = {"kind": kind, **made.param_groups[0]}
        if MODE in group:
            group[MODE] = not self._evaluates
        super(RuleOptimizer, self).add_param_group(group)
        self.state.update(made.state)
        self._unscales[kind] = bool(getattr(made, "_step_supports_amp_scaling", False))
        shared = set.intersection(*(set(group) for group in self.param_groups)) - {*_OF_A_GROUP, "differentiable"}
        self.defaults = {n: v for n, v in self.param_groups[0].items() if n in shared}

    def stepping(self, group: Mapping[str, Any]) -> Stepped:
        """This optimizer as the class of a group's kind: another class on the same states, groups and settings."""
        view: Stepped = object.__new__(self._class_of(group["kind"]))
        view.__dict__ = self.__dict__
        return view

    def team_of(self, group: Mapping[str, Any]) -> str:
        """The kind whose rule steps a group. Each rule adds up its totals over its own tensors alone."""
        return own_or_other(group["kind"], self.classes)

    def _class_of(self, kind: str) -> type[RuleOptimizer]:
        return self.classes[own_or_other(kind, self.classes)]

    @property
    def _has_two_points(self) -> bool:
        """Whether one of its groups is evaluated elsewhere than where it trains."""
        return any(self._class_of(group["kind"]).rule.evaluation is not None for group in self.param_groups)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch. Raises `InputError`, and loads nothing, where a group of the checkpoint is of another kind or rule than the group in
        its place."""
        groups = state_dict.get("param_groups", []) if isinstance(state_dict, Mapping) else []
        for k, (saved, own) in enumerate(zip(groups, self.param_groups, strict=False)):
            if saved.get("kind") != own["kind"]:
                expected, got = f"kind {own['kind']!r}", repr(saved.get("kind"))
                raise InputError(f"load_state_dict: group {k}", expected=expected, got=got, hint=_OTHER)
            cls = self._class_of(own["kind"])
            needed = [n for n in inspect.signature(cls).parameters if n in own and n not in cls._extras]
            if missing := [n for n in needed if n not in saved]:
                expected = f"what {cls.rule.name} needs: " + ", ".join(n for n in needed if n != "params")
                raise InputError(f"load_state_dict: group {k}", expected=expected, got=f"no {missing[0]}", hint=_OTHER)
        super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        own = ("classes", "settings", "_of_all", "_unscales", "_step_supports_amp_scaling")
        return super().__getstate__() | {n: self.__dict__[n] for n in own if n in self.__dict__}


def arguments(cls: type[RuleOptimizer], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a class takes them: `beta1` and `beta2` become its `betas`."""
    names = cls.rule.betas
    given = {n: v for n, v in settings.items() if n in (*names, "betas")}
    found = {n: v for n, v in settings.items() if n not in given}
    if names and given:
        bound = cls.rule.bind(given)
        found["betas"] = tuple(bound[n] for n in names)
    return found
