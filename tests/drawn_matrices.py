"""Draws rules of matrices: a random function of the language with products, transposes, sums along an axis, and ifs on the step."""

from __future__ import annotations

import linecache
import random
from collections.abc import Callable
from typing import Any

from steprule.rules.rule import Rule, rule

HEAD = """
from typing import Annotated, Any
from steprule.hyper import Decay, OnePerTensor, PerColumn, PerRow, Rate, Square
from steprule.macros import polar
from steprule.maths import *
"""

SLOTS = {
    "m": ("E", "m"),
    "r": ("r", "r: PerRow"),
    "c": ("c", "c: PerColumn"),
    "left": ("L", "left: Square('rows')"),
    "right": ("R", "right: Square('columns')"),
    "n": ("n", "n: Annotated[Any, OnePerTensor(0.5)]"),
}
"""The slots that a rule may have, each with its kind: E is of the parameter's shape, T its transpose, r and c have one number per row or
column, L and R are square, n is one number, s is a number of the step."""

SIMPLEST = {
    "E": ["p", "g", "g"],
    "T": ["g.T", "p.T"],
    "L": ["tanh(g @ g.T)"],
    "R": ["tanh(g.T @ g)"],
    "r": ["mean(g, axis=-1)", "norm(p, axis=-1)"],
    "c": ["mean(g, axis=-2)", "max(p, axis=-2)"],
    "n": ["norm(g)", "mean(p)"],
    "s": ["0.5", "lr", "beta", "(1 / t)", "2.0"],
}
"""Where an expression ends."""


class Drawn:
    """One rule: its source, and how it came about."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.slots = [name for name in SLOTS if self.random.random() < 0.4]
        self.names: dict[str, list[str]] = {kind: [] for kind in "ETrcLRns"}
        for name in self.slots:
            self.names[SLOTS[name][0]].append(name)
        self.lines: list[str] = []
        self.source = self._source(f"drawn_{seed}")

    def _source(self, name: str) -> str:
        choice = self.random.choice
        signature = ", ".join(
            ["p", "g", *(SLOTS[s][1] for s in self.slots), "*", "lr: Rate = 0.1", "beta: Decay = 0.7", "t"]
        )
        for k in range(self.random.randrange(4)):
            kind = choice("EErcLRn")
            if kind != "n" or self.random.random() < 0.5:
                self.lines.append(f"q{k} = {self.draw(kind, 3)}")
                self.names[kind].append(f"q{k}")
        body = [f"    {line}" for line in self.lines]
        if self.random.random() < 0.3:
            body += [f"    if {choice(['t % 2 == 0', 't == 1', 't > 2'])}:", f"        return {self._results()}"]
        body.append(f"    return {self._results()}")
        return "\n".join([HEAD, f"def {name}({signature}):", *body, ""])

    def _results(self) -> str:
        found = [f"p - lr * {self.draw('E', 4)}"]
        for slot in self.slots:
            kind = SLOTS[slot][0]
            found.append(slot if self.random.random() < 0.15 else f"tanh({self.draw(kind, 3)})")
        return ", ".join(found)

    def draw(self, kind: str, depth: int) -> str:
        """An expression of a kind, bounded: what has grown goes through tanh."""
        options = [*self.names[kind], *SIMPLEST[kind]]
        if depth <= 0 or self.random.random() < 0.2:
            return self.random.choice(options)
        d = lambda k: self.draw(k, depth - 1)  # noqa: E731
        return "(" + self.random.choice(self._ways(kind, d))() + ")"

    def _ways(self, kind: str, d: Callable[[str], str]) -> list[Callable[[], str]]:
        ways: list[Callable[[], str]] = [
            lambda: f"{d(kind)} + {d(kind)}",
            lambda: f"{d(kind)} - {d(kind)}",
            lambda: f"{d(kind)} * {d(kind)}",
            lambda: f"{d(kind)} * {d('s')}",
            lambda: f"-{d(kind)}",
            lambda: f"tanh({d(kind)})",
            lambda: f"abs({d(kind)})",
        ]
        if kind != "s":
            ways += [lambda: f"{d(kind)} / (1 + abs({d(kind)}))", lambda: f"{d(kind)} * tanh({d('n')})"]
            ways += [lambda: f"lerp({d(kind)}, {d(kind)}, beta)", lambda: f"maximum({d(kind)}, {d(kind)})"]
        own: dict[str, list[Callable[[], str]]] = {
            "E": [
                lambda: f"tanh({d('L')} @ {d('E')})",
                lambda: f"tanh({d('E')} @ {d('R')})",
                lambda: f"tanh(beta * {d('E')} + {d('s')} * ({d('L')} @ {d('E')}))",
                lambda: f"{d('T')}.T",
                lambda: f"{d('E')} * {d('r')}",
                lambda: f"{d('E')} + {d('c')}",
                lambda: f"{d('r')} * {d('c')}",
                lambda: f"tanh({d('r')} @ {d('c')})",
                lambda: f"where({d('E')} > 0, {d('E')}, {d('r')})",
                lambda: f"polar(g + {d('E')})",
            ],
            "T": [lambda: f"{d('E')}.T", lambda: f"tanh({d('R')} @ {d('T')})", lambda: f"tanh({d('T')} @ {d('L')})"],
            "L": [lambda: f"tanh({d('E')} @ {d('T')})", lambda: f"{d('L')}.T", lambda: f"tanh({d('L')} @ {d('L')})", lambda: f"{d('r')} * {d('L')}"],
            "R": [lambda: f"tanh({d('T')} @ {d('E')})", lambda: f"{d('R')}.T", lambda: f"tanh({d('R')} @ {d('R')})", lambda: f"{d('R')} * {d('c')}"],
            "r": [lambda: f"{self._along()}({d('E')}, axis=-1)", lambda: f"{self._along()}({d('L')}, axis=-1)", lambda: f"{self._along()}({d('T')}, axis=-2).T"],
            "c": [lambda: f"{self._along()}({d('E')}, axis=-2)", lambda: f"{self._along()}({d('R')}, axis=-2)", lambda: f"{self._along()}({d('T')}, axis=-1).T"],
            "n": [lambda: f"{self._along()}({d(self.random.choice('EErcLR'))})"],
            "s": [lambda: "rows(p) / (1 + columns(p))"],
        }  # fmt: skip
        return ways + own[kind] * 2

    def _along(self) -> str:
        return self.random.choice(["mean", "norm", "max", "min", "sum"])

    def rule(self) -> Rule:
        """The rule; its source is there for messages."""
        file = f"<drawn matrices {id(self)}>"
        linecache.cache[file] = (len(self.source), None, self.source.splitlines(keepends=True), file)
        scope: dict[str, Any] = {"__name__": "drawn"}
        exec(compile(self.source, file, "exec"), scope)
        name = next(n for n in scope if n.startswith("drawn_"))
        return rule(scope[name])

    def shape(self) -> tuple[int, int]:
        """Of the parameter: square at times, of one row or column at times."""
        rows, columns = self.random.randint(1, 7), self.random.randint(1, 7)
        return (rows, rows) if self.random.random() < 0.2 else (rows, columns)
