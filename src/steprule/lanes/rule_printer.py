"""What a rule over lanes is printed with: numbers of one lane, and passes with rows outside and lanes inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steprule.compiler.graph import Node
from steprule.compiler.printing import NUMBA, NumbaWriter, PassPrinter, np_number, reduction_of
from steprule.compiler.writing import Constant, Writer, literal


class LaneWriter(NumbaWriter):
    """Operations on numbers of one lane, in float64 unless told otherwise."""

    def __init__(self, compute: str = "float64") -> None:
        self.compute = compute
        self.names: dict[Node, str] = {}

    def show(self, arg: Node | Constant) -> str:
        """An operand: a name, or a typed constant."""
        return self.names[arg] if isinstance(arg, Node) else f"np.{self.compute}({literal(arg)})"

    def define(self, node: Node) -> str:
        """The line that computes a node."""
        expression = self.expression(node)
        self.names[node] = f"s{len(self.names)}"
        return f"{self.names[node]} = {expression}"


class LanePassPrinter(NumbaWriter, PassPrinter):
    """One pass as a Python function for Numba: rows outside, lanes inside."""

    def __init__(self, *args: Any, stage: str, kept: Mapping[str, int]) -> None:
        self.stage, self.kept = stage, kept
        super().__init__(*args)

    @property
    def prefix(self) -> str:
        """What the names of typed constants begin with."""
        return f"C{self.stage}S{self.k}"  # the stages' functions are of one module

    def text(self) -> str:
        """The function, with its constants before it."""
        names = ", ".join(f"{n}_column" for n in self.program.columns)
        constants = [f"{name} = np.{self.compute}({value})" for value, name in self.constants.items()]
        body = self._storing(names) if self.last else self._reducing(names)
        return "\n".join([*constants, "", "", *body, ""])

    @property
    def _views(self) -> list[str]:
        """A row of each column: an index from 0 along one dimension is what LLVM makes vectors of."""
        return [f"{n}_row = {n}_column[row]" for _, n in self.columns]

    @property
    def _scalar_views(self) -> list[str]:
        """The same of the scalars and the reductions of tensor i, those that are used."""
        found = [(f"r{row}", f"table[{row}]") for row in range(len(self.program.roots))]
        rows = [*range(len(self.program.reductions)), *self.kept.values()]
        found += [(f"d{row}", f"reduced[{row}, i]") for row in rows]
        return [f"{n} = {view}" for n, view in found if any(f"{n}[l]" in line for line in self.whole_tensor)]

    def _storing(self, names: str) -> list[str]:
        # What a lane that is dead keeps is read before the first store, and no store hangs on a condition: behind one, LLVM 22
        # reads a state that another has been written to.
        loaded = [f"{n}_row_old = {n}_row[l]" for n in self.stored]
        chosen = [f"{n}_row_new = {v} if living else {n}_row_old" for n, v in self.stored.items()]
        stores = [f"{n}_row[l] = {n}_row_new" for n in self.stored]
        return [
            '@njit(inline="always")',
            f"def stage{self.stage}pass{self.k}(tensors, table, reduced, alive, {names}):",
            "    for row in range(len(tensors)):",
            "        i = tensors[row]",
            *(f"        {line}" for line in (*self._scalar_views, *self._views)),
            "        for l in range(table.shape[1]):",
            "            living = alive[l] != 0",
            *(f"            {line}" for line in (*loaded, *self.whole_tensor, *self.each_element, *chosen, *stores)),
        ]

    def _reducing(self, names: str) -> list[str]:
        nodes, values = self.part.reductions, self.summands("np.float64({})".format)
        adding = [f"part{r} = {value}" for r, value in enumerate(values)]
        adding += [f"total{r}[l] = {self.joined(node, f'total{r}[l]', f'part{r}')}" for r, node in enumerate(nodes)]
        return [
            '@njit(inline="always")',
            f"def stage{self.stage}pass{self.k}(first, table, reduced, sums, {names}):",
            *(f"    sums[{r}] = {np_number(reduction_of(node).start)}" for r, node in enumerate(nodes)),
            "    for i in range(len(first) - 1):",
            *(f"        total{r} = sums[{r}, i]" for r in range(len(values))),
            *(f"        {line}" for line in self._scalar_views),
            "        for row in range(first[i], first[i + 1]):",
            *(f"            {line}" for line in self._views),
            "            for l in range(table.shape[1]):",
            *(f"                {line}" for line in (*self.whole_tensor, *self.each_element, *adding)),
        ]

    def load(self, name: str) -> str:
        """An element of a column."""
        return f"{name}_row[l]"

    @property
    def plain(self) -> Writer:
        """What writes the parts of a reduction."""
        return NUMBA

    def root(self, row: int) -> str:
        """A scalar of the table."""
        return f"r{row}[l]"

    def reduced(self, row: int) -> str:
        """A reduction, or a slot of one number that follows from one."""
        own = len(self.program.reductions)
        return f"d{row if row < own else self.kept[self.program.given[row - own].name or '']}[l]"
