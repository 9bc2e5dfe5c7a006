"""The page draws where a model is read as a second, fainter track, with the values of that track."""

from __future__ import annotations

import numpy as np
import pytest
from chromium_page import needs_chromium
from playground import SHORT, go
from playwright.sync_api import Page
from tolerances import BROWSER_PATH

import steprule
from steprule.play.words import CHINESE

pytestmark = needs_chromium
WORDS = "where the model is read"
TWO = "rule=schedule_free_sgd,lr=0.4,momentum=0.6&surface=quadratic&start=-5,-2&steps=20"


def drawn(page: Page) -> str:
    """The picture, as a file."""
    return str(page.evaluate("$('plane').toDataURL()"))


def test_the_page_reads_where_python_does(page: Page) -> None:
    go(page, f"{TWO}&lang=en")
    ours = steprule.trace("schedule_free_sgd", lr=0.4, momentum=0.6)
    for what in ("points", "evaluated", "values"):
        theirs = np.array(page.evaluate(f"model.walks[0].{what}"))
        assert theirs == pytest.approx(getattr(ours, what), abs=BROWSER_PATH), what
    assert page.evaluate("endOf(model.ground, model.state.entries[0], [-5, -2], 20, 0, 0)") == pytest.approx(
        list(ours.evaluated[-1]), abs=BROWSER_PATH
    ), "a map is of where the model is read"


def test_the_track_is_drawn_and_named(page: Page) -> None:
    go(page, f"{TWO}&lang=en")
    assert WORDS in page.inner_text("#legend")
    assert "evaluated at" in page.inner_text("#anatomy")
    both = drawn(page)
    page.evaluate("model.walks[0].stepper.twoPoints = false; draw()")
    alone = drawn(page)
    assert both != alone, "the track is there"
    page.evaluate("model.walks[0].stepper.twoPoints = true; draw()")
    assert drawn(page) == both
    go(page, f"{TWO}&lang=zh")
    assert CHINESE[WORDS] in page.inner_text("#legend")
    assert CHINESE["evaluated at"] in page.inner_text("#anatomy")


def test_a_rule_that_is_read_where_it_steps_has_one_track(page: Page) -> None:
    go(page, f"{SHORT}&lang=en")
    assert WORDS not in page.inner_text("#legend")
    assert "evaluated at" not in page.inner_text("#anatomy")
    assert page.evaluate("model.walks.every((w) => w.evaluated.every((p, k) => p[0] === w.points[k][0]))")
