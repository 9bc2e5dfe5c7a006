"""The lesson: every cell runs, what the text says holds, the notebooks are the chapters, and the figures are for every reader."""

from __future__ import annotations

import base64
import re
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
import pytest
from by_path import module_at
from chromium_page import chromium, needs_chromium

from steprule import play, trace
from steprule.reports.panels import curves, paths, stack
from steprule.reports.style import DARK, style_of

BUILD = module_at("docs/lesson/build.py")
CHAPTERS = BUILD.chapters()
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.stem)
PHONE = 358
"""Points of the text's width on a phone 390 points wide."""


@pytest.mark.parametrize("chapter", [pytest.param(c, marks=pytest.mark.long, id=c.stem) for c in CHAPTERS])
def test_every_cell_runs(chapter: Path, in_folder: Path) -> None:
    """And every fact that the text states is asserted in a cell beside it."""
    scope: dict[str, object] = {"__name__": "__main__"}
    for kind, text in BUILD.cells(chapter):
        if kind in BUILD.CODE:
            exec(compile(text, str(chapter), "exec"), scope)


@each_chapter
@pytest.mark.parametrize("language", ["en", "zh"])
def test_notebooks_are_the_chapters(chapter: Path, language: str) -> None:
    """`make lesson` was run after the last change; every cell was run, none failed, the picture leads, solutions are closed."""
    found = nbformat.read(BUILD.target(chapter, language), as_version=4)
    wanted = BUILD.notebook(chapter, language)
    assert [(c.cell_type, c.source) for c in found.cells] == [(c.cell_type, c.source) for c in wanted.cells]
    codes = [c for c in found.cells if c.cell_type == "code"]
    assert [c.execution_count for c in codes] == list(range(1, len(codes) + 1))
    outputs = [o for c in codes for o in c.outputs]
    assert not any(o.output_type == "error" or o.get("name") == "stderr" for o in outputs)
    lead, *rest = codes
    assert lead.metadata["jupyter"] == {"source_hidden": True}
    assert "image/svg+xml" in lead.outputs[0]["data"]["text/html"]
    solutions = [c for c in rest if "solution" in c.metadata.get("tags", [])]
    exercises = [
        text for kind, text in BUILD.cells(chapter) if kind == language and re.search("^1. ", text, re.MULTILINE)
    ]
    assert len(solutions) == len(re.findall(r"^\d\. ", exercises[0], re.MULTILINE)) == 2
    assert all(c.metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True} for c in solutions)
    formulas = [o["data"] for o in outputs if "text/latex" in o.get("data", {})]
    assert formulas
    assert all("aligned" in data["text/markdown"] and "text/html" not in data for data in formulas), (
        "LaTeX, which all draw"
    )


@each_chapter
def test_both_languages_say_everything(chapter: Path) -> None:
    """Each text stands in both languages, with as many headings and exercises."""
    texts = [(k, t) for k, t in BUILD.cells(chapter) if k not in BUILD.CODE]
    english, chinese = ([t for k, t in texts if k == language] for language in ("en", "zh"))
    assert len(english) == len(chinese) >= 5

    def shape(text: str) -> list[str]:
        return [line.split(" ")[0] for line in text.splitlines() if line.startswith(("#", "1.", "2.", "**"))]

    for ours, theirs in zip(english, chinese, strict=True):
        assert [s for s in shape(ours) if s[0] != "*"] == [s for s in shape(theirs) if s[0] != "*"]
    assert len(CHAPTERS) == 6
    assert not any("$$" in text for _, text in texts), "a rule's formula is printed, never typed"


def pages(chapter: Path, language: str) -> list[str]:
    """The HTML outputs of a notebook."""
    book = nbformat.read(BUILD.target(chapter, language), as_version=4)
    outputs: list[Any] = [o for c in book.cells if c.cell_type == "code" for o in c.outputs]
    return [o["data"]["text/html"] for o in outputs if "text/html" in o.get("data", {})]


def figures(chapter: Path, language: str) -> list[str]:
    """The SVG of each figure."""
    found = [re.search(r'src="data:image/([^;]+);base64,([^"]+)"', page) for page in pages(chapter, language)]
    assert all(f and f[1] == "svg+xml" for f in found), "no pixels"
    return [base64.b64decode(f[2]).decode() for f in found if f]


@each_chapter
def test_figures_read_on_a_phone_in_the_dark_and_in_chinese(chapter: Path) -> None:
    """Real text of 11 points or more, colours with their dark ones, no ground of their own; the same figure in Chinese."""
    english, chinese = figures(chapter, "en"), figures(chapter, "zh")
    assert len(english) == len(chinese) >= 1
    for ours, theirs in zip(english, chinese, strict=True):
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', ours)[1])  # type: ignore[index]
        sizes = [float(size) * PHONE / width for size in re.findall(r"font-size: ([\d.]+)px", ours)]
        assert len(sizes) >= 5
        assert min(sizes) >= 11
        fixed = set(re.findall(r"(?:fill|stroke): (#\w{6})(?!; (?:fill|stroke): light-dark)", ours))
        assert fixed <= {light for light, dark in DARK.items() if light == dark}
        texts, translated = (re.findall(r"<text[^>]*>([^<]*)</text>", svg) for svg in (ours, theirs))
        assert [BUILD.words.said(unescape(t)) for t in texts] == [unescape(t) for t in translated]
        assert re.search("[\u4e00-\u9fff]", theirs)
        said = re.search(r'aria-label="([^"]+)"', ours)
        assert said
        assert len(said[1]) > 20, "a sentence for who cannot see it"


def test_a_colour_says_one_method_and_nothing_else() -> None:
    """In every leading figure; directions, gradients and laws are black or grey, and a way that scribbles buries no other."""
    of = {name: style_of(name).colour.lower() for name in ("momentum", "adagrad", "rmsprop", "adadelta", "adam")}
    drawn = []
    for chapter in CHAPTERS:
        strokes = set(re.findall(r"stroke: (#\w{6}); stroke: light-dark", figures(chapter, "en")[0]))
        drawn.append(strokes & set(of.values()))
        assert strokes - set(of.values()) <= {style_of("sgd").colour, "#777777", "#b0b0b0", "#ffffff"}, chapter.stem
    names = [set(), {"momentum"}, *[{"adagrad", "rmsprop"}] * 2, {"rmsprop", "adadelta"}, {"adam"}]
    assert drawn == [{of[name] for name in some} for some in names]
    rows = {"running sum": [1, 2], "momentum 0.5": [1, 2], "Adam, lr 1": [1, 2], "Adam, lr 2": [1, 2], "other": [1, 2]}
    looks = [(line.get_color().lower(), line.is_dashed()) for line in stack(curves("a title", rows)).axes[0].lines]
    assert looks == [(of["momentum"], True)] * 2 + [(of["adam"], False), ("#000000", True), ("#000000", False)]
    scribble, calm = (trace(rule, lr=0.4, steps=500, noise=1.0, seed=1) for rule in ("rmsprop", "adagrad"))
    still = trace("adadelta", "noisy_ravine", lr=0.0, steps=100)
    lines = {line.get_label(): line for line in stack(paths({"AdaGrad": calm, "RMSProp": scribble})).axes[0].lines}
    assert lines["RMSProp"].get_zorder() < lines["AdaGrad"].get_zorder()
    assert lines["RMSProp"].get_linewidth() < lines["AdaGrad"].get_linewidth()
    assert stack(paths({"a": still})).axes[0].lines[0].get_zorder() == lines["AdaGrad"].get_zorder()


def test_a_drawn_word_without_chinese_stops_the_build() -> None:
    said = BUILD.words.said
    assert said("AdaGrad, lr 0.4") == "AdaGrad，学习率 0.4"
    assert said("10⁻⁸") == "10⁻⁸"
    assert said("final training loss, 20 seeds each") == "最终训练损失，各 20 个种子"
    for unknown in ("a new word", "AdaGrad, a new word", "3 new words"):
        with pytest.raises(KeyError, match="no Chinese"):
            said(unknown)


@needs_chromium
def test_links_open_the_playground_in_the_very_state(tmp_path: Path) -> None:
    """The page understands every address of the lesson, and shows as many paths as it names."""
    links: set[str] = set()
    for chapter in CHAPTERS:
        own, chinese = (
            [unescape(link) for page in pages(chapter, language) for link in re.findall(r'href="([^"]+)"', page)]
            for language in ("en", "zh")
        )
        assert own, chapter.stem
        assert chinese == [link.replace("#", "#lang=zh&") for link in own]
        links |= set(own)
    assert all(link.startswith("../../play.html#rule=") for link in links)
    (tmp_path / "play.html").write_text(play.page(), encoding="utf-8")
    with chromium() as browser:
        page = browser.new_page()
        page.goto((tmp_path / "play.html").as_uri())
        for link in links:
            state = link.partition("#")[2]
            problems, entries = page.evaluate(
                "(text) => { const { state, problems } = readState(text); return [problems, state.entries]; }", state
            )
            named = [rule.split(",") for rule in re.findall("rule=([^&]*)", state)]
            assert problems == [], link
            assert [e["rule"] for e in entries] == [rule for rule, *_ in named]
            for entry, (_, *pairs) in zip(entries, named, strict=True):
                shown = {name: float(value) for name, value in entry["hypers"].items()}
                assert shown == {n: float({"true": 1}.get(v, v)) for n, v in (pair.split("=") for pair in pairs)}, link
