"""The classes: torch's own constructors, checks and state layout around a rule's step."""

from __future__ import annotations

import copyreg
import inspect
import pickle
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from steprule import rules
from steprule.errors import InputError, RuleError, StepruleError, unknown_name
from steprule.optim.constructors import OF_THE_OPTIMIZER, OFF, say_constructor
from steprule.optim.optimizer import RuleOptimizer
from steprule.optim.precision import SEED, seed_of
from steprule.rules.parts import equipped
from steprule.rules.points import Point
from steprule.rules.rule import Rule


class SGD(RuleOptimizer, torch.optim.SGD):
    """`torch.optim.SGD` by the rule `sgd`."""

    rule = equipped(rules.get("sgd"))
    counts_steps = False


class Adagrad(RuleOptimizer, torch.optim.Adagrad):
    """`torch.optim.Adagrad` by the rule `adagrad`."""

    rule = equipped(rules.get("adagrad"))


class RMSprop(RuleOptimizer, torch.optim.RMSprop):
    """`torch.optim.RMSprop` by the rule `rmsprop`."""

    rule = equipped(rules.get("rmsprop"))


class Adadelta(RuleOptimizer, torch.optim.Adadelta):
    """`torch.optim.Adadelta` by the rule `adadelta`."""

    rule = equipped(rules.get("adadelta"))


class Adam(RuleOptimizer, torch.optim.Adam):
    """`torch.optim.Adam` by the rule `adam`."""

    rule = equipped(rules.get("adam"))


class AdamW(RuleOptimizer, torch.optim.AdamW):
    """`torch.optim.AdamW` by the rule `adam` with decoupled weight decay."""

    rule = equipped(rules.get("adamw"))


class Adamax(RuleOptimizer, torch.optim.Adamax):
    """`torch.optim.Adamax` by the rule `adamax`."""

    rule = equipped(rules.get("adamax"))


class NAdam(RuleOptimizer, torch.optim.NAdam):
    """`torch.optim.NAdam` by the rule `nadam`."""

    rule = equipped(rules.get("nadam"))


class RAdam(RuleOptimizer, torch.optim.RAdam):
    """`torch.optim.RAdam` by the rule `radam`."""

    rule = equipped(rules.get("radam"))


class Rprop(RuleOptimizer, torch.optim.Rprop):
    """`torch.optim.Rprop` by the rule `rprop`."""

    rule = equipped(rules.get("rprop"))


class ASGD(RuleOptimizer, torch.optim.ASGD):
    """`torch.optim.ASGD` by the rule `asgd`."""

    rule = equipped(rules.get("asgd"))


class Adafactor(RuleOptimizer, torch.optim.Adafactor):
    """`torch.optim.Adafactor` by the rule `adafactor`."""

    rule = equipped(rules.get("adafactor"))
    said_otherwise: ClassVar[Mapping[str, tuple[str, ...]]] = {"eps": ("eps1", "eps2")}

    @classmethod
    def as_rule(cls, group: Mapping[str, Any]) -> Mapping[str, Any]:
        """torch's `eps` is a pair, whose first is by default the dtype's own; that of the first parameter, as in torch."""
        eps1, eps2 = group["eps"]
        if eps1 is None:
            eps1 = torch.finfo(group["params"][0].dtype).eps if group["params"] else cls.rule.defaults["eps1"]
        return {**group, "eps1": eps1, "eps2": eps2}


_TORCHS = (SGD, ASGD, Rprop, Adagrad, RMSprop, Adadelta, Adam, AdamW, Adamax, NAdam, RAdam, Adafactor)
_AS_TORCH: dict[str, type[RuleOptimizer]] = {cls.__name__.lower(): cls for cls in _TORCHS}
"""The classes that torch has, by their rules."""


if hasattr(torch.optim, "Muon"):  # since torch 2.9; before it, `steprule.optim.Muon` is made from the rule

    class Muon(RuleOptimizer, torch.optim.Muon):
        """`torch.optim.Muon` by the rule `muon`."""

        rule = equipped(rules.get("muon"))
        counts_steps = False
        said_otherwise: ClassVar[Mapping[str, tuple[str, ...]]] = {"adjust_lr_fn": ("precision",)}

        @classmethod
        def as_rule(cls, group: Mapping[str, Any]) -> Mapping[str, Any]:
            """None is torch's name for the original scale. It iterates in bfloat16."""
            return {**group, "adjust_lr_fn": group["adjust_lr_fn"] or "original", "precision": "bfloat16"}

    _AS_TORCH["muon"] = Muon


def _class_names(rule: Rule) -> Iterator[str]:
    """What the class of a catalogue's rule may be called: the rule's title without its spaces, as LAMB, or else its name."""
    for text in (rule.title, rule.name):
        name = "".join(word[:1].upper() + word[1:] for word in re.split(r"[\s_-]+", text))
        if name.isascii() and name.isidentifier():
            yield name
    yield rule.name


def _by_class() -> dict[str, Rule]:
    torchs = {cls.__name__ for cls in _AS_TORCH.values()}
    found: dict[str, Rule] = {}
    for rule in rules.CATALOGUE.values():
        if rule.name in _AS_TORCH:
            found[_AS_TORCH[rule.name].__name__] = rule
        else:
            found[next(name for name in _class_names(rule) if name not in {*torchs, *found})] = rule
    return found


_RULES = _by_class()
NAMES = tuple(_RULES)
"""The classes of the catalogue's rules, in its order."""


def class_of(name: str) -> type[RuleOptimizer]:
    """The class of a catalogue's rule, made at its first use. Raises `UnknownNameError` with the nearest one."""
    if name not in _RULES:
        raise unknown_name("class", name, NAMES, where=" of steprule.optim")
    return _AS_TORCH.get(_RULES[name].name) or from_rule(_RULES[name], name=name)


def __getattr__(name: str) -> type[RuleOptimizer]:
    if name.startswith("_") or name not in _RULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return class_of(name)  # where pickle looks for it


_OF_TORCH = (
    "self",
    "params",
    "betas",
    "foreach",
    "fused",
    "capturable",
    "differentiable",
    *OF_THE_OPTIMIZER,
    *(name for name in OFF if name != SEED),
)
"""What a constructor or a group of torch's means something else by than a rule's own number would."""


_BEYOND_TORCH = ("clip_value", "clip_norm", "ema_decay")
"""Parts whose hyperparameters are keys of a group only where they are on, as in the classes that torch has."""


class _RuleClass(type):
    """The type of classes made by `from_rule`, which no module has under their name: pickle saves what makes them again."""

    made_from: Rule


class FromRule(RuleOptimizer, metaclass=_RuleClass):
    """What all classes made from rules share: a constructor that takes the rule's hyperparameters by name."""

    _defaults: ClassVar[dict[str, Any]]

    def __init__(self, params: Iterable[Any], **hypers: Any) -> None:
        found, defaults = self.rule, self._defaults
        seeded = {SEED: seed_of(found.name, hypers.pop(SEED, None))} if found.draws else {}
        ours = [n for n in OFF if n in self._extras]
        own: dict[str, Any] = {n: hypers.pop(n) for n in (*ours, *OF_THE_OPTIMIZER) if n in hypers}
        if given := {h.name for h in found.hypers if h.given} & set(hypers):
            raise unknown_name("hyperparameter", given.pop(), defaults, where=f" of {found.name}")
        numbers = {n: float(v) if isinstance(v, Tensor) else v for n, v in hypers.items()}
        # A tensor stays what it is: a schedule writes into it.
        bound = {
            n: hypers[n] if isinstance(hypers.get(n), Tensor) else v
            for n, v in found.bind(numbers).items()
            if _is_settable(found, n)
        }
        own |= {n: bound.pop(n) for n in _BEYOND_TORCH if n in bound and n in self._extras}
        super().__init__(params, _put_together(bound, found) | seeded, **own)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch. Raises `InputError`, and loads nothing, where a group lacks a hyperparameter: another class has saved it."""
        for group in state_dict["param_groups"]:
            if missing := [n for n in self._defaults if n not in group and n not in self._extras]:
                name, hint = type(self).__name__, "Only a checkpoint of this class has all that it needs."
                expected = f"groups with {', '.join(self._defaults)}"
                raise InputError(f"{name}.load_state_dict", expected=expected, got=f"no {missing[0]}", hint=hint)
        super().load_state_dict(state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch; `beta1`, `beta2` and so on of a group become its `betas`."""
        for name, members in self.rule.tuples.items():
            if isinstance(param_group, dict) and name in self.defaults and set(members) & set(param_group):
                values = param_group.get(name, self.defaults[name])
                param_group[name] = tuple(param_group.pop(n, v) for n, v in zip(members, values, strict=True))
        super().add_param_group(param_group)


def _is_settable(rule: Rule, name: str) -> bool:
    """Whether a hyperparameter is the user's to set, and not the step's to give."""
    return rule.hyper(name).given is None


def _put_together(values: dict[str, Any], rule: Rule) -> dict[str, Any]:
    """`beta1`, `beta2` and so on as torch's constructors say them: schedulers look for `betas`."""
    tuples = {members[0]: (name, members) for name, members in rule.tuples.items()}
    rest = {n for _, members in tuples.values() for n in members[1:]}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in tuples:
            together, members = tuples[name]
            found[together] = tuple(values[n] for n in members)
        elif name not in rest:
            found[name] = value
    return found


def from_rule(rule: Rule | str, *, name: str | None = None) -> type[RuleOptimizer]:
    """An Optimizer class from any rule; its constructor takes the rule's hyperparameters by name, with their defaults.

    Raises `RuleError` where a hyperparameter has a name that torch's optimizers use for something else, or a slot is called `step`.

    A rule with `beta1` and `beta2` takes `betas=(beta1, beta2)` too, and keeps them so in its groups, as torch's classes do.

    >>> import steprule, torch
    >>> Slow = steprule.optim.from_rule("rmsprop_eps_inside")
    >>> optimizer = Slow([torch.zeros(2, requires_grad=True)], lr=0.1, weight_decay=0.01)
    """
    raw = rules.resolve(rule)
    return _class_from(raw, name or raw.name, raw.point)


@cache
def _class_from(raw: Rule, name: str, point: Point | None) -> type[RuleOptimizer]:
    """One class for a rule, its point of evaluation and a name, so that an optimizer that was pickled is of its own class again."""
    _check_names(raw)
    found = equipped(raw)
    defaults = _put_together({h.name: h.default for h in found.hypers if h.given is None}, found)
    defaults |= {SEED: None} if found.draws else {}
    taken = {h.name for h in raw.hypers}
    off = {n: v for n, v in OFF.items() if n != SEED or not (found.draws or SEED in taken)}
    space = {
        "rule": found,
        "made_from": raw,
        "__module__": __name__,
        "__doc__": f"{found.summary}\n\nMade from the rule `{found.name}`.",
        "_defaults": defaults,
        "_extras": {n: found.hyper(n).default for n in _BEYOND_TORCH if n in found.defaults and n not in taken} | off,
    }
    made: Any = _RuleClass(name, (FromRule,), space)
    params = inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    say_constructor(made, [params], {**defaults, **off, **OF_THE_OPTIMIZER}, FromRule.__init__)
    return made  # type: ignore[no-any-return]


def _check_names(raw: Rule) -> None:
    where = "{}:{}: rule {}".format(*raw.lines, raw.name)
    for hyper in raw.hypers:
        if hyper.name in _OF_TORCH:
            expected = "a hyperparameter by a name that torch's optimizers do not use for something else"
            raise RuleError(where, expected=expected, got=hyper.name, hint="Call it otherwise.")
        if raw.draws and hyper.name == SEED:
            expected, hint = "the seed of its noise as the class's own", "Call the hyperparameter otherwise."
            raise RuleError(where, expected=expected, got=f"a hyperparameter {SEED}", hint=hint)
    if "step" in {s.name for s in raw.slots}:
        expected = "a slot by another name: state['step'] is the number of steps taken"
        raise RuleError(where, expected=expected, got="step", hint="Take the number of the step as a keyword-only t.")


def _made_again(reference: str, name: str) -> type[RuleOptimizer]:
    return from_rule(reference, name=name)


def _reduced(cls: _RuleClass) -> str | tuple[Any, ...]:
    """How pickle saves a class made from a rule: by its own name where a module has it, else by its rule's."""
    if getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is cls:
        return str(cls.__qualname__)
    return _made_again, (_reference(cls.made_from), cls.__name__)


def _reference(rule: Rule) -> str:
    """What `rules.resolve` finds the rule by in another process."""
    with suppress(StepruleError):
        if rules.get(rule.name) is rule:
            return rule.name
    module = rule.function.__module__
    if not module.startswith("steprule_user_") and getattr(sys.modules.get(module), rule.name, None) is rule:
        return f"{module}:{rule.name}"
    file = Path(rule.lines[0])
    if file.suffix == ".py" and file.is_file():
        return f"{file}:{rule.name}"
    raise pickle.PicklingError(
        f"an optimizer of the rule {rule.name!r}: expected a rule of the catalogue, a module or a file, got one that only this "
        "process has. Put the rule into a file; or use cloudpickle, which saves its code."
    )


copyreg.pickle(_RuleClass, _reduced)
