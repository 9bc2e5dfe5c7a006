"""The protocol as lanes: what is trained first, and what follows from its results.

For a problem, a schedule and a competitor, a *chain*: tune, in independent studies of Sobol points, each with a seed of its
own; where the best learning rates lie at an end of their range, move the range and tune again; then train the winners, the
default and a row of learning rates on fresh seeds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.hyper import Search
from steprule.races import spaces
from steprule.races.spec import MULTIPLES, Runner, Spec
from steprule.rules.parts import for_training
from steprule.sweeps.points import sobol

Array = NDArray[Any]
MOVES = 3
"""How often a range may move."""


@dataclass(frozen=True)
class Chain:
    """One competitor on one problem with one schedule."""

    problem: str
    schedule: str
    label: str

    @property
    def key(self) -> str:
        """A name for files and for random numbers: not of the order in which competitors are named."""
        digest = hashlib.sha256("\0".join([self.problem, self.schedule, self.label]).encode()).hexdigest()[:12]
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in self.label)[:40]
        return f"{plain}-{digest}"


@dataclass(frozen=True)
class Lanes:
    """Trainings to be made: [lanes] everywhere."""

    role: NDArray[np.str_]
    """trial, winner, default or rate."""
    study: NDArray[np.int64]
    trial: NDArray[np.int64]
    """Which Sobol point; for `rate`, which multiple of the winner's learning rate."""
    seed: NDArray[np.int64]
    hypers: Mapping[str, Array]
    """Those that are searched."""

    def __len__(self) -> int:
        return len(self.seed)

    def part(self, low: int, high: int) -> Lanes:
        """Some of them."""
        rows = slice(low, high)
        cut = {n: v[rows] for n, v in self.hypers.items()}
        return Lanes(self.role[rows], self.study[rows], self.trial[rows], self.seed[rows], cut)


@dataclass(frozen=True)
class Block:
    """Lanes whose results land together."""

    chain: Chain
    phase: str
    number: int
    lanes: Lanes

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.chain.key}-{self.phase}-{self.number:06d}"


@dataclass(frozen=True)
class Phase:
    """A finished part of a chain: its lanes and what became of them."""

    name: str
    space: Mapping[str, Search]
    lanes: Lanes
    results: Mapping[str, Array]
    """train, validation, test, initial [lanes], died_at [lanes], curve [lanes, windows], metrics [lanes, columns]."""

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


def chains_of(spec: Spec) -> list[Chain]:
    """Every chain of a race."""
    return [Chain(p.name, s, r.label) for p in spec.problems for s in spec.schedule_names for r in spec.runners]


def next_phase(spec: Spec, chain: Chain, done: Sequence[Phase]) -> tuple[str, dict[str, Search], Lanes] | None:
    """The name, the space and the lanes of what follows; None when the chain is at its end."""
    runner = spec.runner(chain.label)
    if not done:
        return "tune-0", dict(runner.space), _trials(spec, chain, runner, dict(runner.space), 0)
    if done[-1].name == "confirm":
        return None
    space = dict(done[-1].space)
    if shift := _shift(spec, done):
        space["lr"] = spaces.moved(space["lr"], shift)
        return f"tune-{len(done)}", space, _trials(spec, chain, runner, space, len(done))
    return "confirm", space, _confirmation(spec, runner, done[-1])


def blocks_of(spec: Spec, chain: Chain, phase: str, lanes: Lanes) -> list[Block]:
    """The lanes in blocks."""
    size = spec.block(chain.problem, chain.label)
    cuts = range(0, max(len(lanes), 1), size)
    return [Block(chain, phase, k, lanes.part(low, low + size)) for k, low in enumerate(cuts)]


def winners(spec: Spec, tuned: Phase) -> NDArray[np.int64]:
    """The lane with the best score of each study."""
    scores = tuned.scores.reshape(spec.studies, spec.trials)
    return np.asarray(np.arange(spec.studies) * spec.trials + np.argmin(scores, axis=1))


def recommended(spec: Spec, tuned: Phase) -> int:
    """The winner in the middle: of the studies' winners the one with the median learning rate."""
    own = winners(spec, tuned)
    if "lr" not in tuned.lanes.hypers:
        return int(own[0])
    return int(own[np.argsort(tuned.lanes.hypers["lr"][own], kind="stable")[len(own) // 2]])


def _trials(spec: Spec, chain: Chain, runner: Runner, space: Mapping[str, Search], window: int) -> Lanes:
    drawn = []
    for study in range(spec.studies):
        text = f"{chain.key} {spec.study_seeds[study]} {window}"
        scramble = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        drawn.append(sobol(space, spec.trials, scramble))
    hypers = {n: np.concatenate([d[n] for d in drawn]) for n in space}
    studies = np.repeat(np.arange(spec.studies), spec.trials)
    trials = np.tile(np.arange(spec.trials), spec.studies)
    return Lanes(np.full(len(studies), "trial"), studies, trials, np.array(spec.study_seeds)[studies], hypers)


def _shift(spec: Spec, done: Sequence[Phase]) -> float:
    """By how many decades the range of the learning rate has to move: 0 where the best of most studies is interior."""
    tuned = done[-1]
    if "lr" not in tuned.space or len(done) > MOVES:
        return 0.0
    if not len(_living(spec, tuned)):
        return -spaces.SHIFT  # nothing lives: smaller steps
    end = _end(spec, tuned, "lr")
    return {"lowest": -spaces.SHIFT, "highest": spaces.SHIFT}.get(end, 0.0)


def _living(spec: Spec, tuned: Phase) -> NDArray[np.int64]:
    """The lanes of the studies' winners that did not diverge."""
    own = winners(spec, tuned)
    return np.asarray(own[np.isfinite(tuned.scores[own])])


def _end(spec: Spec, tuned: Phase, name: str) -> str:
    """At which end of its range the best of most studies lies: "lowest", "highest", or "" where it is interior."""
    values = tuned.lanes.hypers[name][_living(spec, tuned)]
    share = np.array([tuned.space[name].share(float(v)) for v in values])
    if not len(share):
        return ""
    if np.mean(share < spaces.EDGE) > 0.5:
        return "lowest"
    return "highest" if np.mean(share > 1 - spaces.EDGE) > 0.5 else ""


def at_ends(spec: Spec, runner: Runner, tuned: Phase) -> dict[str, str]:
    """By name at which end of its range the best of most studies lies, where it lies at one, and numbers lie beyond it."""
    found = {}
    for name, range_ in tuned.space.items():
        low, high = for_training(runner.what).hyper(name).limits if runner.is_rule else (-math.inf, math.inf)
        end = _end(spec, tuned, name)
        bounded = {"lowest": math.isclose(range_.low, low), "highest": math.isclose(range_.high, high)}
        if end and not bounded[end]:
            found[name] = end
    return found


def confirmed(spec: Spec, runner: Runner) -> int:
    """How many lanes the last phase has: winners, the default, learning rates around."""
    default = spec.fresh if set(runner.defaults) == set(runner.space) else 0
    rates = len(MULTIPLES) * spec.around if "lr" in runner.space else 0
    return spec.studies * spec.fresh + default + rates


def _confirmation(spec: Spec, runner: Runner, tuned: Phase) -> Lanes:
    fresh = np.array(spec.fresh_seeds)
    parts = []

    def add(role: str, study: int, trial: int, hypers: Mapping[str, float], seeds: NDArray[np.int64]) -> None:
        count = len(seeds)
        rows = {n: np.full(count, float(hypers[n])) for n in runner.space}
        parts.append(Lanes(np.full(count, role), np.full(count, study), np.full(count, trial), seeds, rows))

    for study, lane in enumerate(winners(spec, tuned)):
        own = {n: v[lane] for n, v in tuned.lanes.hypers.items()}
        add("winner", study, int(tuned.lanes.trial[lane]), own, fresh)
    if set(runner.defaults) == set(runner.space):
        add("default", -1, -1, runner.defaults, fresh)
    if "lr" in runner.space:
        middle = {n: v[recommended(spec, tuned)] for n, v in tuned.lanes.hypers.items()}
        for k, multiple in enumerate(MULTIPLES):
            add("rate", -1, k, {**middle, "lr": middle["lr"] * multiple}, fresh[: spec.around])
    return Lanes(
        role=np.concatenate([p.role for p in parts]),
        study=np.concatenate([p.study for p in parts]),
        trial=np.concatenate([p.trial for p in parts]),
        seed=np.concatenate([p.seed for p in parts]),
        hypers={n: np.concatenate([p.hypers[n] for p in parts]) for n in runner.space},
    )
