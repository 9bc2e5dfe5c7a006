"""`Citable`: a result gives frames, CSV, Markdown, LaTeX, figures, methods and BibTeX, each by one method."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steprule import display, extras
from steprule.atomic import write_text
from steprule.errors import InputError, unknown_name
from steprule.provenance import Made
from steprule.races.citing import sources, writing
from steprule.races.citing.records import KINDS, PAIRS, STANDINGS, UNTUNED, Table, columns_of, records_of
from steprule.rules.rule import Paper

if TYPE_CHECKING:
    import pandas

PICTURES = (".svg", ".png", ".pdf")
PAGE = ".html"


@dataclass(frozen=True)
class Cited:
    """What a paper takes from a result."""

    tables: tuple[Table, ...]
    order: tuple[str, ...]
    """The methods in one order for all tables."""
    paragraphs: tuple[str, ...]
    """What it says."""
    methods: str
    """How it came about, as a paragraph."""
    papers: tuple[Paper, ...]
    """Of the rules and of the statistics."""
    made: Made


class Citable(display.Shown):
    """A result with all that a paper takes from it. The interval of every difference stands in each form."""

    def cited(self) -> Cited:
        """The parts from which every form is made. Raises `InputError` where it is not whole."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """All of it, as plain values."""
        raise NotImplementedError

    def frame(self, of: str = STANDINGS) -> pandas.DataFrame:
        """A table of pandas: a row per method of each comparison; with "pairs" a row per pair, with its 95 % interval; with "untuned" a
        row per rule of a race, tuned against untuned.

        What is not known is nan or None. Raises `UnknownNameError` for another name, `MissingPackageError` without pandas.
        """
        tables = self._tables(of)
        with extras.needed():
            import pandas
        return pandas.DataFrame(records_of(tables, of), columns=columns_of(tables, of))

    def csv(self, of: str = PAIRS) -> str:
        """Every pair, a line each; with "standings" every method, with "untuned" every rule against its defaults.

        Raises `UnknownNameError` for another name.
        """
        return writing.csv(self._tables(of), of)

    def markdown(self) -> str:
        """The tables and the verdict as Markdown."""
        own = self.cited()
        return writing.markdown(own.tables, [*own.paragraphs, own.made.in_words()])

    def latex(self, of: str = STANDINGS) -> str:
        """A table for LaTeX with booktabs: two lines per method, one for the value and one for the difference to the best, each with
        its 95 % interval; a column per problem. Bold cannot be told apart from the best.

        With "pairs" or "untuned" a longtable with a line per pair. Raises `UnknownNameError` for another name.
        """
        tables, own = self._tables(of), self.cited()
        if of != STANDINGS:
            return writing.latex_pairs(tables, own.made.in_words(), of)
        return writing.latex(tables, own.order, own.made.in_words())

    def methods(self) -> str:
        """How it came about, as a paragraph of prose with every number of the protocol."""
        return self.cited().methods + "\n"

    def bibtex(self) -> str:
        """An entry for steprule with its version and commit, one for the paper of each rule, and for those of the statistics."""
        own = self.cited()
        return sources.bibtex(own.made, own.papers)

    def json(self) -> str:
        """All of it as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def save(self, path: str | Path, of: str = "") -> Path:
        """Write it whole or not at all, in the form that the ending names.

        .html the page; .svg .png .pdf a picture; .md the tables and the verdict; .tex and .csv a table; .bib the sources; .txt the
        methods; .json all of it. `of` names the table or, of a tuned race, the picture: the main one if not given.

        Raises `InputError` for another ending or name, `OutputError` where it cannot be written.
        """
        path = Path(path)
        ending = check_ending(path)
        if ending in PICTURES:
            display.write_picture(self, path, of)
            return path
        if of and ending not in (".csv", ".tex"):
            raise InputError("of", expected=f"none for a file that ends in {ending}", got=repr(of))
        if ending == PAGE:
            display.write_page(self, path)
        else:
            form = TEXTS[ending]
            write_text(path, form(self, of) if of else form(self))
        return path

    def _tables(self, of: str) -> Sequence[Table]:
        if of not in KINDS:
            raise unknown_name("table", of, KINDS)
        return self.cited().tables


TEXTS: dict[str, Callable[..., str]] = {
    ".md": Citable.markdown, ".csv": Citable.csv, ".tex": Citable.latex, ".json": Citable.json, ".bib": Citable.bibtex,
    ".txt": Citable.methods,
}  # fmt: skip
FORMS: dict[str, Callable[[Citable], str]] = {
    "markdown": Citable.markdown,
    "latex": Citable.latex,
    "latex-pairs": lambda own: own.latex(PAIRS),
    "csv": Citable.csv,
    "csv-standings": lambda own: own.csv(STANDINGS),
    "csv-untuned": lambda own: own.csv(UNTUNED),
    "bibtex": Citable.bibtex,
    "methods": Citable.methods,
}
"""What a command line can ask for by `--as`."""


def check_ending(path: Path) -> str:
    """The ending of a file that can be written. Raises `InputError` for another."""
    known = (PAGE, *PICTURES, *TEXTS)
    if path.suffix.lower() not in known:
        raise InputError("--out", expected=f"a file that ends in {', '.join(known)}", got=repr(path.name))
    return path.suffix.lower()
