"""The page on luck in real Chromium: its trainings against the package's, both buttons, what it says of what it found."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from chromium_page import needs_chromium, opened
from plain_training import plain_loss
from playwright.sync_api import Browser, Page
from tolerances import PRINTED_NETWORK, PRINTED_THREE_DIGITS, STANDARD_ERRORS, TRAIN_RULE_AGAINST_CLASS

from steprule.cli import main
from steprule.play import luck
from steprule.play.luck_chinese import CHINESE
from steprule.play.words import CHINESE as PLAYGROUNDS
from steprule.problems import airfoil, catalogue as problems
from steprule.problems.source import batches
from steprule.races.competitor import entrant_of

pytestmark = needs_chromium
# Mean and standard deviation of 2,000 seeds, as docs and lesson have them.
KNOWN = {
    "AdaGrad formula": (0.24293, 0.00089),
    "RMSProp formula": (0.24427, 0.00177),
    "AdaDelta formula": (0.24379, 0.00136),
    "AdaDelta class": (0.28318, 0.03237),
    "Adam formula": (0.24400, 0.00159),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("luck") / "luck.html"
    luck.write(path, {"race": "race.html"})
    assert path.stat().st_size < 1_000_000
    return path


def press(page: Page, part: int) -> None:
    """A button, until all is trained."""
    page.click(f"#{('book', 'tuned')[part]}-run")
    page.wait_for_function(f"parts[{part}].work === null && parts[{part}].seeds === DATA.seeds", timeout=60_000)


def test_a_training_in_the_page_is_the_packages(
    browser: Browser, file: Path, complaints: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The order of every batch to the last sample; the loss at the end in float64; and the command that the page shows of a dot."""
    page = opened(browser, file, complaints)
    for seed in (0, 1, 199, 200, 2 * luck.SEEDS + luck.TUNINGS - 1):
        ours = torch.cat(list(batches(airfoil.TUTORIAL_ROWS, 10, 2, seed)))
        assert page.evaluate("(seed) => [...orderOf(seed)]", seed) == ours.tolist()
    passes, size, _ = luck.BOOKS_SETTINGS
    script = "([k, seed, more]) => lossOf(DATA.runs[k], {...DATA.runs[k].hypers, ...more}, seed, orderOf(seed))"
    for k, entry in enumerate(luck.RUNS):
        for seed, more in ((7, {}), (199, {"lr": 0.003})):
            hypers = {**luck.rule_of(entry).bind(entry.hypers), **more}
            task = entrant_of(entry.competitor).trains(problems.get(luck.BOOKS))
            ours = plain_loss(task, luck.rule_of(entry), hypers, seed, passes=passes, size=size)
            assert page.evaluate(script, [k, seed, more]) == pytest.approx(ours, rel=PRINTED_NETWORK), entry.label
    press(page, 0)
    for k in range(len(luck.RUNS)):
        page.select_option("#book-which", str(k))
        typed = str(page.text_content("#book-command")).split()
        assert typed[0] == "steprule"
        assert main([*typed[1:], "--json"]) == 0
        theirs = json.loads(capsys.readouterr().out)["final_loss"]
        assert page.evaluate("(k) => parts[0].losses[k][0]", k) == pytest.approx(theirs, rel=TRAIN_RULE_AGAINST_CLASS)


def test_the_books_figures_among_200_seeds(browser: Browser, file: Path, complaints: list[str]) -> None:
    """200 seeds spread as 2,000 do, and the sentences count what is there."""
    page = opened(browser, file, complaints)
    press(page, 0)
    losses = np.array(page.evaluate("parts[0].losses"))
    assert losses.shape == (len(luck.RUNS), luck.SEEDS)
    for own, entry in zip(losses, luck.RUNS, strict=True):
        mean, sd = KNOWN[entry.label]
        error = sd * np.sqrt(1 / len(own) + 1 / 2000)
        assert abs(own.mean() - mean) < STANDARD_ERRORS * error, entry.label
    four = losses[[k for k, e in enumerate(luck.RUNS) if e.form == "formula"]]
    names = [e.method for e in luck.RUNS if e.form == "formula"]
    orders, counts = np.unique(np.argsort(four, axis=0), axis=1, return_counts=True)
    told = page.locator("#book-told li").all_text_contents()
    assert f"200 seeds give {orders.shape[1]} different orders" in told[1]
    assert " < ".join(names[k] for k in orders[:, counts.argmax()]) + f", comes with {counts.max()} of them" in told[1]
    adam, rmsprop = (four[names.index(n)] for n in ("Adam", "RMSProp"))
    spread = np.subtract(*np.percentile(adam, [97.5, 2.5]))
    assert told[2].startswith("In the second edition Adam ends 0.00192 above RMSProp.")
    assert f"are {spread:.5f} wide" in told[2]
    assert f"with {(adam < rmsprop).sum()} of 200" in told[2]
    assert "comes with 0 of 200 seeds" in told[3]
    assert losses[[e.form for e in luck.RUNS].index("class")].min() > 0.242104
    row = page.locator("#book-table tbody tr").nth(0).locator("td").all_text_contents()
    assert row[0] == f"{losses[0].mean():.5f} ± {losses[0].std(ddof=1):.5f}"
    assert row[3] == ", ".join(str((losses[0] < v).sum()) for v in luck.RUNS[0].book)


@pytest.mark.long
def test_equal_tuning(browser: Browser, file: Path, complaints: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Tuned rates are the best of their trials, the seeds are fresh, another tuning is another answer; a race takes the command."""
    page = opened(browser, file, complaints)
    seen = []
    for tuning in (2 * luck.SEEDS, 2 * luck.SEEDS + 1):
        press(page, 1)
        assert f"saw one seed, {tuning}." in page.locator("#tuned-told li").last.text_content()
        seen.append(np.array(page.evaluate("parts[1].losses")))
    for k, rate in enumerate(page.evaluate("parts[1].runs.map((r) => r.hypers.lr)")):
        script = "([k, seed]) => DATA.rates.map((lr) => lossOf(parts[1].runs[k], {...parts[1].runs[k].hypers, lr}, seed, orderOf(seed)))"
        trials = page.evaluate(script, [k, tuning])
        assert rate == pytest.approx(page.evaluate("DATA.rates")[int(np.argmin(trials))], rel=PRINTED_THREE_DIGITS)
    fresh = page.evaluate("parts[1].strip.rows[0].dots.map((d) => d.seed)")
    assert fresh == list(range(luck.SEEDS, 2 * luck.SEEDS))
    assert not np.array_equal(*seen), "another tuning, other rates"
    command = str(page.text_content("#race-command")).split()
    assert main([*command[1:], "--dry-run"]) == 0
    assert "trainings" in capsys.readouterr().out
    assert page.get_attribute("a[data-link=race]", "href") == "race.html"
    assert page.locator("a[data-link]").count() == 1, "links that lead nowhere are not there"


def test_dots_fall_unless_somebody_prefers_none(browser: Browser, file: Path, complaints: list[str]) -> None:
    moving = opened(browser, file, complaints, reduced_motion="no-preference")
    moving.click("#book-run")
    falls = "drawStrip(penOf($('book-strip')).pen, parts[0].strip, performance.now(), colours())"
    moving.wait_for_function("parts[0].seeds > 20")
    assert moving.evaluate(falls) is True
    moving.click("#book-run")
    trained = moving.evaluate("parts[0].seeds")
    assert 20 < trained < luck.SEEDS, "stopped"
    assert moving.evaluate("parts[0].strip.rows.map((r) => r.dots.length)") == [trained] * len(luck.RUNS)
    assert moving.text_content("#book-count") == f"{trained} of 200 seeds"
    moving.wait_for_function(f"!{falls}")
    still = opened(browser, file, complaints)
    still.click("#book-run")
    still.wait_for_function("parts[0].seeds > 20")
    assert still.evaluate(falls) is False


@pytest.mark.long
def test_sixty_frames_a_second(browser: Browser, file: Path, complaints: list[str]) -> None:
    page = opened(browser, file, complaints, reduced_motion="no-preference")
    press(page, 0)
    times = np.diff(page.evaluate("parts[0].frames"))
    assert len(times) >= luck.SEEDS
    assert np.median(times) < 1000 / 60 + 1


def test_by_keyboard(browser: Browser, file: Path, complaints: list[str]) -> None:
    page = opened(browser, file, complaints)
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.id") != "book-run":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("parts[0].seeds === 200 && !parts[0].work")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "book-seed"
    told = str(page.text_content("#book-order"))
    assert told.startswith("Seed 1: ")
    figures = [float(v) for v in re.findall(r"0\.\d{5}", told)]
    assert len(figures) == len(luck.RUNS)
    assert figures == sorted(figures)
    assert "--seed 1 " in str(page.text_content("#book-command"))
    box = page.locator("#book-strip").bounding_box()
    x, y = page.evaluate("parts[0].strip.spot(1, parts[0].strip.rows[1].dots[42])")
    assert box is not None
    page.mouse.click(box["x"] + x, box["y"] + y)
    assert "rmsprop_eps_inside" in str(page.text_content("#book-command")), "a dot can be clicked as well"


@pytest.mark.parametrize(("width", "address"), [
    (390, "lang=zh&theme=dark"), (1366, "lang=en&theme=light"),
    pytest.param(320, "lang=en&theme=dark", marks=pytest.mark.long),
    pytest.param(1366, "lang=zh&theme=light&nonsense=1", marks=pytest.mark.long),
])  # fmt: skip
def test_accessible(browser: Browser, file: Path, complaints: list[str], width: int, address: str) -> None:
    page = opened(browser, file, complaints, address, viewport={"width": width, "height": 768})
    press(page, 0)
    press(page, 1)
    found = Axe().run(page)
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found.response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    if width == 1366:
        strip = page.locator("#book-strip").bounding_box()
        assert strip is not None
        assert strip["y"] + strip["height"] <= 768, "button and dots in one view"
    if "zh" in address:
        page.select_option("#language", "en")
        page.wait_for_function("location.hash.startsWith('#lang=en')")
        assert page.text_content("#book-run") == "Watch them fall again"


def test_every_text_is_in_chinese() -> None:
    folder = resources.files("steprule.play") / "page"
    texts: set[str] = set()
    for name in (*(f"{n}.js" for n in luck.SCRIPTS), "luck.html"):
        code = (folder / name).read_text(encoding="utf-8")
        texts |= set(re.findall(r'(?<![\w.])t\(\s*"((?:[^"\\]|\\.)*)"', code))
        texts |= set(re.findall(r'data-[tl]="([^"]+)"', code))
    assert len(texts) > 40
    assert texts - set(CHINESE) - set(PLAYGROUNDS) == set()
    assert set(CHINESE) - texts == set(), "no longer on the page"
    assert set(CHINESE) & set(PLAYGROUNDS) == set(), "said once"


def test_commands(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", "luck", "--out", "l.html"]) == 0
    assert "Written: l.html" in capsys.readouterr().out
    assert 'id="book-run"' in Path("l.html").read_text(encoding="utf-8")
    for typed, said in (
        (["play", "lucky", "--out", "p.html"], "Did you mean 'luck'"),
        (["play", "adam", "--out", "p.html"], "--rule adds your own"),
        (["play", "luck", "--story", "ravine", "--out", "p.html"], "got --story"),
        (["play", "luck", "--out", "."], "a file that can be written"),
    ):
        assert main(typed) == 2, typed
        err = capsys.readouterr().err
        assert said in err, (typed, err)
        assert err.count("\n") == 1
    assert not Path("p.html").exists()
