"""What a race is made of: per problem, schedule and competitor a chain of phases, trained in blocks of lanes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.atomic import as_file_name
from steprule.hyper import Search

Array = NDArray[Any]


@dataclass(frozen=True)
class Chain:
    """One competitor on one problem with one schedule."""

    problem: str
    schedule: str
    label: str

    @cached_property
    def key(self) -> str:
        """A name for files and for random numbers: not of the order in which competitors are named."""
        digest = hashlib.sha256("\0".join([self.problem, self.schedule, self.label]).encode()).hexdigest()[:12]
        return f"{as_file_name(self.label)[:40]}-{digest}"


@dataclass(frozen=True)
class Lanes:
    """Trainings to be made: [lanes] everywhere."""

    role: NDArray[np.str_]
    """trial, winner, default or rate in a tuned race; given where settings are compared as given."""
    study: NDArray[np.int64]
    """Which batch of Sobol points; -1 where there is none."""
    trial: NDArray[np.int64]
    """Which point of it; for `rate`, which multiple of the winner's learning rate; -1 where there is none."""
    seed: NDArray[np.int64]
    hypers: Mapping[str, Array]
    """Those that are searched."""

    def __len__(self) -> int:
        return len(self.seed)

    def part(self, low: int, high: int) -> Lanes:
        """Some of them."""
        return self.where(slice(low, high))

    def where(self, rows: slice | NDArray[np.bool_]) -> Lanes:
        """Those of some rows."""
        cut = {n: v[rows] for n, v in self.hypers.items()}
        return Lanes(self.role[rows], self.study[rows], self.trial[rows], self.seed[rows], cut)


@dataclass(frozen=True)
class Block:
    """Lanes whose results land together."""

    chain: Chain
    phase: str
    number: int
    lanes: Lanes
    name: str
    """The name of its file."""


@dataclass(frozen=True)
class Planned:
    """A part of a chain that is to be trained."""

    name: str
    space: Mapping[str, Search]
    """What was searched; {} where nothing was."""
    lanes: Lanes
    to_come: int = 0
    """How many trainings of the chain are expected to follow these, for estimates."""
    grows: bool = False
    """Whether a later race in the same folder may have more lanes here. Each lane is then a block of its own, of its seed's number."""

    def blocks(self, chain: Chain, size: int) -> list[Block]:
        """The lanes in blocks of so many."""
        lanes, size = self.lanes, 1 if self.grows else size
        lows = range(0, max(len(lanes), 1), size)
        numbers = self.lanes.seed.tolist() if self.grows else range(len(lows))
        return [
            Block(chain, self.name, k, lanes.part(low, low + size), f"{chain.key}-{self.name}-{k:06d}")
            for k, low in zip(numbers, lows, strict=True)
        ]


@dataclass(frozen=True)
class Phase:
    """A finished part of a chain: its lanes and what became of them."""

    name: str
    space: Mapping[str, Search]
    lanes: Lanes
    results: Mapping[str, Array]
    """train, validation, test, initial [lanes], died_at [lanes], curve [lanes, windows], metrics [lanes, columns]; where
    trainings were watched also seconds [lanes], samples and losses [lanes, points]."""

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Lanes that died, or ended above where they began."""
        with np.errstate(invalid="ignore"):
            ended_lower = self.results["train"] <= self.results["initial"]
        return (self.results["died_at"] > 0) | ~ended_lower

    @property
    def scores(self) -> Array:
        """What is chosen by: the validation loss, or the training loss where nothing is held out; inf where it diverged."""
        held = self.results["validation"]
        chosen = self.results["train"] if np.isnan(held).all() else held
        return np.where(self.diverged | ~np.isfinite(chosen), np.inf, chosen)
