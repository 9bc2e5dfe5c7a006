"""Data as people hold them become tensors: numpy, pandas, polars, pyarrow, torch and lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.errors import InputError, InputTypeError
from steprule.problems.table import (
    DATES,
    Array,
    Row,
    column_of,
    is_column,
    is_table,
    missing,
    numbered,
    place_of,
    table_of,
    values_of,
)

KINDS = {"U": "text", "S": "bytes", "O": "objects", "c": "complex numbers", "V": "records"}

NAMES = 50
"""With so many rows a column of features that has another text in each holds names, and not categories."""


@dataclass(frozen=True)
class Reader:
    """Reads the same data of several parts alike, so that a category has one number in all of them."""

    problem: str
    row: Row = "row {}".format
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Of each column of text that was met."""

    def features(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """By part: a table as floats [rows, columns], everything else in its own shape and kind; truth values as floats."""
        return self._read(parts, "features", targets=False)

    def targets(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """By part: whole numbers, truth values and text as int64; a table of one column [rows, 1], a column alone [rows]."""
        return self._read(parts, "targets", targets=True)

    def _read(self, parts: Mapping[str, Any], what: str, *, targets: bool) -> dict[str, Any]:
        first = next(iter(parts.values()))
        if isinstance(first, Mapping | tuple):
            return self._several(parts, what, targets=targets)
        if any(is_table(data) for data in parts.values()):
            return self._tables(parts, what, targets=targets)
        plain = {part: _plain(data, self._place(part, what)) for part, data in parts.items()}
        if any(data.dtype == object and data.ndim == 2 for data in plain.values()):
            columns = self._objects(plain, what)
            return {part: _typed(own, targets=targets) for part, own in zip(parts, columns, strict=True)}
        arrays = [self._array(data, self._place(part, what)) for part, data in plain.items()]
        if all(isinstance(a, np.ndarray) for a in arrays):
            arrays = self._numbered(arrays, what)
        return {part: _typed(array, targets=targets) for part, array in zip(parts, arrays, strict=True)}

    def _several(self, parts: Mapping[str, Any], what: str, *, targets: bool) -> dict[str, Any]:
        named: dict[str, Mapping[Any, Any]] = {}
        for part, data in parts.items():
            named[part] = data if isinstance(data, Mapping) else dict(enumerate(_tuple(data)))
        keys = list(next(iter(named.values())))
        for part, data in named.items():
            if list(data) != keys and set(data) != set(keys):
                got = ", ".join(map(str, data))
                raise InputError(self._place(part, what), expected="the inputs " + ", ".join(map(str, keys)), got=got)
        found: dict[str, dict[Any, Any]] = {part: {} for part in parts}
        for key in keys:
            own = {part: data[key] for part, data in named.items()}
            for part, read in self._read(own, f"{what} {key!r}", targets=targets).items():
                found[part][key] = read
        if isinstance(next(iter(parts.values())), Mapping):
            return found
        return {part: tuple(inputs.values()) for part, inputs in found.items()}

    def _tables(self, parts: Mapping[str, Any], what: str, *, targets: bool) -> dict[str, Any]:
        if strange := [part for part, data in parts.items() if not is_table(data)]:
            raise InputTypeError(
                self._place(strange[0], what), expected="a table, as the other parts have", got=_kind(parts[strange[0]])
            )
        tables = {part: table_of(data, self._place(part, what)) for part, data in parts.items()}
        names = next(iter(tables.values())).column_names
        for part, table in tables.items():
            if other := sorted(set(table.column_names) ^ set(names)):
                raise InputError(
                    self._place(part, what), expected="the same columns in every part", got=f"{other[0]!r} not in all"
                )
        columns = []
        for name in names:
            read = [values_of(t[name], f"{self._place(p, what)}, column {name!r}", self.row) for p, t in tables.items()]
            columns.append(self._numbered(read, name))
            known, rows = len(self.categories.get(name, ())), sum(map(len, read))
            if not targets and known == rows >= NAMES:
                hint = "Leave it out by columns=, or from the table."
                where = f"problem {self.problem}: {what}, column {name!r}"
                raise InputError(where, expected="categories", got=f"another text in each of {rows} rows", hint=hint)
        whole = dict(zip(parts, _beside_each_other(columns), strict=True))
        if not targets:
            return {part: torch.from_numpy(array.astype(np.float64)) for part, array in whole.items()}
        return {p: _typed(a[:, 0] if is_column(parts[p]) else a, targets=True) for p, a in whole.items()}

    def _numbered(self, arrays: list[Any], name: str) -> list[Any]:
        found, known = numbered(arrays, f"problem {self.problem}: {name}")
        if known:
            self.categories[name] = known
        return found

    def _array(self, array: Array | Tensor, where: str) -> Array | Tensor:
        """One array, finite; text still as text."""
        if isinstance(array, Tensor):
            self._check_finite(array, where)
            return array
        kind = array.dtype.kind
        if kind in "mM":
            raise InputTypeError(where, expected="numbers or text", got="dates", hint=DATES)
        if kind in "OUS" and array.ndim == 1:
            return values_of(column_of(array.tolist(), where), where, self.row)
        if kind not in "fiub":
            hint = "A table, as pandas' DataFrame, has a kind for each column." if kind in "UV" else ""
            raise InputTypeError(where, expected="real numbers", got=KINDS.get(kind, str(array.dtype)), hint=hint)
        if kind == "f":
            self._check_finite(torch.from_numpy(array.astype(np.float64, copy=False)), where)
        return array

    def _objects(self, parts: Mapping[str, Array | Tensor], what: str) -> list[Array]:
        """By part columns of whatever Python has, each of one kind: a category has one number in all parts."""
        widths = {part: data.shape[1] if data.ndim == 2 else 0 for part, data in parts.items()}
        for part, width in widths.items():
            if width != (first := next(iter(widths.values()))):
                raise InputError(self._place(part, what), expected=f"{first} columns, as in training", got=str(width))
        columns = []
        for k in range(first):
            read = []
            for part, data in parts.items():
                own = f"{self._place(part, what)}, column {k}"
                read.append(values_of(column_of(data[:, k].tolist(), own), own, self.row))
            columns.append(self._numbered(read, f"{what}, column {k}"))
        return [array.astype(np.float64) for array in _beside_each_other(columns)]

    def _check_finite(self, array: Tensor, where: str) -> None:
        if not array.is_floating_point() or bool(torch.isfinite(array).all()):
            return
        row, *at = torch.nonzero(~torch.isfinite(array))[0].tolist()
        raise missing(where + place_of(at), self.row(row), float(array[(row, *at)]))

    def _place(self, part: str, what: str) -> str:
        return f"problem {self.problem}: " + (what if part == "train" else f"{part} {what}")


def standardised(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Every floating column less the mean of its training rows, by their standard deviation; a column that never changes there is 0
    where it is the same."""

    def of(own: Sequence[Any]) -> list[Any]:
        train = own[0]
        if isinstance(train, Mapping | tuple):
            inputs = list(train) if isinstance(train, Mapping) else range(len(train))
            found: list[dict[Any, Any]] = [{} for _ in own]
            for name in inputs:
                for part, read in zip(found, of([data[name] for data in own]), strict=True):
                    part[name] = read
            return found if isinstance(train, Mapping) else [tuple(part.values()) for part in found]
        if not train.is_floating_point():
            return list(own)
        mean, spread = train.double().mean(0), train.double().std(0, correction=0)
        spread = torch.where(spread > 0, spread, 1.0)
        return [((data.double() - mean) / spread).to(data.dtype) for data in own]

    return dict(zip(parts, of(list(parts.values())), strict=True))


def _beside_each_other(columns: Sequence[Sequence[Array]]) -> list[Array]:
    """By part an array [rows, columns], of columns that are each a list of its parts."""
    return [np.stack(own, axis=1) for own in zip(*columns, strict=True)]


def _plain(data: Any, where: str) -> Array | Tensor:
    """A tensor on the CPU, or numpy's array."""
    if not isinstance(data, Tensor):
        return _as_numpy(data, where)
    found = data.detach().cpu()
    if found.layout != torch.strided or found.is_complex():
        raise InputTypeError(where, expected="a dense tensor of real numbers", got=f"{found.layout} {found.dtype}")
    return found


def _as_numpy(data: Any, where: str) -> Array:
    if isinstance(data, np.ma.MaskedArray):
        if np.ma.getmaskarray(data).any():
            raise missing(where, f"row {int(np.argwhere(np.ma.getmaskarray(data))[0][0])}")
        data = data.data
    try:
        if isinstance(data, list) and data and all(isinstance(d, Tensor) for d in data):
            data = torch.stack(data).numpy()
        found = np.asarray(data)
        if found.dtype.kind in "US" and not isinstance(data, np.ndarray):
            found = np.asarray(data, dtype=object)  # numpy makes text of a number beside text
    except (TypeError, ValueError, RuntimeError) as error:
        hint = "Lists need one length."
        raise InputTypeError(where, expected="numbers, samples first", got=str(error), hint=hint) from error
    if not found.ndim:
        raise InputTypeError(where, expected="numbers, samples first", got=_kind(data))
    return found


def _typed(array: Array | Tensor, *, targets: bool) -> Tensor:
    found = array if isinstance(array, Tensor) else torch.from_numpy(_writable(array))
    if found.dtype == torch.bool:
        return found.long() if targets else found.float()
    if targets and not found.is_floating_point():
        return found.long()
    return found


def _writable(array: Array) -> Array:
    """As torch takes it: contiguous, its own, of a kind that torch can compute with."""
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    found = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return found if found.flags.writeable else found.copy()


def _tuple(data: Any) -> tuple[Any, ...]:
    return data if isinstance(data, tuple) else (data,)


def _kind(thing: object) -> str:
    return f"a {type(thing).__name__}"
