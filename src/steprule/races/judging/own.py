"""A race's own results as runs: judged, they give the race's verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from steprule import extras
from steprule.errors import InputError
from steprule.races.judging.runs import Runs
from steprule.races.raced import Race

with extras.needed():
    import pyarrow as pa

if TYPE_CHECKING:
    from steprule.races.chain import Phase

LOSSES = ("test", "validation", "train")
"""The losses that judge, the one that says most of new samples first."""


def runs_of_table(table: pa.Table) -> Runs:
    """The runs of a race's `results.parquet`: the winners on fresh seeds, or settings as given."""
    columns = {
        n: table[n].to_numpy(zero_copy_only=False) for n in table.column_names if not pa.types.is_list(table[n].type)
    }
    return _runs(columns)


def runs_of_race(race: Race) -> Runs:
    """The same of a race in memory. Raises `InputError` for one shard of several."""
    if not race.whole:
        hint = "steprule race merge puts the folders of all shards together."
        raise InputError("judge", expected="a whole race", got="one shard of several", hint=hint)
    parts = [_of_phase(c.problem, c.schedule, c.label, done[-1]) for c, done in race.phases.items()]
    return _runs({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _of_phase(problem: str, schedule: str, label: str, phase: Phase) -> dict[str, Any]:
    texts = {"problem": problem, "schedule": schedule, "rule": label}
    lanes = {"role": phase.lanes.role, "study": phase.lanes.study, "seed": phase.lanes.seed, "diverged": phase.diverged}
    losses = {name: phase.results[name] for name in (*LOSSES, "initial")}
    return {**{k: np.full(len(phase.lanes), v) for k, v in texts.items()}, **lanes, **losses}


def _runs(columns: dict[str, Any]) -> Runs:
    tuned = (columns["role"] == "winner").any()
    rows = columns["role"] == ("winner" if tuned else "given")
    own = {name: values[rows] for name, values in columns.items()}
    value, measures = np.full(int(rows.sum()), np.nan), set()
    for problem in np.unique(own["problem"].astype(str)):
        here = own["problem"] == problem
        # Settings as given are compared by the training loss, as their race does.
        judging = next(n for n in (LOSSES if tuned else ("train",)) if np.isfinite(own[n][here]).any() or n == "train")
        value[here] = own[judging][here]
        measures.add({"test": "test loss", "validation": "validation loss", "train": "training loss"}[judging])
    with np.errstate(invalid="ignore"):
        learnt = (own["train"] < own["initial"]) & ~own["diverged"].astype(bool)
    where = zip(own["problem"], own["schedule"], strict=True)
    return Runs(
        method=own["rule"].astype(str), problem=np.array([f"{p}, {s} learning rate" for p, s in where]), value=value,
        seed=own["seed"].astype(str), group=own["study"].astype(str) if tuned else None, initial=own["initial"].astype(float),
        diverged=own["diverged"].astype(bool), learnt=learnt, measure=" or ".join(sorted(measures)),
        columns={"method": "rule", "problem": "problem and schedule", "seed": "seed", **({"group": "study"} if tuned else {})},
        notes=("These are a steprule race's own results.",),
    )  # fmt: skip
