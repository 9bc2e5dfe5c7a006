"""Which rows train, and which are held out: by share, by group, or as given.

The same data and seed give the same split, always.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.counts import counted, whole
from steprule.errors import InputError, InputTypeError
from steprule.problems.source import PARTS

EXPECTED = 'shares such as (0.6, 0.2, 0.2), one of "train", "validation", "test" per row, or rows by part'
Rows = NDArray[np.int64]


def parts_of(
    count: int, split: Any, where: str, *, groups: Any = None, shuffle: bool = True, seed: int = 0
) -> dict[str, Rows]:
    """The row numbers of each part, of `count` rows, none of them empty.

    Args:
        count: how many rows there are.
        split: shares of train, validation and, where there are three, test; or a part's name for each row; or by part row numbers or
            a mask, where rows in no part are left out, and the rest trains where nothing is said of "train".
        where: what it is called in errors.
        groups: for each row what it belongs to: a group is in one part alone. With shares.
        shuffle: draw the rows, or groups, of each part; else they are taken in order.
        seed: of that draw, 0 or more.
    """
    if _is_shares(split):
        return _by_share(count, [float(s) for s in split], where, groups, shuffle, whole(f"{where}: seed", seed, 0))
    if groups is not None:
        raise InputError(f"{where}: groups", expected="shares to hold them out by", got=_short(split))
    found = _by_part(count, split, where) if isinstance(split, Mapping) else _by_name(count, split, where)
    if "train" not in found:
        raise InputError(f"{where}: split", expected="rows to train on", got="none")
    return found


def _is_shares(split: Any) -> bool:
    return (
        isinstance(split, tuple | list)
        and 2 <= len(split) <= 3
        and all(isinstance(s, int | float | np.number) and not isinstance(s, bool) for s in split)
    )


def _by_share(count: int, shares: list[float], where: str, groups: Any, shuffle: bool, seed: int) -> dict[str, Rows]:
    if not (all(0 <= s < 1 for s in shares) and shares[0] > 0 and abs(sum(shares) - 1) < 1e-6):
        hint = "Two are train and validation, three train, validation and test."
        expected = "shares of at least 0 that sum to 1, the first above 0"
        raise InputError(f"{where}: split", expected=expected, got=_short(tuple(shares)), hint=hint)
    random = np.random.default_rng(seed)
    named = dict(zip(PARTS, shares, strict=False))
    if groups is None:
        rows = random.permutation(count) if shuffle else np.arange(count)
        cuts = np.round(np.cumsum(shares)[:-1] * count).astype(np.int64)
        found = dict(zip(named, np.split(rows, cuts), strict=True))
        what = f"{count} rows"
    else:
        names, of_row = _groups(count, groups, where)
        order = random.permutation(names) if shuffle else np.arange(names)
        sizes = np.bincount(of_row, minlength=names)[order]
        # A group goes where its middle row falls.
        middles = (np.cumsum(sizes) - sizes / 2) / count
        part_of = np.searchsorted(np.cumsum(shares)[:-1], middles, side="right")
        place = np.empty(names, dtype=np.int64)
        place[order] = part_of
        found = {name: np.flatnonzero(place[of_row] == k) for k, name in enumerate(named)}
        what = f"{counted(names, 'group')}, the largest of {sizes.max():,} of {count:,} rows"
    for name, rows in found.items():
        if not len(rows) and named[name] > 0:
            got = f"no row for {name} from {what}"
            raise InputError(f"{where}: split", expected="rows for every part", got=got)
    return {name: rows for name, rows in found.items() if len(rows)}


def _groups(count: int, groups: Any, where: str) -> tuple[int, Rows]:
    """How many there are, and which one each row has, numbered as they first appear."""
    values = _one_dimension(groups, count, f"{where}: groups")
    number: dict[Any, int] = {}
    for k, value in enumerate(values.tolist()):
        if value is None or value != value:
            raise InputError(f"{where}: groups", expected="a group for every row", got=f"none in row {k}")
    of_row = np.array([number.setdefault(v, len(number)) for v in values.tolist()], dtype=np.int64)
    return len(number), of_row


def _by_name(count: int, split: Any, where: str) -> dict[str, Rows]:
    if split is None or isinstance(split, str | int | float):
        raise InputTypeError(f"{where}: split", expected=EXPECTED, got=_short(split))
    names = _one_dimension(split, count, f"{where}: split")
    for k, name in enumerate(names.tolist()):
        if name not in PARTS:
            got = f"{name!r} in row {k}"
            raise InputError(f"{where}: split", expected='"train", "validation" or "test"', got=got)
    found = {part: np.flatnonzero(names == part) for part in PARTS}
    return {part: rows for part, rows in found.items() if len(rows)}


def _by_part(count: int, split: Mapping[str, Any], where: str) -> dict[str, Rows]:
    if unknown := [name for name in split if name not in PARTS]:
        raise InputError(f"{where}: split", expected="one of " + ", ".join(PARTS), got=repr(unknown[0]))
    found = {name: _rows(count, rows, f"{where}: split {name!r}") for name, rows in split.items() if rows is not None}
    taken = np.concatenate([np.empty(0, dtype=np.int64), *found.values()])
    numbers, times = np.unique(taken, return_counts=True)
    if (times > 1).any():
        got = f"row {numbers[times > 1][0]} twice"
        raise InputError(f"{where}: split", expected="each row once", got=got)
    if "train" not in found:
        found = {"train": np.setdiff1d(np.arange(count), taken), **found}
    for name, rows in found.items():
        if not len(rows):
            raise InputError(f"{where}: split {name!r}", expected="one row or more", got="none")
    return {name: found[name] for name in PARTS if name in found}


def _rows(count: int, rows: Any, where: str) -> Rows:
    found = np.asarray(rows)
    if found.dtype == bool and found.shape == (count,):
        return np.flatnonzero(found)
    if found.ndim != 1 or (found.dtype.kind not in "iu" and found.size):
        raise InputTypeError(where, expected=f"row numbers, or a mask of {count}", got=_short(rows))
    if found.size and not (found.min() >= 0 and found.max() < count):
        got = str(found.min() if found.min() < 0 else found.max())
        raise InputError(where, expected=f"rows 0 to {count - 1}", got=got)
    return found.astype(np.int64)


def _one_dimension(values: Any, count: int, where: str) -> NDArray[Any]:
    found = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
    if found.shape != (count,):
        raise InputError(where, expected=f"one for each of {count} rows", got=f"shape {list(found.shape)}")
    return found


def _short(value: Any) -> str:
    return repr(value)[:60]
