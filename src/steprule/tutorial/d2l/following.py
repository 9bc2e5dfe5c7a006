"""A training and its curve in both editions: every so many samples the clock stops and the loss is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from steprule.counts import whole
from steprule.errors import InputTypeError
from steprule.foreign import refusal
from steprule.rules.rule import Rule
from steprule.tutorial.d2l.pieces import Timer, evaluate_loss, no_batches, pairs, squared_loss

Net = Callable[[Tensor], Tensor]
Step = Callable[[Tensor, Tensor], None]


def first_batch(data_iter: Iterable[Any]) -> Tensor:
    """X [n, d] of the first batch, whose shape the model needs. Raises `InputError` where there is no batch."""
    for X, _ in pairs(data_iter):
        return X
    raise no_batches()


def by_formula(update: Callable[[list[Tensor], Any, Any], Any], params: list[Tensor], states: Any, hyperparams: Any,
               net: Net) -> Step:  # fmt: skip
    """A step on half the mean squared error by `update(params, states, hyperparams)`; gradients begin at 0."""

    def step(X: Tensor, y: Tensor) -> None:
        for p in params:
            p.grad = None
        loss = squared_loss(net(X), y).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        update(params, states, hyperparams)

    return step


def by_class(make: Callable[..., torch.optim.Optimizer], hyperparams: Mapping[str, Any], net: nn.Module,
             times: float) -> Step:  # fmt: skip
    """A step by an Optimizer class on `times` half the mean squared error. Raises `StepruleError` where it makes no optimizer."""
    if isinstance(make, Rule) or not callable(make):
        got = f"the rule {make.name}" if isinstance(make, Rule) else repr(make)
        hint = "A rule becomes a class by steprule.optim.from_rule(rule)."
        raise InputTypeError("optimizer", expected="a class such as torch.optim.SGD", got=got, hint=hint)
    try:
        optimizer = make(net.parameters(), **hyperparams)
    except Exception as error:
        raise refusal(getattr(make, "__name__", repr(make)), error) from error

    def step(X: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        loss = times * squared_loss(net(X), y).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


@dataclass
class Curve:
    """The loss on all data while a training goes on."""

    every: int
    """Number of samples from one point to the next; another point stands at the end."""
    epochs: list[float] = field(default_factory=list)
    """[points]: the time of each, in epochs."""
    losses: list[float] = field(default_factory=list)
    """[points]: half the mean squared error."""
    timer: Timer = field(default_factory=Timer)
    """Measures the seconds of the steps between two points."""

    def follow(
        self, net: Net, step: Step, data_iter: Iterable[Any], num_epochs: int,
        told: Callable[[float, float], None] | None = None,
    ) -> None:  # fmt: skip
        """Take `step(X, y)` for each batch of each epoch, and call `told(epoch, loss)` at each point."""
        num_epochs = whole("num_epochs", num_epochs, 1)
        samples = sum(len(y) for _, y in pairs(data_iter))
        seen = 0
        self.timer.start()
        for epoch in range(1, num_epochs + 1):
            for X, y in pairs(data_iter):
                step(X, y)
                before, seen = seen, seen + len(y)
                if seen // self.every > before // self.every or seen == num_epochs * samples:
                    self.timer.stop()
                    self.epochs.append(seen / samples)
                    self.losses.append(evaluate_loss(net, data_iter, squared_loss))
                    if told is not None:
                        told(self.epochs[-1], self.losses[-1])
                    self.timer.start()
            if not samples or seen < epoch * samples:
                raise no_batches()

    def seconds_per_epoch(self) -> float:
        """The mean seconds of an epoch's steps."""
        return self.timer.sum() / self.epochs[-1]
