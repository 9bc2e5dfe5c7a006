"""What a checkpoint's tensors become as states: their dtype is kept, and their memory until the first write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steprule.optim.settings import Stepped
from steprule.optim.states import dtype_of


def keep_precision(optimizer: Stepped, given: Mapping[str, Any]) -> None:
    """Put the checkpoint's own tensors where torch has cast them to their parameters' dtypes."""
    saved = [k for group in given["param_groups"] for k in group["params"]]
    own = [(p, group) for group in optimizer.param_groups for p in group["params"]]
    for k, (p, group) in zip(saved, own, strict=True):
        state = given["state"].get(k)
        if not isinstance(state, Mapping):
            continue
        slots = {s.name: s for s in optimizer.stepping(group).rule.slots}
        wanted = group.get("state_dtype")
        numbers = {"step", *(s.name for s in optimizer.stepping(group).rule.slots if s.is_number)}
        for name, value in state.items():
            if isinstance(value, Tensor):
                # Numbers stand on the CPU, where the host reads them; a captured step reads them on the device.
                if name in numbers and value.device.type != "meta":
                    device = p.device if group.get("capturable") else torch.device("cpu")
                    coarser = not value.is_floating_point() or value.element_size() < p.element_size()
                    finer = name != "step" and coarser and p.is_floating_point()
                    optimizer.state[p][name] = value.detach().to(device, p.dtype if finer else value.dtype, copy=True)
                elif name not in numbers:
                    kept = dtype_of(slots[name], p, wanted) if wanted is not None and name in slots else None
                    optimizer.state[p][name] = _loaded(value, p, kept)


def _loaded(value: Tensor, p: Tensor, kept: torch.dtype | None) -> Tensor:
    """A checkpoint's tensor as a state; `kept`: the dtype that its group says."""
    if value.is_mkldnn:  # it cannot be copied, and torch takes it as it is
        return value.detach()
    dtype = value.dtype
    alike = value.is_floating_point() == p.is_floating_point() and value.is_complex() == p.is_complex()
    if kept is not None:
        dtype = kept
    elif alike and value.element_size() < p.element_size():
        dtype = p.dtype
    whole = value.layout is torch.strided and value.untyped_storage().nbytes() == value.numel() * value.element_size()
    # Memory that torch.load has made has no allocator, and torch dies at the first write to what shares it.
    own = whole and value.untyped_storage().resizable()
    if own and dtype == value.dtype and value.device == p.device and type(value) is Tensor:
        try:
            return torch._lazy_clone(value.detach())
        except RuntimeError:  # memory from elsewhere, as a mapped file, cannot be shared until it is written
            pass
    return value.detach().to(p.device, dtype, copy=True)
