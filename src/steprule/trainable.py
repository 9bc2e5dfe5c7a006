"""Who can train: a rule, an optimizer class or a factory, from any way to say one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from steprule import rules
from steprule.errors import InputTypeError, unknown_name
from steprule.foreign import parameters_of
from steprule.hyper import Hyper
from steprule.per_kind import PerKind
from steprule.rules.load import PER_KIND, load_object
from steprule.rules.parts import for_training
from steprule.rules.rule import Rule

if TYPE_CHECKING:
    import torch
    from torch import nn

    from steprule.steppers import Stepper
    from steprule.ways import Way

# torch takes a second, which a rule alone need not wait for: here it is imported where a class comes in.
Optimizable: TypeAlias = "Rule | str | type[torch.optim.Optimizer] | Callable[..., torch.optim.Optimizer] | Trainable"
"""What can train: a rule in any way to say one, an Optimizer class, or a factory `params -> optimizer`."""
Stating: TypeAlias = Rule | PerKind
"""What states its hyperparameters: a rule, or a rule per kind of parameter."""
EXPECTED = "a rule, a torch.optim.Optimizer class or a factory params -> optimizer"
T = TypeVar("T")


@dataclass(frozen=True)
class Trainable:
    """One who can train.

    >>> Trainable.of("adam").accepts("clip_norm"), Trainable.of("torch.optim.Adam").accepts("clip_norm")
    (True, False)
    """

    what: Stating | Callable[..., torch.optim.Optimizer]
    """As its author wrote it: the rule, a rule per kind, or what makes the optimizer."""
    rule: Stating | None = None
    """The rule with all that can be set where it runs, or a rule per kind; None for a class and a factory."""

    @classmethod
    def of(cls, spec: Optimizable) -> Trainable:
        """From any way to say one: `adam`, `mine.py`, `mine.py:name`, `package.module:name`, `torch.optim.Adam`,
        `by_kind:lion+adamw`, or the thing itself.

        Raises `InputTypeError` for what cannot train, `UnknownNameError` with the nearest name.
        """
        if isinstance(spec, Trainable):
            return spec
        found = _found(spec)
        return cls(found, stated(found) if isinstance(found, Stating) else None)

    @property
    def is_rule(self) -> bool:
        """Whether it states what it computes and what can be set, so that lanes of it train together."""
        return self.rule is not None

    @property
    def name(self) -> str:
        """The name under which a result is filed: a rule's own, `torch.optim.Adam`, or the factory's."""
        if isinstance(self.what, Stating):
            return self.what.name
        import torch

        name = getattr(self.what, "__name__", type(self.what).__name__)
        return f"torch.optim.{name}" if getattr(torch.optim, name, None) is self.what else name

    @property
    def known(self) -> list[str]:
        """The hyperparameters that it has."""
        if self.rule is not None:
            return list(self.rule.settings)
        named = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
        found = [n for n, p in parameters_of(self.what).items() if p.kind in named]
        return [n for k, n in enumerate(found) if k or n not in ("params", "parameters", "p")]

    @property
    def hypers(self) -> dict[str, Hyper]:
        """By name what a rule says of each; nothing of a class."""
        return {h.name: h for h in self.rule.hypers} if self.rule is not None else {}

    @property
    def defaults(self) -> dict[str, Any]:
        """By name, the default of each hyperparameter that has one."""
        if self.rule is not None:
            return dict(self.rule.defaults)
        found = parameters_of(self.what)
        return {n: found[n].default for n in self.known if found[n].default is not inspect.Parameter.empty}

    def accepts(self, name: str) -> bool:
        """Whether it can be set; True for a factory that takes whatever it is given, where one cannot know."""
        if self.rule is not None:
            if isinstance(self.rule, PerKind):
                return self.rule.accepts(name)
            return name in self.known or name in self.rule.tuples
        return name in self.known or any(p.kind is p.VAR_KEYWORD for p in parameters_of(self.what).values())

    @property
    def make(self) -> Callable[..., torch.optim.Optimizer]:
        """What makes an optimizer of torch's kind: the class or the factory itself; of a rule its compiled class."""
        if not isinstance(self.what, Rule):
            return self.what  # type: ignore[return-value]  # a rule per kind makes one too
        from steprule.optim import from_rule

        return from_rule(self.what)

    def stepper(self, model: nn.Module, hypers: Mapping[str, Any], way: Way, *, diagnostics: bool = False) -> Stepper:
        """What steps a model with it, called in this `way`; with `diagnostics` it says of each step what it knows.

        Raises `StepruleError` for hyperparameters that do not fit, and where it knows nothing of its steps.
        """
        from steprule.steppers import ClassStepper, stepper_of

        if isinstance(self.what, Stating):
            return stepper_of(self.what, model, hypers, diagnostics=diagnostics)
        if diagnostics:
            hypers = {**hypers, "diagnostics": True}
        if unknown := [n for n in hypers if not self.accepts(n)]:
            raise unknown_name("hyperparameter", unknown[0], sorted(self.known), where=f" of {self.name}")
        return ClassStepper(self.make, self.name, model, hypers, way)

    def in_some_way(self, train_once: Callable[[Way], T]) -> T:
        """A whole training: with a rule, or with an optimizer in the first way of calling it in which no step raises."""
        from steprule.ways import WAYS, by_some_way

        return train_once(WAYS[0]) if self.is_rule else by_some_way(train_once)


def stated(what: Stating) -> Stating:
    """What states hyperparameters, with all that can be set where it trains."""
    return for_training(what) if isinstance(what, Rule) else what


def one_or_more(given: Any) -> tuple[Any, ...]:
    """What races: one alone counts as a list of one. Raises `InputTypeError` for what is neither."""
    if isinstance(given, Iterable) and not isinstance(given, str | type):
        return tuple(given)
    if given is None or isinstance(given, bool | int | float):
        expected = "rules, optimizer classes or factories, or a list of them"
        raise InputTypeError("rules", expected=expected, got=repr(given))
    return (given,)


def _found(spec: Any) -> Stating | Callable[..., torch.optim.Optimizer]:
    found = spec
    if isinstance(spec, str):
        if is_by_kind(spec):
            from steprule.optim.mixture import spelled

            return spelled(spec)
        if spec.startswith("torch.optim."):
            found = _torch_class(spec.removeprefix("torch.optim."))
        elif ":" in spec and not spec.endswith(".py"):
            found = load_object(spec, kind="optimizer")
        else:
            return rules.resolve(spec)
    if isinstance(found, Stating):
        return found
    if isinstance(found, type):
        if _trains(found):
            return found
    elif callable(found):
        if list(parameters_of(found))[:2] == ["p", "g"]:
            return rules.resolve(spec)  # raises: a rule that lacks its decorator
        return found  # type: ignore[no-any-return]
    raise InputTypeError("what trains", expected=EXPECTED, got=repr(spec))


def is_by_kind(spec: object) -> bool:
    """Whether it spells a rule per kind, and not a file or a module."""
    return isinstance(spec, str) and spec.startswith(PER_KIND)


def _trains(kind: type) -> bool:
    """Whether it is a class of optimizers, and not the one that has no step."""
    import torch

    return issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer


def _torch_class(name: str) -> Any:
    import torch

    public = [n for n, c in vars(torch.optim).items() if isinstance(c, type) and _trains(c)]
    if name not in public:
        raise unknown_name("class of torch.optim", name, sorted(public))
    return getattr(torch.optim, name)
