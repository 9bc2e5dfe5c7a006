"""The statistics of `judge`, tested as statistics: how often it errs where the truth is known, and against other people's code."""

from __future__ import annotations

import json
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from by_path import module_at
from scipy import stats
from tolerances import JUDGED_PERCENT, POWER_PROMISED, ROUNDED64

from steprule.races import power as powers, statistics
from steprule.races.judging import Runs, judged
from steprule.races.judging.ranks import Shift, rank_sum, signed_rank

bench = module_at("benchmarks/judge.py")
LEVEL = 0.05


def tables(kind: str, count: int, seed: int, **how: object) -> list[object]:
    rng = np.random.default_rng([seed, bench.KINDS.index(kind)])
    return [
        bench.drawn(
            rng,
            kind,
            **{"paired": bool(k % 2), "null": True, "methods": 2 + k % 4, "seeds": (3, 5, 10, 30)[k // 2 % 4]} | how,
        )
        for k in range(count)
    ]


@pytest.mark.parametrize("kind", bench.KINDS)
def test_equal_methods_are_told_apart_no_more_often_than_stated(kind: str) -> None:
    """In at most 5 % of tables of equal methods any pair is called real, though any difference would matter."""
    wrong = [any(bench.by_judge(table).values()) for table in tables(kind, 240, 0)]
    assert stats.binomtest(sum(wrong), len(wrong), LEVEL, alternative="greater").pvalue > 0.01
    assert sum(wrong) > 0  # it is not that nothing is ever told apart


def test_a_difference_is_found_and_in_the_right_order() -> None:
    found, wrong = 0, 0
    for table in tables("equal spread", 60, 1, null=False, seeds=20, methods=3):
        for (i, j), verdict in bench.by_judge(table).items():
            right = np.sign(table.truth[j] - table.truth[i])
            found += verdict == right
            wrong += verdict == -right
    assert found > 90
    assert wrong <= LEVEL * 60


@pytest.mark.parametrize("paired", [True, False])
def test_same_is_said_wrongly_in_one_of_twenty_at_most(paired: bool) -> None:
    """Two methods that differ by exactly what matters are called the same in at most 5 %; equal ones often, with enough runs."""
    rng = np.random.default_rng(2)
    said = {}
    for truth in (0.0, np.log1p(0.02)):
        same = []
        for _ in range(300):
            common = 0.05 * rng.standard_normal(12) if paired else 0.0
            y = 0.008 * rng.standard_normal((2, 12)) + np.array([[0.0], [truth]]) + common
            same.append(judged(runs(np.exp(y), paired), 0.02).pairs[0].verdict == "same")
        said[truth] = np.mean(same)
    assert said[0.0] > 0.9
    assert said[np.log1p(0.02)] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


def runs(losses: np.ndarray, paired: bool = False) -> Runs:
    methods, seeds = losses.shape
    return Runs(
        method=np.repeat(list("abcdefgh"[:methods]), seeds), problem=np.full(losses.size, ""), value=losses.ravel(),
        seed=np.tile([str(s) for s in range(seeds)], methods) if paired else None,
    )  # fmt: skip


@pytest.mark.parametrize("paired", [True, False])
def test_p_values_are_scipys(paired: bool) -> None:
    rng = np.random.default_rng(3)
    losses = np.exp(0.1 * rng.standard_normal((4, 6)) * np.array([[1], [2], [3], [1]]))
    found = judged(runs(losses, paired), 0.0)
    test = stats.ttest_rel if paired else (lambda a, b: stats.ttest_ind(a, b, equal_var=False))
    both = [(ord(p.a) - 97, ord(p.b) - 97) for p in found.pairs]
    raw = [float(test(np.log(losses[i]), np.log(losses[j])).pvalue) for i, j in both]
    assert [p.p_real for p in found.pairs] == pytest.approx(statistics.holm(raw), rel=ROUNDED64)
    for pair, (i, j) in zip(found.pairs, both, strict=True):
        result = test(np.log(losses[j]), np.log(losses[i])).confidence_interval(0.95)
        assert (pair.low, pair.high) == pytest.approx([100 * np.expm1(v) for v in result], rel=JUDGED_PERCENT)


def test_a_rank_sum_is_exact_with_and_without_ties() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal(6), rng.standard_normal(7)
    assert rank_sum(b, a) == pytest.approx(
        stats.mannwhitneyu(b, a, alternative="greater", method="exact").pvalue, rel=ROUNDED64
    )
    a[[0, 3]], b[[1, 2, 5]] = np.inf, np.inf
    ranks = stats.rankdata(np.concatenate([b, a]))
    every = [sum(ranks[list(chosen)]) for chosen in combinations(range(13), 7)]
    assert rank_sum(b, a) == pytest.approx(np.mean(np.array(every) >= ranks[:7].sum() - 1e-9), rel=ROUNDED64)


def test_signed_ranks_are_exact_with_and_without_ties() -> None:
    gaps = np.random.default_rng(9).standard_normal(9) + 0.4
    expected = stats.wilcoxon(gaps, alternative="greater", method="exact").pvalue
    assert signed_rank(gaps) == pytest.approx(expected, rel=ROUNDED64)
    gaps[[1, 4]], gaps[5], gaps[7] = np.inf, -np.inf, 0.0
    ranks = stats.rankdata(np.abs(gaps[gaps != 0]))
    got = ranks[gaps[gaps != 0] > 0].sum()
    every = [ranks @ np.array(signs) for signs in product((0, 1), repeat=8)]
    assert signed_rank(gaps) == pytest.approx(np.mean(np.array(every) >= got - 1e-9), rel=ROUNDED64)


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_of_shifts_hold_the_truth(paired: bool) -> None:
    rng = np.random.default_rng(5)
    inside = []
    for k in range(600):
        m, n = 6 + k % 5, 6 + (k % 5 if paired else k % 7)
        low, high = Shift(rng.standard_normal(m), rng.standard_normal(n) + 1.0, paired=paired).interval()
        inside.append(low <= 1.0 <= high)
    assert 0.94 <= np.mean(inside) <= 0.99


def test_a_method_that_always_diverges_is_really_worse_and_two_are_not() -> None:
    losses = np.full((3, 6), np.inf)
    losses[0] = np.linspace(1.0, 1.1, 6)
    pairs = {(p.a, p.b): p for p in judged(runs(losses)).pairs}
    assert pairs["a", "b"].verdict == "real"
    assert pairs["a", "b"].difference == np.inf
    assert pairs["a", "b"].to_dict()["difference"] is None
    assert pairs["b", "c"].verdict == "open"
    assert (pairs["b", "c"].difference, pairs["b", "c"].p_same) == (0.0, 1.0)


def test_the_runs_that_a_pair_needs_do_decide_it() -> None:
    """For a known difference and spread the promised runs find it four times in five; with noise known too."""
    rng = np.random.default_rng(6)
    for gap, spread in ((0.05, 0.05), (0.1, 0.06)):
        needed = int(powers.runs_needed(gap, np.sqrt(2) * spread, 2.0, LEVEL / 2))
        told = []
        for _ in range(400):
            y = spread * rng.standard_normal((2, needed)) + np.array([[0.0], [gap]])
            told.append(judged(runs(np.exp(y)), 0.0).pairs[0].verdict == "real")
        assert POWER_PROMISED[0] <= np.mean(told) <= POWER_PROMISED[1]
    assert (
        powers.runs_needed(1.0, np.sqrt(2), 2.0, 0.025) == 17
    )  # the textbook's n for an effect of one standard deviation
    assert powers.runs_needed(1.0, np.sqrt(2), np.inf, 0.025) == 16
    assert powers.runs_needed(1e-5, 1.0, 2.0, 0.025) == np.inf
    gap = powers.smallest_found(np.sqrt(2), 17, 2.0, 0.025)
    assert 0.98 < gap <= 1.0


def test_an_open_pair_says_how_many_runs_and_a_decided_one_does_not() -> None:
    rng = np.random.default_rng(7)
    y = 0.05 * rng.standard_normal((3, 5)) + np.array([[0.0], [0.03], [0.8]])
    for pair in judged(runs(np.exp(y))).pairs:
        assert (pair.runs_needed is None) == (pair.verdict != "open")
        assert (pair.runs_needed or 6) > 5


def test_known_noise_decides_single_runs() -> None:
    losses = np.array([[1.0], [1.2]])
    (pair,) = judged(runs(losses), 0.0, noise=0.05).pairs
    z = np.log(1.2) / (0.05 * np.sqrt(2))
    assert pair.p_real == pytest.approx(2 * stats.norm.sf(z), rel=ROUNDED64)
    assert pair.how == "known noise"
    assert judged(runs(losses), 0.0, noise=0.3).pairs[0].verdict == "open"


def test_tuning_groups_are_what_is_counted() -> None:
    """Runs that share a tuning share its luck: many seeds of one tuning do not make up for few tunings."""
    rng = np.random.default_rng(8)
    wrong = {"with groups": 0, "without": 0}
    for _ in range(200):
        luck = 0.1 * rng.standard_normal((2, 3, 1))
        y = (luck + 0.02 * rng.standard_normal((2, 3, 10))).reshape(2, 30)
        own = runs(np.exp(y))
        group = np.tile(np.repeat(["1", "2", "3"], 10), 2)
        grouped = Runs(own.method, own.problem, own.value, group=group)
        wrong["with groups"] += judged(grouped, 0.0).pairs[0].verdict == "real"
        wrong["without"] += judged(own, 0.0).pairs[0].verdict == "real"
    assert stats.binomtest(wrong["with groups"], 200, LEVEL, alternative="greater").pvalue > 0.01
    assert wrong["without"] > 60


def test_the_table_that_the_docs_print_is_the_one_measured() -> None:
    root = Path(__file__).parent.parent
    measured = json.loads((root / "benchmarks" / "results" / "judge.json").read_text(encoding="utf-8"))
    assert bench.markdown(measured["found"]) in (root / "docs" / "how-to" / "judge.md").read_text(encoding="utf-8")
