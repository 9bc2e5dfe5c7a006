"""A training and its curve, as both editions have it: step, and every so many samples measure the loss with the clock stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from steprule.counts import whole
from steprule.d2l.pieces import Timer, evaluate_loss, no_batches, squared_loss

Net = Callable[[Tensor], Tensor]


@dataclass
class Curve:
    """The loss on all data while a training goes on."""

    every: int
    """After how many samples a point comes; another stands at the end."""
    epochs: list[float] = field(default_factory=list)
    """[points]: when it was measured."""
    losses: list[float] = field(default_factory=list)
    """[points]: half the mean squared error."""
    timer: Timer = field(default_factory=Timer)
    """The seconds of the steps between two points."""

    def follow(
        self, net: Net, step: Callable[[Tensor, Tensor], None], data_iter: Iterable[Any], num_epochs: int,
        told: Callable[[float, float], None] = lambda epoch, loss: None,
    ) -> None:  # fmt: skip
        """Take a `step(X, y)` for each batch of each epoch; each point is `told` as well."""
        num_epochs = whole("num_epochs", num_epochs, 1)
        samples = sum(len(y) for _, y in data_iter)
        seen = 0
        self.timer.start()
        for epoch in range(1, num_epochs + 1):
            for X, y in data_iter:
                step(X, y)
                before, seen = seen, seen + len(y)
                if seen // self.every > before // self.every or seen == num_epochs * samples:
                    self.timer.stop()
                    self.epochs.append(seen / samples)
                    self.losses.append(evaluate_loss(net, data_iter, squared_loss))
                    told(self.epochs[-1], self.losses[-1])
                    self.timer.start()
            if not samples or seen < epoch * samples:
                raise no_batches()

    def seconds_per_epoch(self) -> float:
        """Of the steps, in the mean."""
        return self.timer.sum() / self.epochs[-1]
