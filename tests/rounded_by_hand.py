"""Low precision by hand: an optimizer's steps as a plain loop, the author's function in float32, then a rounding of a few lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from compare import apart
from numpy.typing import NDArray
from tolerances import KEPT_BFLOAT16, KEPT_FLOAT16
from torch import Tensor, nn

from steprule.arithmetic import philox
from steprule.compiler import eager
from steprule.rules.rule import Rule

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda x: x,
    "transposed": lambda x: x.t().contiguous().t() if x.ndim == 2 else x,
    "with gaps": lambda x: torch.stack([x, x], dim=-1)[..., 0],
    "channels last": lambda x: x.to(memory_format=torch.channels_last) if x.ndim == 4 else x,
}
LOW = (torch.bfloat16, torch.float16)
SHAPES = ((7, 3), (), (0,), (1,), (257,), (2, 3, 4, 5), (100, 33))


def by_chance(x: Tensor, like: Tensor, seed: int, tensor: int, step: int, draw: int = 0xFFFF) -> Tensor:
    """Each number goes up, away from zero, where its random number of 16 bits lies above the share that is left to the next one."""
    random = torch.empty_like(like, dtype=torch.int64)
    random.as_strided((like.numel(),), (1,)).copy_(torch.from_numpy(_random(like.numel(), seed, tensor, step, draw)))
    value, r = np.asarray(x.double()), np.asarray(random)
    least, digits = {torch.bfloat16: (-126, 7), torch.float16: (-14, 10)}[like.dtype]
    apart = 2.0 ** (np.maximum(np.frexp(value)[1] - 1, least) - digits)
    with np.errstate(invalid="ignore"):
        low = np.floor(np.abs(value) / apart)
        share = np.abs(value) / apart - low
        if like.dtype is torch.bfloat16:
            up = r >= 65536 * (1 - share)
        else:
            tiny = np.abs(value) < 2.0**-14
            up = np.where(tiny, share > (r + 0.5) / 65536, r % 8192 >= 8192 * (1 - share))
        found = np.copysign((low + (up & (share > 0))) * apart, value)
    found = np.where(np.isfinite(value) & (value != 0), found, value)
    return torch.empty_like(like).copy_(torch.from_numpy(np.asarray(found)))


def _random(count: int, seed: int, tensor: int, step: int, draw: int) -> NDArray[np.int64]:
    """Numbers of 16 bits for so many elements: a block of four words has eight of them."""
    blocks = np.arange(-(-count // 8), dtype=np.int64)
    key, other = (np.full_like(blocks, word) for word in philox.key_of(seed))
    counters = (blocks * 0 + word for word in philox.counter(blocks, draw, step, tensor))
    with np.errstate(over="ignore"):
        words = np.stack(philox.philox(*counters, key, other), axis=1)
    return np.stack([words & 0xFFFF, words >> 16], axis=2).reshape(-1)[:count]


class ByHand:
    """The steps of some parameters by one rule, one after the other."""

    def __init__(self, rule: Rule, params: Sequence[Tensor], seed: int, **settings: Any) -> None:
        self.rule, self.seed, self.hypers = rule, seed, rule.bind(settings)
        self.params = [p.detach().clone(memory_format=torch.preserve_format) for p in params]
        self.states: list[eager.State] = [{} for _ in params]
        self.model: eager.State = {}
        self.taken = [0 for _ in params]

    def before(self, k: int) -> Tensor:
        """The parameter that the rule steps from."""
        return self.params[k].float()

    def step(self, grads: Sequence[Tensor | None]) -> None:
        """One step of those with a gradient."""
        there = [k for k, g in enumerate(grads) if g is not None]
        ones = []
        for k in there:
            self.taken[k] += 1
            p, g = self.before(k), grads[k].float()  # type: ignore[union-attr]
            for slot in self.rule.slots:
                if isinstance(slot.start, str) and not slot.is_number:  # a state begins as it is kept
                    start = torch.full_like(self.params[k], self.hypers[slot.start])
                    self.states[k].setdefault(slot.name, start)
            ones.append(eager.One(p, g, self.states[k], float(self.taken[k]), self.hypers))
        for k, (new, state) in zip(there, eager.step_together(self.rule, ones, self.model), strict=True):
            slots = {s.name: s for s in self.rule.slots}
            for name, value in state.items():
                if isinstance(value, Tensor) and not slots[name].is_number and not slots[name].full_precision:
                    state[name] = self.stored(k, name, value)
            self.states[k] = state
            self.store(k, new)

    def stored(self, k: int, name: str, value: Tensor) -> Tensor:
        """A state as it is kept: each has random numbers of its own."""
        before = self.params[k]
        if before.dtype not in LOW:
            return value.to(before.dtype)
        draw = 0xFFFF - 1 - [s.name for s in self.rule.slots].index(name)
        like = before if value.shape == before.shape else torch.empty(value.shape, dtype=before.dtype)
        return by_chance(value, like, self.seed, k, self.taken[k], draw)

    def store(self, k: int, new: Tensor) -> None:
        """The new parameter as it is kept."""
        before = self.params[k]
        self.params[k] = by_chance(new, before, self.seed, k, self.taken[k]) if before.dtype in LOW else new

    def go_on_from(self, optimizer: Any, params: Sequence[Tensor]) -> None:
        """Take over another's parameters and states: what differed before is no part of the next step."""
        for k, p in enumerate(params):
            self.params[k] = p.detach().clone(memory_format=torch.preserve_format)
            held = optimizer.state.get(p, {})
            own = {n: v for n, v in held.items() if n != "step"}
            numbers = {s.name for s in self.rule.slots if s.is_number}
            self.states[k] = {n: v.item() if n in numbers else v.clone() for n, v in own.items()}


class KahanByHand(ByHand):
    """The same by Kahan summation."""

    def __init__(self, rule: Rule, params: Sequence[Tensor], **settings: Any) -> None:
        super().__init__(rule, params, 0, **settings)
        self.lost = [torch.zeros_like(p) for p in self.params]

    def before(self, k: int) -> Tensor:
        """The parameter and what it has lost."""
        p = self.params[k].float()
        return p + self.lost[k].float() if self.params[k].dtype in LOW else p

    def stored(self, k: int, name: str, value: Tensor) -> Tensor:
        """A state to the nearest."""
        return value.to(self.params[k].dtype)

    def store(self, k: int, new: Tensor) -> None:
        """The nearest number, and beside it what is lost so."""
        if self.params[k].dtype not in LOW:
            self.params[k] = new
            return
        rounded = torch.empty_like(self.params[k]).copy_(new)
        lost = new - rounded.float()
        self.params[k], self.lost[k] = rounded, torch.empty_like(rounded).copy_(lost.where(lost.isfinite(), 0.0))
        self.states[k]["kahan_comp"] = self.lost[k]

    def go_on_from(self, optimizer: Any, params: Sequence[Tensor]) -> None:
        """As of the other, with what was lost."""
        super().go_on_from(optimizer, params)
        for k, state in enumerate(self.states):
            self.lost[k] = state.get("kahan_comp", self.lost[k])


def parameters(dtype: torch.dtype, layout: str = "as it is") -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    made = [LAYOUTS[layout](torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]
    return [nn.Parameter(p) for p in (*made, torch.ones(5))]


def gradients(params: list[Any], t: int) -> list[Tensor | None]:
    """The second rests in the second step; that of the third shape is one number, expanded; the first lies transposed."""
    generator = torch.Generator().manual_seed(t)
    found: list[Tensor | None] = [torch.randn(p.shape, generator=generator).to(p.dtype) for p in params]
    found[4] = torch.tensor(0.5).to(params[4].dtype).expand(257)
    found[0] = found[0].t().contiguous().t() if t == 2 else found[0]  # type: ignore[union-attr]
    found[1] = None if t == 2 else found[1]
    return found


def take(optimizer: Any, params: list[nn.Parameter], t: int) -> None:
    for p, g in zip(params, gradients(params, t), strict=True):
        p.grad = g
    optimizer.step()


def others(found: Tensor, wanted: Tensor) -> int:
    """How many elements are not the same number; each of them must be a neighbour."""
    places = (ranks(found.detach()) - ranks(wanted.detach())).abs()
    places[found.isnan() & wanted.isnan()] = 0
    assert not (places > 1).any(), (found, wanted)
    return int((places > 0).sum())


def ranks(x: Tensor) -> Tensor:
    """Where each number stands among all of its dtype."""
    bits = x.contiguous().view({2: torch.int16, 4: torch.int32}[x.element_size()]).long()
    return torch.where(bits < 0, -(bits + 2 ** (8 * x.element_size() - 1)), bits)


def same(optimizer: Any, params: list[nn.Parameter], hand: ByHand, within: float) -> None:
    """Parameters and states are those of the plain loop, but for this share of the elements, which are neighbours."""
    differ, size = dict[str, int](), sum(p.numel() for p in params)
    for p, wanted, state in zip(params, hand.params, hand.states, strict=True):
        held = {n: v for n, v in optimizer.state.get(p, {}).items() if n != "step"}
        there = {n: v for n, v in state.items() if v is not None}
        assert set(held) == set(there)
        if within and "kahan_comp" in held:  # where p falls on a tie, what is lost is of the other sign
            sums = p.double() + held.pop("kahan_comp").double(), wanted.double() + there["kahan_comp"].double()
            assert apart(*sums) <= {torch.bfloat16: KEPT_BFLOAT16, torch.float16: KEPT_FLOAT16}[p.dtype]
        pairs = {"p": (p, wanted), **{n: (v, there[n]) for n, v in held.items()}}
        for name, (a, b) in pairs.items():
            if a.dtype in LOW:
                differ[name] = differ.get(name, 0) + others(a, b)
    assert max(differ.values()) <= within * size, (differ, size)


def betas(optimizer: Any) -> dict[str, float]:
    group = optimizer.param_groups[0]
    found: dict[str, float] = {}
    for name, members in optimizer.rule.tuples.items():
        if name in group:
            found |= dict(zip(members, group[name], strict=True))
    return found
