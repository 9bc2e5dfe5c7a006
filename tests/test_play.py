"""The playground in real Chromium: every control, what an address says, what is out of bounds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium_page import needs_chromium
from playground import address_of, go, reopen, settle, state
from playwright.sync_api import Browser, Page
from tolerances import BROWSER_PATH, PRINTED_FIVE_DIGITS, ROUNDED64, VIEW_IN_ADDRESS, WHOLE_PIXELS

import steprule
from steprule.play.words import CHINESE

pytestmark = needs_chromium


def test_zoom_and_pan(page: Page, browser: Browser, file: Path) -> None:
    def view() -> np.ndarray:
        settle(page)
        return np.array(page.evaluate("viewOf(model)"))

    whole = view()
    page.click("#fit")
    fitted = view()
    seen = np.array(page.evaluate("model.walks.flatMap((w) => w.points)"))
    assert (seen > fitted[:, 0]).all()
    assert (seen < fitted[:, 1]).all()
    assert np.ptp(fitted[1]) < np.ptp(whole[1])
    box = page.locator("#plane").bounding_box()
    assert box
    at = (box["x"] + 300, box["y"] + 200)
    under = page.evaluate("model.frame.from(300, 200)")
    page.mouse.move(*at)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    page.wait_for_function("([before]) => viewOf(model)[0][0] !== before", arg=[fitted[0, 0]])
    assert np.ptp(view(), axis=1) == pytest.approx(np.ptp(fitted, axis=1) * np.exp(-0.5), rel=ROUNDED64)
    assert page.evaluate("model.frame.from(300, 200)") == pytest.approx(
        under, abs=WHOLE_PIXELS
    )  # the mouse stands on whole pixels
    before, start = view(), page.evaluate("model.state.start")
    page.mouse.down()
    page.mouse.move(at[0] + 60, at[1] - 40, steps=3)
    page.mouse.up()
    moved = view() - before
    assert moved[:, 0] == pytest.approx(moved[:, 1], rel=ROUNDED64)
    assert moved[0, 0] < 0
    assert moved[1, 0] < 0
    assert page.evaluate("model.state.start") == start, "a drag is no click"
    kept = view()
    reopen(page, address_of(page))
    assert view() == pytest.approx(kept, rel=VIEW_IN_ADDRESS)
    page.click("#farther")
    assert (np.ptp(view(), axis=1) > np.ptp(kept, axis=1)).all()
    for _ in range(40):
        page.click("#closer")
    assert np.ptp(view(), axis=1) == pytest.approx(1e-4 * np.ptp(whole, axis=1), rel=ROUNDED64), "and no nearer"
    assert page.evaluate("document.querySelectorAll('#zoom button:disabled').length") == 0
    page.click("#whole")
    assert np.array_equal(view(), whole)
    assert page.locator("#whole").is_disabled()


def test_every_control(page: Page) -> None:
    def change(action: Any, *, part: str) -> None:
        before = state(page)
        action()
        after = state(page)
        assert before != after, part
        assert part in after, (part, after)

    change(lambda: page.select_option("#surface", "beale"), part="surface=beale")
    change(lambda: page.select_option("#surface", ""), part="surface=x%5E2")
    change(lambda: (page.fill("#formula", "x^2 + y^4"), page.keyboard.press("Tab")), part="surface=x%5E2%20%2B%20y%5E4")
    for name, value, part in (
        ("start-x", "1.25", "start=1.25,"), ("start-y", "-0.5", "start=1.25,-0.5"), ("steps", "35", "steps=35"), ("noise", "0.25", "noise=0.25"),
    ):  # fmt: skip
        change(lambda n=name, v=value: (page.fill(f"#{n}", v), page.keyboard.press("Tab")), part=part)
    change(lambda: page.select_option("#seed", "4"), part="seed=4")
    for key, part in (
        ("ArrowRight", "start=1.45,-0.5"),
        ("ArrowUp", "start=1.45,-0.3"),
        ("Shift+ArrowLeft", "start=1.43,-0.3"),
    ):
        change(lambda k=key: page.press("#start", k), part=part)
    change(lambda: page.locator("#plane").click(position={"x": 300, "y": 100}), part="start=")
    handle = page.locator("#start").bounding_box()
    assert handle

    def drag() -> None:
        page.mouse.move(handle["x"] + 10, handle["y"] + 10)
        page.mouse.down()
        page.mouse.move(handle["x"] + 80, handle["y"] + 60, steps=4)
        page.mouse.up()

    change(drag, part="start=")
    change(lambda: page.click("#back"), part="at=34")
    change(lambda: page.click("#first"), part="at=0")
    change(lambda: page.click("#forth"), part="at=1")
    change(
        lambda: page.evaluate(
            "() => {const e = document.getElementById('at'); e.value = 12; e.dispatchEvent(new Event('input', {bubbles: true}))}"
        ),
        part="at=12",
    )
    page.click("#last")
    assert "at=" not in state(page)
    page.select_option("#speed", "60")
    page.click("#play")
    page.wait_for_function("model.state.at > 3")
    page.click("#play")
    assert "at=" in state(page)
    change(lambda: page.click("[data-focus=choose1]"), part="chosen=1")
    assert page.locator("#hypers-title").text_content() == "adam"
    change(lambda: page.select_option("#chosen", "0"), part="rule=sgd")
    page.click("[data-focus=choose1]")
    for slider in ("lr", "beta1", "beta2", "eps", "weight_decay"):
        change(lambda s=slider: page.press(f"[data-slider={s}]", "PageUp"), part=f"{slider}=")
    change(lambda: page.fill("[data-name=lr]", "0.123"), part="lr=0.123")
    change(lambda: page.check("[data-name=amsgrad]"), part="amsgrad=true")
    change(lambda: page.check("[data-name=decoupled_weight_decay]"), part="decoupled_weight_decay=true")
    change(lambda: page.click("#best"), part="lr=")
    change(lambda: page.select_option("#map-kind", "beta2"), part="map=beta2")
    page.select_option("#another", "lion")
    change(lambda: page.click("#add"), part="rule=lion,lr=")
    change(lambda: page.click("[data-focus=remove0]"), part="rule=adam")
    assert "sgd" not in state(page)
    change(lambda: page.select_option("#theme", "dark"), part="theme=dark")
    change(lambda: page.select_option("#language", "zh"), part="lang=zh")
    assert page.locator("h1").text_content() == CHINESE["See an optimizer's steps"]
    before, address = state(page), address_of(page)
    reopen(page, address)
    assert state(page) == before


def test_the_map(page: Page) -> None:
    """Its cells are the ends of walks; a place in it can be taken by mouse and by keyboard."""
    page.wait_for_selector("#map[data-seconds]")
    assert page.evaluate("map.heights.length") >= 100 * 100
    cells = page.evaluate("[0, 1234, 9999].map((c) => [...map.ends.slice(2 * c, 2 * c + 2)])")
    for cell, end in zip((0, 1234, 9999), cells, strict=True):
        start = -5.5 + 11 * ((cell % 100) + 0.5) / 100, -3 + 6 * (cell // 100 + 0.5) / 100
        assert end == pytest.approx(steprule.trace("sgd", start=start, steps=20, lr=0.1).points[-1], abs=BROWSER_PATH)
    before = state(page)
    page.press("#map", "ArrowRight")
    page.press("#map", "ArrowUp")
    assert "start x" in (page.locator("#map-read").text_content() or "")
    page.press("#map", "Enter")
    assert state(page) != before
    page.select_option("#map-kind", "momentum")
    page.wait_for_function("map && !map.plan.overStart")
    box = page.locator("#map").bounding_box()
    assert box
    page.mouse.click(box["x"] + 300, box["y"] + 100)
    assert re.search(r"rule=sgd,lr=[\d.e-]+,momentum=", state(page))


def test_the_step_taken_apart(page: Page) -> None:
    """Its rows are the package's own anatomy of the step, number by number."""
    go(page, "rule=adam,lr=0.2&surface=quadratic&start=-5,-2&steps=20&at=7")
    rows = [
        [c.strip() for c in row.split("\t")]
        for row in page.locator("#anatomy").inner_text().splitlines()
        if "\t" in row
    ]
    numbers = [[float(c) for c in row[1:]] for row in rows if len(row) == 3 and re.match(r"-?\d", row[1])]
    apart = steprule.trace("adam", steps=20, lr=0.2).anatomy(7)
    held = [v for name, v in apart if isinstance(v, np.ndarray)]
    for value in held:
        assert any(np.allclose(value, n, rtol=PRINTED_FIVE_DIGITS, atol=0) for n in numbers), (value, rows)
    factors = [float(row[1]) for row in rows if len(row) == 2]
    assert any(np.isclose(f, 1 - 0.9**7, rtol=PRINTED_FIVE_DIGITS, atol=0) for f in factors), "the bias correction"


@pytest.mark.parametrize(("address", "said"), [
    ("rule=adamm,lr=1&surface=quadratic", "no rule adamm"),
    ("rule=adam,lr=-1", "lr cannot be -1"),
    ("rule=adam,lr=nan", "lr cannot be nan"),
    ("rule=adam,rate=1", "rate cannot be 1"),
    ("rule=adam&start=1", "two numbers"),
    ("rule=adam&start=1,", "two numbers"),
    ("rule=adam&surface=log(-1-x%5E2)", "finite values"),
    ("rull=adam", "has no rull"),
    ("story=nope", "no story nope"),
    ("story=ravine&scene=9", "scene must be from 0 to 3"),
    ("rule=adam&view=1,2,3", "four numbers"),
    ("rule=adam&view=2,1,0,1", "four numbers"),
    ("rule=adam&view=1e20,1.00000000000000016e20,-5,5", "four numbers"),
    ("rule=adam&steps=30&steps=3", "twice"),
    ("rule=adam&theme=purple", "theme must be one of light, dark"),
    ("rule=adam&lang=xx", "lang must be one of en, zh"),
    ("story=ravine&steps=3", "A story has a steps of its own"),
    ("rule=adam&steps=1e9", "steps must be from 1 to 500"),
    ("rule=adam&surface=x%5E", "Character 3"),
    ("rule=adam&surface=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", "Character 1"),
    ("rule=sgd,lr=9&steps=500&surface=rosenbrock", "not finite from step"),
    ("rule=adam,lr=0.1&surface=sqrt(x)&start=-4,3", "no finite value at the start"),
    ("rule=adam,lr=0.5&surface=log(x)%2By^2&start=3,2", "left where the surface has values"),
])  # fmt: skip
def test_bad_addresses(page: Page, address: str, said: str) -> None:
    go(page, address)
    assert said in (page.locator("#said").text_content() or "")


def test_a_long_drag_does_not_wear_the_address_out(page: Page) -> None:
    """Browsers refuse to write an address more than some hundred times in half a minute: not one is written a frame."""
    moved = """async () => {
      let written = 0;
      const write = history.replaceState.bind(history);
      history.replaceState = (...all) => (written++, write(...all));
      for (let k = 0; k < 60; k++) {
        setStart([-5 + k / 20, -2]);
        await new Promise(requestAnimationFrame);
      }
      return written;
    }"""
    assert page.evaluate(moved) <= 20
    assert "start=-2.05,-2" in address_of(page)


def test_a_bad_value_is_said(page: Page) -> None:
    before = state(page)
    page.fill("[data-name=lr]", "-3")
    assert page.locator("[data-error=lr]").text_content() == "Expected a number in [0, inf)."
    page.fill("#steps", "0")
    page.keyboard.press("Tab")
    assert page.locator("#said").text_content() == "Steps cannot be 0."
    assert page.input_value("#steps") == "20"
    assert state(page) == before
