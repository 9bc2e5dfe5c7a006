"""The page of a class sheet is one HTML file that opens offline; every name that a pupil chose is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from steprule.atomic import write_text
from steprule.checking.marking import PARTS, PASSES, Mark, Sheet
from steprule.reports.document import document, section
from steprule.reports.mathml import mathml

HEADS = ("file", "verdict", "slip, or reason", "parts at", "its number", "the reference's")
TEXT = (1, 2, 3)  # the columns of words, set to the left
WIDE = 2  # the column that matters most
COLOURS = {PASSES: "same", PARTS: "real above"}


def write(sheet: Sheet, path: Path) -> None:
    """Write the page to `path`. Raises `OutputError` where it cannot."""
    write_text(path, page(sheet))


def page(sheet: Sheet) -> str:
    """The page as text."""
    title = f"Marked against {sheet.against}"
    cards = [_card(f"The reference: {sheet.against}", "", sheet.formula)]
    cards += [_card(mark.file, mark.slip, mark.formula) for mark in sheet.marks if mark.verdict == PARTS]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lede">{escape(sheet.verdict)}.</p>',
        section("The sheet", _table(sheet.marks), _READING),
        section("What went wrong", _slips(sheet)),
        section("The formulas", f'<div class="cards">{"".join(cards)}</div>'),
    ]
    return document(title, "".join(body))


_READING = (
    "Every rule walks beside the reference from the same start, with the same gradients and numbers: first with the reference's defaults"
    " and a common learning rate, then with all numbers away from them. Other defaults are not a mistake and are only mentioned. Step and"
    " quantity say where the first difference beyond rounding is; both numbers stand beside it. The slip is the change that makes the"
    " reference walk as the file does."
)


def _table(marks: Sequence[Mark]) -> str:
    head = "".join(f"<th{_words(k)}>{escape(h)}</th>" for k, h in enumerate(HEADS))
    return (
        f'<div class="wide"><table class="stack"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(map(_row, marks))}</tbody></table></div>"
    )


def _row(mark: Mark) -> str:
    at = ", ".join(f"{n}={v:g}" for n, v in mark.settings.items())
    why = mark.why + (f" (seen at {at})" if at else "")
    where = "" if mark.step is None else f"step {mark.step}, {mark.quantity}"
    colour = COLOURS.get(mark.verdict, "no")
    cells = [f'<span class="mark {colour}">{mark.verdict}</span>']
    cells += [escape(text) for text in (why, where, *mark.numbers)]
    rule = f" <code>{escape(mark.rule)}</code>" if mark.rule else ""
    row = [f'<th data-head="{HEADS[0]}"><span>{escape(mark.file)}{rule}</span></th>']
    for k, cell in enumerate(cells, start=1):
        label = f' data-head="{escape(HEADS[k])}"' if cell else ""
        row.append(f"<td{_words(k)}{label}>{cell}</td>")
    return f"<tr>{''.join(row)}</tr>"


def _words(column: int) -> str:
    wide = " wide-words" if column == WIDE else ""
    return f' class="words{wide}"' if column in TEXT else ""


def _slips(sheet: Sheet) -> str:
    found = "".join(f"<li>{count} × {escape(slip)}</li>" for slip, count in sheet.slips.items())
    return f"<ul>{found}</ul>" if found else ""


def _card(title: str, caption: str, lines: Sequence[str]) -> str:
    shown = "".join(f"<div>{mathml(line)}</div>" for line in lines)
    said = f'<p class="caption">{escape(caption)}</p>' if caption else ""
    return f'<div class="card"><h3>{escape(title)}</h3><div class="maths">{shown}</div>{said}</div>'
