"""The page of a race: its first screen, one order, who stands out, strips, intervals; on a phone and in the dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chromium_page import chromium, needs_chromium, opened
from playwright.sync_api import Browser
from pretended import pretended
from test_races import TINY

import steprule
from steprule import races
from steprule.races.judging import judge
from steprule.races.verdict import sentence
from steprule.reports import judged_charts, race_charts, race_page, race_styles
from steprule.reports.style import STYLES
from steprule.sizes import RULES


@steprule.rule
def mine(p, g, *, lr: Any = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g


@pytest.fixture(scope="module")
def many() -> races.Race:
    """The race's rules and one of one's own, with two schedules: some real, most open; one default far out."""
    rng = np.random.default_rng(0)
    ends = {
        n: (0.5 + 0.2 * (k > 9)) * np.exp(0.05 * rng.standard_normal((3, 6))) for k, n in enumerate([*RULES, "mine"])
    }
    untuned = {n: np.full(6, 40.0 if n == "adam" else 0.62) for n in ends}
    return pretended(
        ends, initial=50.0, untuned=untuned, schedules=("constant", "linear"),
        optimizers={n: n for n in RULES} | {"mine": mine},
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(many: races.Race) -> str:
    return race_page.page(many)


def rows(table: str) -> list[str]:
    """The labels of a table's rows."""
    body = table[table.index("<tbody>") : table.index("</tbody>")]
    return [re.sub("<.*?>", "", head) for head in re.findall(r"<tr><th.*?>(.*?)</th>", body)]


def test_the_first_screen_is_one_sentence_and_one_table(many: races.Race, page: str) -> None:
    start, table = page.index("<main>"), page.index("<table")
    head = re.sub("<.*?>", " ", page[start:table]).split()
    assert " ".join(head) == f"15 optimizers on made up {sentence(many)}"
    assert re.fullmatch(r"[^.]*\.", sentence(many))
    one = pretended({"adam": np.full((2, 3), 0.5), "sgd": [[0.7, 0.71, 0.7], [0.7, 0.7, 0.71]]})
    assert sentence(one) == "adam has the lowest test loss, 0.5: the other is really above it."
    alone = pretended({"adam": [[0.5]], "sgd": [[0.7]]})
    assert "nothing is called real" in sentence(alone)


def test_only_what_is_real_is_filled_and_what_is_open_is_hollow(many: races.Race, page: str) -> None:
    table = page[page.index("<table") : page.index("</table>")]
    kinds = re.findall(r'<td class="(\w+)', table)
    verdicts = [p.verdict() for c in many.cells for p in c.pairs if p.first == c.standings[0].label]
    verdicts += [u.pair.verdict() for c in many.cells for u in c.untuned]
    for kind in ("real", "open", "same"):
        assert kinds.count(kind) == verdicts.count(kind)
    assert {"real", "open"} <= set(kinds)
    style = page[page.index("<style>") : page.index("</style>")]
    assert re.search(r"\.real\{color:#fff\}.*\.above\{background:#\w+\}", style)
    assert re.search(r"td\.open[^{]*\{box-shadow:inset[^}]*\}", style)
    assert not re.search(r"\.open\{[^}]*background", style)
    assert table.count("untuned, above itself tuned") == 1


def test_every_panel_and_table_has_one_order(many: races.Race, page: str) -> None:
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert len(tables) == 1 + 2 + 2
    for table in tables:
        assert rows(table) == many.order
    for draw in (race_charts.standings, race_charts.sensitivity):
        panels = draw(many).axes
        assert len(panels) == 2
        for axes in panels:
            assert [t.get_text() for t in axes.get_yticklabels()] == many.order[::-1]


def test_of_many_lines_three_and_ones_own_stand_out(many: races.Race) -> None:
    styles = race_styles.styles_in(many)
    loud = [label for label, style in styles.items() if not race_styles.is_quiet(style)]
    assert set(loud) == {*[n for n in many.order if n != "mine"][:3], "mine"}
    grey = race_styles.GREY.colour
    for draw in (race_charts.best_of_k, race_charts.curves, race_charts.profiles):
        figure = draw(many)
        for axes in figure.axes:
            drawn = [line for line in axes.lines if list(line.get_xdata()) != [0, 1]]  # the target runs across
            assert len(drawn) == 15
            assert sum(line.get_color() != grey for line in drawn) == 4
        (legend,) = figure.legends
        names = [text.get_text() for text in legend.get_texts()]
        assert names[:4] == [n for n in many.order if n in loud]
        assert "the 11 others" in names
    few = pretended({n: np.full((2, 3), 0.5) for n in RULES[:4]}, optimizers={n: n for n in RULES[:4]})
    assert not any(race_styles.is_quiet(s) for s in race_styles.styles_in(few).values())


def test_ones_own_rule_wears_no_colour_of_the_catalogue() -> None:
    names = ["adam", "mine", "mine, again", "adam, renamed", "sgd"]
    what = {"adam": "adam", "mine": mine, "mine, again": mine, "adam, renamed": "adam", "sgd": "sgd"}
    styles = race_styles.styles_in(pretended({n: np.full((2, 3), 0.5) for n in names}, optimizers=what))
    theirs = {style.colour for style in STYLES.values()}
    for label in ("mine", "mine, again"):
        assert styles[label].colour not in theirs
    assert styles["mine"] != styles["mine, again"]
    assert styles["adam"] == STYLES["adam"]
    assert len({(s.colour, s.dash, s.marker) for s in styles.values()}) == len(names)


def test_no_interval_is_cut_and_what_lies_far_out_has_a_sign(many: races.Race) -> None:
    for axes, cell in zip(race_charts.standings(many).axes, many.cells, strict=True):
        low, high = axes.get_xlim()
        for s in cell.standings:
            assert s.low is not None
            assert s.high is not None
            assert low <= s.low <= s.high <= high
        assert high < 40, "one default far out presses nobody together"
        assert [text.get_text() for text in axes.texts] == ["40 →"]
        hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
        assert len(hollow) == 14


def test_an_interval_of_a_judgement_is_not_cut_without_a_sign() -> None:
    loss = [1.0, 1.1, 0.9, 0.5, 9.0, 1.0, 1.05, 1.1, 0.95]
    found = judge(pd.DataFrame({"method": list("aaabbbccc"), "loss": loss}))
    (axes,) = judged_charts.standings(found).axes
    low, high = axes.get_xlim()
    assert all(low <= s.low <= s.high <= high for s in found.comparisons[0].standings)
    (axes,) = judged_charts.differences(found).axes
    low, high = axes.get_xlim()
    signs = sorted((line.get_marker(), line.get_xdata()[0]) for line in axes.lines if line.get_marker() in ("<", ">"))
    against = [p for p in found.pairs if p.a == found.comparisons[0].standings[0].method]
    beyond = [("<", low)] * sum(p.low < low for p in against) + [(">", high)] * sum(p.high > high for p in against)
    assert signs == beyond
    assert beyond


@pytest.mark.parametrize("problems", [1, 2, 3])
@pytest.mark.parametrize("draw", [race_charts.standings, race_charts.curves, race_charts.sensitivity])
def test_no_legend_is_cut(problems: int, draw: Any) -> None:
    tasks = ["airfoil-linear", "digits-softmax", "airfoil-mlp"][:problems]
    race = races.race(["adam", "rmsprop_eps_inside"], tasks, 2, 2, fresh=2, epochs=1, schedules=["linear"], workers=1)
    figure = draw(race)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


def test_the_learning_rate_is_a_strip_per_rule(many: races.Race) -> None:
    for axes, cell in zip(race_charts.sensitivity(many).axes, many.cells, strict=True):
        assert axes.get_xlabel() == "learning rate (shade: test loss)"
        assert len(axes.collections) >= len(many.order)
        for path in axes.collections:
            edges = path.get_paths()[0].get_extents()
            assert axes.get_xlim()[0] <= edges.x0 < edges.x1 <= axes.get_xlim()[1]
        assert cell.standings
    shades = {round(path.get_alpha(), 2) for path in race_charts.sensitivity(_sharp()).axes[0].collections}
    assert shades == {1.0, 0.5, 0.22, 0.06}


def _sharp() -> races.Race:
    """A race whose losses rise fast beside the best learning rate."""
    race = pretended({n: np.full((2, 3), 0.5) for n in ("a", "b")})
    for done in race.phases.values():
        rows = done[-1].lanes.role == "rate"
        trial = done[-1].lanes.trial[rows]
        done[-1].results["test"][rows] = 0.5 * (1 + 0.02 * np.abs(trial - 6) ** 3)
    return race


def test_a_race_on_one_problem_is_not_blown_up() -> None:
    one = pretended({n: np.full((2, 3), 0.5 + 0.1 * k) for k, n in enumerate(("adam", "sgd"))})
    text = race_page.page(one)
    widths = [float(width) for width in re.findall(r"--widest:(\d+)px", text)]
    assert len(widths) == 4
    assert max(widths) < 500
    assert "Over all problems" not in text


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_race_of_few_has_room_for_its_panels(count: int) -> None:
    """Warnings are errors in tests: matplotlib warns where a panel has no room."""
    race = pretended({f"rule {k}": np.full((2, 3), 0.5 + 0.1 * k) for k in range(count)})
    assert race_page.page(race).count("<svg") == 4
    for draw in (race_charts.standings, race_charts.sensitivity):
        figure = draw(race)
        figure.draw_without_rendering()
        assert figure.axes[0].get_window_extent().height > 0.12 * figure.dpi * count


def test_two_by_two_has_every_interval(many: races.Race, page: str) -> None:
    squares = re.findall(r'<table class="pairs square">.*?</table>', page, re.DOTALL)
    for cell, square in zip(many.cells, squares, strict=True):
        entries = re.findall(
            r'<td class="(.*?)" data-head="above (.*?)" title=".*?"><b>(.*?)</b> <small>\[(.*?)\]</small>', square
        )
        assert len(entries) == 15 * 14
        pair = cell.pair(many.order[0], many.order[-1])
        kind, other, percent, ends = entries[13]
        own = pair if pair.second == many.order[0] else pair.turned
        assert other == many.order[-1]
        assert percent == f"{own.percent[0]:+.1f}"
        assert kind.split()[0] == own.verdict()
        assert len(ends.split(", ")) == 2


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_it_can_be_read_on_a_phone_and_in_the_dark(
    many: races.Race, width: int, scheme: str, browser: Browser, tmp_path: Path
) -> None:
    complaints: list[str] = []
    race_page.write(many, tmp_path / "report.html")
    size: Any = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    page = opened(browser, tmp_path / "report.html", complaints, **size)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.evaluate("""[...document.querySelectorAll('details[open] .square td')].filter(d => d.textContent).map(d => {
        const all = [d, ...d.children].map(e => e.getBoundingClientRect());
        return [Math.min(...all.map(b => b.left)), Math.max(...all.map(b => b.right)), d.scrollWidth - d.clientWidth]})""")
    assert len(boxes) == 15 * 14
    assert min(left for left, _, _ in boxes) >= 0
    assert max(right for _, right, _ in boxes) <= width
    assert max(over for _, _, over in boxes) <= 1
    contrast = page.evaluate("""[...document.querySelectorAll('.pairs td, .key')].filter(d => d.textContent).map(d => {
        const lit = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
            .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
        const style = getComputedStyle(d), clear = /rgba\\(0, 0, 0, 0\\)/.test(style.backgroundColor);
        const both = [lit(style.color), lit(clear ? getComputedStyle(document.body).backgroundColor : style.backgroundColor)];
        return (Math.max(...both) + .05) / (Math.min(...both) + .05)})""")
    assert min(contrast) >= 4.5
    top = page.evaluate("document.querySelector('.matrix').getBoundingClientRect().top")
    assert top < 300, "the table begins on the first screen"
    assert complaints == []
    page.close()


def test_the_page_is_saved_by_its_race(tmp_path: Path) -> None:
    race = races.race(["sgd", "adam"], "airfoil-linear", schedules=["linear"], **TINY)
    assert race.save(tmp_path / "a.html").read_text(encoding="utf-8") == race_page.page(race)
    tops = [float(v) for v in re.findall(r"--widest:(\d+)px", race_page.page(race))]
    assert all(a == b for a, b in pairwise(tops))
