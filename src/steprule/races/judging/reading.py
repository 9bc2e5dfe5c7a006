"""Reads a table of runs: CSV, Parquet, JSON lines, tables in memory, W&B's and MLflow's exports."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steprule import extras
from steprule.counts import counted
from steprule.errors import DataError, InputError, InputTypeError
from steprule.problems.reading import read_csv, read_parquet
from steprule.problems.table import Lines, column_of, is_table, table_of
from steprule.races.judging.columns import FINISHED, Columns, columns_of, is_higher_better
from steprule.races.judging.curves import Curves
from steprule.races.judging.panel import is_panel, unrolled
from steprule.races.judging.runs import Array, Runs

with extras.needed():
    import pyarrow as pa
    import pyarrow.compute as pc

TEXTS = (".csv", ".tsv", ".txt")
LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
UNFINISHED = {"crashed", "failed", "killed", "running", "scheduled", "pending", "preempted", "preempting", "queued"}
"""States of runs that did not reach their end, as W&B and MLflow name them."""
ABSENT = ("NA", "N/A", "#N/A", "null", "NULL", "None")
"""What stands in a CSV file for nothing; nan is a number here, that of a run that diverged."""
OF_A_RACE = b"steprule.race"
"""What a race writes beside its table."""


def table_and_rows(source: Any) -> tuple[Lines, str]:
    """The table of a file, or one in memory, and its name for errors. Raises `DataError`, `InputError`, `InputTypeError`."""
    if isinstance(source, str | Path):
        return _of_file(Path(source)), str(source)
    if isinstance(source, Mapping):
        source = _of_columns({str(k): list(v) for k, v in source.items()}, "the table")
    elif isinstance(source, Sequence) and source and all(isinstance(row, Mapping) for row in source):
        source = _of_columns(_turned(source), "the table")
    elif not is_table(source):
        expected = "a file, a table, a mapping of columns, a list of records, or a race"
        raise InputTypeError("judge", expected=expected, got=type(source).__name__)
    table = table_of(source, "the table")
    if not len(table):
        raise InputError("the table", expected="a row or more", got="none")
    return Lines(table, lambda row: f"row {row}"), "the table"


def _of_file(path: Path) -> Lines:
    ending = path.suffix.lower()
    if path.is_dir():
        inside = path / "results.parquet"
        hint = f"Name the file: {inside}." if inside.exists() else ""
        raise DataError(str(path), expected="a file", got="a folder", hint=hint)
    if ending in TEXTS:
        return read_csv(path, None, ".", "utf-8", ABSENT)
    if ending in PARQUET:
        return Lines(read_parquet(path), lambda row: f"row {row}")
    if ending in LINES:
        return _of_lines(path)
    known = ", ".join((*TEXTS, *PARQUET, *LINES))
    got = repr(path.name) if path.exists() else "nothing there"
    raise DataError(str(path), expected=f"a file that ends in {known}", got=got)


def _of_lines(path: Path) -> Lines:
    """JSON lines, or one list of objects."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        got = getattr(error, "strerror", None) or "bytes that are no text in utf-8"
        raise DataError(str(path), expected="JSON lines", got=got) from error
    try:
        whole = json.loads(text) if text.lstrip().startswith("[") else None
    except ValueError:
        whole = None
    rows, places = [], []
    if isinstance(whole, list):
        rows, places = whole, [f"entry {k}" for k in range(len(whole))]
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except ValueError as error:
                    hint = "Is it cut off?"
                    raise DataError(
                        str(path), expected="an object per line", got=f"line {number}: {error}", hint=hint
                    ) from error
                places.append(f"line {number}")
    if not rows:
        raise DataError(str(path), expected="a run per line", got="an empty file")
    for row, place in zip(rows, places, strict=True):
        if not isinstance(row, dict):
            raise DataError(str(path), expected="an object per line", got=f"a {type(row).__name__} in {place}")
    return Lines(_of_columns(_turned(rows), str(path)), lambda k: places[k])


def _turned(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Records as columns; one that holds a record, as W&B's config, becomes columns `config.lr`."""
    flat = []
    for row in rows:
        own: dict[str, Any] = {}
        for name, value in row.items():
            inner = value if isinstance(value, Mapping) else None
            own.update({f"{name}.{k}": v for k, v in inner.items()} if inner is not None else {str(name): value})
        flat.append(own)
    names = dict.fromkeys(name for row in flat for name in row)
    return {name: [row.get(name) for row in flat] for name in names}


def _of_columns(columns: Mapping[str, Sequence[Any]], where: str) -> pa.Table:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise InputError(where, expected="columns of one length", got=", ".join(map(str, sorted(lengths))))
    made = {}
    for name, values in columns.items():
        try:
            made[name] = pa.chunked_array([pa.array(values, from_pandas=False)])
        except (pa.ArrowException, TypeError, ValueError):
            made[name] = column_of([_as_text(v) for v in values], f"{where}, column {name!r}")
    return pa.table(made)


def _as_text(value: Any) -> Any:
    """A value of a column of several kinds: numbers stay, unless texts are among them."""
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)


def runs_of(
    source: Any,
    given: Mapping[str, str | None],
    by: str = "final",
    target: float | None = None,
    alone: str | None = None,
) -> Runs:
    """The runs of a table, each measured by its final loss, or by the steps or seconds to a target.

    `given` names columns by kind; with `alone` all rows are runs of one method of this name. Raises `InputError`, `DataError`.
    """
    lines, where = table_and_rows(source)
    if OF_A_RACE in (lines.table.schema.metadata or {}):
        from steprule.races.judging.own import runs_of_table  # beside this file: a race's table needs no guessing

        return runs_of_table(lines.table)
    if is_panel(lines.table.column_names):
        lines = unrolled(lines, given, where)
        given = {**given, "loss": lines.table.column_names[-1]}
    table = lines.table
    if alone is not None:
        kept = [n for n in table.column_names if n != "method"]
        table = table.select(kept).append_column("method", pa.array([alone] * len(table)))
    numeric = [n for n, t in zip(table.column_names, table.schema.types, strict=True) if _is_number(t) or _is_curve(t)]
    columns = columns_of(table.column_names, numeric, given, where)
    _check_numbers(table[columns.loss], f"{where}, column {columns.loss!r}", lines)
    losses = None if _is_curve(table[columns.loss].type) else _numbers(table[columns.loss])
    rows, notes = _finished(table, columns, losses)
    empty_is_gone = hasattr(source, "iloc")  # pandas has one word for nan and for nothing
    if losses is not None and not empty_is_gone:
        _check_there(table[columns.loss], rows, f"{where}, column {columns.loss!r}", lines)
    texts = {k: _texts(table[n], rows, f"{where}, column {n!r}", lines) for k, n in columns.said.items()
             if k in ("method", "problem", "seed", "group", "run")}  # fmt: skip
    curves = Curves.of(table, columns, texts, rows, by_list=losses is None, step_named=bool(given.get("step")))
    numbers = {k: _numbers(table[n])[rows] for k, n in columns.said.items()
               if k in ("cost", "initial") and _is_number(table.schema.field(n).type)}  # fmt: skip
    measure, higher = columns.loss, is_higher_better(columns.loss)
    if curves is None:
        if by != "final" or target is not None:
            hint = "Give a row per step with --step and --seed, or lists of losses."
            raise InputError(
                where, expected="curves, to find when they reach a target", got="one loss per run", hint=hint
            )
        assert losses is not None
        value, first = losses[rows], np.arange(int(rows.sum()))
    else:
        measured = curves.measured(by, target, higher)
        value, first, notes = measured.value, curves.first, [*notes, *measured.notes]
        if by != "final":
            measure, higher = f"{by} until {columns.loss} {'≥' if higher else '≤'} {target:g}", False
    own: dict[str, Any] = {k: v[first] for k, v in texts.items()}
    _check_once(own, np.flatnonzero(rows)[first], lines, where)
    own.pop("run", None)
    problem = own.pop("problem", np.full(len(value), ""))
    said = {k: v for k, v in columns.said.items() if k not in ("state", "run", "step", "seconds") or curves is not None}
    return Runs(
        problem=problem, value=value, **own, **{k: v[first] for k, v in numbers.items()}, measure=measure,
        is_higher_better=higher, columns=said, notes=tuple(notes),
    )  # fmt: skip


def _check_numbers(column: pa.ChunkedArray, where: str, lines: Lines) -> None:
    """Raises `InputError` where a column holds neither numbers nor lists of them."""
    if not (_is_number(column.type) or _is_curve(column.type)):
        strange = next((k for k, v in enumerate(column.to_pylist()) if not _reads(v)), 0)
        got = f"{str(column[strange].as_py())[:60]!r} in {lines.row(strange)}"
        raise InputError(where, expected="numbers", got=got)


def _check_there(column: pa.ChunkedArray, rows: Any, where: str, lines: Lines) -> None:
    """Raises `InputError` where one of these rows has no number."""
    absent = np.flatnonzero(rows & column.is_null().to_numpy())
    if len(absent):
        hint = "Write nan or inf for a run that diverged, or drop the row."
        got = f"none in {lines.row(int(absent[0]))}"
        raise InputError(where, expected="a number in every row", got=got, hint=hint)


def _finished(table: pa.Table, columns: Columns, losses: Array | None) -> tuple[Any, list[str]]:
    """The rows of runs that reached their end, or diverged on the way; and what was left out, in words."""
    rows, notes = np.ones(len(table), dtype=bool), []
    if columns.state is not None:
        states = np.array([str(s).lower() for s in table[columns.state].to_pylist()])
        if set(states.tolist()) <= FINISHED | UNFINISHED:
            stopped = np.isin(states, list(UNFINISHED))
            if losses is not None:  # a run that crashed at nan has diverged
                stopped &= np.isfinite(losses) | table[columns.loss].is_null().to_numpy()
            rows = ~stopped
            if stopped.any():
                methods = [str(m) for m, s in zip(table[columns.method].to_pylist(), stopped, strict=True) if s]
                own = ", ".join(f"{m} {n}" for m, n in Counter(methods).most_common())
                notes.append(f"Left out, because they did not finish: {counted(int(stopped.sum()), 'run')} ({own}).")
    return rows, notes


def _check_once(own: Mapping[str, Array], rows: Array, lines: Lines, where: str) -> None:
    """Raises `InputError` where a seed stands twice for one method on one problem."""
    if "seed" not in own:
        return
    kinds = [k for k in ("method", "problem", "group", "seed") if k in own]
    seen: dict[tuple[str, ...], int] = {}
    for k, key in enumerate(zip(*(own[kind].tolist() for kind in kinds), strict=True)):
        if key in seen:
            what = ", ".join(f"{kind} {text}" for kind, text in zip(kinds, key, strict=True))
            got = f"{what} in {lines.row(int(rows[seen[key]]))} and {lines.row(int(rows[k]))}"
            hint = "Name what else sets runs apart: --problem, --group or --step; settings of one method are methods of their own."
            raise InputError(where, expected="each seed once per method and problem", got=got, hint=hint)
        seen[key] = k


def _texts(column: pa.ChunkedArray, rows: Any, where: str, lines: Lines) -> Array:
    """A column as texts. Raises `InputError` where one is missing."""
    absent = np.flatnonzero(rows & column.is_null(nan_is_null=True).to_numpy())
    if len(absent):
        hint = "Fill it in, or drop the row."
        raise InputError(where, expected="a value in every row", got=f"none in {lines.row(int(absent[0]))}", hint=hint)
    found = column.to_pylist()
    return np.asarray(np.array([_said(v) for v in found], dtype=str)[rows])


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(column: pa.ChunkedArray) -> Array:
    """A column of numbers as floats; nan where there is none."""
    found = pc.cast(column, pa.float64(), safe=False)
    return np.asarray(found.to_numpy(), dtype=np.float64)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    )


def _is_curve(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and _is_number(kind.value_type)


def _reads(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
