"""Settings as given: what stands in their table and on their page, that the page needs no network, and the protocols of a race."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from chromium_page import needs_chromium, opened
from playwright.sync_api import Browser
from tolerances import PRINTED_EIGHT_DECIMALS, ROUNDED32, ROUNDED64, SUMMED32
from torch import nn

import steprule
from steprule import races
from steprule.cli import main
from steprule.errors import InputError
from steprule.races import Competitor, Lanes, Planned, in_words
from steprule.reports import race_page
from steprule.reports.mathml import mathml
from steprule.reports.style import style_of
from steprule.reports.themed import followed
from steprule.training import train
from steprule.tutorial.settings import TUTORIAL, figures_of


def given(rules: Any, problem: Any = "airfoil", seeds: Any = 3, **more: Any) -> races.Race:
    return steprule.race(rules, problem, trials=0, seeds=seeds, workers=1, **more)


@pytest.fixture(scope="module")
def tutorial() -> races.Race:
    return given([run.competitor for run in TUTORIAL])


def losses(race: races.Race, label: str) -> Any:
    """The curve of each seed, [seeds, points]."""
    own = next(chain for chain in race.phases if chain.label == label)
    return race.phases[own][0].results["losses"]


def test_the_table_is_what_numpy_says(tutorial: races.Race) -> None:
    assert [s.label for s in tutorial.settings] == [run.label for run in TUTORIAL]
    for setting in tutorial.settings:
        finals = losses(tutorial, setting.label)[:, -1]
        assert setting.mean == pytest.approx(finals.mean(), rel=ROUNDED64)
        assert setting.sd == pytest.approx(finals.std(ddof=1), rel=ROUNDED64)
        assert (setting.low, setting.high) == pytest.approx(tuple(np.percentile(finals, [2.5, 97.5])), rel=ROUNDED64)
        assert setting.seconds > 0
        assert setting.seeds == 3
        for figure in figures_of(tutorial, setting):
            assert setting.holds(figure) == bool(setting.low <= figure <= setting.high)
    assert sum(len(figures_of(tutorial, s)) for s in tutorial.settings) == 12


def test_all_run_the_same_seeds_and_starts(tutorial: races.Race) -> None:
    for form in ("formula", "class"):
        starts = {tuple(losses(tutorial, run.label)[:, 0]) for run in TUTORIAL if run.form == form}
        assert len(starts) == 1
    run = train("adam", seed=2, lr=0.01, eps=1e-6)
    assert np.array_equal(losses(tutorial, "Adam formula")[2], run.losses)


def test_divergence_does_not_spoil_the_table() -> None:
    result = given([Competitor("sgd", hypers={"lr": lr}, label=label) for label, lr in (("wild", 1e8), ("tame", 0.05))])
    wild, tame = result.settings
    assert wild.diverged == 3
    assert np.isinf(wild.high)
    assert np.isfinite([tame.mean, tame.sd, tame.low, tame.high]).all()
    (words,) = in_words(result)
    assert "tame alone diverged with no seed, so there is nothing to compare it with" in words
    assert "wild with 3 of 3 seeds" in words
    assert "wild" in race_page.page(result)
    assert json.dumps(result.to_dict(), allow_nan=False)


def test_the_words_follow_the_numbers(tutorial: races.Race) -> None:
    best = min(tutorial.settings, key=lambda s: s.mean)
    (words,) = in_words(tutorial)
    assert f"{best.mean:.5f} ({best.label})" in words
    assert "none was tuned" in words
    assert races.headline(tutorial) == words
    assert words in repr(tutorial)


class _Outside(HTMLParser):
    """Collects whatever a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.headings: list[str] = []
        self._in = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag
        self.fetched += [v or "" for k, v in attrs if k == "src" or (k == "href" and tag == "link")]

    def handle_data(self, data: str) -> None:
        if self._in in ("h2", "h3") and data.strip():
            self.headings.append(data)
        if self._in == "style":
            self.fetched += re.findall(r"url\((?!data:)|@import", data)


def test_the_page_is_whole_and_fetches_nothing(tutorial: races.Race, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    figures = race_page.write(tutorial, path, command=["steprule", "race", "--seeds", "3"])
    assert sorted(f.name for f in figures) == ["curves.svg", "paths.svg", "seeds.svg"]
    text = path.read_text()
    assert len(text) < 1_000_000
    parser = _Outside()
    parser.feed(text)
    assert parser.fetched == []
    for heading in (
        "Result",
        "How far one seed is from another",
        "How the loss falls",
        "The path each takes",
        "What each does",
        "How this was made",
    ):
        assert heading in parser.headings
    assert "Adam formula: adam" in parser.headings
    for setting in tutorial.settings:
        assert setting.label in text
        for figure in figures_of(tutorial, setting):
            assert f"{figure:.6f} {'inside' if setting.holds(figure) else '<b>outside</b>'}" in text
    assert "0.24168796" in text
    assert "steprule race --seeds 3" in text
    assert "10.24432/C5VW2C" in text
    assert tutorial.hardware in text
    for version in tutorial.spec.stated["versions"].values():
        assert version in text
    assert text.count("<math ") > 30
    assert text.count("<svg") == 3
    assert race_page.page(tutorial, ["steprule", "race", "--seeds", "3"]) == text


def test_every_seed_is_a_dot_and_a_method_has_its_colour(tutorial: races.Race) -> None:
    from steprule.reports import setting_charts

    near, whole = setting_charts.spreads(tutorial, tutorial.settings).axes
    for setting in tutorial.settings:
        for axes in (near, whole):
            dots = [line for line in axes.get_lines() if list(line.get_xdata()) == setting.finals.tolist()]
            assert len(dots) == 1, setting.label
    low, high = whole.get_xlim()
    assert all(low < loss < high for s in tutorial.settings for loss in s.finals)
    curves = setting_charts.curves(tutorial, tutorial.settings)
    assert [a.get_title() for a in curves.axes] == list(dict.fromkeys(run.method for run in TUTORIAL))
    drawn = curves.axes[-1].get_lines()[0]
    assert drawn.get_ydata()[-1] == pytest.approx(
        np.median(losses(tutorial, "Adam formula")[:, -1]) - 0.24168796, abs=PRINTED_EIGHT_DECIMALS
    )
    assert followed(style_of("AdaGrad").colour) in race_page.page(tutorial)


def test_names_are_text() -> None:
    evil = "<script>alert('x')</script>$\\frac{1}{"
    text = race_page.page(given([Competitor("sgd", hypers={"lr": 0.05}, label=evil), "adam"], seeds=1))
    assert "<script" not in text
    assert "&lt;script&gt;alert" in text


def test_formulas_are_mathml() -> None:
    shown = mathml(r"\theta_{t} = \frac{\hat{m}_{t}}{\sqrt{v_{t}}}")
    assert shown.startswith("<math ")
    assert "<mfrac>" in shown
    assert "<msqrt>" in shown


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(
    tutorial: races.Race, tmp_path: Path, browser: Browser, complaints: list[str], scheme: str
) -> None:
    """Chromium shows the three charts, on a phone without a second scroll bar, and text that can be read in either scheme."""
    race_page.write(tutorial, tmp_path / "report.html")
    size: Any = {"viewport": {"width": 390, "height": 800}, "color_scheme": scheme}
    page = opened(browser, tmp_path / "report.html", complaints, **size)
    assert page.locator(".figure svg").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ink, ground = (
        page.evaluate(f"getComputedStyle(document.body).{n}.match(/\\d+/g).map(Number)")
        for n in ("color", "backgroundColor")
    )
    assert abs(sum(ink) - sum(ground)) > 3 * 150
    assert (sum(ground) > sum(ink)) == (scheme == "light")
    assert complaints == []
    page.close()


# In a folder, with workers, in shards: as every race.


def test_more_seeds_add_to_a_folder(tmp_path: Path) -> None:
    few = given(["sgd", "adam"], seeds=2, out=tmp_path)
    more = given(["sgd", "adam"], seeds=[1, 5, 0], out=tmp_path)
    assert (few.trained, more.trained, more.kept) == (4, 2, 4)
    assert more.settings[0].finals.tolist() == [
        *few.settings[0].finals[[1]],
        train("sgd", seed=5).final_loss,
        few.settings[0].finals[0],
    ]
    table = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert [(row["rule"], row["seed"]) for row in table] == [(r, s) for r in ("sgd", "adam") for s in (1, 5, 0)]
    assert table[0]["losses"][-1] == table[0]["train"] == train("sgd", seed=1).final_loss
    assert table[0]["samples"] == train("sgd", seed=1).samples.tolist()
    with pytest.raises(InputError, match=re.escape("differs in competitors.sgd.set.lr: expected 0.1, got 0.001")):
        given([Competitor("sgd", hypers={"lr": 0.1}), "adam"], out=tmp_path)


@pytest.mark.long
def test_workers_and_shards_give_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["race", "sgd", "torch.optim.Adam", "--trials", "0", "--seeds", "3", "--epochs", "1"]
    assert main([*typed, "--workers", "1", "--out", str(tmp_path / "one")]) == 0
    assert main([*typed, "--workers", "2", "--out", str(tmp_path / "two")]) == 0
    for i in (1, 2):
        assert main([*typed, "--shard", f"{i}/2", "--out", str(tmp_path / f"part{i}")]) == 0
    parts = [str(tmp_path / f"part{i}") for i in (1, 2)]
    assert main(["race", "merge", *parts, "--out", str(tmp_path / "merged")]) == 0
    assert "final training loss over 3 seeds" in capsys.readouterr().out
    tables = [
        pq.read_table(tmp_path / n / "results.parquet").drop_columns(["seconds", "validation", "test"])
        for n in ("one", "two", "merged")
    ]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_python_api() -> None:
    result = given([Competitor("adam", hypers={"lr": 0.01}, label="a")], seeds=[3, 5])
    assert result.to_dict()["seeds"] == [3, 5]
    assert result.cells == ()
    assert given("sgd", seeds=1, epochs=1).settings[0].optimizer == "sgd"
    betas = Competitor("adam", hypers={"betas": (0.8, 0.9)})
    assert given(betas, seeds=1, epochs=1).settings[0].mean == train("adam", epochs=1, beta1=0.8, beta2=0.9).final_loss
    for bad, words in ((True, "whole number"), ("3", "whole number"), ([], "0 or more"), ([-1], "0 or more")):
        with pytest.raises((ValueError, TypeError), match=words):
            given(["adam"], seeds=bad)
    for more, words in (
        ({"rules": []}, "at least one"),
        ({"fresh": 3}, "fresh: expected a race that tunes, got trials 0"),
        ({"freshh": 3}, "unknown setting of a race: .*Did you mean 'fresh'"),
        ({"protocol": races.Tuned(2, 2, 2)}, "expected one without sizes beside it"),
        ({"trials": 4, "seeds": [1, 2]}, "seeds: expected how many studies"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            races.race(**{"rules": ["adam"], "problems": "airfoil", "trials": 0, "seeds": 2, **more})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one that tuned, got settings as given"):
        result.tuning  # noqa: B018
    with pytest.raises(InputError, match="budget: expected a race that tunes"):
        races.within(1.0, "sgd", trials=0)


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    """Other first weights than everyone's, tuned and as given; they are part of what the race is."""
    zeros = nn.Linear(5, 1)
    nn.init.zeros_(zeros.weight)
    weights = zeros.weight.detach().clone()

    def from_zero() -> nn.Module:
        model = nn.Linear(5, 1)
        with torch.no_grad():
            model.weight.copy_(weights)
        return model

    who = ["sgd", Competitor("sgd", label="from zero", model=from_zero)]
    found = given(who, out=tmp_path)
    firsts = [np.unique(losses(found, label)[:, 0].round(6)) for label in ("sgd", "from zero")]
    assert not set(firsts[0]) & set(firsts[1])
    weights += 1
    with pytest.raises(InputError, match=r"differs in competitors\.from zero"):
        given(who, out=tmp_path)
    how: dict[str, Any] = {"fresh": 2, "schedules": "linear", "epochs": 1, "workers": 1}
    tuned = races.race(who, "airfoil-linear", 4, 2, **how)
    first = {c.label: done[0].results["initial"] for c, done in tuned.phases.items()}
    assert not np.isclose(first["sgd"], first["from zero"], rtol=SUMMED32, atol=0).any()
    with pytest.raises(TypeError, match="model: expected a function that makes one"):
        given(Competitor("sgd", model=zeros.weight))  # type: ignore[arg-type]


# A protocol of one's own.


@dataclass(frozen=True)
class UntilGood:
    """Two seeds at a time until one ends below a loss: what is trained next follows from what is done."""

    below: float
    most: int
    searches = False
    watches = True
    first_seed = 0

    @property
    def size(self) -> int:
        return self.most

    def following(self, chain: races.Chain, entrant: Any, done: Sequence[races.Phase]) -> Planned | None:
        count = 2 * len(done)
        if count >= self.most or (done and done[-1].results["train"].min() < self.below):
            return None
        none = np.full(2, -1)
        lanes = Lanes(np.full(2, "given"), none, none, np.arange(count, count + 2), {})
        return Planned(f"look-{len(done)}", {}, lanes, to_come=self.most - count - 2)

    def spare(self, entrant: Any) -> int:
        return 0

    def to_dict(self) -> dict[str, Any]:
        return {"below": self.below, "most": self.most}


class Other(UntilGood):
    def spare(self, entrant: Any) -> int:
        return 2


def test_a_protocol_of_ones_own(tmp_path: Path) -> None:
    who = [Competitor("adam", hypers={"lr": lr}, label=label) for label, lr in (("fast", 0.05), ("slow", 1e-5))]
    seen: list[tuple[int, int]] = []
    said: list[Any] = []
    how: dict[str, Any] = {"workers": 1, "out": tmp_path, "told": said.append}
    mine = UntilGood(0.26, 6)
    found = races.race(who, "airfoil", protocol=mine, progress=lambda d, t, _: seen.append((d, t)), **how)
    fast, slow = found.settings
    assert (fast.seeds, slow.seeds) == (2, 6)
    assert said[0].trainings == 12
    assert seen[-1] == (8, 8)
    assert fast.mean == np.mean([train("adam", seed=s, lr=0.05).final_loss for s in range(2)])
    again = races.race(who, "airfoil", protocol=mine, **how)
    assert (again.trained, again.kept) == (0, 8)
    assert "slow" in race_page.page(again)
    with pytest.raises(InputError, match=r"differs in below: expected 0\.2, got 0\.26"):
        races.race(who, "airfoil", protocol=UntilGood(0.2, 6), **how)
    with pytest.raises(InputError, match="differs in protocol"):
        races.race(who, "airfoil", protocol=Other(0.26, 6), **how)


def test_no_two_ways_to_size_a_race(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "r")]
    for more, words in (
        (["--vary", "lr"], "--vary: expected trials, which search, got --trials 0"),
        (["--budget", "1h"], "--budget: expected a race that tunes, got --trials 0"),
        (["--fresh", "3"], "fresh: expected a race that tunes, got trials 0"),
    ):
        assert main(["race", "sgd", "--trials", "0", *more, *out]) == 2
        assert words in capsys.readouterr().err
    assert main(["race", "--trials", "0", "--set", "lr=1", *out]) == 2
    assert "--set: expected rules to set it for, got the tutorial's runs" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_spec_is_known_without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are looked at, and nothing steps."""
    from steprule.steppers import RuleStepper

    def steps(*given: Any, **more: Any) -> None:
        raise AssertionError("a step")

    for module in ("lanes.train", "races.work", "sweeps.entry"):
        monkeypatch.setattr(f"steprule.{module}.train_lanes", steps)
    monkeypatch.setattr(RuleStepper, "step", steps)
    for compile in (False, "auto"):
        spec = races.spec.spec_of(["sgd", "adam"], None, 4, 2, fresh=2, compile=compile)  # type: ignore[attr-defined,arg-type]
        assert spec.stated["engines"] == dict.fromkeys(spec.configs, "vmap")


def test_the_tutorials_runs_on_another_problem_have_its_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cells with torch's classes begin with a linear model of its own problem, which no other problem gets."""
    command = ["race", "--trials", "0", "--seeds", "1", "--epochs", "1", "--json"]
    for names in (["airfoil-mlp"], ["airfoil", "digits-softmax"]):
        on = [word for name in names for word in ("--on", name)]
        assert main([*command, *on, "--out", str(tmp_path / names[-1])]) == 0
        found = json.loads(capsys.readouterr().out)["settings"]
        assert len(found) == 12 * len(names)
        for row in found:
            alone = {"Adam class": {"lr": 0.01}, "SGD class": {"lr": 0.05}}.get(row["label"])
            if alone:
                ours = train(row["optimizer"], row["problem"], 0, 1, **alone)
                assert row["mean"] == pytest.approx(ours.final_loss, rel=ROUNDED32), (row["label"], row["problem"])


@dataclass(frozen=True)
class Looks(UntilGood):
    """Like it, but each training is only measured at its end."""

    watches = False


@dataclass(frozen=True)
class Twice(UntilGood):
    """Calls all its phases alike."""

    def following(self, chain: races.Chain, entrant: Any, done: Sequence[races.Phase]) -> Planned | None:
        planned = super().following(chain, entrant, done)
        return None if planned is None else replace(planned, name="look")


def test_protocols_that_are_none(tmp_path: Path) -> None:
    who = [Competitor("adam", hypers={"lr": 1e-5})]
    for wrong, says in (
        ("tuned", "without following"),
        (UntilGood, "UntilGood"),
        (Twice(0.0, 6), "'look' twice"),
        (UntilGood(0.0, 0), "a first phase of each chain"),
    ):
        with pytest.raises((InputError, TypeError), match=says):
            races.race(who, "airfoil", protocol=wrong, workers=1)
    with pytest.raises(InputError, match="seeds"):
        races.AsGiven(())
    with pytest.raises(InputError, match="trials"):
        races.Tuned(trials=0)
    with pytest.raises(InputError, match=r"got fresh$"):
        races.race(who, "airfoil", protocol=races.AsGiven((0,)), fresh=2)
    found = races.race(who, "airfoil", protocol=Looks(0.0, 4), workers=1)
    assert "How far one seed is from another" in race_page.page(found)
    assert "How the loss falls" not in race_page.page(found)


def test_a_shard_without_a_chain_says_what_is_missing() -> None:
    part = races.race("sgd", "airfoil-linear", trials=0, seeds=1, shard=(1, 2), workers=1)
    with pytest.raises(InputError, match="every shard's results"):
        part.to_dict()
