"""One training: a rule with its states in the open, or any `torch.optim.Optimizer`, on a problem.

For one seed, everyone gets the same batches in the same order and the same initial weights.
"""

from __future__ import annotations

import copy
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from types import ModuleType
from typing import Any, SupportsIndex, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steprule import rules, schedules
from steprule.alone import Drawn, drawing
from steprule.alone import seed as begin_anew
from steprule.counts import whole
from steprule.display import Shown, sparkline
from steprule.errors import InputError, InputTypeError, StepruleError, unknown_name
from steprule.foreign import refusal
from steprule.problems import batch, scoring
from steprule.problems import catalogue as problems
from steprule.problems.facts import evaluating, facts_of, same
from steprule.problems.problem import Problem
from steprule.problems.source import Source, stream
from steprule.rules.load import load_object
from steprule.rules.rule import Rule
from steprule.steppers import WAYS, ClassStepper, DivergedError, Stepper, Way, by_some_way, parameters_of, stepper_of

RECORD_EVERY = 100  # samples between two points of the loss curve
POINTS = 200  # of it at most: where there are more samples, a point stands for more of them
MEASURED = 10_000_000_000  # parameters x samples that may be measured for it; two points a pass are taken in any case
TRIED = 12  # steps that a copy takes beside its training: more than what wrappers wait for, as a Lookahead's five

T = TypeVar("T")
Log = Callable[[int, Mapping[str, float]], object]
"""Is told numbers of a step, by name."""
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
    hypers: Mapping[str, Any]
    samples: NDArray[np.int64] = field(repr=False)
    """[n]: how many samples had been seen at each point of the curve; the first is 0."""
    losses: NDArray[np.float64] = field(repr=False)
    """[n]: the loss on the full data at each point."""
    seconds: float
    """Wall time of the training steps alone: without evaluation, set-up and imports."""
    parameters: tuple[NDArray[Any], ...] = field(repr=False)
    """The model's parameters at the end."""
    buffers: tuple[NDArray[Any], ...] = field(repr=False, default=())
    """The model's buffers at the end, a batch norm's running means say; a stored run has neither these nor the parameters."""
    versions: Mapping[str, str] = field(repr=False, default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The problem's metrics at the end, by part ("train", "validation", "test") and name, each over all samples of the part."""
    schedule: str = "constant"
    """Of the learning rate."""

    @property
    def final_loss(self) -> float:
        """The loss on the full data after the last step."""
        return float(self.losses[-1])

    @property
    def diverged(self) -> bool:
        """Whether the loss ended above where it began, or is not finite."""
        return not (math.isfinite(self.final_loss) and self.final_loss <= self.losses[0])

    @property
    def scheduled(self) -> str:
        """ ", cosine learning rate", for a line that says how it was trained; "" where the rate stays."""
        return f", {self.schedule} learning rate" if self.schedule != "constant" else ""

    def in_words(self) -> str:
        """With what it was trained, and how the loss fell."""
        head = f"{self.optimizer} on {self.problem}: loss {self.losses[0]:#.6g} -> {self.final_loss:#.6g}"
        how = f"{self.epochs} epochs, batch {self.batch_size}, seed {self.seed}{self.scheduled}"
        set_ = ", ".join(f"{n}={v}" for n, v in self.hypers.items() if v)
        pace = f"{self.seconds:.3f} s of training steps"
        lines = [f"{head}{' (diverged)' if self.diverged else ''}", f"{how}; {pace}", set_, sparkline(self.losses)]
        return "\n    ".join(lines + ([scoring.in_words(self.metrics)] if self.metrics else []))

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON; what is not finite is None."""
        return {
            "optimizer": self.optimizer,
            "problem": self.problem,
            "seed": self.seed,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "schedule": self.schedule,
            "hypers": dict(self.hypers),
            "samples": self.samples.tolist(),
            "losses": [x if math.isfinite(x) else None for x in self.losses.tolist()],
            "final_loss": self.final_loss if math.isfinite(self.final_loss) else None,
            "diverged": self.diverged,
            "seconds": self.seconds,
            "metrics": {
                part: {n: v if math.isfinite(v) else None for n, v in own.items()} for part, own in self.metrics.items()
            },
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
    epochs: int | None = None,
    batch_size: int | None = None,
    *,
    schedule: schedules.Given = "constant",
    device: str = "cpu",
    log: Log | None = None,
    **hypers: Any,
) -> Run:
    """Train `problem` with `rule`.

    Args:
        rule: a rule (its states are kept in the open, no `torch.optim`), an Optimizer class, or a factory.
        problem: a problem or its name.
        seed: of the initial weights and of the order of the samples, 0 or more.
        epochs: passes over the data, 1 or more; the problem's own if not given.
        batch_size: samples a step, 1 or more; the problem's own if not given. The last batch of an epoch may be smaller.
        schedule: of the learning rate, by name ("linear", "warmup(0.1)+cosine"), or a function `(t, total) -> factor`; see
            `steprule.schedules`.
        device: where to train, as torch names it.
        log: called as `log(step, numbers)`. Behind each step, from 1, with its `batch_loss`, from before the step; where the curve
            has a point, at step 0 too, with the `loss` on all training samples. What it raises comes through as it is. An
            optimizer that has to be called in another way (`step(closure)`) trains anew, so that step 0 comes again.
        hypers: the rule's hyperparameters, or the class's arguments.

    Raises:
        StepruleError: an unknown name, a value out of bounds, a device that is not there.

    >>> run = train("adam", lr=0.01)
    >>> run.losses.shape, run.final_loss < 0.26
    ((31,), True)
    """
    task = problems.get(problem)
    seed = whole("seed", seed, 0)
    epochs = whole("epochs", task.epochs if epochs is None else epochs, 1)
    size = batch_size_of(task, batch_size, task.batch_size)
    planned = schedules.get(schedule)
    what = resolve(rule)
    where = check_device(device)
    scoring.check_metrics(task)

    def train_once(way: Way) -> Run:
        training = Training(task, what, hypers, seed, epochs, size, schedule=planned, device=where, way=way)
        samples, losses, seconds = [0], [training.measured()], 0.0
        if log:
            log(0, {"loss": losses[0]})
        total = epochs * task.samples
        work = task.samples * sum(p.numel() for p in training.model.parameters())
        points = min(POINTS, max(2 * epochs, MEASURED // max(1, work)))
        every = training.data.points or RECORD_EVERY * max(1, -(-total // (RECORD_EVERY * points)))
        with training.seeded():
            for step, (before, seen, took, batch_loss) in enumerate(training.steps(), 1):
                seconds += took
                numbers = {"batch_loss": batch_loss}
                if seen // every > before // every or seen == total:
                    samples.append(seen)
                    losses.append(training.measured())
                    numbers["loss"] = losses[-1]
                if log:
                    log(step, numbers)
        model = training.model
        return Run(
            optimizer=name_of(what),
            problem=task.name,
            seed=seed,
            epochs=epochs,
            batch_size=size,
            schedule=planned.name,
            hypers=training.stepper.hypers,
            samples=np.array(samples, dtype=np.int64),
            losses=np.array(losses),
            seconds=seconds,
            parameters=tuple(p.detach().cpu().numpy().copy() for p in model.parameters()),
            buffers=tuple(b.detach().cpu().numpy().copy() for b in model.buffers()),
            versions=versions(),
            metrics=training.scored(),
        )

    return with_some_way(what, train_once)


def batch_size_of(task: Problem, given: int | None, otherwise: int) -> int:
    """The samples of a step: as given, or `otherwise`. Raises `InputError` for another one than that of the problem's loader."""
    fixed = task.parts["train"].batch_size
    if fixed is not None and given is not None and given != fixed:
        hint = "Set it where the loader is made."
        raise InputError("batch_size", expected=f"the loader's own, {fixed}", got=repr(given), hint=hint)
    return fixed or whole("batch_size", otherwise if given is None else given, 1)


def with_some_way(what: object, train_once: Callable[[Way], T]) -> T:
    """A training with a rule, or with an optimizer in whatever way it can be called."""
    return train_once(WAYS[0]) if isinstance(what, Rule) else by_some_way(train_once)


def _holds(thing: Any, numbers: set[int]) -> bool:
    """Whether containers, and objects but tensors and modules of either kind, hold one of these numbers, however deep."""
    left, seen = [thing], set()
    while left:
        part = left.pop()
        kind = type(part)  # and not isinstance: some objects answer for their class with a warning
        if kind is int and part in numbers:
            return True
        if id(part) in seen or issubclass(kind, Tensor | nn.Module | ModuleType | type | str | bytes | int):
            continue
        seen.add(id(part))
        if issubclass(kind, Mapping):
            left += [*part.keys(), *part.values()]
        elif issubclass(kind, list | tuple | set | frozenset):
            left += part
        else:
            left += getattr(part, "__dict__", {}).values()
    return False


class Training:
    """A training under way: a fresh model, what steps it in this `way`, and the batches of a seed."""

    def __init__(
        self, task: Problem, what: Rule | Callable[..., torch.optim.Optimizer], hypers: Mapping[str, Any], seed: int, epochs: int,
        batch_size: int, *, schedule: schedules.Schedule, device: torch.device, way: Way,
    ) -> None:  # fmt: skip
        self.task, self.seed, self.epochs, self.batch_size = task, seed, epochs, batch_size
        self.factors = schedule.factors(epochs * task.parts["train"].steps(batch_size))
        """What multiplies the learning rate, a factor per step."""
        self.scales = schedule.name != "constant"
        self.device, self.facts = device, facts_of(task)
        self.model = task.initial_model(seed).to(device)
        self.data = task.parts["train"].on(device)
        self.done = 0
        """Steps."""
        self.twin: Training | None = None
        self.copies_go_on: bool | None = None
        """Whether the copy that was tried last goes on as this does; None before that is known. See `try_copy`."""
        self.alive = True
        """Whether the optimizer still steps: some raise at numbers that are not finite."""
        self.cards = [device] if device.type == "cuda" else []
        self.stepper: Stepper
        with drawing(self.cards):
            begin_anew(stream(seed, 2))
            if isinstance(what, Rule):
                self.stepper = stepper_of(what, self.model, hypers)
            else:
                self.stepper = ClassStepper(what, name_of(what), self.model, hypers, way)
            self.drawn = Drawn.now()

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """What the model draws hangs on the seed alone; the caller's own generators are as they were behind it."""
        with drawing(self.cards):
            begin_anew(stream(self.seed, 2))
            self.drawn.put_back()  # where the making of the optimizer left it
            yield

    def steps(self) -> Iterator[tuple[int, int, float, float]]:
        """Train, a step at a time: the samples seen before and after it, its seconds, and its batch's loss.

        A model that draws random numbers is seeded in every step by `stream(seed, (2, t))`, so that a step draws the same for every
        optimizer, and the same when an optimizer looks twice.
        """
        seen = 0
        for t, (data, count) in enumerate(self.data.batches(self.batch_size, self.epochs, self.seed), 1):
            if t <= self.done:
                seen += count
                continue
            beside = batch.copied(data) if self.twin is not None else None
            loss, took = self._step(t, data)
            before, seen, self.done = seen, seen + count, t
            if self.twin is not None:
                self._compare(self.twin, t, beside)
            yield before, seen, took, loss

    def _step(self, t: int, data: Any) -> tuple[float, float]:
        """Step t: its batch's loss, and its seconds."""
        drawn = stream(self.seed, (2, t)) if self.facts.draws else 0
        first: list[Tensor] = []

        def loss() -> Tensor:
            if self.facts.draws:
                begin_anew(drawn)
            try:
                found = self.task.loss_of(self.model, data)
            except Exception as error:
                raise refusal(f"problem {self.task.name}: the model failed in step {t}", error) from error
            first.append(found.detach())
            return found

        if self.scales:
            self.stepper.scale_rate(self.factors[t - 1])
        began = time.perf_counter()
        try:
            if self.alive:
                self.stepper.step(loss)
        except DivergedError:
            self.alive = False
        took = time.perf_counter() - began
        return float(first[0]) if self.alive and first else math.nan, took

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on, with which `go_on` goes on; inside of `seeded`."""
        own = {"model": self.model, "stepper": self.stepper, "alive": self.alive, "done": self.done}
        gradients = [p.grad for p in self.model.parameters()]
        return {**own, "gradients": gradients, "drawn": Drawn.now()}

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Take up a training where its `state` was taken; inside of `seeded`."""
        self.model, self.stepper, self.alive, self.done = (state[n] for n in ("model", "stepper", "alive", "done"))
        for p, gradient in zip(self.model.parameters(), state["gradients"], strict=True):
            p.grad = gradient
        state["drawn"].put_back()

    @property
    def may_be_copied(self) -> bool:
        """Whether a copy has a chance. What it would lose may act so seldom that no trial sees it: hooks, a parameter's id."""
        parameters = list(self.model.parameters())
        hooked = any(p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters)
        by_id = _holds(vars(self.stepper), {id(p) for p in parameters})
        return not (self.cards or self.facts.hooks or self.facts.changes or hooked or by_id)

    def try_copy(self, state: Mapping[str, Any]) -> None:
        """See by the next `TRIED` steps whether a copy of the `state` goes on as this training does: `copies_go_on` says so then.

        A copy may lose memory that is shared, or what a closure holds.
        """
        self.copies_go_on = None
        self.twin = copy.copy(self)
        now = Drawn.now()
        self.twin.go_on(state)
        self.twin.drawn = state["drawn"]
        self.twin.done = 0  # steps of its own
        now.put_back()

    def _compare(self, twin: Training, t: int, data: Any) -> None:
        """The twin takes the same step; it is given up where its numbers differ, and behind the last step that is tried."""
        now = Drawn.now()
        try:
            twin.drawn.put_back()
            twin._step(t, data)
            twin.drawn, twin.done = Drawn.now(), twin.done + 1
            pairs = zip(*([*m.parameters(), *m.buffers()] for m in (self.model, twin.model)), strict=True)
            alike = twin.alive == self.alive and all(same(a, b) for a, b in pairs)
        except Exception:  # noqa: BLE001  (what a copy lacks may be anything)
            alike = False
        finally:
            now.put_back()
        if not alike or twin.done == TRIED:
            self.twin, self.copies_go_on = None, alike

    def measured(self, part: str = "train") -> float:
        """The loss on all samples of a part, in eval mode."""
        if not self.alive:
            return math.nan
        with self.stepper.averaged():
            return measured(self.task, self.model, self._of(part))

    def scored(self) -> dict[str, dict[str, float]]:
        """The problem's metrics by part; nan where the training has diverged."""
        if not self.task.metrics:
            return {}
        if not self.alive:
            return {part: dict.fromkeys(self.task.metrics, math.nan) for part in self.task.parts}
        with self.stepper.averaged():
            return scoring.scored(self.task, self.model, {n: self._of(n) for n in self.task.parts})

    def _of(self, part: str) -> Source:
        return self.data if part == "train" else self.task.parts[part].on(self.device)


def measured(task: Problem, model: nn.Module, part: Source) -> float:
    """The loss on these samples, in eval mode and without gradients; in parts that memory can hold where it is their mean or sum."""
    facts = facts_of(task)
    size = part.samples if facts.reduction == "whole" else facts.at_once
    total = 0.0
    with torch.no_grad(), evaluating(model), drawing():
        for piece, count in part.pieces(size):
            own = float(task.loss_of(model, piece))
            if count == part.samples:
                return own
            total += own * (count / part.samples if facts.reduction == "mean" else 1.0)
    return total


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
        if list(parameters_of(found))[:2] == ["p", "g"]:
            return rules.resolve(found)  # raises: a rule that lacks its decorator
        return found  # type: ignore[no-any-return]
    expected = "a rule, a torch.optim.Optimizer class or a factory params -> optimizer"
    raise InputTypeError("what trains", expected=expected, got=repr(spec))


def one_or_more(given: Any) -> tuple[Any, ...]:
    """What races: one alone counts as a list of one. Raises `InputTypeError` for what is neither."""
    if isinstance(given, Iterable) and not isinstance(given, str | type):
        return tuple(given)
    if given is None or isinstance(given, bool | int | float):
        expected = "rules, optimizer classes or factories, or a list of them"
        raise InputTypeError("rules", expected=expected, got=repr(given))
    return (given,)


def name_of(what: Rule | Callable[..., torch.optim.Optimizer]) -> str:
    """The name under which a result is filed: a rule's own, `torch.optim.Adam`, or the factory's."""
    if isinstance(what, Rule):
        return what.name
    name = getattr(what, "__name__", type(what).__name__)
    return f"torch.optim.{name}" if getattr(torch.optim, name, None) is what else name


def seeds_of(seeds: SupportsIndex | Iterable[int]) -> tuple[int, ...]:
    """The seeds themselves, from how many, from 0, or from themselves. Raises `InputError`, `InputTypeError`."""
    if isinstance(seeds, str) or not isinstance(seeds, Iterable | SupportsIndex):
        raise InputTypeError("seeds", expected="a whole number, or whole numbers", got=repr(seeds))
    if not isinstance(seeds, Iterable) or getattr(seeds, "ndim", 1) == 0:  # an array without dimensions is one number
        return tuple(range(whole("seeds", seeds, 1)))
    given = list(seeds)
    try:
        numbers = tuple(dict.fromkeys(whole("seeds", s, 0) for s in given))
    except StepruleError as error:
        raise InputError("seeds", expected="whole numbers, 0 or more", got=repr(given)) from error
    if not numbers:
        raise InputError("seeds", expected="whole numbers, 0 or more", got="none")
    return numbers


def _torch_class(name: str) -> Any:
    public = [n for n, c in vars(torch.optim).items() if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)]
    if name not in public:
        raise unknown_name("class of torch.optim", name, sorted(set(public) - {"Optimizer"}))
    return getattr(torch.optim, name)


def check_device(name: str) -> torch.device:
    """The device of that name. Raises `InputError` where torch cannot use it here."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"device {name!r}", expected="a device that torch can use here", got=reason) from error
    return device
