"""Stochastic rounding to bfloat16 and float16 as torch operations: every kernel has the bits of this form.

A number between two neighbours a < x < b becomes b with probability (x - a) / (b - a), and a otherwise, so that its mean is x. A number
that the dtype has stays as it is, and so do inf and nan. One beyond the largest finite number is rounded as if there were a next one;
what comes out as that is inf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from steprule.arithmetic import philox
from steprule.compiler.drawing import Key, words_beside

if TYPE_CHECKING:
    import torch

    from steprule.rules.rule import Rule

LOW = ("bfloat16", "float16")
"""The dtypes that are computed in float32 and rounded at the store."""

_SMALL = 2.0**-14
"""Below it the numbers of float16 are 2^-24 apart."""


def draw_of(rule: Rule, name: str) -> int:
    """Which draw of a step rounds the parameter, "p", or a slot: each has random numbers of its own."""
    if name == "p":
        return philox.ROUNDING
    return philox.ROUNDING - 1 - [slot.name for slot in rule.slots].index(name)


def numbers16(like: torch.Tensor, key: Key, step: int, draw: int = philox.ROUNDING) -> torch.Tensor:
    """A random number of 16 bits for each element, as int32, of the shape and on the device of `like`.

    They follow from the key, the step, the draw and the element's place in memory alone.
    """
    import torch

    words = words_beside(like, -(-like.numel() // 8), key, step, draw)
    halves = torch.stack((words & 0xFFFF, words >> philox.BITS), dim=1)
    beside = torch.empty_like(like, dtype=torch.int32, memory_format=torch.preserve_format, requires_grad=False)
    beside.as_strided((like.numel(),), (1,)).copy_(halves.reshape(-1)[: like.numel()])
    return beside


def rounded(x: torch.Tensor, like: torch.Tensor, key: Key, step: int, draw: int = philox.ROUNDING) -> torch.Tensor:
    """float32 rounded by chance to the dtype of `like`, bfloat16 or float16, for the place where that stands; see above.

    `draw`: as `draw_of` says.
    Below 2^-14 float16 keeps the probability to 2^-17, so that at most 2^-41 of a number is lost.
    """
    import torch

    random = numbers16(like, key, step, draw)
    bits = x.contiguous().view(torch.int32)
    if like.dtype is torch.bfloat16:
        found = ((bits + random) & ~0xFFFF).view(torch.float32)
    else:
        size = x.abs() * 2.0**24
        whole = size.floor()
        small = torch.copysign((whole + (size - whole > (random + 0.5) * 2.0**-16)) * 2.0**-24, x)
        large = ((bits + (random & 0x1FFF)) & ~0x1FFF).view(torch.float32)
        found = torch.where(x.abs() < _SMALL, small, large)
    return torch.where(x.isnan(), x, found).to(like.dtype)
