"""The catalogue's rules that step each element, or reduce over all, from p, g and states alone: what is walked by hand in every form."""

from __future__ import annotations

from steprule import rules
from steprule.compiler.variant import asks_for_shapes

RULES = [rule for rule in rules.CATALOGUE.values() if not asks_for_shapes(rule) and not rule.looked]
NAMES = [rule.name for rule in RULES]
OF_MATRICES = [rule for rule in rules.CATALOGUE.values() if asks_for_shapes(rule)]
