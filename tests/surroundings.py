"""What surrounds an optimizer in a test of events: parameters, guarded memory, and the place that an event befalls.

An event is a function of the `Surroundings` and of a `Place` in them; it uses torch's public doings on tensors and the
optimizer's `param_groups` and `state` alone, so torch's class and ours meet the same event.
"""

from __future__ import annotations

import contextlib
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
        return found + [w for w, now, then in self._still if not ((now == then) | (now.isnan() & then.isnan())).all()]


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
