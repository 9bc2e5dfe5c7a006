"""A parameter group's settings as a rule takes them, read again only where they may have changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor

from steprule.compiler.variant import Switches, switches_of
from steprule.errors import InputError, InputTypeError
from steprule.optim import live
from steprule.optim.precision import ROUNDING, SEED, STATE_DTYPE, STOCHASTIC, precision_of, seed_of
from steprule.rules.parts import has, unscale
from steprule.rules.rule import Rule

PASS, SKIP, RAISE = "pass", "skip", "raise"
NONFINITE = (PASS, SKIP, RAISE)
"""What `nonfinite=` takes: what a step does where a gradient is not finite."""
DIAGNOSTICS = "diagnostics"
"""The key of a group that says whether its steps are diagnosed."""
_OF_THE_STEP = ("zero_grad", "differentiable", "capturable", ROUNDING, SEED, STATE_DTYPE, DIAGNOSTICS)
"""What a step reads of a group beside the rule's hyperparameters."""
_FIXED = (float, int, bool, type(None), str, torch.dtype)
"""Values of these types are other objects when they change; a tensor or a list may change in place."""


class Stepped(torch.optim.Optimizer):
    """What a step reads of an optimizer, beside torch's groups and states."""

    rule: ClassVar[Rule]
    """The rule, equipped with what cuts across rules."""
    counts_steps: ClassVar[bool] = True
    """Whether each parameter's state has a `step`."""
    _extras: ClassVar[dict[str, Any]]
    """What torch's constructor does not take, with its defaults."""
    moves: ClassVar[bool] = False
    """Whether a step puts the parameters elsewhere for a while, and writes nothing else."""
    backend: str = "auto"
    clip_group: Any = None
    """Over which processes parameters are cut that are no DTensors: a process group, True for all, None where they are whole."""
    nonfinite: str = PASS
    """What a step does where a gradient is not finite."""
    said_otherwise: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """By the key of a group, the rule's hyperparameters that torch says by it."""

    @classmethod
    def as_rule(cls, group: Mapping[str, Any]) -> Mapping[str, Any]:
        """A group with all that the rule takes, by the rule's names."""
        return group

    def stepping(self, group: Mapping[str, Any]) -> Stepped:
        """This optimizer as the class by whose rule a group steps: its own, where all groups have one rule."""
        return self

    def team_of(self, group: Mapping[str, Any]) -> str:
        """The name of the groups that step with this one by one rule: they have totals and numbers of the model in common."""
        return ""


def beyond_torch(optimizer: Stepped, group: Mapping[str, Any]) -> list[str]:
    """What is on that torch's own step has no part for."""
    return [n for n in optimizer._extras if n not in ("zero_grad", SEED, DIAGNOSTICS) and group.get(n)]


class Settings:
    """The settings of one group; `still` keeps them true."""

    def __init__(self, optimizer: Stepped, group: Mapping[str, Any], scale: float | None) -> None:
        self.rule, self._beyond, self._name = optimizer.rule, optimizer._extras, type(optimizer).__name__
        own = (*(h.name for h in self.rule.hypers), *self.rule.tuples, *_OF_THE_STEP, *optimizer.said_otherwise)
        self._as_rule, self._moves = optimizer.as_rule, optimizer.moves
        self._keys = tuple(n for n in own if n in group)
        self._absent = frozenset(own) - set(self._keys)
        # A single key would give its value bare.
        self._get = itemgetter(*self._keys, "params")
        self.captured = bool(group.get("capturable"))
        """Whether kernels take its steps so that a CUDA graph may record them: its tensors stay what they are."""
        self._read(group, scale)
        self.switches = self._switches()
        checks = optimizer.nonfinite != PASS  # which the host would have to read
        if self.captured and (checks or not live.may_capture(optimizer, group, self.switches)):
            self.captured = False
            self._read(group, scale)
            self.switches = self._switches()

    def _switches(self) -> Switches:
        # A tensor that the device reads may come to be any number: it counts as on.
        return switches_of(self.rule, {n: 1.0 if isinstance(v, Tensor) else v for n, v in self.hypers.items()})

    def still(self, group: Mapping[str, Any], scale: float | None) -> bool:
        """Whether what switches is as it was; the hyperparameters are this step's after it."""
        try:
            values = self._get(group)[:-1]
        except KeyError:
            return False
        if not self._absent.isdisjoint(group):
            return False
        # In C; the same object counts as equal, which is true of fixed ones alone.
        if self._fixed and scale == self.scale and values == self._values:
            return True
        before = self.of_the_step
        self._read(group, scale)
        return self.of_the_step == before and self._switches() == self.switches

    def _read(self, group: Mapping[str, Any], scale: float | None) -> None:
        self._values, self.scale = self._get(group)[:-1], scale
        self._fixed = all(map(_is_fixed, self._values))
        device = group["params"][0].device if self.captured and group["params"] else None
        self.hypers = hypers_of(self.rule, self._as_rule(group), scale, self._beyond, device)
        self.zeroes = bool(group.get("zero_grad")) and not self._moves
        self.capturable = bool(group.get("capturable"))
        self.special = bool(group.get("differentiable")) or (self.capturable and not self.captured)
        diagnoses = group.get(DIAGNOSTICS, False)
        if not isinstance(diagnoses, bool):
            raise InputTypeError(f"{self._name}: {DIAGNOSTICS}", expected="a bool", got=repr(diagnoses))
        self.diagnoses = diagnoses and not self._moves
        rounding, self.state_dtype = precision_of(self._name, self.rule, group)
        self.rounding = None if self._moves else rounding
        self.seed = seed_of(self._name, group.get(SEED)) if self.rounding == STOCHASTIC else None

    @property
    def of_the_step(self) -> tuple[Any, ...]:
        """What decides how kernels step, beside the switches of the rule."""
        return self.zeroes, self.special, self.capturable, self.rounding, self.state_dtype, self.diagnoses

    @property
    def stochastic(self) -> bool:
        """Whether parameters are rounded by chance."""
        return self.rounding == STOCHASTIC


def hypers_of(
    rule: Rule,
    group: Mapping[str, Any],
    scale: float | None = None,
    beyond: Collection[str] = (),
    device: torch.device | None = None,
) -> dict[str, Any]:
    """The rule's hyperparameters from a group; tensors are read, once a step, but those numbers on `device` stay what they are.

    Those of `beyond`, which torch's class has not, are off where the group has none. Another that is missing is a KeyError, as
    in torch.
    """
    found: dict[str, Any] = {}
    together: dict[str, Any] = {}
    for name, members in rule.tuples.items():
        if name in group:
            if len(group[name]) != len(members):
                raise InputError(f"{rule.name}: {name}", expected=f"{len(members)} numbers", got=repr(group[name]))
            together |= zip(members, group[name], strict=True)
    for hyper in rule.hypers:
        name = hyper.name
        if name in together:
            value = together[name]
        elif name in beyond or hyper.given is not None:
            value = group.get(name, hyper.default)
        else:
            value = group[name]
        if device is not None and isinstance(value, Tensor) and not hyper.is_plain:
            found[name] = live.number_of(f"{rule.name}: {name}", value, device)
            continue
        # A tensor's number, or numpy's, as Python's.
        found[name] = value.item() if hasattr(value, "item") else value
        if hyper.is_plain and not hyper.is_flag:
            found[name] = hyper.validate(found[name], rule.name)
    if scale is not None and has(rule, unscale):
        found["scaled"], found["grad_scale"] = True, scale
    return found


def _is_fixed(value: object) -> bool:
    return type(value) in _FIXED or (type(value) is tuple and all(type(v) in _FIXED for v in value))
