"""Rules that teach and are in no catalogue, as Adam without its bias correction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from steprule.rules.adam import adam
from steprule.rules.rule import Rule


def from_ever(rule: Rule, name: str, summary: str) -> Rule:
    """`rule` as if infinitely many steps lay behind it: what depends on the step number has faded."""

    def function(*args: Any, **hypers: Any) -> Any:
        return rule.function(*args, **hypers, t=math.inf)

    return replace(rule, name=name, summary=summary, function=function, takes_t=False)


def with_numbers(rule: Rule, values: Mapping[str, Any]) -> Rule:
    """`rule` with these hyperparameters written as the numbers that they are, and no longer to be set."""

    def function(*args: Any, **hypers: Any) -> Any:
        return rule.function(*args, **hypers, **values)

    return (
        replace(rule, function=function, hypers=tuple(h for h in rule.hypers if h.name not in values))
        if values
        else rule
    )


adam_uncorrected = from_ever(
    adam, "adam_uncorrected", "Adam without bias correction: its averages start at zero, and nothing makes up for it."
)
