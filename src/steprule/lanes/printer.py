"""StepPrinter: what operations of a model's step are printed with: loops, constants, scratch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import fx

from steprule.lanes.buffers import REGISTER, Lifetimes, Operand, Rows, Scratch, contiguous, loops, over_lanes, result_of
from steprule.lanes.model import ModelStep
from steprule.lanes.nests import Kind, Nest, Plan, Value, sizes_of


class StepPrinter:
    """The lines of a model's step so far, and where each tensor of its graph lies."""

    def __init__(self, step: ModelStep, own_data: bool, kind_of: Callable[[fx.Node], Kind]) -> None:
        self.step = step
        self.lines: list[str] = []
        self.constants: dict[str, str] = {}
        """By value, their names."""
        self.scratch = Scratch()
        self.lifetimes = Lifetimes(step.graph)
        self.operands: dict[fx.Node, Any] = {}
        """An `Operand` each, or a tuple of them where an operation has several results."""
        self._rows: dict[fx.Node, Rows] = {}
        """The scratch of each lane's results that somebody still reads."""
        self._freed: list[Rows] = []
        """Scratch that nobody reads behind the loops that are open."""
        self._nest: Nest | None = None
        self._values = 0
        inputs = [n for n in step.graph.nodes if n.op == "placeholder"]
        first = 0
        for node, shape in zip(inputs[:-2], step.shapes.values(), strict=True):
            self.operands[node] = Operand("p", tuple(shape), contiguous(shape), first, per_lane=True)
            first += shape.numel()
        for node, name, data in zip(inputs[-2:], "xy", (step.x, step.y), strict=True):
            self.operands[node] = Operand(name, tuple(data.shape), contiguous(data.shape), 0, per_lane=own_data)
        differing = [node for node, operand in self.operands.items() if operand.per_lane]
        self._plan = Plan(step.graph, differing, self.lifetimes, kind_of)
        self._gradients = self._rows_of_gradients()

    def number(self, value: float) -> str:
        """The name of a constant in the dtype of the model."""
        return self.constants.setdefault(repr(float(value)), f"C{len(self.constants)}")

    def new(self, node: fx.Node, per_lane: bool) -> Operand:
        """Scratch for a result, in torch's own strides where these leave no gap."""
        meta = result_of(node)
        shape, strides = tuple(meta.shape), _without_gaps(meta)
        if per_lane and node in self._gradients:
            self.operands[node] = Operand("g", shape, strides, self._gradients[node], per_lane)
            return self.operands[node]  # type: ignore[no-any-return]
        rows = self.scratch.take(max(1, meta.numel()), per_lane=per_lane)
        if per_lane:
            self._rows[node] = rows
        self.operands[node] = Operand(rows.buffer, shape, strides, rows.first, per_lane)
        return self.operands[node]  # type: ignore[no-any-return]

    def _rows_of_gradients(self) -> dict[fx.Node, int]:
        """Which results are gradients, element by element, and where these lie: they are computed there."""
        (output,) = (n for n in self.step.graph.nodes if n.op == "output")
        found, row = dict[fx.Node, int](), 0
        for node, size in zip(output.args[0][1:], self.step.shapes.values(), strict=False):
            owner, meta = self.lifetimes.owner[node], result_of(node)
            result: Any = owner.meta.get("val")
            if owner.op == "call_function" and not isinstance(result, tuple | list) and result.numel() == size.numel():
                same = meta.storage_offset() == 0 and tuple(meta.stride()) == contiguous(size)
                if same and _without_gaps(result) == tuple(result.stride()):
                    found.setdefault(owner, row)
            row += size.numel()
        return found

    def over_an_operand(self, node: fx.Node) -> Operand | None:
        """The operand of an elementwise operation that nobody reads behind it and that may be written over."""
        if node in self._gradients or (self._nest and self._nest.whole):
            return None
        meta = result_of(node)
        for arg in node.all_input_nodes:
            operand, owner = self.operands[arg], self.lifetimes.owner[arg]
            fits = isinstance(operand, Operand) and operand.shape == tuple(meta.shape) and not operand.in_register
            if not fits or operand.strides != tuple(meta.stride()) or owner not in self._rows:
                continue
            if self.lifetimes.last_reader[owner] is node and self._rows[owner].count == meta.numel():
                self._rows[node] = self._rows.pop(owner)
                self.operands[node] = operand
                return operand  # type: ignore[no-any-return]
        return None

    def release(self, node: fx.Node) -> None:
        """Give back the scratch that nobody reads behind this operation."""
        for owner in self.lifetimes.ends_at(node):
            if owner in self._rows:
                self._freed.append(self._rows.pop(owner))
        if self._nest is None:
            self._give_back()

    def _give_back(self) -> None:
        for rows in self._freed:
            self.scratch.give_back(rows)
        self._freed = []

    def number_per_lane(self) -> str:
        """A row of scratch, as it is written within the loop over lanes."""
        return Operand("s", (), (), self.scratch.take(1, per_lane=True).first, per_lane=True).element(())

    def emit(self, heads: Sequence[str], inner: Sequence[str]) -> None:
        """Nested loops with these heads around some lines, behind all others."""
        self.close()
        self.ahead(heads, inner)

    def ahead(self, heads: Sequence[str], inner: Sequence[str]) -> None:
        """The same before the loops that are open, of which it reads nothing and to which it writes only what none has written."""
        for depth, head in enumerate(heads):
            self.lines.append("    " * depth + head)
        self.lines += ["    " * len(heads) + line for line in inner]

    def close(self) -> None:
        """Nothing more comes into the loops that are open."""
        if self._nest is not None:
            self.lines += self._nest.lines()
            self._nest = None
            self.scratch.end_sums()
        self._give_back()

    def _opened(self, node: fx.Node, shape: Sequence[int]) -> Nest:
        """The loops of an operation: those that are open, or new ones."""
        number = self._plan.nest[node]
        if self._nest is None or self._nest.number != number:
            self.close()
            self._nest = Nest(number, sizes_of(shape))
        return self._nest

    def _value(self, node: fx.Node, nest: Nest, expression: Callable[..., str], args: Sequence[Any]) -> Value:
        """The value of each element of some loops, not kept."""
        self._values += 1
        name = f"{REGISTER}{self._values}"
        read = [(nest.register_of(a) or a) if isinstance(a, Operand) else self.number(a) for a in args]
        return Value(name, expression, read, None)

    def elementwise(self, node: fx.Node, expression: Callable[..., str], args: Sequence[Any]) -> None:
        """Each element of the result from those of the operands at the same place; any other argument is a constant."""
        shape = tuple(result_of(node).shape)
        args = [a.expanded(shape) if isinstance(a, Operand) else a for a in args]
        if not any(a.per_lane for a in args if isinstance(a, Operand)):
            return self._shared(node, expression, args)
        nest = self._opened(node, shape)
        value = self._value(node, nest, expression, args)
        self._keep(node, value)
        nest.values.append(value)
        return None

    def _keep(self, node: fx.Node, value: Value) -> None:
        """Let memory hold a value that is read behind its loops; any other is its name."""
        meta = result_of(node)
        if self._plan.is_read_behind(node):
            value.to = self.over_an_operand(node) or self.new(node, per_lane=True)
        else:
            strides = _without_gaps(meta)
            self.operands[node] = Operand(value.name, tuple(meta.shape), strides, 0, per_lane=True)

    def of_whole_loops(self, node: fx.Node, expression: Callable[[Sequence[str]], str]) -> None:
        """Each element of the result from whatever operands of earlier loops; `expression` is given the element's indices."""
        shape = tuple(result_of(node).shape)
        nest = self._opened(node, shape)
        nest.whole = True
        named = iter(loops(nest.sizes)[1])
        indices = ["0" if n == 1 else next(named) for n in shape]
        value = self._value(node, nest, lambda: expression(indices), [])
        self._keep(node, value)
        nest.values.append(value)

    def added_up(
        self, node: fx.Node, out: Operand, expression: Callable[..., str], args: Sequence[Operand], over: int
    ) -> None:
        """Add up what each element of the operands gives, into `out`, which is of their shape with strides of 0; then divide by `over`."""
        nest = self._opened(node, args[0].shape)
        value = self._value(node, nest, expression, args)
        kept = [(n, s) for n, s in zip(out.shape, out.strides, strict=True) if s]
        total = replace(out, shape=tuple(n for n, _ in kept), strides=tuple(s for _, s in kept))
        sums, to = total, out
        if out.buffer == "s":  # what is read there and what is added to lie apart, so that the loops are made vectors
            first = self.scratch.sums(sum((n - 1) * s for n, s in kept) + 1)
            sums, to = replace(total, buffer="w", offset=first), replace(out, buffer="w", offset=first)
        heads, indices = loops(total.shape)
        self.ahead(heads, over_lanes([f"{sums.element(indices)} = ZERO"]))
        mean = f" / {self.number(over)}" if over != 1 else ""
        if mean or sums is not total:
            line = f"{total.element(indices)} = {sums.element(indices)}{mean}"
            nest.behind += ["    " * depth + head for depth, head in enumerate(heads)]
            nest.behind += ["    " * len(heads) + one for one in over_lanes([line])]
        value.to, value.added = to, True
        nest.values.append(value)

    def _shared(self, node: fx.Node, expression: Callable[..., str], args: Sequence[Any]) -> None:
        """The same for all lanes."""
        out = self.new(node, per_lane=False)
        heads, indices = loops(out.shape)
        texts = [a.element(indices) if isinstance(a, Operand) else self.number(a) for a in args]
        self.ahead(heads, [f"{out.element(indices)} = {expression(*texts)}"])


def _without_gaps(meta: Any) -> tuple[int, ...]:
    """torch's own strides where these leave no gap."""
    shape, strides = tuple(meta.shape), tuple(meta.stride())
    extent = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    return contiguous(shape) if meta.numel() and extent != meta.numel() else strides
