"""What one step of one parameter group needs, prepared once and checked at each step: addresses, chunks, kernels.

A plan holds for the parameters that have a gradient now. It is made anew when a parameter moved, a state was replaced, the
set of gradients changed, or a switch of the rule was thrown.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.compiler.split import Program, measuring, program_of
from steprule.optim.forms import Form, compiler_of
from steprule.rules.parts import gradient_norm
from steprule.rules.rule import Rule

Switches = tuple[tuple[str, bool], ...]
DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16", torch.float16: "float16"}
_ADDRESS = Tensor.data_ptr  # mapped without a look-up for each of hundreds of tensors
program_for = lru_cache(maxsize=1024)(program_of)


@lru_cache(maxsize=1024)
def kernel_for(program: Program, dtypes: tuple[str, ...], form: Form) -> Any:
    """The kernel; numba or triton is imported here, at the first step."""
    return compiler_of(form).kernel_for(program, dict(zip(program.columns, dtypes, strict=True)))


@lru_cache(maxsize=64)
def norm_program_for(switches: Switches) -> Program:
    """What measures the gradients before a clip by norm, for the switches of the rule behind it."""
    known = {h.name for h in gradient_norm.hypers}
    return measuring(program_for(gradient_norm, tuple(s for s in switches if s[0] in known), frozenset()))


def shard(t: Tensor) -> Tensor:
    """The part of a DTensor that lies in this process; any other tensor is its own."""
    return t._local_tensor if type(t).__name__ == "DTensor" else t  # type: ignore[attr-defined]


def can_compile(p: Tensor, g: Tensor, *, by_elements: bool = True) -> bool:
    """Whether a kernel can step this parameter: strided, real, its elements dense in memory.

    A DTensor's shard can, where p and g are cut alike and nothing is reduced: `by_elements`.
    """
    if type(p).__name__ == "DTensor" and type(g).__name__ == "DTensor":
        whole = not any(placement.is_partial() for placement in (*p.placements, *g.placements))  # type: ignore[attr-defined]
        if not (by_elements and whole and (p.device_mesh, p.placements) == (g.device_mesh, g.placements)):  # type: ignore[attr-defined]
            return False
        p, g = shard(p), shard(g)
    plain = type(p) in (Tensor, torch.nn.Parameter) and type(g) in (Tensor, torch.nn.Parameter)
    if not plain or g.device != p.device or g.layout is not torch.strided or p.layout is not torch.strided:
        return False
    return p.dtype in DTYPES and g.dtype in DTYPES and (p.is_contiguous() or torch.empty_like(p).stride() == p.stride())


@dataclass
class Bucket:
    """The tensors of a group that one kernel serves: the same device and dtypes, the same slots present."""

    program: Program
    kernel: Any
    norm: Any
    """The kernel that measures the gradients, where the rule clips by their norm."""
    places: NDArray[np.intp] | slice
    """Where its tensors stand among the group's parameters."""
    params: list[Tensor]
    slots: list[list[Tensor]]
    """The tensors whose addresses the table holds, a list a column: they live as long as the plan."""
    addresses: NDArray[np.int64]
    chunks: Any
    which: NDArray[np.int32]
    """The column of the table that each tensor uses; all the first, unless their steps are `mixed`."""
    table: NDArray[Any]
    contiguous: bool
    grad_dtype: torch.dtype
    pointers: list[int]
    sharded: bool = False
    """Whether its tensors are DTensors, whose shards the addresses are of."""
    grads: list[Tensor] = field(default_factory=list)
    """The gradients last seen to lie as they should."""
    mixed: bool = False
    copied: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Gradients that lie otherwise than their parameter, each with its copy, which lives until the next step."""

    def take(self, grads: list[Any]) -> bool:
        """Put the gradients' addresses in the table; False, and the plan is void, if anything is not as it was."""
        if self.sharded:
            if any([type(g) is not type(p) for p, g in zip(self.params, grads, strict=True)]):
                return False
            grads = list(map(shard, grads))
        if list(map(_ADDRESS, map(shard, self.params) if self.sharded else self.params)) != self.pointers:
            return False
        if not (all(map(operator.is_, grads, self.grads)) and len(grads) == len(self.grads)):
            if any([g is None or g.layout is not torch.strided or g.dtype is not self.grad_dtype for g in grads]):
                return False
            self.copied = []
            if not (self.contiguous and all([g.is_contiguous() for g in grads])):
                lying = [
                    g if g.stride() == p.stride() else torch.empty_like(p, dtype=g.dtype).copy_(g)
                    for p, g in zip(map(shard, self.params), grads, strict=True)
                ]
                self.copied = [(g, a) for a, g in zip(lying, grads, strict=True) if a is not g]
                grads = lying
            self.grads = [] if self.copied else grads
        self.addresses[1] = list(map(_ADDRESS, grads))
        return True

    def square(self, hypers: dict[str, Any]) -> Any:
        """The sum of the squares of the gradients, as the clip will see them; a 0-dim tensor where they are on a GPU."""
        values, _ = self.norm.program.scalars(hypers)
        table = np.array(values, dtype=self.norm.compute).reshape(-1, 1)
        norms = self.norm.reduce(self.addresses, self.chunks, table, np.zeros_like(self.which))
        return (norms * norms).sum()

    def launch(self, table: NDArray[Any], given: dict[str, Any]) -> None:
        """Update the tensors."""
        self.kernel.launch(
            self.addresses, self.chunks, table, self.which, [given[n.name] for n in self.program.given if n.name]
        )
        # A write that autograd does not see would give wrong gradients where a graph has saved the parameter.
        torch.autograd.graph.increment_version(self.params)

    def zero(self, grads: list[Any]) -> None:
        """After a launch that zeroed the gradients: say so to autograd, and zero those of which it saw a copy."""
        for g, _ in self.copied:
            g.zero_()
        torch.autograd.graph.increment_version(grads)


def build(
    rule: Rule, switches: Switches, params: Sequence[Tensor], grads: Sequence[Tensor], states: Sequence[dict[str, Any]],
    start: Callable[[Any, Tensor], Any], form_of: Callable[[Tensor], Form | None], zero_grad: bool,
) -> tuple[list[Bucket], list[int]]:  # fmt: skip
    """The buckets for the parameters that a kernel can step, and the places of the others.

    States that the variant uses and that are not there are made, by `start(slot, p)`; so are those that the rule itself
    will fill at this first use, for the kernel to write to. `form_of` gives a parameter's form, None the eager one.
    """
    full = program_for(rule, switches, frozenset(), zero_grad)
    used = [s for s in rule.slots if not s.per_tensor and s.name in full.columns]
    reduces = bool(full.reductions or full.given)
    groups: dict[Any, list[int]] = {}
    others: list[int] = []
    for k, (p, g) in enumerate(zip(params, grads, strict=True)):
        form = form_of(p)
        if form is None or not can_compile(p, g, by_elements=not reduces):
            others.append(k)
            continue
        absent = frozenset(s.name for s in used if s.absent_at_first and states[k].get(s.name) is None)
        for slot in used:
            held = states[k].get(slot.name)
            if held is None:
                held = torch.empty_like(p) if slot.name in absent else start(slot, p)
            elif held.stride() != p.stride() or held.dtype not in DTYPES or held.device != p.device:
                held = torch.empty_like(p, dtype=held.dtype if held.dtype in DTYPES else p.dtype).copy_(held)
            states[k][slot.name] = held
        key = (
            form,
            shard(p) is not p,
            p.device,
            p.dtype,
            g.dtype,
            tuple(states[k][s.name].dtype for s in used),
            absent,
        )
        groups.setdefault(key, []).append(k)
    buckets = []
    for (form, _, _, _, grad_dtype, _, absent), members in groups.items():
        program = program_for(rule, switches, absent, zero_grad)
        buckets.append(_bucket(program, form, switches, grad_dtype, members, params, states))
    return buckets, others


def _bucket(
    program: Program, form: Form, switches: Switches, grad_dtype: torch.dtype, members: list[int],
    params: Sequence[Tensor], states: Sequence[dict[str, Any]],
) -> Bucket:  # fmt: skip
    whole = [params[k] for k in members]
    own = list(map(shard, whole))
    names = program.columns[2:]
    slots = [[shard(states[k][name]) for k in members] for name in names]
    dtypes = (own[0].dtype, grad_dtype, *(column[0].dtype for column in slots))
    names_of = tuple(DTYPES[d] for d in dtypes)
    kernel = kernel_for(program, names_of, form)
    clips = dict(switches).get("clip_norm")
    pointers = [p.data_ptr() for p in own]
    rows = [pointers, pointers, *([t.data_ptr() for t in column] for column in slots)]
    everyone = members == list(range(len(params)))
    return Bucket(
        program=program,
        kernel=kernel,
        norm=kernel_for(norm_program_for(switches), names_of[:2], form) if clips else None,
        places=slice(None) if everyone else np.array(members),
        params=whole,
        sharded=own[0] is not whole[0],
        slots=slots,
        addresses=np.array(rows, dtype=np.int64),
        chunks=kernel.chunks([p.numel() for p in own], own[0].device),
        which=np.zeros(len(own), dtype=np.int32),
        table=np.empty((len(program.roots), 1), dtype=kernel.compute),
        contiguous=all(p.is_contiguous() for p in own),
        grad_dtype=grad_dtype,
        pointers=pointers,
    )


def tabulate(
    bucket: Bucket, hypers: dict[str, Any], scalars: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Fill the table of scalars, a column for each distinct combination of step number and one-number-a-tensor slots.

    `scalars`: "t" and such slots by name, one value a tensor of the bucket. Gives the table and the slots' new values.
    """
    # The bytes: comparing two short arrays as numbers takes longer than the kernel of a small model.
    if all([row.tobytes() == row[:1].tobytes() * len(row) for row in scalars.values()]):
        values, new = bucket.program.scalars({**hypers, **{n: float(row[0]) for n, row in scalars.items()}})
        bucket.table[:, 0] = values
        if bucket.mixed:
            bucket.which[:], bucket.mixed = 0, False
        return bucket.table, new
    distinct, inverse = np.unique(np.stack(list(scalars.values())), axis=1, return_inverse=True)
    columns, fresh = [], []
    for column in distinct.T:
        values, new = bucket.program.scalars({**hypers, **{n: float(v) for n, v in zip(scalars, column, strict=True)}})
        columns.append(values)
        fresh.append(new)
    bucket.which[:], bucket.mixed = inverse.reshape(-1), True
    table = np.array(columns, dtype=bucket.table.dtype).reshape(len(columns), -1).T.copy()
    return table, {n: np.array([new[n] for new in fresh])[bucket.which] for n in fresh[0]}
