"""Train lanes one after the other: what cannot be batched, and what is so large that nothing is gained by it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from steprule import by_value
from steprule.problems import scoring
from steprule.problems.problem import PARTS, Init, Problem
from steprule.schedules import Schedule
from steprule.steppers import WAYS, UnsuitedError, Way
from steprule.sweeps.engine import Outcome, curve_of
from steprule.training import Training, check_device, with_some_way

Array = NDArray[Any]


class Keeper(Protocol):
    """Keeps a training that is under way, so that one who is interrupted goes on in its middle."""

    def load(self) -> bytes | None:
        """What was saved last; None where nothing was."""

    def is_due(self) -> bool:
        """Whether enough time has passed since something was saved, or tried."""

    def save(self, told: bytes | None) -> None:
        """Save it; None where it cannot be."""


class _Nobody:
    def load(self) -> None:
        return None

    def is_due(self) -> bool:
        return False

    def save(self, told: bytes | None) -> None:
        pass


def one_by_one(
    task: Problem, what: Any, given: Mapping[str, Array], points: Array, seeds: Array, *, schedule: Schedule, epochs: int,
    batch_size: int, init: Init = "same", device: str = "cpu", keeper: Keeper | None = None,
) -> Outcome:  # fmt: skip
    """Train these points with these seeds, [lanes] each, a training after the other."""
    keeper = keeper or _Nobody()
    begun = _loaded(keeper.load())
    fresh: dict[str, list[Any]] = {n: [] for n in (*PARTS, "initial", "died_at", "curve", "metrics")}
    found = begun.get("found", fresh)
    where = check_device(device)
    for lane in range(len(found["initial"]), len(points)):
        own = {n: v[points[lane]].item() for n, v in given.items()}
        how: dict[str, Any] = {"init": init, "schedule": schedule, "device": where}
        middle = begun if begun.get("lane") == lane else {}
        rest = {"found": found, "lane": lane}
        train_once = partial(_trained, task, what, own, int(seeds[lane]), epochs, batch_size, how, middle, keeper, rest)
        training, initial, losses = with_some_way(what, train_once)
        found["initial"].append(initial)
        for part in PARTS:
            found[part].append(training.measured(part) if part in task.parts else np.nan)
        found["metrics"].append(scoring.row_of(task, training.scored()))
        bad = np.flatnonzero(~np.isfinite(losses))
        found["died_at"].append(int(bad[0]) + 1 if len(bad) else 0)
        found["curve"].append(curve_of(losses))
    return Outcome(**{n: np.array(v) for n, v in found.items()})


def _trained(
    task: Problem, what: Any, hypers: Mapping[str, Any], seed: int, epochs: int, batch_size: int, how: Mapping[str, Any],
    begun: Mapping[str, Any], keeper: Keeper, rest: Mapping[str, Any], way: Way,
) -> tuple[Training, float, Array]:  # fmt: skip
    """A training at its end, its loss before the first step, and the loss of each batch.

    `begun` is one that was kept in its middle. What is kept is each time a copy that has then taken some steps as the training did
    itself: a copy may lose what the training needs, hooks or states by a parameter's id, and such a training begins again.
    """
    if begun and WAYS.index(way) < WAYS.index(begun["way"]):
        raise UnsuitedError  # it was tried then
    training = Training(task, what, hypers, seed, epochs, batch_size, way=way, **how)
    goes_on = bool(begun) and way == begun["way"]
    initial, losses = (begun["initial"], list(begun["losses"])) if goes_on else (training.measured(), [])
    tried: bytes | None = None
    with training.seeded():
        if goes_on:
            training.go_on(begun["state"])
        for _, _, _, loss in training.steps():
            losses.append(loss)
            if tried is not None:
                if training.copies_go_on is not None:
                    keeper.save(tried if training.copies_go_on else None)
                    tried = None
            elif training.copies_go_on is not False and keeper.is_due():
                told = _dumped({**rest, "initial": initial, "losses": losses, "way": way, "state": training.state()})
                if copied := _loaded(told):
                    training.try_copy(copied["state"])
                    tried = told
                else:
                    training.copies_go_on = False
                    keeper.save(None)
    return training, initial, np.array(losses)


def _dumped(state: Any) -> bytes | None:
    """A training under way as bytes; None for what cannot be pickled."""
    try:
        return by_value.dumps(state, _whole)
    except Exception:  # noqa: BLE001  (whatever an optimizer holds)
        return None


def _loaded(told: bytes | None) -> dict[str, Any]:
    """The training from its bytes; {} where there are none, or of code that has changed."""
    try:
        return dict(by_value.loads(told)) if told is not None else {}
    except Exception:  # noqa: BLE001  (whatever an optimizer holds)
        return {}


def _whole(part: Any) -> Any:
    """An optimizer with all its attributes: torch's own pickle keeps states and groups alone, and a count of steps would be lost."""
    if isinstance(part, torch.optim.Optimizer) and type(part).__getstate__ is torch.optim.Optimizer.__getstate__:
        return object.__new__, (type(part),), dict(vars(part))
    return NotImplemented
