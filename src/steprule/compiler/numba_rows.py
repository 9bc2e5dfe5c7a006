"""A pass for Numba that goes row by row: numbers of a row or a column beside the elements, sums along an axis."""

from __future__ import annotations

import numpy as np

from steprule.compiler.graph import Node
from steprule.compiler.numba_cpu import LANES, STORAGE, NumbaPass
from steprule.compiler.printing import np_number, reduction_of
from steprule.compiler.stages import MatrixPass
from steprule.compiler.target import ARGUMENTS

ROW_ARGUMENTS = (*ARGUMENTS, "width", "sums")
"""What such a pass takes: offsets and lengths are in rows; `width` is the elements of a row, `sums` [reductions by column, chunks,
width]."""


class RowsPass(NumbaPass):
    """One pass whose chunks are whole rows."""

    part: MatrixPass

    name_of_signature = "ROWS"
    arguments = ROW_ARGUMENTS

    @property
    def types(self) -> tuple[str, ...]:
        """Of its arguments, in Numba's names."""
        return *super().types, "int64", "float64[:, :, ::1]"

    def _lay_out(self) -> None:
        self.each_row: list[str] = []
        """Lines once a row."""
        self._of_rows: set[Node] = set()
        super()._lay_out()

    def place(self, node: Node, line: str) -> None:
        """Once a row where all that it follows from is known then."""
        if node.op == "input":
            of_row = self._kind(node.name or "") == "row"
        else:
            arrays = [a for a in node.args if isinstance(a, Node) and a in self._arrays_known]
            of_row = bool(arrays) and all(a in self._of_rows for a in arrays)
        self._arrays_known.add(node)
        if of_row:
            self._of_rows.add(node)
        (self.each_row if of_row else self.each_element).append(line)

    @property
    def _arrays_known(self) -> set[Node]:
        return self.__dict__.setdefault("_known", set())  # type: ignore[no-any-return]

    def _kind(self, name: str) -> str:
        return self.part.kinds.get(name, "full")  # the gradient is not in it where only a diagnosis reads it

    @property
    def columns(self) -> list[tuple[int, str]]:
        """The columns that this pass reads or writes, with their row in the table of addresses."""
        along = {t.name for t in self.part.along.values()}
        return [(k, n) for k, n in enumerate(self.program.laid) if n in self.touched | along]

    def _arrays(self) -> list[str]:
        lines = ["start, n = offsets[c], lengths[c]"]
        by_column = {t.name for node, t in self.part.along.items() if node.args[1] == -2}
        for row, name in self.columns:
            storage = STORAGE[self.dtype[name]]
            size = np.dtype(storage).itemsize
            at, count = {
                "full": (f" + start * width * {size}", "n * width"),
                "row": (f" + start * {size}", "n"),
                "column": ("", "width"),
            }[self._kind(name)]
            if name not in by_column:
                lines.append(f"{name}_cells = carray(pointer(addresses[{row}, i]{at}, np.{storage}), {count})")
        return lines

    def _storing(self) -> list[str]:
        full = [n for _, n in self.columns if self._kind(n) == "full"]
        lines = ["for r in range(n):", "    first = r * width"]
        lines += [f"    {name}_row = {name}_cells[first : first + width]" for name in full]
        lines += [f"    {line}" for line in self.each_row]
        lines += ["    for k in range(width):", *(f"        {line}" for line in self.each_element)]
        return lines + [f"        {line}" for line in self.storing("row")]

    def _reducing(self) -> list[str]:
        """As the pass without rows: a fixed set of accumulators for each sum, in a fixed order."""
        nodes = list(zip(self.part.reductions, self.summands("np.float64({})".format), strict=True))
        whole = [(r, n) for r, (n, _) in enumerate(nodes) if n not in self.part.along]
        rows = [(r, n) for r, (n, _) in enumerate(nodes) if n in self.part.along and n.args[1] == -1]
        columns = [(r, n) for r, (n, _) in enumerate(nodes) if n in self.part.along and n.args[1] == -2]
        lines = [f"lanes{r} = np.full({LANES}, {np_number(reduction_of(n).start)})" for r, n in (*whole, *rows)]
        for q, (r, n) in enumerate(columns):
            lines += [f"lanes{r} = sums[{q}, c]", f"lanes{r}[:] = {np_number(reduction_of(n).start)}"]
        full = [n for n in self.part.loads if self._kind(n) == "full"]
        lines += ["for r in range(n):", "    first = r * width"]
        lines += [f"    {name}_row = {name}_cells[first : first + width]" for name in full]
        lines += [f"    {line}" for line in self.each_row]
        lines += [f"    lanes{r}[:] = {np_number(reduction_of(n).start)}" for r, n in rows]
        lines += [f"    for b in range(0, width, {LANES}):"]
        lines += [f"        {name}_block = {name}_row[b : b + {LANES}]" for name in full]
        by_column = [n for n in self.part.loads if self._kind(n) == "column"]
        lines += [f"        {name}_block = {name}_cells[b : b + {LANES}]" for name in by_column]
        lines += [f"        block{r} = lanes{r}[b : b + {LANES}]" for r, _ in columns]
        lines += [f"        for k in range(min({LANES}, width - b)):"]
        lines += [f"            {line}" for line in self.each_element]
        for r, (node, value) in enumerate(nodes):
            held = f"block{r}[k]" if (r, node) in columns else f"lanes{r}[k]"
            lines += [f"            part{r} = {value}", f"            {held} = {self.joined(node, held, f'part{r}')}"]
        for r, node in rows:
            total = self.plain.of(reduction_of(node).end, f"whole{r}", "np.float64(width)")
            lines += [f"    {line}" for line in self._joined_lanes(r, node, f"min({LANES}, width)")]
            name = self.part.along[node].name
            lines.append(f"    {name}_cells[r] = {self.written(name, total)}")
        for q, (r, node) in enumerate(whole):
            lines += [*self._joined_lanes(r, node, str(LANES)), f"partial[{q}, c] = whole{r}"]
        return lines

    def _joined_lanes(self, r: int, node: Node, count: str) -> list[str]:
        # Without elements the first is the start.
        joined = self.joined(node, f"whole{r}", f"lanes{r}[k]")
        return [f"whole{r} = lanes{r}[0]", f"for k in range(1, {count}):", f"    whole{r} = {joined}"]

    def random(self, name: str) -> str:
        """The random number of an element of a column."""
        return f"number16((start + r) * width + k, {self.drawn(name)})"

    def load(self, name: str) -> str:
        """A number of a row before its elements, any other by its place in the row."""
        kind = self._kind(name)
        if kind == "row":
            return self.read(name, f"{name}_cells[r]")
        if not self.last:
            return self.read(name, f"{name}_block[k]")
        return self.read(name, f"{name}_row[k]" if kind == "full" else f"{name}_cells[k]")
