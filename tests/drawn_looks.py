"""Drawn rules that look twice, cut into their halves: the point, and the step that is given what it saw there."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from drawn_forms import Draw
from drawn_rules import drawn, rule_of
from drawn_walks import cases

from steprule.compiler.variant import variant_of
from steprule.rules.looks import GRADIENT
from steprule.rules.rule import Rule

POINTS = (
    "p + 0.3 * g / (norm(g) + 0.01)",
    "p - 0.1 * g",
    "p + 0.05 * tanh(g) * sqrt(total(p**2) + 1.0)",
    "0.5 * p",
    "where(g > 0, p + 0.1, p - 0.1)",
    "p * 0 + mean(g)",
)
WITHOUT_TOTALS = [point for point in POINTS if "total" not in point]
BEHIND = ("g = {look}", "seen_ = {look}\n    g = 0.5 * g + seen_", "if {odd}: g = {look}")


def looking(seed: int) -> Rule:
    """A drawn rule with a look drawn into it, before all that it computes."""
    rng = random.Random(seed)
    while True:  # until what it sees there matters in each variant
        found = _with_a_look(rng, drawn(rng.randrange(10**9)).source)
        if all(GRADIENT in variant_of(found, {**found.defaults, **own}).slots for own in found.variants()):
            return found


def _with_a_look(rng: random.Random, source: str) -> Rule:
    head, _, body = source.partition("):\n")
    steps = head.endswith(", t") or ", t," in head
    way = rng.choice(BEHIND if steps else BEHIND[:2])
    points = WITHOUT_TOTALS if "odd" in way else POINTS  # each tensor comes to a total
    look = way.format(look=f"gradient({rng.choice(points)})", odd="t % 2 == 1")
    star = "" if "*, " in head else ", *"
    return rule_of(f"{head}{star}, gradient):\n    {look}\n{body}")


def halves(seed: int) -> dict[str, Rule]:
    """The point as a rule, and the step as one whose look is a state that starts at a number."""
    whole = looking(seed)
    given = tuple(replace(s, looked=False, start=0.7) if s.looked else s for s in whole.slots)
    return {"point": whole.looks[0], "step": replace(whole, slots=given)}


def drawn_cases(seeds: Iterable[int]) -> dict[int, Draw]:
    """The cases of both halves of each rule, by numbers of their own."""
    found: dict[int, Draw] = {}
    for seed in seeds:
        for k, name in enumerate(("point", "step")):
            found[2 * seed + k] = lambda seed=seed, name=name: cases(halves(seed)[name], seed)  # type: ignore[misc]
    return found
