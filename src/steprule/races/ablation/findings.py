"""What is found of a rule's parts: panels of effects, per problem and schedule, and the race behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from steprule.as_json import finite
from steprule.errors import named
from steprule.races.ablation.effects import Effect, effects_of
from steprule.races.ablation.parts import Part
from steprule.races.cell import Cell
from steprule.races.raced import Race


@dataclass(frozen=True)
class Panel:
    """A problem with a schedule."""

    cell: Cell
    """The race of the rule as it stands and the rule without each part."""
    effects: tuple[Effect, ...]
    """Of the parts, in their order."""

    def effect(self, part: str) -> Effect:
        """That of a part. Raises `UnknownNameError`."""
        return named("part", part, {e.part: e for e in self.effects}, where=" of this ablation")


@dataclass(frozen=True, repr=False)
class Findings:
    """A rule with each of its parts taken off in turn: the race that was run, and what it says of the parts."""

    race: Race = field(repr=False)
    label: str
    """The rule as it stands."""
    parts: tuple[Part, ...]
    idle: tuple[str, ...]
    """Flags that are on and change nothing as the rule stands."""

    @cached_property
    def panels(self) -> tuple[Panel, ...]:
        """Every problem with every schedule."""
        return tuple(self._panel(cell) for cell in self.race.cells)

    def panel(self, problem: str, schedule: str) -> Panel:
        """One of them. Raises `InputError` for a name that is not in the ablation."""
        cell = self.race.cell(problem, schedule)
        return next(p for p in self.panels if p.cell is cell)

    def _panel(self, cell: Cell) -> Panel:
        where = cell.problem, cell.schedule
        on = self.race.outcomes(*where, self.label)
        off = {p.name: self.race.outcomes(*where, p.label) for p in self.parts}
        labels = self.label, {p.name: p.label for p in self.parts}
        learnt = {s.label for s in cell.standings if s.learnt}
        idle = {p.name: learnt.isdisjoint((self.label, p.label)) for p in self.parts}
        return Panel(cell, effects_of(on, off, cell.scale, self.race.matters, labels, idle))

    @property
    def trainings(self) -> int:
        """How many there were."""
        return self.race.lanes

    def to_dict(self) -> dict[str, Any]:
        """The verdicts and what they were made with, as plain values; what is not finite is None."""
        panels = []
        for panel in self.panels:
            cell = panel.cell
            own = cell.standing(self.label)
            about = {"problem": cell.problem, "schedule": cell.schedule, "loss": cell.measure.split,
                     "compared_by": "ratio" if cell.scale.ratios else "difference"}  # fmt: skip
            panels.append({**about, "whole": own.loss, "effects": [e.to_dict() for e in panel.effects]})
        race, tuning = self.race, self.race.tuning
        found = {
            "rule": self.label,
            "parts": [{"name": p.name, "off": p.off, "meaning": p.meaning} for p in self.parts],
            "changes_nothing": list(self.idle),
            "panels": panels,
            "matters": race.matters,
            "trials": tuning.trials,
            "seeds": tuning.studies,
            "fresh": tuning.fresh,
            "trainings": race.lanes,
            "trained": race.trained,
            "kept": race.kept,
            "seconds": race.seconds,
            "hardware": race.hardware,
            "spec": race.spec.stated,
            "results": str(race.results) if race.results else None,
        }
        return finite(found)
