"""What a paper takes from a race or a judgement: every interval in every form, LaTeX that compiles, methods with every number."""

from __future__ import annotations

import csv
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pretended import MADE, pretended, problem
from sized import sized
from test_judge import results

import steprule
from steprule import races
from steprule.cli import completion, main
from steprule.errors import DataError, InputError, MissingPackageError, OutputError
from steprule.provenance import commit_of
from steprule.races.citing import sources
from steprule.races.citing.citable import FORMS, TEXTS, Citable
from steprule.races.judging import judge

EVIL = r"[x]* a_b & 50% $\frac{1}{2}$ #1 ~^ <|> {é} --"
STUDIES, FRESH, TRIALS = 3, 5, 11
TYPED = ["race", "sgd", "adam", "--on", "airfoil-linear", *sized(4, 2, 3, "linear", 1), "--epochs", "1"]


def raced(*, schedules: tuple[str, ...] = ("linear", "constant"), shift: float = 0.0, **more: Any) -> races.Race:
    """Adam is lowest, a rule of a strange name next to it, SGD far above; shifted below zero where asked."""
    rng = np.random.default_rng(0)
    ends = {"adam": 0.5, EVIL: 0.502, "sgd": 0.7}
    found = {n: m * np.exp(0.02 * rng.standard_normal((STUDIES, FRESH))) + shift for n, m in ends.items()}
    return pretended(found, trials=TRIALS, schedules=schedules, **more)


@pytest.fixture(scope="module")
def race() -> races.Race:
    return raced()


@pytest.fixture(scope="module")
def judged() -> steprule.Judgement:
    return judge(results().replace({"optimizer": {"lion": EVIL}}))


@pytest.fixture(params=["race", "judged"])
def found(request: pytest.FixtureRequest) -> Citable:
    own: Citable = request.getfixturevalue(request.param)
    return own


def gaps_of(found: Any) -> list[tuple[float, float | None, float | None]]:
    """Every difference with its interval, as the result itself has them."""
    if isinstance(found, races.Race):
        return [pair.percent for cell in found.cells for pair in cell.pairs]
    return [(pair.difference, pair.low, pair.high) for pair in found.pairs]


def test_every_pair_stands_in_frames_and_in_csv_with_its_interval(found: Citable) -> None:
    frame = found.frame("pairs")
    gaps = gaps_of(found)
    assert len(gaps) == len(frame) == 6
    assert [tuple(row) for row in frame[["difference", "low", "high"]].to_numpy()] == gaps
    assert (frame["low"] < frame["difference"]).all()
    read = pd.read_csv(StringIO(found.csv()))
    assert list(read.columns) == list(frame.columns)
    assert read["b"].tolist() == frame["b"].tolist()
    assert read[["difference", "low", "high", "p_real"]].equals(frame[["difference", "low", "high", "p_real"]])


def test_a_row_per_method_has_its_difference_to_the_best(found: Citable) -> None:
    frame, pairs = found.frame(), found.frame("pairs")
    assert len(frame) == 6
    best = frame[frame["difference"].isna()]
    assert best["against_best"].tolist() in (["lowest"] * 2, ["best"] * 2)
    others = frame[frame["difference"].notna()]
    for _, row in others.iterrows():
        own = pairs[(pairs["problem"] == row["problem"]) & (pairs["b"] == row["method"])]
        own = own[own["a"].isin(best["method"])].iloc[0] if "schedule" not in own else own[own["a"] == "adam"].iloc[0]
        assert (row["difference_low"], row["difference_high"]) in set(zip(pairs["low"], pairs["high"], strict=True))
        assert row["against_best"] in ("real", "same", "open")
    assert len(list(csv.DictReader(StringIO(found.csv("standings"))))) == 6


def test_the_untuned_stand_beside_the_tuned_with_intervals() -> None:
    race = raced(untuned={"adam": 0.6, "sgd": 0.9, EVIL: 0.502})
    frame = race.frame("untuned")
    expected = [own.pair.percent for cell in race.cells for own in cell.untuned]
    assert [tuple(row) for row in frame[["difference", "low", "high"]].to_numpy()] == expected
    assert frame["b"].tolist()[0] == "adam, untuned"
    assert r"adam, untuned" in race.latex("untuned")


def test_markdown_has_every_difference_to_the_best(found: Citable) -> None:
    text = found.markdown()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line) for line in lines]
    assert len({len(own) for own in cells}) == 1
    assert sum(bool(re.search(r"\+\d+\.\d % \[[+-]\d+\.\d, \+\d+\.\d\] (real|same|open)", line)) for line in lines) == 4
    assert r"<\|>" in text
    assert "Made " in text


# LaTeX.


def test_a_latex_table_is_whole(found: Citable) -> None:
    text = found.latex()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {2}
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert text.count(r"\textbf") >= 2
    assert r"{[}x{]}{*} a\_b \& 50\% \$\textbackslash{}frac\{1\}\{2\}\$ \#1 \textasciitilde{}\textasciicircum{}" in text
    pairs = [line for line in found.latex("pairs").splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(pairs) == 1 + 6
    assert {len(re.findall(r"(?<!\\)&", row)) for row in pairs} == {6}


def test_many_problems_stand_three_across() -> None:
    judged = judge(results(tuple("abcd")))
    text = judged.latex()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {row.count("&") for row in rows} == {3}
    assert text.count(r"\midrule") == 3
    assert sum(row.startswith("method") for row in rows) == 2


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_compiles(found: Citable, tmp_path: Path) -> None:
    body = "\n\n".join([found.latex(), found.latex("pairs"), sources_as_text(found)])
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,longtable}\begin{document}"
    (tmp_path / "a.tex").write_text(f"{head}\n{body}\n\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "a.pdf").read_bytes()[:5] == b"%PDF-"


def sources_as_text(found: Citable) -> str:
    """The titles of the sources, which a bibliography sets."""
    return "\n\n".join(re.findall(r"title\s+= \{(.*)\},", found.bibtex()))


# Methods.


def test_the_methods_have_every_number_of_the_protocol(race: races.Race) -> None:
    text = race.methods()
    for words in (
        "3 optimizers (adam, ",
        "1 problem: made up (a line; 12 train, 12 validation and 12 test samples; 2 epochs of batches of 10, 4 steps)",
        "2 schedules of the learning rate: linear and constant",
        f"A tuning trains {TRIALS} trials",
        f"{STUDIES * TRIALS} trials of every optimizer were trained, in {STUDIES} batches of {TRIALS} scrambled Sobol points",
        f"{STUDIES} trainings per seed and optimizer",
        "seeds 0 to 2",
        "the lowest validation loss",
        "lr from 1e-05 to 10, logarithmic",
        "within 0.5 decades",
        "by 2 decades",
        "at most 3 times. No range moved.",
        f"{FRESH} fresh seeds (seeds 3 to 7)",
        "judged by the test loss",
        "13 multiples from 0.032 to 32",
        "95 % intervals",
        "larger than 1 % of the lower loss",
        "5 % with Holm's correction (Holm, 1979) over the 3 pairs",
        f"{race.lanes:,} trainings",
        MADE.commit,
        "2026-11-27",
        "steprule 0.1.0",
        "torch 2.13.0",
    ):
        assert words in text, words
    assert "\n" not in text.strip()


@pytest.mark.parametrize(
    ("splits", "chosen", "judged"),
    [
        (("train",), "lowest training loss", "judged by the training loss"),
        (("train", "validation"), "lowest validation loss", "judged by the validation loss"),
        (("train", "test"), "lowest training loss", "judged by the test loss"),
    ],
)
def test_the_methods_name_the_loss_that_chose_and_the_one_that_judged(
    splits: tuple[str, ...], chosen: str, judged: str
) -> None:
    own = raced(task=problem(splits=splits))
    text = own.methods()
    assert chosen in text
    assert judged in text
    assert own.measures["made up"].caution in text


def test_the_methods_follow_what_happened() -> None:
    moved = raced(at=0.99, matters=0.05).methods()
    assert re.search(r"Moved were the ranges of adam on made up, linear \(3 times\)", moved)
    assert "still lay at an end of its range for lr of adam on made up, linear (highest)" in moved
    assert "larger than 5 %" in moved
    below = raced(shift=-2.0).methods()
    assert "compared by differences, in per cent of the fall" in below
    assert "by their ratios" not in below
    alone = pretended({"adam": [[0.5, 0.6]], "sgd": [[0.7, 0.8]]})
    assert "One study cannot tell luck from a difference" in alone.methods()
    assert "Holm" not in alone.methods() + alone.bibtex()
    gone = pretended({"adam": np.full((2, 3), 0.5), "sgd": [[np.nan, 0.7, 0.8], [0.7, 0.7, 0.7]]})
    assert "Such were fresh trainings of sgd on made up, linear (1 of 6)." in gone.methods()


def test_the_methods_of_a_judgement(judged: steprule.Judgement) -> None:
    text = judged.methods()
    for words in (
        "3 methods (",
        "2 problems (airfoil and digits) in 36 runs: 6 of each method on each problem",
        "The measure is the val_loss; lower is better.",
        "6 pairs by Student's t-test on the differences of runs with one seed",
        "larger than 1 %",
        "level of 5 % with Holm's correction (Holm, 1979) over the 3 pairs of each problem",
        "Over the 2 problems the methods were compared by Friedman's test",
    ):
        assert words in text, words
    noisy = judge(results(("x",)), noise=0.02, margin=0.1)
    assert "standard deviation of one run is 0.02" in noisy.methods()
    assert "larger than 0.1," in noisy.methods()
    none = judge(results(("x",)), matters=0.0, paired=False)
    assert "is not zero, each" in none.methods()
    assert "Welch's t-test (Welch, 1947)" in none.methods()
    assert "Schuirmann" not in none.methods() + none.bibtex()
    assert "@misc{welch1947" in none.bibtex()


# Sources.


def entries(text: str) -> dict[str, dict[str, str]]:
    found = {}
    for key, body in re.findall(r"^@misc\{(\w+),\n(.*?)\n\}$", text, re.DOTALL | re.MULTILINE):
        assert key not in found
        found[key] = dict(re.findall(r"^  (\w+) +?= \{(.*)\},$", body, re.MULTILINE))
    assert text.count("@") == len(found)
    return found


def test_bibtex_names_steprule_its_rules_and_its_statistics(race: races.Race) -> None:
    found = entries(
        races.race(["adam", "sgd", "lamb"], "airfoil-linear", trials=2, seeds=1, fresh=1, epochs=1).bibtex()
    )
    assert {"steprule", "kingma2015adam", "owen1998scrambling"} < set(found)
    assert found["kingma2015adam"]["author"] == "Kingma and Ba"
    assert any(own["author"].endswith(" and others") for own in found.values())
    assert found["steprule"]["version"] == steprule.__version__
    assert entries(race.bibtex())["steprule"]["note"] == f"commit {MADE.commit}"
    stated = (Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8")
    assert f'title: "{sources.TITLE}"' in stated
    assert f"name: {sources.AUTHORS}" in stated


def test_the_commit_is_that_of_a_repository_which_holds_the_file(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        own = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(own, check=True, capture_output=True, text=True).stdout.strip()

    assert commit_of(tmp_path) == ""
    git("init", "-q")
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("1")
    git("add", "a.py")
    git("commit", "-q", "-m", "a")
    commit = git("rev-parse", "HEAD")
    assert commit_of(tmp_path) == commit_of(tmp_path, tmp_path / "a.py") == commit
    assert commit_of(tmp_path, tmp_path / "b.py") == ""
    (tmp_path / "a.py").write_text("2")
    assert commit_of(tmp_path) == f"{commit}+"
    assert commit_of(tmp_path / "nowhere") == ""


# Files.


@pytest.mark.parametrize("ending", [*TEXTS, ".svg", ".pdf", ".png", ".html"])
def test_every_ending_is_written(found: Citable, ending: str, tmp_path: Path) -> None:
    path = found.save(tmp_path / f"a{ending}")
    data = path.read_bytes()
    begins = {".pdf": b"%PDF-", ".png": b"\x89PNG", ".svg": b"<?xml", ".html": b"<!doctype html>"}
    assert data.startswith(begins.get(ending, b""))
    if ending in TEXTS:
        assert data.decode() == TEXTS[ending](found)
    if ending == ".pdf":
        assert b"/Type3" not in data  # publishers refuse such fonts


PICTURES = {
    "race": ("standings", "best-of-k", "curves", "sensitivity", "profiles"),
    "judged": ("standings", "differences", "power"),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in PICTURES.items() for name in names])
def test_every_picture_has_its_name(kind: str, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    found = request.getfixturevalue(kind)
    own, main_one = (found.save(tmp_path / f"a{of}.pdf", of).read_bytes() for of in (name, ""))
    assert (own == main_one) == (name == "standings")


def test_what_is_refused(found: Citable, tmp_path: Path) -> None:
    for call, words in (
        (lambda: found.save(tmp_path / "a.docx"), "a file that ends in .html"),
        (lambda: found.save(tmp_path / "a.pdf", "standing"), "Did you mean 'standings'"),
        (lambda: found.save(tmp_path / "a.md", "pairs"), "none for a file that ends in .md"),
        (lambda: found.frame("pair"), "Did you mean 'pairs'"),
        (lambda: found.csv("rows"), "unknown table"),
        (lambda: found.latex("rows"), "unknown table"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files of more than a few bytes cannot be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("ending", [*TEXTS, ".svg", ".pdf", ".png"])
def test_nothing_is_half_written(found: Citable, ending: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / f"a{ending}"
    path.write_text("as it was")
    request.getfixturevalue("small_files")
    with pytest.raises(OutputError, match="expected a file that can be written"):
        found.save(path)
    assert path.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [path]


def test_settings_as_given_have_tables_and_methods_too() -> None:
    given = steprule.race(["sgd", "adam"], "airfoil", trials=0, seeds=3, epochs=1, workers=1)
    frame = given.frame()
    assert frame["method"].tolist() == ["sgd", "adam"]
    assert frame["value"].tolist() == [s.mean for s in given.settings]
    assert frame[["low", "high"]].to_numpy().tolist() == [[s.low, s.high] for s in given.settings]
    assert len(given.frame("pairs")) == 0
    text = given.methods()
    assert "Nothing was tuned: each optimizer was trained at its settings with 3 seeds (seeds 0 to 2)" in text
    assert "no difference was tested" in text
    assert "Holm" not in given.bibtex()
    assert given.latex().count(r"\textbf") == 0
    assert "% In brackets: 95 % of seeds." in given.latex().splitlines()


# The command line.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = tmp_path_factory.mktemp("raced") / "race"
    assert main([*TYPED, "--matters", "0.03", "--out", str(own)]) == 0
    return own


def test_the_forms_that_are_offered_are_those_there_are() -> None:
    assert tuple(FORMS) == completion.CITED


@pytest.mark.parametrize("form", FORMS)
def test_a_finished_race_is_printed(form: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert main(["race", "cite", str(folder), "--as", form]) == 0
    said = capsys.readouterr().out
    own = races.finished(
        folder, ["sgd", "adam"], ["airfoil-linear"], 4, 2, fresh=3, schedules=["linear"], epochs=1, matters=0.03
    )
    assert said == FORMS[form](own)
    assert main([*TYPED, "--matters", "0.03", "--out", str(folder), "--as", form]) == 0
    assert capsys.readouterr().out == said
    assert before.keys() == dict.fromkeys(folder.rglob("*"), 0).keys()


def test_the_date_and_the_share_that_matters_are_those_of_the_race(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = json.loads((folder / "made.json").read_text())
    assert main([*TYPED, "--out", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["made"] == made
    assert main([*TYPED, "--matters", "0.03", "--out", str(folder)]) == 0
    capsys.readouterr()
    assert main(["race", "cite", str(folder), "--as", "methods"]) == 0
    said = capsys.readouterr().out
    assert "larger than 3 %" in said
    assert made["date"][:10] in said
    assert main(["race", "cite", str(folder), "--as", "methods", "--matters", "0.2"]) == 0
    assert "larger than 20 %" in capsys.readouterr().out
    (folder / "made.json").rename(folder / "away")
    assert main(["race", "cite", str(folder), "--as", "methods"]) == 0
    assert "Made with steprule" in capsys.readouterr().out, "nobody knows when"
    (folder / "away").rename(folder / "made.json")


def test_a_finished_race_is_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.pdf", "a.svg", "a.tex", "a.bib", "a.html"):
        assert main(["race", "cite", str(folder), "--out", str(tmp_path / name)]) == 0
        assert capsys.readouterr().out == f"Written: {tmp_path / name}\n"
        assert (tmp_path / name).stat().st_size > 200
    assert main(["race", "cite", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("### airfoil-linear, linear learning rate")


def test_a_judgement_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results().to_csv(tmp_path / "r.csv", index=False)
    for form in FORMS:
        assert main(["judge", str(tmp_path / "r.csv"), "--as", form]) == 0
        assert capsys.readouterr().out == FORMS[form](judge(tmp_path / "r.csv"))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["race", "cite"], "expected the folder of one race"),
        (["race", "cite", "a", "b"], "expected the folder of one race"),
        (["race", "cite", "nowhere"], "expected the command of a race, got none. A race from Python is cited there"),
        (["race", "cite", "damaged"], "expected the command of a race, got a file that is damaged"),
        (["race", "cite", "half"], "expected all of its blocks, got no "),
        (["race", "cite", "half", "--as", "latx"], "Did you mean 'latex'"),
        (["race", "cite", "half", "--out", "a.docx"], "a file that ends in .html"),
        (["race", "adam", "--as", "word"], "unknown form for --as"),
        (["race", "adam", "--as", "latex", "--shard", "1/2"], "expected a race that is run whole"),
        (["judge", "a.csv", "--as", "word"], "unknown form for --as"),
    ],
)
def test_bad_input_is_one_line(
    typed: list[str], words: str, folder: Path, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("damaged").mkdir()
    Path("damaged/command.json").write_text('{"rules"')
    shutil.copytree(folder, "half")
    next(Path("half/blocks").glob("*confirm*")).unlink()
    assert main(typed) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err


def test_another_race_in_the_folder_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="holds another race, which differs in"):
        races.finished(folder, ["sgd", "adam"], ["airfoil-linear"], 5, 2)
    with pytest.raises(DataError, match="the spec of a race"):
        races.finished(folder / "nowhere", ["sgd", "adam"])


def test_without_pandas_a_frame_says_how_to_get_it(race: races.Race, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match="pip install pandas"):
        race.frame()
    assert race.csv("standings")
