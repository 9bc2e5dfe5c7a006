"""A race's tables and what they were made with, as plain values for JSON."""

from __future__ import annotations

from typing import Any

from steprule.as_json import finite
from steprule.races.cell import record
from steprule.races.results import SIZES, Results


def of_race(race: Results) -> dict[str, Any]:
    """The tables and what they were made with, as plain values; what is not finite is None."""
    found = {
        "spec": race.spec.stated,
        **(_comparisons(race) if race.is_tuned else _settings(race)),
        "lanes": race.lanes,
        "trained": race.trained,
        "kept": race.kept,
        "seconds": race.seconds,
        "train_seconds": race.train_seconds,
        "hardware": race.hardware,
        "made": vars(race.made),
        "results": str(race.results) if race.results else None,
    }
    return finite(found)


def _settings(race: Results) -> dict[str, Any]:
    settings = [s.to_dict() for s in race.settings]
    seeds = next(iter(race.phases.values()))[0].lanes.seed.tolist()
    return {"seeds": seeds, "loss": "train", "settings": settings}


def _comparisons(race: Results) -> dict[str, Any]:
    cells = []
    for cell in race.cells:
        about = {
            "problem": cell.problem,
            "schedule": cell.schedule,
            "loss": cell.measure.split,
            "chosen_by": cell.measure.chosen_by,
            "compared_by": "ratio" if cell.scale.ratios else "difference",
            "fall": None if cell.scale.ratios else cell.scale.fall,
            "target": cell.target,
            "smallest_found": cell.smallest_found,
            "stages": cell.stages,
            "undecided": [p.second for p in cell.undecided],
            "chance": {f"{p:g}": cell.chance(p) for p in SIZES},
        }
        standings = [vars(s) for s in cell.standings]
        untuned = [{**record(u.pair), "below_all_tuned": u.lowest} for u in cell.untuned]
        pairs = [record(p) for p in cell.pairs]
        cells.append({**about, "standings": standings, "pairs": pairs, "untuned": untuned})
    return {"matters": race.matters, "cells": cells, "agreement": race.agreement}
