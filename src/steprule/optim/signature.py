"""What a tensor is, as far as a kernel relies on it, looked at in each step.

A plan holds numbers, not tensors. Each step begins at the objects that the groups' lists and the optimizer's state hold now, and
compares all that the kernels rely on: type, dtype, device, dispatch keys, sizes, strides, the extent within the storage, copies on
write. The comparison runs compiled where the records' layout is proved (scan.py), and by Python elsewhere (`AskedLook`): both
check the same. `STEPRULE_SCAN=python` asks for the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16", torch.float16: "float16"}
"""What kernels compute with, as they name it."""

NUMBERS = (torch.float32, torch.float64)
"""The dtypes in which one-number states, as `step`, may stand."""

WHOLE = 2.0**24
"""Up to where float32 has each whole number."""

PLAIN = (Tensor, torch.nn.Parameter)

SAME, MOVED, CHANGED = 0, 1, 2
"""What a look finds: all as it was; memory at other addresses, which may overlap now; anything else."""

Columns = Sequence[Sequence[Tensor]]


def keys_of(t: Tensor) -> int:
    """The dispatch keys: one word that tells lazy, sparse, mkldnn, meta, fake, wrapped and inference tensors from plain ones."""
    return int(torch._C._dispatch_keys(t).raw_repr())


@cache
def plain_keys(device: str, inference: bool = False) -> int:
    """The dispatch keys of a plain strided tensor on such a device, made in inference mode or not."""
    with torch.utils._python_dispatch._disable_current_modes(), torch.inference_mode(inference):
        return keys_of(torch.empty(0, device=device))


def is_plain(t: Tensor, *, read: bool = False) -> bool:
    """Whether a kernel may touch this tensor: what its memory holds is what it is, and all of it is there.

    With `read`, whether it may read it: one that was made in inference mode too.
    """
    if type(t) not in PLAIN or t.layout is not torch.strided or t.dtype not in DTYPES:
        return False
    keys = keys_of(t)
    device = t.device.type
    return (keys == plain_keys(device) or (read and keys == plain_keys(device, True))) and is_within(t)


def is_within(t: Tensor) -> bool:
    """Whether all elements lie inside the storage, which may have been made smaller behind the tensor."""
    return (t.storage_offset() + span_of(t)) * t.element_size() <= t.untyped_storage().nbytes()


def span_of(t: Tensor) -> int:
    """Elements from the first in memory to the last, both counted."""
    return 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True)) if t.numel() else 0


def is_number(t: object) -> bool:
    """Whether a state is one number that a step may read and write directly: `step`, and slots of one number per tensor."""
    return isinstance(t, Tensor) and t.device.type == "cpu" and t.numel() == 1 and t.dtype in NUMBERS and is_plain(t)


def has_own_operations(t: Tensor) -> bool:
    """Whether a subclass says itself what operations do, as fake tensors, DTensors and wrappers: its memory is its own affair."""
    return type(t).__torch_dispatch__ is not Tensor.__torch_dispatch__


def lies_as(t: Tensor, p: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in the same order in memory."""
    return t.stride() == p.stride() or (t.is_contiguous() and p.is_contiguous())


def is_dense(t: Tensor) -> bool:
    """Whether the elements fill their memory without gap or overlap, in whatever order of axes."""
    return t.is_contiguous() or torch.empty_like(t, device="meta").stride() == t.stride()


def shard(t: Tensor) -> Tensor:
    """The part of a DTensor that lies in this process, when it has arrived; any other tensor is its own."""
    if type(t).__name__ != "DTensor":
        return t
    local = t._local_tensor  # type: ignore[attr-defined]
    return local.wait() if type(local).__name__ == "AsyncCollectiveTensor" else local  # type: ignore[no-any-return]


def placed_alike(t: Tensor, p: Tensor) -> bool:
    """Whether two DTensors are cut alike over the same processes, each element in one place; plain tensors always are."""
    if type(p).__name__ != "DTensor":
        return type(t).__name__ != "DTensor"
    if type(t).__name__ != "DTensor" or any(placement.is_partial() for placement in p.placements):  # type: ignore[attr-defined]
        return False
    return bool((t.device_mesh, t.placements) == (p.device_mesh, p.placements))  # type: ignore[attr-defined]


def parts_here(p: Tensor, g: Tensor, writes_g: bool) -> tuple[Tensor, Tensor] | None:
    """The parts of a parameter and its gradient that lie in this process; None where no kernel may touch them."""
    if not placed_alike(g, p):
        return None
    p, g = shard(p), shard(g)
    fits = is_plain(p) and is_plain(g, read=not writes_g) and is_dense(p)
    return (p, g) if fits and g.shape == p.shape and g.device == p.device else None


@dataclass(frozen=True)
class Subjects:
    """The tensors of a plan's groups that kernels step, as they are when it is made."""

    members: list[Tensor]
    """The group's list; for several groups their lists one after the other."""
    places: list[int]
    """Where those that kernels step stand in it."""
    resting: list[int]
    """Where plain ones without a gradient stand; all others are looked at elsewhere."""
    states: Mapping[Tensor, Any]
    """The optimizer's state."""
    columns: Columns
    """p, g, the slots, then the states of one number: [columns][tensors]."""
    names: tuple[str, ...]
    """The keys in a state of the columns behind p and g."""
    numbers: int
    """How many of the last columns have one number each."""
    writes_g: bool
    """Whether the step zeroes the gradients."""


class Look(Protocol):
    """A look at all tensors of a plan, the same at each step."""

    addresses: NDArray[np.int64]
    """[columns, tensors], in bytes; filled by each look."""
    lengths: NDArray[np.int64]
    """[columns, tensors], in bytes: from a tensor's first element to its last."""
    values: NDArray[np.float64]
    """[numbers, tensors]: what the states of one number hold; filled by each look, written back by `finish`."""

    def look(self, members: list[Tensor], states: Mapping[Tensor, Any]) -> int:
        """SAME, MOVED or CHANGED."""

    @property
    def holds(self) -> bool:
        """Whether it keeps tensors alive."""

    def finish(self) -> bool:
        """Write `values` to the states of one number, raise the versions of all that was written, for autograd to see, and release.

        Whether a value is beyond where its dtype has each whole number."""

    def release(self) -> None:
        """Let go what was kept alive since the look."""


class AskedLook:
    """The look by Python's public calls: the same checks, in about 10 microseconds per tensor and step."""

    how = "python"

    def __init__(self, subjects: Subjects) -> None:
        self._places, self._resting, self._names = subjects.places, subjects.resting, subjects.names
        self._members = len(subjects.members)
        self._writes_g, self._numbers = subjects.writes_g, subjects.numbers
        self._seen = [[_description(t) for t in column] for column in subjects.columns]
        shape = len(subjects.columns), len(self._places)
        self.addresses = np.zeros(shape, dtype=np.int64)
        self.lengths = lengths_of(subjects.columns)
        self.values = np.zeros((subjects.numbers, len(self._places)))
        self._held: list[list[Tensor]] = []
        self._fill(subjects.columns)

    def look(self, members: list[Tensor], states: Mapping[Tensor, Any]) -> int:
        """SAME, MOVED or CHANGED."""
        if len(members) != self._members:
            return CHANGED
        if any(members[m].grad is not None for m in self._resting):
            return CHANGED
        columns = columns_now(members, states, self._places, self._names)
        for column, seen in zip(columns, self._seen, strict=True):
            for t, before in zip(column, seen, strict=True):
                if not isinstance(t, Tensor) or _description(t) != before or not is_within(shard(t)):
                    return CHANGED
        cut = columns[1 : len(columns) - self._numbers]
        if not all(placed_alike(t, p) for column in cut for t, p in zip(column, columns[0], strict=True)):
            return CHANGED
        last = self.addresses.copy()
        self._fill(columns)
        return SAME if np.array_equal(self.addresses, last) else MOVED

    def _fill(self, columns: Columns) -> None:
        # The address is asked for as of memory that will be written: a copy on write is made at that.
        self.addresses[:] = [[shard(t).data_ptr() for t in column] for column in columns]
        self._held = [list(column) for column in columns]
        for row, column in zip(self.values, columns[len(columns) - self._numbers :], strict=True):
            row[:] = [t.item() for t in column]

    def finish(self) -> bool:
        """Write the numbers, raise the versions."""
        first = len(self._held) - self._numbers
        with torch.no_grad():
            for column, row in zip(self._held[first:], self.values.tolist(), strict=True):
                for t, value in zip(column, row, strict=True):
                    t.data.fill_(value)  # by `data`: the version rises once, below
        written = [t for c, column in enumerate(self._held) if c != 1 or self._writes_g for t in column]
        torch.autograd.graph.increment_version(written)
        self.release()
        return bool((self.values > WHOLE).any())

    def release(self) -> None:
        """Let go what the look held."""
        self._held = []

    @property
    def holds(self) -> bool:
        """Whether it keeps tensors alive."""
        return bool(self._held)


def _description(t: Tensor) -> tuple[Any, ...]:
    local = shard(t)
    return type(t), type(local), local.dtype, local.device, local.shape, local.stride(), keys_of(local)


def columns_now(
    members: list[Tensor], states: Mapping[Tensor, Any], places: Sequence[int], names: Sequence[str]
) -> list[list[Any]]:
    """The tensors as they are now: p, g, and the states under `names`; None where one is missing."""
    params = [members[m] for m in places]
    own = [states.get(p, {}) for p in params] if names else []
    return [params, [p.grad for p in params], *([s.get(name) for s in own] for name in names)]


def lengths_of(columns: Columns) -> NDArray[np.int64]:
    """Bytes from each tensor's first element to its last."""
    found = [[span_of(t) * t.element_size() for t in map(shard, column)] for column in columns]
    return np.array(found, dtype=np.int64).reshape(len(columns), -1)
