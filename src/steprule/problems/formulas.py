"""A surface of one's own, typed as a formula in x and y: a strict grammar, nothing is evaluated as code.

    sum      product (("+" | "-") product)*
    product  sign (("*" | "/") sign)*
    sign     "-" sign | power
    power    atom (("^" | "**") sign)?      the exponent holds neither x nor y
    atom     number | x | y | pi | e | function "(" sum ")" | "(" sum ")"

The playground's page reads the same grammar (`play/page/formula.js`); a test compares the two.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import numpy as np
import sympy
from scipy.optimize import minimize

from steprule.errors import InputError, unknown_name
from steprule.problems.surfaces import Point, Surface, X, Y

FUNCTIONS = {n: getattr(sympy, n) for n in ("sin", "cos", "tan", "tanh", "exp", "log", "sqrt")} | {"abs": sympy.Abs}
NAMES = {"x": X, "y": Y, "pi": sympy.pi, "e": sympy.E}
LONGEST = 200
WINDOW: tuple[Point, Point] = (-5.0, 5.0), (-5.0, 5.0)
START = (-4.0, 3.0)
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(\*\*|[-+*/^()]))")


def surface_of(text: str) -> Surface:
    """The surface of a formula, its minimum searched for in the window [-5, 5] x [-5, 5].

    >>> surface_of("x^2/10 + 2*y^2").gradient([-5.0, -2.0])
    array([-1., -8.])

    Raises `InputError` with the place of the mistake.
    """
    expression = parse(text)
    if not expression.free_symbols:
        raise InputError(f"formula {text!r}", expected="x or y in it", got="a constant")
    bare = Surface(text, expression, (), WINDOW, START)
    side = np.linspace(-5, 5, 201)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    values = bare.value(grid)
    if not np.isfinite(values).any():
        raise InputError(f"formula {text!r}", expected="finite values somewhere in [-5, 5] x [-5, 5]", got="none")
    best = grid[int(np.nanargmin(np.where(np.isfinite(values), values, np.nan)))]
    polished = minimize(bare.value, best, jac=bare.gradient, bounds=WINDOW, method="L-BFGS-B", options={"ftol": 1e-15})
    if np.isfinite(polished.fun) and polished.fun <= bare.value(best):
        best = polished.x
    return Surface(text, expression, ((float(best[0]), float(best[1])),), WINDOW, START)


def parse(text: str) -> Any:
    """The sympy expression of a formula."""
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.depth = text, 0
        if len(text) > LONGEST:
            raise InputError("formula", expected=f"at most {LONGEST} characters", got=f"{len(text)}")
        self.tokens: list[tuple[str, str, int]] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if not found:
                at += len(text[at:]) - len(text[at:].lstrip())
                self._refuse("a number, a name, an operator or a bracket", repr(text[at]), at)
            kind = ("number", "name", "sign")[found.lastindex - 1]  # type: ignore[operator]
            self.tokens.append((kind, found[found.lastindex], found.start(found.lastindex)))  # type: ignore[arg-type,index]
            at = found.end()
        self.tokens.append(("end", "the end", len(text)))
        self.next = 0

    def whole(self) -> Any:
        found = self.sum()
        if self.tokens[self.next][0] != "end":
            self._expected("an operator or the end")
        return found

    def sum(self) -> Any:
        found = self.product()
        while self._at("+", "-"):
            found = found + self.product() if self._take() == "+" else found - self.product()
        return found

    def product(self) -> Any:
        found = self.sign()
        while self._at("*", "/"):
            found = found * self.sign() if self._take() == "*" else found / self.sign()
        return found

    def sign(self) -> Any:
        self.depth += 1
        if self.depth > 50:
            self._expected("at most 50 brackets and signs inside each other")
        if self._at("-"):
            self._take()
            found = -self.sign()
        else:
            found = self.atom()
            if self._at("^", "**"):
                self._take()
                at = self.next
                exponent = self.sign()
                if exponent.free_symbols:
                    self.next = at
                    self._expected("an exponent without x and y")
                found = found**exponent
        self.depth -= 1
        return found

    def atom(self) -> Any:
        kind, shown, at = self.tokens[self.next]
        if kind == "number":
            self._take()
            return sympy.Rational(shown)
        if kind == "name":
            self._take()
            if shown in NAMES:
                return NAMES[shown]
            if shown not in FUNCTIONS:
                raise unknown_name(
                    "name", shown, [*NAMES, *FUNCTIONS], where=f" at character {at + 1} of formula {self.text!r}"
                )
            if not self._at("("):
                self._expected(f"( after {shown}")
            return FUNCTIONS[shown](self.atom())
        if shown == "(":
            self._take()
            found = self.sum()
            if not self._at(")"):
                self._expected("an operator or )")
            self._take()
            return found
        return self._expected("a number, x, y, a function or (")

    def _at(self, *signs: str) -> bool:
        return self.tokens[self.next][0] == "sign" and self.tokens[self.next][1] in signs

    def _take(self) -> str:
        self.next += 1
        return self.tokens[self.next - 1][1]

    def _expected(self, what: str) -> NoReturn:
        kind, shown, at = self.tokens[self.next]
        self._refuse(what, shown if kind == "end" else repr(shown), at)

    def _refuse(self, expected: str, got: str, at: int) -> NoReturn:
        raise InputError(f"formula {self.text!r}, character {at + 1}", expected=expected, got=got)
