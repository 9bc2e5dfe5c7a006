"""One training as a record: what was trained with what, how the loss fell, and the numbers at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.as_json import plain
from steprule.counts import counted
from steprule.display import Shown, sparkline
from steprule.problems import scoring


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
    """The model's parameters at the end, as it is evaluated: those of `final_loss`."""
    buffers: tuple[NDArray[Any], ...] = field(repr=False, default=())
    """The model's buffers at the end, a batch norm's running means say; a stored run has neither these nor the parameters."""
    versions: Mapping[str, str] = field(repr=False, default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The problem's metrics at the end, by part ("train", "validation", "test") and name, each over all samples of the part."""
    held_out: Mapping[str, float] = field(default_factory=dict)
    """The loss at the end on each part that is held out: "validation" and "test", where the problem has them."""
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

    @property
    def fall(self) -> str:
        """How the training loss fell, and the losses at the end on what is held out."""
        held_out = "".join(f", {part} loss {loss:#.6g}" for part, loss in self.held_out.items())
        return f"training loss {self.losses[0]:#.6g} -> {self.final_loss:#.6g}{held_out}"

    def in_words(self) -> str:
        """With what it was trained, and how the loss fell."""
        head = f"{self.optimizer} on {self.problem}: {self.fall}"
        how = f"{counted(self.epochs, 'epoch')}, batch {self.batch_size}, seed {self.seed}{self.scheduled}"
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
            "losses": plain(self.losses),
            "final_loss": plain(self.final_loss),
            "held_out_losses": plain(self.held_out),
            "diverged": self.diverged,
            "seconds": self.seconds,
            "metrics": plain(self.metrics),
            "versions": dict(self.versions),
        }
