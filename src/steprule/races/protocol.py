"""What a race trains next, from what is done: the contract, the tuned race, and settings as given."""

from __future__ import annotations

import hashlib
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.counts import seeds_of, whole
from steprule.hyper import Search
from steprule.races import spaces
from steprule.races.chain import Array, Chain, Lanes, Phase, Planned
from steprule.races.competitor import Entrant
from steprule.races.looks import looks
from steprule.races.luck import Tuning, allotted, ranked
from steprule.races.stage import CONFIRM, LATER, begun, stages_of
from steprule.races.statistics import Luck
from steprule.sizes import FRESH, SEEDS, STUDIES, TRIALS
from steprule.sweeps.points import sobol

MULTIPLES = 10.0 ** np.arange(-1.5, 1.51, 0.25)
"""Of the winner's learning rate, to see how much it matters."""
AROUND = 5
"""Fresh seeds of those, at most."""
SPLIT = 16
"""Trials of a study from which on it is two batches, where their number is even."""
MOVES = 3
"""How often a range may move."""


class Protocol(typing.Protocol):
    """What decides all that a race trains, chain by chain.

    A race asks `following` for the next phase of a chain, trains its lanes in blocks, and asks again with that phase among what is
    done, until there is none. So what a protocol returns may depend on its own numbers, the chain, the entrant and the results
    so far, and on nothing else: the same race must give the same lanes after an interruption and on every machine. It is a value,
    a frozen dataclass say. Every phase of a chain has a name of its own, from which its files are named.

    A race whose protocol is a `Tuned` is read as one: winners are compared on fresh seeds. Every other race is read as settings
    as given: per entrant the spread of its trainings over their seeds. `steprule.race(..., protocol=mine)` runs one's own.
    """

    @property
    def searches(self) -> bool:
        """Whether the competitors' spaces are searched. Where they are not, entrants have none."""

    @property
    def watches(self) -> bool:
        """Whether each training is measured along its way, as `steprule.train` does, one after the other: results then have a
        curve of the loss on all training samples and the seconds of the steps."""

    @property
    def size(self) -> int:
        """Trainings per chain, about. It decides whether compiling the model pays, and with it last bits."""

    @property
    def first_seed(self) -> int:
        """The seed of the first training."""

    def following(self, chain: Chain, entrant: Entrant, done: Sequence[Phase]) -> Planned | None:
        """What the chain trains after these phases; None when it is at its end."""

    def spare(self, entrant: Entrant) -> int:
        """How many trainings there may be beyond those that are expected."""

    def to_dict(self) -> dict[str, Any]:
        """What decides the results, as plain values: races in one folder must agree in it."""


@dataclass(frozen=True)
class AsGiven:
    """Every entrant at its settings, once per seed: it shows how wide one setting's spread is.

    It does not tune, so it ranks settings, not optimizers. Seeds may be added in the same folder.
    """

    seeds: tuple[int, ...] = tuple(range(SEEDS))
    searches = False
    watches = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", seeds_of(self.seeds))

    @property
    def size(self) -> int:
        """As `Protocol` says."""
        return len(self.seeds)

    @property
    def first_seed(self) -> int:
        """As `Protocol` says."""
        return self.seeds[0]

    def following(self, chain: Chain, entrant: Entrant, done: Sequence[Phase]) -> Planned | None:
        """All seeds at once."""
        if done:
            return None
        none = np.full(len(self.seeds), -1)
        return Planned(
            "given", {}, Lanes(np.full(len(none), "given"), none, none, np.array(self.seeds), {}), grows=True
        )

    def spare(self, entrant: Entrant) -> int:
        """As `Protocol` says."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """Without the seeds, which may be added."""
        return {"trials": 0}


@dataclass(frozen=True)
class Tuned:
    """Train as many trials as several tunings need, in batches of Sobol points; then train the best on fresh seeds.

    Every choice of `trials` of them all is a tuning that could have been. Each trial trains on fresh seeds as often as it is the best of
    such a choice, so that the mean is what a tuning ends at. Where the best learning rates lie at an end of their range, the
    range moves and they tune again. Beside the winners the default and a row of learning rates train on fresh seeds.

    A race until decided is such a race again and again, on other seeds: each is a stage, and the later ones search the range in which the
    first one ended.
    """

    trials: int = TRIALS
    """Trainings of one tuning, whose best is judged."""
    studies: int = STUDIES
    """How many times as many trials there are."""
    fresh: int = FRESH
    """Seeds that no trial saw, on which winners are compared."""
    first_seed: int = 0
    stages: int = 1
    """How many there may be."""
    searches = True
    watches = False
    pools = True
    """Whether every choice of `trials` of them all counts; else each study's winner alone."""

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("studies", 1), ("fresh", 1), ("first_seed", 0), ("stages", 1)):
            object.__setattr__(self, name, whole(name, getattr(self, name), least))

    @property
    def size(self) -> int:
        """As `Protocol` says."""
        return (self.trials + self.fresh) * self.studies

    @property
    def tells_luck(self) -> bool:
        """Whether luck can be told from differences: from two studies and two fresh seeds on."""
        return self.studies > 1 and self.fresh > 1

    @property
    def around(self) -> int:
        """The fresh seeds on which multiples of the winner's learning rate are trained: no more trainings than the tuning."""
        return min(AROUND, self.fresh, max(1, self.studies * self.trials // len(MULTIPLES)))

    @property
    def batch(self) -> int:
        """Trials of one batch: Sobol points scrambled anew, with a seed of their own. Half of a study, for the more batches there are the
        better their luck is known; a small study whole, for few points are not spread evenly."""
        return self.trials if self.trials % 2 or self.trials < SPLIT else self.trials // 2

    @property
    def batches(self) -> int:
        """How many batches."""
        return self.studies * self.trials // self.batch

    @property
    def tuning_seeds(self) -> range:
        """The seed of each batch."""
        return range(self.first_seed, self.first_seed + self.batches)

    @property
    def fresh_seeds(self) -> range:
        """The seeds behind those of the tuning."""
        return range(self.tuning_seeds.stop, self.tuning_seeds.stop + self.fresh)

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many stages the race is looked at."""
        return looks(self.stages)

    def of_stage(self, number: int) -> Tuned:
        """One stage, from 0: this race with seeds of its own."""
        return replace(self, first_seed=self.first_seed + number * (self.batches + self.fresh), stages=1)

    def of_all(self, stages: int) -> Tuned:
        """The tunings of so many stages, `joined`, as one."""
        return replace(self, studies=self.studies * stages, stages=1)

    def following(self, chain: Chain, entrant: Entrant, done: Sequence[Phase]) -> Planned | None:
        """The first tuning, a tuning in a range that moved, the confirmation; then the next stage, if there may be one."""
        finished, own = stages_of(done), begun(done)
        if len(finished) == self.stages:
            return None
        if finished:
            return self._again(chain, entrant, finished[0].tuned.space, own, len(finished))
        if not own:
            return self._tuning(chain, entrant.space, "tune-0", 0, self._last(entrant))
        space = dict(own[-1].space)
        if shift := self._shift(own):
            space["lr"] = spaces.moved(space["lr"], shift)
            return self._tuning(chain, space, f"tune-{len(own)}", len(own), self._last(entrant))
        return Planned(CONFIRM, space, self._confirmation(entrant, own[-1], rates=True))

    def _again(
        self, chain: Chain, entrant: Entrant, space: Mapping[str, Search], own: Sequence[Phase], number: int
    ) -> Planned:
        """A later stage: in one range, and without the row of learning rates, which shows what it has to in the first."""
        stage, name = self.of_stage(number), f"{LATER}{number + 1}"
        if not own:
            return stage._tuning(chain, space, f"{name}-tune", 0, stage._last(entrant, rates=False))
        return Planned(f"{name}-{CONFIRM}", space, stage._confirmation(entrant, own[-1], rates=False))

    def _last(self, entrant: Entrant, *, rates: bool = True) -> int:
        """How many trainings the last phase has: winners, the default, learning rates around."""
        default = self.fresh if set(entrant.defaults) == set(entrant.space) else 0
        around = len(MULTIPLES) * self.around if rates and "lr" in entrant.space else 0
        return self.studies * self.fresh + default + around

    def again(self, entrant: Entrant) -> int:
        """How many trainings a later stage has."""
        return self.studies * self.trials + self._last(entrant, rates=False)

    def spare(self, entrant: Entrant) -> int:
        """The tunings in ranges that move, and the later stages."""
        moves = MOVES * self.studies * self.trials if "lr" in entrant.space else 0
        return moves + (self.stages - 1) * self.again(entrant)

    def to_dict(self) -> dict[str, Any]:
        """As `Protocol` says."""
        return {
            "trials": self.trials,
            "seeds": self.studies,
            "trials of a batch": self.batch,
            "fresh": self.fresh,
            "first_seed": self.first_seed,
            "seeds of each multiple of the winner's lr": self.around,
            **({"stages": self.stages} if self.stages > 1 else {}),
        }

    def scores(self, tuned: Phase) -> Array:
        """What trials are chosen by, [batches, trials of each]."""
        return tuned.scores.reshape(self.batches, self.batch)

    def winners(self, tuned: Phase) -> NDArray[np.int64]:
        """The lane with the best score of each batch."""
        return np.asarray(np.arange(self.batches) * self.batch + np.argmin(self.scores(tuned), axis=1))

    def best(self, tuned: Phase) -> NDArray[np.int64]:
        """The lanes that train on fresh seeds, [studies * seeds]: those of a study have neighbouring ranks."""
        ranks = allotted(self.batches * self.batch, self.trials, self.studies * self.fresh)
        return ranked(self.scores(tuned))[ranks]

    def luck(self, tuned: Phase, last: Phase, y: Array) -> Luck:
        """How far the mean of outcomes on fresh seeds, [studies, seeds], varies from tuning to tuning."""
        return Tuning.of(tuned, last).luck(y)

    def recommended(self, tuned: Phase) -> int:
        """The winner in the middle: that of the batches' winners which has the median learning rate."""
        own = self.chosen(tuned)
        if "lr" not in tuned.lanes.hypers:
            return int(own[0])
        return int(own[np.argsort(tuned.lanes.hypers["lr"][own], kind="stable")[len(own) // 2]])

    def at_ends(self, entrant: Entrant, tuned: Phase) -> dict[str, str]:
        """By name at which end of its range the best of most batches lies, where it lies at one, and numbers lie beyond it."""
        found = {}
        for name, range_ in tuned.space.items():
            low, high = entrant.known[name].limits if entrant.is_rule else (-math.inf, math.inf)
            end = self._end(tuned, name)
            bounded = {"lowest": math.isclose(range_.low, low), "highest": math.isclose(range_.high, high)}
            if end and not bounded[end]:
                found[name] = end
        return found

    def _tuning(self, chain: Chain, space: Mapping[str, Search], name: str, window: int, to_come: int) -> Planned:
        drawn = []
        for seed in self.tuning_seeds:
            text = f"{chain.key} {seed} {window}"
            scramble = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
            drawn.append(sobol(space, self.batch, scramble))
        hypers = {n: np.concatenate([d[n] for d in drawn]) for n in space}
        batches = np.repeat(np.arange(self.batches), self.batch)
        trials = np.tile(np.arange(self.batch), self.batches)
        seeds = np.array(self.tuning_seeds)[batches]
        lanes = Lanes(np.full(len(batches), "trial"), batches, trials, seeds, hypers)
        return Planned(name, space, lanes, to_come=to_come)

    def _shift(self, done: Sequence[Phase]) -> float:
        """By how many decades the range of the learning rate has to move: 0 where the best of most batches is interior."""
        tuned = done[-1]
        if "lr" not in tuned.space or len(done) > MOVES:
            return 0.0
        if not len(self._living(tuned)):
            return -spaces.SHIFT  # nothing lives: smaller steps
        end = self._end(tuned, "lr")
        return {"lowest": -spaces.SHIFT, "highest": spaces.SHIFT}.get(end, 0.0)

    def chosen(self, tuned: Phase) -> NDArray[np.int64]:
        """The lanes of the batches' winners; without those that diverged too, unless all did."""
        living = self._living(tuned)
        return living if len(living) else self.winners(tuned)

    def _living(self, tuned: Phase) -> NDArray[np.int64]:
        """The lanes of the batches' winners that did not diverge."""
        own = self.winners(tuned)
        return np.asarray(own[np.isfinite(tuned.scores[own])])

    def _end(self, tuned: Phase, name: str) -> str:
        """At which end of its range the best of most batches lies: "lowest", "highest", or "" where it is interior."""
        values = tuned.lanes.hypers[name][self._living(tuned)]
        share = np.array([tuned.space[name].share(float(v)) for v in values])
        if not len(share):
            return ""
        if np.mean(share < spaces.EDGE) > 0.5:
            return "lowest"
        return "highest" if np.mean(share > 1 - spaces.EDGE) > 0.5 else ""

    def _confirmation(self, entrant: Entrant, tuned: Phase, *, rates: bool) -> Lanes:
        fresh = np.array(self.fresh_seeds)
        parts: list[Lanes] = []

        def add(role: str, trial: int, hypers: Mapping[str, float], seeds: Array) -> None:
            count = len(seeds)
            rows = {n: np.full(count, float(hypers[n])) for n in entrant.space}
            parts.append(Lanes(np.full(count, role), np.full(count, -1), np.full(count, trial), seeds, rows))

        best = self.best(tuned)
        own = {n: v[best] for n, v in tuned.lanes.hypers.items()}
        kept = tuned.lanes
        parts.append(
            Lanes(np.full(len(best), "winner"), kept.study[best], kept.trial[best], np.tile(fresh, self.studies), own)
        )
        if set(entrant.defaults) == set(entrant.space):
            add("default", -1, entrant.defaults, fresh)
        if rates and "lr" in entrant.space:
            middle = {n: v[self.recommended(tuned)] for n, v in tuned.lanes.hypers.items()}
            for k, multiple in enumerate(MULTIPLES):
                add("rate", k, {**middle, "lr": middle["lr"] * multiple}, fresh[: self.around])
        return Lanes(
            role=np.concatenate([p.role for p in parts]),
            study=np.concatenate([p.study for p in parts]),
            trial=np.concatenate([p.trial for p in parts]),
            seed=np.concatenate([p.seed for p in parts]),
            hypers={n: np.concatenate([p.hypers[n] for p in parts]) for n in entrant.space},
        )
