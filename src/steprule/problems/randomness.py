"""The generators that data draw from: the global ones, and those that a loader or its dataset holds."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from steprule.alone import drawing

DEEP, MANY = 8, 256
"""How far held generators are looked for: objects in objects, and things in a container."""


@dataclass(frozen=True)
class _Kind:
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None]
    seed: Callable[[Any, int], Any]


def _write_numpy(generator: Any, state: Any) -> None:
    generator.bit_generator.state = state


def _seed_numpy(generator: Any, seed: int) -> None:
    generator.bit_generator.state = type(generator.bit_generator)(seed).state


KINDS: Mapping[type, _Kind] = {
    torch.Generator: _Kind(lambda g: g.get_state(), lambda g, s: g.set_state(s), lambda g, seed: g.manual_seed(seed)),
    np.random.Generator: _Kind(lambda g: g.bit_generator.state, _write_numpy, _seed_numpy),
    np.random.RandomState: _Kind(
        lambda g: g.get_state(), lambda g, s: g.set_state(s), lambda g, seed: g.seed(seed % 2**32)
    ),
    random.Random: _Kind(lambda g: g.getstate(), lambda g, s: g.setstate(s), lambda g, seed: g.seed(seed)),
}


class Randomness:
    """All generators of some data, begun anew from a seed; inside `own` they go on from where they were, outside they are the caller's."""

    def __init__(self, held: list[Any], seed: int) -> None:
        self._generators = [np.random.mtrand._rand, random._inst, *held]
        self._seed: int | None = seed
        self._states: list[Any] = []

    @contextmanager
    def own(self) -> Iterator[None]:
        """Draw from these."""
        with drawing():
            outside = [_kind(g).read(g) for g in self._generators]
            try:
                if self._seed is not None:
                    torch.manual_seed(self._seed)
                    for generator in self._generators:
                        _kind(generator).seed(generator, self._seed)
                    self._seed = None
                else:
                    torch.random.set_rng_state(self._states[0])
                    for generator, state in zip(self._generators, self._states[1:], strict=True):
                        _kind(generator).write(generator, state)
                yield
            finally:
                self._states = [torch.random.get_rng_state(), *(_kind(g).read(g) for g in self._generators)]
                for generator, state in zip(self._generators, outside, strict=True):
                    _kind(generator).write(generator, state)


def _kind(generator: Any) -> _Kind:
    return next(kind for known, kind in KINDS.items() if isinstance(generator, known))


def generators_in(thing: Any) -> list[Any]:
    """The generators that an object holds, in its attributes, containers and closures, each once."""
    found: dict[int, Any] = {}
    met: dict[int, Any] = {}
    following = [thing]
    for _ in range(DEEP):
        inside: list[Any] = []
        for own in following:
            if id(own) in met:
                continue
            met[id(own)] = own
            if isinstance(own, tuple(KINDS)):
                found[id(own)] = own
            else:
                inside += _parts_of(own)
        following = inside
    return list(found.values())


def _parts_of(thing: Any) -> list[Any]:
    if isinstance(thing, str | bytes | int | float | type | torch.Tensor | np.ndarray) or thing is None:
        return []
    if isinstance(thing, Mapping):
        return list(thing.values()) if len(thing) <= MANY else []
    if isinstance(thing, list | tuple | set | frozenset):
        return list(thing) if len(thing) <= MANY else []
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    parts = [thing.__self__] if hasattr(thing, "__self__") and callable(thing) else []
    for cell in getattr(thing, "__closure__", None) or ():
        try:
            parts.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    parts += getattr(thing, "__defaults__", None) or ()
    return parts + list(getattr(thing, "__dict__", {}).values())
