"""Printed over lanes: operations on elements, sums, products of two matrices, the squared error."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import fx

from steprule.lanes.buffers import Operand, aten, loops, over_lanes, result_of
from steprule.lanes.model import NotPrintable
from steprule.lanes.nests import Kind
from steprule.lanes.printer import StepPrinter

UNROLL = 8
"""Terms of a product of matrices that one turn adds."""
SHORT = 16
"""Terms of one that is a single expression."""
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
    count = int(np.prod([a.shape[d] for d in dims])) if node.target in (aten.mean.dim, aten.mean.default) else 1
    out = printer.new(node, a.per_lane)
    strides = iter(out.strides[d] for d in (kept if keeps_dims else range(len(kept))))
    spread = replace(out, shape=a.shape, strides=tuple(0 if d in dims else next(strides) for d in range(len(a.shape))))
    if a.per_lane:
        return printer.added_up(node, spread, str, [a], count)
    outer_heads, outer = loops([a.shape[d] for d in kept])
    inner_heads, inner = loops([a.shape[d] for d in dims], "j")
    index_of = dict(zip(kept, outer, strict=True)) | dict(zip(dims, inner, strict=True))
    indices = [index_of[d] for d in range(len(a.shape))]
    target = spread.element(indices)
    lines = [f"{target} = ZERO"]
    lines += ["    " * depth + head for depth, head in enumerate(inner_heads)]
    lines.append("    " * len(inner_heads) + f"{target} += {a.element(indices)}")
    lines.append(f"{target} = {target} / {printer.number(count)}")
    printer.ahead(outer_heads, lines)
    return None


def matrix_product(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """a @ b."""
    _product(printer, node, args[0], args[1], None)


def affine(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """bias + a @ b."""
    if node.kwargs:
        raise NotPrintable(str(node.target))
    _product(printer, node, args[1], args[2], args[0])


def _product(printer: StepPrinter, node: fx.Node, a: Operand, b: Operand, bias: Operand | None) -> None:
    shape, terms = tuple(result_of(node).shape), a.shape[1]
    per_lane = a.per_lane or b.per_lane or bool(bias and bias.per_lane)

    def begin(at: Sequence[str]) -> str:
        return bias.expanded(shape).element(at) if bias is not None else "ZERO"

    def sum_of(first: str, at: Sequence[str], terms: Sequence[str]) -> str:
        return " + ".join([first, *(f"{a.element((at[0], q))} * {b.element((q, at[1]))}" for q in terms)])

    whole = terms // UNROLL * UNROLL
    first, later = [str(q) for q in range(whole, terms)], [str(q) for q in range(whole)]
    if per_lane and terms <= SHORT:
        return printer.of_whole_loops(node, lambda at: sum_of(begin(at), at, first + later))
    out = printer.new(node, per_lane)
    heads, at = loops(shape)
    wrap = over_lanes if per_lane else list[str]
    # Several terms per turn: the loop over lanes is short, and each turn of it reads and writes the sum. That lies apart from what
    # is read, so that no turn asks whether the two overlap.
    apart = out.buffer == "s"
    total = Operand("w", (), (), printer.scratch.sums(1), per_lane=True) if apart else out
    target, result = total.element(() if apart else at), out.element(at)
    lines = wrap([f"{target} = {sum_of(begin(at), at, first)}"])
    turn = sum_of(target, at, [f"(q + {d})" for d in range(UNROLL)])
    lines.append(f"for q in range(0, {whole}, {UNROLL}):")
    lines += [f"    {line}" for line in wrap([f"{target} = {turn}"])]
    lines += wrap([f"{result} = {target}"]) if apart else []
    (printer.emit if per_lane else printer.ahead)(heads, lines)
    return None


def squared_error(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """The mean of squared differences."""
    if len(args) != 2:
        raise NotPrintable(str(node.target))
    a, b = args
    if not (a.per_lane or b.per_lane):
        raise NotPrintable("a squared error that hangs on no parameter")
    out = printer.new(node, per_lane=True)
    spread = replace(out, shape=a.shape, strides=(0,) * len(a.shape))
    pair = [a, b.expanded(a.shape)]
    printer.added_up(node, spread, lambda a, b: f"({a} - {b}) * ({a} - {b})", pair, int(np.prod(a.shape)))


def squared_error_backward(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """Its gradient."""
    if args[3] != 1:
        raise NotPrintable(str(node.target))
    scale = printer.number(2.0 / max(1, int(np.prod(args[1].shape))))
    printer.elementwise(node, lambda g, a, b: f"{g} * {scale} * ({a} - {b})", args[:3])


def kind_of(node: fx.Node) -> Kind:
    """What an operation of this file is for the loops of its neighbours; "other" for all that are not."""
    target = node.target
    if target in (aten.ones_like.default, aten.zeros_like.default, aten.full_like.default):
        return "shared"
    if target in (aten.mm.default, aten.addmm.default):
        return "product" if result_of(node.args[-2]).shape[1] <= SHORT else "other"  # type: ignore[arg-type]
    printer = PRINTED.get(target)
    if printer in (total, squared_error):
        return "sum"
    return "element" if printer in (of_elements, power, squared_error_backward) else "other"


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
