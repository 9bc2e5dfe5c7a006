"""What can befall the tensors around an optimizer between two steps: other objects, bits, dtypes, modes, shared memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import events_of_memory  # noqa: F401  # its events come first in EVENTS, on whose order drawn sequences rest
import torch
from surroundings import EVENTS, Place, Surroundings, event, in_half, retire
from torch import Tensor

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
