"""Tables on a terminal: in columns where nothing is cut, as a card per row where columns do not fit."""

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
"""A text is not squeezed into less, where it has as much."""
NARROWEST = 20
"""What is taken for the width of a terminal that says less; lines then go on below."""
_WORDS = re.compile(r"[^\s\u2e80-\U0010ffff]+|\S")
"""What stays on one line; a line may end behind every Chinese character."""
Row = Sequence[str]


def table(title: str, heads: Row, rows: Iterable[Row], *, left: Sequence[int] = (0,)) -> None:
    """A table on stdout. The columns in `left` are text, which wraps at words, but for the first; the others are numbers."""
    console = Console(highlight=False, width=max(NARROWEST, Console().width))
    held = [list(row) for row in rows]
    used = [k for k, head in enumerate(heads) if head or any(row[k] for row in held)]
    heads, held = [heads[k] for k in used], [[row[k] for k in used] for row in held]
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


def _widths(heads: Row, rows: Sequence[Row], wraps: Sequence[bool], room: int) -> list[int] | None:
    """How wide each column is, where all fit into the room; what is left over goes to what would be the highest."""
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
    """Each row as its first column says, and below it a line for each other, behind or, where that is narrow, under the column's head."""
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
