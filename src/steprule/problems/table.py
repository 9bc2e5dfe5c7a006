"""Tables and columns of pandas, polars and pyarrow become arrays, without a missing value.

A missing value is refused with its place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steprule import extras
from steprule.errors import InputError, InputTypeError

if TYPE_CHECKING:
    import pyarrow as pa

Array = NDArray[Any]
Row = Callable[[int], str]
"""A row's place in words, from its number: "row 3"."""
DATES = "Make numbers of dates first, such as the year."


@dataclass(frozen=True)
class Lines:
    """A table of a file, and where each row stands in it."""

    table: pa.Table
    row: Row


def is_column(data: Any) -> bool:
    """Whether it is one column, as pandas' Series is."""
    return _is_arrows(data, "ChunkedArray", "Array") or (hasattr(data, "to_frame") and not hasattr(data, "columns"))


def is_table(data: Any) -> bool:
    """Whether it has named columns, or is one."""
    if isinstance(data, Lines) or _is_arrows(data, "Table", "RecordBatch") or is_column(data):
        return True
    return hasattr(data, "columns") and (hasattr(data, "iloc") or hasattr(data, "to_arrow"))


def _is_arrows(data: Any, *kinds: str) -> bool:
    """Whether it is one of pyarrow's; nobody has one where pyarrow was not imported."""
    arrow = sys.modules.get("pyarrow")
    return arrow is not None and isinstance(data, tuple(getattr(arrow, kind) for kind in kinds))


def _arrow() -> Any:
    """pyarrow, which only tables need. Raises `MissingPackageError`."""
    with extras.needed():
        import pyarrow
    return pyarrow


def table_of(data: Any, where: str) -> pa.Table:
    """A table as pyarrow's. Raises `InputError` for a name twice, `InputTypeError` for a column of mixed kinds."""
    pa = _arrow()
    if isinstance(data, Lines):
        data = data.table
    elif isinstance(data, pa.ChunkedArray | pa.Array):
        data = pa.table({"values": data})
    elif is_column(data):
        data = data.to_frame("values" if data.name is None else data.name)
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    elif hasattr(data, "to_arrow"):
        data = data.to_arrow()
    names = [str(n) for n in (data.column_names if isinstance(data, pa.Table) else data.columns)]
    if not names:
        raise InputError(where, expected="a column", got="none")
    if twice := [n for n in names if names.count(n) > 1]:
        raise InputError(where, expected="each column once", got=f"{twice[0]!r} twice")
    if isinstance(data, pa.Table):
        return data
    columns = [data.iloc[:, k] for k in range(len(names))]
    return pa.table([column_of(c, f"{where}, column {n!r}") for c, n in zip(columns, names, strict=True)], names=names)


def column_of(values: Any, where: str) -> pa.ChunkedArray:
    """A pandas column, or a list of whatever Python has, as pyarrow's. Raises `InputTypeError` for mixed kinds."""
    pa = _arrow()
    try:
        found = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        kinds: dict[str, int] = {}
        for k, value in enumerate(values):
            if value is not None and value == value:
                kinds.setdefault("text" if isinstance(value, str) else f"a {type(value).__name__}", k)
        if len(kinds) < 2:
            got = " ".join(str(error).split())[:100]
            raise InputTypeError(where, expected="numbers or text", got=got) from error
        got = " and ".join(f"{kind} in row {row}" for kind, row in list(kinds.items())[:2])
        raise InputTypeError(where, expected="one kind of value", got=got) from error
    return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])


def values_of(column: pa.ChunkedArray, where: str, row: Row) -> Array:
    """A column's values: floats, whole numbers, truth values or text. Raises `InputError` where one is missing or not finite."""
    pa = _arrow()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_temporal(kind):
        raise InputTypeError(where, expected="numbers or text", got="dates", hint=DATES)
    if column.null_count:
        raise missing(where, row(int(np.argmax(column.is_null().to_numpy()))))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return np.array(column.to_pylist(), dtype=str)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return np.asarray(column.to_numpy())
    if not (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise InputTypeError(where, expected="numbers or text", got=str(kind))
    found: Array = column.to_numpy().astype(np.float64)
    if len(bad := np.flatnonzero(~np.isfinite(found))):
        raise missing(where, row(int(bad[0])), float(found[bad[0]]))
    return found


def missing(where: str, row: str, value: object = "none") -> InputError:
    """The error for a number that is not there."""
    hint = "Drop such rows, or fill them in, first."
    return InputError(where, expected="a number or text in every row", got=f"{value} in {row}", hint=hint)


def place_of(at: Sequence[int]) -> str:
    """Where a number stands in its row, as an error says it: ", column 3", ", at [1, 2]", or nothing where it is alone."""
    if not at:
        return ""
    return f", column {at[0]}" if len(at) == 1 else f", at {at}"


def numbered(parts: Sequence[Array], where: str) -> tuple[list[Array], tuple[str, ...]]:
    """A column's parts with text as its categories' places in sorted order over all parts, and these categories; () where there are none.

    Raises `InputTypeError` for text in one part and numbers in another.
    """
    texts = [a.dtype.kind == "U" for a in parts]
    if not any(texts):
        return list(parts), ()
    if not all(texts):
        raise InputTypeError(where, expected="text in every part, or numbers in every part", got="both")
    known = np.unique(np.concatenate(parts))
    return [np.searchsorted(known, a).astype(np.int64) for a in parts], tuple(known.tolist())
