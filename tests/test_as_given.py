"""The race's table and its page: what stands in them, that the page needs no network, and that names are escaped."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tolerances import ROUNDED64

from steprule.races.as_given import TUTORIAL, Comparison, Entry, compare, in_words, summarise
from steprule.reports.html import page, write_report
from steprule.reports.mathml import mathml
from steprule.training import train


@pytest.fixture(scope="module")
def tutorial() -> Comparison:
    return compare(seeds=3)


def test_the_table_is_what_numpy_says(tutorial: Comparison) -> None:
    assert [row.label for row in tutorial.rows] == [e.label for e in TUTORIAL]
    for row in tutorial.rows:
        finals = np.array([tutorial.runs[row.label, seed].final_loss for seed in range(3)])
        assert row.mean == pytest.approx(finals.mean(), rel=ROUNDED64)
        assert row.sd == pytest.approx(finals.std(ddof=1), rel=ROUNDED64)
        assert (row.low, row.high) == pytest.approx(tuple(np.percentile(finals, [2.5, 97.5])), rel=ROUNDED64)
        assert row.book_inside == tuple(bool(row.low <= b <= row.high) for b in row.book)
        assert row.seconds > 0
        assert row.seeds == 3
    assert sum(len(row.book) for row in tutorial.rows) == 12


def test_all_run_the_same_seeds_and_starts(tutorial: Comparison) -> None:
    for seed in range(3):
        for form in ("formula", "class"):
            starts = {tutorial.runs[e.label, seed].losses[0] for e in TUTORIAL if e.form == form}
            assert len(starts) == 1
    run = train("adam", seed=2, lr=0.01, eps=1e-6)
    assert np.array_equal(tutorial.runs["Adam formula", 2].losses, run.losses)


def test_divergence_does_not_spoil_the_table() -> None:
    entries = [Entry("wild", "sgd", {"lr": 1e8}), Entry("tame", "sgd", {"lr": 0.05})]
    result = compare(entries, seeds=3)
    wild, tame = result.rows
    assert wild.diverged == 3
    assert np.isinf(wild.high)
    assert np.isfinite([tame.mean, tame.sd, tame.low, tame.high]).all()
    assert "tame alone diverged with no seed, so there is nothing to compare it with" in in_words(result.rows)
    assert "wild with 3 of 3 seeds" in in_words(result.rows)
    assert "wild" in page(result)


def test_the_words_follow_the_numbers(tutorial: Comparison) -> None:
    best = min(tutorial.rows, key=lambda r: r.mean)
    words = in_words(tutorial.rows)
    assert f"{best.mean:.5f} ({best.label})" in words
    assert "none was tuned" in words
    apart = [
        tutorial.rows[0],
        tutorial.rows[0].__class__(
            **{**tutorial.rows[0].__dict__, "label": "far", "mean": 9.0, "low": 8.0, "high": 10.0}
        ),
    ]
    assert "wider than the seeds' spread" in in_words(apart)


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


def test_the_page_is_whole_and_fetches_nothing(tutorial: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(tutorial, path, command=["steprule", "race", "--seeds", "3"])
    text = path.read_text()
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
    assert "Adam: adam" in parser.headings
    for row in tutorial.rows:
        assert row.label in text
        for figure in row.book:
            assert f"{figure:.6f}" in text
    assert "0.24168796" in text
    assert "steprule race --seeds 3" in text
    assert "10.24432/C5VW2C" in text
    assert tutorial.hardware in text
    for versions in tutorial.spec["versions"].values():
        assert versions in text
    assert text.count("<math ") > 30
    assert text.count('class="plotly-graph-div"') == 3


def test_names_are_text() -> None:
    evil = "<script>alert('x')</script>"
    text = page(compare([Entry(evil, "sgd", {"lr": 0.05}), Entry("b", "adam", {"lr": 0.01}, method=evil)], seeds=1))
    assert evil not in text
    assert "&lt;script&gt;alert" in text


def test_formulas_are_mathml() -> None:
    shown = mathml(r"\theta_{t} = \frac{\hat{m}_{t}}{\sqrt{v_{t}}}")
    assert shown.startswith("<math ")
    assert "<mfrac>" in shown
    assert "<msqrt>" in shown


def test_in_a_browser(tutorial: Comparison, tmp_path: Path) -> None:
    """Chromium draws the three charts and logs no error, with the network shut off."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    write_report(tutorial, tmp_path / "report.html")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    command = [
        chromium,
        *flags.split(),
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command += [
        "--enable-logging=stderr",
        "--v=0",
        "--virtual-time-budget=8000",
        "--dump-dom",
        (tmp_path / "report.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.count('class="main-svg"') >= 3
    assert len(re.findall(r'class="contourlayer mlayer"', done.stdout)) >= 1
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


def test_python_api() -> None:
    result = compare([Entry("a", "adam", {"lr": 0.01})], seeds=[3, 5])
    assert result.seeds == (3, 5)
    assert result.rows == summarise(result.entries, result.runs)
    for bad, words in ((True, "whole number"), ("3", "whole number"), ([], "0 or more"), ([-1], "0 or more")):
        with pytest.raises((ValueError, TypeError), match=words):
            compare(["adam"], seeds=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one rule"):
        compare([])
    with pytest.raises(ValueError, match="one problem"):
        compare(["adam"], ["airfoil", "airfoil"])  # type: ignore[arg-type]
