"""The tensors of a group that one kernel serves: their addresses, their chunks, their table of scalars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.compiler.split import Program, measuring
from steprule.compiler.target import Chunks, Kernel
from steprule.compiler.variant import Switches, variant
from steprule.optim.backends import TARGETS
from steprule.rules.parts import clip_by_norm, gradient_norm, has
from steprule.rules.rule import Rule

Hypers = Sequence[dict[str, Any]]
"""The hyperparameters of each group."""


@lru_cache(maxsize=1024)
def kernel_for(program: Program, dtypes: tuple[str, ...], target: str) -> Kernel[Any]:
    """The kernel; numba or triton is imported here, at the first step."""
    return TARGETS[target].load().of(program, dict(zip(program.columns, dtypes, strict=True)))


@lru_cache(maxsize=64)
def norm_program_for(rule: Rule, switches: Switches) -> Program:
    """What measures the gradients before the rule's clip by norm."""
    measure = gradient_norm(rule)
    known = {h.name for h in measure.hypers}
    return measuring(variant(measure, tuple(s for s in switches if s[0] in known)).program())


@dataclass
class Bucket:
    """Tensors of the same device and dtypes, with the same slots present."""

    program: Program
    kernel: Kernel[Any]
    norm: Kernel[Any] | None
    """The kernel that measures the gradients, where the rule clips by their norm."""
    places: NDArray[np.intp] | None
    """Where its tensors stand among those that are looked at; None where it has them all."""
    columns: list[int] | slice
    """Which tensors the kernel takes for each parameter, of those that are looked at: itself, its gradient, its slots."""
    chunks: Chunks
    laid_otherwise: list[int]
    """Which of its gradients lie otherwise than their parameter: the kernel reads a copy."""
    table: NDArray[Any]
    which: NDArray[np.int32]
    """The column of the table that each tensor uses; all the first, unless their steps are `mixed`."""
    addresses: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))
    mixed: bool = False
    copies: list[Tensor] = field(default_factory=list)
    """Of this step's gradients; they live until its launch is over."""

    @classmethod
    def of(
        cls, program: Program, target: str, switches: Switches, dtypes: tuple[str, ...],
        sizes: list[int], device: torch.device, places: NDArray[np.intp] | None, laid_otherwise: list[int], looked_at: list[str],
    ) -> Bucket:  # fmt: skip
        """For tensors of these numbers of elements, of the columns that are looked at."""
        kernel = kernel_for(program, dtypes, target)
        rule = program.graph.rule
        clips = has(rule, clip_by_norm) and dict(switches)["clip_norm"]
        return cls(
            program=program,
            kernel=kernel,
            norm=kernel_for(norm_program_for(rule, switches), dtypes[:2], target) if clips else None,
            places=places,
            columns=_rows_of(program.columns, looked_at),
            chunks=kernel.chunks(sizes, device),
            laid_otherwise=laid_otherwise,
            table=np.empty((len(program.roots), 1), dtype=kernel.compute),
            which=np.zeros(len(sizes), dtype=np.int32),
        )

    def take(self, addresses: NDArray[np.int64]) -> None:
        """This step's addresses [columns, tensors], of all tensors that are looked at."""
        own = addresses[self.columns]
        self.addresses = own if self.places is None else np.take(own, self.places, axis=1)

    def copy_gradients(self, params: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
        """Copy the gradients that lie otherwise into their parameter's order; [tensors] of this bucket."""
        if self.places is None:
            self.addresses = self.addresses.copy()
        for k in self.laid_otherwise:
            copied = torch.empty_like(params[k], dtype=grads[k].dtype).copy_(grads[k])
            self.copies.append(copied)
            self.addresses[1, k] = copied.data_ptr()

    def square(self, hypers: Hypers, group_of: NDArray[np.intp] | None) -> Any:
        """The sum of the squares of the gradients, as the clip will see them; a 0-dim tensor where they are on a GPU."""
        assert self.norm is not None
        program = self.norm.program
        table = np.array([program.scalars(own)[0] for own in hypers], dtype=self.norm.compute)
        which = np.zeros(len(self.which), np.int32) if group_of is None else group_of.astype(np.int32)
        norms = self.norm.reduce(self.addresses, self.chunks, table.reshape(len(hypers), -1).T.copy(), which)
        return (norms * norms).sum()

    def launch(self, given: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
        """Update the tensors; the new values of the slots of one number that follow from reductions, [tensors]."""
        args = [given[n.name] for n in self.program.given if n.name]
        found = self.kernel.launch(self.addresses, self.chunks, self.table, self.which, args)
        self.copies = []
        return found

    def tabulate(
        self, hypers: Hypers, group_of: NDArray[np.intp] | None, numbers: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Any]:
        """Fill the table of scalars, a column for each distinct combination of group, step number and one-number slots.

        `hypers` of each group, `group_of` [tensors] where there are several. `numbers`: "t" and such slots by name, one value for
        each tensor of the bucket. Gives the slots' new values.
        """
        # The bytes: comparing two short arrays as numbers takes longer than the kernel of a small model.
        alike = all([len(row) == 1 or row.tobytes() == row[:1].tobytes() * len(row) for row in numbers.values()])
        if alike:
            same = {name: row.item(0) for name, row in numbers.items()}
            if group_of is None:
                values, new = self.program.scalars({**hypers[0], **same})
                if self.mixed:
                    self.which[:], self.mixed = 0, False
                    self.table = np.empty((len(values), 1), dtype=self.table.dtype)
                self.table[:, 0] = values
                return new
            columns = [{**own, **same} for own in hypers]
            which = group_of
        else:
            rows = [group_of if group_of is not None else np.zeros(len(self.which)), *numbers.values()]
            distinct, inverse = np.unique(np.stack(rows), axis=1, return_inverse=True)
            columns = [{**hypers[int(k)], **dict(zip(numbers, own, strict=True))} for k, *own in distinct.T.tolist()]
            which = inverse.reshape(-1)
        found = [self.program.scalars(column) for column in columns]
        self.which[:], self.mixed = which, True
        self.table = np.array([v for v, _ in found], self.table.dtype).reshape(len(found), -1).T.copy()
        return {n: np.array([new[n] for _, new in found])[self.which] for n in found[0][1]}


def _rows_of(columns: Sequence[str], looked_at: list[str]) -> list[int] | slice:
    """Where a kernel's columns stand among those that are looked at; where they are the first of them, without a copy."""
    places = [looked_at.index(name) for name in columns]
    return slice(len(places)) if places == list(range(len(places))) else places
