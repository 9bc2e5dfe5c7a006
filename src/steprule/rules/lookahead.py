"""Lookahead around any rule: each k steps, slow weights go a share of the way to the fast ones."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Annotated, Any

from annotated_types import Ge, Le

from steprule.errors import InputError, InputTypeError
from steprule.hyper import Letter, Meaning, Search, StartsAt
from steprule.maths import lerp
from steprule.rules.annotated import hyper_from
from steprule.rules.parts import behind, composed
from steprule.rules.rule import Paper, Rule

ZHANG = Paper(
    "Zhang, Lucas, Hinton, Ba",
    2019,
    "Lookahead Optimizer: k steps forward, 1 step back",
    "https://arxiv.org/abs/1907.08610",
)
PREFIX = "lookahead_"
"""What the name of a rule with Lookahead around it begins with: `lookahead_adam`, or `lookahead-adam`, where a rule is named."""
Every = Annotated[int, Ge(1), Meaning("steps from one look back to the next", "k")]
Share = Annotated[
    float, Ge(0), Le(1), Meaning("share of the way that slow weights go", r"\alpha"), Search(0.1, 1, "linear")
]
Slow = Annotated[Any, StartsAt("p"), Letter(r"\phi")]

_K, _ALPHA = hyper_from("lookahead_k", 5, Every), hyper_from("lookahead_alpha", 0.5, Share)


def look_back(p: Any, slow: Slow, *, lookahead_k: Every = 5, lookahead_alpha: Share = 0.5, t: Any) -> tuple[Any, Any]:
    """slow = slow + alpha (p - slow) and p = slow, at each k-th step; else both stay."""
    if t % lookahead_k == 0:
        slow = lerp(slow, p, lookahead_alpha)
        p = slow
    return p, slow


def lookahead(rule: Rule, *, k: int = 5, alpha: float = 0.5) -> Rule:
    """`rule` with Lookahead around it (Zhang et al., 2019): a rule, with one state more, `slow`, one per element.

        slow_t = slow_{t-1} + alpha (p_t - slow_{t-1}) and p_t = slow_t where t is a multiple of k; else both stay

    `k`: steps from one look back to the next, a whole number from 1. `alpha`: share of the way, in [0, 1]. They are the defaults
    of the new rule's hyperparameters `lookahead_k` and `lookahead_alpha`. The slow weights start at the parameter before its first
    step; weight decay is a part of the fast step. Raises `InputError` where the rule has such names already, where its model is read
    elsewhere than at p, or a number is out of range.

    >>> from steprule import rules
    >>> rules.lookahead(rules.sgd)(1.0, 2.0, None, 1.0, lr=0.1, lookahead_k=1, t=1)[0]
    0.9
    """
    if not isinstance(rule, Rule):
        got = repr(rule)
        hint = "Write lookahead(steprule.rules.adam), or the name lookahead_adam." if isinstance(rule, str) else ""
        raise InputTypeError("lookahead", expected="a rule", got=got, hint=hint)
    if rule.point is not None:
        # Slow weights that follow p, and a point that follows other states, would no longer belong together.
        hint = "Its states already hold a slower point than p."
        raise InputError(
            f"lookahead of {rule.name}",
            expected="a rule whose model is read at p",
            got="one with a point of evaluation",
            hint=hint,
        )
    return _around(rule, _K.validate(k, "lookahead"), _ALPHA.validate(alpha, "lookahead"))


@cache
def _around(rule: Rule, k: int, alpha: float) -> Rule:
    """One rule for the same arguments, so that its class and its kernels are made once."""
    taken = {s.name for s in rule.slots} | {h.name for h in rule.hypers}
    if twice := taken & {"slow", "lookahead_k", "lookahead_alpha"}:
        expected = "a rule without slow, lookahead_k and lookahead_alpha of its own"
        raise InputError(f"lookahead of {rule.name}", expected=expected, got=min(twice))
    # Decay moves the parameter too: it belongs to the fast step, or the slow weights would start behind it.
    found = behind(look_back, composed(rule), lookahead_k=k, lookahead_alpha=alpha)
    title = rule.title or rule.name
    around = replace(
        found,
        name=PREFIX + rule.name,
        title=f"Lookahead {title}",
        family="averaging",
        summary=f"{title} in Lookahead: each k steps, slow weights go a share of the way to the fast ones, which go on from there.",
        paper=ZHANG,
    )
    # Around a rule of the catalogue it is everybody's as well.
    return around.seal() if rule.is_sealed else around
