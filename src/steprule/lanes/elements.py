"""Printed over lanes: operations on elements, sums, products of two matrices, the squared error."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import fx

from steprule.lanes.buffers import Operand, aten
from steprule.lanes.model import NotPrintable
from steprule.lanes.printer import StepPrinter, loops, over_lanes

UNROLL = 8
"""Terms of a product of matrices that one turn adds."""
ELEMENTWISE: dict[Any, Callable[..., str]] = {
    aten.add.Tensor: lambda a, b: f"{a} + {b}",
    aten.add.Scalar: lambda a, b: f"{a} + {b}",
    aten.sub.Tensor: lambda a, b: f"{a} - {b}",
    aten.sub.Scalar: lambda a, b: f"{a} - {b}",
    aten.rsub.Scalar: lambda a, b: f"{b} - {a}",
    aten.mul.Tensor: lambda a, b: f"{a} * {b}",
    aten.mul.Scalar: lambda a, b: f"{a} * {b}",
    aten.div.Tensor: lambda a, b: f"{a} / {b}",
    aten.div.Scalar: lambda a, b: f"{a} / {b}",
    aten.neg.default: lambda a: f"-{a}",
    aten.abs.default: lambda a: f"abs({a})",
    aten.sgn.default: lambda a: f"ONE if {a} > ZERO else (-ONE if {a} < ZERO else ZERO)",
    aten.exp.default: lambda a: f"exp_({a})",
    aten.log.default: lambda a: f"np.log({a})",
    aten.sin.default: lambda a: f"np.sin({a})",
    aten.cos.default: lambda a: f"np.cos({a})",
    aten.sqrt.default: lambda a: f"np.sqrt({a})",
    aten.rsqrt.default: lambda a: f"ONE / np.sqrt({a})",
    aten.tanh.default: lambda a: f"tanh_({a})",
    aten.tanh_backward.default: lambda g, y: f"{g} * (ONE - {y} * {y})",
    aten.sigmoid.default: lambda a: f"ONE / (ONE + exp_(-({a})))",
    aten.sigmoid_backward.default: lambda g, y: f"{g} * {y} * (ONE - {y})",
    aten.relu.default: lambda a: f"{a} if ({a} > ZERO) | ({a} != {a}) else ZERO",
    aten.threshold_backward.default: lambda g, a, limit: f"{g} if {a} > {limit} else ZERO",
    aten.clone.default: lambda a: a,
    aten._to_copy.default: lambda a: a,
}


def of_elements(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """An operation of the table `ELEMENTWISE`."""
    expression = ELEMENTWISE[node.target]
    if node.kwargs.get("alpha", 1) != 1 or len(args) != len(inspect.signature(expression).parameters):
        raise NotPrintable(f"{str(node.target).split('.')[1]} with alpha")
    printer.elementwise(node, expression, args)


def power(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """A power whose exponent is a whole number from 1 to 8."""
    base, exponent = args
    if exponent not in range(1, 9):
        raise NotPrintable(str(node.target))
    printer.elementwise(node, lambda a: " * ".join([a] * int(exponent)), [base])


def filled(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """One number everywhere."""
    known: dict[Any, float] = {aten.ones_like.default: 1.0, aten.zeros_like.default: 0.0}
    value = known.get(node.target, args[-1])
    printer.elementwise(node, lambda: printer.number(value), [])


def total(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """A sum or a mean over some dimensions, or over all."""
    a: Operand = args[0]
    over = args[1] if len(args) > 1 and args[1] is not None else range(len(a.shape))
    over = [over] if isinstance(over, int) else over
    dims = sorted(d % len(a.shape) for d in over) if a.shape else []
    keeps_dims = bool(args[2]) if len(args) > 2 else False
    kept = [d for d in range(len(a.shape)) if d not in dims]
    out = printer.new(node, a.per_lane)
    outer_heads, outer = loops([a.shape[d] for d in kept])
    inner_heads, inner = loops([a.shape[d] for d in dims], "j")
    index_of = dict(zip(kept, outer, strict=True)) | dict(zip(dims, inner, strict=True))
    source = a.element([index_of[d] for d in range(len(a.shape))])
    if keeps_dims:
        outer = [index_of[d] if d in kept else "0" for d in range(len(a.shape))]
    target = out.element(outer)
    wrap = over_lanes if a.per_lane else list[str]
    lines = wrap([f"{target} = ZERO"])
    for depth, head in enumerate(inner_heads):
        lines.append("    " * depth + head)
    lines += ["    " * len(inner_heads) + line for line in wrap([f"{target} += {source}"])]
    if node.target in (aten.mean.dim, aten.mean.default):
        count = int(np.prod([a.shape[d] for d in dims])) if dims else 1
        lines += wrap([f"{target} = {target} / {printer.number(count)}"])
    printer.emit(outer_heads, lines)


def matrix_product(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """a @ b."""
    _product(printer, node, args[0], args[1], None)


def affine(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """bias + a @ b."""
    if node.kwargs:
        raise NotPrintable(str(node.target))
    _product(printer, node, args[1], args[2], args[0])


def _product(printer: StepPrinter, node: fx.Node, a: Operand, b: Operand, bias: Operand | None) -> None:
    out = printer.new(node, a.per_lane or b.per_lane or bool(bias and bias.per_lane))
    heads, indices = loops(out.shape)
    i, j = indices
    target = out.element(indices)
    start = bias.expanded(out.shape).element((i, j)) if bias is not None else "ZERO"
    wrap = over_lanes if out.per_lane else list[str]

    def sum_of(first: str, indices: Sequence[str]) -> str:
        return " + ".join([first, *(f"{a.element((i, q))} * {b.element((q, j))}" for q in indices)])

    # Several terms per turn: the loop over lanes is short, and each turn of it reads and writes the sum.
    terms = a.shape[1]
    whole = terms // UNROLL * UNROLL
    lines = wrap([f"{target} = {sum_of(start, [str(q) for q in range(whole, terms)])}"])
    if whole:
        turn = sum_of(target, [f"(q + {d})" for d in range(UNROLL)])
        lines.append(f"for q in range(0, {whole}, {UNROLL}):")
        lines += [f"    {line}" for line in wrap([f"{target} = {turn}"])]
    printer.emit(heads, lines)


def squared_error(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """The mean of squared differences."""
    if len(args) != 2:
        raise NotPrintable(str(node.target))
    a, b = args
    if not (a.per_lane or b.per_lane):
        raise NotPrintable("a squared error that hangs on no parameter")
    out = printer.new(node, per_lane=True)
    heads, indices = loops(a.shape)
    gap = f"({a.element(indices)} - {b.expanded(a.shape).element(indices)})"
    write = out.element(())
    printer.lines += over_lanes([f"{write} = ZERO"])
    printer.emit(heads, over_lanes([f"{write} += {gap} * {gap}"]))
    printer.lines += over_lanes([f"{write} = {write} / {printer.number(int(np.prod(a.shape)))}"])


def squared_error_backward(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """Its gradient."""
    if args[3] != 1:
        raise NotPrintable(str(node.target))
    scale = printer.number(2.0 / max(1, int(np.prod(args[1].shape))))
    printer.elementwise(node, lambda g, a, b: f"{g} * {scale} * ({a} - {b})", args[:3])


PRINTED: dict[Any, Callable[[StepPrinter, fx.Node, Sequence[Any]], None]] = {
    **dict.fromkeys(ELEMENTWISE, of_elements),
    aten.pow.Tensor_Scalar: power,
    **dict.fromkeys((aten.ones_like.default, aten.zeros_like.default, aten.full_like.default), filled),
    **dict.fromkeys((aten.sum.dim_IntList, aten.mean.dim, aten.sum.default, aten.mean.default), total),
    aten.mm.default: matrix_product,
    aten.addmm.default: affine,
    aten.mse_loss.default: squared_error,
    aten.mse_loss_backward.default: squared_error_backward,
}
"""By torch's operation what prints it."""
