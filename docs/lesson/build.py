"""Make the lesson's notebooks: each chapter's code is run once, and its outputs stand in the English and the Chinese one.

    python docs/lesson/build.py [CHAPTER...]

A chapter is a Python file with cells: `# %%` is code, `# %% [en]` and `# %% [zh]` are text in one of the languages.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).parent
WIDE = "[\u3000-\u9fff\uff00-\uffef]"
LANGUAGES = {"en": "English", "zh": "简体中文"}


def chapters() -> list[Path]:
    """The chapters in reading order."""
    return sorted((HERE / "chapters").glob("*.py"))


def cells(chapter: Path) -> list[tuple[str, str]]:
    """(kind, text) of each cell: kind is "code" or a language."""
    found = []
    for part in re.split(r"^# %%", chapter.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if language := head.strip(" []"):
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines())
            # To Markdown a line's end is a space, and Chinese has none.
            found.append((language, re.sub(f"(?<={WIDE})\n(?={WIDE})", "", text)))
        else:
            found.append(("code", body.strip()))
    return found


def notebook(chapter: Path, language: str) -> nbformat.NotebookNode:
    """The notebook in one language, not run."""
    book = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    for k, (kind, text) in enumerate(cells(chapter)):
        if kind in ("code", language):
            make = new_code_cell if kind == "code" else new_markdown_cell
            book.cells.append(make(text, id=f"cell-{k}"))
    return book


def target(chapter: Path, language: str) -> Path:
    """Where a chapter's notebook lies."""
    return HERE / language / f"{chapter.stem}.ipynb"


def main(names: Sequence[str]) -> None:
    """Run and write."""
    for chapter in chapters():
        if names and chapter.stem not in names:
            continue
        run = notebook(chapter, "en")
        NotebookClient(run, timeout=300, kernel_name="python3").execute()
        outputs = [c for c in run.cells if c.cell_type == "code"]
        for language in LANGUAGES:
            book = notebook(chapter, language)
            for cell, done in zip([c for c in book.cells if c.cell_type == "code"], outputs, strict=True):
                cell.outputs, cell.execution_count = done.outputs, done.execution_count
            where = target(chapter, language)
            where.parent.mkdir(exist_ok=True)
            nbformat.write(book, where)
        print(f"{chapter.stem}: {len(outputs)} cells, {target(chapter, 'en').stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
