"""The pages in real Firefox: the numbers, the stories, the controls; nothing is complained of and nothing sticks out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from firefox import Firefox, firefox
from tolerances import ROUNDED32

import steprule
from steprule import play
from steprule.play import luck, network
from steprule.play.stories import STORIES
from steprule.problems import catalogue as problems
from steprule.races.competitor import entrant_of
from steprule.surfaces import catalogue as surfaces

PROGRAM = shutil.which("firefox-esr") or shutil.which("firefox")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Firefox")
RIGHT = "\ue014"
"""The arrow key, as WebDriver writes it."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("firefox") / "page.html"
    play.write(path)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    assert PROGRAM
    with firefox(PROGRAM, tmp_path_factory.mktemp("profile")) as found:
        yield found
        assert found.complaints == []


def test_paths_to_the_bit(browser: Firefox, file: Path) -> None:
    """Where only sums, products, roots and the surfaces' own functions are used, there is one answer."""
    for surface in ("quadratic", "ackley", "himmelblau"):
        start = ",".join(str(v) for v in surfaces.get(surface).start)
        browser.open(
            f"{file.as_uri()}#rule=sgd,lr=0.01,momentum=0.5&rule=rmsprop,lr=0.01&surface={surface}&start={start}&steps=40"
        )
        for k, path in enumerate(
            (
                steprule.trace("sgd", surface, lr=0.01, momentum=0.5, steps=40),
                steprule.trace("rmsprop", surface, lr=0.01, steps=40),
            )
        ):
            assert np.array_equal(browser.evaluate(f"model.walks[{k}].points"), path.points), (surface, k)


def test_a_story(browser: Firefox, file: Path) -> None:
    """Opened, guessed, stepped through by keys, left by a slider."""
    browser.size(1366, 768)
    browser.open("about:blank")
    browser.open(file.as_uri())
    story = STORIES[0]
    assert browser.evaluate("$('sentence').textContent") == story.question.words
    browser.click("[data-place='2']")
    for _ in story.scenes[1:]:
        browser.press(RIGHT)
    assert browser.evaluate("[$('sentence').textContent, model.state.story.scene]") == [
        story.scenes[-1].words,
        len(story.scenes),
    ]
    assert "right" in browser.evaluate("$('verdict').textContent")
    browser.evaluate("document.querySelector('#hypers input[type=range]').focus()")
    browser.press(RIGHT)
    assert browser.evaluate("model.state.story") is None
    browser.click("#fit")
    assert browser.evaluate("model.state.view") is not None
    browser.click("#play")
    assert browser.evaluate("new Promise((r) => setTimeout(() => r(model.state.at > 0), 400))")
    assert browser.evaluate("$('film').disabled") is False


@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_sticks_out(browser: Firefox, file: Path, language: str) -> None:
    for width, height in ((390, 844), (1366, 768)):
        browser.size(width, height)
        browser.open("about:blank")
        browser.open(f"{file.as_uri()}#story=saddle&lang={language}")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        seen = (
            "['plane', 'values'].map((id) => $(id).getBoundingClientRect()).map((r) => r.width > 100 && r.height > 60)"
        )
        assert browser.evaluate(seen) == [True, True]


def test_the_page_on_luck(browser: Firefox, tmp_path: Path) -> None:
    """A hundred trainings are begun by a click; the first seed's are those of the package."""
    luck.write(tmp_path / "luck.html")
    browser.size(1366, 768)
    browser.open((tmp_path / "luck.html").as_uri())
    browser.click("#book-run")
    done = "new Promise((r) => { const look = () => (parts[0].losses[0].length >= 20 ? r(parts[0].losses.map((l) => l[0])) : setTimeout(look, 100)); look(); })"
    ends = browser.evaluate(done)
    ours = [
        steprule.train(
            run.optimizer, entrant_of(run.competitor).trains(problems.get("airfoil")), seed=0, **run.hypers
        ).final_loss
        for run in luck.RUNS
    ]
    assert ends == pytest.approx(ours, abs=ROUNDED32)


def test_the_network(browser: Firefox, tmp_path: Path) -> None:
    network.write(tmp_path / "network.html")
    browser.open((tmp_path / "network.html").as_uri())
    browser.click("#run")
    fallen = "new Promise((r) => { const look = () => (on().every((l) => l.losses?.length > 5) ? r(on().map((l) => [l.losses[0], l.loss])) : setTimeout(look, 100)); look(); })"
    for before, after in browser.evaluate(fallen):
        assert after < 0.7 * before
