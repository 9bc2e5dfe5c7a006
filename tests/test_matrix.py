"""The page of a matrix in real Chromium: what it says of Muon, its trainings against the author's function, every control."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from chromium_page import needs_chromium, opened
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page
from tolerances import IN_BFLOAT16, MATRICES_WALKED, PAGE_AGAINST_TRAIN, SINGULAR_VALUES

import steprule
from steprule import rules, schedules
from steprule.cli import main
from steprule.compiler import eager
from steprule.play import matrix
from steprule.play.luck_chinese import CHINESE as LUCKS
from steprule.play.matrix_chinese import CHINESE
from steprule.play.network_chinese import CHINESE as NETWORKS
from steprule.play.words import CHINESE as PLAYGROUNDS
from steprule.rules.rule import Rule

RUNNERS = {r.name: r for r in matrix.RUNNERS}
SHOWN = [r.name for r in matrix.RUNNERS if r.shown]
MINE = """
from steprule import rule
from steprule.hyper import Decay, PerRow, Rate
from steprule.macros import polar
from steprule.maths import lerp, mean, sqrt

@rule(as_matrix=True)
def row_muon(p, g, buffer, row_moment: PerRow, *, lr: Rate = 0.02, momentum: Decay = 0.9, beta: Decay = 0.95):
    buffer = lerp(buffer, g, 1 - momentum)
    o = polar(buffer)
    row_moment = lerp(row_moment, mean(o**2, axis=-1), 1 - beta)
    return p - lr * o / (sqrt(row_moment) + 1e-8), buffer, row_moment

@rule
def still(p, g):
    return p - 0.5 * g
"""
OTHERS = ("rmsprop", "prodigy", "sam_adamw", "schedule_free_sgd", "adagrad")
"""Rules of the catalogue beside the page's: of elements, with a total, with two looks, with two points."""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mine") / "mine.py"
    path.write_text(MINE)
    return path


@pytest.fixture(scope="module")
def own(mine: Path) -> dict[str, Rule]:
    """By key in the page, rules beside its own."""
    specs = {name: name for name in OTHERS} | {n: f"{mine}:{n}" for n in ("row_muon", "still")}
    return {key: rules.resolve(spec) for key, spec in specs.items()}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("matrix") / "matrix.html"
    matrix.write(path)
    assert path.stat().st_size < 1_000_000
    return path


@pytest.fixture(scope="module")
def fuller(tmp_path_factory: pytest.TempPathFactory, mine: Path) -> Path:
    """The page with rules of one's own, as the command writes it."""
    path = tmp_path_factory.mktemp("fuller") / "matrix.html"
    given = [*OTHERS, f"{mine}:row_muon", f"{mine}:still"]
    assert main(["play", "matrix", *(part for spec in given for part in ("--rule", spec)), "--out", str(path)]) == 0
    return path


def least(rule: str, seed: int = 0, steps: int = matrix.OPENING, schedule: str = "linear", **hypers: Any) -> float:
    """The lowest loss at the end, of all learning rates of the page, by a sweep."""
    points = {"lr": np.array(matrix.RATES), **hypers}
    found = steprule.sweep(rule, matrix.task(seed), points, schedule=schedule, epochs=steps, compile=False)
    return float(np.nanmin(np.where(np.isfinite(found.train), found.train, np.nan)))


def test_lanes_of_muon_are_the_authors_function() -> None:
    """Nearly all to the bit: what was cast is rounded after each operation in both. Rounded at casts alone, none was, by up to 60 %.

    A norm is summed in another order over a stack, which moves a rounding now and then.
    """
    rates, same = matrix.RATES[28:33], []
    for seed in (0, 2):
        task, points = matrix.task(seed), {"lr": np.array(rates), "weight_decay": 0.0}
        lanes = steprule.sweep("muon", task, points, schedule="linear", epochs=matrix.OPENING, compile=False)
        for k, lr in enumerate(rates):
            alone = steprule.train("muon", task, 0, matrix.OPENING, schedule="linear", lr=lr, weight_decay=0.0)
            same.append(bool(lanes.train[k, 0] == alone.final_loss))
    assert sum(same) >= 8


@pytest.mark.parametrize(("seed", "shown", "hidden"), [(0, 5, 3), (1, 5, 3), (2, 4, 2)])
def test_muon_wins_in_few_steps(seed: int, shown: float, hidden: float) -> None:
    """Each at the best of the same rates: Muon with the rate that falls, any rule of elements by the schedule that is better for it.

    The page has seed 0. Another turns the keys otherwise, which rules of elements notice: Muon's lead is 4.4 over momentum with seed 2.
    """
    muon = least("muon", seed, weight_decay=0.0)
    plain = least("muon", seed, weight_decay=0.0, momentum=0.0)
    rivals: dict[str, dict[str, Any]] = {
        "sgd": {},
        "momentum": {"momentum": 0.9},
        "adam": {},
        "lion": {},
        "rmsprop": {},
        "adagrad": {},
    }
    for name, hypers in rivals.items():
        rule = "sgd" if name == "momentum" else name
        best = min(least(rule, seed, schedule=schedule, **hypers) for schedule in matrix.SCHEDULES)
        assert muon < best / (shown if name in SHOWN else hidden), name
        assert plain < best / 300, name


def test_where_it_does_not_win() -> None:
    """What the page says at its end: with many steps, with a constant rate, and against a momentum chosen for the problem."""
    assert max(least("sgd", steps=160, momentum=0.9), least("adam", steps=160)) < least(
        "muon", steps=160, weight_decay=0.0
    )
    held = least("muon", schedule="constant", weight_decay=0.0)
    assert held > 10 * least("muon", weight_decay=0.0)
    assert least("sgd", schedule="constant", momentum=0.7) < least("muon", weight_decay=0.0)


def gradient(W: NDArray[np.float64]) -> NDArray[np.float64]:
    """By autograd, of the loss as the docstring of `task` states it."""
    known, p = matrix.memory(), torch.tensor(W, requires_grad=True)
    errors = torch.from_numpy(known.keys) @ p.T - torch.from_numpy(known.values)
    (torch.from_numpy(known.shares) * errors.square().sum(dim=1)).sum().div(2).backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None
    return p.grad.numpy()


def by_author(rule: Rule, given: dict[str, Any], steps: int, schedule: str) -> list[NDArray[np.float64]]:
    """Where the model is read behind each step, by the author's function."""
    hypers, state = rule.bind(given), eager.State()
    p = np.zeros((matrix.SIZE, matrix.SIZE))
    found = [p]
    for t, factor in enumerate(schedules.get(schedule).factors(steps), 1):
        now = {**hypers, "lr": hypers["lr"] * factor} if "lr" in hypers else hypers
        p, state = eager.whole_step(rule, p, gradient(p), state, t, now, gradient)
        found.append(eager.evaluated(rule, p, state, t, now))
    return found


TRAINED = "([rule, lr, steps, schedule]) => train({rule, hypers: lr === null ? {} : {lr}}, steps, schedule).read"


@needs_chromium
@pytest.mark.parametrize("schedule", matrix.SCHEDULES)
def test_every_step_is_the_authors(
    browser: Browser, fuller: Path, own: dict[str, Rule], complaints: list[str], schedule: str
) -> None:
    """Every rule of the page and rules of one's own, at every step of a training."""
    page = opened(browser, fuller, complaints)
    trained = {r.name: (rules.get(r.rule), {**r.hypers, "lr": r.lr}) for r in matrix.RUNNERS}
    trained |= {key: (rule, {"lr": 0.02} if "lr" in rule.defaults else {}) for key, rule in own.items()}
    assert set(page.evaluate("Object.keys(DATA.rules)")) == set(trained)
    for key, (rule, given) in trained.items():
        ours = by_author(rule, given, matrix.OPENING, schedule)
        theirs = np.array(page.evaluate(TRAINED, [key, given.get("lr"), matrix.OPENING, schedule]))
        limit = MATRICES_WALKED * max(1.0, float(np.abs(ours).max()))
        np.testing.assert_allclose(theirs, np.reshape(ours, theirs.shape), rtol=0, atol=limit, err_msg=key)


@needs_chromium
def test_loss_and_singular_values(browser: Browser, file: Path, complaints: list[str]) -> None:
    page, drawn, task = opened(browser, file, complaints), np.random.default_rng(0), matrix.task()
    thin = drawn.standard_normal((8, 3))
    for W in (drawn.standard_normal((8, 8)), thin @ thin.T, np.zeros((8, 8)), 1e-9 * drawn.standard_normal((8, 8))):
        wanted = np.linalg.svd(W, compute_uv=False)
        limit = SINGULAR_VALUES * max(1.0, wanted[0])
        np.testing.assert_allclose(page.evaluate("singularValues", W.ravel().tolist()), wanted, rtol=0, atol=limit)
        x, y = (torch.as_tensor(part).double() for part in (task.features, task.targets))
        loss = float(task.loss(x @ torch.from_numpy(W).T, y))
        assert page.evaluate("lossOf", W.ravel().tolist()) == pytest.approx(loss, rel=PAGE_AGAINST_TRAIN)
    np.testing.assert_allclose(page.evaluate("gradientOf(TARGET)"), 0, atol=SINGULAR_VALUES)


@needs_chromium
def test_it_opens_at_the_best_rates(browser: Browser, file: Path, complaints: list[str]) -> None:
    """And the rare pairs are as far as the frequent ones where the matrix is stepped as one, and only there."""
    page = opened(browser, file, complaints)
    found = page.evaluate("Object.fromEntries(lives.map((l) => [l.rule, bestRate(l.rule, steps, schedule)]))")
    assert found == {r.name: r.lr for r in matrix.RUNNERS}
    ends = page.evaluate("Object.fromEntries(on().map((l) => [l.rule, l.run.losses.at(-1)]))")
    assert max(ends["muon"], ends["muon_plain"]) < min(ends[n] for n in ("sgd", "momentum", "adam")) / 20
    level = (
        "Object.fromEntries(on().map((l) => [l.rule, singularValues(l.run.read[4])]).map(([n, s]) => [n, s[7] / s[0]]))"
    )
    for name, ratio in page.evaluate(level).items():
        assert ratio > 0.6 if name.startswith("muon") else ratio < 0.1, name


@needs_chromium
@pytest.mark.parametrize(
    ("rule", "limit"), [("adam", PAGE_AGAINST_TRAIN), ("momentum", PAGE_AGAINST_TRAIN), ("muon_plain", IN_BFLOAT16)]
)
def test_the_command_is_the_training(
    browser: Browser, file: Path, complaints: list[str], capsys: pytest.CaptureFixture[str], rule: str, limit: float
) -> None:
    """In float32; with few steps, so that rounding does not grow."""
    page = opened(browser, file, complaints, f"{rule}=0.1&steps=20&which={rule}&schedule=constant")
    typed = str(page.text_content("#command")).split()
    assert main([*typed[1:], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert page.evaluate("on()[0].run.losses.at(-1)") == pytest.approx(told["final_loss"], rel=limit)


@needs_chromium
def test_every_control(browser: Browser, file: Path, complaints: list[str]) -> None:
    page = opened(browser, file, complaints, "lang=en")
    assert page.evaluate("on().map((l) => l.rule)") == SHOWN
    assert page.evaluate("[steps, schedule, at]") == [40, "linear", 40]
    before = page.screenshot()
    page.fill("#at", "3")
    assert page.text_content("#at-shown") == "3 / 40"
    assert page.text_content("#matrices-title") == "W and its singular values after step 3"
    assert page.screenshot() != before
    page.click("#forth")
    page.click("#forth")
    page.click("#back")
    assert page.evaluate("at") == 4
    trained = page.evaluate("on().map((l) => l.run.losses.at(-1))")
    page.focus("#rate-muon")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#shown-muon") == "0.383"
    changed = page.evaluate("on().map((l) => l.run.losses.at(-1))")
    same = [a == b for a, b in zip(changed, trained, strict=True)]
    assert same == [name != "muon" for name in SHOWN], "only Muon trains anew"
    assert "--set lr=0.383" in str(page.text_content("#command"))
    page.click("#best")
    page.wait_for_function("!tuning")
    assert page.text_content("#shown-muon") == "0.316"
    page.select_option("#steps", "80")
    page.select_option("#schedule", "constant")
    assert page.evaluate("on().every((l) => l.run.losses.length === 81)")
    assert page.evaluate("DATA.schedules.constant[80].every((f) => f === 1)")
    page.check("#on-scion")
    page.uncheck("#on-sgd")
    page.select_option("#which", "scion")
    assert "Scion" in str(page.text_content("#summary"))
    assert page.locator("#formula math").count() >= 3
    page.wait_for_function("location.hash.includes('which=scion')")
    address, ends = page.url, page.evaluate("on().map((l) => [l.rule, l.lr, at, l.run.losses.at(-1)])")
    again = opened(browser, file, complaints, address.split("#")[1])
    assert again.evaluate("on().map((l) => [l.rule, l.lr, at, l.run.losses.at(-1)])") == ends
    for name in again.evaluate("on().map((l) => l.rule)"):
        again.uncheck(f"#on-{name}")
    assert again.text_content("#said") == "Choose a rule."
    again.select_option("#language", "zh")
    assert again.text_content("h1") == "看矩阵学习"


@needs_chromium
def test_what_cannot_be_is_said(browser: Browser, file: Path, complaints: list[str]) -> None:
    page = opened(browser, file, complaints, "lang=en&adam=x&steps=7&schedule=up&at=99&foo=1&sgd=10&which=none")
    said = str(page.text_content("#said"))
    for part in (
        "no foo",
        "adam cannot be x",
        "steps cannot be 7",
        "schedule cannot be up",
        "at cannot be 99",
        "which cannot be none",
    ):
        assert part in said
    page.select_option("#schedule", "constant")
    page.select_option("#steps", "160")
    assert page.evaluate("on().map((l) => [l.rule, l.run.losses.at(-1) > 1e6])") == [["sgd", True], ["adam", False]]


@needs_chromium
def test_rules_of_ones_own(browser: Browser, fuller: Path, mine: Path, complaints: list[str]) -> None:
    """They are shown at their best rate; one without a rate has no slider."""
    page = opened(browser, fuller, complaints)
    shown = page.evaluate("on().map((l) => l.rule)")
    assert shown == [*SHOWN, *OTHERS, "row_muon", "still"]
    assert page.evaluate("lives.find((l) => l.rule === 'row_muon').lr") == page.evaluate(
        "bestRate('row_muon', steps, schedule)"
    )
    assert page.locator("#rate-row_muon").count() == 1
    assert page.locator("#rate-still").count() == 0
    page.select_option("#which", "row_muon")
    typed = str(page.text_content("#command"))
    assert typed.startswith(
        f"steprule train {mine}:row_muon --on steprule.play.matrix:task --epochs 40 --schedule linear --set lr="
    )


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "page.html")
    for given, said in (
        (["--rule", "soap"], "got soap, which asks for eigenvectors, qr, sort_by"),
        (["--story", "ravine"], "expected --out and --rule alone, got --story"),
    ):
        assert main(["play", "matrix", *given, "--out", out]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1
    assert not Path(out).exists()


def test_a_rule_that_is_there_is_shown(tmp_path: Path) -> None:
    """And no second time."""
    text = matrix.page([("scion", rules.scion), ("scion", rules.scion)])
    about = json.loads(re.search(r"const DATA = (.*);\n", text)[1])["rules"]  # type: ignore[index]
    assert list(about) == list(RUNNERS)
    assert about["scion"]["shown"]
    assert not about["lion"]["shown"]


@needs_chromium
def test_it_moves_when_it_opens_and_can_be_paused(browser: Browser, file: Path, complaints: list[str]) -> None:
    page = opened(browser, file, complaints, reduced_motion="no-preference")
    page.wait_for_function("at > 5 && at < 35")
    page.click("#play")
    held = page.evaluate("at")
    assert 5 < held < 40
    assert page.text_content("#play") == "Play"
    page.click("#play")
    page.wait_for_function(f"at > {held}")
    page.wait_for_function("at === steps && !stopMotion")


@needs_chromium
def test_in_a_frame_it_takes_the_colours_of_the_page_around(
    browser: Browser, file: Path, tmp_path: Path, complaints: list[str]
) -> None:
    """As a rule's page in the documentation tells it."""
    around = tmp_path / "around.html"
    around.write_text(f'<iframe src="{file.as_uri()}#muon=0.316&adam=0.261" width="700" height="500"></iframe>')
    page = opened(browser, around, complaints)
    inside = page.frames[1]
    for theme in ("dark", "light"):
        page.evaluate("(theme) => frames[0].postMessage({theme}, '*')", theme)
        inside.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")
    assert inside.evaluate("on().map((l) => l.rule)") == ["adam", "muon"]


@needs_chromium
@pytest.mark.parametrize(("width", "address"), [
    (390, "lang=zh&theme=dark"), (1366, "lang=en&theme=light"),
    pytest.param(320, "lang=en&theme=dark", marks=pytest.mark.long),
    pytest.param(1366, "lang=zh&theme=light", marks=pytest.mark.long),
])  # fmt: skip
def test_accessible(browser: Browser, file: Path, complaints: list[str], width: int, address: str) -> None:
    page = opened(browser, file, complaints, f"at=6&{address}", viewport={"width": width, "height": 768})
    found = Axe().run(page)
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found.response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    last = page.locator("#rate-muon_plain")
    if width == 1366:
        box = last.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 768, "pictures and sliders in one view"
    else:
        last.scroll_into_view_if_needed()
        curves = page.locator("#curves").bounding_box()
        assert curves is not None
        assert curves["y"] >= 0, "the curves stay above the sliders"


def words_fit(page: Page) -> list[str]:
    """Headings and rows of a card that are wider than their card."""
    script = "[...document.querySelectorAll('#cards h3, #cards p')].filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent)"
    return list(page.evaluate(script))


@needs_chromium
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [390, 1366])
def test_no_word_is_cut(browser: Browser, file: Path, complaints: list[str], width: int, language: str) -> None:
    every = "&".join(f"{r.name}={r.lr}" for r in matrix.RUNNERS)
    page = opened(browser, file, complaints, f"{every}&lang={language}", viewport={"width": width, "height": 768})
    assert words_fit(page) == []
    tops = page.evaluate("[...document.querySelectorAll('#cards canvas')].map((c) => c.getBoundingClientRect().top)")
    assert len({round(top) for top in tops}) == (len(tops) if width == 390 else -(-len(tops) // 3)), (
        "cards stand in rows"
    )


def test_every_text_is_in_chinese() -> None:
    folder = resources.files("steprule.play") / "page"
    texts = {rules.get(r.rule).summary for r in matrix.RUNNERS} | {r.title for r in matrix.RUNNERS if r.title}
    for name in (*(f"{n}.js" for n in matrix.SCRIPTS), "matrix.html"):
        code = (folder / name).read_text(encoding="utf-8")
        texts |= set(re.findall(r'(?<![\w.])t\(\s*"((?:[^"\\]|\\.)*)"', code))
        texts |= set(re.findall(r'data-[tl]="([^"]+)"', code))
    assert len(texts) > 50
    others = {*PLAYGROUNDS, *LUCKS, *NETWORKS}
    assert texts - set(CHINESE) - others == set()
    assert set(CHINESE) - texts == set(), "no longer on the page"
    assert set(CHINESE) & others == set(), "said once"
