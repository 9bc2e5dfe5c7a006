"""`steprule rules` lists the catalogue's rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steprule import rules as catalogue
from steprule.cli.arguments import JsonOption
from steprule.rules.rule import Rule


def rules(json: JsonOption = False) -> None:
    """List the rules: their hyperparameters, states and papers."""
    from steprule.cli import output

    if json:
        output.as_json([record(r) for r in catalogue.CATALOGUE.values()])
        return
    listing(catalogue.CATALOGUE)


def listing(found: Mapping[str, Rule]) -> None:
    """Print a table of rules by the names that find them."""
    from steprule.cli.tables import table
    from steprule.hyper import said

    rows = []
    for name, rule in found.items():
        states = " ".join(s.name for s in rule.states) or "-"  # a comma more and the table is too wide for 80 columns
        hypers = ", ".join(f"{n}={said(v)}" for n, v in rule.defaults.items())
        paper = f"{rule.paper.authors.split(',')[0]} {rule.paper.year}" if rule.paper else ""
        rows.append((name, states, hypers, paper or rule.summary))
    last = "paper" if all(rule.paper for rule in found.values()) else "what it is"
    table("", ("rule", "states", "hyperparameters", last), rows, left=(0, 1, 2, 3))


def record(rule: Rule) -> dict[str, Any]:
    """A rule as plain values, for JSON."""
    return {
        "name": rule.name,
        "title": rule.title or rule.name,
        "family": rule.family or None,
        "summary": rule.summary,
        "hyperparameters": [
            {"name": h.name, "default": h.default, "values": h.range, "meaning": h.meaning, "letter": h.letter}
            for h in rule.hypers
        ],
        "states": [{"name": s.name, "starts": s.starts, "per_tensor": s.per_tensor} for s in rule.states],
        "takes_step_number": rule.takes_t,
        "paper": str(rule.paper) if rule.paper else None,
    }
