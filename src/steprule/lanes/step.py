"""A model's step as one Numba function over lanes, printed from its graph.

Each thread takes a block of lanes through the whole graph. All that a lane computes stays in the block's buffers,
[numbers, lanes], in the cache. The innermost loop of everything goes over lanes, so that a product of two small matrices,
which no BLAS does well, runs at the width of the vector units. What depends on no parameter is computed once per block.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from steprule.compiler import cache
from steprule.lanes import classes, elements, norms
from steprule.lanes.buffers import VIEWS, Operand, collapsed, contiguous, loops, over_lanes, result_of
from steprule.lanes.model import ModelStep, NotPrintable
from steprule.lanes.nests import Kind
from steprule.lanes.printer import StepPrinter

PRINTED = {**elements.PRINTED, **classes.PRINTED, **norms.PRINTED}
CACHE_BYTES = 2_000_000
"""What a block's buffers may take: they stay in a core's own cache."""
NARROWEST, WIDEST = 64, 128
"""Lanes of a block. LLVM writes out a loop of fewer turns before it looks for vectors, and then finds none; more gain nothing."""


@dataclass(frozen=True)
class Source:
    """A printed step: the function `block(p, g, x, y, loss, s, w, u)`, whose arguments do not overlap.

    p and g are [rows * width], x and y a batch, [numbers * width] with `own_data`, else [numbers] for all lanes; loss
    [width]; s [lane_rows * width], w [sum_rows * width] and u [shared_rows] are scratch.
    """

    text: str
    width: int
    """Lanes of a block, so many that all it holds stays in a core's own cache."""
    lane_rows: int
    sum_rows: int
    shared_rows: int
    compute: str
    x_kind: str
    y_kind: str
    own_data: bool
    """Whether each lane has a batch of its own, or all share one."""


def printed(step: ModelStep, compute: str = "float32", *, own_data: bool = False, width: int | None = None) -> Source:
    """The step as source for Numba, for blocks of `width` lanes, or of as many as fit. Raises `NotPrintable`."""
    x_kind, y_kind = _kind(step.x, compute), _kind(step.y, compute)
    printer = StepPrinter(step, own_data, _kind_of)
    for node in step.graph.nodes:
        if node.op == "call_function":
            _operation(printer, node, getattr(torch, compute))
            printer.release(node)
        elif node.op == "get_attr":
            raise NotPrintable("a tensor that the model keeps for itself")
        elif node.op == "output":
            _outputs(printer, node.args[0])
    scratch = printer.scratch
    rows = step.rows * 2 + scratch.lane_rows + scratch.sum_rows
    if own_data:
        rows += step.x.numel() + step.y.numel()
    if width is None:
        fitting = CACHE_BYTES // (rows * np.dtype(compute).itemsize) // NARROWEST * NARROWEST
        width = min(WIDEST, max(NARROWEST, fitting))
    text = _text(printer, compute, block_type(compute, x_kind, y_kind)).replace("LANES", f"{width}")
    lane_rows, sum_rows, shared_rows = (max(1, n) for n in (scratch.lane_rows, scratch.sum_rows, scratch.shared_rows))
    return Source(text, width, lane_rows, sum_rows, shared_rows, compute, x_kind, y_kind, own_data)


def block_type(compute: str, x_kind: str, y_kind: str) -> str:
    """Numba's type of `block(p, g, x, y, loss, s, w, u)`."""
    c = f"{compute}[::1]"
    return f"void({c}, {c}, {x_kind}[::1], {y_kind}[::1], {c}, {c}, {c}, {c})"


@lru_cache(maxsize=64)
def compiled(source: Source) -> Any:
    """The module of a printed step; Numba is imported here."""
    return cache.load("model_step", source.text, cache.INTRINSICS, *cache.NUMBA)


def _kind(data: Tensor, compute: str) -> str:
    kind = str(data.dtype).removeprefix("torch.")
    if kind not in (compute, "int64"):
        raise NotPrintable(f"data in {data.dtype} for a model in {compute}")
    return kind


def _operation(printer: StepPrinter, node: fx.Node, dtype: torch.dtype) -> None:
    args: list[Any] = [printer.operands[a] if isinstance(a, fx.Node) else a for a in node.args]
    if node.target is operator.getitem:
        several, which = args
        printer.operands[node] = several[which]
    elif node.target in VIEWS:
        printer.operands[node] = _view(printer, node, args[0])
    elif node.target not in PRINTED:
        raise NotPrintable(str(node.target))
    elif result_of(node).dtype is not dtype:
        raise NotPrintable(f"{node.target} in {result_of(node).dtype}")
    else:
        PRINTED[node.target](printer, node, args)


def _kind_of(node: fx.Node) -> Kind:
    """What an operation is for the loops of its neighbours."""
    return "always" if node.target in norms.PRINTED else elements.kind_of(node)


def _view(printer: StepPrinter, node: fx.Node, base: Operand) -> Operand:
    """torch's own strides, counted from the start of the tensor that the view is of."""
    view = result_of(node)
    offset = view.storage_offset() + _first_row(printer, base)
    return Operand(base.buffer, tuple(view.shape), tuple(view.stride()), offset, base.per_lane)


def _first_row(printer: StepPrinter, operand: Operand) -> int:
    """Where the tensor that an operand looks at begins in its buffer: parameters lie one after the other."""
    if operand.buffer in ("x", "y") or operand.in_register:
        return 0
    if operand.buffer not in ("p", "g"):
        return printer.scratch.first_of(operand)
    row = 0
    for size in printer.step.sizes:
        if row + size > operand.offset:
            break
        row += size
    return row


def _outputs(printer: StepPrinter, nodes: Any) -> None:
    """The loss, and each gradient where the parameter itself lies; a loss alone has no gradients."""
    loss, *gradients = (printer.operands[n] for n in nodes)
    printer.emit([], over_lanes([f"loss[l] = {loss.element(['0'] * len(loss.shape))}"]))
    row = 0
    for gradient, size in zip(gradients, printer.step.shapes.values(), strict=False):
        shape = tuple(size)
        target = Operand("g", shape, contiguous(shape), row, per_lane=True)
        row += size.numel()
        if gradient == target:
            continue
        folded, both = collapsed(shape, [target, gradient])
        to, source = both
        heads, indices = loops(folded)
        printer.emit(heads, over_lanes([f"{to.element(indices)} = {source.element(indices)}"]))


def _text(printer: StepPrinter, compute: str, signature: str) -> str:
    lines = [
        '"""A model\'s loss and gradients over a block of lanes: printed by steprule from torch\'s own trace."""',
        "",
        "import numpy as np",
        "from numba import njit",
        "",
        f"from steprule.compiler.intrinsics import Disjoint, exp_{compute} as exp_, tanh_{compute} as tanh_",
        "",
        f"ZERO, ONE = np.{compute}(0), np.{compute}(1)",
        *(f"{name} = np.{compute}({value})" for value, name in printer.constants.items()),
        "",
        "",
        f'@njit("{signature}", nogil=True, error_model="numpy", cache=True, pipeline_class=Disjoint)',
        "def block(p, g, x, y, loss, s, w, u):",
        *(f"    {line}" for line in printer.lines),
        "",
    ]
    return "\n".join(lines)
