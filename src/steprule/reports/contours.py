"""Where a surface is no higher than a level: closed curves by marching squares, on a grid of its values."""

from __future__ import annotations

import numpy as np

from steprule.surfaces.surface import Array

_TURNS = {
    1: ("BL",), 2: ("RB",), 3: ("RL",), 4: ("TR",), 5: ("BL", "TR"), 6: ("TB",), 7: ("TL",), 8: ("LT",), 9: ("BT",),
    10: ("RB", "LT"), 11: ("RT",), 12: ("LR",), 13: ("BR",), 14: ("LB",),
}  # fmt: skip
"""By which corners lie inside (1, 2, 4, 8 from the lower left, against the clock): from which side of a cell the curve goes to which,
the inside on its left."""
HIGH = 1e300
"""Above every level."""
Crossing = tuple[bool, int, int]
"""A side of a cell that a curve crosses: whether it is upright, and the row and column where it begins."""


def curves(x: Array, y: Array, values: Array, level: float) -> list[Array]:
    """The closed curves [points, 2] around `values <= level`, where `values` [y, x] are given at x and y.

    What is not finite counts as above the level. At the border of the grid the curves run along it.
    """
    x, y = np.pad(x, 1, mode="edge"), np.pad(y, 1, mode="edge")
    heights = np.pad(np.where(np.isfinite(values), values, HIGH), 1, constant_values=HIGH)
    after = _turns(heights <= level)
    found = []
    while after:
        crossing, _ = next(iter(after.items()))
        curve = []
        while crossing in after:
            curve.append(_place(crossing, x, y, heights, level))
            crossing = after.pop(crossing)
        found.append(np.array(curve))
    return found


def _turns(inside: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> dict[Crossing, Crossing]:
    """By crossing the next one of its curve."""
    low, high = inside[:-1], inside[1:]
    corners = low[:, :-1] + 2 * low[:, 1:] + 4 * high[:, 1:] + 8 * high[:, :-1]
    found: dict[Crossing, Crossing] = {}
    for row, column in np.argwhere((corners > 0) & (corners < 15)).tolist():
        sides = {
            "B": (False, row, column), "T": (False, row + 1, column), "L": (True, row, column), "R": (True, row, column + 1),
        }  # fmt: skip
        for turn in _TURNS[int(corners[row, column])]:
            found[sides[turn[0]]] = sides[turn[1]]
    return found


def _place(crossing: Crossing, x: Array, y: Array, heights: Array, level: float) -> tuple[float, float]:
    """Where on the side the level is reached, taken to be a straight line between its ends."""
    upright, row, column = crossing
    begin, end = (row, column), (row + upright, column + (not upright))
    a, b = heights[begin], heights[end]
    share = (level - a) / (b - a)
    return (
        float(x[begin[1]] + share * (x[end[1]] - x[begin[1]])),
        float(y[begin[0]] + share * (y[end[0]] - y[begin[0]])),
    )
