"""States in torch's layout: how they begin, which are missing, and how one comes to lie as its parameter does.

A state stays the same object, so whoever holds it sees each step. `step` and slots of one number are 0-dim tensors on the CPU, one per
parameter, as in torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.compiler import eager, pages
from steprule.hyper import Slot
from steprule.optim.signature import is_dense, lies_as
from steprule.rules.compensated import COMPENSATION


def scalar_dtype() -> torch.dtype:
    """As torch: float32, unless the default dtype is float64."""
    return torch.float64 if torch.get_default_dtype() is torch.float64 else torch.float32


def number(value: float, dtype: torch.dtype | None = None) -> Tensor:
    """A state of one number; the default device is not asked."""
    return torch.tensor(float(value), dtype=dtype or scalar_dtype(), device="cpu")


def as_numbers(state: dict[str, Any], starts: Mapping[str, float], p: Tensor, *, as_torch: bool) -> None:
    """Make the states of one number that are missing, and tensors of those that an old checkpoint has as plain numbers.

    A rule that torch has not keeps its numbers as precise as `p`.
    """
    for name, start in starts.items():
        held = state.get(name)
        if not isinstance(held, Tensor):
            finer = p.dtype is torch.float64 and name != "step" and not as_torch
            state[name] = number(start if held is None else held, torch.float64 if finer else None)


def keep_count(count: Tensor, steps: float) -> None:
    """Let a count of steps hold this number, and each later one: it is float64 where its own dtype has not each whole number so far,
    as float32 behind 2^24 = 16,777,216. There torch's own step, which adds 1, stands still. It stays the same object."""
    if count.device.type != "cpu" or not _is_rounded(count, steps) or count.dtype is torch.float64:
        return
    if count.is_shared():  # type: ignore[no-untyped-call]
        what = "the count of steps stands still: it is in memory that processes share"
        warnings.warn(f"{what}, in {count.dtype}. Share one in float64.", UserWarning, stacklevel=2)
        return
    count.data = count.data.to(torch.float64)


def _is_rounded(count: Tensor, steps: float) -> bool:
    """Whether the dtype of a count has not each whole number so far."""
    return count.is_floating_point() and steps > 2 / torch.finfo(count.dtype).eps


def keep_counts(
    states: Mapping[Tensor, Any], members: Sequence[Tensor], places: Sequence[int], steps: NDArray[np.float64]
) -> None:
    """The same of each of these parameters, whose states have been stepped so often; a count that was rounded is exact again."""
    for m, value in zip(places, steps.tolist(), strict=True):
        count = states[members[m]]["step"]
        if (
            _is_rounded(count, value) and count.item() != value
        ):  # below, it is in memory that the step has written otherwise
            keep_count(count, value)
            count.data.fill_(value)  # by `data`: the version has risen for this step


def begin(
    slot: Slot,
    p: Tensor,
    hypers: Mapping[str, Any],
    *,
    absent: bool,
    sizes: tuple[int, ...] | None = None,
    wanted: torch.dtype | None = None,
) -> Tensor:
    """A slot before its first step, beside `p`, of its shape unless `sizes` says another; where the rule itself fills it at its first
    use, room for that. `wanted`: the dtype of states that its group says."""
    dtype = dtype_of(slot, p, wanted)
    p = p if sizes is None else p.new_empty(sizes)
    if absent:
        return pages.empty_like(p, dtype)  # type: ignore[no-any-return]
    return pages.full_like(p, eager.start_number(slot, hypers), dtype)  # type: ignore[no-any-return]


def begin_as_wanted(
    slots: Iterable[Slot], group: Mapping[str, Any], states: Mapping[Tensor, Any], hypers: Mapping[str, Any]
) -> None:
    """Begin anew, in the dtype that a group says, what torch's constructor has begun in that of each parameter: Adagrad's sum."""
    wanted = group.get("state_dtype")
    for p in group["params"] if wanted is not None else ():
        for slot in slots:
            if slot.name in states.get(p, {}) and not p.is_complex():
                states[p][slot.name] = begin(slot, p.detach(), hypers, absent=False, wanted=wanted)


def dtype_of(slot: Slot, p: Tensor, wanted: torch.dtype | None = None) -> torch.dtype:
    """In which dtype a slot of elements begins: that which is wanted, or its parameter's."""
    if slot.full_precision:
        return torch.float32 if p.element_size() < 4 else p.dtype  # complex numbers have 8 bytes
    kept = wanted is None or slot.name == COMPENSATION or slot.looked or p.is_complex()
    return p.dtype if kept else wanted  # type: ignore[return-value]


def in_dtype(slot: Slot, p: Tensor, held: Tensor, wanted: torch.dtype | None) -> Tensor:
    """A state as it is kept where a dtype is wanted: itself where it has that, as after its first step."""
    if slot.looked or slot.is_number or (wanted is None and slot.name != COMPENSATION):
        return held
    return held.to(dtype_of(slot, p, wanted))


def check_whole(state: Mapping[str, Any], owned: Iterable[str], always: Iterable[str]) -> None:
    """Raise torch's `KeyError` for a state that has begun and lost a slot that every step needs."""
    if any(name in state for name in owned):
        for name in always:
            if name not in state:
                raise KeyError(name)


_uses: Any = getattr(torch._C, "_storage_Use_Count", lambda _: 0)


@cache
def _uses_alone() -> int:
    """What torch counts for a storage that one tensor has; it differs between versions."""
    alone = torch.empty(1, device="cpu")
    return int(_uses(alone.untyped_storage()._cdata))


def _is_viewed(t: Tensor) -> bool:
    """Whether another tensor has the same storage."""
    return int(_uses(t.untyped_storage()._cdata)) > _uses_alone()


def lay_as(held: Tensor, p: Tensor) -> bool:
    """Give a state its parameter's order of elements, under the same object; False where that would part it from others.

    A view into a larger storage, or memory that processes share, stays what it is: whoever has the rest of it must see each step.
    """
    if lies_as(held, p):
        return True
    whole = held.untyped_storage().nbytes() == held.numel() * held.element_size() and not _is_viewed(held)
    if not (whole and is_dense(held) and held.dim() == p.dim()) or held.is_shared():  # type: ignore[no-untyped-call]
        return False
    held.data = torch.empty_like(p, dtype=held.dtype).copy_(held)
    return True
