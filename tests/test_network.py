"""The page with a network in real Chromium: its gradient and its trainings against Python's, every control, its address."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium_page import needs_chromium, opened
from plain_training import plain_loss
from playwright.sync_api import Browser, Page
from tolerances import PAGE_AGAINST_TRAIN, PRINTED_NETWORK, ROUNDED32

from steprule import rules
from steprule.cli import main
from steprule.play import dense, network
from steprule.play.luck_chinese import CHINESE as LUCKS
from steprule.play.network_chinese import CHINESE
from steprule.play.words import CHINESE as PLAYGROUNDS
from steprule.problems import airfoil, catalogue as problems
from steprule.reports.style import title_of

pytestmark = needs_chromium
SHOWN = [r.name for r in network.RUNNERS if r.shown]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "network.html"
    network.write(path, {"race": "race.html"})
    assert path.stat().st_size < 1_000_000
    return path


def train(page: Page) -> None:
    """The button, until all is trained."""
    page.click("#run")
    page.wait_for_function("!playing && !ticks", timeout=60_000)


def test_the_gradient_is_pythons(browser: Browser, file: Path, complaints: list[str]) -> None:
    """The same loops on the page's own samples, from drawn parameters."""
    page, net, drawn = opened(browser, file, complaints), network.NETWORK, np.random.default_rng(0)
    x, y = (a.astype(np.float64) for a in airfoil.tutorial())
    rows = drawn.permutation(len(x))[:37]
    for scale in (0.1, 1.0, 5.0):
        p = scale * drawn.standard_normal(net.parameters)
        a, d, total, g = (np.zeros(n) for n in (net.units, net.units, 1, net.parameters))
        dense.python(net)["gradient"](p, x.ravel(), y, rows, 2, 30, a, total, d, g)
        theirs = page.evaluate(
            """([p, rows]) => { const n = NETWORK, [a, d, total, g] = [n.units, n.units, 1, n.parameters].map((k) => new Float64Array(k));
            n.gradient(p, FEATURES, TARGETS, rows, 2, 30, a, total, d, g); return [...g, total[0]]; }""",
            [p.tolist(), rows.tolist()],
        )
        np.testing.assert_allclose(theirs, [*g, total[0]], rtol=PRINTED_NETWORK, atol=PRINTED_NETWORK)


@pytest.mark.parametrize(("size", "seed"), [(10, 3), (300, 0)])
def test_a_pass_in_the_page_is_the_packages(
    browser: Browser, file: Path, complaints: list[str], size: int, seed: int
) -> None:
    """Every rule of the page, the last batch of a pass included."""
    page = opened(
        browser, file, complaints, f"batch={size}&seed={seed}&" + "&".join(f"{r.name}={r.lr}" for r in network.RUNNERS)
    )
    for k, runner in enumerate(network.RUNNERS):
        rule = rules.get(runner.rule)
        hypers = rule.bind({**runner.hypers, "lr": runner.lr})
        ours = plain_loss(network.task(), rule, hypers, seed, passes=1, size=size)
        theirs = page.evaluate(
            "(k) => { const live = lives[k]; while (live.training.seen < COUNT) live.advance(); return live.loss; }", k
        )
        assert theirs == pytest.approx(ours, rel=PRINTED_NETWORK), runner.name


def test_the_command_is_the_training(
    browser: Browser, file: Path, complaints: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In float32 and all passes: with large batches, so that rounding does not grow from step to step."""
    page = opened(browser, file, complaints, "batch=300&seed=2&sgd=0.1&adagrad=0.1")
    train(page)
    page.select_option("#which", label="AdaGrad")
    typed = str(page.text_content("#command")).split()
    assert main([*typed[1:], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert page.evaluate("lives[2].loss") == pytest.approx(told["final_loss"], rel=PAGE_AGAINST_TRAIN)
    assert told["losses"][0] == pytest.approx(page.evaluate("lives[2].losses[0]"), rel=ROUNDED32)
    raced = str(page.text_content("#race-command")).split()
    assert raced == ["steprule", "race", "sgd", "adagrad", "--on", "airfoil-mlp"]
    assert raced[-1] in problems.names()


def test_every_control(browser: Browser, file: Path, complaints: list[str]) -> None:
    page = opened(browser, file, complaints, "batch=50&lang=en")
    assert page.evaluate("on().map((l) => l.run.label)") == SHOWN
    before = page.screenshot()
    train(page)
    assert page.text_content("#progress") == "pass 40.0 of 40"
    losses = page.evaluate("on().map((l) => l.loss)")
    assert max(losses) < airfoil.least_squares_floor(), "below what a line can reach"
    assert page.screenshot() != before
    page.focus("#rate-adam")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#shown-adam") == "0.0121"
    page.wait_for_function("!playing && !ticks")
    changed = page.evaluate("on().map((l) => [l.loss, l.before.at(-1)])")
    assert [c[0] == c[1] for c in changed] == [True, True, True, False], (
        "same seed, same batches: only Adam's is another"
    )
    assert [c[1] for c in changed] == losses
    page.click("#seed")
    assert page.text_content("#seed") == "Another seed (now 1)"
    page.fill("#batch", "8")
    assert page.text_content("#batch-shown") == "1500: 1 steps a pass"
    page.check("#on-momentum")
    page.uncheck("#on-sgd")
    page.select_option("#wing", "3")
    page.wait_for_function("location.hash.includes('wing=3')")
    address = page.url
    assert "momentum=0.01" in address
    assert "sgd" not in address
    assert "seed=1" in address
    page.wait_for_function("!playing && !ticks")
    ends = page.evaluate("on().map((l) => l.loss)")
    again = opened(browser, file, complaints, address.split("#")[1])
    train(again)
    assert again.evaluate("on().map((l) => l.loss)") == ends, "an address gives the same trainings"
    for name in again.evaluate("on().map((l) => l.run.label)"):
        again.uncheck(f"#on-{name}")
    assert again.text_content("#said") == "Choose a rule."


def test_what_cannot_be_is_said(browser: Browser, file: Path, complaints: list[str]) -> None:
    page = opened(browser, file, complaints, "lang=en&adam=x&batch=7&seed=99&foo=1&wing=-1&sgd=10")
    said = str(page.text_content("#said"))
    for part in ("no foo", "adam cannot be x", "batch cannot be 7", "seed cannot be 99", "wing cannot be -1"):
        assert part in said
    train(page)
    assert "Diverged: gradient descent has run away by step" in str(page.text_content("#said"))
    assert page.text_content("#loss-sgd") == "diverged"
    assert re.fullmatch(r"0\.\d{4}", str(page.text_content("#loss-adam"))), "the others go on"


def test_it_moves_when_it_opens_and_can_be_paused(browser: Browser, file: Path, complaints: list[str]) -> None:
    page = opened(browser, file, complaints, reduced_motion="no-preference")
    page.wait_for_function("lives[0].losses.length > 20")
    page.click("#run")
    assert page.text_content("#run") == "Go on"
    held = page.evaluate("lives[0].losses.length")
    assert 20 < held < 200
    page.click("#run")
    page.wait_for_function(f"lives[0].losses.length > {held}")


@pytest.mark.long
def test_sixty_frames_a_second(browser: Browser, file: Path, complaints: list[str]) -> None:
    page = opened(browser, file, complaints, reduced_motion="no-preference")
    page.wait_for_function("!playing && !ticks", timeout=60_000)
    times = np.diff(page.evaluate("frames"))
    assert len(times) > 190
    assert np.median(times) < 1000 / 60 + 1


@pytest.mark.parametrize(("width", "address"), [
    (390, "lang=zh&theme=dark"), (1366, "lang=en&theme=light"),
    pytest.param(320, "lang=en&theme=dark", marks=pytest.mark.long),
    pytest.param(1366, "lang=zh&theme=light", marks=pytest.mark.long),
])  # fmt: skip
def test_accessible(browser: Browser, file: Path, complaints: list[str], width: int, address: str) -> None:
    page = opened(browser, file, complaints, f"batch=300&{address}", viewport={"width": width, "height": 768})
    train(page)
    found = Axe().run(page)
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found.response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    last = page.locator("#rate-adam").bounding_box()
    assert last is not None
    if width == 1366:
        assert last["y"] + last["height"] <= 768, "pictures and sliders in one view"
    else:
        page.locator("#rate-adam").scroll_into_view_if_needed()
        curves = page.locator("#curves").bounding_box()
        assert curves is not None
        assert curves["y"] >= 0, "the curves stay above the sliders"


def test_every_text_is_in_chinese() -> None:
    folder = resources.files("steprule.play") / "page"
    texts = {title_of(r.name) for r in network.RUNNERS} & set(PLAYGROUNDS)
    for name in (*(f"{n}.js" for n in network.SCRIPTS), "network.html"):
        code = (folder / name).read_text(encoding="utf-8")
        texts |= set(re.findall(r'(?<![\w.])t\(\s*"((?:[^"\\]|\\.)*)"', code))
        texts |= set(re.findall(r'data-[tl]="([^"]+)"', code))
    assert len(texts) > 40
    assert texts - set(CHINESE) - set(PLAYGROUNDS) - set(LUCKS) == set()
    assert set(CHINESE) - texts == set(), "no longer on the page"
    assert set(CHINESE) & {*PLAYGROUNDS, *LUCKS} == set(), "said once"


def test_wings_are_experiments() -> None:
    """Each wing of the page is measured rows that differ in the frequency alone, the lowest first."""
    measured = airfoil.load()
    found = json.loads(re.search(r'"wings": (\[\[.*?\]\])', network.page())[1])  # type: ignore[index]
    assert len(found) == network.WINGS
    assert len({tuple(measured[rows[0], 1:5]) for rows in found}) == network.WINGS
    for rows in found:
        assert len(rows) >= 8
        assert (np.diff(measured[rows, 0]) > 0).all()
        assert (measured[rows, 1:5] == measured[rows[0], 1:5]).all()
