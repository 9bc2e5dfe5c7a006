"""How torch tensors compute in a rule: integer powers are products, truth values are 0 or 1, the rest is torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import torch
from torch.overrides import TorchFunctionMode

from steprule.arithmetic.floats import (
    Real,
    Truth,
    Ways,
    compute_dtype,
    function_of,
    integer_power,
    is_product,
    not_a_matrix,
)
from steprule.operations import TABLE, Operation, Reduction


def _named(*names: str) -> frozenset[Any]:
    """torch's functions and methods of these names."""
    return frozenset(getattr(of, name) for of in (torch, torch.Tensor) for name in names if hasattr(of, name))


@cache
def _of_signs() -> tuple[frozenset[Any], frozenset[Any]]:
    """What takes truth values, and what takes numbers: torch's functions and methods for Python's signs. The table is whole by now."""
    names: dict[bool, list[str]] = {True: [], False: []}
    for row in TABLE.values():
        if row.sign:
            names[bool(row.truths)] += [f"__{row.method}__", f"__r{row.method}__"]
    names[True] += ["bitwise_not", "bitwise_and", "bitwise_or"]
    names[False] += [*(row.name for row in TABLE.values() if row.sign), "abs", "positive", "rsub", "__pos__", "__abs__"]
    return _named(*names[True]), _named(*names[False])


_POWERS = _named("pow", "__pow__")
_PRODUCTS = _named("matmul", "__matmul__", "__rmatmul__")
_TRANSPOSE = torch.Tensor.T.__get__  # type: ignore[attr-defined]


class Products(TorchFunctionMode):
    """The mode in which a rule runs: integer powers of tensors are products, truth values that meet numbers are 0 or 1."""

    def __init__(self) -> None:
        super().__init__()
        self._on_truths, self._on_numbers = _of_signs()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """torch's own function, on what fits it."""
        if func in self._on_numbers:
            args = tuple(map(_number, args))
        elif func in self._on_truths:
            args = tuple(bool(x) if isinstance(x, Truth) else x for x in args)
        if func in _PRODUCTS:
            _check_matrices("@", args)
        elif func == _TRANSPOSE:
            return run(TABLE["transpose"], args)
        if func in _POWERS and is_product(args[1]) and args[1] != 0:
            return integer_power(args[0], int(args[1]))
        return func(*args, **(kwargs or {}))


def run(row: Operation, args: Sequence[Any]) -> Any:
    """The value of one operation on tensors."""
    if row.body and not row.torch:
        return row.body(*args)
    if row.of_shape:
        return Real(row.of_shape(tuple(args[0].shape)))
    if row.reduction:
        return _reduced(row, _number(args[0]), *args[1:])
    if row.of_matrices:
        _check_matrices(row.name, args[:1])
        return function_of(torch, row, row.torch)(*args)
    like = _number(next(x for x in args if isinstance(x, torch.Tensor)))
    fitted = (_truth(x, like) if k in row.truths else _typed(x, like) for k, x in enumerate(args))
    return function_of(torch, row, row.torch)(*fitted)


def ways(p: Any) -> Ways:
    """Tensors go in as they are; those of 16 bits are computed in float32."""
    dtype = torch.float32 if p.dtype in (torch.bfloat16, torch.float16) else p.dtype

    def lift(v: Any) -> Any:
        return v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v

    def back(v: Any, full: bool) -> Any:
        stored = dtype if full else p.dtype
        return v.to(stored) if isinstance(v, torch.Tensor) and v.is_floating_point() else v

    def spread(v: Any, shape: tuple[int, ...]) -> Any:
        # -0 adds nothing to a zero of either sign.
        if shape == p.shape:
            return torch.full_like(p, -0.0, dtype=dtype, requires_grad=False) + v
        return p.new_full(shape, -0.0, dtype=dtype, requires_grad=False) + v

    return Ways(Products, dtype, lift, back, spread)


def reduced_over(row: Operation, x: Any, dim: int | None, *, keepdim: bool = False) -> Any:
    """A reduction of a tensor along a dimension, or of all of it, in its dtype."""
    of = cast(Reduction, row.reduction)
    parts, count = of.each(x), x.numel() if dim is None else x.shape[dim]
    join = getattr(torch, TABLE[of.join].over) if count else torch.sum
    total = join(parts) if dim is None else join(parts, dim, keepdim=keepdim)
    return of.end(total if count else total + of.start, float(count))


def _number(x: Any) -> Any:
    """A truth value as 0 or 1."""
    if isinstance(x, torch.Tensor):
        return x.to(compute_dtype.get() or torch.get_default_dtype()) if x.dtype is torch.bool else x
    return float(x) if isinstance(x, Truth) else x


def _truth(x: Any, like: Any) -> Any:
    return x if isinstance(x, torch.Tensor) else torch.tensor(bool(x), device=like.device)


def _typed(x: Any, like: Any) -> Any:
    x = _number(x)
    return x if isinstance(x, torch.Tensor) else torch.tensor(float(x), dtype=like.dtype, device=like.device)


def _reduced(row: Operation, x: Any, axis: int | None = None) -> Any:
    """In float64, where the device has it: the squares of 1e20 are beyond float32, their root is not."""
    wide = x if x.device.type == "mps" else x.to(torch.float64)
    if axis is not None:
        if x.dim() < -axis:
            raise not_a_matrix(row.name, tuple(x.shape), axis=True)
        return reduced_over(row, wide, axis, keepdim=True).to(x.dtype)
    dtype = wide.dtype if row.over_model else x.dtype
    if row.torch:
        return function_of(torch, row, row.torch)(wide).to(dtype)
    if type(x).__name__ == "DTensor":  # which torch flattens only where it is cut evenly
        return reduced_over(row, wide, None).to(dtype)
    return reduced_over(row, wide.reshape(-1), 0).to(dtype)


def _check_matrices(name: str, args: Sequence[Any]) -> None:
    for x in args:
        if not isinstance(x, torch.Tensor) or x.dim() != 2:
            raise not_a_matrix(name, tuple(getattr(x, "shape", ())))
