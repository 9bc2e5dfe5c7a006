"""A training under way: a fresh model, what steps it, and the batches of a seed."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from steprule.alone import Drawn, drawing, seed as begin_anew
from steprule.foreign import refusal
from steprule.problems import batch, scoring
from steprule.problems.facts import facts_of, same
from steprule.problems.problem import Problem
from steprule.problems.source import Source, stream
from steprule.trainable import Trainable
from steprule.training.recipe import Recipe
from steprule.ways import DivergedError, Way

TRIED = 12  # steps that a copy takes beside its training: more than what wrappers wait for, as a Lookahead's five


class Done(NamedTuple):
    """A step that is done."""

    before: int
    """The samples seen before it."""
    seen: int
    """Those seen after it."""
    seconds: float
    loss: float
    """Of its batch."""


class Training:
    """A training under way: a fresh model, what steps it, called in this `way`, and the batches of a seed."""

    def __init__(
        self, task: Problem, who: Trainable, hypers: Mapping[str, Any], seed: int, recipe: Recipe, way: Way
    ) -> None:
        self.task, self.seed, self.device = task, seed, torch.device(recipe.device)
        self.epochs, self.batch_size = recipe.epochs, recipe.batch_size
        self.facts = facts_of(self.task)
        self.model = self.task.initial_model(self.seed).to(self.device)
        self.data = self.task.parts["train"].on(self.device)
        self.factors = recipe.schedule.factors(recipe.steps(task))
        """What multiplies the learning rate, a factor per step."""
        self.scales = recipe.schedule.name != "constant"
        self.done = 0
        """Steps."""
        self.twin: Training | None = None
        self.copies_go_on: bool | None = None
        """Whether the copy that was tried last goes on as this does; None before that is known. See `try_copy`."""
        self.alive = True
        """Whether the optimizer still steps: some raise at numbers that are not finite."""
        self.cards = [self.device] if self.device.type == "cuda" else []
        with drawing(self.cards):
            begin_anew(stream(self.seed, 2))
            self.stepper = who.stepper(self.model, hypers, way, diagnostics=recipe.diagnostics)
            self.drawn = Drawn.now()

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """What the model draws hangs on the seed alone; the caller's own generators are as they were behind it."""
        with drawing(self.cards):
            begin_anew(stream(self.seed, 2))
            self.drawn.put_back()  # where the making of the optimizer left it
            yield

    def steps(self) -> Iterator[Done]:
        """Train, a step at a time.

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
            yield Done(before, seen, took, loss)

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
            return scoring.measured(self.task, self.model, self._of(part))

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
