"""How to know the luck of tuning: repeat it, or draw one tuning's trials again? Coverage of 95 % intervals, in simulation.

    python benchmarks/tuning_luck.py [--races N]

Two competitors on bowls of one to four dimensions that differ in where their best lies; 64 trainings a competitor for each
of five seeds either way. `studies`: five tunings of 64 Sobol points, a seed each, as the race does. `bootstrap`: one tuning
of 64 points with five seeds each, whose points are drawn again; the eight best are known on fresh seeds.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats
from scipy.stats import qmc

from steprule.races import statistics

TRIALS, SEEDS, FRESH, KNOWN = 64, 5, 30, 8
SURFACES = {"sharp": [60.0, 10.0, 3.0, 1.0], "flat": [8.0, 0.3, 0.05, 0.02], "even": [6.0] * 4}


def main() -> None:
    """Print a line for each surface, then the least and the greatest coverage."""
    parser = argparse.ArgumentParser(description="Coverage of intervals with the luck of tuning.")
    parser.add_argument("--races", type=int, default=400)
    races = parser.parse_args().races
    rng = np.random.default_rng(0)
    found = []
    print(
        f"{'surface':8s} {'dims':>4} {'noise':>6} {'studies':>8} {'bootstrap':>10}   covered by 95 % intervals, {races} races"
    )
    for name, sharpness in SURFACES.items():
        for dims in (1, 2, 4):
            for noise in (0.02, 0.1):
                row = [coverage(rng, sharpness[:dims], noise, races, way) for way in (studies, bootstrap)]
                found.append(row)
                print(f"{name:8s} {dims:4d} {noise:6.2f} {row[0]:8.1%} {row[1]:10.1%}")
    low, high = np.min(found, axis=0), np.max(found, axis=0)
    print(f"studies {low[0]:.1%} to {high[0]:.1%}, bootstrap {low[1]:.1%} to {high[1]:.1%}")


def coverage(rng: np.random.Generator, sharpness: list[float], noise: float, races: int, way) -> float:  # type: ignore[no-untyped-def]
    """The share of intervals that hold the mean of all differences."""
    rows = [way(rng, np.array(sharpness), noise) for _ in range(races)]
    estimate, error, freedom = np.array(rows).T
    reach = stats.t.ppf(0.975, freedom) * error
    return float(np.mean(np.abs(estimate - estimate.mean()) <= reach))


def ranked(rng: np.random.Generator, sharpness: np.ndarray, best: float, noise: float) -> np.ndarray:
    """The true outcomes of a study's trials, the one that looks best first."""
    points = qmc.Sobol(len(sharpness), rng=rng).random(TRIALS)
    true = 1.5 * (1 - np.exp(-((points - best) ** 2 * sharpness).sum(axis=1)))
    return true[np.argsort(true + noise * rng.standard_normal(TRIALS))]


def studies(rng: np.random.Generator, sharpness: np.ndarray, noise: float) -> tuple[float, float, float]:
    """Five tunings each."""
    ys = []
    for best in (0.45, 0.55):
        tuned = np.array([ranked(rng, sharpness, best, noise)[0] for _ in range(SEEDS)])
        ys.append(tuned[:, None] + noise * rng.standard_normal((SEEDS, FRESH)))
    found = statistics.difference(*ys)
    return found.estimate, found.error, found.freedom


def bootstrap(rng: np.random.Generator, sharpness: np.ndarray, noise: float) -> tuple[float, float, float]:
    """One tuning each; drawn again, the k-th best wins with the chance that none of the better is drawn."""
    k = np.arange(KNOWN)
    chance = ((TRIALS - k) / TRIALS) ** TRIALS - ((TRIALS - k - 1) / TRIALS) ** TRIALS
    chance /= chance.sum()
    ys = []
    for best in (0.45, 0.55):
        top = ranked(rng, sharpness, best, noise / np.sqrt(SEEDS))[:KNOWN]
        ys.append(top[:, None] + noise * rng.standard_normal((KNOWN, FRESH)))
    gaps = ys[0][0] - ys[1][0]
    luck = sum(float((chance * (y.mean(1) - chance @ y.mean(1)) ** 2).sum()) for y in ys)
    seeds = float(gaps.var(ddof=1)) / FRESH
    freedom = (luck + seeds) ** 2 / (luck**2 / 6 + seeds**2 / (FRESH - 1))
    return float(gaps.mean()), float(np.sqrt(luck + seeds)), freedom


if __name__ == "__main__":
    main()
