"""What is said of settings, as far as the numbers carry it: the untuned, optima at an end, starts, figures."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from annotated_types import Ge
from claimed import NAN_RULE, SMALL, Gauss, _verdict
from pretended import pretended, problem
from thinning import thinned
from tolerances import PRINTED_ONE_DECIMAL, SAID_THREE_DIGITS

import steprule
from steprule import paths, play, races, rules
from steprule.cli import main
from steprule.errors import InputError
from steprule.hyper import Rate, Search, said
from steprule.races import spaces, statistics
from steprule.reports import path_figure, paths as pictures, race_page
from steprule.surfaces import catalogue as surfaces
from steprule.tutorial.settings import TUTORIAL, figures_of

# The untuned.


def test_an_untuned_rule_that_beats_all_is_named() -> None:
    rng = Gauss(4)
    by_seed = 0.1 * rng.standard_normal(10)
    ends = {
        n: m * np.exp(by_seed + 0.02 * rng.standard_normal((5, 10))) for n, m in (("a", 0.20), ("b", 0.25), ("c", 0.3))
    }
    plain = {
        "a": 0.4 * np.exp(by_seed),
        "b": 0.15 * np.exp(by_seed + 0.02 * rng.standard_normal(10)),
        "c": 0.3 * np.exp(by_seed),
    }
    race = pretended(ends, untuned=plain)
    words = _verdict(race)
    assert f"Untuned, b ends at {np.exp(np.log(plain['b']).mean()):.4g}, really below every tuned rule." in words
    paid = re.search(r"Tuning did not pay here for: b \(untuned (-\d+\.\d) % \[(-\d+\.\d), (-\d+\.\d)\]\)\.", words)
    assert paid
    ratio = np.exp((np.log(plain["b"]) - np.log(ends["b"]).mean(axis=0)).mean())
    assert float(paid[1]) == pytest.approx(100 * (ratio - 1), abs=PRINTED_ONE_DECIMAL)
    assert float(paid[2]) < float(paid[1]) < float(paid[3]) < 0
    found = race.to_dict()["cells"][0]["untuned"]
    assert {u["first"]: (u["verdict"], u["below_all_tuned"]) for u in found}["b"] == ("real", True)


def test_what_rounding_alone_makes_lower_is_not_told() -> None:
    """Where nothing is searched the untuned is the tuned, but for the last bit of a mean."""
    below = 0
    for k in range(10):
        y = 0.2 * np.exp(0.3 * Gauss(k).standard_normal(3))
        race = pretended({n: np.tile(m * y, (3, 1)) for n, m in (("a", 1), ("b", 3))}, untuned={"a": y})
        below += race.cells[0].standings[0].default < race.cells[0].standings[0].loss
        assert "Untuned, a" not in _verdict(race)
    assert below


def test_a_lower_untuned_mean_is_not_called_real_for_that() -> None:
    rng = Gauss(5)
    ends = {n: 0.2 * np.exp(0.3 * rng.standard_normal((3, 5))) for n in "ab"}
    least = min(np.exp(np.log(y).mean()) for y in ends.values())
    race = pretended(ends, untuned={"a": 0.97 * least * np.exp(0.3 * (g := rng.standard_normal(5)) - 0.3 * g.mean())})
    words = _verdict(race)
    assert "below every tuned rule, which may be luck" in words
    assert "did not pay" not in words
    assert "Tuned and untuned cannot be told apart: " in words


def test_tuning_that_paid_is_not_mentioned() -> None:
    race = pretended({"a": np.full((3, 4), 0.2), "b": np.full((3, 4), 0.3)})
    assert "untuned" not in _verdict(race).lower()


@pytest.mark.parametrize("effect", [0.0, -0.05])
def test_intervals_of_the_untuned_cover(effect: float) -> None:
    """Studies with luck of their own against one setting on the same seeds: 95 % intervals hold the truth in 93 to 97 %, and a
    difference that is not there is called real in no more than 5 % of simulated races."""
    rng, inside, wrong = Gauss(6), [], []
    for _ in range(1_000):
        by_seed = 0.1 * rng.standard_normal(12)
        tuned = by_seed + 0.05 * rng.standard_normal((5, 1)) + 0.05 * rng.standard_normal((5, 12))
        plain = by_seed + effect + 0.05 * rng.standard_normal(12)
        found = statistics.difference(tuned, untuned=plain)
        low, high = found.interval()
        inside.append(low <= -effect <= high)
        wrong.append(found.p_beyond(0.0) < 0.05)
    assert 0.93 <= np.mean(inside) <= 0.97
    assert (np.mean(wrong) <= 0.07) if not effect else (np.mean(wrong) > 0.2)


# An optimum at an end.


@pytest.mark.parametrize(("at", "end"), [(0.01, "lowest"), (0.99, "highest"), (0.5, "")])
def test_a_learning_rate_still_at_the_end(at: float, end: str) -> None:
    """The best lies at that share of every range: after three moves it is still at the end, and the race says so."""
    race = pretended({"a": np.full((3, 4), 0.2), "b": np.full((3, 4), 0.3)}, at=at, trials=64)
    standing = race.cells[0].standings[0]
    assert standing.moved == (3 if end else 0)
    assert standing.at_end == ({"lr": end} if end else {})
    words, page = _verdict(race), race_page.page(race)
    assert (f"a's lr ({end} of" in words) is bool(end)
    assert ("after 3 moves" in words) is bool(end)
    assert ("its best is still at an end" in page) is bool(end)


def test_other_hyperparameters_at_the_end() -> None:
    @steprule.rule
    def scaled(p, g, *, lr: Rate = 1e-5, k: Annotated[float, Ge(0), Search(1e-2, 1.0)] = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * k * g

    rival = races.Competitor(scaled, {"k": Search(1e-2, 1)}, {"lr": 1e-4}, label="scaled")
    race = races.race([rival, "sgd"], "airfoil-linear", **{**SMALL, "trials": 16, "seeds": 3})
    mine = next(s for s in race.cells[0].standings if s.label == "scaled")
    assert mine.at_end == {"k": "highest"}
    assert "scaled's k (highest of 0.001..10)" in _verdict(race)


def test_an_end_of_the_domain_is_no_end_of_the_range() -> None:
    """No momentum is 0, and nothing lies below it."""
    from steprule.races.spec import spec_of

    rival = races.Competitor("sgd", {"momentum": Search(0.0, 0.99, "complement")}, {"lr": 0.1}, label="a")
    spec = spec_of([rival], problem(), trials=32, seeds=3, fresh=2, schedules=["linear"], compile=False)
    (tuned, entrant), chain = (spec.protocol, spec.entrants[0]), races.Chain("made up", "linear", "a")
    assert isinstance(tuned, races.Tuned)
    planned = tuned.following(chain, entrant, [])
    assert planned
    space, lanes = planned.space, planned.lanes
    for towards, expected in ((0.0, {}), (1.0, {"momentum": "highest"})):
        loss = np.abs(np.array([space["momentum"].share(v) for v in lanes.hypers["momentum"]]) - towards)
        results = dict.fromkeys(("train", "validation", "test"), loss)
        plain = {"initial": np.full(len(lanes), 2.0), "died_at": np.zeros(len(lanes), dtype=np.int64)}
        assert tuned.at_ends(entrant, races.Phase(planned.name, space, lanes, {**results, **plain})) == expected


@pytest.mark.parametrize("low", [1e-6, 1e-2])
def test_a_sweep_whose_best_is_at_the_end(low: float, capsys: pytest.CaptureFixture[str]) -> None:
    rates = np.geomspace(low, 100 * low, 9)
    found = steprule.sweep("sgd", "airfoil", {"lr": rates}, compile=False)
    end = {1e-6: "highest", 1e-2: ""}[low]
    lowest = {"lr": "lowest"} if found.best == 0 else {}
    finals = [steprule.train("sgd", "airfoil", lr=float(r)).final_loss for r in rates]
    assert found.best == int(np.nanargmin(finals))
    assert found.at_end == ({"lr": end} if end else lowest)
    assert ("better ones may lie beyond" in repr(found)) is bool(found.at_end)
    if end:
        assert main(["sweep", "sgd", "--vary", f"lr={low}..{100 * low}", "--points", "8", "--no-compile"]) == 0
        assert "The best lr lies at the highest of what was tried" in " ".join(capsys.readouterr().out.split())


def test_a_sweep_at_the_end_of_the_domain() -> None:
    found = steprule.sweep("sgd", "airfoil", {"lr": 0.05, "momentum": [0.0, 0.9, 0.99, 0.999]}, compile=False)
    assert found.best == 0
    assert found.at_end == {}


def test_a_path_at_the_end_of_the_grid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "sgd", "--surface", "1000*x^2+1000000*y^2"]) == 0
    out = capsys.readouterr().out
    assert "lowest tried" in " ".join(out.split())
    assert "above its start" in " ".join(out.split())
    assert "best" not in out
    found = paths.tuned_trace("sgd", "quadratic")
    assert found.cautions == ()
    assert "best lr here" in repr(found)
    small = paths.tuned_trace("sgd", "x^2/1e6 + y^2/1e6", steps=5)
    assert small.at_end == "highest tried"
    assert "lr highest tried" in repr(small)
    assert "best lr here" not in repr(small)
    assert "those tried" in path_figure.draw([small]).axes[1].get_title()


@pytest.mark.long
def test_a_path_that_diverges_at_every_rate(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(NAN_RULE)
    assert main(["trace", "mine.py:nanrule", "sgd", "--out", "a.png"]) == 0
    out = capsys.readouterr().out
    line = next(x for x in out.splitlines() if x.startswith("nanrule"))
    assert "best" not in line
    assert "at every lr tried" in " ".join(out.split())
    assert paths.best_rate(rules.resolve("mine.py:nanrule")) is None
    checked = steprule.check("mine.py:nanrule")
    assert not checked.passed


# The book's figures.


@pytest.mark.long
def test_the_books_figures_are_its_own_runs() -> None:
    runs = [run.competitor for run in TUTORIAL]

    def books(rules: Any = runs, problem: str = "airfoil", **more: Any) -> int:
        result = races.race(rules, problem, trials=0, seeds=1, workers=1, **more)
        count = sum(len(figures_of(result, own)) for own in result.settings)
        page = race_page.page(result)
        assert ("printed by the book" in page) is bool(count)
        assert "<b>outside" not in page  # one seed has no spread
        return count

    assert books() == 12
    assert books(problem="airfoil-linear") == 0
    assert books(epochs=1) == 0
    assert books(batch_size=50) == 0
    assert books(schedules="cosine") == 0
    assert books([replace(runs[4], hypers={"lr": 0.2, "eps": 1e-6})]) == 0
    assert books([replace(runs[5], model=None)]) == 0
    assert books([runs[4]]) == 2


# Numbers that can be used.


@pytest.mark.parametrize("name", rules.names())
def test_a_setting_that_is_said_can_be_set(name: str) -> None:
    """At any digits, near 1 too, and never rounded out of its bounds."""
    rule = rules.get(name)
    shares = [0.0, 0.5, 0.97, 0.999, 1.0, *Gauss(7).random(50)]
    for hyper, search in spaces.space_of(rule).items():
        for share in shares:
            value = search.at(float(share))
            for digits in (3, 4, 6):
                text = said(value, digits, rule.hyper(hyper))
                found = rule.hyper(hyper).parse(text, name)
                assert found == pytest.approx(value, rel=SAID_THREE_DIGITS)
                assert 1 - found == pytest.approx(1 - value, rel=SAID_THREE_DIGITS)


NARROW: Any = Annotated[float, Ge(0.123456), Search(0.12345678, 0.1234999)]


def test_a_setting_to_begin_with_is_inside_its_bounds() -> None:
    @steprule.rule
    def bounded(p, g, *, lr: Rate = 0.1, k: NARROW = 0.2):  # type: ignore[no-untyped-def]
        return p - lr * k * g

    hyper = bounded.hyper("k")
    assert hyper.parse(said(0.12345678, 3, hyper), "bounded") >= 0.123456
    race = races.race([bounded, "adam"], "airfoil-linear", **{**SMALL, "trials": 4, "seeds": 2, "fresh": 2})
    page = race_page.page(race)
    for label, known in (("bounded", bounded), ("adam", rules.get("adam"))):
        cell = re.search(rf"</span>{label}</th>.*?<td class=.wide-words.>(lr=[^<]*)</td></tr>", page)
        assert cell
        for setting in cell[1].split(", "):
            hyper_name, _, text = setting.partition("=")
            known.hyper(hyper_name).parse(text, label)
    assert "0.5..1 " not in page


# A start outside the domain.

FORMULAS = ["log(x)", "sqrt(x)", "log(x)+x^2", "x^1000", "1/(x+4)", "log(-y)", "sqrt(x*y)"]


@pytest.mark.parametrize("formula", thinned(FORMULAS, 4))
def test_a_formula_begins_where_it_is_finite(formula: str, tmp_path: Path) -> None:
    surface = surfaces.get(formula)
    assert np.isfinite(surface.value(surface.start))
    assert np.isfinite(surface.gradient(surface.start)).all()
    path = paths.tuned_trace("sgd", formula, steps=8)
    assert np.isfinite(path.values[0])
    if path.tuned:
        assert path.diverged_at is None
    pictures.save([path], tmp_path / "a.png")
    play.write_paths(tmp_path / "a.html", [path], [("sgd", rules.get("sgd"))])


def test_an_ordinary_formula_begins_where_it_did() -> None:
    assert surfaces.get("x^2/10 + 2*y^2 + sin(2*x)").start == (-4.0, 3.0)


@pytest.mark.parametrize(("formula", "start"), [("log(x)", "-1,1"), ("1/x", "0,1"), ("sqrt(x)", "0,0")])
def test_a_start_outside_the_domain_is_refused(formula: str, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "sgd", "--surface", formula, f"--start={start}"]) == 2
    err = capsys.readouterr().err
    assert f"start on {formula}: expected a point where the surface is finite" in err
    assert len(err.strip().splitlines()) == 1
    with pytest.raises(InputError, match="where the surface is finite"):
        steprule.trace("sgd", formula, start=tuple(float(v) for v in start.split(",")))  # type: ignore[arg-type]


# No warnings.


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("surface", ["saddle", "styblinski_tang"])
@pytest.mark.long
def test_surfaces_whose_noise_is_below_zero(surface: str) -> None:
    """A batch's height with its noise may be negative; heights are not, and keep their ratios."""
    race = races.race(["adam", "sgd"], surface, trials=4, seeds=2, fresh=2, epochs=2, workers=1, compile=False)
    race_page.page(race)
    assert all(cell.scale.ratios for cell in race.cells)
