"""What a race could have seen, and what would decide what is open: against drawn differences, and where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pretended import pretended
from scipy import stats

from steprule.races import verdict
from steprule.races.looks import Looked
from steprule.races.power import Power, studies_needed
from steprule.races.statistics import Difference


def _found(rng: np.random.Generator, power: Power, true: float, draws: int) -> float:
    """How often a difference is called real at the first step of Holm's method, its error estimated with as much freedom."""
    errors = power.error * np.sqrt(rng.chisquare(power.freedom, draws) / power.freedom)
    seen = true + power.error * rng.standard_normal(draws)
    beyond = (np.abs(seen) - power.least) / errors
    return float(np.mean((beyond > 0) & (stats.t.sf(beyond, power.freedom) < power.tail)))


@pytest.mark.parametrize("freedom", [5.0, 12.0, 40.0])
def test_the_smallest_difference_is_found_in_four_of_five(freedom: float) -> None:
    rng = np.random.default_rng(0)
    power = Power.of([Looked((Difference(0.1, e, freedom),)) for e in (0.01, 0.02, 0.05)], 3, 5, 0.01)
    assert power is not None
    assert power.error == 0.02
    assert 0.78 < _found(rng, power, power.smallest, 20_000) < 0.82
    for true in (0.03, 0.06, 0.09):
        assert abs(power.chance(true) - _found(rng, power, true, 20_000)) < 0.015
    assert power.chance(power.least) < power.chance(0.03)


def test_more_studies_decide_what_they_say() -> None:
    """With as many studies as are needed four of five races find the difference; with a third of them fewer do."""
    rng = np.random.default_rng(1)
    seen, studies, least, tail = Difference(0.05, 0.03, 12.0), 5, 0.01, 0.05 / 91 / 2
    needed = studies_needed(seen, studies, least, tail)
    assert needed is not None
    assert needed > studies
    for share, low, high in ((1.0, 0.78, 0.84), (1 / 3, 0.0, 0.5)):
        count = round(share * needed)
        error, freedom = seen.error * math.sqrt(studies / count), seen.freedom / (studies - 1) * (count - 1)
        assert low < _found(rng, Power(error, count, freedom, least, tail), 0.05, 20_000) < high


@pytest.mark.parametrize(
    "seen",
    [Difference(0.1, np.inf, 1.0), Difference(0.1, 0.0, 4.0), Difference(0.01, 0.2, 8.0)],
    ids=["no luck known", "no error", "as large as what matters"],
)
def test_where_no_number_of_studies_is_known(seen: Difference) -> None:
    assert studies_needed(seen, 5, 0.01, 0.001) is None


def test_the_verdict_says_what_would_tell() -> None:
    rng = np.random.default_rng(2)
    ends = {n: m * np.exp(0.1 * rng.standard_normal((5, 30))) for n, m in (("a", 0.2), ("b", 0.203), ("c", 0.8))}
    race = pretended(ends, trials=64)
    (cell,) = race.cells
    open_, real = cell.pair("a", "b"), cell.pair("a", "c")
    assert (open_.verdict(), real.verdict()) == ("open", "real")
    assert real.studies_needed is None
    assert open_.studies_needed is not None
    assert open_.studies_needed > 5
    text = " ".join(verdict.in_words(race))
    assert f"b ({open_.studies_needed:,} studies)" in text
    assert f"Four of five such races find a difference of {cell.smallest_found:.3g} %" in text
    assert "94 trainings of each, would tell; here there are 5." in text
    found = race.to_dict()["cells"][0]
    assert found["smallest_found"] == cell.smallest_found
    assert list(found["chance"]) == ["1", "2", "5", "10"]
    assert found["pairs"][0]["studies_needed"] == open_.studies_needed
    assert sorted(found["chance"].values()) == list(found["chance"].values())


def test_one_study_foresees_nothing() -> None:
    race = pretended({"a": np.full((1, 4), 0.2), "b": np.full((1, 4), 0.4)})
    (cell,) = race.cells
    assert (cell.power, cell.smallest_found, cell.chance(5)) == (None, None, None)
    assert cell.pairs[0].studies_needed is None
    assert "such races find" not in " ".join(verdict.in_words(race))
