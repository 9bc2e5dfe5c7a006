"""The gate: its answers, its log, its budget."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from by_path import module_at
from scipy import stats
from tolerances import JUDGED_PERCENT, LEVELS_OF_MANY, ROUNDED64

from steprule.cli import main
from steprule.errors import DataError, InputError
from steprule.races.judging import gate
from steprule.races.judging.gate import gamma, level

bench = module_at("benchmarks/judge.py")
BASE = [0.512, 0.498, 0.505, 0.520, 0.501, 0.509, 0.515, 0.503, 0.507, 0.511]


def test_a_night(tmp_path: Path) -> None:
    log = tmp_path / "kept.jsonl"
    first = gate(BASE, log, idea="base")
    assert (first.answer, first.more, first.runs_spent) == ("reference", 0, 10)
    unknown = gate(0.40, log, idea="batch 64")
    assert (unknown.answer, unknown.more, unknown.p) == ("unknown", 2, None)
    assert str(unknown).startswith("unknown: run batch 64 2 more times; -2")
    more = gate([0.41, 0.405], log, idea="batch 64")
    assert (more.answer, more.more) == ("more", 7)
    worse = gate([0.53, 0.52, 0.54], log, idea="warmup")
    assert (worse.answer, worse.difference is not None and worse.difference > 0) == ("not", True)
    kept = gate([0.402, 0.399, 0.41, 0.406, 0.403, 0.411, 0.404], log, idea="batch 64")
    assert (kept.answer, kept.more, kept.ideas, kept.runs_spent) == ("keep", 10, 2, 23)
    assert kept.p is not None
    assert kept.level is not None
    assert kept.p < kept.level
    again = gate([0.3, 0.3, 0.31], log, idea="next")
    assert (again.answer, again.reference, again.runs_spent) == ("again", "batch 64", 23)
    measured = gate([v - 0.1 for v in BASE], log, idea="batch 64")
    assert (measured.answer, measured.more) == ("reference", 0)
    held = gate([0.45, 0.44, 0.46], log, idea="next")
    assert (held.answer, held.reference) == ("not", "batch 64")
    with pytest.raises(InputError, match="idea next: expected one that is not decided"):
        gate([0.3], log, idea="next")


def test_the_winners_first_runs_do_not_serve_as_the_reference(tmp_path: Path) -> None:
    """Against these an idea would look worse than against new ones."""
    log = tmp_path / "kept.jsonl"
    gate(BASE, log, idea="base")
    lucky = [0.3 + 0.001 * k for k in range(10)]
    assert gate(lucky, log, idea="lucky").answer == "keep"
    gate([v - 0.05 for v in BASE], log, idea="lucky")
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    night = bench.judging.Night()
    for entry in entries:
        night.add(entry)
    assert night.kept == pytest.approx([v - 0.05 for v in BASE], rel=ROUNDED64)
    assert gate([0.4, 0.41, 0.405], log, idea="other").answer == "more"


def test_a_reference_of_few_runs_is_measured_first(tmp_path: Path) -> None:
    log = tmp_path / "kept.jsonl"
    first = gate([0.5, 0.51], log, idea="base")
    assert (first.answer, first.more) == ("reference", 8)
    asked = gate([0.3, 0.31, 0.3], log, idea="a")
    assert (asked.answer, asked.reference, asked.more) == ("again", "base", 8)
    assert (gate(BASE[:8], log, idea="base").more, gate([0.3, 0.31, 0.3], log, idea="a").answer) == (0, "more")


def test_known_noise_and_a_diverged_idea(tmp_path: Path) -> None:
    log = tmp_path / "kept.jsonl"
    gate(BASE, log, idea="base", noise=0.02)
    assert gate(0.45, log, idea="a", noise=0.02).answer == "more"
    kept = gate([0.45, 0.46], log, idea="a", noise=0.02)
    z = (np.log(BASE).mean() - np.log([0.45, 0.45, 0.46]).mean()) / (0.02 * math.sqrt(1 / 3 + 1 / 10))
    assert kept.p == pytest.approx(stats.norm.sf(z), rel=JUDGED_PERCENT)
    assert kept.answer == "keep"
    other = tmp_path / "other.jsonl"
    gate(BASE, other, idea="base")
    assert gate([math.inf, 0.1, 0.1], other, idea="gone").answer == "not"


def test_higher_is_better(tmp_path: Path) -> None:
    log = tmp_path / "kept.jsonl"
    gate(BASE, log, idea="base", higher=True)
    assert gate([0.4, 0.41, 0.4], log, idea="a", higher=True).answer == "not"
    assert gate([0.7, 0.71, 0.7], log, idea="b", higher=True).answer == "more"


def test_the_levels_of_a_night_are_its_budget() -> None:
    """Before the first keep they add up to no more than 5 %; a keep earns more, and none are ever below 0."""
    assert sum(gamma(k) for k in range(1, 100_000)) == pytest.approx(1, rel=LEVELS_OF_MANY)
    assert sum(level(k, []) for k in range(1, 100_000)) < 0.05
    assert level(7, [5]) > level(7, [])
    assert level(7, [3, 5]) > level(7, [3])
    assert level(5, [5]) == level(5, [])


@pytest.mark.parametrize("known", [False, True])
def test_in_one_of_twenty_nights_of_nothing_at_most_is_any_kept(known: bool) -> None:
    rng = np.random.default_rng(0)
    nights = [bench.by_gate(rng, "normal", np.zeros(100), known) for _ in range(60)]
    false = sum(n.false > 0 for n in nights)
    assert stats.binomtest(false, 60, 0.05, alternative="greater").pvalue > 0.01
    lower = [bench.by_lower(rng, "normal", np.zeros(100), known) for _ in range(60)]
    assert 3 < np.mean([n.false for n in lower]) < 6


def test_better_ideas_are_found() -> None:
    rng = np.random.default_rng(1)
    better = np.where(np.arange(100) % 10 == 5, 3.0, 0.0)
    nights = [bench.by_gate(rng, "normal", better, False) for _ in range(8)]
    assert np.mean([n.found for n in nights]) > 8
    assert np.mean([n.false for n in nights]) < 1


def test_the_command(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("base.csv").write_text("val_loss\n" + "\n".join(map(str, BASE)), encoding="utf-8")
    Path("new.csv").write_text("method,val_loss\nnew,0.4\nnew,0.41\nnew,nan\n", encoding="utf-8")
    asked = ["--gate", "--log", "kept.jsonl"]
    assert main(["judge", "base.csv", *asked, "--idea", "base"]) == 0
    assert capsys.readouterr().out == "base is the reference. 0 ideas, 10 runs spent.\n"
    assert main(["judge", "new.csv", *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["idea"], found["answer"], found["runs_spent"]) == ("new", "not", 13)
    assert len(Path("kept.jsonl").read_text(encoding="utf-8").splitlines()) == 2


BAD = {
    "no log": (["base.csv", "--gate"], "expected --gate and --log FILE together"),
    "no gate": (["base.csv", "--log", "a.jsonl"], "expected --gate and --log FILE together"),
    "no idea": (["base.csv", "--gate", "--log", "a.jsonl"], "expected a column method, optimizer or algorithm"),
    "two ideas": (["two.csv", "--gate", "--log", "a.jsonl"], "gate: expected the runs of one idea, got those of a, b. Give a file per idea."),
    "a log of another kind": (["base.csv", "--gate", "--log", "two.csv", "--idea", "x"], "expected a log of this gate, got line 1"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(
    options: list[str], words: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("base.csv").write_text("val_loss\n0.5\n0.6\n", encoding="utf-8")
    Path("two.csv").write_text("method,val_loss\na,0.5\nb,0.6\n", encoding="utf-8")
    code = main(["judge", *options])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_things_that_are_no_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="idea: expected a name, got none"):
        gate([0.5], tmp_path / "a.jsonl")
    with pytest.raises(InputError, match="losses: expected numbers, got 'x'"):
        gate(["x"], tmp_path / "a.jsonl", idea="a")
    (tmp_path / "a.jsonl").write_text('{"idea": "a"', encoding="utf-8")
    with pytest.raises(DataError, match="expected a log of this gate"):
        gate([0.5], tmp_path / "a.jsonl", idea="a")
