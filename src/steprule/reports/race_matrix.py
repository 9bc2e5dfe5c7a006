"""A race at one look: a row per competitor, a column per problem and schedule, how far each is above the lowest."""

from __future__ import annotations

import math
from html import escape
from itertools import groupby

from steprule.races import Cell, Race
from steprule.races.results import interval


def matrix(race: Race) -> str:
    """The table as HTML. Competitors keep one order in every column: that of their mean rank."""
    ranks = {r.label: 0 for r in race.spec.runners}
    for cell in race.cells:
        for rank, standing in enumerate(cell.standings):
            ranks[standing.label] += rank
    problems = [(name, len(list(own))) for name, own in groupby(cell.problem for cell in race.cells)]
    heads = "".join(f'<th colspan="{count}">{escape(name)}</th>' for name, count in problems)
    schedules = "".join(f"<th>{escape(cell.schedule)}</th>" for cell in race.cells)
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th>{"".join(_entry(cell, label) for cell in race.cells)}</tr>'
        for label in sorted(ranks, key=lambda label: ranks[label])
    )
    head = f"<thead><tr><th></th>{heads}</tr><tr><th></th>{schedules}</tr></thead>"
    return f'<div class="wide"><table class="pairs matrix">{head}<tbody>{rows}</tbody></table></div>{_key(race)}'


def _entry(cell: Cell, label: str) -> str:
    best = cell.standings[0].label
    if not cell.tells:
        return "<td>–</td>"
    if label == best:
        return f'<td class="lowest" title="{escape(cell.measure.loss)} {cell.standings[0].loss:.4g}">lowest</td>'
    pair = cell.pair(best, label)
    pair = pair if pair.second == label else pair.turned
    percent, low, high = pair.percent
    kind = {"real": "real above", "same": "same", "open": "open"}[pair.verdict()]
    within = f"95 % {interval(low, high, '+.1f')} %{cell.scale.of}" if low is not None else "no interval"
    shown = f"{percent:+.0f} %" if math.isfinite(percent) and abs(percent) < 1e4 else "–"
    return f'<td class="{kind}" title="{within}">{shown}</td>'


def _key(race: Race) -> str:
    words = (
        ("real above", f"really above the lowest, by more than {race.threshold}"),
        ("open", "cannot be told apart from it"),
        ("same", f"no more than {race.threshold} from it"),
    )
    parts = "".join(f'<span class="key {kind}">{word}</span>' for kind, word in words)
    return f'<p class="caption keys">How far the loss is above the lowest of its column, on seeds that no tuning saw: {parts}</p>'
