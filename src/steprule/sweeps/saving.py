"""A sweep's lanes in a file: Parquet with one row per lane, or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from steprule import extras
from steprule.atomic import write_aside
from steprule.errors import InputError
from steprule.sweeps.result import Sweep


def save(sweep: Sweep, path: Path) -> None:
    """Write every lane, by the ending: one row per lane (.parquet), or the record (.json).

    Raises `InputError` for another ending, `OutputError` where the file cannot be written.
    """
    if path.suffix not in (".parquet", ".json"):
        raise InputError(str(path), expected="a name that ends in .parquet or .json", got=repr(path.suffix))
    with write_aside(path) as aside:
        if path.suffix == ".json":
            aside.write_text(json.dumps(sweep.to_dict(), indent=1, allow_nan=False) + "\n")
        else:
            _write_parquet(sweep, aside)


def _write_parquet(sweep: Sweep, path: Path) -> None:
    """A row per lane, with what it is of in the file's metadata."""
    with extras.needed():
        import pyarrow as pa
        import pyarrow.parquet as pq

    points, seeds = sweep.train.shape
    columns: dict[str, Any] = {n: np.repeat(v, seeds) for n, v in sweep.hypers.items()}
    columns["seed"] = np.tile(sweep.seeds, points)
    for name in ("train", "validation", "test", "died_at", "diverged"):
        columns[name] = getattr(sweep, name).ravel()
    columns |= {f"{part} {n}": v.ravel() for part, own in sweep.metrics.items() for n, v in own.items()}
    columns["curve"] = list(sweep.curve.reshape(points * seeds, -1))
    for name in ("schedule", "epochs", "batch_size"):
        columns[name] = np.repeat(np.broadcast_to(getattr(sweep, name), (points,)), seeds)
    what = {"optimizer": sweep.optimizer, "problem": sweep.problem, "engine": sweep.engine}
    plan = {"versions": dict(sweep.versions)}
    pq.write_table(pa.table(columns, metadata={"steprule.sweep": json.dumps({**what, **plan})}), path)
