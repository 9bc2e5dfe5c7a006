"""Compares one pupil's file with the reference, in a process of its own.

`python -m steprule.checking.pupil FILE REFERENCE ANSWER`. A file may loop for ever, print, or exit; marking.py reads the answer where there
is one. Needs no torch.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from steprule import rules
from steprule.checking import probe
from steprule.checking.mutants import mutants
from steprule.checking.nearest import Known, multiplied, nearest
from steprule.checking.parting import first_difference, parting, walk_at_defaults
from steprule.checking.probe import Formula
from steprule.checking.report import Parting, in_json, in_one_line
from steprule.checking.stranger import of_rule
from steprule.compiler import formula
from steprule.compiler.tracer import trace
from steprule.compiler.variant import variant_of
from steprule.errors import StepruleError
from steprule.orphans import end_with
from steprule.rules.load import only_rule_in
from steprule.rules.parts import composed
from steprule.rules.rule import Rule

NO_SLIP = "no known slip"
ANOTHER = "it is "
LEAVES = "it leaves by sys.exit"
RATE = 0.01  # a common learning rate, whatever the defaults are
NO_STATES = ("p", probe.POINT)
OF_STATES = ("is not returned", "is kept as the state", "nothing is added up")
"""Claims about a state in a slip's words; they are believed only where the state itself agrees."""


def judged(file: Path, reference: Rule) -> dict[str, Any]:
    """One file's line of the sheet as plain values: rule, verdict, parting, slip and formula, or an error."""
    try:
        rule = only_rule_in(file, reference.name)
    except StepruleError as error:
        return {"verdict": "does not run", "error": _without_folder(str(error), file)}
    try:
        for variant in composed(rule).variants():
            trace(composed(rule), variant)
        if parting(rule, rule) is not None:
            text = "it gives another result when it is called again: it depends on something outside"
            return {"rule": rule.name, "verdict": "does not run", "error": text}
    except SystemExit:
        return {"rule": rule.name, "verdict": "does not run", "error": LEAVES}
    except Exception as error:  # noqa: BLE001  # whatever a pupil's rule raises is a line of the sheet
        return {"rule": rule.name, "verdict": "does not run", "error": _without_folder(in_one_line(error, rule), file)}
    return {"rule": rule.name, "formula": list(_latex(rule)), **_Beside(rule, reference).told()}


def _latex(rule: Rule) -> Iterator[str]:
    yield from formula.whole_latex(variant_of(rule, rule.bind({})))


def _without_folder(text: str, file: Path) -> str:
    """A text without the file's folder, which the reader of the sheet knows."""
    return text.replace(str(file), file.name)


class _Beside:
    """A pupil's rule beside the reference, both with the same numbers, since other defaults do not make another rule."""

    def __init__(self, rule: Rule, reference: Rule) -> None:
        self.rule, self.reference = rule, reference
        self.stranger = of_rule(rule)
        self.known = Known.beside(composed(reference), self.stranger)
        self.states = self._same_states()

    def told(self) -> dict[str, Any]:
        """The verdict, where it parts, and the likely slip or what else differs."""
        parted = self._parting({})
        if parted is None:
            notes = [*self._other_defaults(), *self._kept_otherwise()]
            return {"verdict": "passes", "slip": "; ".join(notes)}
        cause = self._parting(self.states)
        if cause is None or cause.step > parted.step:
            cause = parted
        slip = self.slip() if cause.quantity != probe.POINT else self._read_otherwise()
        other = [] if slip.startswith(ANOTHER) else self._other_defaults()
        theirs = self.states.get(cause.quantity, cause.quantity)
        return {
            "verdict": "parts",
            "step": cause.step,
            "quantity": cause.quantity if theirs == cause.quantity else f"{cause.quantity} ({theirs})",
            "ours": in_json(cause.ours),
            "theirs": in_json(cause.theirs),
            "settings": dict(cause.settings),
            "slip": "; ".join([slip, *other]),
        }

    def _parting(self, states: Mapping[str, str]) -> Parting | None:
        """Where p parts, or one of these states: at the reference's defaults, then with all numbers away from them."""
        names, defaults = self.known.names, self.known.rule.defaults
        at_defaults = {n: RATE if n == "lr" else defaults[n] for n in names}
        found = self._difference(states, at_defaults, *walk_at_defaults())
        if found is not None:
            return found
        away = {n: self.stranger.set_to[ours] for n, ours in names.items()}
        found = self._difference(states, away, probe.start(), list(probe.gradients()))
        return None if found is None else replace(found, settings=away)

    def _difference(
        self, states: Mapping[str, str], values: Mapping[str, Any], start: Any, gradients: list[Any]
    ) -> Parting | None:
        """The first difference on one walk, with these numbers of the reference."""
        names, rule = self.known.names, composed(self.rule)
        ours = {**rule.defaults, **{names[n]: v for n, v in values.items()}}
        theirs = {**self.known.rule.defaults, **values}
        used = variant_of(self.known.rule, theirs).slots  # momentum at 0, say, keeps no state to compare
        kept = {n: other for n, other in states.items() if other in used}
        return first_difference((rule, self.known.rule), [ours, theirs], start, gradients, kept)

    def _same_states(self) -> dict[str, str]:
        """The reference's name for each of the pupil's states: the same name, else the same values, else the same place."""
        ours = self.stranger.walk(frozenset(self.known.names.values()))[0]
        theirs = probe.walk(self.known.rule, self.known.hypers(self.stranger))[0]
        free = [n for n, v in theirs.items() if n not in NO_STATES and v is not None and n not in ours]
        found = {n: n for n in ours if n not in NO_STATES and n in theirs}
        own = [n for n in ours if n not in NO_STATES and n not in found]
        for name in own:
            same = next((n for n in free if not probe.differs(ours[name], theirs[n])), None)
            if same is not None:
                found[name] = same
                free.remove(same)
        left = [n for n in own if n not in found]
        if len(left) == len(free):
            found |= zip(left, free, strict=True)
        return found

    def _other_defaults(self) -> list[str]:
        """The common numbers whose defaults differ, in words; empty where there are none."""
        defaults: Mapping[str, Any] = self.known.rule.defaults
        other = []
        for name, ours in self.known.names.items():
            if ours in self.rule.defaults and self.rule.defaults[ours] != defaults[name]:
                other.append(f"{ours}={self.rule.defaults[ours]:g}, not {defaults[name]:g}")
        if not other:
            return []
        what = "other default" if len(other) == 1 else "other defaults"
        return [f"{what}: {', '.join(other)}"]

    def _kept_otherwise(self) -> list[str]:
        """The state of the reference that has other values here though the steps are the same, in words."""
        found = self._parting(self.states)
        return [] if found is None else [f"the steps are the same, and {found.quantity} is kept otherwise"]

    def _read_otherwise(self) -> str:
        """What is wrong where the steps are the reference's and the model is read elsewhere, in words."""
        if self.rule.evaluation is None:
            return "the steps are the same, and @rule.evaluated, where the model is read, is missing"
        if self.reference.evaluation is None:
            return "the steps are the same, and @rule.evaluated reads the model elsewhere than at p"
        return "the steps are the same, and @rule.evaluated gives another point"

    def slip(self) -> str:
        """The change from the reference to the pupil's rule, in a pupil's words: one slip, another rule, or two slips."""
        ground = self.known.formula(self.known.hypers(self.stranger))
        one = list(mutants(ground))
        if words := self._first_match((m.words, m.formula) for m in one):
            return words
        if unused := self._unused():
            return unused
        other = nearest(self.stranger)
        if other.same:
            here = " as it is here" if other.called == self.reference.name else ""
            return f"{ANOTHER}{other.called}, not {self.reference.name}{here}"
        twice = ((f"{a.words}; {b.words}", b.formula) for a in one for b in mutants(a.formula))
        if words := self._first_match(twice):
            return words
        if other.rule == self.reference.name and other.slip:
            return other.slip
        return multiplied(self.known, self.known.gap_from(self.stranger), self.stranger) or NO_SLIP

    def _first_match(self, slips: Iterator[tuple[str, Formula]]) -> str:
        """The first slip that gives the pupil's steps and states; else the first that gives the steps and claims nothing of states."""
        first = self.stranger.walk(frozenset(self.known.names.values()))[0]["p"]
        # A division by 0 at the first step leaves nothing finite to compare: then a slip that leaves nothing finite either is likely.
        finite = probe.FEWEST if np.isfinite(first).any() else 0
        found = ""
        for words, formula_ in slips:
            if self.known.gap_from(self.stranger, formula_, finite=finite) is None:
                if self._same_in_states(formula_):
                    return words
                if not found and not any(claim in words for claim in OF_STATES):
                    found = words
        return found

    def _same_in_states(self, slipped: Formula) -> bool:
        hypers = self.known.hypers(self.stranger)
        ours = self.stranger.walk(frozenset(self.known.names.values()))
        for mine, theirs in zip(ours, slipped.walk(hypers), strict=False):
            if any(probe.differs(mine[n], theirs.get(other)) for n, other in self.states.items()):
                return False
        return True

    def _unused(self) -> str:
        """The hyperparameters that the pupil replaced by plain numbers, in words; empty where something else differs too."""
        names = self.known.names
        whole = frozenset(names.values())
        moved = self.stranger.walk(whole)
        same = [n for n in whole if not _differ(self.stranger.walk(whole - {n}), moved)]
        kept = {n: ours for n, ours in names.items() if ours not in same}
        if not same or replace(self.known, names=kept).gap_from(self.stranger) is not None:
            return ""
        verb = "is" if len(same) == 1 else "are"
        return f"{' and '.join(sorted(same))} {verb} not used: a number is written in its place"


def _differ(ours: Sequence[probe.Step], theirs: Sequence[probe.Step]) -> bool:
    return any(not np.array_equal(a["p"], b["p"], equal_nan=True) for a, b in zip(ours, theirs, strict=True))


def main(file: str, reference: str, answer: str) -> None:
    """Judge the file and write the answer as JSON."""
    end_with(os.getppid())
    told = judged(Path(file), rules.resolve(reference))
    Path(answer).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
