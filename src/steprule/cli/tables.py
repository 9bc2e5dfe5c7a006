"""Tables on a terminal: columns that cut no number and no word; where they do not fit, each row is a card."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

GAP = 2
"""Blanks between columns."""
LEAST = 12
"""A column of texts is not squeezed below this width."""
NARROWEST = 20
"""A terminal that says it is narrower is taken to be this wide; its lines then go on below."""
_WORDS = re.compile(r"[^\s\u2e80-\U0010ffff]+|\S")
"""What stays on one line; a line may end after every Chinese character."""
Row = Sequence[str]


def table(title: str, heads: Row, rows: Iterable[Row], *, left: Sequence[int] = (0,)) -> None:
    """Print a table. The columns in `left` are texts, and all but the first wrap at words; the other columns are numbers."""
    console = Console(highlight=False, width=max(NARROWEST, Console().width))
    rows = list(rows)
    used = [k for k, head in enumerate(heads) if head or any(row[k] for row in rows)]
    heads = [heads[k] for k in used]
    held = [_picked(row, used) for row in rows]
    if title:
        console.print(Text(title), soft_wrap=True)
    widths = _widths(heads, held, [k in left and k > 0 for k in used], console.width)
    if widths is None:
        for card in _cards(heads, held, console.width):
            console.print(card)
        return
    shown = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    for k, head, width in zip(used, heads, widths, strict=True):
        shown.add_column(Text(head), justify="left" if k in left else "right", overflow="fold", width=width)
    for row in held:
        shown.add_row(*map(Text, row))
    console.print(shown)


def _picked(row: Row, places: Sequence[int]) -> list[str]:
    return [row[k] for k in places]


def _widths(heads: Row, rows: Sequence[Row], wraps: Sequence[bool], room: int) -> list[int] | None:
    """The width of each column, or None where they do not fit. Spare room goes to the column whose cells would be the highest."""
    wanted, widths = [], []
    for k, head in enumerate(heads):
        column = [row[k] for row in rows]
        wanted.append(max(map(_longest_line, [head, *column])))
        words = max(map(_longest_word, [head, *column]))
        fewest = max(words, min(LEAST, wanted[k])) if wraps[k] else max(map(_longest_line, ["", *column]))
        widths.append(max(fewest, _longest_word(head)))
    spare = room - sum(widths) - GAP * (len(widths) - 1)
    if spare < 0:
        return None
    for _ in range(min(spare, sum(wanted) - sum(widths))):
        short = [k for k, width in enumerate(widths) if width < wanted[k]]
        widths[max(short, key=lambda k: wanted[k] / max(1, widths[k]))] += 1
    return widths


def _cards(heads: Row, rows: Sequence[Row], room: int) -> Iterator[Text | Table]:
    """Each row as a card: its first cell, then a line per other cell, after its head or, where room is narrow, below it."""
    label = max(map(_longest_line, heads[1:]), default=0) + 2 * GAP
    beside = label + max((_longest_word(cell) for row in rows for cell in row[1:]), default=0) <= room
    for k, row in enumerate(rows):
        if k:
            yield Text("")
        yield Text.assemble(heads[0], " " if heads[0] else "", (row[0], "bold"), overflow="fold")
        card = Table.grid(padding=0)
        if beside:
            card.add_column(width=label)
        card.add_column(overflow="fold")
        for head, cell in zip(heads[1:], row[1:], strict=True):
            if cell and beside:
                card.add_row(Padding(Text(head), (0, GAP)), Text(cell))
            elif cell:
                card.add_row(Padding(Text(head), (0, 0, 0, GAP)))
                card.add_row(Padding(Text(cell, overflow="fold"), (0, 0, 0, 2 * GAP)))
        yield card


def _longest_line(cell: str) -> int:
    return max(map(cell_len, cell.split("\n")))


def _longest_word(cell: str) -> int:
    return max(map(cell_len, _WORDS.findall(cell)), default=0)
