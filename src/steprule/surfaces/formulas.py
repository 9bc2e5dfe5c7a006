"""Reads a surface that is typed as a formula in x and y, by a strict grammar; nothing is evaluated as code.

    sum      product (("+" | "-") product)*
    product  sign (("*" | "/") sign)*
    sign     "-" sign | power
    power    atom (("^" | "**") sign)?      the exponent holds neither x nor y
    atom     number | x | y | pi | e | function "(" sum ")" | "(" sum ")"

A part without x and y is a constant. A constant must be a finite real number, an exponent of x or y at most 1000, and a divisor other
than 0: so a line of text cannot ask for a number of a billion digits.

The playground's page reads the same grammar (`play/page/formula.js`); a test compares the two.
"""

from __future__ import annotations

import math
import re
import sys
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import numpy as np
import sympy

from steprule.errors import InputError, unknown_name
from steprule.surfaces.surface import Array, Point, Surface, X, Y

FUNCTIONS = ("sin", "cos", "tan", "tanh", "exp", "log", "sqrt", "abs")
LONGEST = 200
LARGEST_EXPONENT = 1000
EXACT_BITS = 1000
"""Constants are exact fractions of at most this length; a longer one becomes the nearest float64, as in the page."""
WINDOW: tuple[Point, Point] = (-5.0, 5.0), (-5.0, 5.0)
START = (-4.0, 3.0)
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(\*\*|[-+*/^()]))")


class Term(NamedTuple):
    """Part of a formula: its expression, and its value in float64 where it is a constant."""

    expression: Any
    constant: float | None


NAMES = {"x": Term(X, None), "y": Term(Y, None), "pi": Term(sympy.pi, math.pi), "e": Term(sympy.E, math.e)}


@lru_cache(maxsize=64)
def surface_of(text: str) -> Surface:
    """The surface of a formula, with its minimum in the window [-5, 5] x [-5, 5].

    >>> surface_of("x^2/10 + 2*y^2").gradient([-5.0, -2.0])
    array([-1., -8.])

    Raises `InputError` with the place of the mistake.
    """
    expression = parse(text)
    bare = Surface(text, expression, (), WINDOW, START)
    side = np.linspace(-5, 5, 201)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    values = bare.value(grid)
    if not np.isfinite(values).any():
        raise InputError(f"formula {text!r}", expected="finite values somewhere in [-5, 5] x [-5, 5]", got="none")
    finite = np.where(np.isfinite(values), values, np.nan)
    best = grid[int(np.nanargmin(finite))]
    bottom = _bottom(bare, best)
    # Towards a pole the value falls too, but the slope grows.
    if np.linalg.norm(bare.gradient(bottom)) <= np.linalg.norm(bare.gradient(best)):
        best = bottom
    return Surface(text, expression, ((float(best[0]), float(best[1])),), WINDOW, _start(bare))


@np.errstate(all="ignore")
def _bottom(surface: Surface, point: Array) -> Array:
    """The lowest point of the hollow that `point` lies in: Newton's steps, each shortened until it goes down."""
    low, high = WINDOW[0]
    damping = 1e-6
    aside = 1e-5 * np.eye(2)
    for _ in range(400):
        slope = surface.gradient(point)
        bend = (surface.gradient(point + aside) - surface.gradient(point - aside)) / 2e-5
        if damping > 1e12 or not np.isfinite([*slope, *bend.flat]).all():
            break
        curvature, axes = np.linalg.eigh((bend + bend.T) / 2)
        step = axes @ (axes.T @ slope / (np.abs(curvature) + damping))
        tried = np.clip(point - step, low, high)
        if surface.value(tried) < surface.value(point):
            point, damping = tried, max(damping / 100, 1e-12)
        else:
            damping *= 10
    return point


def _start(surface: Surface) -> Point:
    """The first place where value and gradient are finite: `START`, its mirror images, then the points of a grid, nearest first.

    The playground's page does the same (`play/page/state.js`).
    """
    x, y = START
    side = np.linspace(-5, 5, 41)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    grid = grid[np.argsort(((grid - START) ** 2).sum(axis=1), kind="stable")]
    tried = np.array([(x, y), (x, -y), (-x, y), (-x, -y), *grid])
    held = np.flatnonzero(surface.holds(tried))
    return tuple(tried[held[0]].tolist()) if len(held) else START


def is_formula(text: str) -> bool:
    """Whether a text is meant as a formula, as `x-2` is, or as a surface's name, as `noisy-ravin` is.

    >>> is_formula("x-2"), is_formula("noisy-ravin"), is_formula("sn(x)")
    (True, False, True)
    """
    words = re.findall(r"[A-Za-z_]\w*", text)
    return bool(re.search(r"[^\w\s-]", text)) or all(word in (*NAMES, *FUNCTIONS) for word in words)


def parse(text: str) -> Any:
    """The sympy expression of a formula."""
    term = _Parser(text).whole()
    if term.constant is not None or not term.expression.free_symbols:
        raise InputError(f"formula {text!r}", expected="x or y in it", got="a constant")
    return term.expression


def _bits(number: Any) -> int:
    return max(int(number.p).bit_length(), int(number.q).bit_length())


def _as_float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


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

    def whole(self) -> Term:
        found = self.sum()
        if self.tokens[self.next][0] != "end":
            self._expected("an operator or the end")
        return found

    def sum(self) -> Term:
        began, found = self.next, self.product()
        while self._at("+", "-"):
            plus = self._take() == "+"
            other = self.product()
            found = self._joined(began, np.add if plus else np.subtract, found, other)
        return found

    def product(self) -> Term:
        began, found = self.next, self.sign()
        while self._at("*", "/"):
            times, at = self._take() == "*", self.next
            other = self.sign()
            if not times and other.constant == 0:
                self._expected("a divisor other than 0", at)
            found = self._joined(began, np.multiply if times else np.divide, found, other)
        return found

    def sign(self) -> Term:
        self.depth += 1
        if self.depth > 50:
            self._expected("at most 50 brackets and signs inside each other")
        if self._at("-"):
            self._take()
            expression, constant = self.sign()
            found = Term(-expression, None if constant is None else -constant)
        else:
            began, found = self.next, self.atom()
            if self._at("^", "**"):
                self._take()
                at = self.next
                exponent = self.sign()
                if exponent.constant is None:
                    self._expected("an exponent without x and y", at)
                if found.constant is None and abs(exponent.constant) > LARGEST_EXPONENT:
                    self._expected(f"an exponent from -{LARGEST_EXPONENT} to {LARGEST_EXPONENT}", at)
                found = self._joined(began, np.power, found, exponent)
        self.depth -= 1
        return found

    def atom(self) -> Term:
        began = self.next
        kind, shown, at = self.tokens[began]
        if kind == "number":
            self._take()
            value = self._finite(began, float(shown))
            tiny = value < sys.float_info.min
            return Term(sympy.Rational(value if tiny else shown), value)
        if kind == "name":
            self._take()
            if shown in NAMES:
                return NAMES[shown]
            if shown not in FUNCTIONS:
                where = f" at character {at + 1} of formula {self.text!r}"
                raise unknown_name("name", shown, [*NAMES, *FUNCTIONS], where=where)
            if not self._at("("):
                self._expected(f"( after {shown}")
            return self._joined(began, getattr(np, shown), self.atom())
        if shown == "(":
            self._take()
            found = self.sum()
            if not self._at(")"):
                self._expected("an operator or )")
            self._take()
            return found
        return self._expected("a number, x, y, a function or (")

    def _joined(self, began: int, operation: np.ufunc, *terms: Term) -> Term:
        """The operation on terms; constants are first computed in float64, which bounds the work of sympy."""
        expressions = [t.expression for t in terms]
        numbers = [np.float64(t.constant) for t in terms if t.constant is not None]
        value = None
        if len(numbers) == len(terms):
            with np.errstate(all="ignore"):
                value = self._finite(began, float(operation(*numbers)))
            exact = all(e.is_Rational for e in expressions)
            if operation is np.power and exact and _bits(expressions[0]) * abs(numbers[1]) > EXACT_BITS:
                return Term(sympy.Rational(value), value)
        joined = _SYMBOLIC[operation](*expressions)
        return Term(self._short(began, joined), value)

    def _short(self, began: int, expression: Any) -> Any:
        """The expression, with the nearest float64 in place of each fraction that has grown too long.

        sympy gathers numbers that the text keeps apart: 1e200*x*1e200, (9*x)^900.
        """
        shorter = {}
        for number in expression.atoms(sympy.Rational):
            if _bits(number) > EXACT_BITS:
                shorter[number] = sympy.Rational(self._finite(began, _as_float(number)))
        return expression.xreplace(shorter)

    def _finite(self, began: int, value: float) -> float:
        if not math.isfinite(value):
            self._refuse("a finite number", f"{value}", self.tokens[began][2])
        return value

    def _at(self, *signs: str) -> bool:
        return self.tokens[self.next][0] == "sign" and self.tokens[self.next][1] in signs

    def _take(self) -> str:
        self.next += 1
        return self.tokens[self.next - 1][1]

    def _expected(self, what: str, place: int | None = None) -> NoReturn:
        kind, shown, at = self.tokens[self.next if place is None else place]
        self._refuse(what, shown if kind == "end" else repr(shown), at)

    def _refuse(self, expected: str, got: str, at: int) -> NoReturn:
        raise InputError(f"formula {self.text!r}, character {at + 1}", expected=expected, got=got)


_SYMBOLIC: dict[np.ufunc, Any] = {
    np.add: lambda a, b: a + b,
    np.subtract: lambda a, b: a - b,
    np.multiply: lambda a, b: a * b,
    np.divide: lambda a, b: a / b,
    np.power: lambda a, b: a**b,
    np.abs: sympy.Abs,
} | {getattr(np, n): getattr(sympy, n) for n in FUNCTIONS if n != "abs"}
