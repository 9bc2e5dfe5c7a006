"""The ways to call an optimizer of torch's kind: the one that suits it is found by trying.

Its authors' own way is wanted. Most want a gradient and `step()`. Some want the loss again (`step(closure)`), some a gradient that
can itself be differentiated (`backward(create_graph=True)`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from steprule.foreign import parameters_of

T = TypeVar("T")


@dataclass(frozen=True)
class Way:
    """How an optimizer is called."""

    closure: bool
    """`step(closure)`, where the closure clears the gradients and computes the loss and the gradients again; else `step()`."""
    graph: bool
    """Gradients are computed with `create_graph=True`."""

    def suits(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether an optimizer's `step` takes what this way gives."""
        taken = [p for p in parameters_of(optimizer.step).values() if p.kind is not p.VAR_KEYWORD]
        needs = bool(taken) and taken[0].default is taken[0].empty and taken[0].kind is not taken[0].VAR_POSITIONAL
        # By SAM's authors' names: a step between whose halves the loss is computed again. Without a closure one may go on in silence.
        needs = needs or (bool(taken) and hasattr(optimizer, "first_step") and hasattr(optimizer, "second_step"))
        second_order = bool(getattr(optimizer, "is_second_order", False))  # timm's name for it
        return (bool(taken) if self.closure else not needs) and (self.graph or not second_order)


WAYS = (Way(False, False), Way(True, False), Way(False, True), Way(True, True))
"""The usual one first."""


class StepError(Exception):
    """An optimizer raised at step `t`; `told` says so in one line."""

    def __init__(self, t: int, told: Exception, error: Exception) -> None:
        super().__init__(str(told))
        self.t, self.told, self.text = t, told, f"{error}".lower()

    def asks_for(self, way: Way) -> bool:
        """Whether the message asks for what this way gives."""
        closure = way.closure and ("closure" in self.text or "'nonetype' object is not callable" in self.text)
        graph = way.graph and any(words in self.text for words in ("create_graph", "grad_fn", "does not require grad"))
        return closure or graph


class UnsuitedError(Exception):
    """An optimizer cannot be called in this way."""


class DivergedError(Exception):
    """An optimizer raised at numbers that were not finite any more: the training has diverged."""


def by_some_way(train: Callable[[Way], T]) -> T:
    """What `train` returns for the first way of calling its optimizer in which no step raises.

    Each try is a whole training from the start. Raises the error of the first way, in one
    line; that of a later one where it came further, or had what the first had asked for.
    """
    told: StepError | None = None
    for way in WAYS:
        try:
            return train(way)
        except UnsuitedError:
            continue
        except StepError as failure:
            if told is None or failure.t > told.t or told.asks_for(way):
                told = failure
    assert told is not None  # every optimizer suits a way
    raise told.told from told
