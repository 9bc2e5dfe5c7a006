"""What cuts across rules, each written once: unscaling, clipping, ascent, weight decay, averaging.

A part is a function that stands before a rule, `(p, g, *, hyperparameters) -> (p, g)`, or behind it,
`(p, *slots, *, hyperparameters) -> (p, *slots)`. The two together are a rule again, so a part goes wherever rules go: the
formula, the path, the kernel.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache, wraps
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Lt

from steprule.arithmetic import asked_by
from steprule.errors import unknown_name
from steprule.hyper import (
    AbsentAtFirst,
    FullPrecision,
    Given,
    Hyper,
    Letter,
    Meaning,
    OffAtZero,
    Search,
    Slot,
    WeightDecay,
)
from steprule.maths import clamp, lerp, minimum, sqrt, total
from steprule.rules.annotated import hyper_from, slot_from
from steprule.rules.looks import GRADIENT, LOOKED, Sight, handing_on, seen_through
from steprule.rules.rule import Composed, Paper, Rule

Maximize = Annotated[bool, Meaning("go up instead of down")]
Decoupled = Annotated[bool, Meaning("decay beside the step, not through the gradient")]
Scaled = Annotated[bool, Given(), Meaning("the loss was scaled before the gradient was taken")]
Scale = Annotated[float, Given(), Meaning("what the loss was multiplied with", "s")]
ClipValue = Annotated[float, Ge(0), OffAtZero(), Meaning("largest absolute value of a gradient's element", "c")]
ClipNorm = Annotated[
    float, Ge(0), OffAtZero(), Meaning("largest norm of all gradients together", "C"), Search(1e-2, 1e2)
]
EmaDecay = Annotated[float, Ge(0), Lt(1), OffAtZero(), Meaning("decay of the average of the weights", r"\delta")]
Ema = Annotated[Any, AbsentAtFirst(), FullPrecision(), Letter(r"\bar{\theta}")]
Part = Callable[..., tuple[Any, ...]]


def unscale(p: Any, g: Any, *, scaled: Scaled = False, grad_scale: Scale = 1.0) -> tuple[Any, Any]:
    """Undo the scaling of the loss (`torch.amp.GradScaler`)."""
    return p, g * (1 / grad_scale) if scaled else g


def clip_by_value(p: Any, g: Any, *, clip_value: ClipValue = 0.0) -> tuple[Any, Any]:
    """Bring each element of the gradient into [-clip_value, clip_value], as `clip_grad_value_`."""
    return p, clamp(g, -clip_value, clip_value) if clip_value else g


def clip_by_norm(p: Any, g: Any, *, clip_norm: ClipNorm = 0.0) -> tuple[Any, Any]:
    """Shrink the gradient by what brings the norm of all gradients down to clip_norm, as `clip_grad_norm_`."""
    if clip_norm:
        grad_norm = sqrt(total(g**2))
        g = g * minimum(clip_norm / (grad_norm + 1e-6), 1.0)
    return p, g


CLIPPING = (clip_by_value, clip_by_norm)
"""They bound a step, and have no part in an estimate of how the loss bends."""


def is_clipping_norm(place: str) -> bool:
    """Whether the total at this place is that of `clip_by_norm`: one of all tensors, whatever rules step them."""
    return asked_by(place, clip_by_norm.__code__)


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


def average(p: Any, ema: Ema, *, ema_decay: EmaDecay = 0.0) -> tuple[Any, Any]:
    """Follow the new parameter by an exponential moving average, which starts at the first one (`AveragedModel`)."""
    if ema_decay:
        ema = p if ema is None else lerp(ema, p, 1 - ema_decay)
    return p, ema


def before(
    part: Part,
    rule: Rule,
    *,
    name: str | None = None,
    title: str = "",
    summary: str = "",
    paper: Paper | None = None,
    fix_flags: bool = True,
    **settings: float | bool,
) -> Rule:
    """`rule` with `part` before it.

    `settings` give the part's hyperparameters other defaults; a flag set so is fixed and no hyperparameter any more,
    unless `fix_flags` is False.
    """
    own, borrowed = _hypers_of(part, settings)
    fixed = {n: settings[n] for n, h in own.items() if h.is_flag and n in settings and fix_flags}
    added = [h for n, h in own.items() if n not in fixed]
    clips = part in CLIPPING
    places = [k for k, s in enumerate(rule.slots) if s.looked and not s.drawn and not (clips and s.bends)]

    def function(p: Any, g: Any, *slots: Any, **hypers: Any) -> Any:
        ours = {h.name: hypers.pop(h.name) for h in added}
        # A rule without a learning rate steps as if it were 1.
        theirs = {n: hypers.get(n, 1.0) for n in borrowed}
        numbers = {**ours, **theirs, **fixed}
        step, held = rule.function, slots
        if places:  # what changes the gradient changes each gradient at which the rule looks
            step, held = seen_through(step, slots, places, lambda point, seen: part(point, seen, **numbers)[1])
        p, g = part(p, g, **numbers)
        return step(p, g, *held, **hypers)

    return replace(
        rule,
        name=name or rule.name,
        title=title or ("" if name else rule.title),
        summary=summary or rule.summary,
        paper=paper or rule.paper,
        function=function,
        hypers=(*rule.hypers, *added),
        codes=(*rule.codes, part.__code__),
        parts=_with(part, rule, lambda bare: before(part, bare, fix_flags=fix_flags, **settings)),  # type: ignore[arg-type]
    )


def looking_before(part: Part, rule: Rule, **settings: float | bool) -> Rule:
    """`rule` with a part before it that looks: it asks for `gradient`, as a rule does that looks twice. The rule itself looks once."""
    own, _ = _hypers_of(part, settings)
    count, looked = len(rule.slots), Slot(GRADIENT, letter=LOOKED, looked=True)

    def function(p: Any, g: Any, *held: Any, **hypers: Any) -> Any:
        ours = {n: hypers.pop(n) for n in own}
        p, g = part(p, g, **ours, **{GRADIENT: Sight(held[count:])})
        return handing_on(rule.function(p, g, *held[:count], **hypers), held[count:])

    return replace(
        rule,
        function=function,
        slots=(*rule.slots, looked),
        hypers=(*rule.hypers, *own.values()),
        codes=(*rule.codes, part.__code__),
        parts=_with(part, rule, lambda bare: looking_before(part, bare, **settings)),
    )


def behind(part: Part, rule: Rule, **settings: float | bool) -> Rule:
    """`rule` with `part` behind it: it sees the new parameter, and keeps slots of its own.

    `settings` give the part's hyperparameters other defaults. A slot that starts at p or g starts at what came in before the rule.
    """
    own, borrowed = _hypers_of(part, settings)
    hints = get_type_hints(part, include_extras=True)
    names = [n for n, q in inspect.signature(part).parameters.items() if q.kind is not q.KEYWORD_ONLY][1:]
    slots = tuple(slot_from(n, hints[n]) for n in names)
    count = len(rule.slots)

    def function(p: Any, g: Any, *held: Any, **hypers: Any) -> Any:
        ours = {n: hypers.pop(n) for n in own} | {n: hypers.get(n, 1.0) for n in borrowed}
        if not rule.takes_t:
            hypers.pop("t", None)
        result = rule.function(p, g, *held[:count], **hypers)
        first = {"p": p, "g": g}
        kept = (first[s.first] if s.first and v is None else v for s, v in zip(slots, held[count:], strict=True))
        # A result that is not a tuple of the expected length is passed on unchanged: the contract's check names it.
        new_p, *new = result if isinstance(result, tuple) else (result,)
        new_p, *added = part(new_p, *kept, **ours)
        return (new_p, *new, *added)

    return replace(
        rule,
        function=function,
        slots=(*rule.slots, *slots),
        hypers=(*rule.hypers, *own.values()),
        takes_t=rule.takes_t or "t" in borrowed,
        codes=(*rule.codes, part.__code__),
        parts=_with(part, rule, lambda bare: behind(part, bare, **settings)),
    )


def _with(part: Part, rule: Rule, again: Callable[[Rule], Rule]) -> tuple[Composed, ...]:
    """The parts of `rule` and this one; `again` puts it around the rule without one of the others."""
    others = (Composed(own.part, lambda own=own: again(own.bare())) for own in rule.parts)  # type: ignore[misc]
    return (*others, Composed(part, lambda: rule))


def _hypers_of(part: Part, settings: dict[str, float | bool]) -> tuple[dict[str, Hyper], list[str]]:
    """A part's own hyperparameters, and the names of those it borrows from the rule."""
    hints = get_type_hints(part, include_extras=True)
    parameters = {n: q for n, q in inspect.signature(part).parameters.items() if q.kind is q.KEYWORD_ONLY}
    borrowed = [n for n, q in parameters.items() if q.default is q.empty]
    own = {n: hyper_from(n, settings.get(n, q.default), hints[n]) for n, q in parameters.items() if n not in borrowed}
    for setting in settings:
        if setting not in own:
            raise unknown_name("hyperparameter", setting, own, where=f" of {part.__name__}")
    return own, borrowed


def _once(make: Callable[[Rule], Rule]) -> Callable[[Rule], Rule]:
    """`make`, once for a rule; once more where the author has stated since where the model is read."""
    kept = cache(lambda rule, point: make(rule))

    @wraps(make)
    def made(rule: Rule) -> Rule:
        return kept(rule, rule.point)

    return made


@_once
def composed(rule: Rule) -> Rule:
    """`rule` with ascent and weight decay before it, where it has them not already: what `trace` runs."""
    taken = {h.name for h in rule.hypers} | {s.name for s in rule.slots}
    if not taken & {"weight_decay", "decoupled_weight_decay"}:
        rule = before(decay, rule)
    return rule if "maximize" in taken else before(ascend, rule)


@_once
def for_training(rule: Rule) -> Rule:
    """`composed(rule)` with clipping by the norm of all gradients before it: what `train`, sweeps and races run."""
    rule = composed(rule)
    taken = {h.name for h in rule.hypers} | {s.name for s in rule.slots}
    return rule if "clip_norm" in taken else before(clip_by_norm, rule)


@_once
def equipped(rule: Rule) -> Rule:
    """`composed(rule)` with every part that needs more than one tensor or more than one step: what the classes run.

    In order: unscale, clip by value, clip by norm, ascend, decay, the rule, average.
    """
    rule = composed(rule)
    taken = {h.name for h in rule.hypers} | {s.name for s in rule.slots}
    for part in (clip_by_norm, clip_by_value, unscale):
        if not taken & set(_hypers_of(part, {})[0]):
            rule = before(part, rule)
    return rule if taken & {"ema", "ema_decay"} else behind(average, rule)


def has(rule: Rule, part: Part) -> bool:
    """Whether `part` was put before or behind the rule; one of the same names that the author wrote is another."""
    return part.__code__ in rule.codes
