"""One training: a rule with its states in the open, or any `torch.optim.Optimizer`, on a problem.

For one seed, everyone gets the same batches in the same order, and with `init="same"` the same initial weights.
"""

from __future__ import annotations

import inspect
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steprule import rules
from steprule.compiler import eager
from steprule.errors import InputError, InputTypeError, StepruleError, unknown_name
from steprule.problems import problem as problems
from steprule.problems.problem import Init, Problem
from steprule.rules.load import load_object
from steprule.rules.parts import composed
from steprule.rules.rule import Rule
from steprule.shown import Shown, sparkline

RECORD_EVERY = 100  # samples between two points of the loss curve

SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": lambda t, steps: 1.0,
    "linear": lambda t, steps: (steps - t + 1) / steps,
}
"""What multiplies the learning rate at step t, from 1: "linear" falls to zero behind the last step."""

Optimizable = Rule | str | type[torch.optim.Optimizer] | Callable[..., torch.optim.Optimizer]
"""What can train: a rule in any way to say one, an Optimizer class, or a factory `params -> optimizer`."""


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """One training: what was trained with what, and how the loss fell."""

    optimizer: str
    problem: str
    seed: int
    epochs: int
    batch_size: int
    init: str
    hypers: Mapping[str, Any]
    samples: NDArray[np.int64] = field(repr=False)
    """[n]: how many samples had been seen at each point of the curve; the first is 0."""
    losses: NDArray[np.float64] = field(repr=False)
    """[n]: the loss on the full data at each point."""
    seconds: float
    """Wall time of the training steps alone: without evaluation, set-up and imports."""
    parameters: tuple[NDArray[Any], ...] = field(repr=False)
    """The model's parameters at the end."""
    versions: Mapping[str, str] = field(repr=False, default_factory=dict)

    @property
    def final_loss(self) -> float:
        """The loss on the full data after the last step."""
        return float(self.losses[-1])

    @property
    def diverged(self) -> bool:
        """Whether the loss ended above where it began, or is not finite."""
        return not (math.isfinite(self.final_loss) and self.final_loss <= self.losses[0])

    def in_words(self) -> str:
        """With what it was trained, and how the loss fell."""
        head = f"{self.optimizer} on {self.problem}: loss {self.losses[0]:#.6g} -> {self.final_loss:#.6g}"
        how = f"{self.epochs} epochs, batch {self.batch_size}, seed {self.seed}, init {self.init}"
        set_ = ", ".join(f"{n}={v}" for n, v in self.hypers.items() if v)
        pace = f"{self.seconds:.3f} s of training steps"
        return f"{head}{' (diverged)' if self.diverged else ''}\n    {how}; {pace}\n    {set_}\n    {sparkline(self.losses)}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON; what is not finite is None."""
        return {
            "optimizer": self.optimizer,
            "problem": self.problem,
            "seed": self.seed,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "init": self.init,
            "hypers": dict(self.hypers),
            "samples": self.samples.tolist(),
            "losses": [x if math.isfinite(x) else None for x in self.losses.tolist()],
            "final_loss": self.final_loss if math.isfinite(self.final_loss) else None,
            "diverged": self.diverged,
            "seconds": self.seconds,
            "versions": dict(self.versions),
        }


def versions() -> dict[str, str]:
    """What a result depends on: the versions of steprule, torch, numpy and Python."""
    found = {"steprule": version("steprule"), "torch": torch.__version__, "numpy": np.__version__}
    return {**found, "python": platform.python_version()}


def train(
    rule: Optimizable,
    problem: str | Problem = "airfoil",
    seed: int = 0,
    epochs: int = 2,
    batch_size: int = 10,
    *,
    init: Init = "same",
    schedule: str = "constant",
    device: str = "cpu",
    **hypers: Any,
) -> Run:
    """Train `problem` with `rule`.

    Args:
        rule: a rule (its states are kept in the open, no `torch.optim`), an Optimizer class, or a factory.
        problem: a problem or its name.
        seed: of the initial weights and of the order of the samples, 0 or more.
        epochs: passes over the data, 1 or more.
        batch_size: samples a step, 1 or more; the last batch of an epoch may be smaller.
        init: "same", the same initial weights for all; or "tutorial", as the tutorial's cells (see `Problem`).
        schedule: of the learning rate, "constant" or "linear" (to zero).
        device: where to train, as torch names it.
        hypers: the rule's hyperparameters, or the class's arguments.

    Raises:
        StepruleError: an unknown name, a value out of bounds, a device that is not there.

    >>> run = train("adam", lr=0.01)
    >>> run.losses.shape, run.final_loss < 0.26
    ((31,), True)
    """
    task = problems.get(problem)
    for name, value, least in (("seed", seed, 0), ("epochs", epochs, 1), ("batch_size", batch_size, 1)):
        _check_whole(name, value, least)
    if schedule not in SCHEDULES:
        raise InputError("schedule", expected="one of " + ", ".join(SCHEDULES), got=repr(schedule))
    what = resolve(rule)
    where = check_device(device)
    features, targets = task.features.to(where), task.targets.to(where)
    model = task.initial_model(seed, init, torch_class=not isinstance(what, Rule)).to(where)
    stepper = _RuleStepper(what, model, hypers) if isinstance(what, Rule) else _ClassStepper(what, model, hypers)

    def full_loss() -> float:
        with torch.no_grad(), stepper.averaged():
            return float(task.loss(model(features), targets))

    samples, losses, seconds, seen = [0], [full_loss()], 0.0, 0
    steps = epochs * -(-len(features) // batch_size)
    for t, rows in enumerate(batches(len(features), batch_size, epochs, seed), 1):
        x, y = features[rows], targets[rows]
        if schedule != "constant":
            stepper.scale_rate(SCHEDULES[schedule](t, steps))
        began = time.perf_counter()
        stepper.step(lambda: task.loss(model(x), y))  # noqa: B023
        seconds += time.perf_counter() - began
        before, seen = seen, seen + len(rows)
        if seen // RECORD_EVERY > before // RECORD_EVERY or seen == epochs * len(features):
            samples.append(seen)
            losses.append(full_loss())
    return Run(
        optimizer=name_of(what),
        problem=task.name,
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        init=init,
        hypers=stepper.hypers,
        samples=np.array(samples, dtype=np.int64),
        losses=np.array(losses),
        seconds=seconds,
        parameters=tuple(p.detach().cpu().numpy().copy() for p in model.parameters()),
        versions=versions(),
    )


def resolve(spec: Optimizable) -> Rule | Callable[..., torch.optim.Optimizer]:
    """A rule, an Optimizer class or a factory from any way to say one; `torch.optim.Adam` is one for a class."""
    found: Any = spec
    if isinstance(spec, str):
        if ":" in spec and not spec.endswith(".py"):
            found = load_object(spec, kind="optimizer")
        elif spec.startswith("torch.optim."):
            found = _torch_class(spec.removeprefix("torch.optim."))
        else:
            return rules.resolve(spec)
    if isinstance(found, Rule) or (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        return found
    if callable(found) and not isinstance(found, type):
        if list(_parameters(found))[:2] == ["p", "g"]:
            return rules.resolve(found)  # raises: a rule that lacks its decorator
        return found  # type: ignore[no-any-return]
    expected = "a rule, a torch.optim.Optimizer class or a factory params -> optimizer"
    raise InputTypeError("what trains", expected=expected, got=repr(spec))


def name_of(what: Rule | Callable[..., torch.optim.Optimizer]) -> str:
    """The name under which a result is filed: a rule's own, `torch.optim.Adam`, or the factory's."""
    if isinstance(what, Rule):
        return what.name
    name = getattr(what, "__name__", type(what).__name__)
    return f"torch.optim.{name}" if getattr(torch.optim, name, None) is what else name


class _Stepper(Protocol):
    hypers: Mapping[str, Any]

    def step(self, loss: Callable[[], Tensor]) -> None: ...
    def scale_rate(self, factor: float) -> None: ...
    def averaged(self) -> AbstractContextManager[None]: ...


class _RuleStepper:
    """A rule on a model's parameters: p, g and the states go in, the new p and states come out."""

    def __init__(self, rule: Rule, model: nn.Module, hypers: Mapping[str, Any]) -> None:
        self.rule = composed(rule)
        self.hypers = self.rule.bind(hypers)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.states: list[eager.State] = [{} for _ in self.parameters]
        self.t, self.now = 0, self.hypers

    def step(self, loss: Callable[[], Tensor]) -> None:
        gradients = torch.autograd.grad(loss(), self.parameters)
        self.t += 1
        with torch.no_grad():
            for k, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
                new_p, self.states[k] = eager.step(self.rule, p, g, self.states[k], self.t, self.now)
                p.copy_(new_p)

    def scale_rate(self, factor: float) -> None:
        if "lr" in self.hypers:
            self.now = {**self.hypers, "lr": self.hypers["lr"] * factor}

    def averaged(self) -> AbstractContextManager[None]:
        return nullcontext()


class _ClassStepper:
    """An optimizer of torch's kind; one that has `eval` and `train` (schedule-free) is evaluated in its `eval`."""

    def __init__(self, make: Callable[..., torch.optim.Optimizer], model: nn.Module, hypers: Mapping[str, Any]) -> None:
        name = name_of(make)
        known = {n for n, p in _parameters(make).items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        takes_any = any(p.kind is p.VAR_KEYWORD for p in _parameters(make).values())
        for hyper in hypers:
            if hyper not in known and not takes_any:
                raise unknown_name("hyperparameter", hyper, sorted(known - {"params", "self"}), where=f" of {name}")
        try:
            self.optimizer = make(model.parameters(), **hypers)
        except StepruleError:
            raise
        except (ValueError, TypeError) as error:
            raise InputError(f"{name}: {error}") from error
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            got = f"a {type(self.optimizer).__name__}"
            raise InputTypeError(f"factory {name}", expected="a torch.optim.Optimizer", got=got)
        self.hypers = dict(hypers)
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups if "lr" in group]
        self._mode("train")

    def step(self, loss: Callable[[], Tensor]) -> None:
        def closure() -> Tensor:
            self.optimizer.zero_grad()
            value = loss()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        self.optimizer.step(closure)  # type: ignore[arg-type]

    def scale_rate(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    @contextmanager
    def averaged(self) -> Iterator[None]:
        self._mode("eval")
        yield
        self._mode("train")

    def _mode(self, name: str) -> None:
        if callable(switch := getattr(self.optimizer, name, None)):
            switch()


def batches(count: int, size: int, epochs: int, seed: int) -> Iterator[Tensor]:
    """Row numbers of each batch; the order of the samples depends on the seed alone."""
    generator = torch.Generator().manual_seed(problems.stream(seed, 1))
    for _ in range(epochs):
        yield from torch.split(torch.randperm(count, generator=generator), size)


def seeds_of(seeds: int | Iterable[int]) -> tuple[int, ...]:
    """The seeds themselves, from how many, from 0, or from themselves. Raises `InputError`, `InputTypeError`."""
    if isinstance(seeds, bool) or not isinstance(seeds, int | Iterable) or isinstance(seeds, str):
        raise InputTypeError("seeds", expected="a whole number, or whole numbers", got=repr(seeds))
    if isinstance(seeds, int):
        if seeds < 1:
            raise InputError("seeds", expected="1 or more", got=repr(seeds))
        return tuple(range(seeds))
    numbers = tuple(dict.fromkeys(seeds))
    if not numbers or not all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in numbers):
        raise InputError("seeds", expected="whole numbers, 0 or more", got=repr(numbers))
    return numbers


def _torch_class(name: str) -> Any:
    public = [n for n, c in vars(torch.optim).items() if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)]
    if name not in public:
        raise unknown_name("class of torch.optim", name, sorted(set(public) - {"Optimizer"}))
    return getattr(torch.optim, name)


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputTypeError(name, expected=f"a whole number, {least} or more", got=repr(value))
    if value < least:
        raise InputError(name, expected=f"{least} or more", got=repr(value))


def check_device(name: str) -> torch.device:
    """The device of that name. Raises `InputError` where torch cannot use it here."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"device {name!r}", expected="a device that torch can use here", got=reason) from error
    return device
