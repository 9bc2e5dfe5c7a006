"""A judgement as the tables that a paper takes from it."""

from __future__ import annotations

from steprule.races.citing.records import Place, Table
from steprule.races.judging.findings import Comparison, Findings, Standing


def tables_of(judged: Findings) -> list[Table]:
    """A table per problem, all with the same columns."""
    return [table_of(judged, c) for c in judged.comparisons]


def table_of(judged: Findings, c: Comparison) -> Table:
    """That of one problem. What a run cost stands in it where the results state it, how many diverged where any did."""
    has_gone = any(s.gone for own in judged.comparisons for s in own.standings)
    has_cost = any(s.cost is not None for own in judged.comparisons for s in own.standings)
    best, level = c.standings[0].method, c.level_with_best
    from_best = {pair.b: pair for pair in c.pairs if pair.a == best}
    places = []
    for s in c.standings:
        gone, cost = {"diverged": s.gone} if has_gone else {}, {"cost": s.cost} if has_cost else {}
        gap = None if s.learnt is False else from_best.get(s.method)
        more = {"runs": s.runs, **gone, **cost}
        places.append(Place(s.method, s.value, s.low, s.high, gap, _said(c, s), s.method in level, more))
    where = {"problem": c.problem}
    return Table(where, c.problem, judged.measure, "95 %", tuple(places), c.pairs)


def _said(c: Comparison, s: Standing) -> str:
    """How a method stands to the best, in a word or a few."""
    if s.method == c.standings[0].method:
        return "best"
    if s.learnt is False:
        return "learnt nothing"
    pair = c.pair(c.standings[0].method, s.method)
    needed = f", {pair.runs_needed:,} needed" if pair.verdict == "open" and pair.runs_needed is not None else ""
    return pair.verdict + needed
