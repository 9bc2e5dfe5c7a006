"""The playground's stories in real Chromium: their scenes, guesses and claims, what moves, slides and films."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium_page import needs_chromium
from playground import SEEN, SHORT, address_of, go, reopen, settle, state
from playwright.sync_api import Browser, Page
from tolerances import PRINTED_TWO_DECIMALS, ROUNDED32, STANDS_STILL, STORY, STORY_ABOUT, STORY_ROUND, VIEW_IN_ADDRESS

import steprule
from steprule import rules
from steprule.cli import main
from steprule.play.stories import STORIES, Story
from steprule.play.words import CHINESE
from steprule.tutorial.rules import adam_uncorrected

pytestmark = needs_chromium


def test_stories(page: Page) -> None:
    """Each opens with its question and places; every scene says its sentence, and its address opens it again."""
    for k, story in enumerate(STORIES):
        page.locator(f"#stories button >> nth={k}").click()
        settle(page)
        assert page.locator("#stories [aria-pressed=true]").text_content() == story.title
        assert page.locator("#sentence").text_content() == story.question.words
        assert page.locator("#places button:visible").count() == len(story.places), story.name
        for n, scene in enumerate(story.scenes, 1):
            page.locator(f"[data-scene='{n}']").click()
            settle(page)
            assert page.locator("#sentence").text_content() == scene.words
            assert page.evaluate("model.state.at") == scene.at
            assert page.evaluate("[...model.hidden]") == list(scene.hidden)
        assert page.locator("#said").text_content() == ""
        before, address = state(page), address_of(page)
        assert f"story={story.name}&scene={len(story.scenes)}" in before
        reopen(page, address)
        assert state(page) == before


def test_a_guess_is_shown_beside_what_happened(page: Page) -> None:
    for story in STORIES:
        right = page.evaluate(f"(open('story={story.name}'), rightPlace(storyOf(model.state)))")
        end = page.evaluate(f"model.walks[{story.subject}].points[{story.asked}]")
        far = [float(np.hypot(*np.subtract(place.at, end))) for place in story.places]
        assert right == int(np.argmin(far))
        assert min(far) < 0.4 * sorted(far)[1], f"{story.name}: one place is clearly nearest"
        for k in range(len(story.places)):
            go(page, f"story={story.name}")
            page.locator(f"[data-place='{k}']").click()
            assert f"{'ABC'[k]}, {story.places[k].words}" in str(page.locator("#verdict").text_content()), (
                "heard at once"
            )
            page.locator("#scenes li:last-child button").click()
            settle(page)
            said = str(page.locator("#verdict").text_content())
            assert f"{'ABC'[k]}, {story.places[k].words}" in said
            assert said.endswith(": right.") == (k == right)
            assert f"{'ABC'[right]}, {story.places[right].words}" in said


def test_adagrads_step_falls_and_rmsprops_stays(page: Page) -> None:
    """In the page's own lower charts: AdaGrad ends under a fifth of its first effective step, RMSProp over half."""
    go(page, "story=adagrad-slows&scene=3")
    for axis in (0, 1):
        slow, kept = page.evaluate(f"model.walks.map((w) => ratesOf(w, {axis})).map((r) => r.at(-1) / r[1])")
        assert slow < 0.2
        assert kept > 0.5


def _traced(story: Story) -> list[Any]:
    """Its paths in Python, as its address says them."""
    given = re.findall(r"(\w+)=([^&]+)", story.state)
    shared = {name: value for name, value in given if name != "rule"}
    paths = []
    for said in (value for name, value in given if name == "rule"):
        rule, *pairs = said.split(",")
        hypers = {n: json.loads(v) for n, v in (pair.split("=") for pair in pairs)}
        found = adam_uncorrected if rule == "adam_uncorrected" else rules.get(rule)
        start = tuple(float(v) for v in shared["start"].split(","))
        noise = {"noise": float(shared["noise"])} if "noise" in shared else {}
        paths.append(steprule.trace(found, shared["surface"], start, int(shared["steps"]), **noise, **hypers))
    return paths


def test_stories_say_the_truth() -> None:
    told = {story.name: _traced(story) for story in STORIES}
    adagrad, rmsprop = told["adagrad-slows"]
    assert np.hypot(*rmsprop.points[100]) < 0.25, "at the star"
    way = 1 - np.hypot(*adagrad.points[100]) / np.hypot(5, 2)
    assert 0.25 < way < 0.4, "a third of the way"
    plain, momentum = told["ravine"]
    across = plain.points[:, 1]
    assert (np.sign(across[1:]) != np.sign(across[:-1])).all(), "it zigzags"
    assert 1.7 < abs(across[1] - across[0]) / 2 < 2, "nearly twice the way to the floor"
    assert 2000 < plain.values[-1] / momentum.values[-1] < 2500
    outside, inside = told["epsilon"]
    assert np.hypot(*outside.points[10]) < 0.05, "almost at the star"
    assert inside.points[10, 0] == pytest.approx(-0.2, abs=PRINTED_TWO_DECIMALS)
    assert np.abs(inside.points[1] - inside.points[0])[0] < np.abs(outside.points[1] - outside.points[0])[0]
    rates = [np.abs(np.diff(path.points[:, 1]) / (4 * path.points[:-1, 1])) for path in (outside, inside)]
    assert rates[0].max() > 0.5
    assert rates[1].max() < 0.1 / 0.05**0.5 < 0.45
    assert np.abs(outside.points[20:, 1]).max() > 0.05
    assert np.abs(inside.points[20:, 1]).max() < STANDS_STILL
    small, large = told["adadelta-starts"]
    assert np.abs(small.points[1] - (-5, -2)) == pytest.approx([0.00316] * 2, rel=STORY)
    assert np.abs(large.points[1] - (-5, -2)) == pytest.approx([0.1] * 2, rel=STORY)
    assert np.hypot(*large.points[100]) < 0.06
    assert np.abs(large.points[150:, 1]).max() == pytest.approx(0.1, abs=STORY_ROUND)
    corrected, raw = told["bias-correction"]
    assert np.abs(np.diff(corrected.points[:11], axis=0)) == pytest.approx(0.1, rel=STORY_ABOUT)
    steps = np.abs(np.diff(raw.points, axis=0))
    assert steps[0] == pytest.approx([0.1 * 0.1 / 0.001**0.5] * 2, rel=ROUNDED32)
    assert (steps[:3] > 0.3).all()
    assert (steps[:3] < 0.5).all()
    assert raw.values[10] < corrected.values[10], "long steps happen to pay"
    adam, amsgrad = told["amsgrad"]
    assert 0.05 < np.hypot(*adam.points[20]) < 0.2
    assert np.hypot(*adam.points[150]) > 0.05
    assert amsgrad.values[20] > adam.values[20], "behind"
    assert amsgrad.values[-20:].max() < STANDS_STILL
    assert adam.values[-20:].max() > 0.01
    rising = np.abs(np.diff(amsgrad.points[20:100, 0]) / (0.2 * amsgrad.points[20:99, 0]))
    assert np.ptp(rising) < 0.01 * rising[0], "AMSGrad's step size does not rise in x"
    descent, heavy, divided, moved = told["saddle"]
    assert divided.points[5, 1] > 1.3
    assert abs(descent.points[25, 1]) < 0.15 < 0.9 < abs(moved.points[25, 1])
    assert descent.points[20:40, 1] / descent.points[19:39, 1] == pytest.approx(1.1, abs=STORY)
    assert [int(np.argmax(np.abs(path.points[:, 1]) > 1)) for path in (descent, heavy, moved, divided)] == [
        52,
        19,
        11,
        1,
    ]
    assert {story.name for story in STORIES} == set(told), "a new story has its sentences held here"


def test_something_moves_when_the_page_opens(moving: Page, file: Path) -> None:
    moving.clock.run_for(200)
    assert moving.evaluate("model.state.story.name") == STORIES[0].name
    early = moving.evaluate("model.state.at")
    moving.clock.run_for(1_000)
    assert early < moving.evaluate("model.state.at")
    moving.clock.run_for(4_000)
    assert moving.evaluate("[model.state.at, model.state.story.scene]") == [STORIES[0].question.at, 0]
    reopen(moving, f"{file.as_uri()}#{SHORT}")
    moving.clock.run_for(300)
    assert 0 < moving.evaluate("model.state.at") < 20
    moving.clock.run_for(3_000)
    assert moving.evaluate("model.state.at") == 20


def test_a_story_plays_by_itself(moving: Page) -> None:
    """From a guess to its end, scene by scene, with time to read each sentence; it can be halted, and a change leaves it."""
    moving.clock.run_for(4_000)
    moving.locator("[data-place='2']").click()
    seen = []
    for _ in range(60):
        moving.clock.run_for(500)
        seen.append(moving.evaluate("model.state.story.scene"))
    assert sorted(set(seen)) == [1, 2, 3] == sorted(set(seen), key=seen.index)
    assert all(seen.count(k) > 8 for k in (1, 2)), "four seconds at least to read"
    assert "right" in str(moving.locator("#verdict").text_content())
    moving.click("#tell")  # again
    assert moving.evaluate("model.state.story.scene") == 0
    moving.clock.run_for(4_000)
    moving.click("#tell")
    moving.clock.run_for(1_000)
    moving.click("#tell")  # halt
    halted = moving.evaluate("[model.state.at, model.state.story.scene]")
    moving.clock.run_for(20_000)
    assert moving.evaluate("[model.state.at, model.state.story.scene]") == halted
    moving.locator("#hypers input[type=range]").first.press("ArrowRight")
    moving.clock.run_for(1_000)
    assert moving.evaluate("model.state.story") is None
    assert moving.locator("#telling").is_hidden()
    assert moving.locator("#places button").count() == 0


def test_nothing_moves_for_who_prefers_so(page: Page, file: Path) -> None:
    reopen(page, file.as_uri())
    settle(page)
    assert page.evaluate("[model.state.at, stopMotion]") == [STORIES[0].question.at, None]
    page.locator("[data-place='0']").click()
    settle(page)
    assert page.evaluate("[model.state.at, model.state.story.scene, stopMotion]") == [STORIES[0].scenes[0].at, 1, None]
    assert page.evaluate("document.getAnimations().length") == 0


def test_arrow_keys_step(page: Page) -> None:
    """Through a story; along a path where there is none; and not where they mean something else."""
    go(page, "story=ravine")
    for key, scene in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        page.keyboard.press(key)
        assert page.evaluate("model.state.story.scene") == scene
    go(page, f"{SHORT}&at=5")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("model.state.at") == 6
    page.locator("#start-x").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("model.state.at") == 6


def test_in_a_story(page: Page) -> None:
    """A miss beside a place is no new start; letters guess; what is looked at is in the link; the focus and the guess stay."""
    go(page, "story=ravine")
    box = page.locator("[data-place='1']").bounding_box()
    assert box
    page.mouse.click(box["x"] + 45, box["y"] + 14)
    settle(page)
    assert page.evaluate("model.state.story.scene") == 0
    # Nobody is told by words what is not shown.
    told = [page.locator(f"#{name}").get_attribute("aria-label") or "" for name in ("plane", "values", "rate-y")]
    go(page, "story=adagrad-slows")
    told += [page.locator(f"#{name}").get_attribute("aria-label") or "" for name in ("plane", "values", "rate-y")]
    assert not any("momentum" in text or "adagrad" in text for text in told)
    assert page.evaluate("model.state.chosen") == 1
    page.keyboard.press("c")
    settle(page)
    assert page.evaluate("[model.guess, model.state.story.scene, document.activeElement.id]") == [2, 1, "tell"]
    page.locator("[data-scene='3']").click()
    assert page.evaluate("document.activeElement.dataset.scene") == "3"
    page.select_option("#language", "zh")
    settle(page)
    assert page.evaluate("[model.guess, model.state.at]") == [2, 100]
    assert CHINESE["Your guess was {0}: right."].split("{0}")[1] in str(page.locator("#verdict").text_content())
    page.click("#closer")
    page.click("#back")
    settle(page)
    kept = page.evaluate("[viewOf(model), model.state.at]")
    reopen(page, address_of(page))
    assert page.evaluate("model.state.at") == kept[1] == 99
    assert np.array(page.evaluate("viewOf(model)")) == pytest.approx(np.array(kept[0]), rel=VIEW_IN_ADDRESS)
    # A change leaves the story, and shows the whole path.
    go(page, "story=ravine")
    page.press("#start", "ArrowRight")
    settle(page)
    assert page.evaluate("[model.state.story, model.state.at]") == [None, 20]


def test_a_frame_of_another_page_tells_the_story(browser: Browser, file: Path, tmp_path: Path) -> None:
    for name, told in (("embed", True), ("chosen", False)):
        where = tmp_path / f"{name}.html"
        state = "&embed=true" if told else ""
        where.write_text(f'<iframe src="{file.as_uri()}#story=ravine{state}" width="1000" height="640"></iframe>')
        page = browser.new_page(reduced_motion="reduce")
        page.goto(where.as_uri())
        frame = page.frame_locator("iframe")
        frame.locator("#plane").wait_for()
        assert frame.locator("#sentence").is_visible() == told
        frame.locator("[data-place='0']").wait_for(
            state="visible" if told else "hidden"
        )  # no places without a question
        page.close()


def test_long_names_leave_the_charts_their_room(page: Page) -> None:
    set_ = "lr=0.1,beta1=0.5,beta2=0.9,eps=0.001,weight_decay=0.01"
    go(
        page,
        f"rule=adam,{set_}&rule=adam,lr=0.2,beta1=0.6,beta2=0.95,eps=0.01,amsgrad=true&surface=quadratic&start=-5,-2&steps=20",
    )
    assert page.evaluate("model.labels.every((label) => label.length <= 24)")
    assert page.evaluate("widthOfLabels(penOf($('values')).pen, model)") < 240
    go(page, f"{SHORT}&start=1e14,-2")
    page.click("#fit")
    assert page.evaluate("scaleOf(1e20, 1e20 + 65536, false).ticks.length") < 20


def test_full_screen(page: Page) -> None:
    """The picture alone, and back."""
    page.click("#whole-screen")
    page.wait_for_function(
        "document.fullscreenElement !== null && document.documentElement.classList.contains('slide')"
    )
    assert page.locator("#hypers").is_hidden()
    assert page.locator("#whole-screen").text_content() == "Leave full screen"
    page.click("#whole-screen")
    page.wait_for_function(
        "document.fullscreenElement === null && !document.documentElement.classList.contains('slide')"
    )
    assert page.locator("#hypers").is_visible()


def test_slides_and_films(page: Page, tmp_path: Path, in_folder: Path) -> None:
    """`--story NAME --embed` shows the picture with its story alone; a film of it can be saved."""
    assert main(["play", "--story", "saddle", "--embed", "--out", "slide.html"]) == 0
    page.set_viewport_size({"width": 1280, "height": 720})
    reopen(page, Path("slide.html").absolute().as_uri())
    settle(page)
    assert page.locator("#sentence").text_content() == next(s for s in STORIES if s.name == "saddle").question.words
    assert page.locator("#hypers").is_hidden()
    assert page.evaluate(SEEN, ["plane", "values", "rate-x", "rate-y"])
    assert page.evaluate("document.documentElement.scrollHeight") <= 720
    go(page, f"{SHORT}&embed=true")
    page.evaluate("document.documentElement.classList.remove('slide')")
    page.select_option("#speed", "60")
    page.click("#film")
    page.wait_for_function("$('film').textContent.endsWith('stop')")
    page.click("#film")
    page.wait_for_function("$('film').textContent === 'Save WebM'")
    with page.expect_download() as waiting:
        page.click("#film")
    waiting.value.save_as(tmp_path / "film.webm")
    assert (tmp_path / "film.webm").read_bytes().startswith(b"\x1aE\xdf\xa3"), "a Matroska file"
    page.wait_for_function("$('film').textContent === 'Save WebM'")
