"""What can befall a tensor's memory between two steps: another address, shape or storage under the same object."""

from __future__ import annotations

import math
from typing import Any

import torch
from surroundings import WIDTH, Place, Surroundings, event, in_half, in_six, retire
from torch import Tensor

# Nothing, and the same object over other memory.


@event
def nothing(s: Surroundings, at: Place, t: Any) -> None:
    """The control."""


@event
def data_elsewhere(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` another buffer."""
    retire(s, t)
    t.data = at.fresh(s, t)


@event
def data_strided(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` every second element of a buffer."""
    retire(s, t)
    new = at.fresh(s, t)
    t.data = s.guards.buffer(torch.stack([new, new + 1], dim=-1))[..., 0]


@event
def data_transposed_elsewhere(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` a buffer in column order, of the same shape."""
    retire(s, t)
    t.data = s.guards.buffer(at.fresh(s, t).t().contiguous()).t()


@event
def data_expanded(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` one element expanded to the shape."""
    retire(s, t)
    t.data = s.guards.buffer(at.fresh(s, t).reshape(-1)[0]).expand(t.shape)


@event
def data_offset(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` the window one element further on in a longer buffer."""
    new = at.fresh(s, t).reshape(-1)
    longer = s.guards.buffer(torch.cat([new, new[:1]]))
    t.data = longer[:-1].view(t.shape)
    t.data = longer[1:].view(t.shape)


@event
def data_unaligned(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` memory at an odd address."""
    retire(s, t)
    new = at.fresh(s, t)
    store = bytearray(new.numel() * new.element_size() + 1)
    odd = torch.frombuffer(store, dtype=new.dtype, offset=1, count=new.numel()).view(new.shape)
    t.data = odd.copy_(new)


@event
def data_empty(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` a tensor without elements, as where a shard is empty."""
    retire(s, t)
    t.data = torch.empty(0, dtype=t.dtype)


@event
def data_six_dimensional(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` a view of six dimensions; torch keeps sizes beyond five elsewhere."""
    t.data = t.data.view(in_six(t))


@event
def all_six_dimensional(s: Surroundings, at: Place, t: Any) -> None:
    """Parameter, gradient and states become views of six dimensions, each at its address."""
    p = s.params[at.index]
    for held in [p, p.grad, *s.state(at.index).values()]:
        if isinstance(held, Tensor) and held.ndim == 2:
            held.data = held.data.view(in_six(held))


# The same object and address, another shape.


@event
def data_shrunk(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` its own first half."""
    t.data = t.data[: in_half(t)]


@event
def data_transposed(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data = t.data.t()`: of a square the shape stays and the strides change."""
    t.data = t.data.t()


@event
def data_reshaped(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` a view of as many elements in one dimension."""
    t.data = t.data.reshape(-1)


@event
def all_shrunk(s: Surroundings, at: Place, t: Any) -> None:
    """Parameter, gradient and states become their own first halves: all fits, at the old addresses."""
    p = s.params[at.index]
    for held in [p, p.grad, *s.state(at.index).values()]:
        if isinstance(held, Tensor) and held.ndim:
            held.data = held.data[: in_half(held)]


@event
def all_elsewhere(s: Surroundings, at: Place, t: Any) -> None:
    """Parameter, gradient and states move to other buffers, as when a model comes back to memory."""
    p = s.params[at.index]
    for held in [p, p.grad, *s.state(at.index).values()]:
        if isinstance(held, Tensor):
            retire(s, held)
            held.data = s.guards.buffer(held.detach())


# Storage.


@event
def set_elsewhere(s: Surroundings, at: Place, t: Any) -> None:
    """`t.set_(...)` to another buffer."""
    retire(s, t)
    with torch.no_grad():
        fresh = at.fresh(s, t)
        # A copy, as of a loaded state, has lost the negative bit that torch's class may still have: the values are what is set.
        t.set_(s.guards.buffer(-fresh) if t.is_neg() else fresh)


@event
def set_half(s: Surroundings, at: Place, t: Any) -> None:
    """`t.set_(...)` to a buffer of half the rows."""
    retire(s, t)
    with torch.no_grad():
        t.set_(at.fresh(s, t[: in_half(t)]))


def resized(s: Surroundings, t: Tensor, rows: int) -> None:
    """`resize_` is refused to a tensor that requires a gradient."""
    shape = (rows, *t.shape[1:])
    grows = math.prod(shape) > t.numel()
    if grows and (t.is_inference() or t.is_shared()):
        return  # what it grows by could not be filled; torch's own resizing of shared memory ends the process
    wanted = t.requires_grad
    t.requires_grad_(False)
    if grows:
        s.guards.forget(t)
    t.resize_(shape)
    if grows:
        try:
            t.fill_(0.25)
        except RuntimeError:  # a copy on write that was resized: what is there now is anything
            t.data = torch.full(shape, 0.25, dtype=t.dtype)
    t.requires_grad_(wanted)


@event
def resize_smaller(s: Surroundings, at: Place, t: Any) -> None:
    """`t.resize_` to half the rows: the same address."""
    resized(s, t, in_half(t))


@event
def resize_larger(s: Surroundings, at: Place, t: Any) -> None:
    """`t.resize_` to many more rows: the storage moves."""
    resized(s, t, 2 * t.shape[0] + 2 * WIDTH)


@event
def storage_freed_and_back(s: Surroundings, at: Place, t: Any) -> None:
    """The storage is resized to nothing and back, as where states are put away and fetched."""
    if t.is_shared() or torch._is_zerotensor(t):
        return  # torch's own resizing ends the process there
    values = s.value(t, number=at.kind in s.numbers)
    storage = t.untyped_storage()
    size = storage.nbytes()
    storage.resize_(0)
    s.kept.append(torch.ones(max(1, size // 4)))
    storage.resize_(size)
    s.guards.renew(t)
    with torch.no_grad():
        t.copy_(values)


@event
def storage_larger(s: Surroundings, at: Place, t: Any) -> None:
    """The storage grows, so that its memory moves; the tensor is as it was."""
    if t.is_shared() or torch._is_zerotensor(t):
        return  # torch's own resizing ends the process there
    storage = t.untyped_storage()
    storage.resize_(8 * storage.nbytes() + (1 << 20))


@event
def storage_gone(s: Surroundings, at: Place, t: Any) -> None:
    """The storage is freed and stays so: there is nothing behind the tensor."""
    s.guards.forget(t)
    t.untyped_storage().resize_(0)


@event
def storage_too_short(s: Surroundings, at: Place, t: Any) -> None:
    """The storage ends in the middle of the tensor."""
    s.guards.forget(t)
    t.untyped_storage().resize_((t.storage_offset() + t.numel() // 2) * t.element_size())


@event
def shared_memory(s: Surroundings, at: Place, t: Any) -> None:
    """`t.share_memory_()`: the storage moves to shared memory."""
    if torch._is_zerotensor(t):
        return  # torch's own copying ends the process there
    t.share_memory_()


@event
def copy_on_write_from_it(s: Surroundings, at: Place, t: Any) -> None:
    """`torch._lazy_clone(t)`: a twin shares the memory until one of them is written; the twin may not change."""
    twin = torch._lazy_clone(t.detach())
    s.guards.still("the twin of a copy on write is written", twin)


@event
def copy_on_write_in_its_place(s: Surroundings, at: Place, t: Any) -> None:
    """A lazy clone takes its place; the original may not change."""
    original = t.detach()
    at.put(s, torch._lazy_clone(original))
    s.guards.still("the original of a copy on write is written", original)


@event
def data_copy_on_write(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` a lazy clone of itself; the original may not change."""
    original = t.detach()
    t.data = torch._lazy_clone(original)
    s.guards.still("the original of a copy on write is written", original)
