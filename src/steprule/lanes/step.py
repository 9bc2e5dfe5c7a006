"""A model's step as one Numba function over lanes: each thread takes a block of lanes through the graph.

All that a lane computes stays in a block's buffers, [numbers, lanes], in the cache; the innermost loop of everything goes
over lanes, so that a product of two small matrices, which no BLAS does well, runs at the width of the vector units.
What depends on no parameter is computed once a block.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx

from steprule.compiler import cache
from steprule.lanes.model import ModelStep

aten = torch.ops.aten
UNROLL = 8
"""Terms of a product of matrices that one turn adds."""
CACHE_BYTES = 2_000_000
"""What a block's buffers may take: they stay in a core's own cache."""


class NotBatchable(Exception):  # noqa: N818  (no fault: another engine serves)
    """The graph holds an operation that is not printed here."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: where it lies in a buffer."""

    buffer: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    per_lane: bool

    def at(self, indices: Sequence[str]) -> str:
        """The row of an element."""
        terms = [f"{i} * {s}" if s != 1 else i for i, s in zip(indices, self.strides, strict=True) if s]
        return " + ".join([*terms, str(self.offset)] if self.offset or not terms else terms)

    def element(self, indices: Sequence[str]) -> str:
        """An element, as an operand within the loop over lanes."""
        if self.per_lane:
            return f"{self.buffer}[{self.at(indices)}, l]"
        return f"{self.buffer}[{self.at(indices)}]" if self.buffer == "u" else f"{self.buffer}[{self.at(indices)}, 0]"


_VIEWS = {
    aten.view.default, aten._unsafe_view.default, aten.t.default, aten.transpose.int, aten.permute.default,
    aten.expand.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default, aten.unsqueeze.default,
    aten.alias.default, aten.detach.default, aten.slice.Tensor, aten.select.int, aten.reshape.default,
}  # fmt: skip

_ELEMENTWISE: dict[Any, Callable[..., str]] = {
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
    aten.tanh.default: lambda a: f"tanh_({a})",
    aten.tanh_backward.default: lambda g, y: f"{g} * (ONE - {y} * {y})",
    aten.sigmoid.default: lambda a: f"ONE / (ONE + exp_(-({a})))",
    aten.sigmoid_backward.default: lambda g, y: f"{g} * {y} * (ONE - {y})",
    aten.relu.default: lambda a: f"{a} if ({a} > ZERO) | ({a} != {a}) else ZERO",
    aten.threshold_backward.default: lambda g, a, limit: f"{g} if {a} > {limit} else ZERO",
    aten.clone.default: lambda a: a,
    aten._to_copy.default: lambda a: a,
}


@dataclass(frozen=True)
class Source:
    """A printed step: the function `block(p, g, x, y, loss, s, u)`.

    p and g are [rows, width], x and y a batch, [numbers, width] with `own_data`, else [numbers, 1] for all lanes; loss
    [width]; s [lane_rows, width] and u [shared_rows] are scratch.
    """

    text: str
    width: int
    """Lanes of a block, so many that all it holds stays in a core's own cache."""
    lane_rows: int
    shared_rows: int
    compute: str
    x_kind: str
    y_kind: str
    own_data: bool
    """Whether each lane has a batch of its own, or all share one."""


def printed(step: ModelStep, compute: str = "float32", *, own_data: bool = False, width: int | None = None) -> Source:
    """The step as source for Numba, for blocks of `width` lanes, or of as many as fit. Raises `NotBatchable`."""
    return _Printer(step, compute, own_data).source(width)


def block_type(compute: str, x_kind: str, y_kind: str) -> str:
    """Numba's type of `block(p, g, x, y, loss, s, u)`."""
    c = compute
    return f"void({c}[:, ::1], {c}[:, ::1], {x_kind}[:, ::1], {y_kind}[:, ::1], {c}[::1], {c}[:, ::1], {c}[::1])"


def compiled(source: Source) -> Any:
    """The module of a printed step; Numba is imported here."""
    return cache.load("model_step", source.text, cache.INTRINSICS, *cache.NUMBA)


class _Printer:
    def __init__(self, step: ModelStep, compute: str, own_data: bool) -> None:
        self.step, self.compute, self.own_data = step, compute, own_data
        self.values: dict[fx.Node, Any] = {}
        self.body: list[str] = []
        self.held = {True: 0, False: 0}
        """Rows of scratch: of numbers of each lane, and of those that all lanes share."""
        self.bases: list[tuple[str, int, int]] = []
        """The scratch of each result: buffer, first row, rows."""
        self.free: dict[int, list[int]] = {}
        """Rows of lanes that no later operation reads: by their number the first of each."""
        self.roots: dict[fx.Node, fx.Node] = {}
        """Whose scratch a view looks at."""
        self.last_use: dict[fx.Node, fx.Node] = {}
        self.scratch: dict[fx.Node, tuple[int, int]] = {}
        self.constants: dict[str, str] = {}

    def source(self, width: int | None) -> Source:
        nodes = list(self.step.graph.nodes)
        for node in nodes:
            view = node.op == "call_function" and (node.target in _VIEWS or node.target is operator.getitem)
            self.roots[node] = self.roots[node.args[0]] if view else node
            for used in node.all_input_nodes:
                self.last_use[self.roots[used]] = node
        inputs = [n for n in nodes if n.op == "placeholder"]
        row = 0
        for node, shape in zip(inputs, self.step.shapes.values(), strict=False):
            self.values[node] = Value("p", tuple(shape), _contiguous(shape), row, True)
            row += shape.numel()
        for node, name, tensor in zip(inputs[-2:], "xy", (self.step.x, self.step.y), strict=True):
            self.values[node] = Value(name, tuple(tensor.shape), _contiguous(tensor.shape), 0, self.own_data)
        for node in nodes:
            if node.op == "call_function":
                self._operation(node)
                for root in {self.roots[n] for n in node.all_input_nodes}:
                    if self.last_use.get(root) is node and root in self.scratch:
                        first, count = self.scratch.pop(root)
                        self.free.setdefault(count, []).append(first)
            elif node.op == "get_attr":
                raise NotBatchable("a tensor that the model keeps for itself")
            elif node.op == "output":
                self._outputs(node.args[0])
        return self._assembled(width)

    def _assembled(self, width: int | None) -> Source:
        rows = self.step.rows * 2 + self.held[True]
        size = np.dtype(self.compute).itemsize
        rows += sum(t.numel() for t in (self.step.x, self.step.y)) if self.own_data else 0
        width = width or int(min(256, max(16, CACHE_BYTES // (rows * size) // 16 * 16)))
        c, kinds = self.compute, (self._kind("x"), self._kind("y"))
        signature = block_type(c, *kinds)
        lines = [
            '"""A model\'s loss and gradients over a block of lanes: printed by steprule from torch\'s own trace."""',
            "",
            "import numpy as np",
            "from numba import njit",
            "",
            f"from steprule.compiler.intrinsics import exp_{c} as exp_, tanh_{c} as tanh_",
            "",
            f"ZERO, ONE = np.{c}(0), np.{c}(1)",
            *(f"{name} = np.{c}({value})" for value, name in self.constants.items()),
            "",
            "",
            f'@njit("{signature}", nogil=True, error_model="numpy", cache=True)',
            "def block(p, g, x, y, loss, s, u):",
            *(f"    {line}" for line in self.body),
            "",
        ]
        text = "\n".join(lines).replace("range(LANES)", f"range({width})")
        return Source(text, width, max(1, self.held[True]), max(1, self.held[False]), c, *kinds, self.own_data)

    def _kind(self, name: str) -> str:
        tensor = self.step.x if name == "x" else self.step.y
        if str(tensor.dtype).removeprefix("torch.") not in (self.compute, "int64"):
            raise NotBatchable(f"data in {tensor.dtype} for a model in {self.compute}")
        return "int64" if tensor.dtype is torch.int64 else self.compute

    # Operations.

    def _operation(self, node: fx.Node) -> None:
        target = node.target
        args = [self.values[a] if isinstance(a, fx.Node) else a for a in node.args]
        if target is operator.getitem:
            self.values[node] = args[0][args[1]]
        elif target in _VIEWS:
            self.values[node] = self._view(node, args[0])
        elif target in _ELEMENTWISE:
            if target in (aten.add.Tensor, aten.sub.Tensor) and node.kwargs.get("alpha", 1) != 1:
                raise NotBatchable("add with alpha")
            self._elementwise(node, _ELEMENTWISE[target], args)
        elif target is aten.pow.Tensor_Scalar and args[1] in range(1, 9):
            self._elementwise(node, lambda a: " * ".join([a] * int(args[1])), args[:1])
        elif target in (aten.ones_like.default, aten.zeros_like.default, aten.full_like.default):
            value = {aten.ones_like.default: 1.0, aten.zeros_like.default: 0.0}.get(target, args[-1])
            self._elementwise(node, lambda: self._number(value), [])
        elif target in (aten.sum.dim_IntList, aten.mean.dim, aten.sum.default, aten.mean.default):
            self._reduce(node, args, mean=target in (aten.mean.dim, aten.mean.default))
        elif target is aten.mm.default:
            self._product(node, args[0], args[1], None)
        elif target is aten.addmm.default and not node.kwargs:
            self._product(node, args[1], args[2], args[0])
        elif target is aten._log_softmax.default:
            self._log_softmax(node, args)
        elif target is aten._log_softmax_backward_data.default:
            self._log_softmax_backward(node, args)
        elif target is aten.nll_loss_forward.default:
            self._nll(node, args)
        elif target is aten.nll_loss_backward.default:
            self._nll_backward(node, args)
        elif target is aten.mse_loss.default and len(args) == 2:
            self._mse(node, args)
        elif target is aten.mse_loss_backward.default and args[3] == 1:
            count = args[1].shape
            scale = self._number(2.0 / max(1, int(np.prod(count))))
            self._elementwise(node, lambda g, a, b: f"{g} * {scale} * ({a} - {b})", args[:3])
        elif target is aten.embedding.default:
            self._embedding(node, args)
        elif target is aten.embedding_dense_backward.default:
            self._embedding_backward(node, args)
        else:
            raise NotBatchable(str(target))

    def _number(self, value: float) -> str:
        return self.constants.setdefault(repr(float(value)), f"C{len(self.constants)}")

    def _meta(self, node: fx.Node) -> Any:
        return node.meta["val"] if not isinstance(node.meta["val"], tuple | list) else node.meta["val"][0]

    def _view(self, node: fx.Node, base: Value) -> Value:
        meta = node.meta["val"]
        if not isinstance(base, Value):
            raise NotBatchable("a view of several")
        # torch's own strides, counted from the start of the buffer that the view is of.
        offset = meta.storage_offset() + self._origin(base)
        return Value(base.buffer, tuple(meta.shape), tuple(meta.stride()), offset, base.per_lane)

    def _origin(self, value: Value) -> int:
        """Where the tensor of whose storage a view is begins in its buffer: parameters lie one after the other."""
        if value.buffer in ("x", "y"):
            return 0
        if value.buffer != "p":
            return next(f for name, f, n in self.bases if name == value.buffer and f <= value.offset < f + n)
        row = 0
        for size in self.step.sizes:
            if row <= value.offset < row + size:
                return row
            row += size
        raise AssertionError("a row outside all parameters")

    def _new(self, node: fx.Node, per_lane: bool) -> Value:
        meta = self._meta(node)
        shape, strides = tuple(meta.shape), tuple(meta.stride())
        if meta.numel() and sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1 != meta.numel():
            strides = _contiguous(shape)
        count = max(1, meta.numel())
        first = self._rows(count, per_lane)
        if per_lane:
            self.scratch[node] = (first, count)
        return Value("s" if per_lane else "u", shape, strides, first, per_lane)

    def _in_place(self, node: fx.Node, out_shape: tuple[int, ...]) -> Any:
        """The operand of an elementwise operation that nobody reads after it, to be written over."""
        meta = self._meta(node)
        for arg in node.all_input_nodes:
            value, root = self.values[arg], self.roots[arg]
            whole = isinstance(value, Value) and value.shape == out_shape and value.strides == tuple(meta.stride())
            if whole and root in self.scratch and self.last_use[root] is node and self.scratch[root][1] == meta.numel():
                self.scratch[node] = self.scratch.pop(root)
                return value
        return None

    def _rows(self, count: int, per_lane: bool) -> int:
        """The first of so many rows of scratch."""
        if per_lane and self.free.get(count):
            return self.free[count].pop()
        first = self.held[per_lane]
        self.held[per_lane] += count
        self.bases.append(("s" if per_lane else "u", first, count))
        return first

    def _loops(self, shape: Sequence[int], letter: str = "i") -> tuple[list[str], list[str]]:
        """The heads of nested loops and their indices."""
        indices = [f"{letter}{k}" if n != 1 else "0" for k, n in enumerate(shape)]
        heads = [f"for {letter}{k} in range({n}):" for k, n in enumerate(shape) if n != 1]
        return heads, indices

    def _emit(self, heads: Sequence[str], inner: Sequence[str]) -> None:
        depth = 0
        for head in heads:
            self.body.append("    " * depth + head)
            depth += 1
        self.body += ["    " * depth + line for line in inner]

    def _elementwise(self, node: fx.Node, expression: Callable[..., str], args: Sequence[Any]) -> None:
        tensors = [a for a in args if isinstance(a, Value)]
        per_lane = any(a.per_lane for a in tensors)
        out = (self._in_place(node, tuple(self._meta(node).shape)) if per_lane else None) or self._new(node, per_lane)
        self.values[node] = out
        shown = [_expanded(a, out.shape) if isinstance(a, Value) else a for a in args]
        shape, (target, *operands) = _collapsed(out.shape, [out, *(a for a in shown if isinstance(a, Value))])
        heads, indices = self._loops(shape)
        rest = iter(operands)
        texts = [next(rest).element(indices) if isinstance(a, Value) else self._number(a) for a in shown]
        line = f"{target.element(indices)} = {expression(*texts)}"
        self._emit(heads, ["for l in range(LANES):", f"    {line}"] if out.per_lane else [line])

    def _reduce(self, node: fx.Node, args: Sequence[Any], *, mean: bool) -> None:
        a = args[0]
        dims = args[1] if len(args) > 1 and args[1] is not None else list(range(len(a.shape)))
        dims = sorted(d % len(a.shape) for d in ([dims] if isinstance(dims, int) else dims)) if a.shape else []
        out = self._new(node, a.per_lane)
        self.values[node] = out
        keep = bool(args[2]) if len(args) > 2 else False
        kept = [d for d in range(len(a.shape)) if d not in dims]
        heads, outer = self._loops([a.shape[d] for d in kept])
        inner_heads, inner = self._loops([a.shape[d] for d in dims], "j")
        indices = [""] * len(a.shape)
        for d, index in [*zip(kept, outer, strict=True), *zip(dims, inner, strict=True)]:
            indices[d] = index
        out_indices = [indices[d] if d in kept else "0" for d in range(len(a.shape))] if keep else outer
        count = int(np.prod([a.shape[d] for d in dims])) if dims else 1
        target, source = out.element(out_indices), a.element(indices)
        lanes = ["for l in range(LANES):"] if a.per_lane else []
        pad = "    " * len(lanes)
        lines = [*lanes, f"{pad}{target} = ZERO"]
        depth = ""
        for head in inner_heads:
            lines.append(depth + head)
            depth += "    "
        lines += [*(depth + x for x in lanes), f"{depth}{pad}{target} += {source}"]
        if mean:
            lines += [*lanes, f"{pad}{target} = {target} / {self._number(count)}"]
        self._emit(heads, lines)

    def _product(self, node: fx.Node, a: Value, b: Value, bias: Value | None) -> None:
        out = self._new(node, a.per_lane or b.per_lane or bool(bias and bias.per_lane))
        self.values[node] = out
        m, n, k = out.shape[0], out.shape[1], a.shape[1]
        heads, (i, j) = self._loops((m, n))
        target = out.element((i, j))
        start = _expanded(bias, out.shape).element((i, j)) if bias is not None else "ZERO"
        lanes = ["for l in range(LANES):"] if out.per_lane else []
        pad = "    " * len(lanes)

        def sum_of(first: str, indices: Sequence[str]) -> str:
            return " + ".join([first, *(f"{a.element((i, q))} * {b.element((q, j))}" for q in indices)])

        # Several terms a turn: the loop over lanes is short, and each turn of it reads and writes the sum.
        whole = k // UNROLL * UNROLL
        rest = [str(q) for q in range(whole, k)]
        lines = [*lanes, f"{pad}{target} = {sum_of(start, rest)}"]
        if whole:
            turn = [f"(q + {d})" for d in range(UNROLL)]
            lines += [f"for q in range(0, {whole}, {UNROLL}):"]
            lines += [f"    {x}" for x in (*lanes, f"{pad}{target} = {sum_of(target, turn)}")]
        self._emit(heads, lines)

    def _log_softmax(self, node: fx.Node, args: Sequence[Any]) -> None:
        a = args[0]
        if len(a.shape) != 2 or args[1] % 2 != 1 or not a.per_lane:
            raise NotBatchable("log_softmax other than over the classes of a batch")
        out = self.values[node] = self._new(node, True)
        rows, classes = a.shape
        most, total = self._scratch(), self._scratch()
        read, write = a.element(("i0", "i1")), out.element(("i0", "i1"))
        first = a.element(("i0", "0"))
        each, lanes = f"for i1 in range({classes}):", "for l in range(LANES):"
        self._emit(
            [f"for i0 in range({rows}):"],
            [
                lanes,
                f"    {most} = {first}",
                f"    {total} = ZERO",
                each,
                f"    {lanes}",
                f"        {most} = {read} if {read} > {most} else {most}",
                each,
                f"    {lanes}",
                f"        {total} += exp_({read} - {most})",
                lanes,
                f"    {total} = np.log({total}) + {most}",
                each,
                f"    {lanes}",
                f"        {write} = {read} - {total}",
            ],
        )

    def _scratch(self) -> str:
        return f"s[{self._rows(1, True)}, l]"

    def _log_softmax_backward(self, node: fx.Node, args: Sequence[Any]) -> None:
        g, y = args[0], args[1]
        if len(y.shape) != 2 or args[2] % 2 != 1:
            raise NotBatchable("log_softmax other than over the classes of a batch")
        out = self.values[node] = self._new(node, True)
        rows, classes = y.shape
        total = self._scratch()
        each, lanes = f"for i1 in range({classes}):", "for l in range(LANES):"
        grad, value, write = (v.element(("i0", "i1")) for v in (g, y, out))
        self._emit(
            [f"for i0 in range({rows}):"],
            [
                lanes,
                f"    {total} = ZERO",
                each,
                f"    {lanes}",
                f"        {total} += {grad}",
                each,
                f"    {lanes}",
                f"        {write} = {grad} - exp_({value}) * {total}",
            ],
        )

    def _nll(self, node: fx.Node, args: Sequence[Any]) -> None:
        a, target, weight, reduction = args[:4]
        if weight is not None or reduction != 1 or len(a.shape) != 2 or target.buffer != "y":
            raise NotBatchable("nll_loss other than the mean over a batch")
        out = self._new(node, True)
        self.values[node] = (out, None)
        rows = a.shape[0]
        write = out.element(())
        self.body += ["for l in range(LANES):", f"    {write} = ZERO", f"for i0 in range({rows}):"]
        lines = self._looked_up("label", target, ("i0",), [f"{write} -= {a.element(('i0', 'label'))}"])
        self.body += [f"    {line}" for line in lines]
        self.body += ["for l in range(LANES):", f"    {write} = {write} / {self._number(rows)}"]

    def _nll_backward(self, node: fx.Node, args: Sequence[Any]) -> None:
        g, a, target = args[:3]
        out = self.values[node] = self._new(node, True)
        rows, classes = a.shape
        write = out.element(("i0", "label"))
        self._emit(
            [f"for i0 in range({rows}):"],
            [
                f"for i1 in range({classes}):",
                "    for l in range(LANES):",
                f"        {out.element(('i0', 'i1'))} = ZERO",
                *self._looked_up("label", target, ("i0",), [f"{write} = -{g.element(())} / {self._number(rows)}"]),
            ],
        )

    def _looked_up(
        self, name: str, index: Value, indices: Sequence[str], inner: Sequence[str], heads: Sequence[str] = ()
    ) -> list[str]:
        """Loops over `heads` and lanes, in which `name` is an element of an index: one for all lanes, or each lane's."""
        read, deeper = f"{name} = {index.element(indices)}", "    " * len(heads)
        body = [read, *inner] if index.per_lane else inner
        lines = [*heads, f"{deeper}for l in range(LANES):", *(f"{deeper}    {line}" for line in body)]
        return lines if index.per_lane else [read, *lines]

    def _mse(self, node: fx.Node, args: Sequence[Any]) -> None:
        a, b = args
        out = self.values[node] = self._new(node, a.per_lane or b.per_lane)
        heads, indices = self._loops(a.shape)
        gap = f"({a.element(indices)} - {_expanded(b, a.shape).element(indices)})"
        write = out.element(())
        self.body += ["for l in range(LANES):", f"    {write} = ZERO"]
        self._emit(heads, ["for l in range(LANES):", f"    {write} += {gap} * {gap}"])
        self.body += ["for l in range(LANES):", f"    {write} = {write} / {self._number(int(np.prod(a.shape)))}"]

    def _embedding(self, node: fx.Node, args: Sequence[Any]) -> None:
        table, index = args[:2]
        if index.buffer != "x":
            raise NotBatchable("an embedding of what a lane computed")
        out = self.values[node] = self._new(node, True)
        heads, indices = self._loops(index.shape)
        self._emit(
            heads,
            self._looked_up(
                "letter", index, indices, [f"{out.element((*indices, 'e'))} = {table.element(('letter', 'e'))}"],
                [f"for e in range({table.shape[1]}):"],
            ),
        )  # fmt: skip

    def _embedding_backward(self, node: fx.Node, args: Sequence[Any]) -> None:
        g, index, count = args[:3]
        if args[3] not in (-1, None):
            raise NotBatchable("an embedding with padding")
        out = self.values[node] = self._new(node, True)
        heads, indices = self._loops(index.shape)
        width = out.shape[1]
        whole = f"range({out.offset}, {out.offset + count * width})"
        self._emit([f"for r in {whole}:"], ["for l in range(LANES):", "    s[r, l] = ZERO"])
        self._emit(
            heads,
            self._looked_up(
                "letter", index, indices, [f"{out.element(('letter', 'e'))} += {g.element((*indices, 'e'))}"],
                [f"for e in range({width}):"],
            ),
        )  # fmt: skip

    def _outputs(self, outputs: Any) -> None:
        loss, *gradients = (self.values[n] for n in outputs)
        self.body += ["for l in range(LANES):", f"    loss[l] = {loss.element(['0'] * len(loss.shape))}"]
        row = 0
        for gradient, shape in zip(gradients, self.step.shapes.values(), strict=False):  # none of the loss alone
            target = Value("g", tuple(shape), _contiguous(shape), row, True)
            row += shape.numel()
            dims, (to, source) = _collapsed(tuple(shape), [target, gradient])
            heads, indices = self._loops(dims)
            self._emit(heads, ["for l in range(LANES):", f"    {to.element(indices)} = {source.element(indices)}"])


def _contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def _expanded(value: Value, shape: tuple[int, ...]) -> Value:
    """The value broadcast to a shape."""
    missing = len(shape) - len(value.shape)
    sizes = (1,) * missing + value.shape
    strides = (0,) * missing + value.strides
    found = tuple(0 if n == 1 and m != 1 else s for n, m, s in zip(sizes, shape, strides, strict=True))
    return Value(value.buffer, shape, found, value.offset, value.per_lane)


def _collapsed(shape: tuple[int, ...], values: Sequence[Value]) -> tuple[tuple[int, ...], list[Value]]:
    """Neighbouring dimensions that lie one within the other in every operand as one: fewer, longer loops."""
    dims: list[tuple[int, list[int]]] = []
    for k, n in enumerate(shape):
        if n == 1:
            continue
        strides = [v.strides[k] for v in values]
        if dims and all(outer == inner * n for outer, inner in zip(dims[-1][1], strides, strict=True)):
            dims[-1] = (dims[-1][0] * n, strides)
        else:
            dims.append((n, strides))
    sizes = tuple(n for n, _ in dims)
    return sizes, [
        Value(v.buffer, sizes, tuple(s[i] for _, s in dims), v.offset, v.per_lane) for i, v in enumerate(values)
    ]
