"""Train lanes one after the other: what cannot be batched, and what gains nothing by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from steprule.lanes.keeping import Keeper, Keeping, Nobody, dumped, loaded
from steprule.lanes.records import Array, Outcome, Trainings, curve_of
from steprule.problems import scoring
from steprule.problems.problem import Problem
from steprule.problems.source import PARTS
from steprule.provenance import check_device
from steprule.trainable import Trainable
from steprule.training.recipe import Recipe
from steprule.training.under_way import Training
from steprule.ways import WAYS, UnsuitedError, Way


def one_by_one(task: Problem, what: Any, lanes: Trainings, recipe: Recipe, keeper: Keeper | None = None) -> Outcome:
    """Train these lanes, a training after the other; `keeper` keeps the finished ones and the one that is under way."""
    keeper = keeper or Nobody()
    check_device(recipe.device)
    begun, who = loaded(keeper.load()), Trainable.of(what)
    columns = *PARTS, "initial", "died_at", "curve", "metrics"
    found: dict[str, list[Any]] = begun.get("found", {n: [] for n in columns})
    for lane in range(len(found["initial"]), len(lanes)):
        middle = begun if begun.get("lane") == lane and "state" in begun else {}
        begin = partial(Training, task, who, lanes.point(lane), int(lanes.seeds[lane]), recipe)
        train_once = partial(_trained, begin, middle, keeper, {"found": found, "lane": lane})
        training, initial, losses = who.in_some_way(train_once)
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
    begin: Callable[[Way], Training], middle: Mapping[str, Any], keeper: Keeper, finished: Mapping[str, Any], way: Way
) -> tuple[Training, float, Array]:
    """A training at its end, its loss before the first step, and the loss of each batch.

    `middle` is one that was kept in its middle; `keeper` keeps this one, and with it the `finished` ones.
    """
    if middle and WAYS.index(way) < WAYS.index(middle["way"]):
        raise UnsuitedError  # it was tried then
    training = begin(way)
    goes_on = bool(middle) and way == middle["way"]
    initial = middle["initial"] if goes_on else training.measured()
    losses = list(middle["losses"]) if goes_on else []
    keeping = Keeping(keeper, training, finished)
    with training.seeded():
        if goes_on:
            training.go_on(middle["state"])
        for step in training.steps():
            losses.append(step.loss)
            keeping.look({"initial": initial, "losses": losses, "way": way})
    return training, initial, np.array(losses)
