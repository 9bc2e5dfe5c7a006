"""Two-dimensional surfaces to walk on: value and exact gradient from one sympy expression each.

Each has a window to draw, a start, its minima, and where it says so a noise on the gradient. Simplest first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray
from sympy.printing.jscode import JavascriptCodePrinter
from sympy.printing.numpy import NumPyPrinter

from steprule.errors import unknown_name

Point = tuple[float, float]
Array = NDArray[np.float64]
X, Y = sympy.symbols("x y", real=True)


@dataclass(frozen=True)
class Surface:
    """A function of x and y, with what a picture of it needs.

    >>> bowl = get("quadratic")
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

    def value(self, points: ArrayLike) -> Any:
        """f at `points` [..., 2]: [...]."""
        p = np.asarray(points, dtype=np.float64)
        with np.errstate(all="ignore"):
            return np.float64(1.0) * self._value(p[..., 0], p[..., 1])

    def gradient(self, points: ArrayLike) -> Array:
        """(df/dx, df/dy) at `points` [..., 2], without noise: [..., 2]."""
        p = np.asarray(points, dtype=np.float64)
        with np.errstate(all="ignore"):
            both = [np.broadcast_to(d, p.shape[:-1]) for d in self._gradient(p[..., 0], p[..., 1])]
        g = np.stack(both, axis=-1).astype(np.float64)
        for cusp in self.cusps:
            g[np.all(p == cusp, axis=-1)] = 0.0
        return g

    @property
    def minimum(self) -> float:
        """The least value."""
        return float(self.value(self.minima[0]))

    @property
    def latex(self) -> str:
        """The formula."""
        return str(sympy.latex(self.expression))

    def javascript(self) -> tuple[str, str]:
        """f and its gradient as JavaScript functions of (x, y), in the same arithmetic: polynomials to the bit."""
        dx, dy = (_JavaScript().doprint(d) for d in self._derivatives)
        at = "".join(f"(x === {x!r} && y === {y!r}) ? [0, 0] : " for x, y in self.cusps)
        return f"(x, y) => {_JavaScript().doprint(self.expression)}", f"(x, y) => {at}[{dx}, {dy}]"

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


class _Products:
    """Whole powers as products: numpy's and a browser's `pow` need not agree in the last bit."""

    def _print_Pow(self, power: Any, **settings: Any) -> str:  # noqa: N802  # sympy's name
        if not power.exp.is_Integer:
            return str(super()._print_Pow(power, **settings))  # type: ignore[misc]
        base, exponent = f"({self._print(power.base)})", int(power.exp)  # type: ignore[attr-defined]
        shown = f"({'*'.join([base] * abs(exponent))})"
        return shown if exponent > 0 else f"(1/{shown})"


class _Numpy(_Products, NumPyPrinter):  # type: ignore[misc]
    pass


class _JavaScript(_Products, JavascriptCodePrinter):  # type: ignore[misc]
    pass


def _compiled(expression: Any) -> Any:
    return sympy.lambdify((X, Y), expression, "numpy", printer=_Numpy({"fully_qualified_modules": False}))


def _box(x: float, y: float | None = None) -> tuple[Point, Point]:
    return (-x, x), (-(y or x), y or x)


_R = sympy.Rational
_TANG = -2.903534027771177  # the least root of 4 x^3 - 32 x + 5
_HIMMELBLAU = (
    (3.0, 2.0),
    (-2.8051180869527448, 3.1313125182505730),
    (-3.7793102533777469, -3.2831859912861694),
    (3.5844283403304918, -1.8481265269644034),
)

SURFACES = MappingProxyType(
    {
        s.name: s
        for s in (
            Surface("quadratic", X**2 / 10 + 2 * Y**2, ((0.0, 0.0),), _box(5.5, 3.0), (-5.0, -2.0)),
            Surface("booth", (X + 2 * Y - 7) ** 2 + (2 * X + Y - 5) ** 2, ((1.0, 3.0),), _box(10.0), (-8.0, -6.0)),
            Surface(
                "rosenbrock",
                (1 - X) ** 2 + 100 * (Y - X**2) ** 2,
                ((1.0, 1.0),),
                ((-2.0, 2.0), (-1.0, 3.0)),
                (-1.5, 2.0),
            ),
            Surface(
                "beale",
                (_R(3, 2) - X + X * Y) ** 2 + (_R(9, 4) - X + X * Y**2) ** 2 + (_R(21, 8) - X + X * Y**3) ** 2,
                ((3.0, 0.5),),
                _box(4.5),
                (1.0, 1.5),
            ),
            Surface("himmelblau", (X**2 + Y - 11) ** 2 + (X + Y**2 - 7) ** 2, _HIMMELBLAU, _box(5.0), (-0.5, -1.0)),
            Surface(
                "three_hump_camel",
                2 * X**2 - _R(21, 20) * X**4 + X**6 / 6 + X * Y + Y**2,
                ((0.0, 0.0),),
                _box(2.5),
                (-0.9, 2.0),
            ),
            Surface(
                "styblinski_tang",
                (X**4 - 16 * X**2 + 5 * X + Y**4 - 16 * Y**2 + 5 * Y) / 2,
                ((_TANG, _TANG),),
                _box(5.0),
                (-0.5, -4.5),
            ),
            Surface(
                "rastrigin",
                20 + X**2 - 10 * sympy.cos(2 * sympy.pi * X) + Y**2 - 10 * sympy.cos(2 * sympy.pi * Y),
                ((0.0, 0.0),),
                _box(5.12),
                (-3.3, 2.7),
            ),
            Surface(
                "ackley",
                20
                + sympy.E
                - 20 * sympy.exp(-sympy.sqrt((X**2 + Y**2) / 2) / 5)
                - sympy.exp((sympy.cos(2 * sympy.pi * X) + sympy.cos(2 * sympy.pi * Y)) / 2),
                ((0.0, 0.0),),
                _box(5.0),
                (-3.4, 2.6),
                cusps=((0.0, 0.0),),
            ),
            # Bounded below, so that a path that leaves the saddle point arrives somewhere.
            Surface(
                "saddle",
                X**2 / 2 - Y**2 / 2 + Y**4 / 8,
                ((0.0, 2**0.5), (0.0, -(2**0.5))),
                _box(2.5),
                (-2.0, 0.01),
            ),
            Surface("noisy_ravine", X**2 / 20 + 5 * Y**2, ((0.0, 0.0),), _box(6.0, 3.0), (-5.0, 2.0), noise=1.0),
        )
    }
)


def get(name: str | Surface) -> Surface:
    """The surface of that name (`-` and `_` are the same), or of a formula in x and y.

    >>> get("x^2/10 + 2*y^2").value([-5.0, -2.0])
    np.float64(10.5)

    Raises `UnknownNameError` with the nearest name, `InputError` with the place of a mistake in a formula.
    """
    if isinstance(name, Surface):
        return name
    key = str(name).lower().replace("-", "_").replace(" ", "_")
    if key in SURFACES:
        return SURFACES[key]
    if not str(name).replace("-", "_").isidentifier() or key in ("x", "y"):
        return _of_formula(str(name))
    raise unknown_name("surface", name, SURFACES, hint="Or a formula in x and y: x^2/10 + 2*y^2.")


@lru_cache(maxsize=64)
def _of_formula(text: str) -> Surface:
    from steprule.problems.formulas import surface_of  # which needs Surface

    return surface_of(text)


def names() -> tuple[str, ...]:
    """The names of all surfaces, simplest first."""
    return tuple(SURFACES)
