"""A race at one look: a row per competitor, a column per problem and schedule, per cent above the lowest."""

from __future__ import annotations

import math
from html import escape
from itertools import groupby

from steprule.races import Cell, Race
from steprule.races.cell import interval
from steprule.races.verdict import rounded


def matrix(race: Race) -> str:
    """The table as HTML. Competitors keep one order in every column: that of their mean rank."""
    ranks = {e.label: 0 for e in race.spec.entrants}
    for cell in race.cells:
        for rank, standing in enumerate(cell.standings):
            ranks[standing.label] += rank
    problems = [(name, len(list(own))) for name, own in groupby(cell.problem for cell in race.cells)]
    heads = "".join(f'<th colspan="{count}">{escape(name)}</th>' for name, count in problems)
    schedules = "".join(f"<th>{escape(cell.schedule)}{_unit(cell)}</th>" for cell in race.cells)
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th>{"".join(_entry(cell, label) for cell in race.cells)}</tr>'
        for label in sorted(ranks, key=lambda label: ranks[label])
    )
    head = f"<thead><tr><th>problem</th>{heads}</tr><tr><th>learning rate</th>{schedules}</tr></thead>"
    losses = " or ".join(sorted({cell.measure.loss for cell in race.cells}))
    above = (
        f"By how many per cent the {losses} is above the lowest of its column, after tuning, on seeds that no tuning saw; in brackets the"
        " 95 % interval. Rows: the lowest mean rank first."
    )
    table = f'<div class="wide"><table class="pairs matrix">{head}<tbody>{rows}</tbody></table></div>'
    return f'<p class="caption">{escape(above)}</p>{table}{_key(race)}'


def _entry(cell: Cell, label: str) -> str:
    best = cell.standings[0].label
    if not cell.tells:
        return "<td>–</td>"
    if label == best:
        return f'<td class="lowest" title="{escape(cell.measure.loss)} {cell.standings[0].loss:.4g}">lowest</td>'
    if not next(s for s in cell.standings if s.label == label).learnt:
        return '<td class="open">learnt nothing</td>'
    pair = cell.pair(best, label)
    pair = pair if pair.second == label else pair.turned
    percent, low, high = pair.percent
    kind = {"real": "real above", "same": "same", "open": "open"}[pair.verdict()]
    digits = "+.3g" if abs(high or 0) > 1e4 else "+.0f"
    within = f" <small>{interval(low, high, digits)}</small>" if low is not None else ""
    shown = f"{rounded(percent)} %{within}" if math.isfinite(percent) else "–"
    return f'<td class="{kind}">{shown}</td>'


def _unit(cell: Cell) -> str:
    return f"<br><small>%{cell.scale.of}</small>" if cell.scale.of else ""


def _key(race: Race) -> str:
    words = (
        ("real above", f"really above the lowest, by more than {race.threshold}"),
        ("open", "cannot be told apart from it: the interval, corrected for many pairs, is too wide"),
        ("same", f"shown to be within {race.threshold} of it"),
    )
    parts = "".join(f'<span class="key {kind}">{word}</span>' for kind, word in words)
    return f'<p class="caption keys">{parts}</p>'
