"""Keep a training that is under way, so that one who is interrupted goes on in its middle.

What is kept are copies that have shown that they go on as the training does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from steprule.identity import by_value
from steprule.training.under_way import Training


class Keeper(Protocol):
    """Where it is kept."""

    def load(self) -> bytes | None:
        """What was saved last; None where nothing was."""

    def is_due(self) -> bool:
        """Whether enough time has passed since something was saved, or tried."""

    def save(self, told: bytes | None) -> None:
        """Save it; None where it cannot be."""


class Nobody:
    """Keeps nothing."""

    def load(self) -> None:
        """Nothing."""

    def is_due(self) -> bool:
        """Never."""
        return False

    def save(self, told: bytes | None) -> None:
        """Not at all."""


class Keeping:
    """A training's copies: made when one is due, tried, kept.

    `lanes`: the trainings that are finished. They are kept in any case.
    """

    def __init__(self, keeper: Keeper, training: Training, lanes: Mapping[str, Any]) -> None:
        self.keeper, self.training, self.lanes = keeper, training, lanes
        self.told: bytes | None = None
        """A copy on trial."""
        self.shared: bytes | None = None
        """What a copy would use together with the training, as it was a step ago."""
        self.refused = False

    def look(self, more: Mapping[str, Any]) -> None:
        """Behind a step. `more` goes with the copy."""
        training = self.training
        if self.refused:
            return
        if self.told is not None:
            if training.copies_go_on is not None:
                self._keep(self.told if training.copies_go_on else None)
                self.told = None
        elif self.shared is not None:
            before, self.shared = self.shared, None
            told = dumped({**self.lanes, **more, "state": training.state()})
            copied = loaded(told)
            if copied and before == self._of_both():
                training.try_copy(copied["state"])
                self.told = told
            else:
                self._keep(None)
        elif self.keeper.is_due():
            self.shared = self._of_both() if training.may_be_copied else None
            if self.shared is None:
                self._keep(None)

    def _of_both(self) -> bytes | None:
        """A loss that counts its calls would count those of a copy."""
        return dumped((self.training.task.loss, self.training.task.training_step))

    def _keep(self, told: bytes | None) -> None:
        self.refused = told is None
        self.keeper.save(told or dumped(self.lanes))


def dumped(state: Any) -> bytes | None:
    """A training under way as bytes; None for what cannot be pickled."""
    try:
        return by_value.dumps(state, _whole)
    except Exception:  # noqa: BLE001  (whatever an optimizer holds)
        return None


def loaded(told: bytes | None) -> dict[str, Any]:
    """The training from its bytes; {} without bytes, and where the code has changed since."""
    try:
        return dict(by_value.loads(told)) if told is not None else {}
    except Exception:  # noqa: BLE001  (whatever an optimizer holds)
        return {}


def _whole(part: Any) -> Any:
    """An optimizer with all its attributes: torch's own pickle keeps states and groups alone, and a count of steps would be lost."""
    if isinstance(part, torch.optim.Optimizer) and type(part).__getstate__ is torch.optim.Optimizer.__getstate__:
        return object.__new__, (type(part),), dict(vars(part))
    return NotImplemented
