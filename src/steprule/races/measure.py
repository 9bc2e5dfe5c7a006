"""What a race measures on a problem, and on which scale it compares, with the words for both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steprule.errors import InputError
from steprule.problems.problem import Problem
from steprule.problems.scoring import measured
from steprule.races import statistics

Array = NDArray[Any]
TENTH = 0.1
"""Learning rates are called good that lose no more than this share."""


@dataclass(frozen=True)
class Measure:
    """Which loss judges the winners, and which one chose them."""

    split: Literal["test", "validation", "train"]
    """Of the samples on which winners are judged, as results name it."""
    chosen_by: Literal["validation", "train"]
    """Of the samples by whose loss a study chooses."""

    @property
    def loss(self) -> str:
        """The loss that judges, in words: "test loss"."""
        return _LOSSES[self.split]

    @property
    def of(self) -> str:
        """The samples that judge, in words: "test"."""
        return self.loss.removesuffix(" loss")

    @property
    def choice(self) -> str:
        """The loss that chose, in words: "the validation loss"."""
        return f"the {_LOSSES[self.chosen_by]}"

    @property
    def caution(self) -> str:
        """What such a loss does not say; empty where one split chose and another judged."""
        if self.split == "validation":
            return "There is no test split: the samples that judge are those that chose, so on new ones the loss is higher."
        if self.split == "train":
            return "Nothing was held out: it is the loss on the training samples, and says nothing of new ones."
        return (
            ""
            if self.chosen_by == "validation"
            else "Winners were chosen by the training loss: there is no validation split."
        )


_LOSSES = {"test": "test loss", "validation": "validation loss", "train": "training loss"}


def measure_of(task: Problem) -> Measure:
    """What a race measures on this problem: the most that its splits allow."""
    split: Any = next(part for part in ("test", "validation", "train") if part in task.parts)
    return Measure(split, "validation" if "validation" in task.parts else "train")


def check_first_loss(task: Problem, seed: int) -> None:
    """Raises `InputError` where the loss before the first step is not finite: nothing could be compared after it."""
    model = task.initial_model(seed)
    first = measured(task, model, task.parts["train"])
    if not math.isfinite(first):
        raise InputError(f"problem {task.name}", expected="a finite loss before the first step", got=str(first))


@dataclass(frozen=True)
class Scale:
    """How the losses of a cell are compared.

    By their ratios, where every loss is positive: an outcome is the logarithm of a loss. Else by their differences: an
    outcome is the loss itself, and the yardstick is the fall of the loss from the first step to the lowest competitor.
    """

    ratios: bool = True
    fall: float = 0.0
    """Of differences: the mean loss before the first step minus the lowest competitor's. 0 or less where nobody ended lower."""

    @property
    def of(self) -> str:
        """What a per cent is a part of, behind it: nothing for a ratio of losses."""
        return "" if self.ratios else " of the fall"

    @property
    def tells(self) -> bool:
        """Whether there is anything to compare by."""
        return self.ratios or self.fall > 0

    @property
    def near(self) -> float:
        """The difference of outcomes up to which a learning rate is called good."""
        return self.least(TENTH)

    def outcomes(self, losses: Array, initial: Array, diverged: Array) -> Array:
        """The outcome of each training; who diverged counts with the loss before the first step."""
        return (statistics.outcome if self.ratios else statistics.counted)(losses, initial, diverged)

    def loss(self, outcome: Any) -> Any:
        """The losses of outcomes."""
        return np.exp(np.clip(outcome, -700.0, 700.0)) if self.ratios else outcome

    def least(self, share: float) -> float:
        """The difference of outcomes that this share is."""
        return math.log1p(share) if self.ratios else share * self.fall

    def percent(self, difference: float) -> float:
        """A difference of outcomes in per cent: of the lower loss, or of the fall."""
        if self.ratios:
            return 100 * math.expm1(min(difference, 50.0))
        return 100 * difference / self.fall if self.fall > 0 else math.nan


def scale_of(task: Problem, losses: Array, initial: Array) -> Scale:
    """The scale for losses of trainings that did not diverge, and their losses before the first step.

    Where a problem's floor is known to be 0 or more, a loss of 0 or less is rounding, and ratios hold.
    """
    seen = np.concatenate([losses[np.isfinite(losses)], initial[np.isfinite(initial)]])
    if (seen > 0).all():
        return Scale()
    known = task.floor is not None and task.floor >= 0
    return Scale(ratios=known and bool((initial > 0).all()))
