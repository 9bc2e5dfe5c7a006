"""Printed over lanes: layer norm, which brings the features of each sample to mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import fx

from steprule.lanes.buffers import Operand, aten, contiguous, loops, over_lanes, within
from steprule.lanes.printer import StepPrinter


class _Places:
    """The loops of a norm: over samples outside, over the features of one sample inside."""

    def __init__(self, x: Operand, normed: Sequence[int]) -> None:
        cut = len(x.shape) - len(normed)
        self.samples, self.outer = loops(x.shape[:cut])
        self.features, self.inner = loops(x.shape[cut:], "j")
        self.shape, self.count = x.shape, int(np.prod(normed))

    def of(self, operand: Operand) -> str:
        """An element of an operand of x's shape; where it has one number per sample or per feature, the number that belongs there."""
        where = [*self.outer, *self.inner]
        return operand.expanded(self.shape).element(where)

    def each(self, *lines: str) -> list[str]:
        """Lines for every feature of a sample."""
        body = over_lanes(list(lines))
        for head in reversed(self.features):
            body = within(head, body)
        return body


def layer_norm(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """(x - mean) / sqrt(variance + eps) * weight + bias, of each sample; with the means and 1 / sqrt(variance + eps)."""
    x, normed, weight, bias, eps = args
    places = _Places(x, normed)
    # Per lane also where the data are normed, which lanes share: each lane's weight follows at once.
    out = printer.new(node, per_lane=True)
    mean, scale = (_numbers(printer, places) for _ in range(2))
    printer.operands[node] = out, mean, scale
    read, m, s = (places.of(v) for v in (x, mean, scale))
    count = printer.number(places.count)
    value = f"({read} - {m}) * {s}"
    value += f" * {places.of(weight)}" if weight is not None else ""
    value += f" + {places.of(bias)}" if bias is not None else ""
    lines = [
        *over_lanes([f"{m} = ZERO", f"{s} = ZERO"]),
        *places.each(f"{m} += {read}"),
        *over_lanes([f"{m} = {m} / {count}"]),
        *places.each(f"{s} += ({read} - {m}) * ({read} - {m})"),
        *over_lanes([f"{s} = ONE / np.sqrt({s} / {count} + {printer.number(eps)})"]),
        *places.each(f"{places.of(out)} = {value}"),
    ]
    printer.emit(places.samples, lines)


def layer_norm_backward(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """Its gradients by x, the weight and the bias, as far as they are asked for."""
    g, x, normed, mean, scale, weight, bias, asked = args
    places = _Places(x, normed)
    out = printer.new(node, per_lane=True) if asked[0] else None
    of_weight, of_bias = (
        _features(printer, normed) if wanted and own is not None else None
        for wanted, own in ((asked[1], weight), (asked[2], bias))
    )
    printer.operands[node] = out, of_weight, of_bias
    grad, s = places.of(g), places.of(scale)
    normal = f"({places.of(x)} - {places.of(mean)}) * {s}"
    inner = f"{grad} * {places.of(weight)}" if weight is not None else grad
    share, along = printer.number_per_lane(), printer.number_per_lane()
    sums = [f"{share} += {inner}", f"{along} += {inner} * {normal}"]
    sums += [f"{places.of(of_weight)} += {grad} * {normal}"] if of_weight else []
    sums += [f"{places.of(of_bias)} += {grad}"] if of_bias else []
    count = printer.number(places.count)
    for own in (of_weight, of_bias):
        if own is not None:
            printer.emit(places.features, over_lanes([f"{own.element(places.inner)} = ZERO"]))
    lines = [
        *over_lanes([f"{share} = ZERO", f"{along} = ZERO"]),
        *places.each(*sums),
        *over_lanes([f"{share} = {share} / {count}", f"{along} = {along} / {count}"]),
    ]
    if out is not None:
        lines += places.each(f"{places.of(out)} = ({inner} - {share} - {normal} * {along}) * {s}")
    printer.emit(places.samples, lines)


def _numbers(printer: StepPrinter, places: _Places) -> Operand:
    """Scratch for one number per sample; nobody takes it again, since it is small."""
    shape = (*places.shape[: len(places.outer)], *(1 for _ in places.inner))
    rows = printer.scratch.take(int(np.prod(shape)), per_lane=True)
    return Operand(rows.buffer, shape, contiguous(shape), rows.first, per_lane=True)


def _features(printer: StepPrinter, normed: Sequence[int]) -> Operand:
    """The same for one number per feature."""
    shape = tuple(normed)
    rows = printer.scratch.take(int(np.prod(shape)), per_lane=True)
    return Operand(rows.buffer, shape, contiguous(shape), rows.first, per_lane=True)


PRINTED: dict[Any, Callable[[StepPrinter, fx.Node, Sequence[Any]], None]] = {
    aten.native_layer_norm.default: layer_norm,
    aten.native_layer_norm_backward.default: layer_norm_backward,
}
"""By torch's operation what prints it."""
