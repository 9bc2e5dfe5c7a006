"""What is said of results is said only where it is so: which loss, on which scale, how sure, who diverged, what is best."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from claimed import NAN_RULE, SMALL, Gauss, _classes, _row, _verdict
from pretended import pretended, problem
from scipy import stats
from sized import sized
from tolerances import LUCKS, QUANTILES, ROUNDED32
from torch import nn

import steprule
from steprule import races
from steprule.cli import main
from steprule.errors import InputError
from steprule.races.raced import Race
from steprule.races.setting import in_words as settings_in_words
from steprule.reports import race_charts, race_page

# Losses of 0 and less.


def _by_hand(a: np.ndarray, b: np.ndarray, lucks: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """b minus a, [studies, seeds] each, with its 95 % interval, by the formulas of docs/race.md in plain loops."""
    studies, seeds = a.shape
    estimate = sum(b[i][j] - a[i][j] for i in range(studies) for j in range(seeds)) / (studies * seeds)
    gaps = [sum(b[i][j] - a[i][j] for i in range(studies)) / studies for j in range(seeds)]
    of_seeds = sum((g - estimate) ** 2 for g in gaps) / (seeds - 1) / seeds
    parts, both = [(of_seeds, seeds - 1), *lucks], 0.0
    for y in (a, b):
        mean, rows, columns = y.mean(), [row.mean() for row in y], [column.mean() for column in y.T]
        rest = sum((y[i][j] - rows[i] - columns[j] + mean) ** 2 for i in range(studies) for j in range(seeds))
        both += rest / ((studies - 1) * (seeds - 1)) / (studies * seeds)
    variance = max(sum(v for v, _ in parts) - both, of_seeds)
    freedom = max(1.0, variance**2 / sum(v**2 / d for v, d in parts))
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    return estimate, estimate - reach, estimate + reach


def _luck_by_hand(race: Race, label: str, y: np.ndarray) -> tuple[float, float]:
    """The variance of the best of k trials' worth, and its freedom: each batch left out in turn, in plain loops."""
    *_, tuned, last = race.chain(race.cells[0].problem, "linear", label)
    batches, k, seeds = race.tuning.batches, race.tuning.trials, y.shape[1]
    scores = tuned.scores.reshape(batches, -1)
    each, level = scores.shape[1], {}
    for batch, own in enumerate(np.log(scores) if (scores > 0).all() else scores):
        best = sorted(own)[: math.ceil(each / 4)]
        level |= {(batch, trial): score - sum(best) / len(best) for trial, score in enumerate(own)}
    order = sorted(level, key=lambda at: (level[at], at))
    winners = np.flatnonzero(last.lanes.role == "winner")
    runs: dict[Any, list[float]] = {}
    for n, lane in enumerate(winners):
        row, seed = divmod(n, seeds)
        at = int(last.lanes.study[lane]), int(last.lanes.trial[lane])
        runs.setdefault(at, []).append(y[row][seed] - y[:, seed].mean() + y.mean())
    known = [(rank, float(np.mean(runs[at]))) for rank, at in enumerate(order) if at in runs]
    worth = []
    for left_out in range(batches):
        left = [rank for rank, at in enumerate(order) if at[0] != left_out]
        chance = [math.comb(len(left) - 1 - r, k - 1) / math.comb(len(left), k) for r in range(len(left))]
        values = [np.interp(rank, *zip(*known, strict=True)) for rank in left]
        worth.append(sum(c * v for c, v in zip(chance, values, strict=True)))
    middle = sum(worth) / batches
    return (batches - 1) / batches * sum((w - middle) ** 2 for w in worth), max(1.0, 0.6 * (batches - 1))


def test_negative_losses_are_compared_by_differences() -> None:
    """Of the fall from the first loss to the lowest, as a computation in loops has it."""
    rng = Gauss(0)
    a, b = (m + 0.05 * rng.standard_normal((5, 8)) for m in (-4.4, -4.1))
    race = pretended({"a": a, "b": b}, initial=-4.0)
    (cell,) = race.cells
    first, second = cell.standings
    assert (first.label, second.label) == ("a", "b")
    assert (first.loss, second.loss) == pytest.approx((a.mean(), b.mean()), rel=ROUNDED32)
    fall = -4.0 - a.mean()
    assert cell.scale.fall == pytest.approx(fall, rel=ROUNDED32)
    (pair,) = cell.pairs
    lucks = [_luck_by_hand(race, label, y) for label, y in (("a", a), ("b", b))]
    assert pair.percent == pytest.approx([100 * v / fall for v in _by_hand(a, b, lucks)], rel=LUCKS)
    assert pair.turned.percent[0] == pytest.approx(-pair.percent[0], rel=ROUNDED32)
    low, high = _by_hand(np.zeros_like(a), a, lucks[:1])[1:]
    assert (first.low, first.high) == pytest.approx((low, high), rel=QUANTILES)
    assert "a has the lowest test loss, -4." in _verdict(race)
    assert f"b {pair.percent[0]:+.1f} % of the fall" in _verdict(race)
    assert "fall from -4, before the first step, to -4.4" in _verdict(race)
    found = json.loads(json.dumps(race.to_dict(), allow_nan=False))["cells"][0]
    assert (found["compared_by"], found["fall"]) == ("difference", pytest.approx(fall, rel=ROUNDED32))


@pytest.mark.parametrize("shift", [-5.0, -500.0])
def test_a_shifted_loss_has_the_same_verdicts(shift: float) -> None:
    """A constant added to the loss changes no training, and where losses have no zero it changes no word."""
    rng = Gauss(1)
    ends = {n: m + 0.02 * rng.standard_normal((4, 6)) for n, m in (("a", 0.2), ("b", 0.201), ("c", 0.4), ("d", 0.22))}
    one, two = (pretended({n: y + s for n, y in ends.items()}, initial=1.0 + s) for s in (-5.0, shift))
    for p, q in zip(one.cells[0].pairs, two.cells[0].pairs, strict=True):
        assert (p.first, p.second, p.verdict()) == (q.first, q.second, q.verdict())
        assert p.percent == pytest.approx(q.percent, rel=QUANTILES)
    assert {"real"} < {p.verdict() for p in one.cells[0].pairs}


def test_positive_losses_are_compared_by_ratios() -> None:
    rng = Gauss(2)
    a, b = (m * np.exp(0.1 * rng.standard_normal((4, 6))) for m in (0.2, 0.5))
    race = pretended({"a": a, "b": b})
    (cell,) = race.cells
    assert cell.scale.ratios
    assert cell.standings[0].loss == pytest.approx(np.exp(np.log(a).mean()), rel=ROUNDED32)
    lucks = [_luck_by_hand(race, label, np.log(y)) for label, y in (("a", a), ("b", b))]
    ends = _by_hand(np.log(a), np.log(b), lucks)
    assert cell.pairs[0].percent == pytest.approx([100 * math.expm1(v) for v in ends], rel=LUCKS)


@pytest.mark.parametrize("worst", [-1e-9, 0.0])
def test_one_loss_of_nothing_decides_the_scale(worst: float) -> None:
    """No number is invented for it: the mean is the plain one. A problem that knows its floor keeps ratios."""
    ends = np.full((3, 4), 0.25)
    ends[1, 2] = worst
    race = pretended({"a": ends, "b": np.full((3, 4), 0.5)})
    assert race.cells[0].standings[0].loss == pytest.approx(ends.mean(), rel=ROUNDED32)
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
        assert standing["loss"] == pytest.approx(np.mean(kept), rel=ROUNDED32)
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
    assert cell.standings[0].loss == pytest.approx(np.exp(np.log(own).mean()), rel=ROUNDED32)
    best = race.best_of_k("classes", "linear", "sgd")
    tuned = race.chain("classes", "linear", "sgd")[-2]
    every = np.log(np.where(tuned.diverged, tuned.results["initial"], tuned.results[cell.measure.split]))
    assert len(best) == 6
    assert best[0] == pytest.approx(every.mean(), rel=ROUNDED32)  # the best of one is any


def test_problems_that_measure_differently() -> None:
    race = races.race(["adam", "sgd"], [_classes(), _classes(splits="", name="bare")], **SMALL)
    page = race_page.page(race)
    assert "<th>test loss</th>" in page
    assert "<th>training loss</th>" in page
    assert "Loss (classes: test loss; bare: training loss) on seeds that no tuning saw" in page
    assert "chosen by a loss (classes: the validation loss; bare: the training loss)" in page
    figure = race_charts.sensitivity(race)
    assert [axes.get_xlabel() for axes in figure.axes] == [
        f"learning rate (shade: {n} loss)" for n in ("test", "training")
    ]
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
