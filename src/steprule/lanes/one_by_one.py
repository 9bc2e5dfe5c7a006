"""Train lanes one after the other: what cannot be batched, and what is so large that nothing is gained by it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.lanes.keeping import Keeper, Keeping, Nobody, dumped, loaded
from steprule.lanes.train import Outcome, curve_of
from steprule.problems import scoring
from steprule.problems.problem import Problem
from steprule.problems.source import PARTS
from steprule.provenance import check_device
from steprule.schedules import Schedule
from steprule.steppers import WAYS, UnsuitedError, Way
from steprule.trainable import Trainable
from steprule.training.under_way import Recipe, Training

Array = NDArray[Any]


def one_by_one(
    task: Problem, what: Any, given: Mapping[str, Array], points: Array, seeds: Array, *, schedule: Schedule, epochs: int,
    batch_size: int, device: str = "cpu", keeper: Keeper | None = None,
) -> Outcome:  # fmt: skip
    """Train these points with these seeds, [lanes] each, a training after the other."""
    keeper = keeper or Nobody()
    begun = loaded(keeper.load())
    fresh: dict[str, list[Any]] = {n: [] for n in (*PARTS, "initial", "died_at", "curve", "metrics")}
    found = begun.get("found", fresh)
    where = check_device(device)
    for lane in range(len(found["initial"]), len(points)):
        own = {n: v[points[lane]].item() for n, v in given.items()}
        how: dict[str, Any] = {"schedule": schedule, "device": where}
        middle = begun if begun.get("lane") == lane and "state" in begun else {}
        lanes = {"found": found, "lane": lane}
        train_once = partial(
            _trained, task, what, own, int(seeds[lane]), epochs, batch_size, how, middle, keeper, lanes
        )
        training, initial, losses = Trainable.of(what).in_some_way(train_once)
        found["initial"].append(initial)
        for part in PARTS:
            found[part].append(training.measured(part) if part in task.parts else np.nan)
        found["metrics"].append(scoring.row_of(task, training.scored()))
        bad = np.flatnonzero(~np.isfinite(losses))
        found["died_at"].append(int(bad[0]) + 1 if len(bad) else 0)
        found["curve"].append(curve_of(losses))
        if keeper.is_due():
            keeper.save(dumped({"found": found}))
    return Outcome(**{n: np.array(v) for n, v in found.items()})


def _trained(
    task: Problem, what: Any, hypers: Mapping[str, Any], seed: int, epochs: int, batch_size: int, how: Mapping[str, Any],
    begun: Mapping[str, Any], keeper: Keeper, lanes: Mapping[str, Any], way: Way,
) -> tuple[Training, float, Array]:  # fmt: skip
    """A training at its end, its loss before the first step, and the loss of each batch.

    `begun` is one that was kept in its middle; `keeper` keeps this one, and with it the finished `lanes`.
    """
    if begun and WAYS.index(way) < WAYS.index(begun["way"]):
        raise UnsuitedError  # it was tried then
    training = Training(Recipe(task, Trainable.of(what), hypers, seed, epochs, batch_size, **how), way)
    goes_on = bool(begun) and way == begun["way"]
    initial, losses = (begun["initial"], list(begun["losses"])) if goes_on else (training.measured(), [])
    keeping = Keeping(keeper, training, lanes)
    with training.seeded():
        if goes_on:
            training.go_on(begun["state"])
        for _, _, _, loss in training.steps():
            losses.append(loss)
            keeping.look({"initial": initial, "losses": losses, "way": way})
    return training, initial, np.array(losses)
