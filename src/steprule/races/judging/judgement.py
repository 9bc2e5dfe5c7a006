"""`Judgement`: what `steprule.judge` gives, in words, as tables for papers, as pictures and as a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from steprule import display
from steprule.atomic import write_aside, write_text
from steprule.errors import InputError
from steprule.races.judging import export, words
from steprule.races.judging.findings import Findings

PICTURES = (".svg", ".png", ".pdf")
TEXTS: dict[str, Callable[[Findings], str]] = {
    ".md": export.markdown, ".csv": export.csv, ".tex": export.latex, ".json": export.as_json,
}  # fmt: skip


class Judgement(Findings, display.Shown):
    """What `steprule.judge` found."""

    def in_words(self) -> str:
        """The verdict, a paragraph per problem."""
        return "\n".join(words.in_words(self))

    def markdown(self) -> str:
        """The verdict and the tables as Markdown."""
        return export.markdown(self)

    def csv(self) -> str:
        """Every pair, a line each."""
        return export.csv(self)

    def latex(self) -> str:
        """A table for LaTeX, with booktabs: a row per method, a column per problem. Bold cannot be told apart from the best."""
        return export.latex(self)

    def save(self, path: str | Path) -> Path:
        """Write it in the form that the ending names: .html the report, .svg .png .pdf the picture, .md .tex the table, .csv the
        pairs, .json all of it.

        Raises `InputError` for another ending, `OutputError` where it cannot be written.
        """
        path = Path(path)
        check_ending(path)
        ending = path.suffix.lower()
        if ending in TEXTS:
            write_text(path, TEXTS[ending](self))
        elif ending == ".html":
            display.write_page(self, path)
        else:
            figure = self.plot()
            about = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(ending, {"Software": None})
            with write_aside(path) as aside:
                figure.savefig(aside, format=ending[1:], dpi=150, metadata=about)
        return path


def check_ending(path: Path) -> None:
    """Raises `InputError` for a file that nothing is written to."""
    known = (".html", *PICTURES, *TEXTS)
    if path.suffix.lower() not in known:
        raise InputError("--out", expected=f"a file that ends in {', '.join(known)}", got=repr(path.name))
