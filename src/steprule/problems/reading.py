"""Files of tables: CSV and Parquet, read whole; what cannot be read is one line that says why."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steprule import extras
from steprule.errors import DataError
from steprule.problems.table import Lines

with extras.needed():
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

DELIMITERS = (",", ";", "\t", "|")
NUMBERS = re.compile(r"\s*[-+]?(\d+([.,]\d+)*|[.,]\d+)([eE][-+]?\d+)?\s*%?")
MOSTLY = 0.9
"""A column of text is taken for spoilt numbers where at least this share of it are numbers."""


def read_csv(
    path: str | Path, delimiter: str | None, decimal: str, encoding: str, missing: Sequence[str] | None = None
) -> Lines:
    """A CSV file with a header; an empty field is missing, and so is what `missing` lists, or else what pyarrow takes for it.

    Without a `delimiter` it is the one of `,` `;` tab `|` that the header has most often. Raises `DataError`.
    """
    file = _file(path)
    header = _header(file, encoding)
    delimiter = delimiter or max(DELIMITERS, key=header.count)
    try:
        table = pyarrow.csv.read_csv(
            file,
            read_options=pyarrow.csv.ReadOptions(encoding=encoding),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                strings_can_be_null=True, decimal_point=decimal, null_values=missing and ["", *missing]
            ),
        )
    except (pa.ArrowException, UnicodeError, LookupError, OSError, TypeError, ValueError) as error:
        raise _unreadable(file, error, encoding) from error
    if table.num_columns == 1 and any(sign in header for sign in DELIMITERS if sign != delimiter):
        got = f"one column, {table.column_names[0][:60]!r}"
        raise DataError(str(path), expected=f"columns apart by {delimiter!r}", got=got, hint="Give delimiter=.")
    _check(file, table)
    lines = Lines(table, lambda row: f"line {_line(file, row, delimiter, encoding)}")
    for name in table.column_names:
        _check_text(file, name, table[name], lines)
    return lines


def read_parquet(path: str | Path) -> pa.Table:
    """A Parquet file. Raises `DataError`."""
    file = _file(path)
    try:
        table = pyarrow.parquet.read_table(file, partitioning=None)
    except (pa.ArrowException, OSError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        hint = "Is it cut off, or of another kind?"
        raise DataError(str(file), expected="a Parquet file", got=text, hint=hint) from error
    _check(file, table)
    return table


def _file(path: Any) -> Path:
    file = Path(path)
    if not file.is_file():
        raise DataError(str(path), expected="a file", got="a folder" if file.is_dir() else "nothing there")
    if not file.stat().st_size:
        raise DataError(str(path), expected="a table", got="an empty file")
    return file


def _header(file: Path, encoding: str) -> str:
    try:
        with file.open(encoding=encoding, newline="") as lines:
            return next((line for line in lines if line.strip()), "")
    except (UnicodeError, LookupError, OSError) as error:
        raise _unreadable(file, error, encoding) from error


def _unreadable(file: Path, error: Exception, encoding: str) -> DataError:
    text = " ".join(str(error).split())
    if isinstance(error, LookupError):
        return DataError(str(file), expected="an encoding that Python knows", got=repr(encoding))
    if isinstance(error, UnicodeError) or "UTF8" in text.upper().replace("-", ""):
        hint = "Give encoding=, such as 'latin-1'."
        return DataError(str(file), expected=f"text in {encoding}", got=f"bytes that are not {encoding}", hint=hint)
    return DataError(str(file), expected="a CSV file", got=text.removeprefix("CSV parse error: ")[:200])


def _check(file: Path, table: pa.Table) -> None:
    if not len(table):
        got = "a header alone: " + ", ".join(table.column_names) if table.num_columns else "no columns"
        raise DataError(str(file), expected="a row or more", got=got[:200])
    for k, name in enumerate(table.column_names):
        if not name:
            hint = "pandas writes its index so: to_csv(index=False)."
            raise DataError(str(file), expected="a name for each column", got=f"none for column {k}", hint=hint)
        if table.column_names.count(name) > 1:
            raise DataError(str(file), expected="each column once", got=f"{name!r} twice")


def _check_text(file: Path, name: str, column: pa.ChunkedArray, lines: Lines) -> None:
    """Raises `DataError` for text that was to be numbers: each would be a category of its own."""
    if not pa.types.is_string(column.type):
        return
    texts = [text for text in column.to_pylist() if text is not None]
    numeric = np.array([bool(NUMBERS.fullmatch(text)) for text in texts])
    if not len(texts) or numeric.mean() < MOSTLY:
        return
    where = f"{file}, column {name!r}"
    if numeric.all():
        hint = 'Give decimal=",", or write numbers as 1234.5.'
        raise DataError(where, expected="numbers with a point", got=repr(texts[0]), hint=hint)
    strange = texts[int(np.argmin(numeric))]
    row = column.to_pylist().index(strange)
    raise DataError(where, expected="a number, as in other rows", got=f"{strange[:60]!r} in {lines.row(row)}")


def _line(file: Path, row: int, delimiter: str, encoding: str) -> int:
    """The line in which a row of the table begins: lines without anything are no rows, and a quoted field may have several lines."""
    with file.open(encoding=encoding, newline="") as text:
        reader, before, place = csv.reader(text, delimiter=delimiter), 0, -1  # -1: the header
        for fields in reader:
            if fields and place == row:
                break
            place += bool(fields)
            before = reader.line_num
    return before + 1
