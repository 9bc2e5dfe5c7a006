"""What a test sees of an optimizer's tensors, as plain arrays that travel between processes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from surroundings import Surroundings
from torch import Tensor

LOOKED_AT = 4096
"""Of larger tensors about so many elements are compared, spread over the whole."""


@dataclass(frozen=True)
class Seen:
    """A value in its place: its dtype, shape and device, and its elements in float64."""

    dtype: str
    shape: tuple[int, ...] = ()
    device: str = "cpu"
    values: NDArray[Any] | None = None


NAMES = {d: str(d).removeprefix("torch.") for d in vars(torch).values() if isinstance(d, torch.dtype)}


def seen(value: Any) -> Seen:
    """Reading leaves all as it is: copy on write is not resolved, lazy bits stay. Called under `no_grad`."""
    if not isinstance(value, Tensor):
        return Seen(type(value).__name__, values=None if value is None else np.array(float(value)))
    if type(value) not in (Tensor, torch.nn.Parameter):
        value = value.as_subclass(Tensor)
    shape, dtype = value.shape, value.dtype
    if value.device.type == "meta":
        return Seen(NAMES[dtype], tuple(shape), "meta")
    if value.layout is not torch.strided:
        value = value.to_dense()
    elif ends_beyond_its_storage(value):
        return Seen(NAMES[dtype], tuple(shape))
    if value.numel() > LOOKED_AT:
        value = value.reshape(-1)[:: value.numel() // LOOKED_AT | 1]
    values = torch.empty(value.shape, dtype=torch.complex128 if dtype.is_complex else torch.float64).copy_(value)
    return Seen(NAMES[dtype], tuple(shape), values=values.numpy())


def ends_beyond_its_storage(t: Tensor) -> bool:
    """Whether reading `t` would read what is not there."""
    if torch._is_zerotensor(t):
        return False
    held = t.untyped_storage().nbytes()
    if (t.storage_offset() + t.numel()) * t.itemsize <= held and t.is_contiguous():
        return False
    last = sum((n - 1) * stride for n, stride in zip(t.shape, t.stride(), strict=True))
    return t.numel() > 0 and (t.storage_offset() + last + 1) * t.itemsize > held


@dataclass
class Moment:
    """After a step or a doing: all tensors by name, and the error where there was one (its classes' names)."""

    what: str
    tensors: dict[str, Seen]
    error: tuple[str, ...] = ()
    message: str = ""
    in_step: bool = False
    """Whether the error is a step's, which may have left some tensors as they were and some moved."""
    compared: bool = True
    """Whether the tensors were looked at."""


@dataclass
class Record:
    """What one side made of a case."""

    moments: list[Moment] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def everything(s: Surroundings) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    for k, p in enumerate(s.params):
        found[f"p{k}"] = seen(p)
        if p.grad is not None:
            found[f"p{k}.grad"] = seen(p.grad)
        for name, value in s.state(k).items():
            found[f"p{k}.{name}"] = seen(value)
    return found


def moment(s: Surroundings, what: str, error: Exception | None = None, *, in_step: bool = False) -> Moment:
    names = tuple(c.__name__ for c in type(error).__mro__) if error is not None else ()
    return Moment(what, everything(s), names, str(error or "")[:200], in_step)


def step(s: Surroundings, what: str) -> Moment:
    """One step, in what the events have put around it."""
    around, s.around = s.around, contextlib.nullcontext
    try:
        with around():
            s.optimizer.step()
    except Exception as error:  # noqa: BLE001  # which error it is is what is compared
        return moment(s, what, error, in_step=True)
    return moment(s, what)
