"""One pupil's file beside the reference, in a process of its own: `python -m steprule.checking.pupil FILE REFERENCE ANSWER`.

A file may loop for ever, print, or leave by `sys.exit`; who marks a class reads the answer, if there is one. Needs no torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from steprule import rules
from steprule.checking import probe
from steprule.checking.mutants import mutants
from steprule.checking.nearest import Known, Stranger, nearest, of_rule
from steprule.checking.parting import parting
from steprule.checking.probe import Formula
from steprule.checking.report import Parting, in_json, in_one_line
from steprule.compiler import formula
from steprule.compiler.graph import trace
from steprule.compiler.variant import variant_of
from steprule.errors import StepruleError
from steprule.rules.load import only_rule_in
from steprule.rules.parts import composed
from steprule.rules.rule import Rule

NO_SLIP = "no known slip"
LEAVES = "it leaves by sys.exit"


def judged(file: Path, reference: Rule) -> dict[str, Any]:
    """What the sheet says of one file, as plain values: rule, verdict, parting, slip, formula; or error."""
    try:
        rule = only_rule_in(file, reference.name)
    except SystemExit:
        return {"verdict": "does not run", "error": LEAVES}
    except StepruleError as error:
        return {"verdict": "does not run", "error": _without_folder(str(error), file)}
    try:
        for variant in composed(rule).variants():
            trace(composed(rule), variant)
        if parting(rule, rule) is not None:
            text = "it gives another result when it is called again: it depends on something outside"
            return {"rule": rule.name, "verdict": "does not run", "error": text}
        parted = parting(rule, reference)
        told = {"rule": rule.name, "formula": list(_latex(rule)), "verdict": "passes" if parted is None else "parts"}
        if parted is None:
            return {**told, "slip": _other_rate(rule, reference)}
        cause = _cause(rule, reference, parted)
        numbers = {"ours": in_json(cause.ours), "theirs": in_json(cause.theirs)}
        where = {"step": cause.step, "quantity": cause.quantity, **numbers, "settings": dict(cause.settings)}
        return {**told, **where, "slip": likely_slip(rule, reference)}
    except SystemExit:
        return {"rule": rule.name, "verdict": "does not run", "error": LEAVES}
    except Exception as error:  # noqa: BLE001  # whatever a pupil's rule raises is a line of the sheet
        return {"rule": rule.name, "verdict": "does not run", "error": _without_folder(in_one_line(error, rule), file)}


def _latex(rule: Rule) -> Iterator[str]:
    yield from formula.latex(variant_of(rule, rule.bind({})).graph())


def _without_folder(text: str, file: Path) -> str:
    """The sheet names the file already, and its reader knows the folder."""
    return text.replace(str(file), file.name)


def _other_rate(rule: Rule, reference: Rule) -> str:
    """A learning rate of another default, which the comparison sets aside."""
    ours, theirs = rule.defaults.get("lr"), reference.defaults.get("lr")
    return f"default lr={ours:g}, not {theirs:g}" if None not in (ours, theirs) and ours != theirs else ""


def _cause(rule: Rule, reference: Rule, parted: Parting) -> Parting:
    """The same parting, seen at the first state that differs, where the pupil's states have names of their own."""
    names = _same_states(rule, reference)
    found = parting(rule, reference, names)
    if found is None or found.step > parted.step:
        return parted
    other = names.get(found.quantity, found.quantity)
    label = found.quantity if other == found.quantity else f"{found.quantity} ({other})"
    return Parting(found.step, label, found.ours, found.theirs, found.settings)


def _same_states(rule: Rule, reference: Rule) -> dict[str, str]:
    """The reference's name for each of the pupil's states: the same name, else the same values, else the same place."""
    ours, theirs = (probe.walk(r, r.bind({}))[0] for r in (rule, reference))
    free = [n for n, v in theirs.items() if n != "p" and v is not None and n not in ours]
    found = {n: n for n in ours if n != "p" and n in theirs}
    own = [n for n in ours if n != "p" and n not in found]
    for name in own:
        same = next((n for n in free if not probe.differs(ours[name], theirs[n])), None)
        if same is not None:
            found[name] = same
            free.remove(same)
    left = [n for n in own if n not in found]
    return found | (dict(zip(left, free, strict=True)) if len(left) == len(free) else {})


def likely_slip(rule: Rule, reference: Rule) -> str:
    """In a pupil's words what makes of the reference what the pupil has: one slip, another rule, or two slips."""
    stranger = of_rule(rule)
    known = Known.beside(composed(reference), stranger)
    if known.gap_from(stranger) is None:
        return _defaults_or_states(rule, reference, known)
    hypers = known.hypers(stranger)
    ground = known.formula(hypers)
    if words := _first_match(((m.words, m.formula) for m in mutants(ground)), known, stranger):
        return words
    other = nearest(stranger)
    if other.same:
        return f"it is {other.rule}, not {reference.name}"
    twice = ((f"{a.words}; {b.words}", b.formula) for a in mutants(ground) for b in mutants(a.formula))
    if words := _first_match(twice, known, stranger):
        return words
    return other.slip if other.rule == reference.name and other.slip else NO_SLIP


def _first_match(slips: Iterator[tuple[str, Formula]], known: Known, stranger: Stranger) -> str:
    first = stranger.walk(frozenset(known.names.values()))[0]["p"]
    # A division by 0 at the first step leaves nothing finite to compare: what leaves the same nothing is the likely slip.
    finite = probe.FEWEST if np.isfinite(first).any() else 0
    return next((words for words, found in slips if known.gap_from(stranger, found, finite=finite) is None), "")


def _defaults_or_states(rule: Rule, reference: Rule, known: Known) -> str:
    """The steps are the same where both have the same numbers: other defaults, or a state that is kept otherwise."""
    defaults: Mapping[str, Any] = known.rule.defaults
    other = [
        f"{ours}={rule.defaults[ours]:g}, not {defaults[n]:g}"
        for n, ours in known.names.items()
        if n != "lr" and ours in rule.defaults and rule.defaults[ours] != defaults[n]
    ]
    if other:
        return f"other defaults: {'; '.join(other)}"
    return f"the steps are those of {reference.name}, but a state of the same name is kept otherwise"


def main(file: str, reference: str, answer: str) -> None:
    """Judge the file and write the answer as JSON."""
    told = judged(Path(file), rules.resolve(reference))
    Path(answer).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
