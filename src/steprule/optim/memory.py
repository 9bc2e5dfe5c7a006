"""Where tensors lie in memory, and which of them share what a step writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.optim.signature import has_own_operations, is_within, shard, span_of


class Ranges(NamedTuple):
    """What tensors occupy, each [columns, tensors]; an absent tensor, or one without memory of its own, has no bytes."""

    starts: NDArray[np.int64]
    """The address of a tensor's first element."""
    sizes: NDArray[np.int64]
    """The bytes from there to the end of its last."""


class Reach(NamedTuple):
    """All memory that a plan touches, each [ranges]."""

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    """In bytes."""
    written: NDArray[np.bool_]
    """Whether the plan writes there."""


def reach_of(parts: Sequence[tuple[Ranges, NDArray[np.bool_]]], *, all_written: bool) -> Reach:
    """All memory of some tensors; beside each part, which of its columns are written."""
    starts = np.concatenate([ranges.starts.ravel() for ranges, _ in parts])
    sizes = np.concatenate([ranges.sizes.ravel() for ranges, _ in parts])
    written = np.concatenate([np.repeat(columns, ranges.starts.shape[1]) for ranges, columns in parts])
    return Reach(starts, sizes, written | all_written)


def range_of(t: Any) -> tuple[int, int]:
    """Address and bytes of what a tensor occupies; nothing where it has no memory of its own to compare."""
    if not isinstance(t, Tensor):
        return 0, 0
    t = shard(t)
    if has_own_operations(t):
        return 0, 0
    with torch._C.DisableTorchFunctionSubclass():  # any other subclass's memory is an ordinary tensor's
        if t.layout is not torch.strided or t._is_zerotensor():
            return 0, 0
        try:
            address = t.data_ptr() if is_within(t) else 0
        except RuntimeError:  # a tensor without memory, as a fake one
            return 0, 0
        return (address, span_of(t) * t.element_size()) if address else (0, 0)


def ranges_of(
    params: Sequence[Tensor], grads: Sequence[Tensor | None], states: Mapping[Tensor, Any], names: Sequence[str]
) -> Ranges:
    """A column for the parameters, one for their gradients, and one for their states under each of `names`."""
    rows = []
    for p, g in zip(params, grads, strict=True):
        state = states.get(p, {}) if names else {}
        rows.append([range_of(t) for t in (p, g, *(state.get(name) for name in names))])
    found = np.array(rows, dtype=np.int64).reshape(len(rows), 2 + len(names), 2)
    return Ranges(found[:, :, 0].T.copy(), found[:, :, 1].T.copy())


def sharing(
    params: Sequence[Tensor], grads: Sequence[Tensor | None], states: Mapping[Tensor, Any], names: Sequence[str], *, writes_g: bool
) -> set[int]:  # fmt: skip
    """Which of these parameters share memory that a step writes; one that is listed twice does."""
    if not params:
        return set()
    ranges = ranges_of(params, grads, states, names)
    written = np.array([c != 1 or writes_g for c in range(len(ranges.starts))])
    found = overlapping(ranges.starts, ranges.sizes, written)
    # One that is listed twice may have no memory, nor states yet.
    own = [id(p) for p in params]
    return found | {k for k, i in enumerate(own) if own.count(i) > 1} if len(set(own)) < len(own) else found


def share_memory(grads: Iterable[Tensor]) -> bool:
    """Whether gradients lie in one another's memory; a sparse one counts by its values, if they are in one row."""
    found = []
    for g in grads:
        if g.layout is torch.strided:
            found.append(range_of(g))
        elif g.layout is torch.sparse_coo:
            found.append(range_of(g._values()))
    starts, sizes = np.array(found, dtype=np.int64).reshape(-1, 2).T
    return bool(overlapping(starts[None], sizes[None], np.ones(1, dtype=bool)))


def overlapping(addresses: NDArray[np.int64], lengths: NDArray[np.int64], written: NDArray[np.bool_]) -> set[int]:
    """Which tensors share memory that a step writes, with another tensor or within themselves.

    `addresses` and `lengths` in bytes [columns, tensors]; `written` [columns].
    """
    tensors = addresses.shape[1]
    order, cluster = _clusters(addresses.reshape(-1), lengths.reshape(-1))
    several = np.bincount(cluster) > 1
    if not several.any():
        return set()
    write = np.bincount(cluster, weights=np.repeat(written, tensors)[order]) > 0
    return set((order % tensors)[(several & write)[cluster]].tolist())


def meeting(owners: Sequence[Reach]) -> bool:
    """Whether memory that one owner writes is another's too."""
    order, cluster = _clusters(np.concatenate([o.starts for o in owners]), np.concatenate([o.sizes for o in owners]))
    if not len(order):
        return False
    begins = np.flatnonzero(np.concatenate([[True], cluster[1:] != cluster[:-1]]))
    own = np.repeat(np.arange(len(owners)), [len(o.starts) for o in owners])[order]
    write = np.bincount(cluster, weights=np.concatenate([o.written for o in owners])[order]) > 0
    return bool(((np.minimum.reduceat(own, begins) != np.maximum.reduceat(own, begins)) & write).any())


def _clusters(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The ranges that are not empty, in their order in memory, and which of them lie in one another, by number."""
    there = np.flatnonzero(sizes)
    order = there[np.argsort(starts[there], kind="stable")]
    begin, end = starts[order], (starts + sizes)[order]
    reached = np.maximum.accumulate(end)
    apart = np.concatenate([[True], begin[1:] >= reached[:-1]])[: len(order)]
    return order, np.cumsum(apart) - 1
