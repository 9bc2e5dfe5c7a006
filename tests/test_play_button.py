"""The playground's Play button: it says Pause while a path or a story moves, and a click on it pauses either."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium_page import opened
from playwright.sync_api import Browser, Page

from steprule import play


@pytest.fixture
def moving(browser: Browser, tmp_path: Path, complaints: list[str]) -> Iterator[Page]:
    """The page for a reader who has nothing against motion, at a story's question, after its last frame."""
    play.write(tmp_path / "page.html")
    page = opened(
        browser, tmp_path / "page.html", complaints, "story=ravine&lang=en", reduced_motion="no-preference", locale="en-GB"
    )  # fmt: skip
    page.wait_for_function("$('play').textContent === 'Play'")
    yield page
    page.close()


def buttons(page: Page) -> tuple[str | None, str | None]:
    return page.locator("#play").text_content(), page.locator("#tell").text_content()


def test_a_story_that_plays_can_be_paused_by_either_button(moving: Page) -> None:
    assert buttons(moving) == ("Play", "Show me")
    moving.click("#tell")
    moving.wait_for_function("$('play').textContent === 'Pause' && $('tell').textContent === 'Pause'")
    moving.click("#play")
    assert buttons(moving) == ("Play", "Go on")
    assert moving.evaluate("stopMotion") is None
    moving.click("#tell")
    # Between two scenes nothing is drawn, but the story goes on.
    moving.wait_for_function("model.goesOn && model.state.at === sceneOf(storyOf(model.state), 2).at")
    assert buttons(moving) == ("Pause", "Pause")
    moving.click("#closer")  # whoever zooms has stopped the story
    assert buttons(moving) == ("Play", "Go on")


def test_a_path_that_plays_can_be_paused(moving: Page) -> None:
    moving.evaluate("location.hash = 'rule=sgd,lr=0.1&surface=quadratic&start=-5,-2&steps=500&at=1&lang=en'")
    moving.wait_for_function("model.state.story === null && $('play').textContent === 'Play'")
    moving.click("#play")
    assert moving.locator("#play").text_content() == "Pause"
    moving.click("#play")
    assert moving.locator("#play").text_content() == "Play"
    assert moving.evaluate("model.state.at < model.state.steps")
