"""The playground for everybody, in real Chromium: screen readers, phones, keyboards, touch, both languages."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import elementwise
import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium_page import needs_chromium
from playground import RULES, SEEN, SHORT, go, settle
from playwright.sync_api import Browser, Page
from tolerances import WHOLE_PIXELS

from steprule import play
from steprule.play.stories import STORIES, Story
from steprule.play.words import CHINESE
from steprule.reports.style import title_of
from steprule.rules.parts import composed

pytestmark = needs_chromium


@pytest.mark.parametrize("width", [360, pytest.param(1200, marks=pytest.mark.long)])
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessible(page: Page, width: int, language: str, theme: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    go(page, f"{'story=ravine' if width == 1200 else SHORT}&lang={language}&theme={theme}")
    page.wait_for_selector("#map[data-seconds]")
    found = Axe().run(page)
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found.response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"


@pytest.mark.parametrize("language", ["en", pytest.param("zh", marks=pytest.mark.long)])
@pytest.mark.parametrize("story", STORIES, ids=lambda s: s.name)
def test_path_charts_and_sliders_in_one_view(page: Page, story: Story, language: str) -> None:
    page.set_viewport_size({"width": 1366, "height": 768})
    go(page, f"story={story.name}&scene={len(story.scenes)}&lang={language}")
    assert page.evaluate(SEEN, ["plane", "values", "rate-x", "rate-y"])
    sliders = page.locator("#hypers input[type=range]")
    for k in range(min(2, sliders.count())):
        box = sliders.nth(k).bounding_box()
        assert box
        assert box["y"] + box["height"] < 768
    for name in ("play", "at", "speed"):
        box = page.locator(f"#{name}").bounding_box()
        assert box
        assert box["y"] + box["height"] < 768


def test_on_a_phone_the_picture_stays_above_the_slider_that_is_moved(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    settle(page)
    slider = page.locator("#hypers input[type=range]").first
    slider.evaluate("(e) => e.scrollIntoView({block: 'end'})")
    before = page.evaluate("model.walks[0].values.at(-1)")
    slider.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert page.evaluate("model.walks[0].values.at(-1)") != before
    box = slider.bounding_box()
    assert box
    stage = page.evaluate("document.querySelector('.stage').getBoundingClientRect().bottom")
    assert page.evaluate(SEEN, ["plane"])
    assert stage <= box["y"]
    assert box["y"] + box["height"] < 845
    # To the end of the settings and charts the picture stays.
    page.evaluate("$('rate-y').scrollIntoView({block: 'end'})")
    settle(page)
    assert page.evaluate(SEEN, ["plane", "rate-y"])


def test_no_number_is_cut(page: Page) -> None:
    """A field shows its number whole, in the shorter of two writings."""
    for rule in elementwise.NAMES:
        go(page, f"rule={rule}&surface=quadratic&start=-5,-2&steps=20")
        assert page.evaluate(
            "[...document.querySelectorAll('input[type=number]')].every((e) => e.scrollWidth <= e.clientWidth)"
        ), rule
    go(page, "rule=adam,eps=0.000001&surface=quadratic&start=-5,-2&steps=20")
    assert page.locator("[data-name=eps]").input_value() == "1e-6"


def test_by_keyboard_alone(page: Page) -> None:
    """Every control is reached by Tab."""
    wanted = set(
        page.evaluate(
            "[...document.querySelectorAll('button:not(:disabled), input, select, [tabindex=\"0\"]')].filter((e) => e.offsetParent).length && [...document.querySelectorAll('[id]')].filter((e) => e.offsetParent && e.matches('button:not(:disabled), input, select, canvas[tabindex]')).map((e) => e.id)"
        )
    )
    seen = set()
    for _ in range(90):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id"))
    assert wanted <= seen, wanted - seen


def test_by_touch(browser: Browser, file: Path) -> None:
    """On a telephone the start follows the finger, the page does not scroll under it, and a tap takes a place."""
    context = browser.new_context(has_touch=True, is_mobile=True, viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(f"{file.as_uri()}#{SHORT}")
    page.locator("#start").scroll_into_view_if_needed()
    box = page.locator("#start").bounding_box()
    assert box
    page.touchscreen.tap(200, box["y"] - 20)
    page.wait_for_function("model.state.start[0] > -1")
    box, scrolled = page.locator("#start").bounding_box(), page.evaluate("scrollY")
    assert box
    finger = context.new_cdp_session(page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, across, up in (("Start", 0, 0), ("Move", 20, 10), ("Move", 60, 40), ("Move", 100, 80), ("End", 100, 80)):
        points = [] if kind == "End" else [{"x": x + across, "y": y - up}]
        finger.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    settle(page)
    moved = page.evaluate("model.state.start")
    expected = page.evaluate("([x, y]) => { const b = $('plane').getBoundingClientRect(); return model.frame.from(x - b.left, y - b.top); }",
                             [x + 100, y - 80])  # fmt: skip
    assert moved == pytest.approx(expected, abs=WHOLE_PIXELS)
    assert page.evaluate("scrollY") == scrolled
    context.close()


def test_pictures(page: Page, tmp_path: Path) -> None:
    for button, head in (("png", b"\x89PNG"), ("svg", b"<svg")):
        with page.expect_download() as waiting:
            page.click(f"#{button}")
        target = tmp_path / f"picture.{button}"
        waiting.value.save_as(target)
        assert target.read_bytes().startswith(head)
    drawn = (tmp_path / "picture.svg").read_text()
    assert drawn.count("<g") == drawn.count("</g>")
    # Each of the three charts is clipped where it is drawn.
    assert drawn.count('transform="translate(785 0)"/></clipPath>') == 3
    assert "adam  lr 0.2" in drawn
    import xml.etree.ElementTree as ET

    ET.fromstring(drawn)


def test_every_text_is_in_chinese() -> None:
    folder = resources.files("steprule.play") / "page"
    texts: set[str] = set()
    for name in (*(f"{n}.js" for n in play.FILES), "page.html", "frame.html"):
        code = (folder / name).read_text(encoding="utf-8")
        texts |= set(re.findall(r'(?<![\w.])t\(\s*"((?:[^"\\]|\\.)*)"', code)) | set(
            re.findall(r'data-[tl]="([^"]+)"', code)
        )
    # A rule needs its file alone: what it says of itself may be in Chinese, and else is shown as it stands.
    of_rules = {title_of("sgd"), *(rule.summary for rule in RULES)}
    for rule in RULES:
        of_rules |= {t for h in composed(rule).hypers for t in (h.meaning, h.range) if h.name != "maximize"}
    for story in STORIES:
        texts |= {story.title, *story.labels, *(place.words for place in story.places)}
        texts |= {scene.words for scene in (story.question, *story.scenes)}
    assert len(texts) > 120
    assert texts - set(CHINESE) == set()
    assert set(CHINESE) - texts - of_rules == set(), "no longer on the page"
    assert len(of_rules & set(CHINESE)) >= 30
