"""What the playground's page knows: rules as JavaScript, formulas, surfaces, noise, stories."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

import numpy as np

from steprule import rules
from steprule.compiler import anatomy, formula, javascript
from steprule.compiler.graph import Graph
from steprule.compiler.variant import variant_of
from steprule.hyper import Hyper
from steprule.paths import LR_GRID, best_rate
from steprule.play.stories import STORIES
from steprule.play.words import CHINESE
from steprule.reports.mathml import mathml
from steprule.reports.style import strokes, style_of, title_of
from steprule.rules.parts import composed
from steprule.rules.rule import Rule
from steprule.surfaces import catalogue as surfaces
from steprule.surfaces import elementary
from steprule.surfaces.formulas import START, WINDOW
from steprule.surfaces.surface import Surface
from steprule.tutorial.rules import adam_uncorrected

MOST_STEPS = 500
MOST_RULES = 8
"""In one picture."""
SEEDS = 10
"""How many seeds' noise lies in the page: numpy's own draws, so that a path with noise is the same in Python."""
LEFT_OUT = ("maximize",)
"""Hyperparameters without a control: a surface is walked down."""


def data(own: Sequence[tuple[str, Rule]], links: Mapping[str, str], opening: str, embed: bool) -> str:
    """All of it as JavaScript: `const DATA` and the functions `STEPS` and `SURFACES`.

    `opening` is the state with which the page opens, as its address writes it; without it, rules of one's own beside Adam.
    """
    known = [(r.name, r) for r in rules.CATALOGUE.values()]
    known.append(("steprule.tutorial.rules:adam_uncorrected", adam_uncorrected))
    steps: list[str] = []
    about: dict[str, Any] = {}
    maths = Maths()

    def enter(key: str, spec: str, rule: Rule, look: str, title: str) -> str:
        about[key] = {**_about(rule, look), "spec": spec, "title": title}
        steps.append(f"{json.dumps(key)}: {{{', '.join(_variants(rule, about[key], maths))}}}")
        return key

    for spec, rule in known:
        enter(rule.name, spec, rule, rule.name, title_of(rule.name))
    keys = [
        rule.name
        if rule in rules.CATALOGUE.values()
        else enter(_free_key(rule.name, spec, about), spec, rule, spec, _title(rule.name, spec, about))
        for spec, rule in own
    ]
    walks = []
    for s in surfaces.SURFACES.values():
        value, gradient = s.javascript()
        walks.append(f"{s.name}: {{value: {value}, gradient: {gradient}}}")
    noise = np.stack([np.random.default_rng(k).standard_normal((MOST_STEPS, 2)) for k in range(SEEDS)])
    known_data = {
        "rules": about,
        "surfaces": {s.name: _surface(s, maths) for s in surfaces.SURFACES.values()},
        "formula": {"window": WINDOW, "start": START},
        "stories": [asdict(story) for story in STORIES],
        "chinese": CHINESE,
        "links": dict(links),
        "opening": opening or _beside_adam(keys, [rule for _, rule in own]),
        "embed": embed,
        "rates": LR_GRID.tolist(),
        "mostSteps": MOST_STEPS,
        "mostRules": MOST_RULES,
        "maths": maths.drawn,
        "noise": base64.b64encode(noise.astype("<f8").tobytes()).decode(),
    }
    printed, stepping, walking = (
        json.dumps(known_data, ensure_ascii=False, allow_nan=False),
        ",\n".join(steps),
        ",\n".join(walks),
    )
    return "\n".join(
        [
            f"const DATA = {printed};",
            javascript.POWER,
            f"const STEPS = {{\n{stepping}\n}};",
            elementary.javascript(),
            f"const SURFACES = {{\n{walking}\n}};",
        ]
    )


def _free_key(name: str, spec: str, taken: Mapping[str, Any]) -> str:
    """What an address calls a rule of one's own: its name, without what an address or JavaScript would read otherwise.

    Where another rule has that name, its file's name follows.
    """
    plain = re.sub(r"\W", "_", name)
    if plain not in taken and plain != "__proto__":
        return plain
    file = re.sub(r"\W", "_", PurePath(spec.rpartition(":")[0]).stem)
    return f"{plain}_{file}" if file and f"{plain}_{file}" not in taken else f"{plain}_{len(taken)}"


def _title(name: str, spec: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    """Its name; with where it is from, where another rule of the page has that name."""
    titles = {about["title"].lower() for about in known.values()}
    return f"{name} ({spec})" if name.lower() in titles or name in known else name


def _beside_adam(keys: Sequence[str], own: Sequence[Rule]) -> str:
    """The state that shows rules of one's own first: each at its best learning rate on the page's first surface, and Adam."""
    if not own:
        return ""
    pairs = dict(zip(keys, own, strict=True)) | {"adam": rules.get("adam")}
    first = [*list(pairs.items())[: MOST_RULES - 1], ("adam", pairs["adam"])]
    parts = [f"rule={quote(key)}{_best(rule)}" for key, rule in dict(first).items()]
    return "&".join([*parts, "surface=quadratic", "start=-5,-2", "steps=20"])


def _best(rule: Rule) -> str:
    best = best_rate(rule, "quadratic", steps=20) if "lr" in composed(rule).defaults else None
    return "" if best is None else f",lr={best:.4g}"


def _about(rule: Rule, look: str) -> dict[str, Any]:
    whole = composed(rule)
    style = style_of(look)
    return {
        "summary": rule.summary,
        "colour": style.colour,
        "dash": strokes(style.dash),
        "hypers": [_hyper(h) for h in whole.hypers if not _is_fixed(h)],
        "slots": [{"name": s.name, "start": s.start, "perTensor": s.per_tensor} for s in whole.slots],
        "variants": {},
    }


def _is_fixed(hyper: Hyper) -> bool:
    """Whether the page leaves it at its default: it has sliders and boxes, and no field for whole numbers and choices."""
    return hyper.name in LEFT_OUT or (hyper.is_plain and not hyper.is_flag)


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
        "bounds": [[type(b).__name__, float(getattr(b, type(b).__name__.lower()))] for b in hyper.bounds],
    }


def _variants(rule: Rule, about: dict[str, Any], maths: Maths) -> Iterator[str]:
    """Each variant's functions as JavaScript, one a stage, by its switches; their rows go into `about`."""
    whole = composed(rule)
    for switches in whole.variants():
        fixed = {h.name: h.default for h in whole.hypers if _is_fixed(h) and h.switches}
        if any(switches[name] != value for name, value in fixed.items()):
            continue
        variant = variant_of(whole, {**whole.defaults, **switches})
        graphs = [variant.graph(absent) for absent in variant.stages]
        key = "".join(str(int(bool(v))) for n, v in switches.items() if n not in fixed)
        about["variants"][key] = {
            "stages": [_rows(graph, maths) for graph in graphs],
            "where": _where(variant.graph(), maths),
            "slots": sorted(variant.slots - variant.first_absent),
        }
        yield f'"{key}": [{", ".join(map(function, graphs))}]'


def function(graph: Graph, size: int = 2) -> str:
    """A step of a tensor of `size` numbers, as a function without a name."""
    head, body = javascript.source(graph, size).split("(", 1)
    assert head.startswith("function ")
    return f"function ({body}"


def _rows(graph: Graph, maths: Maths) -> list[dict[str, Any]]:
    return [{"key": r.key, "shown": maths(f"{r.left} = {r.right}" if r.left else r.right)} for r in anatomy.rows(graph)]


def _where(graph: Graph, maths: Maths) -> list[dict[str, Any]]:
    return [{"shown": maths(letter), "name": name} for letter, name, _ in formula.where(graph)]


def _surface(surface: Surface, maths: Maths) -> dict[str, Any]:
    return {
        "shown": maths("f = " + surface.latex),
        "minima": surface.minima,
        "window": surface.window,
        "start": surface.start,
        "noise": surface.noise,
    }


class Maths:
    """Formulas as MathML, each once: many variants share their lines."""

    def __init__(self) -> None:
        self.drawn: list[str] = []
        self.places: dict[str, int] = {}

    def __call__(self, latex: str) -> int:
        """The place of a formula in `drawn`."""
        if latex not in self.places:
            self.places[latex] = len(self.drawn)
            self.drawn.append(mathml(latex))
        return self.places[latex]
