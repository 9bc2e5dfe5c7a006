"""Rules that teach and are in no catalogue: Adam as it would be without its bias correction."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from steprule.rules.adam import adam
from steprule.rules.rule import Rule


def from_ever(rule: Rule, name: str, summary: str) -> Rule:
    """`rule` as if infinitely many steps lay behind it: what depends on the step number has faded."""

    def function(*args: Any, **hypers: Any) -> Any:
        return rule.function(*args, **hypers, t=math.inf)

    return replace(rule, name=name, summary=summary, function=function, takes_t=False)


adam_uncorrected = from_ever(
    adam, "adam_uncorrected", "Adam without bias correction: its averages start at zero, and nothing makes up for it."
)
