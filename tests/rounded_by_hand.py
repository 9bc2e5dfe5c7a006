"""Low precision by hand: an optimizer's steps as a plain loop, the author's function in float32, then a rounding of a few lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.arithmetic import philox
from steprule.compiler import eager
from steprule.rules.rule import Rule

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda x: x,
    "transposed": lambda x: x.t().contiguous().t() if x.ndim == 2 else x,
    "with gaps": lambda x: torch.stack([x, x], dim=-1)[..., 0],
    "channels last": lambda x: x.to(memory_format=torch.channels_last) if x.ndim == 4 else x,
}
SHAPES = ((7, 3), (), (0,), (1,), (257,), (2, 3, 4, 5), (100, 33))


def by_chance(x: Tensor, like: Tensor, seed: int, tensor: int, step: int) -> Tensor:
    """Each number goes up, away from zero, where its random number of 16 bits lies above the share that is left to the next one."""
    wanted = torch.empty_like(like).fill_(0.0)
    random = torch.empty_like(like, dtype=torch.float64)
    flat = [_random(e, seed, tensor, step) for e in range(like.numel())]
    random.as_strided((like.numel(),), (1,)).copy_(torch.tensor(flat, dtype=torch.float64))
    least, digits = {torch.bfloat16: (-126, 7), torch.float16: (-14, 10)}[like.dtype]
    for where in np.ndindex(tuple(like.shape)):
        value, r = float(x[where]), float(random[where])
        if not math.isfinite(value) or value == 0:
            wanted[where] = value
            continue
        exponent = max(math.frexp(value)[1] - 1, least)
        apart = 2.0 ** (exponent - digits)
        low = math.floor(abs(value) / apart)
        share = abs(value) / apart - low
        if like.dtype is torch.bfloat16:
            up = r >= 65536 * (1 - share)
        elif abs(value) < 2.0**-14:
            up = share > (r + 0.5) / 65536
        else:
            up = r % 8192 >= 8192 * (1 - share)
        wanted[where] = math.copysign((low + up) * apart, value)
    return wanted


def _random(element: int, seed: int, tensor: int, step: int) -> int:
    words = philox.philox(*philox.counter(element // 8, 0xFFFF, step, tensor), *philox.key_of(seed))
    return int(words[element % 8 // 2]) >> (16 * (element % 2)) & 0xFFFF


class ByHand:
    """The steps of some parameters by one rule, one after the other."""

    def __init__(self, rule: Rule, params: Sequence[Tensor], seed: int, **settings: Any) -> None:
        self.rule, self.seed, self.hypers = rule, seed, rule.bind(settings)
        self.params = [p.detach().clone(memory_format=torch.preserve_format) for p in params]
        self.states: list[eager.State] = [{} for _ in params]
        self.model: eager.State = {}
        self.taken = [0 for _ in params]

    def step(self, grads: Sequence[Tensor | None]) -> None:
        """One step of those with a gradient."""
        there = [k for k, g in enumerate(grads) if g is not None]
        ones = []
        for k in there:
            self.taken[k] += 1
            p, g = self.params[k].float(), grads[k].float()  # type: ignore[union-attr]
            for slot in self.rule.slots:
                if isinstance(slot.start, str) and not slot.is_number:  # a state begins as it is kept
                    start = torch.full_like(self.params[k], self.hypers[slot.start])
                    self.states[k].setdefault(slot.name, start)
            ones.append(eager.One(p, g, self.states[k], float(self.taken[k]), self.hypers))
        for k, (new, state) in zip(there, eager.step_together(self.rule, ones, self.model), strict=True):
            before = self.params[k]
            slots = {s.name: s for s in self.rule.slots}
            for name, value in state.items():
                if isinstance(value, Tensor) and not slots[name].is_number and not slots[name].full_precision:
                    state[name] = value.to(before.dtype)
            self.states[k] = state
            if before.dtype is torch.float32:
                self.params[k] = new
            else:
                self.params[k] = by_chance(new, before, self.seed, k, self.taken[k])

    def go_on_from(self, optimizer: Any, params: Sequence[Tensor]) -> None:
        """Take over another's parameters and states: what differed before is no part of the next step."""
        for k, p in enumerate(params):
            self.params[k] = p.detach().clone(memory_format=torch.preserve_format)
            held = optimizer.state.get(p, {})
            own = {n: v for n, v in held.items() if n != "step"}
            numbers = {s.name for s in self.rule.slots if s.is_number}
            self.states[k] = {n: v.item() if n in numbers else v.clone() for n, v in own.items()}
