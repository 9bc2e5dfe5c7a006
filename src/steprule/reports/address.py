"""The address at which the playground shows paths that were walked in Python."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from steprule import rules
from steprule.errors import InputError
from steprule.paths import Trace
from steprule.rules.parts import composed
from steprule.surfaces import catalogue as surfaces


def address(traces: Sequence[Trace], names: Sequence[str] = ()) -> str:
    """The state in which the playground shows these very paths, as its address writes it.

    `names` is what the page calls each rule, where that is not the rule's own name.

    >>> from steprule import trace
    >>> address([trace("sgd", lr=0.4)])
    'rule=sgd,lr=0.4&surface=quadratic&start=-5,-2&steps=20'

    Raises `InputError` for paths that no one state of the page shows.
    """
    first = traces[0]
    alike = {(t.ground, *t.points[0], t.steps, t.noise, t.seed if t.noise else 0) for t in traces}
    if len(alike) > 1:
        expected = "paths on one surface with one start, number of steps, noise and seed"
        raise InputError("the playground's state", expected=expected, got=f"{len(alike)} kinds")
    parts = []
    for walked, name in zip(traces, names or [t.rule for t in traces], strict=True):
        usual = composed(rules.resolve(walked.of or walked.rule)).defaults
        own = [f"{n}={_whole(v)}" for n, v in walked.hypers.items() if v != usual[n]]
        parts.append(f"rule={','.join([quote(name), *own])}")
    known = first.surface in surfaces.SURFACES and not first.on
    if known:
        surface = first.surface
    else:
        formula = first.ground.formula if first.on else first.surface
        surfaces.get(formula)  # raises for one that the page cannot read
        surface = quote(formula, safe="()*,")
    start = ",".join(_whole(v) for v in first.points[0])
    parts += [f"surface={surface}", f"start={start}", f"steps={first.steps}"]
    if first.noise != (first.ground.noise if known else 0.0):
        parts.append(f"noise={_whole(first.noise)}")
    if first.seed and first.noise:
        parts.append(f"seed={first.seed}")
    return "&".join(parts)


def _whole(value: float | bool) -> str:
    """A number with all its digits, or true or false."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(float(value)).removesuffix(".0")
