"""A page on which rules train one 8 x 8 matrix, an associative memory some of whose keys are rare.

Rules of matrices step it as a matrix, all others as 64 numbers. The page shows the loss, the matrix and its singular values at each step,
with a slider for every learning rate.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from steprule import rules, schedules
from steprule.atomic import write_text
from steprule.compiler import formula, javascript
from steprule.compiler.variant import variant_of
from steprule.play import printed, words
from steprule.play.data import free_key
from steprule.play.luck_chinese import CHINESE as LUCKS
from steprule.play.matrix_chinese import CHINESE
from steprule.play.network_chinese import CHINESE as NETWORKS
from steprule.play.one_file import one_file
from steprule.problems.problem import Problem
from steprule.reports.style import strokes, style_of, title_of
from steprule.rules.rule import Rule

STYLES = ("style", "matrix")
SCRIPTS = ("words", "stepper", "pen", "labels", "curves", "frame", "memory", "weights", "matrix")
"""The page's scripts, in reading order."""

SIZE = 8
FALL = 2
"""Key i, from 1, comes with a frequency in proportion to 1 / i^FALL: the last 64 times as seldom as the first."""
STEPS = (20, 40, 80, 160)
OPENING = 40
"""The steps of a training, to choose from, and how many it has when the page opens."""
SCHEDULES = ("linear", "constant")
"""How the learning rate changes, for all rules alike; the first when the page opens."""
RATES = tuple(float(f"{10 ** (k / 12):.3g}") for k in range(-36, 13))
"""The places of a learning rate's slider, and the rates that are tried for the best: twelve per decade from 1e-3 to 10."""
MEANT = ("steps", "schedule", "at", "which", "lang", "theme", "target")
"""What the page's address and its parts mean by other names than those of rules."""
NO_LINKS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Memory:
    """What is to be learned: W k_i = v_i for each pair, counted as often as its key comes."""

    keys: NDArray[np.float64]
    """[pairs, inputs], orthonormal rows that are turned, so that no single element belongs to one pair."""
    values: NDArray[np.float64]
    """[pairs, outputs], the same; so all singular values of the matrix that maps keys to values are 1."""
    shares: NDArray[np.float64]
    """[pairs], how often each key comes, the most frequent first; they sum to 1."""


def memory(seed: int = 0) -> Memory:
    """The page's memory; another seed turns keys and values otherwise."""
    drawn = np.random.default_rng(seed)

    def turned() -> NDArray[np.float64]:
        q, r = np.linalg.qr(drawn.standard_normal((SIZE, SIZE)))
        return q * np.sign(np.diag(r))

    shares = 1.0 / np.arange(1, SIZE + 1) ** FALL
    return Memory(turned(), turned(), shares / shares.sum())


class Runner(NamedTuple):
    """A rule that can train, with the learning rate at which its slider begins."""

    name: str
    rule: str
    lr: float
    hypers: Mapping[str, Any] = {}
    shown: bool = True
    """Whether it trains when the page opens."""
    title: str = ""
    """What it is called, if not as its name says."""


# Each rate is the best of RATES after OPENING steps with the first schedule, as the page itself finds it; a test tries them all.
RUNNERS = (
    Runner("sgd", "sgd", 3.16),
    Runner("momentum", "sgd", 2.61, {"momentum": 0.9}),
    Runner("adam", "adam", 0.261),
    Runner("lion", "lion", 0.0681, shown=False),
    Runner("adafactor", "adafactor", 6.81, shown=False),
    Runner("muon", "muon", 0.316, {"weight_decay": 0.0}),
    # The gradient is exact here, so that momentum has no noise to average and overshoots alone.
    Runner("muon_plain", "muon", 0.1, {"weight_decay": 0.0, "momentum": 0.0}, title="Muon without momentum"),
    Runner("normuon", "normuon", 0.261, shown=False),
    Runner("scion", "scion", 0.316, shown=False),
)


def squared_distance(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Half the squared distance of each sample's output from its target, in the mean over the samples."""
    return ((outputs - targets) ** 2).sum(dim=1).mean() / 2


def task(seed: int = 0) -> Problem:
    """The page's problem, for Python and for commands: `steprule train muon --on steprule.play.matrix:task --schedule linear`.

    The loss is sum_i f_i |W k_i - v_i|^2 / 2 with the shares f_i: pair i is a sample, scaled by the root of SIZE f_i. A batch has all
    pairs, so that every step sees the exact gradient, and W begins at 0.
    """
    known = memory(seed)
    weight = np.sqrt(SIZE * known.shares)[:, None]

    def model() -> nn.Module:
        layer = nn.Linear(SIZE, SIZE, bias=False)
        nn.init.zeros_(layer.weight)
        return layer

    features, targets = (torch.from_numpy((weight * x).astype(np.float32)) for x in (known.keys, known.values))
    summary = f"An associative memory: a matrix of {SIZE} x {SIZE} maps {SIZE} keys to values, the last key 1/{SIZE**FALL} as often"
    return Problem(
        "memory-8", summary, features, targets, model, squared_distance, batch_size=SIZE, epochs=OPENING, floor=0.0
    )


def page(own: Sequence[tuple[str, Rule]] = (), links: Mapping[str, str] = NO_LINKS) -> str:
    """The page as text: one file without network.

    Args:
        own: rules of one's own beside the page's, as pairs (RULE as it was typed, rule).
        links: where the page finds the playground (`play`), the page of a network (`network`) and the documentation (`docs`), where it
            stands beside them.

    Raises `InputError` for a rule that is not printed as JavaScript, such as one that factorizes matrices.
    """
    learned, maths, entered = memory(), printed.Maths(), _Rules()
    for r in RUNNERS:
        entered.enter(r.name, r.rule, rules.get(r.rule), maths, {**r.hypers, "lr": r.lr}, shown=r.shown)
        entered.about[r.name]["title"] = r.title or title_of(r.name)
    for spec, rule in own:
        entered.enter_own(spec, rule, maths)
    known: dict[str, Any] = {
        "chinese": {**words.CHINESE, **LUCKS, **NETWORKS, **CHINESE},
        "links": dict(links),
        "size": SIZE,
        "keys": _packed(learned.keys),
        "values": _packed(learned.values),
        "shares": learned.shares.tolist(),
        "steps": STEPS,
        "opening": OPENING,
        "schedules": {name: {n: schedules.get(name).factors(n) for n in STEPS} for name in SCHEDULES},
        "rules": entered.about,
        "maths": maths.drawn,
        "spec": "steprule.play.matrix:task",
    }
    steps, points, looks = (",\n".join(part) for part in (entered.steps, entered.points, entered.looks))
    data = "\n".join(
        [
            f"const DATA = {json.dumps(known, ensure_ascii=False, allow_nan=False)};",
            javascript.POWER,
            *printed.helpers(entered.about.values()),
            f"const STEPS = {{\n{steps}\n}};",
            f"const POINTS = {{\n{points}\n}};",
            f"const LOOKS = {{\n{looks}\n}};",
        ]
    )
    return one_file("matrix", STYLES, SCRIPTS, data)


class _Rules:
    """The rules of the page, as `stepper.js` reads them: each has one variant, that of its settings, and is called by its key."""

    def __init__(self) -> None:
        self.about: dict[str, Any] = {}
        self.steps: list[str] = []
        self.points: list[str] = []
        self.looks: list[str] = []

    def enter(
        self, key: str, spec: str, rule: Rule, maths: printed.Maths, given: Mapping[str, Any], *, shown: bool
    ) -> None:
        """Add a rule: `spec` is how to type it; a learning rate that is not `given` is found by the page."""
        bound, style, shape = rule.bind(given), style_of(key), (SIZE, SIZE)
        variant = variant_of(rule, bound, shape)
        self.about[key] = {
            "spec": spec,
            "rule": rule.name,
            "title": rule.title or rule.name,
            "summary": rule.summary,
            "given": {name: value for name, value in given.items() if name != "lr"},
            "lr": given.get("lr"),
            "rates": _rates(rule),
            "shown": shown,
            "colour": style.colour,
            "dash": strokes(style.dash),
            "hypers": [{"name": name, "default": value} for name, value in bound.items()],
            "slots": printed.slots(rule, shape),
            **printed.supplied(rule),
            "variants": {"": {"slots": sorted(variant.slots - variant.first_absent)}},
            # Of a matrix that is not square, for there rows and columns are not the same number.
            "formula": [maths(line) for line in formula.whole_latex(variant_of(rule, bound))],
        }
        # What a rule of elements computes it prints for any number of them, or there would be 64 lines for each of its own.
        found = printed.functions(variant, None if variant.shape is None else SIZE**2)
        self.steps.append(f'{json.dumps(key)}: {{"": {found.steps}}}')
        if rule.evaluation is not None:
            self.points.append(f'{json.dumps(key)}: {{"": {found.points}}}')
        if rule.looked:
            self.looks.append(f'{json.dumps(key)}: {{"": {found.looks}}}')

    def enter_own(self, spec: str, rule: Rule, maths: printed.Maths) -> None:
        """Add a rule of one's own, unless it is there; it is shown when the page opens."""
        for about in self.about.values():
            if about["spec"] == spec and about["rule"] == rule.name:
                about["shown"] = True
                return
        key = free_key(rule.name, spec, {*self.about, *MEANT})
        self.enter(key, spec, rule, maths, {}, shown=True)
        title, others = self.about[key]["title"], [about["title"] for name, about in self.about.items() if name != key]
        if title.lower() in map(str.lower, others):
            self.about[key]["title"] = f"{title} ({spec})"


def _rates(rule: Rule) -> list[float]:
    """The learning rates that the rule's bounds allow; none for a rule without one."""
    return [rate for h in rule.hypers if h.name == "lr" for rate in RATES if h.allows(rate)]


def _packed(numbers: NDArray[np.float64]) -> str:
    """Numbers as float64 in base64."""
    return base64.b64encode(numbers.astype("<f8").tobytes()).decode()


def write(path: Path, own: Sequence[tuple[str, Rule]] = (), links: Mapping[str, str] = NO_LINKS) -> None:
    """Write the page. Raises `OutputError` where it cannot, and as `page` does."""
    write_text(path, page(own, links))
