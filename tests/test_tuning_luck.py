"""The luck of tuning: chances, levels, the jackknife and what a cell's competitors lend one another, by hand and as statistics."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from scipy.stats import qmc
from tolerances import CHANCES

from steprule.races import statistics
from steprule.races.chain import Lanes, Phase
from steprule.races.luck import Tuning, allotted, best_of_k, chances, levelled, moderated, ranked
from steprule.races.protocol import Tuned
from steprule.races.statistics import Luck

BATCHES, EACH, STUDIES, SEEDS = 10, 32, 5, 30
"""As the default race."""


@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 1), (7, 3), (7, 7), (12, 5)])
def test_chances_are_those_of_all_choices(n: int, k: int) -> None:
    won = [0] * n
    for chosen in combinations(range(n), k):
        won[min(chosen)] += 1
    assert chances(n, k) == pytest.approx([w / math.comb(n, k) for w in won], rel=CHANCES, abs=0)


def test_chances_of_many() -> None:
    found = chances(320, 64)
    assert found.sum() == pytest.approx(1.0, rel=CHANCES)
    assert found[:2] == pytest.approx([0.2, 0.2 * 256 / 319], rel=CHANCES)


def test_best_of_k_is_the_mean_over_all_choices() -> None:
    rng = np.random.default_rng(0)
    scores, values = rng.random(7), rng.random(7)
    scores[2] = scores[5] = np.inf
    found = best_of_k(scores, values, 7)
    for k in range(1, 8):
        by_hand = [values[min(chosen, key=lambda i: (scores[i], i))] for chosen in combinations(range(7), k)]
        assert found[k - 1] == pytest.approx(np.mean(by_hand), rel=CHANCES)


@pytest.mark.parametrize(("n", "k", "runs"), [(320, 64, 150), (12, 6, 6), (8, 8, 30), (1, 1, 1), (20, 4, 7)])
def test_runs_are_shared_out_by_chance(n: int, k: int, runs: int) -> None:
    """No rank has a run more or less than its share, and the better come first."""
    found = allotted(n, k, runs)
    assert len(found) == runs
    assert (np.diff(found) >= 0).all()
    assert (abs(np.bincount(found, minlength=n) - runs * chances(n, k)) < 1).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_a_seed_adds_to_all_scores_changes_no_rank(sign: float) -> None:
    """Positive scores are multiplied by it, others moved."""
    rng = np.random.default_rng(1)
    scores = np.exp(rng.standard_normal((4, 16))) if sign > 0 else -5 + rng.standard_normal((4, 16))
    scores[1, 3] = scores[2] = np.inf
    own = np.array([0.5, 2.0, 1.0, 7.0])[:, None]
    moved = scores * own if sign > 0 else scores + own
    assert (ranked(scores) == ranked(moved)).all()
    assert np.isinf(levelled(scores)[2]).all()
    assert not np.isnan(levelled(scores)).any()


def _tuning(
    rng: np.random.Generator, best: float, sharpness: list[float], noise: float, common: np.ndarray
) -> tuple[Tuning, np.ndarray]:
    """Trials on a bowl, and their runs on fresh seeds; a batch's seed moves all of its scores."""
    points = np.array([qmc.Sobol(len(sharpness), rng=rng).random(EACH) for _ in range(BATCHES)])
    true = 1.5 * (1 - np.exp(-((points - best) ** 2 * np.array(sharpness)).sum(axis=-1)))
    scores = np.exp(true + noise * (rng.standard_normal(true.shape) + rng.standard_normal((BATCHES, 1))))
    trained = ranked(scores)[allotted(scores.size, 64, STUDIES * SEEDS)]
    own = np.tile(common + 0.5 * noise * rng.standard_normal(SEEDS), STUDIES)
    y = true.ravel()[trained] + own + noise * rng.standard_normal(len(trained))
    return Tuning(scores, trained), y.reshape(STUDIES, SEEDS)


def _differences(
    rng: np.random.Generator, sharpness: list[float], noise: float, count: int, apart: float = 0.1
) -> list[statistics.Difference]:
    found = []
    for _ in range(count):
        common = 0.1 * rng.standard_normal(SEEDS)
        (a, y), (b, z) = (_tuning(rng, best, sharpness, noise, common) for best in (0.45, 0.45 + apart))
        found.append(statistics.difference(y, z, lucks=[a.luck(y), b.luck(z)]))
    return found


def test_the_errors_are_about_the_spread_of_differences() -> None:
    """Of races on a noisy bowl run again and again; they err to the safe side by no more than a half."""
    found = _differences(np.random.default_rng(2), [8.0, 0.3], 0.1, 120)
    assert 0.8 < np.mean([d.error**2 for d in found]) / np.var([d.estimate for d in found]) < 1.6


SURFACES = [
    ([60.0], 0.02),
    ([60.0, 10.0], 0.1),
    ([8.0, 0.3, 0.05], 0.02),
    ([6.0] * 3, 0.05),
    ([60.0, 10.0, 3.0, 1.0, 1.0], 0.2),
]


@pytest.mark.long
def test_intervals_cover_the_truth() -> None:
    """95 % intervals hold the true difference in 93 to 97 % of simulated races."""
    rng = np.random.default_rng(3)
    inside = []
    for sharpness, noise in SURFACES:
        found = _differences(rng, sharpness, noise, 400)
        truth = np.mean([d.estimate for d in found])
        inside += [low <= truth <= high for low, high in (d.interval() for d in found)]
    assert 0.93 <= np.mean(inside) <= 0.97


@pytest.mark.long
def test_copies_are_told_apart_no_more_often_than_stated() -> None:
    rng = np.random.default_rng(4)
    wrong = [
        d.p_beyond(0.0) < 0.05
        for sharpness, noise in SURFACES
        for d in _differences(rng, sharpness, noise, 300, apart=0.0)
    ]
    assert stats.binomtest(int(np.sum(wrong)), len(wrong), 0.065, alternative="greater").pvalue > 0.01
    assert np.mean(wrong) > 0.02  # it is not that nothing is ever told apart


def test_intervals_are_narrower_than_those_of_five_studies() -> None:
    """From as many trainings: the studies' winners alone, as races were judged before."""
    rng = np.random.default_rng(5)
    sharpness, noise = np.array([8.0, 0.3]), 0.1
    before = []
    for _ in range(60):
        common, ys = 0.1 * rng.standard_normal(SEEDS), []
        for best in (0.45, 0.55):
            points = np.array([qmc.Sobol(2, rng=rng).random(64) for _ in range(STUDIES)])
            true = 1.5 * (1 - np.exp(-((points - best) ** 2 * sharpness).sum(axis=-1)))
            won = true[np.arange(STUDIES), np.argmin(true + noise * rng.standard_normal(true.shape), axis=1)]
            ys.append(
                won[:, None]
                + common
                + 0.5 * noise * rng.standard_normal(SEEDS)
                + noise * rng.standard_normal((STUDIES, SEEDS))
            )
        before.append(np.ptp(statistics.difference(*ys).interval()))
    now = [np.ptp(d.interval()) for d in _differences(rng, [8.0, 0.3], 0.1, 60)]
    assert np.mean(now) < 0.85 * np.mean(before)


@pytest.mark.parametrize("studies", [1, 2])
def test_one_study_tells_no_luck(studies: int) -> None:
    protocol = Tuned(trials=6, studies=studies, fresh=4)
    scores = np.random.default_rng(6).random((protocol.batches, protocol.batch))
    trained = ranked(scores)[allotted(scores.size, 6, studies * 4)]
    luck = Tuning(scores, trained).luck(np.random.default_rng(7).standard_normal((studies, 4)))
    assert np.isfinite(luck.variance) == (studies > 1)


@pytest.mark.parametrize("trials", [1, 2, 15, 16, 17, 64])
@pytest.mark.parametrize("seeds", [2, 30])
def test_where_every_setting_does_the_same_there_is_no_luck(trials: int, seeds: int) -> None:
    """As where nothing is searched, or all diverge: rounding would count as luck, and unlike the others', which then lend nothing."""
    protocol = Tuned(trials, 3, seeds)
    y = np.tile(np.log(np.random.default_rng(10).random(seeds)), (3, 1))
    for scores in (
        np.full((protocol.batches, protocol.batch), 1.7),
        np.full((protocol.batches, protocol.batch), np.inf),
    ):
        trained = ranked(scores)[allotted(scores.size, trials, 3 * seeds)]
        assert Tuning(scores, trained).luck(y).variance == 0


@pytest.mark.parametrize(
    ("trials", "studies", "batch", "batches"),
    [(64, 5, 32, 10), (16, 2, 8, 4), (15, 3, 15, 3), (6, 2, 6, 2), (1, 1, 1, 1), (64, 1, 32, 2)],
)
def test_how_trials_are_batched(trials: int, studies: int, batch: int, batches: int) -> None:
    protocol = Tuned(trials, studies, 3, 100)
    assert (protocol.batch, protocol.batches) == (batch, batches)
    assert protocol.batch * protocol.batches == trials * studies
    assert list(protocol.tuning_seeds) == list(range(100, 100 + batches))
    assert list(protocol.fresh_seeds) == list(range(100 + batches, 103 + batches))


def test_a_batch_in_which_all_diverged_recommends_nothing() -> None:
    protocol, lr = Tuned(4, 3, 2), np.geomspace(1e-4, 10, 12)
    batch, trial = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)
    loss = np.full(12, np.nan)
    loss[6] = 0.5
    results = {"train": loss, "validation": loss, "initial": np.ones(12), "died_at": np.isnan(loss).astype(int)}
    found = Phase("tune-0", {}, Lanes(np.full(12, "trial"), batch, trial, batch, {"lr": lr}), results)
    assert (protocol.recommended(found), protocol.chosen(found).tolist()) == (6, [6])
    gone = replace(found, results={**results, "validation": np.full(12, np.inf)})
    assert protocol.chosen(gone).tolist() == [0, 4, 8]


def test_lucks_that_are_alike_lend_one_another_all_they_may() -> None:
    """Variances of 7 degrees of freedom around one of 2: each becomes nearly the mean, with as much freedom as the others have more."""
    rng = np.random.default_rng(8)
    own = [Luck(float(2 * rng.chisquare(7) / 7), 7.0) for _ in range(14)]
    found = moderated(own)
    assert np.std([v.variance for v in found]) < 0.6 * np.std([v.variance for v in own])
    assert all(7 < v.freedom <= 7 + 13 * 7 / 2 for v in found)
    assert 1.4 < np.mean([v.variance for v in found]) < 2.6


def test_lucks_that_differ_by_far_keep_what_they_are() -> None:
    """The small ones are taken for a little larger, and none for smaller."""
    own = [Luck(10.0**k, 7.0) for k in range(-8, 8)]
    found = moderated(own)
    assert all(after.freedom < 7.5 for after in found)
    assert all(after.variance > 0.9 * before.variance for before, after in zip(own, found, strict=True))
    assert all(after.variance < 1.1 * before.variance for before, after in zip(own[8:], found[8:], strict=True))


def test_what_is_not_known_lends_nothing() -> None:
    few = [Luck(1.0, 7.0), Luck(2.0, 7.0)]
    assert moderated(few) == few
    unknown, none = Luck(np.inf, 1.0), Luck(0.0, 7.0)
    found = moderated([*few, unknown, none, Luck(1.5, 7.0)])
    assert (found[2], found[3]) == (unknown, none)
    assert found[0].freedom > 7


def test_a_prior_is_found_again() -> None:
    """Variances drawn around an inverse chi-square of 6 degrees of freedom and scale 3, with 7 of their own: Smyth's estimate of 6."""
    rng = np.random.default_rng(9)
    true = 3 * 6 / rng.chisquare(6, 4000)
    own = [Luck(float(v * rng.chisquare(7) / 7), 7.0) for v in true]
    found = moderated(own)
    assert 5 < 2 * (found[0].freedom - 7) < 7  # half of it is lent
    raw = np.mean([(np.log(v.variance) - np.log(t)) ** 2 for v, t in zip(own, true, strict=True)])
    assert np.mean([(np.log(v.variance) - np.log(t)) ** 2 for v, t in zip(found, true, strict=True)]) < 0.8 * raw
