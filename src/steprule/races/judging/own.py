"""A race's own results as runs: judged, they give the race's verdicts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from steprule import extras
from steprule.errors import InputError
from steprule.races.chain import Lanes, Phase
from steprule.races.judging.runs import Runs
from steprule.races.luck import Tuning
from steprule.races.raced import Race

with extras.needed():
    import pyarrow as pa

LOSSES = ("test", "validation", "train")
"""The losses that judge, the one that says most of new samples first."""
LANES = ("role", "study", "trial", "seed")
RESULTS = (*LOSSES, "initial", "died_at")


def runs_of_table(table: pa.Table) -> Runs:
    """The runs of a race's `results.parquet`: the tuned settings on fresh seeds, or settings as given."""
    _refuse_stages(json.loads((table.schema.metadata or {}).get(b"steprule.race", b"{}")).get("stages", 1))
    columns = {
        n: table[n].to_numpy(zero_copy_only=False) for n in table.column_names if not pa.types.is_list(table[n].type)
    }
    return _runs(columns)


def runs_of_race(race: Race) -> Runs:
    """The same of a race in memory. Raises `InputError` for one shard of several."""
    if not race.whole:
        hint = "steprule race merge puts the folders of all shards together."
        raise InputError("judge", expected="a whole race", got="one shard of several", hint=hint)
    _refuse_stages(race.tuning.stages if race.is_tuned else 1)
    parts = [_of_phase(c.problem, c.schedule, c.label, phase) for c, done in race.phases.items() for phase in done]
    return _runs({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _refuse_stages(most: int) -> None:
    """Raises `InputError` where the error is spent on several looks, after one of them too."""
    if most > 1:
        hint = "steprule race cite DIR gives its verdicts."
        raise InputError("judge", expected="a race that looks once", got="a race until decided", hint=hint)


def _of_phase(problem: str, schedule: str, label: str, phase: Phase) -> dict[str, Any]:
    texts = {"problem": problem, "schedule": schedule, "rule": label, "phase": phase.name}
    lanes = {name: getattr(phase.lanes, name) for name in LANES}
    results = {name: phase.results[name] for name in RESULTS}
    return {**{k: np.full(len(phase.lanes), v) for k, v in texts.items()}, **lanes, **results}


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
    diverged = _phase("", own).diverged
    with np.errstate(invalid="ignore"):
        learnt = (own["train"] < own["initial"]) & ~diverged
    where = zip(own["problem"], own["schedule"], strict=True)
    found = Runs(
        method=own["rule"].astype(str), problem=np.array([_named(p, s) for p, s in where]), value=value,
        seed=own["seed"].astype(str), initial=own["initial"].astype(float), diverged=diverged, learnt=learnt,
        measure=" or ".join(sorted(measures)),
        columns={"method": "rule", "problem": "problem and schedule", "seed": "seed"},
        notes=("These are a steprule race's own results.",),
    )  # fmt: skip
    return _tuned(found, columns) if tuned else found


def _named(problem: object, schedule: object) -> str:
    return f"{problem}, {schedule} learning rate"


def _tuned(runs: Runs, columns: dict[str, Any]) -> Runs:
    """With the trials of each tuning, which tell its luck; a group of runs is one per fresh seed.

    In an ablation, and in races from before every trial counted, a group is a study's winner, and the groups tell the luck.
    """
    group, tunings = np.full(len(runs), "", dtype=object), {}
    where = np.array([_named(p, s) for p, s in zip(columns["problem"], columns["schedule"], strict=True)])
    rules = columns["rule"].astype(str)
    for problem, method in dict.fromkeys(zip(runs.problem.tolist(), runs.method.tolist(), strict=True)):
        rows = (runs.problem == problem) & (runs.method == method)
        seeds = len(np.unique(runs.seed[rows]))  # type: ignore[index]
        group[rows] = (np.arange(rows.sum()) // seeds).astype(str)
        mine = (where == problem) & (rules == method)
        own = {name: columns[name][mine] for name in ("phase", *LANES, *RESULTS)}
        if (found := _tuning(own)) is not None and found.is_shared_out(int(rows.sum()) // seeds):
            tunings[problem, method] = found
    return replace(runs, group=group.astype(str), tunings=tunings, columns={**runs.columns, "group": "study"})


def _tuning(own: dict[str, Any]) -> Tuning | None:
    """The trials of one competitor, and its runs; None where rows of the table were left out."""
    last_two = list(dict.fromkeys(own["phase"].tolist()))[-2:]
    if len(last_two) < 2:
        return None
    tuned, last = (_phase(n, {k: v[own["phase"] == n] for k, v in own.items()}) for n in last_two)
    is_whole = (tuned.lanes.role == "trial").all() and len(set(np.bincount(tuned.lanes.study).tolist())) == 1
    return Tuning.of(tuned, last) if is_whole else None


def _phase(name: str, own: dict[str, Any]) -> Phase:
    role, study, trial, seed = (own[n] for n in LANES)
    return Phase(name, {}, Lanes(role, study, trial, seed, {}), {n: own[n].astype(float) for n in RESULTS})
