"""sin, cos and exp by sums and products alone, so that numpy and browsers give the same bits everywhere.

Libraries differ in the last place, and numpy differs with the processor. Near a stationary point a gradient's terms cancel, and only
that place is left; a rule that divides by the gradient's size makes a whole step of it, and paths part. Sums, products and `floor`
are the same everywhere (IEEE 754). Each function is one list of assignments whose right sides mean the same in Python and in
JavaScript. Errors stay below two units in the last place.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import sympy


def _split(number: Any, bits: int) -> tuple[float, float, float]:
    """A number as the sum of three: two have `bits` bits, so that small multiples of them are exact; the third is the rest."""
    decimals = str(sympy.N(number, 60))
    rest = sympy.Rational(decimals)
    parts = []
    for k in (1, 2):
        high = sympy.floor(rest * 2 ** (bits * k)) / sympy.Integer(2) ** (bits * k)
        parts.append(float(high))
        rest -= high
    return parts[0], parts[1], float(rest)


def _series(z: str, orders: range, sign: int = 1) -> str:
    """The sum of 1/n! z^k over the orders n, k from 0, with alternating signs where `sign` is -1."""
    text = ""
    for k, n in reversed(list(enumerate(orders))):
        term = repr(sign**k / math.factorial(n))
        text = f"({term} + {z} * {text})" if text else f"({term})"
    return text


_P1, _P2, _P3 = _split(sympy.pi / 2, 32)
_L1, _L2, _L3 = _split(sympy.log(2), 32)

# x = k pi/2 + r, |r| <= pi/4; the cosine is the sine `turn` = 1 quarter of a turn later.
_TURNED = (
    ("k", f"floor(x * {2 / math.pi!r} + 0.5)"),
    ("r", f"((x - k * {_P1!r}) - k * {_P2!r}) - k * {_P3!r}"),
    ("z", "r * r"),
    ("s", f"r - r * z * {_series('z', range(3, 18, 2), -1)}"),
    ("w", "1 - z / 2"),
    ("c", f"w + (((1 - w) - z / 2) + z * z * {_series('z', range(4, 19, 2), -1)})"),
    ("q", "(k + turn) - 4 * floor((k + turn) / 4)"),
    ("f", "where(q - 2 * floor(q / 2) > 0, c, s)"),
    ("out", "where(q < 2, f, -f)"),
)
# x = k log 2 + r, |r| <= log(2)/2.
_EXPONENTIAL = (
    ("k", f"floor(x * {1 / math.log(2)!r} + 0.5)"),
    ("r", f"((x - k * {_L1!r}) - k * {_L2!r}) - k * {_L3!r}"),
    ("out", f"(1 + (r + r * r * {_series('r', range(2, 15))})) * two_to(k)"),
)
# By name: the library's function, the assignments, and the largest |x| for which they hold; beyond it, and for nan, the library answers.
_FUNCTIONS = {
    "sine": ("sin", (("turn", "0"), *_TURNED), 1e5),
    "cosine": ("cos", (("turn", "1"), *_TURNED), 1e5),
    "exponential": ("exp", _EXPONENTIAL, 700.0),
}


def python() -> dict[str, Any]:
    """The functions by name, for arrays."""
    known: dict[str, Any] = {"floor": np.floor, "where": np.where, "abs": np.abs, "two_to": _two_to}
    for name, (library, lines, limit) in _FUNCTIONS.items():
        body = "".join(f"    {left} = {right}\n" for left, right in lines)
        head = f"def {name}(x):\n    near = abs(x) < {limit!r}\n    far, x = x, where(near, x, 0.0)\n"
        known[library] = getattr(np, library)
        exec(f"{head}{body}    return where(near, out, {library}(where(near, 0.0, far)))\n", known)
    return {name: known[name] for name in _FUNCTIONS}


def _two_to(k: Any) -> Any:
    return np.ldexp(1.0, np.asarray(k).astype(int))


# two_to gives an exact power of two, in few steps where the exponent is small; a browser's ** need not be exact.
_PRELUDE = """const { abs, floor } = Math, where = (yes, a, b) => (yes ? a : b);
const two_to = (k) => { let m = 1; for (let i = abs(k); i > 0; i--) m *= k < 0 ? 0.5 : 2; return m; };"""


def javascript() -> str:
    """The three functions as one JavaScript declaration."""
    printed = []
    for name, (library, lines, limit) in _FUNCTIONS.items():
        body = " ".join(f"const {left} = {right};" for left, right in lines)
        printed.append(f"{name}: (x) => {{ if (!(abs(x) < {limit!r})) return Math.{library}(x); {body} return out; }}")
    functions = ",\n".join(printed)
    return f"const {{ {', '.join(_FUNCTIONS)} }} = (() => {{\n{_PRELUDE}\nreturn {{\n{functions}\n}}; }})();"
