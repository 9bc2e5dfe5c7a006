"""Printed over lanes: cross entropy and embeddings, which look numbers up by a class or a letter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from steprule.lanes.buffers import LANES, Operand, aten, loops, over_lanes, within
from steprule.lanes.model import NotPrintable
from steprule.lanes.printer import StepPrinter

IGNORED = -100
"""The class that torch leaves out of a loss unless told otherwise; no problem has it."""


def log_softmax(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """Of each sample over the classes."""
    a = args[0]
    if len(a.shape) != 2 or args[1] % 2 != 1 or not a.per_lane:
        raise NotPrintable("log_softmax other than over the classes of a batch")
    out = printer.new(node, per_lane=True)
    samples, classes = a.shape
    most, total = printer.number_per_lane(), printer.number_per_lane()
    read, write = a.element(("i0", "i1")), out.element(("i0", "i1"))
    each = f"for i1 in range({classes}):"
    lines = [
        *over_lanes([f"{most} = {a.element(('i0', '0'))}", f"{total} = ZERO"]),
        *within(each, over_lanes([f"{most} = {read} if {read} > {most} else {most}"])),
        *within(each, over_lanes([f"{total} += exp_({read} - {most})"])),
        *over_lanes([f"{total} = np.log({total}) + {most}"]),
        *within(each, over_lanes([f"{write} = {read} - {total}"])),
    ]
    printer.emit([f"for i0 in range({samples}):"], lines)


def log_softmax_backward(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """Its gradient."""
    g, y = args[:2]
    if len(y.shape) != 2 or args[2] % 2 != 1:
        raise NotPrintable("log_softmax other than over the classes of a batch")
    out = printer.new(node, per_lane=True)
    samples, classes = y.shape
    total = printer.number_per_lane()
    grad, value, write = (v.element(("i0", "i1")) for v in (g, y, out))
    each = f"for i1 in range({classes}):"
    lines = [
        *over_lanes([f"{total} = ZERO"]),
        *within(each, over_lanes([f"{total} += {grad}"])),
        *within(each, over_lanes([f"{write} = {grad} - exp_({value}) * {total}"])),
    ]
    printer.emit([f"for i0 in range({samples}):"], lines)


def log_likelihood(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """The mean over a batch of minus the logarithm at each sample's class."""
    a, target, weight, reduction, ignored = args
    if weight is not None or reduction != 1 or len(a.shape) != 2 or target.buffer != "y" or ignored != IGNORED:
        raise NotPrintable("nll_loss other than the mean over a batch")
    out = printer.new(node, per_lane=True)
    printer.operands[node] = (out, None)  # torch's second result is the weight of all samples together
    samples, write = a.shape[0], out.element(())
    printer.emit([], over_lanes([f"{write} = ZERO"]))
    added = _looked_up("label", target, ("i0",), [f"{write} -= {a.element(('i0', 'label'))}"])
    printer.emit([f"for i0 in range({samples}):"], added)
    printer.emit([], over_lanes([f"{write} = {write} / {printer.number(samples)}"]))


def log_likelihood_backward(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """Its gradient."""
    g, a, target = args[:3]
    out = printer.new(node, per_lane=True)
    samples, classes = a.shape
    share = f"-{g.element(())} / {printer.number(samples)}"
    lines = [
        *within(f"for i1 in range({classes}):", over_lanes([f"{out.element(('i0', 'i1'))} = ZERO"])),
        *_looked_up("label", target, ("i0",), [f"{out.element(('i0', 'label'))} = {share}"]),
    ]
    printer.emit([f"for i0 in range({samples}):"], lines)


def embedding(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """A row of a table for each letter of the data."""
    table, letters = args[:2]
    if letters.buffer != "x":
        raise NotPrintable("an embedding of what a lane computed")
    out = printer.new(node, per_lane=True)
    heads, indices = loops(letters.shape)
    line = f"{out.element((*indices, 'e'))} = {table.element(('letter', 'e'))}"
    printer.emit(heads, _looked_up("letter", letters, indices, [line], [f"for e in range({table.shape[1]}):"]))


def embedding_backward(printer: StepPrinter, node: fx.Node, args: Sequence[Any]) -> None:
    """Its gradient: what each letter's places add up to."""
    g, letters, count, padding, by_frequency = args
    if padding not in (-1, None):
        raise NotPrintable("an embedding with padding")
    if by_frequency:
        raise NotPrintable("an embedding whose gradient is scaled by how frequent a letter is")
    out = printer.new(node, per_lane=True)
    width = out.shape[1]
    heads, indices = loops((count, width))
    printer.emit(heads, over_lanes([f"{out.element(indices)} = ZERO"]))
    heads, indices = loops(letters.shape)
    line = f"{out.element(('letter', 'e'))} += {g.element((*indices, 'e'))}"
    printer.emit(heads, _looked_up("letter", letters, indices, [line], [f"for e in range({width}):"]))


def _looked_up(
    name: str, index: Operand, indices: Sequence[str], inner: Sequence[str], heads: Sequence[str] = ()
) -> list[str]:
    """Loops over `heads` and lanes, in which `name` is an element of an index: one for all lanes, or each lane's."""
    read, deeper = f"{name} = {index.element(indices)}", "    " * len(heads)
    body = [read, *inner] if index.per_lane else inner
    lines = [*heads, f"{deeper}{LANES}", *(f"{deeper}    {line}" for line in body)]
    return lines if index.per_lane else [read, *lines]


PRINTED: dict[Any, Callable[[StepPrinter, fx.Node, Sequence[Any]], None]] = {
    aten._log_softmax.default: log_softmax,
    aten._log_softmax_backward_data.default: log_softmax_backward,
    aten.nll_loss_forward.default: log_likelihood,
    aten.nll_loss_backward.default: log_likelihood_backward,
    aten.embedding.default: embedding,
    aten.embedding_dense_backward.default: embedding_backward,
}
"""By torch's operation what prints it."""
