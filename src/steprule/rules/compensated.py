"""Kahan summation around any rule: what rounding takes from a parameter is a state, and the next step adds it.

A parameter of 8 bits and a compensation of 8 more hold together what one of 16 bits would. The rule steps from their sum, and not from
the parameter alone: a rule that sets the parameter, as Lookahead does, would otherwise keep a loss that it has overwritten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from steprule.hyper import Slot
from steprule.maths import cast, where
from steprule.rules.rule import Rule

COMPENSATION = "kahan_comp"
"""The state's name, as optimi has it: what is to be added to the parameter."""
_BEYOND = 1e38
"""No rounding loses so much: where the parameter is inf or nan, the difference is, and nothing is kept."""
_UNIT = {"bfloat16": 2.0**-7, "float16": 2.0**-10}
"""What storing a number takes at most, as a share of what it leaves. To the nearest takes half of it; Triton's interpreter cuts off."""


def compensated(rule: Rule, dtype: str) -> Rule:
    """`rule` with Kahan summation around it, for parameters that are stored as "bfloat16" or "float16" and computed in float32.

        x = rule(p + c, g), then p = round(x) and c = x - p

    The slot `kahan_comp`, c, has the parameter's dtype and begins at 0. Where p comes out as inf or nan, c is 0. A c that is too large to
    have been lost by p belongs to weights that were pruned or loaded since, and counts as 0. Kahan, 1965, Further remarks on reducing
    truncation errors; of bfloat16 parameters Zamirai et al., 2020, Revisiting BFloat16 Training.
    """
    return _around(rule, dtype, rule.point)


@cache
def _around(rule: Rule, dtype: str, point: object) -> Rule:
    """One rule for the same arguments, so that its kernels are made once."""
    return replace(rule, function=_function_of(rule, dtype), slots=(*rule.slots, Slot(COMPENSATION, letter="c")))


def _function_of(rule: Rule, dtype: str) -> Callable[..., Any]:
    def function(p: Any, g: Any, *held: Any, **hypers: Any) -> Any:
        *slots, lost = held
        own = where(abs(lost) <= abs(p) * _UNIT[dtype], lost, 0.0)
        result = rule.function(p + own, g, *slots, **hypers)
        exact, *new = result if isinstance(result, tuple) else (result,)
        stored = cast(exact, dtype)
        lost = exact - stored
        return (stored, *new, where(abs(lost) < _BEYOND, lost, 0.0))

    return function
