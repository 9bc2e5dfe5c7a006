"""What can befall the tensors around an optimizer between two steps: the vocabulary of the matrix and of the drawn sequences.

An event is a function of the `Surroundings` and of a `Place` in them; it uses torch's public doings on tensors and the
optimizer's `param_groups` and `state` alone, so torch's class and ours meet the same event.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

WIDTH = 64
"""Guard words on each side of a buffer, in elements."""
WORD = 7.0


class Guards:
    """Buffers between guard words, and memory that nobody may write any more."""

    def __init__(self) -> None:
        self._fenced: list[Tensor] = []
        self._still: list[tuple[str, Tensor, Tensor]] = []

    def buffer(self, values: Tensor) -> Tensor:
        """A contiguous tensor, no view of another, with these values, in the middle of a larger storage."""
        whole = torch.full((values.numel() + 2 * WIDTH,), WORD).to(values.dtype)
        inner = torch.empty(0, dtype=values.dtype)
        inner.set_(whole.untyped_storage(), WIDTH, values.shape, torch.empty(values.shape, device="meta").stride())
        inner.copy_(values)
        self._fenced.append(whole)
        return inner

    def still(self, what: str, tensor: Tensor) -> None:
        """From now on `tensor` must keep its values: it is old memory, or another's copy on write."""
        if not tensor.is_meta:
            self._still.append((what, tensor, tensor.clone()))

    def watched(self) -> int:
        """How much memory is watched, to be given to `unwatch`."""
        return len(self._still)

    def unwatch(self, count: int) -> None:
        """What was to be replaced since then was not."""
        del self._still[count:]

    def forget(self, tensor: Tensor) -> None:
        """The storage behind `tensor` is about to become another, with no guard words at these places."""
        address = tensor.untyped_storage()._cdata
        self._fenced = [w for w in self._fenced if w.untyped_storage()._cdata != address]

    def renew(self, tensor: Tensor) -> None:
        """Write the guard words again, after the storage behind `tensor` was freed and made anew."""
        address = tensor.untyped_storage()._cdata
        for whole in (w for w in self._fenced if w.untyped_storage()._cdata == address):
            whole[:WIDTH], whole[-WIDTH:] = WORD, WORD

    def broken(self) -> list[str]:
        """What was written where nobody may write."""
        found = [
            f"guard words {where} a buffer of {whole.numel() - 2 * WIDTH} elements"
            for whole in self._fenced
            for where, words in (("before", whole[:WIDTH]), ("behind", whole[-WIDTH:]))
            if not bool((words == WORD).all())
        ]
        return found + [w for w, now, then in self._still if not torch.equal(now.nan_to_num(), then.nan_to_num())]


@dataclass
class Surroundings:
    """An optimizer, the parameters of its model, and what the events need."""

    optimizer: torch.optim.Optimizer
    params: list[Tensor]
    slots: tuple[str, ...]
    numbers: tuple[str, ...]
    guards: Guards = field(default_factory=Guards)
    around: Callable[[], Any] = contextlib.nullcontext
    """What the next step, and only that, runs in."""
    kept: list[Any] = field(default_factory=list)
    """What the user still holds."""

    def state(self, index: int) -> Any:
        """The state of a parameter, which may be empty; looking does not make one."""
        found = self.optimizer.state.get(self.params[index])
        return {} if found is None else found

    def value(self, old: Tensor, *, number: bool = False) -> Tensor:
        """New values that fit where `old` stands (a second moment is not negative, a count is a whole number)."""
        plain = old.detach().as_subclass(Tensor)
        return plain + 2 if number else plain * 0.5


@dataclass(frozen=True)
class Place:
    """Where a tensor stands: kind "parameter", "gradient" or the name of a state."""

    kind: str
    index: int = 0

    @property
    def is_state(self) -> bool:
        return self.kind not in ("parameter", "gradient")

    def get(self, s: Surroundings) -> Any:
        if self.kind == "parameter":
            return s.params[self.index]
        if self.kind == "gradient":
            return s.params[self.index].grad
        return s.state(self.index).get(self.kind)

    def put(self, s: Surroundings, value: Any) -> None:
        """Another object in its place; a new parameter takes gradient and state of the old one with it."""
        old = s.params[self.index]
        if self.is_state:
            s.optimizer.state[old][self.kind] = value
        elif self.kind == "parameter":
            self._put_parameter(s, old, value)
        elif isinstance(value, Tensor) and value.layout is torch.strided and not fits(old, value):
            old.grad.data = value  # type: ignore[union-attr]  # torch takes such a gradient in this way only
        else:
            old.grad = value

    def _put_parameter(self, s: Surroundings, old: Tensor, value: Tensor) -> None:
        if not isinstance(value, torch.nn.Parameter):
            value = value.detach().requires_grad_(value.is_floating_point() or value.is_complex())
        if old.grad is not None and fits(value, old.grad):
            value.grad = old.grad
        for group in s.optimizer.param_groups:
            group["params"] = [value if p is old else p for p in group["params"]]
        if old in s.optimizer.state:
            s.optimizer.state[value] = s.optimizer.state.pop(old)
        s.params[self.index] = value

    def fresh(self, s: Surroundings, old: Tensor) -> Tensor:
        """A guarded buffer of new values."""
        return s.guards.buffer(s.value(old, number=self.kind in s.numbers))


def fits(p: Tensor, g: Tensor) -> bool:
    """Whether torch takes `g` as the gradient of `p`."""
    return (p.shape, p.dtype, p.device, p.layout) == (g.shape, g.dtype, g.device, g.layout)


Event = Callable[[Surroundings, Place, Any], None]
EVENTS: dict[str, Event] = {}


def event(run: Event) -> Event:
    EVENTS[run.__name__] = run
    return run


def retire(s: Surroundings, t: Tensor) -> None:
    """The memory behind `t` leaves the optimizer's hands: no step may write there."""
    s.guards.still("memory that was replaced is written", t.detach().as_subclass(Tensor))


def in_half(t: Tensor) -> int:
    return (t.shape[0] + 1) // 2 if t.ndim else 0


def in_six(t: Tensor) -> tuple[int, ...]:
    return (2, t.shape[0] // 2, 1, 1, 2, t.shape[1] // 2)


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


# Another object.


@event
def replaced(s: Surroundings, at: Place, t: Any) -> None:
    """Another tensor in its place."""
    retire(s, t)
    at.put(s, at.fresh(s, t))


@event
def replaced_by_parameter(s: Surroundings, at: Place, t: Any) -> None:
    """A new `torch.nn.Parameter` in its place."""
    retire(s, t)
    at.put(s, torch.nn.Parameter(at.fresh(s, t)))


@event
def strided(s: Surroundings, at: Place, t: Any) -> None:
    """A strided view in its place."""
    new = at.fresh(s, t)
    at.put(s, s.guards.buffer(torch.stack([new, new + 1], dim=-1))[..., 0])


@event
def transposed(s: Surroundings, at: Place, t: Any) -> None:
    """A tensor in column order, of the same shape, in its place."""
    at.put(s, s.guards.buffer(at.fresh(s, t).t().contiguous()).t())


@event
def expanded(s: Surroundings, at: Place, t: Any) -> None:
    """One element, expanded to the shape, in its place."""
    at.put(s, s.guards.buffer(at.fresh(s, t).reshape(-1)[0]).expand(t.shape))


@event
def deleted(s: Surroundings, at: Place, t: Any) -> None:
    """The state's key is deleted, the gradient is None, the parameter leaves its group."""
    if at.is_state:
        del s.optimizer.state[s.params[at.index]][at.kind]
    elif at.kind == "gradient":
        s.params[at.index].grad = None
    else:
        for group in s.optimizer.param_groups:
            group["params"] = [p for p in group["params"] if p is not t]


@event
def state_deleted(s: Surroundings, at: Place, t: Any) -> None:
    """The parameter's whole state is deleted: it begins anew."""
    del s.optimizer.state[s.params[at.index]]


@event
def state_emptied(s: Surroundings, at: Place, t: Any) -> None:
    """The parameter's state is emptied and is the same dictionary."""
    s.optimizer.state[s.params[at.index]].clear()


@event
def state_other_dictionary(s: Surroundings, at: Place, t: Any) -> None:
    """The parameter's state is another dictionary, of other tensors."""
    s.optimizer.state[s.params[at.index]] = {
        k: s.guards.buffer(v.detach()) if isinstance(v, Tensor) else v for k, v in s.state(at.index).items()
    }


@event
def swapped(s: Surroundings, at: Place, t: Any) -> None:
    """`torch.utils.swap_tensors` with another tensor: the same object is another tensor."""
    other = at.fresh(s, t)
    other = torch.nn.Parameter(other) if isinstance(t, torch.nn.Parameter) else other
    grad = t.grad if at.kind == "parameter" else None
    torch.utils.swap_tensors(t, other)
    if at.kind == "parameter":
        t.grad = grad


@event
def a_number(s: Surroundings, at: Place, t: Any) -> None:
    """A Python number in its place."""
    at.put(s, 3.0)


@event
def a_python_count(s: Surroundings, at: Place, t: Any) -> None:
    """A Python number where a state of one number stands, as in checkpoints of old."""
    at.put(s, 3.0)


@event
def no_value(s: Surroundings, at: Place, t: Any) -> None:
    """None in its place."""
    at.put(s, None)


@event
def parameter_subclass(s: Surroundings, at: Place, t: Any) -> None:
    """An instance of a subclass of Parameter in its place."""
    at.put(s, NamedParameter(at.fresh(s, t)))


@event
def tensor_subclass(s: Surroundings, at: Place, t: Any) -> None:
    """A tensor with a `__torch_function__` of its own in its place."""
    new = at.fresh(s, t).as_subclass(Watched)
    at.put(s, new.requires_grad_() if at.kind == "parameter" else new)


class NamedParameter(torch.nn.Parameter):
    pass


class Watched(Tensor):
    """A tensor that sees each call; its results are of its class."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs or {})


# Bits, dtypes, devices, layouts, modes.


@event
def negative_bit(s: Surroundings, at: Place, t: Any) -> None:
    """A tensor with the negative bit in its place: memory holds the opposite of its values."""
    at.put(s, torch._neg_view(s.guards.buffer(-at.fresh(s, t))))


@event
def data_negative_bit(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` a tensor with the negative bit."""
    t.data = torch._neg_view(s.guards.buffer(-at.fresh(s, t)))


@event
def conjugate_bit(s: Surroundings, at: Place, t: Any) -> None:
    """A tensor with the conjugate bit in its place."""
    at.put(s, s.guards.buffer(at.fresh(s, t).conj().resolve_conj()).conj())


@event
def data_conjugate_bit(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` a tensor with the conjugate bit."""
    t.data = s.guards.buffer(at.fresh(s, t).conj().resolve_conj()).conj()


@event
def zero_tensor(s: Surroundings, at: Place, t: Any) -> None:
    """A tensor of zeros without memory in its place, as autograd makes them."""
    at.put(s, torch._efficientzerotensor(t.shape, dtype=t.dtype))


@event
def data_zero_tensor(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` a tensor of zeros without memory."""
    t.data = torch._efficientzerotensor(t.shape, dtype=t.dtype)


@event
def sparse(s: Surroundings, at: Place, t: Any) -> None:
    """A sparse tensor in its place."""
    at.put(s, at.fresh(s, t).to_sparse())


@event
def mkldnn(s: Surroundings, at: Place, t: Any) -> None:
    """An oneDNN tensor in its place, whose layout is nobody's business."""
    at.put(s, at.fresh(s, t).to_mkldnn())


@event
def on_meta(s: Surroundings, at: Place, t: Any) -> None:
    """A tensor without data in its place."""
    at.put(s, t.detach().to("meta"))


@event
def requires_grad_turned(s: Surroundings, at: Place, t: Any) -> None:
    """`requires_grad` the other way: a parameter is frozen while it has a gradient, a state is a leaf."""
    t.requires_grad_(not t.requires_grad)


@event
def made_in_inference(s: Surroundings, at: Place, t: Any) -> None:
    """A tensor made in inference mode in its place."""
    new = at.fresh(s, t)
    with torch.inference_mode():
        new = torch.nn.Parameter(new.clone()) if at.kind == "parameter" else new.clone()
    at.put(s, new)


@event
def step_in_inference(s: Surroundings, at: Place, t: Any) -> None:
    """The next step runs in inference mode."""
    s.around = torch.inference_mode


@event
def step_under_default_float64(s: Surroundings, at: Place, t: Any) -> None:
    """The next step runs while the default dtype is float64."""
    s.around = default_float64


@contextlib.contextmanager
def default_float64() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def cast(name: str, dtype: torch.dtype) -> None:
    def data(s: Surroundings, at: Place, t: Any) -> None:
        retire(s, t)
        t.data = s.guards.buffer(at.fresh(s, t).to(dtype))

    def put(s: Surroundings, at: Place, t: Any) -> None:
        at.put(s, s.guards.buffer(at.fresh(s, t).to(dtype)))

    def bits(s: Surroundings, at: Place, t: Any) -> None:
        # Of known values: where two sides differ in the last bit, the same memory read as another dtype is another number.
        if t.dtype.is_complex:
            t.data = t.data.contiguous().view(dtype)  # refused
        known = ((torch.arange(t.numel()) % 17 - 8) / 8).reshape(t.shape).to(t.dtype)
        t.data = s.guards.buffer(known).view(dtype)

    data.__doc__ = f"`t.data =` a tensor of {name}."
    put.__doc__ = f"A tensor of {name} in its place."
    bits.__doc__ = f"`t.data =` the same memory read as {name}."
    EVENTS[f"data_{name}"], EVENTS[name], EVENTS[f"data_read_as_{name}"] = data, put, bits


for _dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64):
    cast(str(_dtype).removeprefix("torch."), _dtype)


def shaped(name: str, shape: Callable[[torch.Size], tuple[int, ...]]) -> None:
    def put(s: Surroundings, at: Place, t: Any) -> None:
        at.put(s, s.guards.buffer(torch.full(shape(t.shape), 0.5, dtype=t.dtype)))

    put.__doc__ = f"A tensor of another shape in its place: {name.replace('_', ' ')}."
    EVENTS[f"shape_{name}"] = put


shaped("taller", lambda size: (size[0] + 1, *size[1:]))
shaped("shorter", lambda size: (size[0] - 1, *size[1:]))
shaped("much_taller", lambda size: (64 * size[0], *size[1:]))
shaped("turned", lambda size: (size[0] * 2, size[1] // 2))
shaped("flat", lambda size: (size.numel(),))
shaped("a_row", lambda size: (1, *size[1:]))
shaped("of_one", lambda size: (1,))
shaped("of_none", lambda size: ())
shaped("with_a_leading_one", lambda size: (1, *size))
shaped("with_a_leading_two", lambda size: (2, *size))
shaped("empty", lambda size: (0,))


# Two subjects over one memory.


def other(at: Place) -> int:
    return int(at.index == 0)


@event
def with_the_other(s: Surroundings, at: Place, t: Any) -> None:
    """`t.data =` that of the other parameter, its gradient, its state: two tensors over one memory."""
    t.data = Place(at.kind, other(at)).get(s).data


@event
def the_other(s: Surroundings, at: Place, t: Any) -> None:
    """The same object in both places: a gradient or a state that two parameters share."""
    at.put(s, Place(at.kind, other(at)).get(s))


@event
def overlapping_the_other(s: Surroundings, at: Place, t: Any) -> None:
    """Two windows into one buffer, the second beginning in the middle of the first."""
    neighbour = Place(at.kind, other(at)).get(s)
    flat = torch.cat([s.value(t).reshape(-1), s.value(neighbour).reshape(-1)[: in_half(t) * t.shape[1]]])
    long = s.guards.buffer(flat)
    t.data = long[: t.numel()].view(t.shape)
    neighbour.data = long[-neighbour.numel() :].view(neighbour.shape)


@event
def interleaved_with_the_other(s: Surroundings, at: Place, t: Any) -> None:
    """Even and odd elements of one buffer: address ranges overlap, no element is shared."""
    neighbour = Place(at.kind, other(at)).get(s)
    both = s.guards.buffer(torch.stack([s.value(t), s.value(neighbour)], dim=-1))
    t.data, neighbour.data = both[..., 0], both[..., 1]


@event
def with_the_parameter(s: Surroundings, at: Place, t: Any) -> None:
    """A gradient or a state over the memory of its own parameter."""
    at.put(s, s.params[at.index].detach())


@event
def with_the_other_parameter(s: Surroundings, at: Place, t: Any) -> None:
    """A gradient or a state over the memory of the other parameter."""
    at.put(s, s.params[other(at)].detach())


@event
def with_the_gradient(s: Surroundings, at: Place, t: Any) -> None:
    """A state over the memory of its parameter's gradient."""
    at.put(s, s.params[at.index].grad.detach())


@event
def with_a_sibling(s: Surroundings, at: Place, t: Any) -> None:
    """A state over the memory of the same parameter's first other state."""
    at.put(s, next(s.state(at.index)[name] for name in s.slots if name != at.kind))


@event
def listed_twice(s: Surroundings, at: Place, t: Any) -> None:
    """The parameter stands twice in its group."""
    group = next(g for g in s.optimizer.param_groups if any(p is t for p in g["params"]))
    group["params"] = [*group["params"], t]


COMPLEX = frozenset({"conjugate_bit", "data_conjugate_bit"})
"""Events that need a complex parameter."""

CANCELLING = frozenset({"with_a_sibling", "with_the_other_parameter", "overlapping_the_other"})
"""Events after which a root is taken of what may be nearly zero, a difference; in float32 its last bit says too much."""
