"""Noise for a step: a standard normal number for each element, from a counter, in every form the same bits.

An element's number follows from the seed, which tensor of the model it belongs to, the step, which draw of that step it is, and where in
the tensor the element lies; from nothing else, and from no order in which they are drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steprule.arithmetic import philox
from steprule.compiler.threads import allowed

if TYPE_CHECKING:
    from steprule.compiler.ranges import Ranged

COMPILED_FROM = 65_536
"""Elements from which a compiled loop draws: below that it is not worth the second that compiling takes."""

SOURCE = """
import math

import numpy as np
from numba import njit

from steprule.arithmetic import philox

words, logarithm, middle, tail = (njit(f) for f in (philox.philox, philox.logarithm, philox.middle, philox.tail))
MASK, TAIL = philox.MASK, philox.TAIL


@njit
def normal(word):
    u = (np.float64(word) + 0.5) * 2.0**-32
    nearer = u if u < 0.5 else 1.0 - u
    if nearer >= TAIL:
        return middle(u)
    fraction, exponent = math.frexp(nearer)
    out = tail(math.sqrt(-2.0 * logarithm(fraction, np.float64(exponent))))
    return out if u < 0.5 else -out


@njit("void(int64, int64, TYPES)", nogil=True, cache=True)
def fill(first, end, found, b, c, d, key, other):
    for block in range(first, end):
        v = words(block & MASK, (block >> 32) + b, c, d, key, other)
        for k in range(min(4, len(found) - 4 * block)):
            found[4 * block + k] = normal(v[k])
"""
"""The same as `philox.normal`, which computes both of its branches, and a loop that fills an array."""
TYPES = ("float64[::1]", *["int64"] * 5)
"""What the loop takes behind its range: what it fills, the counter from its second word on, the key."""


@dataclass(frozen=True)
class Key:
    """Whose noise it is."""

    seed: int = 0
    """Of 64 bits."""
    tensor: int = 0
    """Which tensor of the model, from 0."""


NOBODYS = Key()
"""Where there is one tensor and no seed."""


def noise(like: Any, key: Key, step: float, draw: int) -> Any:
    """Standard normal numbers beside a float, a numpy array or a torch tensor: of its shape, dtype and device.

    `step`: the number of this step, from 1. `draw`: which of the step's draws it is, from 0. A complex number has two.

    >>> noise(np.zeros(3), Key(seed=7), 1, 0).tolist()[0] == noise(0.0, Key(seed=7), 1, 0)
    True
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like, torch.Tensor):
        return _beside_tensor(torch, like, key, step, draw)
    if isinstance(like, np.ndarray):
        return _array(like.size, key, int(step), draw).reshape(like.shape).astype(like.dtype)
    return float(_array(1, key, int(step), draw)[0])


def _beside_tensor(torch: Any, like: Any, key: Key, step: float, draw: int) -> Any:
    if like.is_complex():
        return torch.view_as_complex(
            _beside_tensor(torch, torch.view_as_real(like.detach().resolve_conj()), key, step, draw)
        )
    if like.device.type == "cpu":
        found = torch.from_numpy(_array(like.numel(), key, int(step), draw)).reshape(like.shape)
    elif like.device.type == "meta":
        found = torch.empty(like.shape, dtype=torch.float64, device="meta")
    else:
        found = _on_device(torch, like, key, int(step), draw)
    beside = torch.empty_like(like, memory_format=torch.preserve_format, requires_grad=False)
    return beside.copy_(found)


def lanes(sizes: Sequence[int], seeds: NDArray[np.int64], step: int, draw: int) -> NDArray[np.float64]:
    """The noise of many models at once, [rows, lanes]: `sizes` of their tensors, one behind the other, and the seed of each lane."""
    keys = philox.key_of(seeds)
    found = [
        _normals(_words(np.arange(-(-size // 4), dtype=np.int64)[:, None], tensor, step, draw, keys))[:size]
        for tensor, size in enumerate(sizes)
    ]
    return np.concatenate(found) if found else np.empty((0, len(seeds)))


def _array(size: int, key: Key, step: int, draw: int) -> NDArray[np.float64]:
    counter, words = philox.counter(0, draw, step, key.tensor), philox.key_of(key.seed)
    if size < COMPILED_FROM or (compiled := _compiled()) is None:
        blocks = np.arange(-(-size // 4), dtype=np.int64)
        return _normals(_words(blocks, key.tensor, step, draw, words))[:size]
    found = np.empty(size)
    compiled(-(-size // 4), allowed(), found, *counter[1:], *words)
    return found


@cache
def _compiled() -> Ranged | None:
    """The loop; None where Numba is told to compile nothing. (A path is drawn where Numba is not installed.)"""
    from steprule.compiler import cache
    from steprule.compiler.ranges import Ranged

    if cache.interpreting():
        return None
    text = SOURCE.replace("TYPES", ", ".join(TYPES))
    return Ranged(cache.load("noise", text, (philox.__file__,), *cache.NUMBA).fill, TYPES)


def _words(blocks: NDArray[np.int64], tensor: int, step: int, draw: int, key: tuple[Any, Any]) -> NDArray[np.int64]:
    """Four words per block, one behind the other, [4 blocks, ...]."""
    a, b, c, d = philox.counter(blocks, draw, step, tensor)
    shape = np.broadcast_shapes(blocks.shape, np.shape(key[0]))
    full = (np.broadcast_to(np.asarray(x, np.int64), shape) for x in (a, b, c, d, *key))
    with np.errstate(over="ignore"):
        found = np.stack(philox.philox(*full), axis=1)
    return found.reshape(4 * len(blocks), *shape[1:])


def _normals(words: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(philox.normal(words.astype(np.float64), np.where, np.sqrt, np.frexp))


def words_beside(like: Any, blocks: int, key: Key, step: float, draw: int) -> Any:
    """Random words of 32 bits [4 blocks], as a torch tensor of int64 on the device of `like`."""
    import torch

    if like.device.type == "meta":
        return torch.empty(4 * blocks, dtype=torch.int64, device="meta")
    if like.device.type == "cpu":
        counted = np.arange(blocks, dtype=np.int64)
        return torch.from_numpy(_words(counted, key.tensor, int(step), draw, philox.key_of(key.seed)))
    return _words_on_device(torch, like.device, blocks, key, int(step), draw)


def _words_on_device(torch: Any, device: Any, count: int, key: Key, step: int, draw: int) -> Any:
    blocks = torch.arange(count, dtype=torch.int64, device=device)
    a, b, c, d = (x + torch.zeros_like(blocks) for x in philox.counter(blocks, draw, step, key.tensor))
    return torch.stack(philox.philox(a, b, c, d, *philox.key_of(key.seed)), dim=1).reshape(-1)


def _on_device(torch: Any, like: Any, key: Key, step: int, draw: int) -> Any:
    """The same as torch's operations, where the tensor lies."""
    words = _words_on_device(torch, like.device, -(-like.numel() // 4), key, step, draw)

    def frexp(x: Any) -> tuple[Any, Any]:
        fraction, exponent = torch.frexp(x)
        return fraction, exponent.double()

    return philox.normal(words.double(), torch.where, torch.sqrt, frexp)[: like.numel()].reshape(like.shape)
