"""The file of a race: `results.parquet`, a row a run, written aside and renamed, so it is never half-written."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from steprule import extras
from steprule.atomic import write_aside
from steprule.errors import DataError
from steprule.races.difference import ELSEWHERE, refuse_another
from steprule.training import Run

with extras.needed():
    import pyarrow as pa
    import pyarrow.parquet as pq

Runs = dict[tuple[str, int], Run]
"""Finished runs by (label, seed)."""

SCHEMA = pa.schema(
    [
        ("label", pa.string()),
        ("optimizer", pa.string()),
        ("problem", pa.string()),
        ("seed", pa.int64()),
        ("epochs", pa.int64()),
        ("batch_size", pa.int64()),
        ("hypers", pa.string()),  # JSON
        ("final_loss", pa.float64()),
        ("diverged", pa.bool_()),
        ("seconds", pa.float64()),
        ("samples", pa.list_(pa.int64())),
        ("losses", pa.list_(pa.float64())),
    ]
)
_SPEC = b"steprule.spec"


def _schema(spec: dict[str, Any]) -> pa.Schema:
    """With a column more where the problem has metrics: JSON, by part and name."""
    return pa.schema([*SCHEMA, *([("metrics", pa.string())] if "metrics" in spec["problem"] else [])])


def save(path: Path, spec: dict[str, Any], runs: Runs) -> None:
    """Write all runs and the spec. Raises `OutputError` where that cannot be done; what was there before then stays."""
    rows = [
        {
            "label": label,
            "optimizer": run.optimizer,
            "problem": run.problem,
            "seed": run.seed,
            "epochs": run.epochs,
            "batch_size": run.batch_size,
            "hypers": json.dumps(dict(run.hypers), default=repr),
            "final_loss": run.final_loss,
            "diverged": run.diverged,
            "seconds": run.seconds,
            "samples": run.samples.tolist(),
            "losses": run.losses.tolist(),
            "metrics": json.dumps(run.to_dict()["metrics"]),
        }
        for (label, _), run in sorted(runs.items(), key=lambda item: (item[0][1], item[0][0]))
    ]
    table = pa.Table.from_pylist(rows, _schema(spec).with_metadata({_SPEC: json.dumps(spec).encode()}))
    with write_aside(path) as aside:
        pq.write_table(table, aside)


def load(path: Path, spec: dict[str, Any]) -> Runs:
    """The finished runs of the same race; {} where there is no file.

    Raises `DataError` for a file that is empty, cut off or no results, `InputError` for results of another race, with the
    first difference.
    """
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path, partitioning=None)
        stored = json.loads(table.schema.metadata[_SPEC])
        if not table.schema.equals(_schema(stored)):
            raise ValueError("other columns")
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        got = (
            "an empty file"
            if path.is_file() and not os.path.getsize(path)
            else "a file that is cut off or none of ours"
        )
        raise DataError(str(path), expected="the results of a race", got=got, hint=ELSEWHERE) from error
    refuse_another(path, stored, spec)
    return {(row["label"], row["seed"]): _run(row, spec) for row in table.to_pylist()}


def _run(row: dict[str, Any], spec: dict[str, Any]) -> Run:
    names = ("optimizer", "problem", "seed", "epochs", "batch_size", "seconds")
    scores = json.loads(row.get("metrics", "{}"))
    return Run(
        **{name: row[name] for name in names},
        hypers=json.loads(row["hypers"]),
        samples=np.array(row["samples"], dtype=np.int64),
        losses=np.array(row["losses"], dtype=np.float64),
        parameters=(),
        versions=spec["versions"],
        schedule=spec.get("schedule", "constant"),
        metrics={p: {n: math.nan if v is None else v for n, v in own.items()} for p, own in scores.items()},
    )
