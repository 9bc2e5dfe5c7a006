"""SAM around any rule: the step takes the gradient where the loss nearby is highest, to first order."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Annotated, Any

from annotated_types import Ge

from steprule.errors import InputError, InputTypeError
from steprule.hyper import Meaning, Search
from steprule.maths import sqrt, total
from steprule.rules.annotated import hyper_from
from steprule.rules.parts import ascend, before, decay, looking_before
from steprule.rules.points import Point
from steprule.rules.rule import Paper, Rule

FORET = Paper(
    "Foret, Kleiner, Mobahi, Neyshabur",
    2021,
    "Sharpness-Aware Minimization for Efficiently Improving Generalization",
    "https://arxiv.org/abs/2010.01412",
)
PREFIX = "sam_"
"""What the name of a rule with SAM around it begins with: `sam_adamw`, or `sam-adamw`, where a rule is named."""
Radius = Annotated[float, Ge(0), Meaning("radius of the neighbourhood", r"\rho"), Search(1e-3, 1.0)]

_RHO = hyper_from("sam_rho", 0.05, Radius)


def sharpest(p: Any, g: Any, *, sam_rho: Radius = 0.05, gradient: Any) -> tuple[Any, Any]:
    """The gradient at p + rho g / ||g||, where the norm is that of all gradients together."""
    return p, gradient(p + sam_rho * g / (sqrt(total(g**2)) + 1e-12))


def sam(rule: Rule, *, rho: float = 0.05) -> Rule:
    """`rule` with SAM around it (Foret et al., 2021): a rule that looks at the gradient twice.

        g_t = grad f(p + rho grad f(p) / ||grad f(p)||), and the step is that of the rule with this gradient

    `rho`: the radius, from 0, in the parameters' own unit; it is the default of the new rule's hyperparameter `sam_rho`. The norm is over
    all parameters, and 1e-12 keeps it from zero, as in the authors' code. Weight decay is a part of the rule: neither gradient that SAM
    sees has it. Its class steps with a closure. Raises `InputError` where the rule looks twice already, or has such a name.

    >>> from steprule import rules
    >>> p, _ = rules.sam(rules.sgd)(1.0, 2.0, lr=0.1, sam_rho=0.5, gradient=lambda p: 2 * p)
    >>> round(p, 6)
    0.7
    """
    if not isinstance(rule, Rule):
        hint = "Write sam(steprule.rules.adamw), or the name sam_adamw." if isinstance(rule, str) else ""
        raise InputTypeError("sam", expected="a rule", got=repr(rule), hint=hint)
    if rule.looks_twice:
        raise InputError(f"sam of {rule.name}", expected="a rule that looks once", got="one that looks twice")
    return _around(rule, rule.point, _RHO.validate(rho, "sam"))


@cache
def _around(rule: Rule, point: Point | None, rho: float) -> Rule:
    """One rule for the same arguments, so that its class and its kernels are made once. `point`: of the rule, which may be stated anew."""
    taken = {s.name for s in rule.slots} | {h.name for h in rule.hypers}
    if "sam_rho" in taken:
        raise InputError(f"sam of {rule.name}", expected="a rule without sam_rho of its own", got="one with it")
    # What decays is the step, behind the look; which way is up is said before it, so that SAM looks up or down with the step.
    decays = {"weight_decay", "decoupled_weight_decay"}
    found = looking_before(sharpest, rule if taken & decays else before(decay, rule), sam_rho=rho)
    found = found if "maximize" in taken else before(ascend, found)
    title = rule.title or rule.name
    around = replace(
        found,
        name=PREFIX + rule.name,
        title=f"SAM {title}",
        summary=f"{title} in SAM: the gradient is taken where the loss nearby is highest, to first order.",
        paper=FORET,
    )
    # Around a rule of the catalogue it is everybody's as well.
    return around.seal() if rule.is_sealed else around
