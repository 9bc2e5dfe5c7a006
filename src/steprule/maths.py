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
picks in Python. Each function stands here with its row of the table (`operations.py`).
"""

from __future__ import annotations

import math
import operator
from typing import Any

from steprule.arithmetic import Real, Truth, apply, power
from steprule.arithmetic.draws import supplied
from steprule.errors import RuleError
from steprule.modules import public
from steprule.operations import AND, COMPARISON, OR, POWER, PRODUCT, SIGN, SUM, TABLE, Reduction, row

# Signs: of each the name, the sign, Python's method, how strongly it binds.

_add = row(name="add", sign="+", method="add", strength=SUM, over="sum")(operator.add)
_sub = row(name="sub", sign="-", method="sub", strength=SUM)(operator.sub)
_mul = row(name="mul", sign="*", method="mul", strength=PRODUCT, latex=r"{0} \, {1}")(operator.mul)
_div = row(
    name="div", sign="/", method="truediv", strength=PRODUCT, latex=r"\frac{{{0}}}{{{1}}}",
    triton_float32="tl.div_rn({0}, {1})",
)(operator.truediv)  # fmt: skip
_mod = row(
    name="mod", sign="%", method="mod", strength=PRODUCT, latex=r"{0} \bmod {1}", of_the_step=True,
    javascript="modulo({0}, {1})",
)(operator.mod)  # fmt: skip
_floordiv = row(
    name="floordiv", sign="//", method="floordiv", strength=PRODUCT, of_the_step=True,
    latex=r"\left\lfloor {0} / {1} \right\rfloor", javascript="floorDivide({0}, {1})",
)(operator.floordiv)  # fmt: skip
_neg = row(name="neg", sign="-", method="neg", strength=SIGN)(operator.neg)
_pow = row(
    name="pow", sign="**", method="pow", strength=POWER, latex="{{{0}}}^{{{1}}}", floats=power,
    python="power({0}, {1})", numba="{0} ** {1}", triton="power({0}, {1})", javascript="power({0}, {1})",
)(operator.pow)  # fmt: skip
_matmul = row(
    name="matmul", sign="@", method="matmul", strength=PRODUCT, latex=r"{0} \, {1}", of_matrices=True,
    floats=operator.mul, numpy="matmul", torch="matmul",
)(operator.matmul)  # fmt: skip
_lt = row(name="lt", sign="<", method="lt", strength=COMPARISON, truth=True)(operator.lt)
_le = row(name="le", sign="<=", method="le", strength=COMPARISON, truth=True, latex=r"{0} \le {1}")(operator.le)
_gt = row(name="gt", sign=">", method="gt", strength=COMPARISON, truth=True)(operator.gt)
_ge = row(name="ge", sign=">=", method="ge", strength=COMPARISON, truth=True, latex=r"{0} \ge {1}")(operator.ge)
_eq = row(name="eq", sign="==", method="eq", strength=COMPARISON, truth=True, of_the_step=True, latex="{0} = {1}")(
    operator.eq
)
_ne = row(name="ne", sign="!=", method="ne", strength=COMPARISON, truth=True, of_the_step=True, latex=r"{0} \ne {1}")(
    operator.ne
)
_and = row(
    name="and", sign="&", method="and", strength=AND, truth=True, truths=(0, 1), latex=r"{0} \land {1}",
    triton="tl.where({0}, {1}, {0})", javascript="({0} && {1})",
)(operator.and_)  # fmt: skip
_or = row(
    name="or", sign="|", method="or", strength=OR, truth=True, truths=(0, 1), latex=r"{0} \lor {1}",
    triton="tl.where({0}, {0}, {1})", javascript="({0} || {1})",
)(operator.or_)  # fmt: skip
_not = row(
    name="not", sign="~", method="invert", strength=SIGN, truth=True, truths=(0,), latex=r"\lnot {0}",
    python="not {0}", numba="not {0}", triton="{0} == 0", javascript="!{0}",
)(operator.invert)  # fmt: skip


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan


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


@row(
    latex=r"\operatorname{{sgn}}", torch="sign", body=_sign,
    floats=lambda x: 1.0 if x > 0 else -1.0 if x < 0 else 0.0,
)  # fmt: skip
def sign(x: Any) -> Any:
    """-1, 0 or 1; 0 for nan, as torch."""
    return apply("sign", x)


@row(
    latex=r"\min", floats=lambda a, b: math.nan if a != a or b != b else b if b < a else a,
    numba="{0} if ({0} < {1}) | ({0} != {0}) else {1}",
    triton="tl.where({0} < {1}, {0}, tl.where({0} != {0}, {0}, {1}))", javascript="Math.min({0}, {1})", over="amin",
)  # fmt: skip
def minimum(a: Any, b: Any) -> Any:
    """The smaller of two; nan if either is."""
    return apply("minimum", a, b)


# Triton's takes two picks, for its interpreter cannot join the truth of a number with that of a block.
@row(
    latex=r"\max", floats=lambda a, b: math.nan if a != a or b != b else b if b > a else a,
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
    if isinstance(condition, Truth):  # of two of one shape the other need not be looked at
        decided = hasattr(type(a), "shape") and hasattr(type(b), "shape") and a.shape == b.shape
    return (a if condition else b) if decided else apply("where", condition, a, b)


def _bits_of(x: float, kept: int) -> float:
    """x rounded to so many significant bits, half to even."""
    fraction, exponent = math.frexp(x)
    return math.ldexp(float(round(fraction * 2**kept)), exponent - kept)


def _to_bfloat16(x: float) -> float:
    if not math.isfinite(x) or x == 0:
        return x
    found = _bits_of(x, 8) if math.fabs(x) >= 2.0**-126 else round(x * 2.0**133) * 2.0**-133
    return math.copysign(math.inf, x) if math.fabs(found) > 3.3895313892515355e38 else found


def _to_float16(x: float) -> float:
    if not math.isfinite(x) or x == 0:
        return x
    found = _bits_of(x, 11) if math.fabs(x) >= 2.0**-14 else round(x * 2.0**24) * 2.0**-24
    return math.copysign(math.inf, x) if math.fabs(found) > 65504 else found


def _bfloat16_of_arrays(np: Any, x: Any) -> Any:
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(x), x, rounded.astype(x.dtype))


@row(
    latex=r"\text{{bfloat16}}", floats=_to_bfloat16, numpy=_bfloat16_of_arrays,
    torch=lambda torch, x: x.to(torch.bfloat16), numba="from_bits16(to_bits16(np.float32({0})))",
    triton="{0}.to(tl.bfloat16).to(tl.float32)", javascript="bfloat16({0})",
)  # fmt: skip
def bfloat16(x: Any) -> Any:
    """x rounded to bfloat16: 8 significant bits and float32's range."""
    return apply("bfloat16", x)


@row(
    latex=r"\text{{float16}}", floats=_to_float16, numpy=lambda np, x: x.astype(np.float16).astype(x.dtype),
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


def _finite(library: Any, x: Any) -> Any:
    """Whether all of each matrix is finite, [..., 1, 1]."""
    return library.isfinite(x).all(-1).all(-1)[..., None, None]


def _of_symmetric(function: Any) -> Any:
    """A function of a symmetric matrix by its eigenvalues, ascending, and its eigenvectors; NaN where it is not finite."""

    def called(library: Any, x: Any, *others: Any) -> Any:
        finite = _finite(library, x)
        eye = library.eye(x.shape[-1], dtype=x.dtype, **({"device": x.device} if hasattr(x, "is_cuda") else {}))
        values, vectors = library.linalg.eigh(library.where(finite, x, eye))
        return library.where(finite, function(library, values, vectors, *others), x * math.nan)

    return called


_descending = _of_symmetric(lambda library, values, vectors: library.flip(vectors, (-1,)))


def _root_of(library: Any, values: Any, vectors: Any, k: Any, ridge: Any = None) -> Any:
    values = values[..., None, :]
    if ridge is not None:
        values = values * (values > 0) + ridge  # rounding takes some that are zero below it
    return (vectors * values ** (Real(-1.0) / k)) @ library.swapaxes(vectors, -1, -2)


_root = _of_symmetric(_root_of)


@row(
    latex=r"\operatorname{{eigenvectors}}", of_matrices=True, floats=lambda x: 1.0, numpy=_descending, torch=_descending,
)  # fmt: skip
def eigenvectors(x: Any) -> Any:
    """The orthonormal eigenvectors of a symmetric matrix, as columns, that of the largest eigenvalue first."""
    return apply("eigenvectors", x)


def _root_of_one(x: float, k: float, ridge: float | None = None) -> float:
    return power(x if ridge is None else (0.0 if x < 0 else x) + ridge, Real(-1.0) / k)


@row(latex="{{{0}}}^{{-1/{1}}}", of_matrices=True, floats=_root_of_one, numpy=_root, torch=_root)
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
