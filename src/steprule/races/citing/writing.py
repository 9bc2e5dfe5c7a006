"""Tables as text for papers and programs: Markdown, CSV, and LaTeX with booktabs, in which names are escaped."""

from __future__ import annotations

import csv as csv_
import io
from collections.abc import Iterator, Sequence

from steprule.races.citing.records import (
    NOT_KNOWN,
    Gap,
    Place,
    Table,
    by_how_much,
    columns_of,
    gaps_of,
    number,
    records_of,
    within,
)

ACROSS = 3
"""Tables that stand beside each other in LaTeX; for more the page is too narrow."""
LATIN = 0x100
"""Letters below this are in every TeX font of the T1 encoding."""
SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "''", "`": r"\`{}", "[": "{[}", "]": "{]}", "*": "{*}", "≤": r"$\leq$", "≥": r"$\geq$", "–": "--", "…": r"\ldots{}",
    "−": "$-$", "×": r"$\times$", "µ": r"$\mu$", "μ": r"$\mu$",
}  # fmt: skip
"""What TeX takes for itself, and how it is set. A bracket or a star behind the end of a line would be that line's argument."""


def markdown(tables: Sequence[Table], paragraphs: Sequence[str]) -> str:
    """The tables and what they say."""
    parts = []
    for table in tables:
        if table.title:
            parts.append(f"### {_cell(table.title)}\n")
        heads = table.heads
        last = "---|" if table.pairs else "--:|"
        parts += [_line(heads), f"|---|{'--:|' * (len(heads) - 2)}{last}", *map(_line, table.rows), ""]
    return "\n".join([*parts, *(f"{_cell(text)}\n" for text in paragraphs)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(c) for c in cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def csv(tables: Sequence[Table], of: str) -> str:
    """Every row of all tables, a line each; what is not known is empty. `of` is one of `records.KINDS`."""
    text = io.StringIO()
    lines = csv_.DictWriter(text, columns_of(tables, of), lineterminator="\n", restval="")
    lines.writeheader()
    for row in records_of(tables, of):
        lines.writerow({k: "" if v is None else v for k, v in row.items()})
    return text.getvalue()


def latex(tables: Sequence[Table], order: Sequence[str], made: str) -> str:
    """A tabular: two lines per method, one for its value and one for its difference to the best, both with 95 % intervals; a column
    per table, three across. Bold cannot be told apart from the best of its column."""
    width = min(ACROSS, len(tables))
    ends = " or ".join(dict.fromkeys(t.ends for t in tables))
    lines = [
        _said(made, "booktabs", tables),
        f"% In brackets: {ends}.",
        rf"\begin{{tabular}}{{l{'r' * width}}}",
        r"\toprule",
    ]
    for k in range(0, len(tables), width):
        own = [*tables[k : k + width]]
        gaps = [""] * (width - len(own))
        heads = [tex(t.title or t.measure) for t in own]
        lines += [r"\midrule"] * (k > 0)
        lines += [_row(["method", *heads, *gaps]), r"\midrule"]
        for method in order:
            places = [next((s for s in t.standings if s.method == method), None) for t in own]
            if any(places):
                lines.append(_row([tex(method), *map(_entry, places), *gaps]))
            if any(p and p.gap for p in places):
                lines.append(_row(["", *map(_below, places), *gaps]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _entry(place: Place | None) -> str:
    if place is None:
        return "--"
    ends = within(place.low, place.high)
    shown = _tex_number(number(place.value) + ("" if ends == NOT_KNOWN else f" {ends}"))
    return rf"\textbf{{{shown}}}" if place.is_level else shown


def _below(place: Place | None) -> str:
    return "" if place is None or place.gap is None else rf"{{\footnotesize {_tex_number(by_how_much(place.gap))}}}"


def latex_pairs(tables: Sequence[Table], made: str, of: str) -> str:
    """A longtable: a line per pair, or per rule tuned and untuned, with its difference, 95 % interval, verdict and corrected p-value."""
    heads = _row(
        [
            "first",
            "second",
            "second above first",
            r"95\,\% interval",
            "verdict",
            r"$p_\mathrm{real}$",
            r"$p_\mathrm{same}$",
        ]
    )
    lines = [_said(made, "booktabs,longtable", tables), r"\begin{longtable}{llrrlrr}", r"\toprule", heads]
    lines += [r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
    for k, table in enumerate(table for table in tables if gaps_of(table, of)):
        if table.title:
            lines += [r"\midrule"] * (k > 0) + [_row([rf"\multicolumn{{7}}{{l}}{{\textit{{{tex(table.title)}}}}}"])]
        lines += [_row(list(_pair(gap))) for gap in gaps_of(table, of)]
    return "\n".join([*lines, r"\end{longtable}", ""])


def _pair(gap: Gap) -> Iterator[str]:
    shown, _, ends = by_how_much(gap).partition(" [")
    yield from (tex(gap.a), tex(gap.b), _tex_number(shown), _tex_number(f"[{ends}" if ends else NOT_KNOWN), gap.verdict)
    yield from (_tex_number(f"{p:.2g}") for p in (gap.p_real, gap.p_same))


def _said(made: str, packages: str, tables: Sequence[Table]) -> str:
    """What stands above a table, as comments: where it comes from, and what it needs."""
    names = [s.method for t in tables for s in t.standings] + [t.title for t in tables]
    is_latin = all(ord(sign) < LATIN or sign in SIGNS for name in names for sign in name)
    engine = "" if is_latin else "\n% Names beyond Latin letters need XeLaTeX or LuaLaTeX, and a font that has them."
    return f"% {' '.join(made.split())}\n% \\usepackage[T1]{{fontenc}} \\usepackage{{{packages}}}{engine}"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def tex(text: str) -> str:
    """A text as TeX sets it as it is."""
    plain = " ".join("".join(sign for sign in word if sign.isprintable()) for word in text.split())
    return "".join(SIGNS.get(sign, sign) for sign in plain.replace("--", "-\u200b-")).replace("\u200b", "{}")


def _tex_number(text: str) -> str:
    """Numbers in words, in which a hyphen is a minus sign.

    >>> print(_tex_number("-5.2 % [-7.1, -3.1]").replace(chr(92), "/"))
    $-$5.2 /% {[}$-$7.1, $-$3.1{]}
    """
    return tex(text.replace("-", "−"))
