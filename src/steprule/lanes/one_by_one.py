"""Train lanes one after the other: what cannot be batched, and what gains nothing by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from steprule.lanes.keeping import Keeper, Keeping, Nobody, dumped, loaded
from steprule.lanes.records import Array, Lanes, Outcome, Recipe, curve_of
from steprule.problems import scoring
from steprule.problems.problem import PARTS, Problem
from steprule.steppers import WAYS, UnsuitedError, Way
from steprule.training import Training, check_device, with_some_way


def one_by_one(task: Problem, what: Any, lanes: Lanes, recipe: Recipe, keeper: Keeper | None = None) -> Outcome:
    """Train these lanes, a training after the other; `keeper` keeps the finished ones and the one that is under way."""
    keeper = keeper or Nobody()
    begun, device = loaded(keeper.load()), check_device(recipe.device)
    columns = *PARTS, "initial", "died_at", "curve", "metrics"
    found: dict[str, list[Any]] = begun.get("found", {n: [] for n in columns})
    for lane in range(len(found["initial"]), len(lanes)):
        middle = begun if begun.get("lane") == lane and "state" in begun else {}
        one = task, what, lanes.point(lane), int(lanes.seeds[lane]), recipe.epochs, recipe.batch_size
        begin = partial(Training, *one, schedule=recipe.schedule, device=device)
        train_once = partial(_trained, begin, middle, keeper, {"found": found, "lane": lane})
        training, initial, losses = with_some_way(what, train_once)
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
    begin: Callable[..., Training], middle: Mapping[str, Any], keeper: Keeper, finished: Mapping[str, Any], way: Way
) -> tuple[Training, float, Array]:
    """A training at its end, its loss before the first step, and the loss of each batch.

    `middle` is one that was kept in its middle; `keeper` keeps this one, and with it the `finished` ones.
    """
    if middle and WAYS.index(way) < WAYS.index(middle["way"]):
        raise UnsuitedError  # it was tried then
    training = begin(way=way)
    goes_on = bool(middle) and way == middle["way"]
    initial = middle["initial"] if goes_on else training.measured()
    losses = list(middle["losses"]) if goes_on else []
    keeping = Keeping(keeper, training, finished)
    with training.seeded():
        if goes_on:
            training.go_on(middle["state"])
        for _, _, _, loss in training.steps():
            losses.append(loss)
            keeping.look({"initial": initial, "losses": losses, "way": way})
    return training, initial, np.array(losses)
