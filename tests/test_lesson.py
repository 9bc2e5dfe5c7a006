"""The lesson: every cell runs, and the notebooks are the chapters."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from by_path import module_at

BUILD = module_at("docs/lesson/build.py")
CHAPTERS = BUILD.chapters()


@pytest.mark.parametrize("chapter", [pytest.param(c, marks=pytest.mark.long, id=c.stem) for c in CHAPTERS])
def test_every_cell_runs(chapter: Path, in_folder: Path) -> None:
    scope: dict[str, object] = {"__name__": "__main__"}
    for kind, text in BUILD.cells(chapter):
        if kind == "code":
            exec(compile(text, str(chapter), "exec"), scope)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.stem)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_notebooks_are_the_chapters(chapter: Path, language: str) -> None:
    """`make lesson` was run after the last change; every cell was run, none failed, and something is shown."""
    found = nbformat.read(BUILD.target(chapter, language), as_version=4)
    wanted = BUILD.notebook(chapter, language)
    assert [(c.cell_type, c.source) for c in found.cells] == [(c.cell_type, c.source) for c in wanted.cells]
    codes = [c for c in found.cells if c.cell_type == "code"]
    assert [c.execution_count for c in codes] == list(range(1, len(codes) + 1))
    assert sum("text/html" in o.get("data", {}) for c in codes for o in c.outputs) >= 4
    assert not any(o.output_type == "error" or o.get("name") == "stderr" for c in codes for o in c.outputs)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.stem)
def test_both_languages_say_everything(chapter: Path) -> None:
    """Each text stands in both languages, with as many headings and exercises."""
    texts = [(k, t) for k, t in BUILD.cells(chapter) if k != "code"]
    english, chinese = ([t for k, t in texts if k == language] for language in ("en", "zh"))
    assert len(english) == len(chinese) >= 5

    def shape(text: str) -> list[str]:
        return [line.split(" ")[0] for line in text.splitlines() if line.startswith(("#", "1.", "2.", "**"))]

    for ours, theirs in zip(english, chinese, strict=True):
        assert [s for s in shape(ours) if s[0] != "*"] == [s for s in shape(theirs) if s[0] != "*"]
    assert len(CHAPTERS) == 6
    assert not any("$$" in text for _, text in texts), "a rule's formula is printed, never typed"
