"""What a curve of losses says of a run: the loss at its end, or the steps or seconds until a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule import extras
from steprule.counts import counted
from steprule.errors import InputError
from steprule.races.judging.columns import Columns

with extras.needed():
    import pyarrow as pa

Array = NDArray[Any]
WAYS = ("final", "steps", "seconds")


@dataclass(frozen=True)
class Measured:
    """One number per run."""

    value: Array
    """inf for a run that missed the target."""
    notes: list[str]


@dataclass(frozen=True)
class Curves:
    """The points of all runs, run after run, each in the order of its steps."""

    first: NDArray[np.int64]
    """The row of the table in which each run begins, [runs]."""
    bounds: NDArray[np.int64]
    """Where each run's points begin and end, [runs + 1]."""
    problem: NDArray[np.str_]
    """[runs]"""
    step: Array
    """[points]"""
    seconds: Array | None
    value: Array

    @classmethod
    def of(
        cls,
        table: pa.Table,
        columns: Columns,
        texts: Mapping[str, Array],
        rows: Any,
        *,
        by_list: bool,
        step_named: bool,
    ) -> Curves | None:
        """The curves of a table: lists of losses, or a row per step; None where each row is a run.

        Rows are steps of one run where they have a step, and a seed or a run in common; without either only where the column of
        steps was named.
        """
        if by_list:
            return cls._of_lists(table, columns, texts, rows)
        if columns.step is None or not (step_named or {"seed", "run"} & texts.keys()):
            return None
        steps = _floats(table[columns.step])[rows]
        key = _codes([v for k, v in texts.items() if k != "run" or "seed" not in texts])
        order = np.lexsort((steps, key))
        same_run = key[order][1:] == key[order][:-1]
        if not same_run.any() or (same_run & (steps[order][1:] == steps[order][:-1])).any():
            return None
        starts = np.flatnonzero(np.concatenate([[True], ~same_run]))
        seconds = _floats(table[columns.seconds])[rows][order] if columns.seconds else None
        value = _floats(table[columns.loss])[rows][order]
        first = order[starts]
        problem = texts["problem"][first] if "problem" in texts else np.full(len(first), "")
        # In the order of the table, so that methods keep theirs.
        kept = np.argsort(first, kind="stable")
        bounds = np.append(starts, len(order))
        points = np.concatenate([np.arange(bounds[k], bounds[k + 1]) for k in kept])
        lengths = np.diff(bounds)[kept]
        own = None if seconds is None else seconds[points]
        return cls(first[kept], _ends(lengths), problem[kept], steps[order][points], own, value[points])

    @classmethod
    def _of_lists(cls, table: pa.Table, columns: Columns, texts: Mapping[str, Array], rows: Any) -> Curves:
        lists = [v or [] for v, kept in zip(table[columns.loss].to_pylist(), rows, strict=True) if kept]
        lengths = np.array([len(own) for own in lists])
        if (lengths == 0).any():
            where = f"column {columns.loss!r}"
            raise InputError(where, expected="a curve in every row", got=f"an empty one in row {int(lengths.argmin())}")
        value = np.array([np.nan if v is None else v for own in lists for v in own], dtype=np.float64)
        steps = np.concatenate([np.arange(1.0, n + 1) for n in lengths])
        problem = texts.get("problem", np.full(len(lists), ""))
        return cls(np.arange(len(lists)), _ends(lengths), problem, steps, None, value)

    def measured(self, by: str, target: float | None, higher: bool) -> Measured:
        """The loss at the end of each run (`final`), or when it first reaches the target (`steps`, `seconds`).

        All runs on a problem are watched equally long, as long as the shortest that does not diverge, so that a miss is a miss of the
        same budget. Raises `InputError` without a target, and for seconds without a column of them.
        """
        last = self.bounds[1:] - 1
        if by == "final":
            if target is not None:
                raise InputError("target", expected="--by steps or --by seconds with it", got="--by final")
            ends = self.step[last]
            notes = []
            if len(uneven := [p for p in np.unique(self.problem) if np.ptp(ends[self.problem == p]) > 0]):
                where = f" on {counted(len(uneven), 'problem')}" if self.problem[0] else ""
                notes.append(
                    f"Runs end at different steps{where} ({ends.min():g} to {ends.max():g}): each is judged at its own end."
                )
            return Measured(self.value[last], notes)
        if target is None or not np.isfinite(target):
            raise InputError(
                "target", expected=f"a number with --by {by}", got="none" if target is None else str(target)
            )
        clock = self.step if by == "steps" else self.seconds
        if clock is None:
            hint = "Name it: --seconds COLUMN."
            raise InputError("seconds", expected="a column of seconds since each run's start", got="none", hint=hint)
        reached = self.value >= target if higher else self.value <= target
        found, notes = np.full(len(last), np.inf), []
        for problem in np.unique(self.problem):
            own = np.flatnonzero(self.problem == problem)
            whole = [k for k in own if np.isfinite(self.value[last[k]])]
            watched = min((clock[last[k]] for k in whole), default=np.inf)
            for k in own:
                part = slice(self.bounds[k], self.bounds[k + 1])
                hits = np.flatnonzero(reached[part] & (clock[part] <= watched))
                if len(hits):
                    found[k] = clock[part][hits[0]]
            longest = max((clock[last[k]] for k in whole), default=np.inf)
            if longest > watched:
                on = f" on {problem}" if problem else ""
                notes.append(
                    f"Runs are watched{on} for {watched:g} {by}, as long as the shortest: what comes later is a miss."
                )
        return Measured(found, notes)


def _ends(lengths: Array) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _floats(column: pa.ChunkedArray) -> Array:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _codes(columns: list[Array]) -> NDArray[np.int64]:
    """A number per row, equal where all columns are."""
    found = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        _, codes = np.unique(column, return_inverse=True)
        _, found = np.unique(found * (int(codes.max()) + 1) + codes, return_inverse=True)
    return found
