"""Make the lesson's notebooks: each chapter's code is run once, and its outputs stand in the English and the Chinese one.

    python docs/lesson/build.py [CHAPTER...]

A chapter is a Python file with cells: `# %%` is code, `# %% [en]` and `# %% [zh]` are text in one of the languages,
`# %% [lead]` is code whose picture leads the chapter, `# %% [solution]` code that a reader unfolds, `# %% [fact]` is run and
not shown: it asserts what the text says. What the
figures and tables say in Chinese is in words.py.
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
sys.path.insert(0, str(HERE))

import words  # noqa: E402  # a file of this folder, which is no package

WIDE = "[\u3000-\u9fff\uff00-\uffef]"
LANGUAGES = {"en": "English", "zh": "简体中文"}
HIDDEN = {"solution": ("source_hidden", "outputs_hidden"), "lead": ("source_hidden",)}
"""What JupyterLab and Notebook keep closed of a cell."""
SHOWN = ("code", *HIDDEN)
CODE = (*SHOWN, "fact")


def chapters() -> list[Path]:
    """The chapters in reading order."""
    return sorted((HERE / "chapters").glob("*.py"))


def cells(chapter: Path) -> list[tuple[str, str]]:
    """(kind, text) of each cell: kind is one of `CODE` or a language."""
    found = []
    for part in re.split(r"^# %%", chapter.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        kind = head.strip(" []") or "code"
        if kind in CODE:
            found.append((kind, body.strip()))
        else:
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines())
            # To Markdown a line's end is a space, and Chinese has none.
            found.append((kind, re.sub(f"(?<={WIDE})\n(?={WIDE})", "", text)))
    return found


def title(chapter: Path, language: str) -> str:
    """A chapter's own heading."""
    return next(text for kind, text in cells(chapter) if kind == language).splitlines()[0].removeprefix("# ")


def neighbours(chapter: Path, language: str) -> str:
    """Links to the chapters before and behind."""
    order = chapters()
    at = order.index(chapter)
    before = [f"← [{title(c, language)}]({c.stem}.ipynb)" for c in order[max(at - 1, 0) : at]]
    behind = [f"[{title(c, language)}]({c.stem}.ipynb) →" for c in order[at + 1 : at + 2]]
    return " · ".join([*before, *behind])


def notebook(chapter: Path, language: str) -> nbformat.NotebookNode:
    """The notebook in one language, not run."""
    book = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    for k, (kind, text) in enumerate(cells(chapter)):
        if kind == language:
            book.cells.append(new_markdown_cell(text, id=f"cell-{k}"))
        elif kind in SHOWN:
            closed = {"jupyter": dict.fromkeys(HIDDEN[kind], True), "tags": [kind]} if kind in HIDDEN else {}
            book.cells.append(new_code_cell(text, id=f"cell-{k}", metadata=closed))
    book.cells.append(new_markdown_cell(neighbours(chapter, language), id="neighbours"))
    return book


def run(chapter: Path) -> dict[str, nbformat.NotebookNode]:
    """Each code cell that is shown, run, by its id; what is asserted of the text is run too."""
    book = new_notebook()
    book.cells = [new_code_cell(text, id=f"cell-{k}") for k, (kind, text) in enumerate(cells(chapter)) if kind in CODE]
    NotebookClient(book, timeout=300, kernel_name="python3").execute()
    return {c.id: c for c in book.cells}


def target(chapter: Path, language: str) -> Path:
    """Where a chapter's notebook lies."""
    return HERE / language / f"{chapter.stem}.ipynb"


def main(names: Sequence[str]) -> None:
    """Run and write."""
    for chapter in chapters():
        if names and chapter.stem not in names:
            continue
        done = run(chapter)
        for language in LANGUAGES:
            book = notebook(chapter, language)
            for count, cell in enumerate((c for c in book.cells if c.cell_type == "code"), start=1):
                outputs = done[cell.id].outputs
                cell.outputs = words.chinese(outputs) if language == "zh" else outputs
                cell.execution_count = count
                for output in cell.outputs:
                    if "execution_count" in output:
                        output["execution_count"] = count
            where = target(chapter, language)
            where.parent.mkdir(exist_ok=True)
            nbformat.write(book, where)
        print(f"{chapter.stem}: {target(chapter, 'en').stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
