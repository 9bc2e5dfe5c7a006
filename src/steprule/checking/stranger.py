"""A stranger is a rule, an optimizer class or a factory that is not known yet, with its numbers and walks."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steprule.checking import probe
from steprule.checking.probe import Step
from steprule.errors import InputError
from steprule.rules.rule import Rule

STARTS = ("initial_accumulator_value",)
"""An optimizer reads these when it is made; set in its groups later, they would change nothing."""


@dataclass(frozen=True)
class Stranger:
    """Its numbers, and its walk with some of them set."""

    name: str
    numbers: Mapping[str, float]
    """Its numerical hyperparameters and their defaults."""
    set_to: Mapping[str, float]
    """The values that the probe sets them to."""
    run: Callable[[Mapping[str, float]], list[Step]]
    walks: dict[frozenset[str], list[Step]] = field(default_factory=dict)

    def walk(self, names: frozenset[str]) -> list[Step]:
        """The walk with these numbers set as the probe says, the others at their defaults."""
        if names not in self.walks:
            self.walks[names] = self.run({n: self.set_to[n] for n in names if n in self.set_to})
        return self.walks[names]


def of_rule(rule: Rule) -> Stranger:
    """A rule as a stranger: it is walked by the author's function."""
    numbers = {name: float(rule.defaults[name]) for name in numbers_of(rule)}

    def run(values: Mapping[str, float]) -> list[Step]:
        return probe.walk(rule, {**rule.defaults, **values})

    return Stranger(rule.name, numbers, probe.probing(rule), run)


def numbers_of(rule: Rule) -> list[str]:
    """The rule's own numerical hyperparameters: no flags and choices, nothing that the step itself supplies."""
    return [h.name for h in rule.hypers if not h.is_plain and h.given is None]


def of_class(make: Callable[..., Any]) -> Stranger:
    """An Optimizer class or a factory as a stranger. Raises `InputError` where it cannot step a matrix."""
    from steprule.trainable import Trainable

    _, optimizer = _made(make, {})
    numbers = _numbers_in(optimizer.param_groups[0])
    accepted = _accepts(make)
    settable = {n: v for n, v in numbers.items() if n not in STARTS or n in accepted}
    set_to = probe.settings(settable)

    def run(values: Mapping[str, float]) -> list[Step]:
        return _steps(make, values)

    try:
        run(set_to)
    except InputError:
        set_to = {}  # it refuses our settings, so it walks with its own
    return Stranger(Trainable.of(make).name, numbers, set_to, run)


def _accepts(make: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(make).parameters)
    except (TypeError, ValueError):
        return set()


def _takes_a_tuple(make: Callable[..., Any]) -> bool:
    """Whether it takes several numbers together, as torch's betas."""
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):
        return False
    return "betas" in parameters or any(isinstance(q.default, tuple) for q in parameters.values())


def _made(make: Callable[..., Any], values: Mapping[str, float]) -> tuple[Any, Any]:
    """The parameter and its optimizer. The constructor gets the numbers that it takes; the others are set in the groups."""
    import torch

    p = torch.from_numpy(probe.start()).requires_grad_()
    known = _accepts(make)
    given: dict[str, Any] = {n: v for n, v in values.items() if n in known}
    subject = str(getattr(make, "__name__", "optimizer"))
    try:
        if given or _takes_a_tuple(make):
            plain = make([p])
            given |= {n: v for n, v in _tuples(plain.param_groups[0], values).items() if n in known}
        optimizer = make([p], **given)
    except Exception as error:
        raise InputError(
            subject, expected="a function of [parameter] that makes an optimizer", got=_said(error)
        ) from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(subject, expected="a torch.optim.Optimizer", got=f"a {type(optimizer).__name__}")
    for group in optimizer.param_groups:
        group.update({n: v for n, v in values.items() if n in group and n not in STARTS})
        group.update(_tuples(group, values))
    return p, optimizer


def _said(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _tuples(group: Mapping[str, Any], values: Mapping[str, float]) -> dict[str, Any]:
    """The group's tuples of numbers, as torch's `betas`, with those that are given: beta1, beta2 and so on."""
    found = {n: v for n, v in group.items() if n != "params" and isinstance(v, tuple | list)}
    return {n: tuple(values.get(key, own) for key, own in _members(n, v)) for n, v in found.items()}


def _members(name: str, values: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(f"{name.removesuffix('s')}{k}", value) for k, value in enumerate(values, start=1)]


def _numbers_in(group: Mapping[str, Any]) -> dict[str, float]:
    """The group's numbers whose meaning is known, and each of a tuple's by itself."""
    plain = {n: float(v) for n, v in group.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    known = probe.settings(plain)
    found = {n: v for n, v in plain.items() if n in known}
    for name, values in group.items():
        if name != "params" and isinstance(values, tuple | list):
            found |= {key: float(v) for key, v in _members(name, values) if isinstance(v, int | float)}
    return found


def _steps(make: Callable[..., Any], values: Mapping[str, float]) -> list[Step]:
    """The walk by `step()`, or by `step(closure)` where `step()` raises."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # torch keeps states of one number in the default dtype
    first: Exception | None = None
    try:
        for with_closure in (False, True):
            p, optimizer = _made(make, values)
            try:
                return _walked(p, optimizer, with_closure=with_closure)
            except Exception as error:  # noqa: BLE001  (whatever foreign code raises)
                first = first or error
        assert first is not None
        expected = "an optimizer that steps a 3x4 matrix in float64"
        raise InputError(type(optimizer).__name__, expected=expected, got=_said(first)) from first
    finally:
        torch.set_default_dtype(before)


def _walked(p: Any, optimizer: Any, *, with_closure: bool) -> list[Step]:
    import torch

    train = getattr(optimizer, "train", None)  # schedule-free optimizers step in this mode only
    if callable(train):
        train()
    found: list[Step] = []
    for g in probe.gradients():
        gradient, before = torch.from_numpy(g), p.detach().clone()

        def closure(gradient: Any = gradient, before: Any = before) -> Any:
            # One that looks at another point sees another gradient there.
            moved = not torch.equal(p.detach(), before)
            p.grad = probe.elsewhere(gradient)(p.detach()) if moved else gradient.clone()
            return (p.detach() * gradient).sum()

        closure()
        if with_closure:
            optimizer.step(closure)
        else:
            optimizer.step()
        found.append({"p": p.detach().numpy().copy(), probe.POINT: _read(p, optimizer)})
    return found


def _read(p: Any, optimizer: Any) -> Any:
    """Where an optimizer that has `eval()` wants the model read; None where it says nothing."""
    if not (callable(getattr(optimizer, "eval", None)) and callable(getattr(optimizer, "train", None))):
        return None
    try:
        # Of a copy: there and back again would round.
        q, other = copy.deepcopy((p, optimizer))
        other.eval()
    except Exception:  # noqa: BLE001  (whatever foreign code raises)
        return None
    return q.detach().numpy().copy()
