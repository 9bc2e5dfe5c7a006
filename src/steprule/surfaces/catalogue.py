"""The package's surfaces, simplest first.

Each has a window to draw, a start, its minima and, where it says so, noise on the gradient.
"""

from __future__ import annotations

from types import MappingProxyType

import sympy

from steprule.errors import InputTypeError, unknown_name
from steprule.surfaces.formulas import is_formula, surface_of
from steprule.surfaces.surface import Point, Surface, X, Y


def _box(x: float, y: float | None = None) -> tuple[Point, Point]:
    """A window around 0; a square where y is not given."""
    if y is None:
        y = x
    return (-x, x), (-y, y)


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
    """The surface with this name (`-` and `_` are the same), or of a formula in x and y.

    >>> get("x^2/10 + 2*y^2").value([-5.0, -2.0])
    np.float64(10.5)

    Raises `UnknownNameError` with the nearest name, `InputError` with the place of a mistake in a formula, `InputTypeError` for anything
    else, such as a Python function.
    """
    if isinstance(name, Surface):
        return name
    if not isinstance(name, str):
        expected = 'a surface, its name, or a formula as text, such as "x^2/10 + 2*y^2"'
        if not callable(name):
            raise InputTypeError("surface", expected=expected, got=repr(name))
        got = f"the function {getattr(name, '__name__', name)}"
        hint = "A Python function has no formula and no page: write it as text."
        raise InputTypeError("surface", expected=expected, got=got, hint=hint)
    key = name.lower().replace("-", "_").replace(" ", "_")
    if key in SURFACES:
        return SURFACES[key]
    if is_formula(name):
        return surface_of(name)
    raise unknown_name("surface", name, SURFACES, hint="Or a formula in x and y: x^2/10 + 2*y^2.")


def names() -> tuple[str, ...]:
    """The names of all surfaces, simplest first."""
    return tuple(SURFACES)
