"""A reader's own rules in the playground, in real Chromium, and what the command says of mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from chromium_page import needs_chromium
from own_page import walks_as_trace
from playground import address_of, go, reopen, state
from playwright.sync_api import Browser
from tolerances import ROUNDED64

import steprule
from steprule import paths, play, rules
from steprule.cli import main

pytestmark = needs_chromium


def test_a_rule_of_ones_own(browser: Browser, in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One decorator, and it walks beside the others; its name may be anything."""
    Path("mine.py").write_text(
        "from steprule import rule\nfrom steprule.hyper import Rate\nfrom steprule.maths import sign\n\n@rule\n"
        'def mine(p, g, *, lr: Rate = 0.1):\n    """Sign descent </script><b>bold</b>"""\n    return p - lr * sign(g)\n'
    )
    assert main(["play", "--rule", "mine.py:mine", "--out", "page.html", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"page": "page.html"}
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(f"{Path('page.html').absolute().as_uri()}#rule=mine,lr=0.3&start=-5,-2&steps=20")
    shown = page.evaluate("model.walks[0].points")
    assert np.array_equal(shown, steprule.trace("mine.py:mine", lr=0.3).points)
    assert "mine.py:mine" in page.locator("#ways pre >> nth=1").text_content()  # type: ignore[operator]
    assert page.locator("#summary").text_content() == "Sign descent </script><b>bold</b>"
    # Without an address the page opens with that rule, at its best learning rate, beside Adam.
    reopen(page, Path("page.html").absolute().as_uri())
    assert page.evaluate("model.state.entries.map((e) => e.rule)") == ["mine", "adam"]
    assert page.evaluate("model.state.entries[0].hypers.lr") == pytest.approx(
        paths.best_rate(rules.resolve("mine.py:mine")), rel=ROUNDED64
    )
    assert page.locator("#legend").text_content().startswith("mine")  # type: ignore[union-attr]
    page.close()
    assert complaints == []


OF_MATRICES = '''
from steprule import rule
from steprule.hyper import PerRow, Rate
from steprule.macros import polar
from steprule.maths import norm, rows

@rule
def by_rows(p, g, seen: PerRow, *, lr: Rate = 0.1):
    """By the norm of each row."""
    seen = seen + norm(g, axis=-1) ** 2
    return p - lr * g / (seen**0.5 + 1e-8), seen

@rule(as_matrix=True)
def turned(p, g, m, *, lr: Rate = 0.1):
    """By products."""
    m = 0.9 * m + g
    x = m @ m.T
    return p - lr * rows(p) * polar(m) - 0.01 * (x @ g @ (m.T @ m)) / (norm(m) ** 4 + 1), m
'''


@pytest.mark.parametrize("name", ["by_rows", "turned"])
def test_a_rule_of_matrices_of_ones_own(name: str, browser: Browser, in_folder: Path) -> None:
    """A point of two numbers is a vector, or one row where the rule sees matrices."""
    Path("matrices.py").write_text(OF_MATRICES)
    _, taken_apart = walks_as_trace(browser, f"matrices.py:{name}", lr=0.05)
    assert "undefined" not in taken_apart
    assert "NaN" not in taken_apart


SAME_NAMES = '''
from steprule import rule
from steprule.hyper import Rate

@rule(name="a,b & <i>c</i> #1+2%")
def odd(p, g, *, lr: Rate = 0.1):
    """Its name is no identifier."""
    return p - lr * g

@rule
def adam(p, g, *, lr: Rate = 0.1):
    """A pupil's."""
    return p - lr * g
'''


def test_rules_of_ones_own_are_told_from_ours(
    browser: Browser, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pupil's adam is not called Adam; a name of any letters is text; what is asked for is shown first, eight at most."""
    Path("odd.py").write_text(SAME_NAMES)
    own = ["odd.py:odd", "odd.py:adam", "lion"]
    assert main(["play", *(part for spec in own for part in ("--rule", spec)), "--out", "page.html"]) == 0
    page = browser.new_page(reduced_motion="reduce")
    complaints: list[str] = []
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(Path("page.html").absolute().as_uri())
    assert page.locator("#said").text_content() == ""
    labels = page.evaluate("model.labels")
    assert len(set(labels)) == len(labels) == 4
    assert labels[2:] == ["Lion", "Adam"]
    assert labels[1].startswith("adam (odd.py")
    assert page.evaluate("model.state.entries[1].rule") == "adam_odd"
    assert page.locator("#entries i, #legend i, #chosen i").count() == 0
    before = state(page)
    reopen(page, address_of(page))
    assert state(page) == before
    page.close()
    assert complaints == []
    capsys.readouterr()
    assert main(["play", "--rule", "lion", "--story", "ravine", "--out", "other.html"]) == 2
    assert "expected --rule or --story" in capsys.readouterr().err


AWKWARD = '''
from steprule import rule
from steprule.hyper import Decay, Rate
from steprule.maths import norm, sqrt

@rule
def delete(p, g, new, var, *, lr: Rate = 0.1, constructor: Decay = 0.9, toString: Decay = 0.5):
    """constructor"""
    this = constructor * new + (1 - constructor) * g
    typeof = toString * var + g * g
    return p - lr * this / (sqrt(typeof) + 1e-8), this, typeof

@rule
def __proto__(p, g, m, *, t):
    """No hyperparameter, and a norm."""
    m = m + g
    return p - 0.5 * m / (norm(m) + t), m

@rule
def 步(p, g, 动, *, lr: Rate = 0.1, 衰: Decay = 0.9):
    """中文规则。"""
    动 = 衰 * 动 + g
    return p - lr * 动, 动
'''


def test_names_that_mean_something_to_javascript(browser: Browser, in_folder: Path) -> None:
    Path("odd.py").write_text(AWKWARD, encoding="utf-8")
    own = [(f"odd.py:{n}", rules.resolve(f"odd.py:{n}")) for n in ("delete", "__proto__", "步")]
    play.write(Path("page.html"), own)
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(Path("page.html").absolute().as_uri())
    for key in page.evaluate("Object.keys(DATA.rules).slice(-3)"):
        for language in ("en", "zh"):
            go(page, f"rule={key}&surface=quadratic&start=-5,-2&steps=20&lang={language}")
            assert page.locator("#said").text_content() == ""
        spec = page.evaluate("(key) => DATA.rules[key].spec", key)
        assert np.array_equal(page.evaluate("model.walks[0].points"), steprule.trace(spec).points), spec
    page.close()
    assert complaints == []


def test_without_a_browser_it_says_where_the_page_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    assert main(["play"]) == 0
    assert "No browser was found: open file://" in capsys.readouterr().out


def test_bad_input(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for typed, said in (
        (["play", "--rule", "nowhere.py:mine", "--out", "p.html"], "nothing there"),
        (["play", "--rule", "adamm", "--out", "p.html"], "Did you mean 'adam'"),
        (["play", "--out", "."], "a file that can be written"),
        (["play", "--story", "ravin", "--out", "p.html"], "Did you mean 'ravine'"),
        (["trace", "adam", "--surface", "x^2 +* y"], "character 6"),
        (["trace", "adam", "--noise", "-1"], "0 or more"),
        (["trace", "adam", "--surface", "log(0-x^2-1)"], "finite values somewhere"),
    ):
        assert main(typed) == 2, typed
        err = capsys.readouterr().err
        assert said in err, (typed, err)
        assert err.count("\n") == 1
    assert not Path("p.html").exists()
