"""How trainings run, whatever their optimizer and seed."""

from __future__ import annotations

from dataclasses import dataclass, field

from steprule.problems.problem import Problem
from steprule.schedules import Schedule, constant


@dataclass(frozen=True)
class Recipe:
    """How trainings run, whatever their optimizer and seed."""

    epochs: int
    batch_size: int
    schedule: Schedule = field(default_factory=constant)
    """Of the learning rate."""
    device: str = "cpu"
    diagnostics: bool = False
    """Whether the optimizer says of each step what it knows."""

    def steps(self, task: Problem) -> int:
        """The steps of one training."""
        return self.epochs * task.parts["train"].steps(self.batch_size)
