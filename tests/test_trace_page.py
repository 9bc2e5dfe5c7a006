"""`steprule trace --out x.html`: the playground opens with those paths, which it walks itself to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from chromium_page import needs_chromium, opened
from playwright.sync_api import Browser
from tolerances import BROWSER_PATH, ROUNDED64

from steprule import rules
from steprule.cli import main

FILE = """
from steprule import rule
from steprule.hyper import Rate


@rule
def adam(p, g, *, lr: Rate = 0.1):
    return p - lr * g
"""


@needs_chromium
@pytest.mark.parametrize(
    "typed",
    [
        ["sgd", "adam", "mine.py:adam", "--surface", "beale", "--steps", "40"],
        ["adam", "--set", "betas=0.8,0.9", "--set", "amsgrad=true", "--start=-3,1.5", "--noise", "0.5", "--seed", "3"],
        ["sgd", "--set", "momentum=0.5", "--surface", "x^2 + 3*y^2 + sin(x)", "--defaults"],
    ],
)
def test_the_page_opens_with_these_paths(
    typed: list[str], in_folder: Path, capsys: pytest.CaptureFixture[str], browser: Browser, complaints: list[str]
) -> None:
    Path("mine.py").write_text(FILE)
    assert main(["trace", *typed, "--out", "page.html", "--json"]) == 0
    walked = json.loads(capsys.readouterr().out)
    page = opened(browser, Path("page.html").absolute(), complaints, "")
    assert page.evaluate("model.walks.length") == len(walked)
    assert page.text_content("#said") == ""
    for k, ours in enumerate(walked):
        theirs = np.array(page.evaluate(f"model.walks[{k}].points"))
        assert np.allclose(theirs, ours["points"], rtol=BROWSER_PATH, atol=ROUNDED64), ours["rule"]
    assert complaints == []
    page.close()


def test_what_the_page_cannot_walk(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for typed, words in (
        (["sgd", "--steps", "501"], "steps of a page: expected 500 or fewer, got 501"),
        (list(rules.names()[:9]), "rules of a page: expected 8 or fewer, got 9"),
        (["sgd", "--noise", "1", "--seed", "10"], "seeds with noise of a page: expected 10 or fewer, got 11"),
        (["sgd", "--set", "maximize=true"], "sgd on a page: expected what the page can set, got maximize=True"),
    ):
        assert main(["trace", *typed, "--out", "page.html"]) == 2
        assert words in capsys.readouterr().err
        assert not Path("page.html").exists()


FITS = """field => {
  const style = getComputedStyle(field), pen = document.createElement("canvas").getContext("2d");
  pen.font = style.font;
  const room = field.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  return style.appearance === "textfield" && pen.measureText(field.value).width <= room;
}"""
"""Whether a field shows all of its number: a browser's own arrows, where it has them, lie over the last digits."""


@needs_chromium
def test_a_long_number_and_a_long_formula_stay_in_their_places(
    in_folder: Path, capsys: pytest.CaptureFixture[str], browser: Browser, complaints: list[str]
) -> None:
    """The best learning rate has seventeen digits; the formula of beale is as wide as its picture."""
    assert main(["trace", "adam", "--surface", "beale", "--out", "page.html", "--json"]) == 0
    (walked,) = json.loads(capsys.readouterr().out)
    for width in (1200, 1366):
        page = opened(browser, Path("page.html").absolute(), complaints, "", viewport={"width": width, "height": 768})
        field = page.locator("[data-name=lr]")
        assert field.evaluate(FITS)
        assert field.input_value() == f"{walked['hypers']['lr']:.6g}"
        assert page.evaluate("model.state.entries[0].hypers.lr") == walked["hypers"]["lr"]
        head, stage = (page.locator(where).bounding_box() for where in (".stage .head .row", ".stage"))
        assert head
        assert stage
        assert head["x"] + head["width"] <= stage["x"] + stage["width"] + 1
        page.close()
    assert complaints == []
