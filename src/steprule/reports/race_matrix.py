"""A race at one look: a row per competitor, a column per problem and schedule, per cent above the lowest."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from itertools import groupby

from steprule.races import Cell, Pair, Race
from steprule.races.cell import interval
from steprule.races.verdict import rounded
from steprule.reports import themed
from steprule.reports.race_styles import INK, styles_in

ROOMY = 2
"""Columns up to which each entry has room for its interval; in wider tables it is shown where one points at the entry."""
MANY = 10
"""Columns up to which the table has room in the page's column."""
Entry = Callable[[Cell, str], str]


def matrix(race: Race) -> str:
    """The table as HTML: the tuned, then the untuned. Competitors keep one order, that of their mean rank."""
    problems = [(name, len(list(own))) for name, own in groupby(cell.problem for cell in race.cells)]
    roomy, many = len(race.cells) <= ROOMY, len(race.cells) > 1
    blocks: list[tuple[str, Entry]] = [("tuned, above the lowest", lambda c, label: _entry(c, label, roomy=roomy))]
    if any(cell.untuned for cell in race.cells):
        blocks.append(("untuned, above itself tuned", lambda c, label: _untuned(c, label, roomy=roomy)))
    heads = GAP.join(f'<th colspan="{len(race.cells)}">{text}</th>' for text, _ in blocks)
    named = "".join(f'<th colspan="{count}">{escape(name)}</th>' for name, count in problems)
    upright = ' class="upright"' if many else ""
    planned = "".join(f"<th{upright}>{escape(cell.schedule)}{_unit(cell)}</th>" for cell in race.cells)
    lines = [f"<tr><th></th>{heads}</tr>"]
    if many:
        lines.append(f"<tr><th>problem</th>{GAP.join([named] * len(blocks))}</tr>")
    lines.append(f"<tr><th>{'learning rate' if many else ''}</th>{GAP.join([planned] * len(blocks))}</tr>")
    styles = styles_in(race)
    rows = ""
    for label in race.order:
        entries = GAP.join("".join(entry(cell, label) for cell in race.cells) for _, entry in blocks)
        rows += f'<tr><th scope="row">{swatch(styles[label].colour)}{broken(label)}</th>{entries}</tr>'
    width = "wide broad" if len(race.cells) * len(blocks) > MANY else "wide"
    table = f'<div class="{width}"><table class="pairs matrix"><thead>{"".join(lines)}</thead><tbody>{rows}</tbody></table></div>'
    return f'{table}{_key(race)}<p class="caption">{escape(_reading(race, roomy=roomy))}</p>'


def broken(label: str) -> str:
    """A label that may be broken where a word in it ends."""
    return escape(label).replace("_", "_<wbr>")


def swatch(colour: str) -> str:
    """The dot of a competitor's colour, that of the figures."""
    return f'<span class="swatch" style="background:{"currentColor" if colour == INK else themed.followed(colour)}"></span>'


GAP = '<td class="gap"></td>'
"""Between blocks."""


def _reading(race: Race, *, roomy: bool) -> str:
    losses = " or ".join(sorted({cell.measure.loss for cell in race.cells}))
    ends = "in brackets the 95 % interval" if roomy else "point at an entry for its 95 % interval, or see Two by two"
    return (
        f"By how many per cent the {losses} is above the lowest of its column, on seeds that no tuning saw; {ends}."
        " Rows: the lowest mean rank first. Untuned: with the rule's own defaults."
    )


def _entry(cell: Cell, label: str, *, roomy: bool) -> str:
    best = cell.standings[0].label
    if not cell.tells:
        return "<td>–</td>"
    if label == best:
        return f'<td class="lowest" title="{escape(cell.measure.loss)} {cell.standings[0].loss:.4g}">lowest</td>'
    if not cell.standing(label).learnt:
        return '<td class="open">learnt nothing</td>'
    pair = cell.pair(best, label)
    return _shown(pair if pair.second == label else pair.turned, roomy=roomy)


def _untuned(cell: Cell, label: str, *, roomy: bool) -> str:
    own = next((u.pair for u in cell.untuned if u.label == label), None)
    if own is None or not cell.tells or not cell.standing(label).learnt:
        return "<td>–</td>"
    return _shown(own, roomy=roomy)


def _shown(pair: Pair, *, roomy: bool) -> str:
    percent, low, high = pair.percent
    if not math.isfinite(percent):
        return "<td>–</td>"
    kind = pair.verdict()
    if kind == "real":
        kind += " above" if percent > 0 else " below"
    ends = interval(low, high, "+.3g" if abs(high or 0) > 1e4 else "+.0f", "")
    within = f" <small>{ends}</small>" if roomy and ends else ""
    said = f"95 % {ends} %{pair.scale.of}, {pair.p_in_words}" if ends else "no interval is known"
    return f'<td class="{kind}" title="{escape(said)}">{rounded(percent)} %{within}</td>'


def _unit(cell: Cell) -> str:
    return f"<br><small>%{cell.scale.of}</small>" if cell.scale.of else ""


def _key(race: Race) -> str:
    words = [
        ("real above", f"really higher, by more than {race.threshold}"),
        ("open", "open: cannot be told apart, corrected for many pairs"),
        ("same", f"shown to be within {race.threshold}"),
    ]
    if any(u.pair.verdict() == "real" and u.pair.percent[0] < 0 for cell in race.cells for u in cell.untuned):
        words.insert(1, ("real below", "really lower: tuning did not pay"))
    parts = "".join(f'<span class="key {kind}">{word}</span>' for kind, word in words)
    return f'<p class="caption keys">{parts}</p>'
