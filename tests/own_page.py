"""A page with a rule of a reader's own: its path beside `trace`'s, where it is walked at once and where maps walk it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tolerances import BROWSER_PATH

import steprule
from steprule import rules
from steprule.cli import main


def walks_as_trace(
    browser: Browser, spec: str, *, noise: float = 0.0, seed: int = 0, **hypers: float
) -> tuple[str, str]:
    """What the page says behind the comparison, all of it and of the step taken apart; the browser has not complained. `spec` names a rule
    of a file here."""
    assert main(["play", "--rule", spec, "--out", "page.html"]) == 0
    page, complaints = browser.new_page(), list[str]()
    page.on("pageerror", lambda e: complaints.append(str(e)))
    key = ",".join([rules.resolve(spec).name, *(f"{n}={v}" for n, v in hypers.items())])
    page.goto(
        f"{Path('page.html').absolute().as_uri()}#rule={key}&surface=quadratic&start=-5,-2&steps=20&noise={noise}&seed={seed}&lang=en"
    )
    ours = steprule.trace(spec, noise=noise, seed=seed, **hypers)
    assert page.evaluate("model.walks[0].points") == pytest.approx(ours.points, abs=BROWSER_PATH)
    end = page.evaluate(f"endOf(model.ground, model.state.entries[0], [-5, -2], 20, {noise}, {seed})")
    assert end == pytest.approx(ours.points[-1], abs=BROWSER_PATH)
    assert complaints == [], complaints
    told = page.inner_text("body"), page.inner_text("#anatomy")
    page.close()
    return told
