"""A race until decided: when it looks and what it may spend, who goes on, who leaves and comes back, and that it can be interrupted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pretended import Loss, made_up
from tolerances import ROUNDED64

import steprule
from steprule import races
from steprule.cli import main
from steprule.errors import StepruleError
from steprule.races import spec as specs
from steprule.races.cell import Pair
from steprule.races.deciding import Looking
from steprule.races.looks import Looked, looks, shares
from steprule.races.measure import Scale
from steprule.races.power import Power
from steprule.races.runner import Onward
from steprule.races.statistics import Difference, averaged
from steprule.sizes import STAGES

REAL: dict[str, Any] = {"trials": 8, "seeds": 3, "fresh": 4, "epochs": 1, "schedules": ["linear"], "workers": 1}
MADE: dict[str, Any] = {
    "trials": 8, "seeds": 4, "fresh": 6, "schedules": ["linear"], "workers": 1, "compile": False, "until": "decided",
}  # fmt: skip
SEEDS = 4 + 6
"""Of one stage: of the batches of its tunings, and the fresh ones."""


def among(means: Mapping[str, float], noise: float = 0.02) -> Loss:
    """Losses around these means, the same in every stage."""
    return lambda label, seed, rng: means[label] * float(np.exp(noise * rng.standard_normal()))


def of(*labels: str) -> list[races.Competitor]:
    return [races.Competitor("sgd", label=label) for label in labels]


def stages(race: races.Race) -> dict[str, int]:
    """By label how many each has, in its only cell."""
    return {s.label: s.stages for s in race.cells[0].standings}


# Looks.


@pytest.mark.parametrize(
    ("most", "at"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9))]
)
def test_looks_double_and_spend_all_of_the_error_once(most: int, at: tuple[int, ...]) -> None:
    assert looks(most) == at
    assert sum(shares(most).values()) == pytest.approx(1.0, rel=ROUNDED64)
    spent = np.cumsum(list(shares(most).values()))
    assert spent == pytest.approx([n / most for n in at], rel=ROUNDED64)


def test_a_race_that_looks_once_says_what_its_difference_says() -> None:
    seen = Difference(0.1, 0.03, 7.0)
    alone = Looked((seen,))
    assert alone.difference is seen
    assert alone.p_beyond(0.01) == seen.p_beyond(0.01)
    assert Looked((seen,), STAGES).p_beyond(0.01) == pytest.approx(STAGES * seen.p_beyond(0.01), rel=ROUNDED64)
    assert alone.turned.difference.estimate == -0.1


def test_the_mean_of_stages_has_the_error_and_the_freedom_that_it_has() -> None:
    """Drawn differences of unequal errors: intervals hold the truth as often as they say."""
    rng = np.random.default_rng(0)
    spreads, freedom, held = np.array([0.01, 0.02, 0.05]), 6, 0
    for _ in range(4_000):
        errors = spreads * np.sqrt(rng.chisquare(freedom, 3) / freedom)
        found = averaged(
            [
                Difference(float(s * rng.standard_normal()), float(e), freedom)
                for s, e in zip(spreads, errors, strict=True)
            ]
        )
        low, high = found.interval()
        held += low <= 0 <= high
    assert 0.94 < held / 4_000 < 0.965
    assert not averaged([Difference(0.1, 0.1, 3.0), Difference(0.1, np.inf, 1.0)]).known


def test_over_all_looks_a_null_pair_is_called_real_seldom_enough() -> None:
    """At each of 1, 2, 4 and 8 stages, whenever it stops: no more than 5 %, and more than half of it is used."""
    rng = np.random.default_rng(1)
    freedom, wrong, races_ = 12, 0, 3_000
    for _ in range(races_):
        errors = np.sqrt(rng.chisquare(freedom, STAGES) / freedom)
        drawn = tuple(Difference(float(rng.standard_normal()), float(e), freedom) for e in errors)
        wrong += any(Looked(drawn[:n], STAGES).p_beyond(0.0) < 0.05 for n in looks(STAGES))
    assert 0.025 < wrong / races_ < 0.05 + 2 * np.sqrt(0.05 * 0.95 / races_)


def test_power_counts_the_stages_and_the_look() -> None:
    stage = Difference(0.02, 0.02, 12.0)
    once, often = (Power.of([Looked((stage,) * n, STAGES)] * 3, 3, 5, 0.01) for n in (1, 8))
    assert once is not None
    assert often is not None
    assert (once.studies, often.studies) == (5, 40)
    assert once.tail == pytest.approx(0.05 / 3 / 2 / 8, rel=ROUNDED64)
    assert often.tail == pytest.approx(0.05 / 3 / 2 / 2, rel=ROUNDED64)
    assert often.smallest < once.smallest / 2


# Who goes on.


def test_what_is_plain_is_decided_at_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = made_up(monkeypatch, among({"a": 1.0, "b": 2.0, "c": 3.0}))
    race = races.race(of("a", "b", "c"), "airfoil-linear", **MADE)
    assert stages(race) == {"a": 1, "b": 1, "c": 1}
    assert race.cells[0].undecided == []
    assert "Decided after 1 stage of at most 8." in races.in_words(race)[0]
    assert sum(len(block.lanes) for block in trained) == race.lanes == race.trained


def test_losers_leave_and_who_is_open_goes_on_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, among({"a": 1.0, "b": 1.001, "c": 2.0}))
    race = races.race(of("a", "b", "c"), "airfoil-linear", **MADE, matters=0.0)
    assert stages(race) == {"a": STAGES, "b": STAGES, "c": 1}
    words = races.in_words(race)[0]
    assert "Not decided after 8 stages of at most 8: " in words
    assert "Left after 1: c." in words
    assert race.cells[0].pair("a", "c").verdict() == "real"
    assert [f"({c.problem}, {c.schedule})" for c in race.cells] == ["(airfoil-linear, linear)"]
    assert "airfoil-linear, linear (8)" in race.cited().methods
    assert "Lan and DeMets, 1983" in race.cited().methods


def test_a_difference_that_one_stage_leaves_open_is_found_later(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, among({"a": 1.0, "b": 1.06}, noise=0.15))
    race = races.race(of("a", "b"), "airfoil-linear", **MADE)
    assert 1 < stages(race)["b"] <= STAGES
    assert stages(race)["a"] == stages(race)["b"]
    pair = race.cells[0].pair("a", "b")
    assert pair.verdict() == "real"
    _, low, high = pair.percent
    assert low is not None
    assert high is not None
    assert low < 6 < high


def test_two_that_are_alike_are_called_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, among({"a": 1.0, "b": 1.0}, noise=0.01))
    race = races.race(of("a", "b"), "airfoil-linear", **MADE, matters=0.05)
    assert race.cells[0].pairs[0].verdict() == "same"
    assert race.cells[0].undecided == []


def test_who_left_comes_back_for_another_lowest(monkeypatch: pytest.MonkeyPatch) -> None:
    """c is really above a, and leaves. Then b is the lowest, from which one stage does not tell c: it makes up for what it lacks."""

    def loss(label: str, seed: int, rng: np.random.Generator) -> float:
        noise = {"a": 0.001, "b": 0.9, "c": 0.001}[label]
        mean = {"a": 1.0 if seed < SEEDS else 5.0, "b": 1.3, "c": 2.0}[label]
        return mean * float(np.exp(noise * rng.standard_normal()))

    made_up(monkeypatch, loss)
    seen: list[dict[str, int]] = []
    look = Looking.look

    def watched(self: Looking, phases: Any, seconds: Any, trained: float) -> Onward:
        found = look(self, phases, seconds, trained)
        seen.append({chain.label: count for chain, count in found.stages.items()})
        return found

    monkeypatch.setattr(Looking, "look", watched)
    race = races.race(of("a", "b", "c"), "airfoil-linear", **MADE)
    assert "c" not in seen[0]
    assert {"a", "b"} == set(seen[0])
    again = next(own for own in seen[1:] if "c" in own)
    assert again == {"c": 2}
    assert race.cells[0].standings[0].label == "b"
    assert stages(race)["c"] >= 2


@pytest.mark.parametrize("seed", range(4))
def test_who_left_after_easy_seeds_is_not_the_lowest(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """The seeds of the first stage are easier for everybody, so that who left after it has a lower mean than those that stayed."""

    def loss(label: str, number: int, rng: np.random.Generator) -> float:
        common = -0.3 if number < SEEDS else 0.15 * float(np.random.default_rng([seed, number]).standard_normal())
        return {"a": 1.0, "b": 1.001, "c": 1.2}[label] * float(np.exp(common + 0.02 * rng.standard_normal()))

    made_up(monkeypatch, loss)
    race = races.race(of("a", "b", "c"), "airfoil-linear", **MADE, matters=0.0)
    (cell,) = race.cells
    assert stages(race) == {"a": STAGES, "b": STAGES, "c": 1}
    assert cell.standings[-1].label == "c"
    first = cell.standings[0]
    assert 1.15 < cell.standings[-1].loss / first.loss < 1.25
    assert [p.second for p in cell.undecided] == [cell.standings[1].label]
    assert "Really above it: c +" in races.in_words(race)[0]


def test_what_looks_contradict_each_other_about_is_open() -> None:
    """Real at the first look, then the other direction, or within what matters."""
    early = Difference(0.03, 0.003, 12.0)
    turned = Looked((early, *[Difference(-0.012, 0.003, 12.0)] * 7), STAGES)
    assert turned.difference.estimate < 0
    assert turned.p_beyond(0.01) > 0.05 > Looked((early,), STAGES).p_beyond(0.01)
    shrunk = Looked((early, *[Difference(0.003, 0.003, 12.0)] * 7), STAGES)
    real, same = shrunk.p_beyond(0.01), shrunk.p_within(0.01)
    assert max(real, same) < 0.05
    assert Pair("a", "b", shrunk.difference, Scale(), real, same).verdict() == "open"


def test_nothing_is_learnt_of_two_that_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identical to the bit, and every difference matters: no stage could decide it."""
    made_up(monkeypatch, lambda label, seed, rng: 1.0 + 0.1 * np.random.default_rng(seed).random())
    race = races.race(of("a", "b"), "airfoil-linear", **MADE, matters=0.0)
    assert set(stages(race).values()) == {1}


def test_one_rule_alone_is_not_said_to_be_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, among({"a": 1.0}))
    words = races.in_words(races.race(of("a"), "airfoil-linear", **MADE))[0]
    assert "nobody to compare it with" in words
    assert "ecided" not in words


def test_nobody_learnt_anything_and_the_race_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, lambda label, seed, rng: 11.0)
    race = races.race(of("a", "b"), "airfoil-linear", **MADE)
    assert set(stages(race).values()) == {1}
    assert "nobody learnt anything" in races.in_words(race)[0]


def test_cells_are_decided_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, among({"a": 1.0, "b": 1.001}))
    hard = {**MADE, "schedules": ["constant", "linear"], "matters": 0.0}
    race = races.race(of("a", "b"), ["airfoil-linear", "digits-softmax"], **hard)
    assert {c.stages for c in race.cells} == {STAGES}
    overall = [p.p_overall for c in race.cells for p in c.pairs]
    assert all(p.p_real <= q for p, q in zip([p for c in race.cells for p in c.pairs], overall, strict=True))


# Real trainings.


def test_stages_are_races_on_other_seeds_in_one_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specs, "STAGES", 3)
    race = races.race(["sgd", "adam"], "airfoil-linear", until="decided", matters=0.0, **REAL)
    own = race.stages("airfoil-linear", "linear", "adam")
    assert len(own) > 1
    seeds = [set(p.lanes.seed.tolist()) for stage in own for p in (stage.tuned, stage.last)]
    assert sum(map(len, seeds)) == len(set().union(*seeds))
    assert len({tuple((n, r.low, r.high) for n, r in stage.tuned.space.items()) for stage in own}) == 1
    points = np.concatenate([stage.tuned.lanes.hypers["lr"] for stage in own])
    assert len(np.unique(points)) == len(points)
    assert (own[1].last.lanes.role == "rate").sum() == 0 < (own[0].last.lanes.role == "rate").sum()
    fixed = races.race(["sgd", "adam"], "airfoil-linear", **REAL)
    for mine, theirs in zip(own[0].phases, fixed.chain("airfoil-linear", "linear", "adam"), strict=True):
        assert mine.name == theirs.name
        assert np.array_equal(mine.results["test"], theirs.results["test"])
    second = races.race(["sgd", "adam"], "airfoil-linear", first_seed=3 + 4, **REAL)
    *_, tuned, _ = second.chain("airfoil-linear", "linear", "adam")
    if tuned.space == own[1].tuned.space:
        assert np.array_equal(tuned.results["validation"], own[1].tuned.results["validation"])


@pytest.mark.slow
def test_workers_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specs, "STAGES", 2)
    for workers in (1, 2):
        how = {**REAL, "workers": workers, "until": "decided", "matters": 0.0, "schedules": ["constant", "linear"]}
        races.race(["sgd", "adam"], "airfoil-linear", out=tmp_path / str(workers), **how)
    one, two = ((tmp_path / str(workers) / "results.parquet").read_bytes() for workers in (1, 2))
    assert one == two


# The command line, and what is refused.


def test_the_command_line_and_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made_up(monkeypatch, among({"sgd": 1.0, "adam": 1.001, "lion": 2.0}))
    typed = ["race", "sgd", "adam", "lion", "--on", "airfoil-linear", "--schedule", "linear", "--trials", "8", "--seeds", "4",
             "--fresh", "6", "--until", "decided", "--matters", "0", "--workers", "1"]  # fmt: skip
    assert main([*typed, "--dry-run"]) == 0
    assert "nothing is decided before the last stage" in capsys.readouterr().out
    assert main([*typed, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (cell,) = found["cells"]
    assert cell["stages"] == STAGES
    assert cell["undecided"]
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert "all of it again on other seeds, at most 8 times" in page
    # More time for the same race is the same folder.
    assert main([*typed, "--budget", "1h", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trained"] == 0
    assert len(list(Path("runs").iterdir())) == 1
    assert main([*typed, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trainings"] == 0


def test_a_budget_cuts_the_first_stage_and_more_time_keeps_its_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made_up(monkeypatch, among({"sgd": 1.0, "adam": 1.001}))
    asked: list[float] = []

    def within(seconds: float, **how: Any) -> dict[str, int]:
        asked.append(seconds)
        return {"trials": 4, "seeds": 3, "fresh": 4}

    monkeypatch.setattr(races, "within", within)
    typed = ["race", "sgd", "adam", "--on", "airfoil-linear", "--schedule", "linear", "--until", "decided", "--workers", "1",
             "--matters", "0", "--json"]  # fmt: skip
    assert main([*typed, "--budget", "1h"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["spec"]["trials"], found["spec"]["seeds"], asked) == (4, 3, [900.0])
    for more in (["--budget", "2h"], []):
        assert main([*typed, *more]) == 0
        assert json.loads(capsys.readouterr().out)["trained"] == 0
    assert len(asked) == 1
    # Other sizes are another race.
    folder = next(Path("runs").iterdir())
    assert main([*typed, "--trials", "8", "--seeds", "4", "--fresh", "6", "--out", str(folder)]) == 2
    assert "holds another race" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"until": "won"}, "end of a race"),
        ({"until": 3}, "until: expected 'decided', or None, got 3"),
        ({"until": "decided", "seeds": 1}, "until: expected two studies and two fresh seeds or more, got 1 study"),
        ({"until": "decided", "fresh": 1}, "until: expected two studies and two fresh seeds or more"),
        ({"protocol": races.Tuned(4, 1, 1, stages=3)}, "until: expected two studies and two fresh seeds or more"),
        ({"until": "decided", "trials": 0}, "until: expected a race that tunes, got trials 0"),
        ({"budget": 10.0}, 'budget: expected until="decided" beside it, got 10.0'),
        ({"until": "decided", "budget": -1.0}, "budget: expected seconds, above 0, got -1.0"),
        ({"until": "decided", "budget": "30m"}, "budget: expected seconds, above 0, got '30m'"),
        ({"until": "decided", "budget": True}, "budget: expected seconds, above 0, got True"),
    ],
)
def test_what_is_refused(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(StepruleError) as told:
        steprule.race("sgd", "airfoil-linear", out=tmp_path / "race", **more)
    assert said in str(told.value)
    assert not (tmp_path / "race").exists()


@pytest.mark.parametrize("option", ["--until"])
def test_settings_as_given_are_never_decided(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["race", "sgd", "--trials", "0", option, "decided"]) == 2
    assert "--until: expected a race that tunes, got --trials 0" in capsys.readouterr().err
    assert main(["race", "sgd", option, "won"]) == 2
    assert "decided" in capsys.readouterr().err
