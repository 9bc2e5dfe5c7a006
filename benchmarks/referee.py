"""The race's intervals: how wide they are, and how often they hold the truth, from simulated and from real trials.

    python benchmarks/referee.py simulate [--races N] [--out FILE]
    python benchmarks/referee.py anew [--races N] [--out FILE]
    python benchmarks/referee.py stopping [--races N] [--out FILE]
    python benchmarks/referee.py decided FOLDER
    python benchmarks/referee.py pool --on PROBLEM --schedule S RULE RULE ... [--batches N] [--races N] [--out FILE]

simulate: two competitors on bowls, whose best lies elsewhere; 320 trainings to tune each, 150 on fresh seeds. `studies`: five tunings of 64
Sobol points, whose winners are compared, as the race did before; `batches`: all trials count, as it does now. oracle: 1.96 times
the true standard deviation. Null: two alike, and how often they are called different.

anew: by how much the best of 64, over all choices of 64 of 320 trials in ten batches, ends above the winner of a study of 64 Sobol points
of one scramble; on a bowl in three dimensions, of which trainings live in a share.

stopping: six competitors in a race until decided. Alike: how often any two are called different at any look, with Clopper and Pearson's
upper 95 % limit. Apart, by steps of so many per cent: how much a race until decided trains, of the trainings of eight races, how often it
knows at its end who is really above the lowest, how many pairs differ really then; and both of a race of one stage, and of one that was
planned as eight times as large.

decided: of a finished race how many pairs differ really, corrected per problem and schedule, and corrected over the whole race.

pool: many batches of real trials of each rule are trained once, the best of each on fresh seeds too. Races are drawn from them, batches
and fresh seeds; the truth is what the whole pool says. Any wrong: of races whose rules are all copies of one, with batches of their own,
how often any two are called different.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from scipy.stats import qmc

import steprule
from steprule.provenance import hardware, versions
from steprule.races import statistics
from steprule.races.chain import Lanes, Planned
from steprule.races.looks import Looked, looks
from steprule.races.luck import Tuning, allotted, chances, levelled, moderated, ranked
from steprule.races.protocol import Tuned
from steprule.sizes import STAGES

RACE = Tuned()
N, K, SEEDS = RACE.batches * RACE.batch, RACE.trials, RACE.fresh
ROWS = RACE.studies
RANKS = allotted(N, K, ROWS * SEEDS)
SURFACES = {
    "one number, sharp": ([60.0], 0.02), "two, noisy": ([60.0, 10.0], 0.1), "three, flat": ([8.0, 0.3, 0.05], 0.02),
    "two, flat, noisy": ([8.0, 0.3], 0.1), "three, even": ([6.0] * 3, 0.05), "four": ([60.0, 10.0, 3.0, 1.0], 0.02),
    "four, even, noisy": ([6.0] * 4, 0.1), "five, noisy": ([60.0, 10.0, 3.0, 1.0, 1.0], 0.2),
}  # fmt: skip
"""Sharpness by dimension, and the noise of one training."""
DRAWN = 2_000
"""Sets of Sobol points of which a race's are drawn."""


@dataclass(frozen=True)
class Seen:
    """One competitor in one race."""

    tuning: Tuning
    y: np.ndarray


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Widths and coverage of a race's intervals.")
    ways = parser.add_subparsers(required=True)
    simulated = ways.add_parser("simulate")
    simulated.set_defaults(run=simulate)
    pooled = ways.add_parser("pool")
    pooled.set_defaults(run=pool)
    pooled.add_argument("rules", nargs="+")
    pooled.add_argument("--on", default="airfoil-mlp")
    pooled.add_argument("--schedule", default="linear")
    pooled.add_argument("--batches", type=int, default=200)
    pooled.add_argument("--kept", type=Path, help="a folder for the pool's trainings, to go on")
    again = ways.add_parser("anew")
    again.set_defaults(run=anew)
    stopped = ways.add_parser("stopping")
    stopped.set_defaults(run=stopping)
    decided_ = ways.add_parser("decided")
    decided_.set_defaults(run=decided, races=1)
    decided_.add_argument("folder", type=Path)
    decided_.add_argument("--out", type=Path)
    for way in (simulated, pooled, again, stopped):
        way.add_argument("--races", type=int, default=1000)
        way.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = options.run(options)
    if options.out:
        about = {
            "races": options.races,
            "hardware": hardware(),
            "versions": versions(),
            "date": time.strftime("%Y-%m-%d"),
        }
        options.out.write_text(json.dumps({**found, **about}, indent=1) + "\n")


# Simulated.


def simulate(options: argparse.Namespace) -> dict[str, Any]:
    """A line per surface."""
    rng, found = np.random.default_rng(0), {}
    for name, (sharpness, noise) in SURFACES.items():
        surface = Surface.drawn(rng, sharpness, noise)
        rows: dict[str, list[statistics.Difference]] = {"studies": [], "batches": [], "null": []}
        for _ in range(options.races):
            common = 0.1 * rng.standard_normal(SEEDS)
            a, b, c = (_bowl(rng, surface, best, common) for best in (0.45, 0.55, 0.45))
            rows["batches"].append(_difference(a, b))
            rows["null"].append(_difference(a, c))
            old = [_studies(rng, surface, best, common) for best in (0.45, 0.55)]
            rows["studies"].append(statistics.difference(*old))
        own = {way: _judged(each) for way, each in rows.items()}
        ratio = own["batches"]["half"] / own["studies"]["half"]
        wrong = float(np.mean([d.p_beyond(0.0) < 0.05 for d in rows["null"]]))
        found[name] = {
            **own,
            "ratio": ratio,
            "oracle": own["batches"]["oracle"] / own["studies"]["half"],
            "wrong": wrong,
        }
        print(
            f"{name:18s} covered: studies {own['studies']['covered']:.1%}, batches {own['batches']['covered']:.1%};"
            f" half width {ratio:.2f} of studies' (oracle {found[name]['oracle']:.2f}); freedom {own['studies']['freedom']:.1f},"
            f" {own['batches']['freedom']:.1f}; null called different {wrong:.1%}",
            flush=True,
        )
    ratios = [own["ratio"] for own in found.values()]
    print(f"half widths: geometric mean {np.exp(np.mean(np.log(ratios))):.2f}, largest {max(ratios):.2f}")
    return {"surfaces": found}


def _height(points: np.ndarray, best: float, sharpness: np.ndarray) -> np.ndarray:
    return np.asarray(1.5 * (1 - np.exp(-((points - best) ** 2 * sharpness).sum(axis=-1))))


def _points(rng: np.random.Generator, dims: int, each: int, times: int) -> np.ndarray:
    return np.array([qmc.Sobol(dims, rng=rng).random(each) for _ in range(times)])


@dataclass(frozen=True)
class Surface:
    """Where trainings end, and sets of Sobol points on it, each scrambled anew."""

    batches: np.ndarray
    """[sets, trials of a batch, dimensions]"""
    studies: np.ndarray
    """[sets, trials of a study, dimensions]"""
    sharpness: np.ndarray
    noise: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, sharpness: list[float], noise: float) -> Surface:
        """With its points."""
        batch, study = (_points(rng, len(sharpness), each, DRAWN) for each in (RACE.batch, K))
        return cls(batch, study, np.array(sharpness), noise)

    def ends(self, rng: np.random.Generator, sets: np.ndarray, count: int, best: float) -> np.ndarray:
        """Without noise where trainings end at so many sets of points, [count, trials], each moved round by a shift of its own."""
        points = sets[rng.integers(0, len(sets), count)] + rng.random((count, 1, len(self.sharpness)))
        return _height(points % 1, best, self.sharpness)


def _bowl(rng: np.random.Generator, surface: Surface, best: float, common: np.ndarray, above: float = 0.0) -> Seen:
    """A race's trials, and its runs on fresh seeds; seeds add to all of a batch's scores, and to all runs of one."""
    true = surface.ends(rng, surface.batches, RACE.batches, best) + above
    noise = surface.noise
    scores = np.exp(true + noise * rng.standard_normal(true.shape) + noise * rng.standard_normal((len(true), 1)))
    trained = ranked(scores)[RANKS]
    seeds = np.tile(common + 0.5 * noise * rng.standard_normal(SEEDS), ROWS)
    y = true.ravel()[trained] + seeds + noise * rng.standard_normal(len(trained))
    return Seen(Tuning(scores, trained), y.reshape(ROWS, SEEDS))


def _studies(rng: np.random.Generator, surface: Surface, best: float, common: np.ndarray) -> np.ndarray:
    true, noise = surface.ends(rng, surface.studies, ROWS, best), surface.noise
    won = np.argmin(true + noise * rng.standard_normal(true.shape), axis=1)
    tuned = true[np.arange(ROWS), won][:, None]
    return tuned + common + 0.5 * noise * rng.standard_normal(SEEDS) + noise * rng.standard_normal((ROWS, SEEDS))


def _difference(a: Seen, b: Seen) -> statistics.Difference:
    return statistics.difference(a.y, b.y, lucks=[a.tuning.luck(a.y), b.tuning.luck(b.y)])


def _judged(found: list[statistics.Difference], truth: float | None = None) -> dict[str, float]:
    """Coverage of 95 % intervals, half widths, degrees of freedom."""
    estimates = np.array([d.estimate for d in found])
    truth = float(estimates.mean()) if truth is None else truth
    ends = np.array([d.interval() for d in found])
    return {
        "covered": float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()),
        "half": float((ends[:, 1] - ends[:, 0]).mean() / 2),
        "oracle": float(1.96 * estimates.std()),
        "freedom": float(np.mean([d.freedom for d in found])),
    }


SHARES, AWAY, UNSETTLED, LOST = (1.0, 0.5, 0.25, 0.125), (0.7, 0.4, 0.6), 0.03, 1.5
"""Of the space in which trainings live, along its first dimension; where the bowl is lowest, the noise of one training, and the outcome
of one that diverged."""


def anew(options: argparse.Namespace) -> dict[str, Any]:
    """A line per share."""
    rng, found = np.random.default_rng(0), {}
    own = chances(N, K)
    for share in SHARES:
        above = []
        for _ in range(options.races):
            true = _dying(_points(rng, 3, RACE.batch, RACE.batches), share)
            noise = UNSETTLED * rng.standard_normal(true.shape) + 0.1 * rng.standard_normal((len(true), 1))
            worth = np.minimum(true, LOST).ravel()[ranked(np.exp(true + noise))]
            studies = _dying(_points(rng, 3, K, ROWS), share)
            won = np.argmin(studies + UNSETTLED * rng.standard_normal(studies.shape), axis=1)
            above.append((own * worth).sum() - np.minimum(studies, LOST)[np.arange(ROWS), won].mean())
        error = np.std(above) / np.sqrt(options.races)
        found[f"{share:g}"] = {"above": float(np.mean(above)), "error": float(error)}
        print(
            f"lives in {share:5.1%} of the space: ends {100 * np.mean(above):.1f} % above, standard error {100 * error:.2f} %"
        )
    return {"shares": found}


def _dying(points: np.ndarray, share: float) -> np.ndarray:
    """The height of a bowl, inf where trainings diverge."""
    lives = points[..., 0] < share
    at = np.where(lives, points[..., 0] / share, 0.0)
    height = 3 * (at - AWAY[0]) ** 2 + 0.6 * (points[..., 1] - AWAY[1]) ** 2 + 0.3 * (points[..., 2] - AWAY[2]) ** 2
    return np.where(lives, height, np.inf)


WHO, STEPS, MATTERS = 6, (0.05, 0.15), 0.01
"""How many competitors, by how much each ends above the one before it, and what matters: shares of the loss."""


def stopping(options: argparse.Namespace) -> dict[str, Any]:
    """A line per surface."""
    found = {}
    for number, name in enumerate(SURFACES):
        rng = np.random.default_rng(number)
        surface = Surface.drawn(rng, *SURFACES[name])
        wrong = sum(_called(_stages(rng, surface, 0.0), matters=0.0) for _ in range(options.races))
        limit = float(stats.beta.ppf(0.95, wrong + 1, options.races - wrong))
        apart = {f"{step:g}": _apart(rng, surface, step, max(1, options.races // 10)) for step in STEPS}
        found[name] = {"any wrong": wrong / options.races, "upper limit": limit, "apart": apart}
        print(f"{name:18s} any wrong {wrong / options.races:.1%}, upper limit {limit:.1%}", flush=True)
        for step, own in apart.items():
            print(f"    apart by {float(step):.0%}: " + "; ".join(f"{n} {v:.2f}" for n, v in own.items()), flush=True)
    print(f"largest: {max(own['any wrong'] for own in found.values()):.1%}")
    return {"surfaces": found}


def _stages(rng: np.random.Generator, surface: Surface, step: float) -> list[list[Looked]]:
    """By pair the differences of all stages, after 1, 2, 4 and 8 of them."""
    drawn = []
    for _ in range(STAGES):
        common = 0.1 * rng.standard_normal(SEEDS)
        own = [_bowl(rng, surface, 0.5, common, k * step) for k in range(WHO)]
        lucks = moderated([s.tuning.luck(s.y) for s in own])
        drawn.append(
            [
                statistics.difference(own[j].y, own[i].y, lucks=[lucks[j], lucks[i]])
                for i, j in combinations(range(WHO), 2)
            ]
        )
    by_pair = list(zip(*drawn, strict=True))
    return [[Looked(stages[:n], STAGES) for stages in by_pair] for n in looks(STAGES)]


def _called(looked: list[list[Looked]], matters: float) -> bool:
    """Whether any two are called different at any look."""
    return any(min(statistics.holm([pair.p_beyond(matters) for pair in pairs])) < 0.05 for pairs in looked)


def _apart(rng: np.random.Generator, surface: Surface, step: float, races: int) -> dict[str, float]:
    """What a race until decided finds, and what races of a fixed size do."""
    rows = []
    for _ in range(races):
        looked = _stages(rng, surface, step)
        alone = [Looked(pair.stages[:1]) for pair in looked[0]]
        larger = [Looked((pair.difference,)) for pair in looked[-1]]
        trained, known, real = _until(looked)
        rows.append((trained, known, real, *_verdict(alone)[1:], *_verdict(larger)[1:]))
    names = (
        "trained",
        "knows the lowest",
        "real pairs",
        "one stage: knows",
        "real pairs of one",
        "eight planned: knows",
        "real of eight",
    )
    return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def _verdict(pairs: list[Looked]) -> tuple[set[int], float, float]:
    """Who is open against the lowest, whether nobody is, and the share of pairs that differ really."""
    least = float(np.log1p(MATTERS))
    real = statistics.holm([pair.p_beyond(least) for pair in pairs]) < 0.05
    same = statistics.holm([pair.p_within(least) for pair in pairs]) < 0.05
    names = list(combinations(range(WHO), 2))
    level = np.zeros(WHO)
    for (i, j), pair in zip(names, pairs, strict=True):
        level[i] -= pair.difference.estimate / WHO
        level[j] += pair.difference.estimate / WHO
    lowest = int(level.argmin())
    of_lowest = {(set(pair) - {lowest}).pop(): k for k, pair in enumerate(names) if lowest in pair}
    unknown = {who for who, k in of_lowest.items() if not (real[k] or same[k])}
    return unknown | {lowest} if unknown else set(), float(not unknown), float(real.mean())


def _until(looked: list[list[Looked]]) -> tuple[float, float, float]:
    """The trainings as a share of eight stages of all, whether it is known who is above the lowest, the share of pairs that differ."""
    at, had, names = looks(STAGES), np.ones(WHO, dtype=int), list(combinations(range(WHO), 2))
    while True:
        shared = [min(had[i], had[j]) for i, j in names]
        pairs = [Looked(last.stages[:n], STAGES) for last, n in zip(looked[-1], shared, strict=True)]
        onward, known, real = _verdict(pairs)
        top = max((had[who] for who in onward), default=0)
        behind = [who for who in onward if had[who] < top]
        later = [n for n in at if n > top]
        if not onward or not (behind or later):
            return float(had.mean() / STAGES), known, real
        for who in behind or onward:
            had[who] = top if behind else later[0]


def decided(options: argparse.Namespace) -> dict[str, Any]:
    """A line for the race."""
    race = steprule.races.finished(options.folder)
    pairs = [(p, p.difference.p_beyond(cell.scale.least(race.matters))) for cell in race.cells for p in cell.pairs]
    found = {
        "pairs": len(pairs),
        "per problem and schedule": sum(p.verdict() == "real" for p, _ in pairs),
        "over the race": int((statistics.holm([q for _, q in pairs]) < 0.05).sum()),
        "freedom": float(np.mean([p.difference.freedom for p, _ in pairs])),
    }
    print(", ".join(f"{name}: {value:.4g}" for name, value in found.items()))
    return found


# Drawn from real trials.


@dataclass(frozen=True)
class Pool:
    """A protocol: many batches of trials, and the best of each on fresh seeds."""

    batches: int
    best: int = 10
    fresh: int = 12
    first_seed: int = 0
    searches, watches = True, False

    @property
    def _tuned(self) -> Tuned:
        return Tuned(RACE.trials, self.batches * RACE.batch // RACE.trials, self.fresh)

    @property
    def size(self) -> int:
        """As `steprule.races.Protocol` says."""
        return self.batches * (RACE.batch + self.best * self.fresh)

    def following(self, chain: Any, entrant: Any, done: Any) -> Planned | None:
        """The trials, then the best."""
        if not done:
            return self._tuned.following(chain, entrant, [])
        if len(done) > 1:
            return None
        order = np.argsort(self._tuned.scores(done[0]), axis=1, kind="stable")[:, : self.best]
        best = np.repeat((order + RACE.batch * np.arange(self.batches)[:, None]).ravel(), self.fresh)
        lanes, seeds = done[0].lanes, np.tile(10**6 + np.arange(self.fresh), self.batches * self.best)
        hypers = {n: v[best] for n, v in lanes.hypers.items()}
        own = Lanes(np.full(len(best), "winner"), lanes.study[best], lanes.trial[best], seeds, hypers)
        return Planned("best", done[0].space, own)

    def spare(self, entrant: Any) -> int:
        """None."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """As `steprule.races.Protocol` says."""
        return {"batches": self.batches, "best": self.best, "fresh": self.fresh}


def pool(options: argparse.Namespace) -> dict[str, Any]:
    """A line for all pairs of rules."""
    made = Pool(options.batches)
    race = steprule.race(
        options.rules, options.on, schedules=[options.schedule], protocol=made, out=options.kept,
    )  # fmt: skip
    held = {label: _of_pool(made, race, options, label) for label in options.rules}
    truth = {label: _whole(*trials) for label, trials in held.items()}
    rng = np.random.default_rng(0)
    pairs: dict[tuple[str, str], list[statistics.Difference]] = {p: [] for p in combinations(options.rules, 2)}
    wrong = 0
    for race_number in range(options.races):
        seeds = rng.integers(0, made.fresh, SEEDS)
        drawn = {label: _drawn(rng, *trials, seeds) for label, trials in held.items()}
        lucks = dict(zip(drawn, moderated([s.tuning.luck(s.y) for s in drawn.values()]), strict=True))
        for (a, b), each in pairs.items():
            each.append(statistics.difference(drawn[a].y, drawn[b].y, lucks=[lucks[a], lucks[b]]))
        trials = held[options.rules[race_number % len(held)]]
        copies = [_drawn(rng, *trials, seeds) for _ in held]
        alike = moderated([s.tuning.luck(s.y) for s in copies])
        p = [
            statistics.difference(copies[i].y, copies[j].y, lucks=[alike[i], alike[j]]).p_beyond(0.0)
            for i, j in combinations(range(len(copies)), 2)
        ]
        wrong += int(min(statistics.holm(p)) < 0.05)
    found = {f"{b} - {a}": _judged(each, truth[a] - truth[b]) for (a, b), each in pairs.items()}
    covered = [own["covered"] for own in found.values()]
    print(
        f"{options.on}, {options.schedule}: {len(found)} pairs, covered {np.mean(covered):.1%} ({min(covered):.1%} to {max(covered):.1%}),"
        f" half width {np.mean([own['half'] / own['oracle'] for own in found.values()]):.2f} of the oracle's,"
        f" freedom {np.mean([own['freedom'] for own in found.values()]):.1f};"
        f" any of {len(held)} copies called different {wrong / options.races:.1%}"
    )
    return {"pairs": found, "any wrong": wrong / options.races, "problem": options.on, "schedule": options.schedule,
            "trials": options.batches * RACE.batch}  # fmt: skip


def _of_pool(made: Pool, race: Any, options: argparse.Namespace, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores [batches, trials], and outcomes on fresh seeds [batches, trials, seeds], nan where there are none."""
    tuned, last = race.chain(options.on, options.schedule, label)
    split = race.measures[options.on].split
    y = np.full((made.batches * RACE.batch, made.fresh), np.nan)
    at = (last.lanes.study * RACE.batch + last.lanes.trial).reshape(-1, made.fresh)[:, 0]
    y[at] = statistics.outcome(last.results[split], last.results["initial"], last.diverged).reshape(-1, made.fresh)
    return tuned.scores.reshape(made.batches, RACE.batch), y.reshape(made.batches, RACE.batch, made.fresh)


def _whole(scores: np.ndarray, y: np.ndarray) -> float:
    """What the best of k is worth, by all trials of the pool."""
    order = np.argsort(levelled(scores).ravel(), kind="stable")
    values, own = y.reshape(-1, y.shape[-1]).mean(axis=1)[order], chances(scores.size, K)
    known = np.isfinite(values)
    return float((own[known] * values[known]).sum() / own[known].sum())


def _drawn(rng: np.random.Generator, scores: np.ndarray, y: np.ndarray, seeds: np.ndarray) -> Seen:
    """A race's share of the pool."""
    batches = rng.choice(len(scores), RACE.batches, replace=False)
    own = scores[batches]
    trained = ranked(own)[RANKS]
    values = y[batches].reshape(-1, y.shape[-1])
    # Of the few that lack, the nearest rank below that has runs stands in.
    known = np.isfinite(values[trained, 0])
    trained = trained[np.maximum.accumulate(np.where(known, np.arange(len(trained)), 0))]
    return Seen(Tuning(own, trained), values[trained, np.tile(seeds, ROWS)].reshape(ROWS, SEEDS))


if __name__ == "__main__":
    main()
