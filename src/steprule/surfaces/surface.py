"""A surface is a function of x and y: value, exact gradient and JavaScript come from one expression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, cast

import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray
from sympy.printing.jscode import JavascriptCodePrinter
from sympy.printing.numpy import NumPyPrinter

from steprule.errors import InputError
from steprule.surfaces import elementary

Point = tuple[float, float]
Array = NDArray[np.float64]
X, Y = sympy.symbols("x y", real=True)


@dataclass(frozen=True)
class Surface:
    """A function of x and y, with its minima, a window for pictures, and a start for paths.

    >>> bowl = Surface("bowl", X**2 / 10 + 2 * Y**2, ((0.0, 0.0),), ((-5.5, 5.5), (-3.0, 3.0)), (-5.0, -2.0))
    >>> bowl.value([-5.0, -2.0]), bowl.gradient([-5.0, -2.0])
    (np.float64(10.5), array([-1., -8.]))
    """

    name: str
    expression: Any
    minima: tuple[Point, ...]
    window: tuple[Point, Point]
    """((lowest x, highest x), (lowest y, highest y))"""
    start: Point
    noise: float = 0.0
    """Standard deviation of the normal noise that a seeded path adds to each coordinate of the gradient."""
    cusps: tuple[Point, ...] = ()
    """Minima where the gradient is not defined; 0, a subgradient, is taken there."""

    def __post_init__(self) -> None:
        """Take any symbols that are called x and y. Raises `InputError` for an expression in anything else."""
        if not isinstance(self.expression, sympy.Expr):
            hint = "A formula as text is a surface of its own: steprule.surfaces.catalogue.get(text)."
            got = f"{type(self.expression).__name__} {self.expression!r}"
            raise InputError(f"surface {self.name}", expected="a sympy expression in x and y", got=got, hint=hint)
        ours = {"x": X, "y": Y}
        _check_places(self)
        symbols = self.expression.free_symbols
        strange = sorted(s.name for s in symbols if s.name not in ours)
        if strange:
            got = f"one in {', '.join(strange)}"
            raise InputError(f"surface {self.name}", expected="an expression in x and y", got=got)
        # Another symbol of the same name, as one that may be complex, would count as a constant with gradient 0.
        others = {s: ours[s.name] for s in symbols if s != ours[s.name]}
        if others:
            object.__setattr__(self, "expression", self.expression.xreplace(others))
        if not self.name:
            object.__setattr__(self, "name", self.formula)

    def __getstate__(self) -> dict[str, Any]:
        """The record alone: what was compiled from it cannot be pickled."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def value(self, points: ArrayLike) -> Any:
        """f at `points` [..., 2]: [...]."""
        p = np.asarray(points, dtype=np.float64)
        with np.errstate(all="ignore"):
            found = np.float64(1.0) * self._value(p[..., 0], p[..., 1])
        return found if found.shape == p.shape[:-1] else np.full(p.shape[:-1], found)  # of a constant it is one number

    def gradient(self, points: ArrayLike) -> Array:
        """(df/dx, df/dy) at `points` [..., 2], without noise: [..., 2]."""
        p = np.asarray(points, dtype=np.float64)
        with np.errstate(all="ignore"):
            dx, dy = self._gradient(p[..., 0], p[..., 1])
        shape = p.shape[:-1]
        g = np.stack([np.broadcast_to(dx, shape), np.broadcast_to(dy, shape)], axis=-1).astype(np.float64)
        for cusp in self.cusps:
            g[np.all(p == cusp, axis=-1)] = 0.0
        return g

    def holds(self, points: ArrayLike) -> Any:
        """Whether value and gradient are finite at `points` [..., 2]: [...]."""
        return np.isfinite(self.value(points)) & np.isfinite(self.gradient(points)).all(axis=-1)

    @property
    def minimum(self) -> float:
        """The least value; where no minimum is known, the least on a grid over the window."""
        if self.minima:
            return float(self.value(self.minima[0]))
        x, y = (np.linspace(low, high, GRID) for low, high in self.window)
        found = self.value(np.stack(np.meshgrid(x, y), axis=-1))
        return float(np.min(found[np.isfinite(found)], initial=np.inf))

    @property
    def formula(self) -> str:
        """The formula in the form that `get` and the command line read."""
        return str(self.expression).replace("**", "^").lower()

    @property
    def latex(self) -> str:
        """The formula in LaTeX."""
        return str(sympy.latex(self.expression))

    def javascript(self) -> tuple[str, str]:
        """f and its gradient as JavaScript functions of (x, y), which need `elementary.javascript()`; they give the same bits."""
        dx, dy = map(_in_javascript, self._derivatives)
        at_cusps = "".join(f"(x === {x!r} && y === {y!r}) ? [0, 0] : " for x, y in self.cusps)
        return f"(x, y) => {_in_javascript(self.expression)}", f"(x, y) => {at_cusps}[{dx}, {dy}]"

    @property
    def _derivatives(self) -> list[Any]:
        return [sympy.diff(self.expression, X), sympy.diff(self.expression, Y)]

    # The expression is taken as it stands: simplifying would change the arithmetic, and with it whole paths.
    @cached_property
    def _value(self) -> Callable[[Array, Array], Array]:
        return cast(Callable[[Array, Array], Array], _compiled(self.expression))

    @cached_property
    def _gradient(self) -> Callable[[Array, Array], list[Array]]:
        return cast(Callable[[Array, Array], list[Array]], _compiled(self._derivatives))


def _check_places(surface: Surface) -> None:
    """Check that points and window are pairs of floats. Raises `InputError`."""
    where = f"surface {surface.name}"
    for name in ("minima", "window", "start", "cusps"):
        given = getattr(surface, name)
        try:
            array = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            array = np.full(1, np.nan)
        wanted = {"start": (2,), "window": (2, 2)}.get(name, (len(array), 2) if array.ndim and array.size else (0,))
        if array.shape != wanted or not np.isfinite(array).all():
            expected = {"start": "two finite numbers (x, y)", "window": "((low, high) of x, (low, high) of y)"}
            raise InputError(f"{where}: {name}", expected=expected.get(name, "points (x, y)"), got=repr(given))
        plain = tuple(array.tolist()) if name == "start" else tuple(tuple(pair) for pair in array.tolist())
        object.__setattr__(surface, name, plain)
    if not all(low < high for low, high in surface.window):
        raise InputError(f"{where}: window", expected="low below high", got=repr(surface.window))


GRID = 201
"""Points per side at which the least value is looked for."""
LONGEST_PRODUCT = 64
_FUNCTIONS = elementary.python()


class _SameBits:
    """Prints whole powers as products, and sin, cos and exp by our own arithmetic, since libraries differ in the last bit."""

    def _print_sin(self, call: Any) -> str:
        return f"sine({self._print(call.args[0])})"  # type: ignore[attr-defined]

    def _print_cos(self, call: Any) -> str:
        return f"cosine({self._print(call.args[0])})"  # type: ignore[attr-defined]

    def _print_exp(self, call: Any) -> str:
        return f"exponential({self._print(call.args[0])})"  # type: ignore[attr-defined]

    def _print_Pow(self, power: Any, **settings: Any) -> str:  # noqa: N802  # sympy's name
        if not power.exp.is_Integer:
            return str(super()._print_Pow(power, **settings))  # type: ignore[misc]
        base, exponent = f"({self._print(power.base)})", int(power.exp)  # type: ignore[attr-defined]
        if abs(exponent) > LONGEST_PRODUCT:
            return f"({base}**({float(exponent)!r}))"  # the same words in both languages
        shown = f"({'*'.join([base] * abs(exponent))})"
        return shown if exponent > 0 else f"(1/{shown})"


class _Numpy(_SameBits, NumPyPrinter):  # type: ignore[misc]
    def _print_Integer(self, number: Any) -> str:  # noqa: N802  # sympy's name
        # numpy takes a Python int beyond 64 bits for an object, which has no sine.
        return str(int(number)) if abs(int(number)) < 2**53 else repr(float(number))


class _JavaScript(_SameBits, JavascriptCodePrinter):  # type: ignore[misc]
    pass


def _in_javascript(expression: Any) -> str:
    return str(_JavaScript().doprint(expression))


def _compiled(expression: Any) -> Any:
    printer = _Numpy({"fully_qualified_modules": False})
    return sympy.lambdify((X, Y), expression, [_FUNCTIONS, "numpy"], printer=printer)
