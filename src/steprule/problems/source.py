"""A part of a problem's data gives batches in the order of a seed, and pieces in one order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from steprule.identity import identity
from steprule.problems import batch
from steprule.problems.batch import Batch


class Source(Protocol):
    """What trains, or what is held out. A batch is whatever the data give; beside it stands how many samples it has."""

    @property
    def samples(self) -> int:
        """How many samples a pass has."""

    @property
    def one_by_one(self) -> str:
        """Why lanes cannot be trained together on it; empty where they can be."""

    @property
    def whole(self) -> bool:
        """Whether a piece may have any size."""

    @property
    def batch_size(self) -> int | None:
        """Of the source's own batches; None where it is to be said."""

    @property
    def points(self) -> int | None:
        """After how many samples the loss is measured again; None where the number of samples decides."""

    def steps(self, size: int) -> int:
        """How many batches a pass has."""

    def batches(self, size: int, epochs: int, seed: int) -> Iterator[tuple[Any, int]]:
        """What each step trains on; the order depends on the seed alone."""

    def pieces(self, size: int) -> Iterator[tuple[Any, int]]:
        """All samples once, always the same, as many at a time as `size` at most where the source can choose."""

    def few(self, count: int) -> Any:
        """A batch of the first samples, `count` at most where it can be cut."""

    def spread(self, count: int) -> Any:
        """The same of samples from everywhere in the data, where they can be chosen."""

    def on(self, device: torch.device) -> Source:
        """The same with batches on a device."""

    def stated(self, what: str) -> Any:
        """What decides its batches, by value."""


PARTS = ("train", "validation", "test")
"""Of the data: what trains, what chooses hyperparameters, what has the last word."""
CLASSES = 64  # of which a sample is looked at where a loss is tried


@dataclass(frozen=True, eq=False)
class Rows:
    """Samples in memory: a batch is a pair of features and targets, or features alone where there are no targets."""

    features: Batch
    targets: Batch | None

    one_by_one = ""
    whole = True
    batch_size = None
    points = None

    @cached_property
    def samples(self) -> int:
        """How many samples there are."""
        return batch.count(self.features)

    def steps(self, size: int) -> int:
        """The last batch may be smaller."""
        return -(-self.samples // size)

    def batches(self, size: int, epochs: int, seed: int) -> Iterator[tuple[Any, int]]:
        """Shuffled anew in each pass."""
        for rows in batches(self.samples, size, epochs, seed):
            yield self._taken(rows), len(rows)

    def pieces(self, size: int) -> Iterator[tuple[Any, int]]:
        """In the order in which they were given."""
        for low in range(0, self.samples, size):
            yield self._taken(slice(low, low + size)), min(size, self.samples - low)

    def few(self, count: int) -> Any:
        """The first ones."""
        return self._taken(slice(count))

    def spread(self, count: int) -> Any:
        """In even steps, and one of each class, of the rarest where there are many."""
        most = min(count, self.samples)
        even = torch.arange(most) * (self.samples - 1) // max(1, most - 1)
        return self._taken(torch.unique(torch.cat([even, self._of_each_class()])))

    def _of_each_class(self) -> Tensor:
        """A sample with each number among whole targets, of `CLASSES` at most."""
        y = self.targets
        if not isinstance(y, Tensor) or y.is_floating_point() or y.is_complex() or not y.numel():
            return torch.empty(0, dtype=torch.int64)
        _, first, counts = np.unique(y.cpu().numpy(), return_index=True, return_counts=True)
        rarest = np.argsort(counts, kind="stable")[:CLASSES]
        return torch.from_numpy(first[rarest] // (y.numel() // len(y)))

    def on(self, device: torch.device) -> Rows:
        """Moved whole."""
        targets = None if self.targets is None else batch.moved(self.targets, device)
        return Rows(batch.moved(self.features, device), targets)

    def stated(self, what: str) -> Any:
        """Every number of them."""
        return identity((self.features, self.targets), what)

    def _taken(self, rows: Any) -> Any:
        """Always a copy: a model may work on its input in place."""
        x, y = (None if data is None else batch.taken(data, rows) for data in (self.features, self.targets))
        taken = x if y is None else (x, y)
        return batch.copied(taken) if isinstance(rows, slice) else taken


def batches(count: int, size: int, epochs: int, seed: int) -> Iterator[Tensor]:
    """Row numbers of each batch."""
    for rows in passes(count, epochs, seed):
        yield from torch.split(rows, size)


def passes(count: int, epochs: int, seed: int) -> Iterator[Tensor]:
    """Row numbers of each pass over the samples, [count]; their order depends on the seed alone."""
    generator = torch.Generator().manual_seed(stream(seed, 1))
    for _ in range(epochs):
        yield torch.randperm(count, generator=generator)


def stream(seed: int, which: int | tuple[int, ...]) -> int:
    """The seed of one of the independent streams of randomness of a run: 0 the initial weights; 1 the batches, and (1, e) those that a
    loader gives in pass e, from 0; (2, t) what the model draws in step t, from 1; 3 the pass over a loader by which it is measured."""
    key = which if isinstance(which, tuple) else (which,)
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0] >> 1)
