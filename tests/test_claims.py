"""What is said of results is said only where it is so: which loss, on which scale, how sure, who diverged, what is best."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from annotated_types import Ge
from pretended import pretended, problem
from scipy import stats
from sized import sized
from thinning import thinned
from torch import nn

import steprule
from steprule import paths, play, races, rules
from steprule.cli import main
from steprule.errors import InputError
from steprule.hyper import Rate, Search, said
from steprule.races import spaces, statistics
from steprule.races.setting import in_words as settings_in_words
from steprule.reports import paths as pictures
from steprule.reports import race_charts, race_page
from steprule.surfaces import catalogue as surfaces
from steprule.tutorial.settings import TUTORIAL, figures_of

SMALL: dict[str, Any] = {"trials": 6, "seeds": 3, "fresh": 4, "schedules": ["linear"], "workers": 1, "compile": False}
Gauss = np.random.default_rng


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _verdict(race: races.Race) -> str:
    return races.in_words(race)[0]


def _classes(loss: Any = nn.functional.cross_entropy, splits: str = "validation test", name: str = "classes") -> Any:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 6, generator=generator)
    y = (x[:, 0] > 0).long()
    parts = {"validation": (x[60:90], y[60:90]), "test": (x[90:], y[90:])}
    held = {n: part for n, part in parts.items() if n in splits.split()}
    return steprule.Problem(name, "two classes", x[:60], y[:60], lambda: nn.Linear(6, 2), loss, epochs=1, **held)


# Losses of 0 and less.


def _by_hand(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """b minus a, [studies, seeds] each, with its 95 % interval, by the formulas of docs/race.md in plain loops."""
    studies, seeds = a.shape
    estimate = sum(b[i][j] - a[i][j] for i in range(studies) for j in range(seeds)) / (studies * seeds)
    gaps = [sum(b[i][j] - a[i][j] for i in range(studies)) / studies for j in range(seeds)]
    of_seeds = sum((g - estimate) ** 2 for g in gaps) / (seeds - 1) / seeds
    parts, both = [(of_seeds, seeds - 1)], 0.0
    for y in (a, b):
        mean, rows, columns = y.mean(), [row.mean() for row in y], [column.mean() for column in y.T]
        parts.append((sum((r - mean) ** 2 for r in rows) / (studies - 1) / studies, studies - 1))
        rest = sum((y[i][j] - rows[i] - columns[j] + mean) ** 2 for i in range(studies) for j in range(seeds))
        both += rest / ((studies - 1) * (seeds - 1)) / (studies * seeds)
    variance = max(sum(v for v, _ in parts) - both, of_seeds)
    freedom = max(1.0, variance**2 / sum(v**2 / d for v, d in parts))
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    return estimate, estimate - reach, estimate + reach


def test_negative_losses_are_compared_by_differences() -> None:
    """Of the fall from the first loss to the lowest, as a computation in loops has it."""
    rng = Gauss(0)
    a, b = (m + 0.05 * rng.standard_normal((5, 8)) for m in (-4.4, -4.1))
    race = pretended({"a": a, "b": b}, initial=-4.0)
    (cell,) = race.cells
    first, second = cell.standings
    assert (first.label, second.label) == ("a", "b")
    assert (first.loss, second.loss) == pytest.approx((a.mean(), b.mean()))
    fall = -4.0 - a.mean()
    assert cell.scale.fall == pytest.approx(fall)
    (pair,) = cell.pairs
    assert pair.percent == pytest.approx([100 * v / fall for v in _by_hand(a, b)])
    assert pair.turned.percent[0] == pytest.approx(-pair.percent[0])
    low, high = _by_hand(np.zeros_like(a), a)[1:]
    assert (first.low, first.high) == pytest.approx((low, high), rel=1e-6)
    assert "a has the lowest test loss, -4." in _verdict(race)
    assert f"b {pair.percent[0]:+.1f} % of the fall" in _verdict(race)
    assert "fall from -4, before the first step, to -4.4" in _verdict(race)
    found = json.loads(json.dumps(race.to_dict(), allow_nan=False))["cells"][0]
    assert (found["compared_by"], found["fall"]) == ("difference", pytest.approx(fall))


@pytest.mark.parametrize("shift", [-5.0, -500.0])
def test_a_shifted_loss_has_the_same_verdicts(shift: float) -> None:
    """A constant added to the loss changes no training, and where losses have no zero it changes no word."""
    rng = Gauss(1)
    ends = {n: m + 0.02 * rng.standard_normal((4, 6)) for n, m in (("a", 0.2), ("b", 0.201), ("c", 0.4), ("d", 0.22))}
    one, two = (pretended({n: y + s for n, y in ends.items()}, initial=1.0 + s) for s in (-5.0, shift))
    for p, q in zip(one.cells[0].pairs, two.cells[0].pairs, strict=True):
        assert (p.first, p.second, p.verdict()) == (q.first, q.second, q.verdict())
        assert p.percent == pytest.approx(q.percent, rel=1e-6)
    assert {"real"} < {p.verdict() for p in one.cells[0].pairs}


def test_positive_losses_are_compared_by_ratios() -> None:
    rng = Gauss(2)
    a, b = (m * np.exp(0.1 * rng.standard_normal((4, 6))) for m in (0.2, 0.5))
    (cell,) = pretended({"a": a, "b": b}).cells
    assert cell.scale.ratios
    assert cell.standings[0].loss == pytest.approx(np.exp(np.log(a).mean()))
    estimate, low, high = _by_hand(np.log(a), np.log(b))
    assert cell.pairs[0].percent == pytest.approx([100 * math.expm1(v) for v in (estimate, low, high)])


@pytest.mark.parametrize("worst", [-1e-9, 0.0])
def test_one_loss_of_nothing_decides_the_scale(worst: float) -> None:
    """No number is invented for it: the mean is the plain one. A problem that knows its floor keeps ratios."""
    ends = np.full((3, 4), 0.25)
    ends[1, 2] = worst
    race = pretended({"a": ends, "b": np.full((3, 4), 0.5)})
    assert race.cells[0].standings[0].loss == pytest.approx(ends.mean())
    kept = pretended({"a": ends, "b": np.full((3, 4), 0.5)}, task=problem(floor=0.0))
    assert kept.cells[0].scale.ratios
    assert "below 1e-06 of the loss before the first step count as that: a" in _verdict(kept)


@pytest.mark.long
def test_no_warning_and_no_error_wherever_losses_lie() -> None:
    """Every picture and every sentence of pages whose losses are negative, zero, equal, tiny, huge, or missing."""
    nothing, rng = np.full((3, 4), np.nan), Gauss(3)
    cases: list[tuple[dict[str, Any], float]] = [
        ({"a": np.full((3, 4), -1.0), "b": np.full((3, 4), -1.0)}, -1.0),
        ({"a": np.zeros((3, 4)), "b": np.zeros((3, 4))}, 0.0),
        ({"a": np.full((3, 4), 0.5)}, 1.0),
        ({"a": nothing, "b": nothing}, 1.0),
        ({"a": nothing, "b": np.full((3, 4), -2.0)}, 1.0),
        ({"a": 1e-30 * np.ones((3, 4)), "b": 1e30 * np.ones((3, 4))}, 1e30),
        ({"a": rng.standard_normal((3, 4)), "b": rng.standard_normal((3, 4))}, 3.0),
        ({"a": [[0.5]], "b": [[0.6]]}, 1.0),
        ({"a": [[-0.5]], "b": [[np.nan]]}, 1.0),
    ]
    for ends, initial in cases:
        race = pretended(ends, initial=initial, schedules=("constant", "linear"))
        text = race_page.page(race)
        assert not re.search(r"\bnan\b|\binf\b", text)
        json.dumps(race.to_dict(), allow_nan=False)
        assert repr(race)
        assert race._repr_html_()


def test_a_real_race_on_a_loss_below_zero(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line, against the table that it leaves; the same trainings as without the shift."""
    Path("mine.py").write_text("""
import torch, steprule
from torch import nn
x = torch.randn(120, 6, generator=torch.Generator().manual_seed(0)); y = (x[:, 0] > 0).long()
def shifted(o, t): return nn.functional.cross_entropy(o, t) - 5
held = {"validation": (x[60:90], y[60:90]), "test": (x[90:], y[90:])}
neg = steprule.Problem("neg", "neg", x[:60], y[:60], lambda: nn.Linear(6, 2), shifted, epochs=1, **held)
one = steprule.Problem("one", "one", x[:60], y[:60], lambda: nn.Linear(6, 2), lambda o, t: (o * 0).mean(), epochs=1, **held)
""")
    typed = ["race", "adam", "sgd", *sized(4, 2, 3, "linear", workers=1)]
    assert main([*typed, "--on", "mine.py:neg", "--out", "neg"]) == 0
    out = capsys.readouterr().out
    assert "in per cent of the fall from -4." in " ".join(out.split())
    assert main([*typed, "--on", "mine.py:neg", "--out", "neg", "--json"]) == 0
    cell = json.loads(capsys.readouterr().out)["cells"][0]
    table = pq.read_table("neg/results.parquet").to_pylist()
    for standing in cell["standings"]:
        own = [r for r in table if r["role"] == "winner" and r["rule"] == standing["label"]]
        assert len(own) == 6
        kept = [r["test"] if math.isfinite(r["train"]) and r["train"] <= r["initial"] else r["initial"] for r in own]
        assert standing["loss"] == pytest.approx(np.mean(kept))
    assert main([*typed, "--on", "mine.py:one", "--out", "one"]) == 0
    said_ = capsys.readouterr()
    assert "nobody learnt anything, so nothing is compared" in said_.out
    assert said_.err == ""
    assert "learnt nothing" in said_.out


def test_a_loss_that_is_not_finite_at_first_is_refused_before_training(tmp_path: Path) -> None:
    task = _classes(lambda o, t: nn.functional.cross_entropy(o, t) * float("inf"))
    with pytest.raises(InputError, match="problem classes: expected a finite loss before the first step, got inf"):
        races.race(["adam", "sgd"], task, out=tmp_path / "r", **SMALL)
    assert not (tmp_path / "r").exists()


# One study, one fresh seed.


@pytest.mark.parametrize(
    ("few", "words"), [("--seeds", "One study cannot tell"), ("--fresh", "One fresh seed cannot tell")]
)
def test_one_study_or_one_seed(few: str, words: str, in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["race", "sgd", "adam", "--on", "airfoil-linear", "--trials", "4", "--schedule", "linear", "--out", "r"]
    typed += ["--seeds", "2", "--fresh", "3", "--epochs", "1", "--workers", "1", few, "1"]
    assert main(typed) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert words in out
    assert "nothing is called real" in out
    assert "inf" not in out
    assert "e-305" not in out
    page = Path("r/report.html").read_text()
    assert "There is no interval: o" in page
    assert "no interval" in page
    assert "its 95 % interval" not in page
    assert main([*typed, "--json"]) == 0
    cell = json.loads(capsys.readouterr().out)["cells"][0]
    assert [(s["low"], s["high"]) for s in cell["standings"]] == [(None, None)] * 2
    assert cell["pairs"][0]["interval"] == [None, None]
    assert {u["verdict"] for u in cell["untuned"]} == {"open"}


@pytest.mark.parametrize(("studies", "fresh"), [(1, 1), (1, 4), (3, 1)])
def test_rankings_agree_with_no_certainty_of_one(studies: int, fresh: int) -> None:
    race = races.race(
        ["adam", "sgd", "lion"],
        [_classes(), _classes(name="other")],
        **{**SMALL, "trials": 2, "seeds": studies, "fresh": fresh},
    )
    assert race.agreement == {}
    assert "tau" not in " ".join(races.in_words(race))


def test_one_study_in_python() -> None:
    race = pretended({"a": [[0.2, 0.3]], "b": [[0.4, 0.5]]}, untuned={"b": [0.1, 0.1]})
    cell = race.cells[0]
    assert cell.standings[0].low is None
    assert cell.pairs[0].percent[1:] == (None, None)
    assert cell.pairs[0].verdict() == "open"
    assert "[" not in repr(race)
    assert "Untuned, b ends at 0.1, below every tuned rule." in _verdict(race)
    assert "did not pay" not in _verdict(race)


# Which loss it is.

SPLITS = [
    ("validation test", "test loss", "validation loss", ""),
    ("validation", "validation loss", "validation loss", "There is no test split"),
    ("test", "test loss", "training loss", "Winners were chosen by the training loss"),
    ("", "training loss", "training loss", "Nothing was held out"),
]


@pytest.mark.parametrize(("splits", "judged", "chosen", "caution"), SPLITS, ids=["both", "validation", "test", "none"])
def test_what_was_measured_is_named_everywhere(splits: str, judged: str, chosen: str, caution: str) -> None:
    race = races.race(["adam", "sgd"], _classes(splits=splits), **SMALL)
    (cell,) = race.cells
    words, page = _verdict(race), race_page.page(race)
    assert f"has the lowest {judged}" in words
    assert (caution in words) if caution else ("split" not in words)
    others = {"test loss", "validation loss", "training loss"} - {judged, chosen}
    for text in (
        words,
        repr(race),
        page.replace("the training loss is below", "").replace("raining loss of a batch", ""),
    ):
        assert not [other for other in others if other in text.lower()]
    assert f"<th>{judged}</th>" in page
    assert f"{judged} (log scale)" in page
    assert f"{judged} of the best of k" in page
    assert f"chosen by the {chosen}" in page
    assert (caution in page) if caution else True
    found = race.to_dict()["cells"][0]
    assert (found["loss"], found["chosen_by"]) == (
        judged.split()[0].replace("training", "train"),
        chosen.split()[0].replace("training", "train"),
    )
    last = race.chain("classes", "linear", cell.standings[0].label)[-1]
    own = last.results[cell.measure.split][last.lanes.role == "winner"]
    assert cell.standings[0].loss == pytest.approx(np.exp(np.log(own).mean()))
    best = race.best_of_k("classes", "linear", "sgd")
    tuned = race.chain("classes", "linear", "sgd")[-2]
    chosen_lane = int(np.argmin(tuned.scores[:6]))
    assert np.exp(best[0, -1]) == pytest.approx(tuned.results[cell.measure.split][chosen_lane])


def test_problems_that_measure_differently() -> None:
    race = races.race(["adam", "sgd"], [_classes(), _classes(splits="", name="bare")], **SMALL)
    page = race_page.page(race)
    assert "<th>test loss</th>" in page
    assert "<th>training loss</th>" in page
    assert "Loss (classes: test loss; bare: training loss) on seeds that no tuning saw" in page
    assert "chosen by a loss (classes: the validation loss; bare: the training loss)" in page
    figure = race_charts.sensitivity(race)
    assert [axes.get_ylabel() for axes in figure.axes] == ["test loss (log scale)", "training loss (log scale)"]
    first, second = races.in_words(race)[:2]
    assert "lowest test loss" in first
    assert "lowest training loss" in second


def test_the_command_names_it(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["race", "adam", "sgd", "--on", "airfoil", *sized(2, 2, 2, "linear")]
    assert main([*typed, "--workers", "1", "--out", "r"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "has the lowest training loss" in out
    assert "test loss" not in out
    assert "Nothing was held out" in out
    assert main(["sweep", "sgd", "--points", "3"]) == 0
    out = capsys.readouterr().out
    assert "by the training loss" in out
    assert "nan" not in out
    assert "means of" not in out


# Who diverged, who learnt nothing.


def test_a_rule_that_diverges_is_marked() -> None:
    half = np.full((3, 4), 0.25)
    half[0, :2] = np.nan
    race = pretended({"fine": np.full((3, 4), 0.2), "half": half, "dead": np.full((3, 4), np.nan)})
    words = _verdict(race)
    assert "half in 2 of 12 fresh runs" in words
    assert "dead in 12 of 12 fresh runs" in words
    assert "Learnt nothing: dead." in words
    page = race_page.page(race)
    assert "<td>17%</td>" in page
    assert "<td>100%</td>" in page


def test_two_that_learn_nothing_are_not_alike() -> None:
    race = pretended({"one": np.full((3, 4), np.nan), "two": np.full((3, 4), np.nan)})
    assert "nobody learnt anything, so nothing is compared" in _verdict(race)
    assert "No more than" not in _verdict(race)
    assert "has the lowest" not in _verdict(race)
    assert "nobody learnt anything" in repr(race)
    assert race.cells[0].pairs[0].verdict() == "open"
    third = pretended({"one": np.full((3, 4), np.nan), "two": np.full((3, 4), np.nan), "c": np.full((3, 4), 0.1)})
    assert third.cells[0].pair("one", "two").verdict() == "open"
    assert third.cells[0].pair("c", "two").verdict() == "real"
    assert "Learnt nothing: one and two." in _verdict(third)


NAN_RULE = """
from steprule import rule
from steprule.hyper import Rate
from steprule.maths import log
@rule
def nanrule(p, g, *, lr: Rate = 0.1):
    return p - lr * g * log(-1.0 * abs(g) - 1)
@rule
def up(p, g, *, lr: Rate = 50.0):
    return p + lr * g
"""


@pytest.mark.long
def test_a_rule_of_nan_on_the_command_line(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(NAN_RULE)
    typed = ["race", "mine.py:nanrule", "sgd", "--on", "airfoil-linear", *sized(4, 2, 3)]
    assert main([*typed, "--schedule", "linear", "--epochs", "1", "--workers", "1", "--out", "r"]) == 0
    done = capsys.readouterr()
    assert "learnt nothing; 100% diverged" in " ".join(done.out.split())
    assert "nanrule in 6 of 6 fresh runs" in " ".join(done.out.split())
    assert done.err == ""
    assert main(["check", "mine.py:nanrule", "--against", "sgd", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["parting"]["ours"] == "nan"


def _row(label: str, mean: float, low: float, high: float, *, diverged: int = 0, seeds: int = 20) -> races.Setting:
    finals = np.full(seeds, mean)
    return races.Setting("p", "constant", label, "sgd", True, mean, 0.1, low, high, 0.1, diverged, {}, finals)


def test_as_given_compares_no_survivors() -> None:
    fine, fair = _row("fine", 0.2, 0.1, 0.3), _row("fair", 0.4, 0.35, 0.5)
    lucky = _row("lucky", 0.1, 0.05, np.inf, diverged=10)
    dead = _row("dead", np.nan, np.inf, np.inf, diverged=20)
    words = settings_in_words([fine, fair, lucky, dead])
    assert "The lowest mean training loss is 0.20000 (fine), the highest 0.40000 (fair)" in words
    assert "lucky with 10 of 20 seeds (the others' mean, 0.10000, is compared with nothing)" in words
    assert "dead with 20 of 20 seeds" in words
    assert "fine alone diverged with no seed, so there is nothing to compare it with" in settings_in_words([fine, dead])
    assert "nothing is ranked" in settings_in_words([lucky, dead])
    assert "Diverged" not in settings_in_words([fine, fair])
    one = [_row("fine", 0.2, 0.2, 0.2, seeds=1), _row("fair", 0.4, 0.4, 0.4, seeds=1)]
    assert "One seed tells nothing" in settings_in_words(one)
    assert "lead" not in settings_in_words(one)
    assert one[0].middle == "-"


def test_as_given_on_the_command_line(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(NAN_RULE)
    typed = ["race", "mine.py:up", "sgd", "--set", "up.lr=50", "--trials", "0", "--seeds", "2", "--out", "r"]
    assert main(typed) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "up (2 of 2 diverged)" in out
    assert "sgd alone diverged with no seed" in out
    assert "final training loss over 2 seeds" in out
    wild = ["race", "sgd", "adam", "--on", "beale", "--set", "sgd.lr=0.0187", "--set", "adam.lr=0.02"]
    assert main([*wild, "--trials", "0", "--seeds", "6", "--epochs", "2", "--out", "b"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "lowest mean" not in out
    assert "least-squares" not in out
    assert "is compared with nothing" in out


def test_a_sweep_of_the_dead_has_no_best(capsys: pytest.CaptureFixture[str]) -> None:
    found = steprule.sweep("sgd", "airfoil", {"lr": [1e7, 1e8, 1e9]}, epochs=1, compile=False)
    assert found.best is None
    assert "no best: every point diverged with some seed" in repr(found)
    assert found.to_dict()["best"] is None
    assert "star" not in found._repr_html_()
    assert main(["sweep", "sgd", "--vary", "lr=1e7..1e9", "--points", "4", "--no-compile"]) == 0
    out = capsys.readouterr().out
    assert "no best" in out
    assert "4 of 4 diverged" in out
    assert main(["sweep", "sgd", "--vary", "lr=1e-2..1e9", "--points", "8", "--no-compile"]) == 0
    out = capsys.readouterr().out
    alive = re.search(r"the best (\d) of 8 points", out)
    assert alive
    assert 0 < int(alive[1]) < 8
    assert "inf" not in out


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
    assert float(paid[1]) == pytest.approx(100 * (ratio - 1), abs=0.051)
    assert float(paid[2]) < float(paid[1]) < float(paid[3]) < 0
    found = race.to_dict()["cells"][0]["untuned"]
    assert {u["first"]: (u["verdict"], u["below_all_tuned"]) for u in found}["b"] == ("real", True)


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
    finals = [steprule.train("sgd", "airfoil", lr=float(r)).final_loss for r in rates]
    assert found.best == int(np.nanargmin(finals))
    assert found.at_end == ({"lr": end} if end else {"lr": "lowest"} if found.best == 0 else {})
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
    assert "those tried" in pictures.draw([small]).axes[1].get_title()


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
                assert found == pytest.approx(value, rel=0.006)
                assert 1 - found == pytest.approx(1 - value, rel=0.006)


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
        cell = re.search(rf"</span>{label}</th>.*?<td>(lr=[^<]*)</td></tr>", page)
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
