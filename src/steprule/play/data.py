"""The page's data: each rule's steps as JavaScript, its hyperparameters and formulas; surfaces; noise; stories."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

import numpy as np

from steprule import rules
from steprule.compiler import javascript
from steprule.compiler.variant import asks_for_shapes, variant_of
from steprule.errors import InputError
from steprule.hyper import Hyper
from steprule.paths import LR_GRID, Trace, best_rate
from steprule.play import printed
from steprule.play.printed import Maths
from steprule.play.stories import STORIES
from steprule.play.words import CHINESE
from steprule.reports.style import strokes, style_of, title_of
from steprule.rules.parts import composed
from steprule.rules.rule import Rule
from steprule.surfaces import catalogue as surfaces, elementary
from steprule.surfaces.formulas import START, WINDOW
from steprule.surfaces.surface import Surface
from steprule.tutorial.rules import adam_uncorrected

MOST_STEPS = 500
MOST_RULES = 8
"""The most rules in one picture."""
SEEDS = 10
"""The page holds the noise of this many seeds: numpy's own draws, so that a path with noise is the same in Python."""
POINT = (2,)
"""The shape of what the page walks."""
LEFT_OUT = ("maximize",)
"""Hyperparameters without a control: a surface is walked down."""
KNOWN = (
    *((r.name, r) for r in rules.CATALOGUE.values() if not asks_for_shapes(r)),
    ("steprule.tutorial.rules:adam_uncorrected", adam_uncorrected),
)
"""The rules of every page, (how to say it, rule): all but those of matrices, for the page walks a point of two numbers."""


def data(own: Sequence[tuple[str, Rule]], links: Mapping[str, str], opening: str, embed: bool) -> str:
    """All of it as JavaScript: `const DATA` and the functions `STEPS`, `POINTS` and `SURFACES`.

    `opening` is the state in which the page opens, as its address writes it; if empty, rules of one's own beside Adam.
    """
    maths = Maths()
    entered = _Rules(maths)
    for spec, rule in KNOWN:
        entered.enter(rule.name, spec, rule, rule.name, title_of(rule.name))
    shown: dict[str, Rule] = {}
    for key, (spec, rule) in zip(keys_of(own), own, strict=True):
        shown[key] = rule
        if key not in entered.about:
            entered.enter(key, spec, rule, spec, _title(rule.name, spec, entered.about))
    known = {
        "rules": entered.about,
        "surfaces": {s.name: _surface(s, maths) for s in surfaces.SURFACES.values()},
        "formula": {"window": WINDOW, "start": START},
        "stories": [asdict(story) for story in STORIES],
        "chinese": CHINESE,
        "links": dict(links),
        "opening": opening or _beside_adam(shown),
        "embed": embed,
        "rates": LR_GRID.tolist(),
        "mostSteps": MOST_STEPS,
        "mostRules": MOST_RULES,
        "maths": maths.drawn,
        "noise": _noise(),
    }
    told = json.dumps(known, ensure_ascii=False, allow_nan=False)
    steps, points, looks = (",\n".join(own) for own in (entered.steps, entered.points, entered.looks))
    walks = ",\n".join(map(_walk, surfaces.SURFACES.values()))
    return "\n".join(
        [
            f"const DATA = {told};",
            javascript.POWER,
            *printed.helpers(entered.about.values()),
            f"const STEPS = {{\n{steps}\n}};",
            f"const POINTS = {{\n{points}\n}};",
            f"const LOOKS = {{\n{looks}\n}};",
            elementary.javascript(),
            f"const SURFACES = {{\n{walks}\n}};",
        ]
    )


class _Rules:
    """The rules of the page: `about` says what each is, by its key, and `steps`, `points` and `looks` hold its functions."""

    def __init__(self, maths: Maths) -> None:
        self.maths = maths
        self.about: dict[str, Any] = {}
        self.steps: list[str] = []
        self.points: list[str] = []
        """The functions that give the point at which a model is read, where a rule states it; by variant and stage as in `steps`."""

        self.looks: list[str] = []
        """Of the rules that look twice: by variant, for each look the functions of its stages."""

    def enter(self, key: str, spec: str, rule: Rule, look: str, title: str) -> None:
        """Add a rule: `spec` is how to type it, `look` the name whose style it has."""
        self.about[key] = {**_about(rule, look), "spec": spec, "title": title}
        steps, points, looks = zip(*_variants(rule, self.about[key], self.maths), strict=True)
        self.steps.append(f"{json.dumps(key)}: {{{', '.join(steps)}}}")
        if rule.evaluation is not None:
            self.points.append(f"{json.dumps(key)}: {{{', '.join(points)}}}")
        if rule.looked:
            self.looks.append(f"{json.dumps(key)}: {{{', '.join(looks)}}}")


def keys_of(own: Sequence[tuple[str, Rule]]) -> list[str]:
    """What the page calls each of these rules, (how to say it, rule): a catalogue's rule by its name, one said twice the same."""
    said: dict[str, str] = {}
    taken = {rule.name for _, rule in KNOWN}
    for spec, rule in own:
        if rule in rules.CATALOGUE.values():
            said[spec] = rule.name
        elif spec not in said:
            said[spec] = free_key(rule.name, spec, taken)
            taken.add(said[spec])
    return [said[spec] for spec, _ in own]


def check_shown(own: Sequence[tuple[str, Rule]], traces: Sequence[Trace]) -> None:
    """Raises `InputError` for paths that the page cannot walk: too many, too long, other noise, settings without a control."""
    first = traces[0]
    seeds = first.seed + 1 if first.noise else 1
    limits = {
        "rules": (len(traces), MOST_RULES),
        "steps": (first.steps, MOST_STEPS),
        "seeds with noise": (seeds, SEEDS),
    }
    for what, (count, most) in limits.items():
        if count > most:
            hint = "A picture shows more: .svg, .png or .gif."
            raise InputError(f"{what} of a page", expected=f"{most} or fewer", got=f"{count}", hint=hint)
    for walked, (spec, rule) in zip(traces, own, strict=True):
        for hyper in composed(rule).hypers:
            value = walked.hypers.get(hyper.name, hyper.default)
            if _is_fixed(hyper) and value != hyper.default:
                got = f"{hyper.name}={value}, for which it has no control"
                raise InputError(f"{spec} on a page", expected="what the page can set", got=got)


def free_key(name: str, spec: str, taken: Collection[str]) -> str:
    """The name by which an address calls a rule of one's own, in letters that an address and JavaScript read as they are.

    Where another rule has that name, the name of the file follows.
    """
    plain = re.sub(r"\W", "_", name)
    if plain not in taken and plain != "__proto__":
        return plain
    file, _, _ = spec.rpartition(":")
    stem = re.sub(r"\W", "_", PurePath(file).stem)
    with_file = f"{plain}_{stem}"
    return with_file if stem and with_file not in taken else f"{plain}_{len(taken)}"


def _title(name: str, spec: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    """The rule's name, with its place where another rule of the page has that name."""
    titles = {about["title"].lower() for about in known.values()}
    return f"{name} ({spec})" if name.lower() in titles or name in known else name


def _beside_adam(own: Mapping[str, Rule]) -> str:
    """The state that shows rules of one's own, each at its best learning rate on the page's first surface, and Adam last."""
    if not own:
        return ""
    adam = own.get("adam", rules.get("adam"))
    others = [(key, rule) for key, rule in own.items() if key != "adam"]
    shown = [*others[: MOST_RULES - 1], ("adam", adam)]
    parts = [f"rule={quote(key)}{_best(rule)}" for key, rule in shown]
    return "&".join([*parts, "surface=quadratic", "start=-5,-2", "steps=20"])


def _best(rule: Rule) -> str:
    best = best_rate(rule, "quadratic", steps=20) if "lr" in composed(rule).defaults else None
    return "" if best is None else f",lr={best:.4g}"


def _noise() -> str:
    """The noise of each seed, [seeds, steps, 2], as float64 in base64."""
    drawn = [np.random.default_rng(seed).standard_normal((MOST_STEPS, 2)) for seed in range(SEEDS)]
    return base64.b64encode(np.stack(drawn).astype("<f8").tobytes()).decode()


def _walk(surface: Surface) -> str:
    """A surface's value and gradient as JavaScript."""
    value, gradient = surface.javascript()
    return f"{surface.name}: {{value: {value}, gradient: {gradient}}}"


def _about(rule: Rule, look: str) -> dict[str, Any]:
    whole = composed(rule)
    style = style_of(look)
    return {
        "summary": rule.summary,
        "colour": style.colour,
        "dash": strokes(style.dash),
        "hypers": [_hyper(h) for h in whole.hypers if not _is_fixed(h)],
        "slots": printed.slots(whole, POINT),
        **printed.supplied(whole),
        "variants": {},
    }


def _is_fixed(hyper: Hyper) -> bool:
    """Whether the page leaves it at its default: the page has sliders and boxes, but no field for whole numbers and choices."""
    return hyper.name in LEFT_OUT or hyper.given is not None or (hyper.is_plain and not hyper.is_flag)


def _hyper(hyper: Hyper) -> dict[str, Any]:
    search = hyper.search
    return {
        "name": hyper.name,
        "default": hyper.default,
        "meaning": hyper.meaning,
        "range": hyper.range,
        "flag": hyper.is_flag,
        "switches": hyper.switches,
        "low": search.low if search else None,
        "high": search.high if search else None,
        "scale": search.scale if search else None,
        "bounds": [_bound(b) for b in hyper.bounds],
    }


def _bound(bound: Any) -> list[str | float]:
    """A bound's kind and number: ["Lt", 1.0]."""
    kind = type(bound).__name__
    return [kind, float(getattr(bound, kind.lower()))]


def _variants(rule: Rule, about: dict[str, Any], maths: Maths) -> Iterator[tuple[str, str, str]]:
    """Each variant's functions as JavaScript, one per stage, by its switches: of the steps, of the points where the model is read, and of
    each look; rows go into `about`."""
    whole = composed(rule)
    for switches in whole.variants():
        fixed = {h.name: h.default for h in whole.hypers if _is_fixed(h) and h.switches}
        if any(switches[name] != value for name, value in fixed.items()):
            continue
        variant = variant_of(whole, {**whole.defaults, **switches}, POINT)
        key = "".join("1" if value else "0" for name, value in switches.items() if name not in fixed)
        about["variants"][key] = printed.about(variant, maths)
        found = printed.functions(variant, *POINT)
        yield f'"{key}": {found.steps}', f'"{key}": {found.points}', f'"{key}": {found.looks}'


def _surface(surface: Surface, maths: Maths) -> dict[str, Any]:
    return {
        "shown": maths("f = " + surface.latex),
        "minima": surface.minima,
        "window": surface.window,
        "start": surface.start,
        "noise": surface.noise,
    }
