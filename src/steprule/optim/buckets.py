"""The tensors of some groups that one kernel serves: their addresses, their chunks, their table of scalars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.compiler.split import Program
from steprule.compiler.stages import Staged
from steprule.compiler.target import Chunks, Kernel
from steprule.compiler.variant import Variant
from steprule.optim.backends import TARGETS
from steprule.optim.computation import Begun, Computation
from steprule.optim.sharding import Cut
from steprule.optim.signature import DTYPES, Columns, lies_as, shard

Hypers = Sequence[dict[str, Any]]
"""The hyperparameters of each group."""


ALL = slice(None)
"""Where all tensors that are looked at stand."""


@lru_cache(maxsize=1024)
def kernel_for(
    program: Program, dtypes: tuple[str, ...], target: str, *, stochastic: bool = False, diagnoses: bool = False
) -> Kernel[Any]:
    """The kernel; numba or triton is imported here, at the first step."""
    row = TARGETS[target]
    kernel = row.of_matrices() if isinstance(program, Staged) and row.of_matrices else row.load()
    by_name = dict(zip(program.columns, dtypes, strict=True))
    return kernel.of(program, by_name, stochastic=stochastic, diagnoses=diagnoses)


class Alike(NamedTuple):
    """What the tensors of one bucket have in common."""

    target: str
    device: torch.device
    dtypes: tuple[torch.dtype, ...]
    """Of p, g and the slots."""
    absent: frozenset[str]
    variant: Variant
    cut: Cut | None = None
    """Over which processes its tensors are cut, where totals are asked for."""


@dataclass
class Bucket:
    """Tensors of the same device and dtypes, with the same slots present."""

    kernel: Kernel[Any]
    alike: Alike
    rows: Mapping[str, int]
    """Where p, g and each slot stand among the columns that are looked at."""
    where: NDArray[np.intp] | slice
    """Where its tensors stand among those that are looked at; `ALL` where it has them all."""
    columns: list[int] | slice
    """Which tensors the kernel takes for each parameter, of those that are looked at: itself, its gradient, its slots."""
    looked_at: NDArray[np.int64]
    """The addresses [columns, tensors] of all that are looked at, which each look fills."""
    chunks: Chunks
    laid_otherwise: list[int]
    """Which of its gradients lie otherwise than their parameter: the kernel reads a copy."""
    table: NDArray[Any]
    which: NDArray[np.int32]
    """The column of the table that each tensor uses; all the first, unless their steps are `mixed`."""
    mixed: bool = False
    drawn: NDArray[np.int64] | None = None
    """By what its tensors are rounded in this step, as `precision.rows`, where its kernel rounds by chance."""
    copies: list[Tensor] = field(default_factory=list)
    """Of this step's gradients; they live until its launch is over."""
    measures: dict[frozenset[str] | str, Bucket] = field(default_factory=dict)
    """The same tensors with the kernels that add them up, by the places of the totals, or by the one column that they read."""

    @property
    def program(self) -> Program:
        """What its kernel computes."""
        return self.kernel.program

    def copy_gradients(self, params: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
        """Copy the gradients that lie otherwise into their parameter's order; all that are looked at are given."""
        self.copies = []
        for k in self.laid_otherwise:
            place = k if isinstance(self.where, slice) else self.where[k]
            p, g = shard(params[place]), shard(grads[place])
            self.copies.append(torch.empty_like(p, dtype=g.dtype).copy_(g))

    def addresses(self) -> NDArray[np.int64]:
        """This step's addresses [columns, tensors] of its tensors."""
        own = self.looked_at[self.columns]
        if not isinstance(self.where, slice):
            own = np.take(own, self.where, axis=1)
        if self.copies:
            own = own.copy()
            own[1, self.laid_otherwise] = [copied.data_ptr() for copied in self.copies]
        if self.kernel.stochastic:
            assert self.drawn is not None
            own = np.concatenate([own, self.drawn])
        return own

    def measuring(self, places: frozenset[str]) -> Bucket | None:
        """The same tensors, to be added up for the totals at these places; None where they have no part in them."""
        program = self.alike.variant.measurement(self.alike.absent, places)
        if not program.graph.outputs:
            return None
        if places not in self.measures:
            self.measures[places] = self._measure(program, [self.rows[name] for name in program.columns])
        found = self.measures[places]
        found.copies = self.copies
        return found

    def reading(self, program: Program, name: str) -> Bucket:
        """The same tensors, to be added up by a program that asks for no number and reads one column as its gradient: that of `name`."""
        if name not in self.measures:
            self.measures[name] = self._measure(program, [self.rows["p"], self.rows[name]])
        found = self.measures[name]
        found.copies = self.copies if name == "g" else []
        return found

    def _measure(self, program: Program, rows: list[int]) -> Bucket:
        kernel = kernel_for(program, tuple(DTYPES[self.alike.dtypes[row]] for row in rows), self.alike.target)
        return replace(
            self,
            kernel=kernel,
            columns=rows,
            table=np.empty((len(program.roots), 1), dtype=kernel.compute),
            which=np.zeros(len(self.which), dtype=np.int32),
            mixed=False,
            measures={},
        )

    def add_up(self, numbers: Mapping[str, Any]) -> dict[str, float]:
        """What its tensors add to totals, after `tabulate`; `numbers` are the slots of one number, [tensors]."""
        return self.kernel.add_up(self.addresses(), self.chunks, self.table, self.which, self._given(numbers))

    def _given(self, numbers: Mapping[str, Any]) -> Sequence[Any]:
        given = self.kernel.program.given
        return [numbers[n.name] for n in given if n.name] if given else ()

    def launch(self, numbers: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
        """Update the tensors; the new values of the slots of one number that follow from reductions, [tensors]."""
        found = self.kernel.launch(self.addresses(), self.chunks, self.table, self.which, self._given(numbers))
        self.copies = []
        return found

    def tabulate(
        self, hypers: Hypers, groups: NDArray[np.intp] | None, numbers: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Any]:
        """Fill the table of scalars, a column for each distinct combination of group, step number and one-number slots.

        `hypers` of each group. `groups`: which group each tensor is of, where there are several. `numbers`: "t" and such slots by
        name. Both hold one value for each of all that are looked at. Gives the slots' new values, of its own tensors.
        """
        if not isinstance(self.where, slice):
            groups = None if groups is None else groups[self.where]
            numbers = {name: row[self.where] for name, row in numbers.items()}
        scalars = self.kernel.program.scalars
        # The bytes: comparing two short arrays as numbers takes longer than the kernel of a small model.
        alike = all([len(row) == 1 or row.tobytes() == row[:1].tobytes() * len(row) for row in numbers.values()])
        if alike:
            same = {name: row.item(0) for name, row in numbers.items()}
            if groups is None:
                values, new = scalars({**hypers[0], **same})
                if self.mixed:
                    self.which[:], self.mixed = 0, False
                    self.table = np.empty((len(values), 1), dtype=self.table.dtype)
                self.table[:, 0] = values
                return new
            columns = [{**own, **same} for own in hypers]
            which = groups
        else:
            rows = [groups if groups is not None else np.zeros(len(self.which)), *numbers.values()]
            distinct, inverse = np.unique(np.stack(rows), axis=1, return_inverse=True)
            columns = [{**hypers[int(k)], **dict(zip(numbers, own, strict=True))} for k, *own in distinct.T.tolist()]
            which = inverse.reshape(-1)
        found = [scalars(column) for column in columns]
        self.which[:], self.mixed = which, True
        self.table = np.array([v for v, _ in found], self.table.dtype).reshape(len(found), -1).T.copy()
        return {n: np.array([new[n] for _, new in found])[self.which] for n in found[0][1]}


def buckets_for(
    computation: Computation, columns: Columns, begun: Sequence[Begun], targets: Sequence[str], looked_at: Any
) -> list[Bucket]:
    """The buckets of the parameters that kernels step; `columns` are p, g, the slots [columns][tensors]. Gradients that lie otherwise are
    copied."""
    members: dict[Alike, list[int]] = {}
    for k, (own, target) in enumerate(zip(begun, targets, strict=True)):
        p = columns[0][k]
        alike = Alike(
            target,
            p.device,
            tuple(shard(column[k]).dtype for column in columns),
            own.absent,
            computation.variant_for(p),
            computation.cut_of(p),
        )
        members.setdefault(alike, []).append(k)
    found = []
    for alike, ks in members.items():
        params = [shard(columns[0][k]) for k in ks]
        where = ALL if len(members) == 1 else np.array(ks)
        laid_otherwise = [i for i, k in enumerate(ks) if not lies_as(shard(columns[1][k]), params[i])]
        found.append(_bucket(computation, alike, params, where, laid_otherwise, looked_at))
    copy_gradients(found, columns[0], columns[1])
    return found


def copy_gradients(buckets: Sequence[Bucket], params: Sequence[Tensor], grads: Sequence[Any]) -> bool:
    """Copy the gradients that lie otherwise than their parameters; False where one is gone."""
    if any([g is None for g in grads]):
        return False
    with torch.no_grad():
        for bucket in buckets:
            if bucket.laid_otherwise:
                bucket.copy_gradients(params, grads)
    return True


def _bucket(
    computation: Computation,
    alike: Alike,
    params: Sequence[Tensor],
    where: Any,
    laid_otherwise: list[int],
    looked_at: Any,
) -> Bucket:
    names = ["p", "g", *(s.name for s in computation.slots)]
    dtypes = {name: DTYPES[dtype] for name, dtype in zip(names, alike.dtypes, strict=True)}
    program = alike.variant.program(alike.absent, zero_grad=computation.writes_g)
    own = tuple(dtypes[name] for name in program.columns)
    how = {"stochastic": computation.stochastic, "diagnoses": computation.diagnoses}
    kernel = kernel_for(program, own, alike.target, **how)
    rows = [names.index(name) for name in program.columns]
    return Bucket(
        kernel=kernel,
        alike=alike,
        rows={name: row for row, name in enumerate(names)},
        where=where,
        # Where they are the first of them, without a copy.
        columns=slice(len(rows)) if rows == list(range(len(rows))) else rows,
        looked_at=looked_at,
        chunks=kernel.chunks([p.numel() for p in params], alike.device),
        laid_otherwise=laid_otherwise,
        table=np.empty((len(program.roots), 1), dtype=kernel.compute),
        which=np.zeros(len(params), dtype=np.int32),
    )
