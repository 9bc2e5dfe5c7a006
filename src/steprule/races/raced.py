"""`Race`: what `steprule.race` gives, in words, as tables for papers, as pictures and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from steprule.per_kind import PerKind
from steprule.races import methods, plain
from steprule.races.cell import Cell, Pair
from steprule.races.citing.citable import Citable, Cited
from steprule.races.citing.records import Gap, Place, Table
from steprule.races.competitor import Entrant
from steprule.races.results import Results
from steprule.races.setting import Setting
from steprule.races.verdict import in_words
from steprule.rules.rule import Paper


class Race(Results, Citable):
    """A race that was run: its spec, every lane, what they say, and what a paper takes from it."""

    @cached_property
    def _cited(self) -> Cited:
        self._check_whole()
        tables = [_of_cell(c) for c in self.cells] if self.is_tuned else [
            _of_settings(*where, own) for where, own in self.tables.items()
        ]  # fmt: skip
        return Cited(
            tables=tuple(tables), order=tuple(self.order), paragraphs=tuple(in_words(self)), methods=methods.of_race(self),
            papers=tuple(self._papers()), made=self.made,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """The tables and what they were made with, as plain values; what is not finite is None."""
        return plain.of_race(self)

    def cited(self) -> Cited:
        """The parts from which every form is made. Raises `InputError` for one shard of several."""
        return self._cited

    @property
    def order(self) -> list[str]:
        """The competitors by their mean rank over all problems and schedules, the best first; as they were given where none was tuned."""
        labels = [e.label for e in self.spec.entrants]
        ranks = dict.fromkeys(labels, 0)
        for cell in self.cells:
            for rank, standing in enumerate(cell.standings):
                ranks[standing.label] += rank
        return sorted(labels, key=lambda label: ranks[label])

    def _papers(self) -> Iterator[Paper]:
        for entrant in self.spec.entrants:
            yield from _papers_of(entrant)
        if self.is_tuned:
            yield from methods.papers_of(self)


def _papers_of(entrant: Entrant) -> Iterator[Paper]:
    rules = entrant.what.rules.values() if isinstance(entrant.what, PerKind) else [entrant.what]
    yield from (paper for rule in rules if (paper := getattr(rule, "paper", None)))


def _said(label: str, best: str, gap: Gap | None) -> str:
    if label == best:
        return "lowest"
    return gap.verdict if gap else "learnt nothing"


def _of_cell(cell: Cell) -> Table:
    best, level = cell.standings[0].label, cell.level_with_best
    gaps = [_gap(pair) for pair in cell.pairs]
    from_best = {gap.b: gap for gap in gaps if gap.a == best}
    places = []
    for s in cell.standings:
        gap = from_best.get(s.label) if cell.tells and s.learnt else None
        low, high = _ends(s.low, s.high)
        more = {"untuned": s.default, "lr": s.lr, "diverged": s.diverged, **s.metrics}
        places.append(Place(s.label, s.loss, low, high, gap, _said(s.label, best, gap), s.label in level, more))
    where = {"problem": cell.problem, "schedule": cell.schedule}
    untuned = tuple(replace(_gap(own.pair), p_overall=None) for own in cell.untuned)
    return Table(where, _title(**where), cell.measure.loss, "95 %", tuple(places), tuple(gaps), untuned)


def _gap(pair: Pair) -> Gap:
    percent, low, high = pair.percent
    return Gap(
        pair.first,
        pair.second,
        percent,
        *_ends(low, high),
        unit=f"%{pair.scale.of}",
        p_real=pair.p_real,
        p_same=pair.p_same,
        p_overall=pair.p_overall,
    )


def _ends(low: float | None, high: float | None) -> tuple[float, float]:
    return (-np.inf if low is None else low, np.inf if high is None else high)


def _of_settings(problem: str, schedule: str, settings: Sequence[Setting]) -> Table:
    places = []
    for s in settings:
        low, high = (s.low, s.high) if s.seeds > 1 else (-np.inf, np.inf)
        more: Mapping[str, Any] = {"sd": s.sd, "seeds": s.seeds, "diverged": s.diverged, **s.metrics}
        places.append(Place(s.label, s.mean, low, high, None, "", is_level=False, more=more))
    where = {"problem": problem, "schedule": schedule}
    return Table(where, _title(**where), "mean training loss", "95 % of seeds", tuple(places), ())


def _title(problem: str, schedule: str) -> str:
    return f"{problem}, {schedule} learning rate"
