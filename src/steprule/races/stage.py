"""A stage of a chain: a tuning, again where its range moved, and its confirmation on fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from steprule.races.chain import Lanes, Phase

CONFIRM = "confirm"
"""How the name of the phase ends that ends a stage."""
LATER = "stage-"
"""How the names of phases of later stages begin."""


@dataclass(frozen=True)
class Stage:
    """One, finished."""

    phases: tuple[Phase, ...]

    @property
    def tuned(self) -> Phase:
        """The trials, in the range that was the last."""
        return self.phases[-2]

    @property
    def last(self) -> Phase:
        """The trainings on fresh seeds."""
        return self.phases[-1]

    @property
    def moved(self) -> int:
        """How often the range of the learning rate moved."""
        return len(self.phases) - 2


def stages_of(done: Sequence[Phase]) -> list[Stage]:
    """The finished stages of a chain."""
    ends = [k + 1 for k, phase in enumerate(done) if phase.name.endswith(CONFIRM)]
    return [Stage(tuple(done[low:high])) for low, high in zip([0, *ends], ends, strict=False)]


def begun(done: Sequence[Phase]) -> Sequence[Phase]:
    """The phases of the stage that is under way; () where none is."""
    return done[sum(len(stage.phases) for stage in stages_of(done)) :]


def joined(parts: Sequence[Phase]) -> Phase:
    """The tunings of several stages as one, or their confirmations: batches are counted through."""
    first, *others = parts
    if not others:
        return first
    count = int(first.lanes.study.max()) + 1
    studies = [np.where(p.lanes.study < 0, -1, p.lanes.study + k * count) for k, p in enumerate(parts)]
    lanes = [replace(p.lanes, study=study) for p, study in zip(parts, studies, strict=True)]
    return Phase(first.name, first.space, _side_by_side(lanes), together(parts))


def together(parts: Sequence[Phase]) -> dict[str, np.ndarray]:
    """The results of several phases, one behind the other."""
    return {name: np.concatenate([p.results[name] for p in parts]) for name in parts[0].results}


def _side_by_side(parts: Sequence[Lanes]) -> Lanes:
    """Those of several, one behind the other."""
    columns = {n: np.concatenate([getattr(p, n) for p in parts]) for n in ("role", "study", "trial", "seed")}
    return Lanes(**columns, hypers={n: np.concatenate([p.hypers[n] for p in parts]) for n in parts[0].hypers})
