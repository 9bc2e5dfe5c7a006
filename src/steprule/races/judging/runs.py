"""`Runs`: what is judged, one entry per run, whatever table it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.races.luck import Tuning

Array = NDArray[Any]


@dataclass(frozen=True)
class Runs:
    """One entry per run in each array, [runs]."""

    method: NDArray[np.str_]
    problem: NDArray[np.str_]
    """"" where the table names none."""
    value: Array
    """The loss, or the score; what is not finite is a run that diverged, or that missed its target."""
    seed: NDArray[np.str_] | None = None
    group: NDArray[np.str_] | None = None
    """Runs of a method with one name here share one tuning, and its luck."""
    cost: Array | None = None
    initial: Array | None = None
    """The loss before the first step: what a run that diverged counts as."""
    diverged: NDArray[np.bool_] | None = None
    """Where the table says so; else runs whose value is not finite."""
    learnt: NDArray[np.bool_] | None = None
    """Whether it ended below where it began, where that is known."""
    tunings: Mapping[tuple[str, str], Tuning] = field(default_factory=dict)
    """By problem and method its trials, where they are known: they tell the luck of its tuning, and not groups."""
    measure: str = "loss"
    """What the value is, in words."""
    is_higher_better: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    """By kind the column that it was read from."""
    notes: tuple[str, ...] = ()
    """What was done to the table, in sentences."""

    def __len__(self) -> int:
        return len(self.value)

    @property
    def is_gone(self) -> NDArray[np.bool_]:
        """The runs that diverged."""
        gone = ~np.isfinite(self.value)
        return gone if self.diverged is None else gone | self.diverged

    def where(self, rows: NDArray[np.bool_]) -> Runs:
        """Some of them."""
        arrays: dict[str, Any] = {
            name: value[rows] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, **arrays)
