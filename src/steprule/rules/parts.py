"""What cuts across rules, each written once: gradient ascent and both kinds of weight decay.

A part is a function `(p, g, *, hyperparameters) -> (p, g)` that stands before a rule; the two together are a rule again,
so a part goes wherever rules go: the formula, the path, the kernel.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, get_type_hints

from steprule.errors import unknown_name
from steprule.hyper import Hyper, Meaning, WeightDecay, hyper_from
from steprule.rules.rule import Paper, Rule

Maximize = Annotated[bool, Meaning("go up instead of down")]
Decoupled = Annotated[bool, Meaning("decay beside the step, not through the gradient")]
Part = Callable[..., tuple[Any, Any]]


def ascend(p: Any, g: Any, *, maximize: Maximize = False) -> tuple[Any, Any]:
    """Go up instead of down."""
    return p, -g if maximize else g


def decay(
    p: Any, g: Any, *, lr: Any, weight_decay: WeightDecay = 0.0, decoupled_weight_decay: Decoupled = False
) -> tuple[Any, Any]:
    """Pull the parameter to zero: through the gradient (L2), or beside it (Loshchilov and Hutter, 2019)."""
    if weight_decay and decoupled_weight_decay:
        p = p * (1 - lr * weight_decay)
    elif weight_decay:
        g = g + weight_decay * p
    return p, g


def before(
    part: Part,
    rule: Rule,
    *,
    name: str | None = None,
    summary: str = "",
    paper: Paper | None = None,
    **settings: float | bool,
) -> Rule:
    """`rule` with `part` before it.

    `settings` give the part's hyperparameters other defaults; a flag set so is fixed and no hyperparameter any more.
    """
    hints = get_type_hints(part, include_extras=True)
    parameters = {n: q for n, q in inspect.signature(part).parameters.items() if q.kind is q.KEYWORD_ONLY}
    borrowed = [n for n, q in parameters.items() if q.default is q.empty]
    own = {n: hyper_from(n, settings.get(n, q.default), hints[n]) for n, q in parameters.items() if n not in borrowed}
    for setting in settings:
        if setting not in own:
            raise unknown_name("hyperparameter", setting, own, where=f" of {part.__name__}")
    fixed = {n: settings[n] for n, h in own.items() if h.is_flag and n in settings}
    added: list[Hyper] = [h for n, h in own.items() if n not in fixed]

    def function(p: Any, g: Any, *slots: Any, **hypers: Any) -> Any:
        ours = {h.name: hypers.pop(h.name) for h in added}
        # A rule without a learning rate steps as if it were 1.
        theirs = {n: hypers.get(n, 1.0) for n in borrowed}
        p, g = part(p, g, **ours, **theirs, **fixed)
        return rule.function(p, g, *slots, **hypers)

    return Rule(
        name=name or rule.name,
        function=function,
        slots=rule.slots,
        hypers=(*rule.hypers, *added),
        takes_t=rule.takes_t,
        summary=summary or rule.summary,
        paper=paper or rule.paper,
        codes=(*rule.codes, part.__code__),
    )


@cache
def composed(rule: Rule) -> Rule:
    """`rule` with every part before it that it does not have already: what `trace`, `train` and the classes run."""
    have = {h.name for h in rule.hypers}
    if "weight_decay" not in have:
        rule = before(decay, rule)
    return rule if "maximize" in have else before(ascend, rule)
