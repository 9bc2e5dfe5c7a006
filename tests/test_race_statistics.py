"""The race's statistics, tested as statistics: how often they err where the truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from scipy import stats
from scipy.stats import qmc
from thinning import thinned
from tolerances import ROUNDED64

import steprule
from steprule import races, rules
from steprule.hyper import FirstMoment, Rate, Search, SecondMoment
from steprule.maths import sqrt
from steprule.races import statistics

STUDIES, FRESH = 5, 30


def _tuned(rng: np.random.Generator, sharpness: np.ndarray, best: float, trials: int, noise: float) -> float:
    """The true outcome of the winner of a study on a bowl, chosen by one noisy look at each trial."""
    points = qmc.Sobol(len(sharpness), rng=rng).random_base2(int(np.log2(trials)))
    true = 1.5 * (1 - np.exp(-((points - best) ** 2 * sharpness).sum(axis=1)))
    return float(true[np.argmin(true + noise * rng.standard_normal(trials))])


def _simulated(rng: np.random.Generator, sharpness: list[float], noise: float, count: int) -> list[np.ndarray]:
    """Outcomes [studies, seeds] of competitors that differ only in where their best setting lies."""
    common = 0.1 * rng.standard_normal(FRESH)
    found = []
    for k in range(count):
        tuned = [_tuned(rng, np.array(sharpness), 0.4 + 0.1 * k, 32, noise) for _ in range(STUDIES)]
        own = noise * rng.standard_normal((STUDIES, FRESH)) + 0.5 * noise * rng.standard_normal(FRESH)
        found.append(np.array(tuned)[:, None] + common + own)
    return found


SURFACES = [([60.0], 0.02), ([60.0, 10.0], 0.1), ([8.0, 0.3, 0.05], 0.02), ([8.0, 0.3], 0.1), ([6.0, 6.0, 6.0], 0.05)]


@pytest.mark.long
def test_intervals_cover_the_truth_with_the_luck_of_tuning() -> None:
    """95 % intervals hold the true difference in 93 to 97 % of simulated races; without tuning's luck in far fewer."""
    rng = np.random.default_rng(0)
    inside, naive = [], []
    for sharpness, noise in SURFACES:
        found = [_simulated(rng, sharpness, noise, 2) for _ in range(500)]
        differences = [statistics.difference(a, b) for a, b in found]
        truth = np.mean([d.estimate for d in differences])
        inside += [low <= truth <= high for low, high in (d.interval() for d in differences)]
        for a, b in found:
            gaps = (a - b).mean(axis=0)
            reach = stats.t.ppf(0.975, FRESH - 1) * gaps.std(ddof=1) / np.sqrt(FRESH)
            naive.append(abs(gaps.mean() - truth) <= reach)
    assert 0.93 <= np.mean(inside) <= 0.97
    assert np.mean(naive) < 0.9


@pytest.mark.long
def test_copies_are_told_apart_no_more_often_than_stated() -> None:
    """Four copies with tunings of their own: in at most 5 % of simulated races any two are called different."""
    rng = np.random.default_rng(1)
    wrong = []
    for sharpness, noise in SURFACES:
        for _ in range(200):
            copies = [np.roll(y, k, axis=0) for k, y in enumerate(_copies(rng, sharpness, noise))]
            p = [statistics.difference(copies[i], copies[j]).p_beyond(0.0) for i in range(4) for j in range(i)]
            wrong.append(min(statistics.holm(p)) < 0.05)
    assert stats.binomtest(int(np.sum(wrong)), len(wrong), 0.05, alternative="greater").pvalue > 0.01
    assert np.mean(wrong) > 0.002  # it is not that nothing is ever told apart


def _copies(rng: np.random.Generator, sharpness: list[float], noise: float) -> Iterator[np.ndarray]:
    common = 0.1 * rng.standard_normal(FRESH)
    for _ in range(4):
        tuned = [_tuned(rng, np.array(sharpness), 0.45, 32, noise) for _ in range(STUDIES)]
        yield np.array(tuned)[:, None] + common + noise * rng.standard_normal((STUDIES, FRESH))


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(2)
    a, b = _simulated(rng, [8.0, 0.3], 0.02, 2)
    found = statistics.difference(a + 0.3, b)
    assert found.p_beyond(0.01) < 0.001
    assert found.p_within(0.01) == 1.0
    same = statistics.difference(a, a + 1e-4 * rng.standard_normal(a.shape))
    assert same.p_within(0.2) < 0.05
    assert same.p_beyond(0.01) == 1.0


def test_one_study_tells_nothing() -> None:
    y = np.random.default_rng(0).standard_normal((1, 30))
    found = statistics.difference(y, y + 5)
    assert found.interval() == (-np.inf, np.inf)
    assert found.p_beyond(0.0) == 1.0


def test_holm_is_the_textbooks() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02], rel=ROUNDED64)
    assert len(statistics.holm([])) == 0


def test_profiles_are_dolan_and_mores() -> None:
    taus, shares = statistics.profile(np.array([[1.0, 4.0, np.inf], [2.0, 2.0, np.inf], [np.inf, 8.0, np.inf]]))
    assert taus.tolist() == [1.0, 2.0, 4.0]
    assert shares.tolist() == [
        pytest.approx([1 / 3, 2 / 3, 2 / 3], rel=ROUNDED64),
        pytest.approx([1 / 3, 2 / 3, 2 / 3], rel=ROUNDED64),
        pytest.approx([0, 0, 1 / 3], rel=ROUNDED64),
    ]


def test_rank_agreement() -> None:
    rng = np.random.default_rng(0)
    base = [np.full((3, 10), k) + 0.01 * rng.standard_normal((3, 10)) for k in range(5)]
    sure = [[statistics.luck_of_rows(y) for y in cell] for cell in (base, base)]
    assert statistics.rank_agreement([base, base], sure) == (1.0, 1.0, 1.0)
    tau, low, high = statistics.rank_agreement([base, base[::-1]], [sure[0], sure[1][::-1]])
    assert (tau, low, high) == (-1.0, -1.0, -1.0)
    noise = [[rng.standard_normal((3, 10)) for _ in range(5)] for _ in range(3)]
    tau, low, high = statistics.rank_agreement(noise, [[statistics.luck_of_rows(y) for y in cell] for cell in noise])
    assert low <= tau <= high
    assert high - low > 0.3


def test_who_diverged_has_learnt_nothing() -> None:
    y = statistics.outcome(np.array([0.1, np.nan, 9.0, 1e-30]), np.full(4, 2.0), np.array([False, True, True, False]))
    assert np.exp(y) == pytest.approx([0.1, 2.0, 2.0, 2e-6], rel=ROUNDED64)


# Real small races.

SMALL: dict[str, Any] = {"trials": 8, "seeds": 4, "fresh": 8, "schedules": ["linear"], "epochs": 1, "workers": 1}


@steprule.rule
def nothing(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    """A rule that does not move."""
    return p + 0 * lr * g


@steprule.rule
def hidden(
    p,
    g,
    exp_avg: FirstMoment,
    exp_avg_sq: SecondMoment,
    *,
    lr: Rate = 0.001,
    beta1: Annotated[float, Search(0.5, 0.9999, "complement")] = 0.95,
    beta2: Annotated[float, Search(0.5, 0.9999, "complement")] = 0.95,
    eps: Annotated[float, Search(1e-10, 1e-3)] = 1e-5,
    t,
):  # type: ignore[no-untyped-def]
    """Adam whose author knows good settings: a learning rate thirty times the one that is said, and better defaults."""
    exp_avg = beta1 * exp_avg + (1 - beta1) * g
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    m_hat = exp_avg / (1 - beta1**t)
    v_hat = exp_avg_sq / (1 - beta2**t)
    return p - 30 * lr * m_hat / (sqrt(v_hat) + eps), exp_avg, exp_avg_sq


NARROWED = races.Competitor(
    "adam", {"lr": Search(0.02, 0.04), "beta1": Search(0.9, 0.92, "complement"), "beta2": Search(0.95, 0.99, "complement"),
             "eps": Search(1e-8, 2e-8)}, label="narrowed",
)  # fmt: skip
COPY = races.Competitor("adam", label="copy")


def _differences(
    rival: Any, count: int, problem: str = "airfoil-linear", **settings: Any
) -> tuple[np.ndarray, list[str]]:
    """The difference of a rival from Adam in independent races, and the verdicts."""
    found, verdicts = [], []
    for k in range(count):
        result = races.race(["adam", rival], problem, first_seed=1_000 * k, matters=0.0, **{**SMALL, **settings})
        (cell,) = result.cells
        pair = cell.pairs[0]
        found.append(pair.difference.estimate * (1 if pair.first == "adam" else -1))
        verdicts.append(pair.verdict())
    return np.array(found), verdicts


@pytest.mark.parametrize(
    "rival", thinned([NARROWED, COPY, hidden], 3, ["a narrowed space", "a copy", "a hidden default"])
)
def test_nobody_gains_by_what_is_no_better(rival: Any) -> None:
    """A handful of races; the long test below runs hundreds."""
    differences, verdicts = _differences(rival, 5)
    assert verdicts.count("real") <= 1
    _check_no_gain(differences, rival, 0.01)


def _check_no_gain(differences: np.ndarray, rival: Any, level: float) -> None:
    """A copy is neither better nor worse; the others may be worse, for a few trials find the one best more easily."""
    side = "two-sided" if rival is COPY else "less"
    assert stats.ttest_1samp(differences, 0.0, alternative=side).pvalue > level


def test_a_rule_that_does_nothing_never_wins() -> None:
    result = races.race([nothing, "sgd", "adam"], "airfoil-linear", **SMALL)
    (cell,) = result.cells
    assert cell.standings[-1].label == "nothing"
    assert cell.pair("adam", "nothing").verdict() == "real"
    assert cell.standings[-1].to_target == np.inf


def _space(given: Any) -> Any:
    spec = races.spec.spec_of(  # type: ignore[attr-defined]
        [given], "airfoil-linear", trials=1, seeds=1, fresh=1, schedules=["linear"], epochs=None, batch_size=None,
        compile=False, device="cpu",
    )  # fmt: skip
    return spec.entrants[0].space


def test_a_narrowed_space_is_widened_to_the_rules_own() -> None:
    assert _space(NARROWED) == _space("adam")
    assert (_space("adam")["lr"].low, _space("adam")["lr"].high) == (1e-5, 10.0)


def test_a_rule_whose_author_names_narrow_ranges_is_searched_as_widely_as_their_kind_asks() -> None:
    def known(p, g, *, lr: Rate = 0.03, keep: Annotated[float, Search(0.9, 0.92, "complement")] = 0.9,
              small: Annotated[float, Search(1e-8, 2e-8)] = 1e-8):  # type: ignore[no-untyped-def]  # fmt: skip
        return p - lr * keep * g / (abs(g) + small)

    space = _space(steprule.rule(known))
    assert space["keep"] == Search(0.5, 0.999, "complement")
    assert space["small"].high / space["small"].low == pytest.approx(1e4, rel=ROUNDED64)


def test_a_range_of_another_scale_or_wider_than_the_rules_own_stays() -> None:
    wide = races.Competitor("adam", {"beta1": Search(0.1, 0.99999, "complement"), "eps": Search(0.1, 0.6, "linear")})
    assert _space(wide)["beta1"] == Search(0.1, 0.99999, "complement")
    assert _space(wide)["eps"].scale == "linear"


@pytest.mark.parametrize("name", rules.names())
def test_every_rule_has_a_space(name: str) -> None:
    from steprule.races import spaces

    rule = rules.get(name)
    found = spaces.space_of(rule)
    assert found["lr"] == spaces.RATE
    for hyper, search in found.items():
        for share in (0.0, 0.3, 1 - 1e-9):
            rule.hyper(hyper).validate(search.at(share), name)


@pytest.mark.long
@pytest.mark.parametrize(
    ("rival", "problem"),
    [(COPY, "airfoil-linear"), (hidden, "airfoil-linear"), (NARROWED, "airfoil-linear"), (COPY, "digits-softmax")],
)
def test_real_races_err_no_more_often_than_stated(rival: Any, problem: str) -> None:
    """Copies, and Adam in disguise: a "real" difference in no more than 5 % of races; 95 % intervals cover."""
    settings = {"batch_size": 100} if problem == "digits-softmax" else {}
    count = 200 if problem == "airfoil-linear" else 60
    differences, verdicts = _differences(rival, count, problem, **settings)
    assert stats.binomtest(verdicts.count("real"), count, 0.05, alternative="greater").pvalue > 0.01
    _check_no_gain(differences, rival, 0.001)


@pytest.mark.long
def test_real_intervals_cover() -> None:
    """Adam against gradient descent, 300 independent races: their 95 % intervals hold the mean of all in 93 to 97 %, give or
    take what 300 races can tell."""
    pairs = []
    for k in range(300):
        result = races.race(["adam", "sgd"], "airfoil-linear", first_seed=1_000 * k, **SMALL)
        a, b = (result.outcomes("airfoil-linear", "linear", n) for n in ("adam", "sgd"))
        pairs.append(statistics.difference(a, b))
    truth = np.mean([p.estimate for p in pairs])
    covered = sum(low <= truth <= high for low, high in (p.interval() for p in pairs))
    low, high = stats.binomtest(covered, len(pairs)).proportion_ci(0.99)
    print(f"covered {covered} of {len(pairs)}: {low:.3f} to {high:.3f}")  # noqa: T201
    assert low <= 0.97
    assert high >= 0.93
