"""The shapes of what a rule computes of matrices: which axes each quantity has, by name.

Axes are named as the parameter has them: ("rows", "columns") of a matrix, ("columns",) of a vector, with "axis0" and so on before
them. An axis that was reduced is "1". Both axes of a square matrix are "rows". Names and not sizes, so that tensors of many sizes share
one graph's source; the sizes of one tensor tell whether two axes fit, and what an `if` on them gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steprule.arithmetic.floats import not_a_matrix
from steprule.compiler.graph import Dims
from steprule.compiler.refusals import refuse


class ShapeNeededError(BaseException):
    """A rule asked for a shape while it was traced without one. No author's `except` may keep it."""


class Shapes:
    """The axes of a parameter as the rule sees it, and of what is computed from it."""

    def __init__(self, seen: tuple[int, ...]) -> None:
        names = [f"axis{k}" for k in range(len(seen) - 2)] + ["rows", "columns"]
        names = names[len(names) - len(seen) :]
        if len(seen) > 1 and seen[-1] == seen[-2]:
            names[-1] = "rows"
        self.p: Dims = tuple(names)
        self.sizes: Mapping[str, int] = {"1": 1, **dict(zip(names, seen, strict=True))}

    def of_slot(self, shape: str) -> Dims:
        """The axes of a slot, from `Slot.shape`."""
        if not shape or not self.p:
            return self.p
        rows, columns = ("1", *self.p)[-2:]
        of: Dims = {"row": (rows, "1"), "column": ("1", columns), "rows": (rows, rows), "columns": (columns, columns)}[
            shape
        ]
        if len(self.p) == 1 and shape in ("row", "column"):
            of = of[1:]
        return (*self.p[:-2], *of)

    def shown(self, dims: Dims) -> str:
        """In words: "rows x columns"."""
        return " x ".join(dims) or "one number"

    def broadcast(self, op: str, operands: Sequence[Dims]) -> Dims:
        """The axes of an operation element by element, as numpy."""
        found: list[str] = []
        longest = max(map(len, operands))
        for names in zip(*((*["1"] * (longest - len(d)), *d) for d in operands), strict=True):
            several = {n for n in names if n != "1"}
            if len(several) > 1:
                shown = " and ".join(self.shown(d) for d in operands)
                refuse(f"{op} of {shown}", "shapes that broadcast", "Compare rows(x) and columns(x) of each.")
            found.append(several.pop() if several else "1")
        return tuple(found)

    def reduced(self, op: str, dims: Dims, axis: int) -> Dims:
        """What a reduction along an axis leaves."""
        if len(dims) < -axis:
            raise not_a_matrix(op, tuple(self.sizes[d] for d in dims), axis=True)
        return tuple("1" if k == len(dims) + axis else name for k, name in enumerate(dims))

    def of_matrices(self, op: str, operands: Sequence[Dims]) -> Dims:
        """The axes of what a function of matrices gives."""
        for dims in operands:
            if len(dims) != 2:
                raise not_a_matrix("@" if op == "matmul" else op, tuple(self.sizes[d] for d in dims))
        a = operands[0]
        if op == "matmul":
            b = operands[1]
            if a[1] != b[0] and self.sizes[a[1]] != self.sizes[b[0]]:
                got = f"{self.shown(a)} @ {self.shown(b)}"
                refuse(got, "as many columns on the left as rows on the right", "x.T is the transpose.")
            return (a[0], b[1])
        if op == "transpose":
            return (a[1], a[0])
        if op == "qr":
            return (a[0], a[0]) if self.sizes[a[0]] < self.sizes[a[1]] else a
        if op in ("eigenvectors", "inverse_root") and a[0] != a[1]:
            refuse(f"{op} of {self.shown(a)}", "a square matrix", "x @ x.T is square and symmetric.")
        return a
