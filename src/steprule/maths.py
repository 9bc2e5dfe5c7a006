"""The closed vocabulary of a rule: Python's signs and twenty-eight functions, the same on every kind of number.

    + - * / ** < <= > >= & | ~            of each element; & | ~ of truth values
    % // == !=                            of numbers that are known before a step: hyperparameters and the step number
    sqrt exp log tanh atan2 abs sign      of each element
    minimum maximum clamp lerp where      of each element; both branches of `where` are evaluated
    bfloat16 float16                      of each element: rounded to that; cast(x, "bfloat16") is the same
    norm mean sum max min                 over the whole tensor: one number; with axis=-1 one per row, axis=-2 one per column
    total                                 over all tensors of the model: one number, in float64
    size rows columns ndim                of the shape; a plain `if` may ask for the last three
    @ .T                                  of matrices
    qr eigenvectors inverse_root sort_by  of matrices
    noise                                 a standard normal number for each element, another one in each step

A float is a matrix of one row and one column. What `axis=` leaves has one row or one column, so that it broadcasts as in numpy.

All follow torch on NaN, signed zero and inf, and none raises on a value (see `arithmetic/`). A plain bool as condition
picks in Python. Each function stands here with its row of the table (`operations.py`), each sign in `signs.py`.
"""

from __future__ import annotations

import math
from typing import Any

from steprule import signs as signs  # whose rows stand first in the table
from steprule.arithmetic import Real, Truth, apply, power, rounding, symmetric
from steprule.arithmetic.draws import supplied
from steprule.errors import RuleError
from steprule.modules import public
from steprule.operations import TABLE, Reduction, row


def _log(x: float) -> float:
    if x > 0:
        return math.log(x)
    return -math.inf if x == 0 else math.nan


# Functions of each element.


@row(latex=r"\sqrt{{{0}}}", triton_float32="tl.sqrt_rn({0})", floats=lambda x: math.sqrt(x) if x >= 0 else math.nan)
def sqrt(x: Any) -> Any:
    """The square root; nan below zero, and -0 at -0."""
    return apply("sqrt", x)


@row(latex="e^{{{0}}}", floats=math.exp)
def exp(x: Any) -> Any:
    """e to the power x; inf on overflow."""
    return apply("exp", x)


@row(latex=r"\ln", floats=_log)
def log(x: Any) -> Any:
    """The natural logarithm; -inf at zero, nan below."""
    return apply("log", x)


@row(latex=r"\tanh", floats=math.tanh, triton="tanh({0})")
def tanh(x: Any) -> Any:
    """The hyperbolic tangent, (e^x - e^-x) / (e^x + e^-x)."""
    return apply("tanh", x)


@row(
    latex=r"\operatorname{{atan2}}",
    floats=math.atan2,
    numpy="arctan2",
    numba="np.arctan2({0}, {1})",
    triton="atan2({0}, {1})",
)
def atan2(y: Any, x: Any) -> Any:
    """The angle of the point (x, y), in radians from -pi to pi; 0 where both are 0."""
    return apply("atan2", y, x)


@row(latex=r"\left|{0}\right|", floats=math.fabs, python="abs({0})", numba="np.abs({0})")
def abs(x: Any) -> Any:
    """The absolute value."""
    return apply("abs", x)


def _sign(x: Any) -> Any:
    return where(x > 0, 1.0, where(x < 0, -1.0, 0.0))


def _sign_of_one(x: float) -> float:
    if x > 0:
        return 1.0
    return -1.0 if x < 0 else 0.0


@row(latex=r"\operatorname{{sgn}}", torch="sign", body=_sign, floats=_sign_of_one)
def sign(x: Any) -> Any:
    """-1, 0 or 1; 0 for nan, as torch."""
    return apply("sign", x)


def _smaller(a: float, b: float) -> float:
    if a != a or b != b:
        return math.nan
    return b if b < a else a


def _larger(a: float, b: float) -> float:
    if a != a or b != b:
        return math.nan
    return b if b > a else a


@row(
    latex=r"\min", floats=_smaller,
    numba="{0} if ({0} < {1}) | ({0} != {0}) else {1}",
    triton="tl.where({0} < {1}, {0}, tl.where({0} != {0}, {0}, {1}))", javascript="Math.min({0}, {1})", over="amin",
)  # fmt: skip
def minimum(a: Any, b: Any) -> Any:
    """The smaller of two; nan if either is."""
    return apply("minimum", a, b)


# Triton's takes two picks, for its interpreter cannot join the truth of a number with that of a block.
@row(
    latex=r"\max", floats=_larger,
    numba="{0} if ({0} > {1}) | ({0} != {0}) else {1}",
    triton="tl.where({0} > {1}, {0}, tl.where({0} != {0}, {0}, {1}))", javascript="Math.max({0}, {1})", over="amax",
)  # fmt: skip
def maximum(a: Any, b: Any) -> Any:
    """The larger of two; nan if either is."""
    return apply("maximum", a, b)


@row(latex=r"\operatorname{{clamp}}", body=lambda x, low, high: minimum(maximum(x, low), high))
def clamp(x: Any, low: Any, high: Any) -> Any:
    """x brought into [low, high]; nan if any is nan, `high` where low > high."""
    return apply("clamp", x, low, high)


def _from_the_nearer_end(a: Any, b: Any, weight: Any) -> Any:
    near = abs(weight) < 0.5
    return where(near, a, b) + where(near, weight, weight - 1) * (b - a)


@row(body=_from_the_nearer_end)
def lerp(a: Any, b: Any, weight: Any) -> Any:
    """a + weight (b - a): a weighted mean that equals both ends where they are equal, and b exactly at weight 1.

    As torch, it starts at the nearer end: a up to a weight of 1/2, b from there.
    """
    return apply("lerp", a, b, weight)


@row(
    truths=(0,), latex=r"\begin{{cases}} {1} & \text{{if }} {0} \\ {2} & \text{{otherwise}} \end{{cases}}",
    floats=lambda condition, a, b: a if condition else b, numba="{1} if {0} else {2}",
    javascript="({0} ? {1} : {2})",
)  # fmt: skip
def where(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b. Both are evaluated; a plain bool picks one in Python."""
    decided = isinstance(condition, bool)
    if isinstance(condition, Truth):  # of two values of one shape only one need be looked at
        decided = hasattr(type(a), "shape") and hasattr(type(b), "shape") and a.shape == b.shape
    if decided:
        return a if condition else b
    return apply("where", condition, a, b)


@row(
    latex=r"\text{{bfloat16}}", floats=rounding.to_bfloat16, numpy=rounding.arrays_to_bfloat16,
    torch=lambda torch, x: x.to(torch.bfloat16), numba="from_bits16(to_bits16(np.float32({0})))",
    triton="{0}.to(tl.bfloat16).to(tl.float32)", javascript="bfloat16({0})",
)  # fmt: skip
def bfloat16(x: Any) -> Any:
    """x rounded to bfloat16: 8 significant bits and float32's range."""
    return apply("bfloat16", x)


@row(
    latex=r"\text{{float16}}", floats=rounding.to_float16, numpy=lambda np, x: x.astype(np.float16).astype(x.dtype),
    torch=lambda torch, x: x.to(torch.float16), numba="from_half(to_half(np.float32({0})))",
    triton="{0}.to(tl.float16).to(tl.float32)", javascript="float16({0})",
)  # fmt: skip
def float16(x: Any) -> Any:
    """x rounded to float16: 11 significant bits, up to 65,504."""
    return apply("float16", x)


def cast(x: Any, dtype: str) -> Any:
    """x rounded to "bfloat16" or "float16"; torch computes with the result in that dtype."""
    if dtype not in ROUNDED:
        raise RuleError("cast of steprule.maths", expected="one of " + ", ".join(map(repr, ROUNDED)), got=repr(dtype))
    return apply(dtype, x)


ROUNDED = ("bfloat16", "float16")
"""What `cast` rounds to."""


def _of_one_tensor(name: str, others: tuple[Any, ...]) -> None:
    if others:
        hint = f"Of two, write {name}imum(a, b)."
        raise RuleError(
            f"{name} of steprule.maths",
            expected="one tensor, of all whose elements it is",
            got=f"{len(others) + 1} arguments",
            hint=hint,
        )


# Reductions, in float64: over the whole tensor, or along an axis that stays, with one element. A float is a tensor of one.


def _reduce(name: str, x: Any, axis: int | None) -> Any:
    if axis is None:
        return apply(name, x)
    if type(axis) is not int or axis not in (-1, -2):
        hint = "axis=-1 goes along a row and leaves one number per row, axis=-2 leaves one per column."
        raise RuleError(f"{name} of steprule.maths: axis", expected="-1, -2 or nothing", got=repr(axis), hint=hint)
    return apply(name, x, axis)


@row(
    latex=r"\left\|{0}\right\|_2", torch="linalg.vector_norm",
    reduction=Reduction(lambda x: x * x, lambda total, count: sqrt(total), of_one=lambda x: abs(x)),
)  # fmt: skip
def norm(x: Any, *, axis: int | None = None) -> Any:
    """The Euclidean norm over the whole tensor; with axis=-1 of each row, with axis=-2 of each column."""
    return _reduce("norm", x, axis)


@row(latex=r"\operatorname{{mean}}", reduction=Reduction(lambda x: x, lambda total, count: total / count))
def mean(x: Any, *, axis: int | None = None) -> Any:
    """The mean over the whole tensor; with axis=-1 of each row, with axis=-2 of each column."""
    return _reduce("mean", x, axis)


@row(latex=r"\operatorname{{sum}}", reduction=Reduction(lambda x: x))
def sum(x: Any, *, axis: int | None = None) -> Any:
    """The sum over the whole tensor; with axis=-1 of each row, with axis=-2 of each column."""
    return _reduce("sum", x, axis)


@row(latex=r"\max", reduction=Reduction(lambda x: x, join="maximum", start=-math.inf))
def max(x: Any, *others: Any, axis: int | None = None) -> Any:
    """The largest element of the whole tensor, of each row (axis=-1) or of each column (axis=-2).

    It is nan if any is, and -inf without elements.
    """
    _of_one_tensor("max", others)
    return _reduce("max", x, axis)


@row(latex=r"\min", reduction=Reduction(lambda x: x, join="minimum", start=math.inf))
def min(x: Any, *others: Any, axis: int | None = None) -> Any:
    """The smallest element of the whole tensor, of each row (axis=-1) or of each column (axis=-2).

    It is nan if any is, and inf without elements.
    """
    _of_one_tensor("min", others)
    return _reduce("min", x, axis)


@row(latex=r"\operatorname{{size}}", reduction=Reduction(lambda x: x**0, of_one=lambda x: x**0))
def size(x: Any) -> Any:
    """The number of elements of the whole tensor."""
    return apply("size", x)


@row(latex=r"\sum_{{\mathrm{{all}}}}", reduction=Reduction(lambda x: x), over_model=True)
def total(x: Any) -> Any:
    """The sum over all elements of all tensors that the optimizer steps now, in float64. A number counts once per tensor.

    Called by hand it is the sum over one tensor: that is then the whole model.
    """
    return apply("total", x)


# Numbers of the shape.


@row(latex=r"\operatorname{{rows}}", of_shape=lambda shape: shape[-2] if len(shape) > 1 else 1)
def rows(x: Any) -> Any:
    """The number of rows, the last axis but one; 1 for a vector or a number."""
    return apply("rows", x)


@row(latex=r"\operatorname{{columns}}", of_shape=lambda shape: shape[-1] if shape else 1)
def columns(x: Any) -> Any:
    """The number of columns, the last axis; 1 for a number."""
    return apply("columns", x)


@row(latex=r"\operatorname{{ndim}}", of_shape=len)
def ndim(x: Any) -> Any:
    """The number of axes: 2 for a matrix, 1 for a vector, 0 for a number."""
    return apply("ndim", x)


# Matrices. What a NaN or an infinity meets becomes NaN, and nothing raises.


@row(
    latex="{{{0}}}^{{\\top}}", of_matrices=True, floats=lambda x: x, numpy=lambda np, x: np.swapaxes(x, -1, -2),
    torch=lambda torch, x: x.mT,
)  # fmt: skip
def transpose(x: Any) -> Any:
    """The transpose; in a rule, write x.T."""
    return apply("transpose", x)


@row(
    latex=r"\operatorname{{qr}}", of_matrices=True, floats=lambda x: 1.0, numpy=lambda np, x: np.linalg.qr(x)[0],
    torch=lambda torch, x: torch.linalg.qr(x).Q,
)  # fmt: skip
def qr(x: Any) -> Any:
    """Q of x = Q R, with R upper triangular: orthonormal columns that span those of x."""
    return apply("qr", x)


@row(
    latex=r"\operatorname{{eigenvectors}}", of_matrices=True, floats=lambda x: 1.0, numpy=symmetric.descending, torch=symmetric.descending,
)  # fmt: skip
def eigenvectors(x: Any) -> Any:
    """The orthonormal eigenvectors of a symmetric matrix, as columns, that of the largest eigenvalue first."""
    return apply("eigenvectors", x)


def _root_of_one(x: float, k: float, ridge: float | None = None) -> float:
    if ridge is not None:
        x = (0.0 if x < 0 else x) + ridge
    return power(x, Real(-1.0) / k)


@row(latex="{{{0}}}^{{-1/{1}}}", of_matrices=True, floats=_root_of_one, numpy=symmetric.root, torch=symmetric.root)
def inverse_root(x: Any, k: Any, ridge: Any = None) -> Any:
    """x to the power -1/k, for a symmetric matrix with eigenvalues above zero: V diag(lambda^(-1/k)) V.T.

    With a `ridge`, above zero, it is that of x + ridge I, for eigenvalues from zero: those that rounding takes below it count as zero.
    """
    return apply("inverse_root", x, k) if ridge is None else apply("inverse_root", x, k, ridge)


def _sorted_by_numpy(np: Any, x: Any, keys: Any, axis: int) -> Any:
    order = np.broadcast_to(np.argsort(-keys, axis=axis, kind="stable"), x.shape)
    return np.take_along_axis(x, order, axis)


def _sorted_by_torch(torch: Any, x: Any, keys: Any, axis: int) -> Any:
    return torch.take_along_dim(x, torch.argsort(keys, dim=axis, descending=True, stable=True), axis)


@row(
    latex=r"\operatorname{{sort}}", of_matrices=True, floats=lambda x, keys, axis: x, numpy=_sorted_by_numpy,
    torch=_sorted_by_torch,
)  # fmt: skip
def sort_by(x: Any, keys: Any, *, axis: int) -> Any:
    """The columns of x (axis=-1) or its rows (axis=-2) in the order of their keys, the largest first; `keys` as `axis` leaves them."""
    return apply("sort_by", x, keys, axis)


def noise(x: Any) -> Any:
    """A standard normal number for each element of the parameter x, from a counter: seed, tensor, step, and which call of the step it is.

    Every form of a rule has the same bits. Whoever steps the rule supplies them; called by hand, the rule takes them as `noise=`.
    """
    supply = supplied()
    if supply is None:
        hint = "Call the rule with noise=..., or step it: by its class, train, sweep, race or trace."
        raise RuleError("noise of steprule.maths", expected="a step that supplies it", got="a call outside", hint=hint)
    return supply(x)


OPERATIONS = TABLE
"""The table, complete."""
NAMES = tuple(name for name, row in TABLE.items() if not row.sign)
"""Of the functions, in this order."""
__all__ = [*NAMES, "cast", "noise"]

__dir__ = public(globals())
