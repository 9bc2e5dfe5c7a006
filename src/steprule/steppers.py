"""What takes one step of a training: a rule on open states, or an optimizer of torch's kind."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from steprule.compiler import eager
from steprule.errors import InputTypeError, RuleError
from steprule.foreign import refusal
from steprule.hyper import LOSS
from steprule.optim import from_rule
from steprule.optim.mixture import ByKind
from steprule.optim.optimizer import RuleOptimizer
from steprule.optim.settings import DIAGNOSTICS
from steprule.per_kind import KINDS
from steprule.rules.parts import for_training
from steprule.rules.rule import Rule
from steprule.ways import WAYS, DivergedError, StepError, UnsuitedError, Way

LARGE = 1_000_000
"""Parameters of a large model."""
Make = Callable[..., torch.optim.Optimizer]


class Stepper(Protocol):
    """What `steprule.train` steps a model with."""

    @property
    def hypers(self) -> Mapping[str, Any]:
        """The hyperparameters, as a `Run` shows them."""

    def step(self, loss: Callable[[], Tensor]) -> None:
        """Step once on the batch of which `loss` computes the loss."""

    def scale_rate(self, factor: float) -> None:
        """Set the learning rate to so many times its own."""

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the model has the weights that it is judged by."""

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """What the last step knew; nothing where nobody asked for it."""


class RuleStepper:
    """A rule on some parameters: p, g and the states go in, the new p and states come out."""

    diagnostics: Mapping[str, float] = {}

    def __init__(self, rule: Rule, parameters: Iterable[Tensor], hypers: Mapping[str, Any]) -> None:
        self.rule = for_training(rule)
        self.hypers = self.rule.shown(hypers)
        self.parameters = [p for p in parameters if p.requires_grad]
        for p in self.parameters:
            p.grad = None  # left over where the making of the model has trained it
        self.states: list[eager.State] = [{} for _ in self.parameters]
        self.model: eager.State = {}
        """The numbers of the model."""
        self.t, self.now = [0] * len(self.parameters), self.hypers
        self.seed = torch.initial_seed()
        """Of its noise."""
        self.stepped: list[int] = []
        """Which of its parameters take the step that is under way."""

    def step(self, loss: Callable[[], Tensor]) -> None:
        """As `Stepper` says."""
        found = loss()
        found.backward()  # type: ignore[no-untyped-call]  # and no autograd.grad, which leaves some hooks out
        if self.rule.asks_for_loss:
            self.now = {**self.now, LOSS: float(found.detach())}
        with torch.no_grad():
            ready = self.ready()
            if self.rule.looked:
                ready = eager.look_together(self.rule, ready, self.model, partial(self._gradients_at, loss))
            self.take(eager.step_together(self.rule, ready, self.model))

    def _gradients_at(self, loss: Callable[[], Tensor], points: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of those that were `ready` where they stand at these points, on the same batch."""
        stepped = [self.parameters[k] for k in self.stepped]
        kept = [p.detach().clone() for p in stepped]
        try:
            _put(stepped, points)
            for p in self.parameters:
                p.grad = None
            with torch.enable_grad():
                loss().backward()  # type: ignore[no-untyped-call]
            return [torch.zeros_like(p) if p.grad is None else p.grad for p in stepped]
        finally:
            _put(stepped, kept)

    def ready(self) -> list[eager.One]:
        """What the step behind the gradients takes of each parameter; as torch, what has no gradient does not step."""
        self.stepped = [k for k, p in enumerate(self.parameters) if p.grad is not None]
        for k in self.stepped:
            self.t[k] += 1
        return [
            eager.One(self.parameters[k], self.parameters[k].grad, self.states[k], self.t[k], self.now, self._key(k))
            for k in self.stepped
        ]

    def _key(self, k: int) -> eager.Key:
        """Whose noise a parameter draws."""
        return eager.Key(self.seed, k)

    def take(self, found: Iterable[tuple[Tensor, eager.State]]) -> None:
        """Take what the step gives for those that were `ready`."""
        for k, (new_p, state) in zip(self.stepped, found, strict=True):
            self.states[k] = state
            self.parameters[k].copy_(new_p)
            self.parameters[k].grad = None

    def scale_rate(self, factor: float) -> None:
        """As `Stepper` says."""
        if "lr" in self.hypers:
            self.now = {**self.hypers, "lr": self.hypers["lr"] * factor}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """As `Stepper` says."""
        if self.rule.evaluation is None:
            yield
            return
        kept = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            held = zip(kept, self.states, self.t, strict=True)
            points = [eager.evaluated(self.rule, p, state, t, self.now) for p, state, t in held]
        try:
            _put(self.parameters, points)
            yield
        finally:
            _put(self.parameters, kept)


def _put(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for p, value in zip(parameters, values, strict=True):
            p.copy_(value)


class KindStepper:
    """A rule per kind. Each steps the parameters of its kinds, whose totals are its own; all clip by the norm of all gradients."""

    diagnostics: Mapping[str, float] = {}

    def __init__(self, rules: ByKind, model: nn.Module, hypers: Mapping[str, Any]) -> None:
        self.hypers: Mapping[str, Any] = rules.shown(hypers)
        found, bound = rules.kinds_of(model), rules.bound(hypers)
        self.teams: dict[str, list[RuleStepper]] = {}
        """By the kind whose rule steps them, those of its own settings each."""
        # In the order of groups: the first one's settings begin the numbers of the model.
        for kind in KINDS:
            parameters = [one.parameter for one in found if one.kind == kind]
            if not parameters:
                continue
            rule = rules.by_kind[kind]
            own = {n: bound[kind][n] for n in rule.settings}
            stepper = RuleStepper(rule, parameters, own)
            self.teams.setdefault(rules.team_of(kind), []).append(stepper)
        self.steppers = [stepper for team in self.teams.values() for stepper in team]

    def step(self, loss: Callable[[], Tensor]) -> None:
        """As `Stepper` says."""
        loss().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            teams = []
            for team in self.teams.values():
                ready = [one for stepper in team for one in stepper.ready()]
                teams.append(eager.Team(team[0].rule, ready, team[0].model))
            for team, found in zip(self.teams.values(), eager.step_teams(teams), strict=True):
                results = iter(found)
                for stepper in team:
                    stepper.take(islice(results, len(stepper.stepped)))

    def scale_rate(self, factor: float) -> None:
        """As `Stepper` says."""
        for stepper in self.steppers:
            stepper.scale_rate(factor)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """As `Stepper` says."""
        with ExitStack() as stack:
            for stepper in self.steppers:
                stack.enter_context(stepper.averaged())
            yield


class ClassStepper:
    """An optimizer of torch's kind; one that has `eval` and `train` (schedule-free) is evaluated in its `eval`."""

    def __init__(self, make: Make, name: str, model: nn.Module, hypers: Mapping[str, Any], way: Way) -> None:
        self.name, self.hypers, self.way = name, dict(hypers), way
        try:
            self.optimizer = make(model.parameters(), **hypers)
        except Exception as error:
            raise refusal(name, error, hint=self._arguments) from error
        if not _is_optimizer(self.optimizer):
            got = f"a {type(self.optimizer).__name__}"
            raise InputTypeError(f"factory {name}", expected="a torch.optim.Optimizer", got=got)
        if not way.suits(self.optimizer):
            raise UnsuitedError
        self.parameters = list(model.parameters())
        self.rates = [group.get("lr") for group in self.optimizer.param_groups]
        self.t = 0
        self.evaluates: bool | None = None
        """Whether the optimizer begins a step by calling the closure, so that a gradient before it would be computed for
        nothing (L-BFGS), or uses the gradient that it finds (SAM). Not known before its first step."""
        self.loss: Tensor | None = None
        self.of_the_problem: Exception | None = None
        self._mode("train")

    def step(self, loss: Callable[[], Tensor]) -> None:
        """As `Stepper` says."""
        self.t += 1
        try:
            if self.way.closure:
                self._step_by_closure(loss)
            else:
                self._evaluate(loss)
                self.optimizer.step()
        except Exception as error:
            if error is self.of_the_problem:
                raise
            if not self._finite():
                raise DivergedError from error
            told = refusal(f"{self.name}, step {self.t}", error, hint=self._arguments)
            raise StepError(self.t, told, error) from error
        finally:
            if self.way.graph:  # a gradient and its graph hold each other, and no collector sees it
                for p in self.parameters:
                    p.grad = None

    def _step_by_closure(self, loss: Callable[[], Tensor]) -> None:
        """A gradient, then `step(closure)`: whoever evaluates the loss first of all is spared the gradient before."""
        first = None if self.evaluates else self._evaluate(loss)
        before = [] if self.evaluates is not None else self._numbers()
        calls = 0

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 1 and self.evaluates is None and first is not None:
                untouched = _same(self._numbers(), before)
                if any(bool(g.any()) for _, g in before if g is not None):  # no gradient at all tells nothing
                    self.evaluates = untouched
                if untouched:
                    return first  # the evaluation that stands
            return self._evaluate(loss)

        self.optimizer.step(closure)  # type: ignore[arg-type]

    def _evaluate(self, loss: Callable[[], Tensor]) -> Tensor:
        with torch.enable_grad():
            self.optimizer.zero_grad()
            try:
                self.loss = loss()
                self._backward(self.loss)
            except Exception as error:
                self.of_the_problem = error
                raise
        return self.loss

    def _backward(self, value: Tensor) -> None:
        if not self.way.graph:
            value.backward()  # type: ignore[no-untyped-call]
            return
        with warnings.catch_warnings():
            # `step` breaks the cycle of which it warns.
            warnings.filterwarnings("ignore", message=r"Using backward\(\) with create_graph=True")
            value.backward(create_graph=True)  # type: ignore[no-untyped-call]

    def _numbers(self) -> list[tuple[Tensor, Tensor | None]]:
        """Copies of the parameters and their gradients."""
        return [(p.detach().clone(), None if p.grad is None else p.grad.detach().clone()) for p in self.parameters]

    def _finite(self) -> bool:
        found = [self.loss, *self.parameters, *(p.grad for p in self.parameters)]
        return all(bool(torch.isfinite(x).all()) for x in found if x is not None and not x.is_sparse)

    @property
    def _arguments(self) -> str:
        set_ = ", ".join(f"{n}={v!r}" for n, v in self.hypers.items())
        return set_ and f"Its arguments: {set_}."

    def scale_rate(self, factor: float) -> None:
        """As `Stepper` says."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            if rate is not None:
                group["lr"] = float(rate) * factor

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """As `Stepper` says."""
        self._mode("eval")
        try:
            yield
        finally:
            self._mode("train")

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """As `Stepper` says: of an optimizer that this package makes."""
        own = self.optimizer
        asked = isinstance(own, RuleOptimizer) and any(group.get(DIAGNOSTICS) for group in own.param_groups)
        return own.diagnostics() if asked else {}  # type: ignore[attr-defined]

    def _mode(self, name: str) -> None:
        if callable(switch := getattr(self.optimizer, name, None)):
            try:
                switch()
            except Exception as error:
                raise refusal(f"{self.name}, {name}()", error, hint=self._arguments) from error


class LargeStepper(ClassStepper):
    """A rule's compiled class, as on a large model: the same rule, with its kernels, whose numbers differ by rounding."""

    def __init__(
        self, rule: Rule | ByKind, model: nn.Module, hypers: Mapping[str, Any], *, diagnostics: bool = False
    ) -> None:
        further: dict[str, Any] = {DIAGNOSTICS: True} if diagnostics else {}
        if isinstance(rule, ByKind):
            shown, own = rule.shown(hypers), partial(rule, model, show=False, **hypers, **further)
            super().__init__(lambda _: own(), rule.name, model, {}, WAYS[0])
        else:
            shown, made = for_training(rule).shown(hypers), from_rule(rule)
            way = Way(closure=made.rule.looks_twice or made.rule.asks_for_loss, graph=False)
            super().__init__(lambda params: made(params, **hypers, **further), rule.name, model, {}, way)
        self.hypers = shown


def stepper_of(rule: Any, model: nn.Module, hypers: Mapping[str, Any], *, diagnostics: bool = False) -> Stepper:
    """What steps a model by a rule, or by a rule per kind: the authors' functions, or for a million parameters and more, and for
    `diagnostics`, their compiled classes."""
    if diagnostics:
        return LargeStepper(rule, model, hypers, diagnostics=True)
    if is_large(model):
        try:
            return LargeStepper(rule, model, hypers)
        except RuleError:  # its numbers have names that torch's optimizers use for something else
            pass
    if isinstance(rule, ByKind):
        return KindStepper(rule, model, hypers)
    return RuleStepper(rule, model.parameters(), hypers)


def is_large(model: nn.Module) -> bool:
    """Whether a model keeps a core busy alone: lanes of it gain nothing together, and its step is worth a compiled kernel."""
    return sum(p.numel() for p in model.parameters()) >= LARGE


def _is_optimizer(found: Any) -> bool:
    """Whether it is an optimizer. Some wrappers have another class, and do what an optimizer does."""
    does = all(callable(getattr(found, n, None)) for n in ("step", "zero_grad"))
    return isinstance(found, torch.optim.Optimizer) or (does and isinstance(getattr(found, "param_groups", None), list))


def _same(a: list[tuple[Tensor, Tensor | None]], b: list[tuple[Tensor, Tensor | None]]) -> bool:
    pairs = [pair for one, other in zip(a, b, strict=True) for pair in zip(one, other, strict=True)]
    return all(x is y if x is None or y is None else torch.equal(x, y) for x, y in pairs)
