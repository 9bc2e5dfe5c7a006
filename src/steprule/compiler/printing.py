"""What every typed target shares: the order of a pass and the names of its quantities.

A target (numba_cpu.py, triton_gpu.py) says how its language loads and stores. How it writes operations is its column of the table.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

from steprule.arithmetic import apply
from steprule.compiler.graph import Node
from steprule.compiler.rounding import LOW, draw_of
from steprule.compiler.split import Pass, Program
from steprule.compiler.writing import Constant, PlainWriter, Writer, Written, literal
from steprule.maths import OPERATIONS
from steprule.operations import Reduction

PRODUCTS = (("gradient", "gradient"), ("weight", "weight"), ("update", "update"), ("update", "gradient"))
"""The inner products over a tensor that a kernel forms where it diagnoses its step: of the gradient as it lies in memory, of the
parameter before the step, and of what the step changes of the parameter as it is stored."""


class NumbaWriter(Writer):
    """Operations as Numba takes them, on numbers of one dtype."""

    columns_of_table = ("numba",)
    called = "np.{name}({operands})"


NUMBA = PlainWriter(NumbaWriter.columns_of_table, NumbaWriter.called)


def reduction_of(node: Node) -> Reduction:
    """How the result of a node comes from elements."""
    found = OPERATIONS[node.op].reduction
    assert found is not None, node
    return found


def np_number(value: float) -> str:
    """A float64 within a function for Numba, where `float("inf")` cannot stand."""
    if math.isfinite(value):
        return repr(value)
    return "-np.inf" if value < 0 else "np.inf"


class PassPrinter(Writer):
    """One pass of a program, for columns of given dtypes; the maths is done in `compute`."""

    @property
    def prefix(self) -> str:
        """What the names of typed constants begin with."""
        return f"C{self.k}"

    def __init__(
        self, program: Program, k: int, dtypes: Sequence[str], compute: str, *, stochastic: bool = False, diagnoses: bool = False,
    ) -> None:  # fmt: skip
        self.program, self.k, self.compute = program, k, compute
        self.part: Pass = program.passes[k]
        self.last = not self.part.reductions
        stored = program.stores if self.last and self.part.stores is None else self.part.stores
        self.stores: Mapping[str, Node | Constant] = stored or {}
        self.diagnoses = diagnoses and self.last and ("p" in self.stores or not self.part.stores)
        """Whether it forms the `PRODUCTS`: of several passes that store, the one that stores the parameter."""
        self.dtype = dict(zip(program.laid, dtypes, strict=True))
        rounds = [n for n in self.stores if stochastic and n in program.columns and n != "g"]
        self.by_chance = {n: draw_of(program.graph.rule, n) for n in rounds if self.dtype[n] in LOW}
        """What it rounds by chance where it is stored, with the draw of each: the parameter and states, not what lies between stages."""
        self.names: dict[Node, str] = {}
        self.constants: dict[str, str] = {}
        self._taken: set[str] = set()
        self.whole_tensor: list[str] = []
        """Lines once a tensor: the roots and reductions that this pass uses, and what follows from them."""
        self.each_element: list[str] = []
        """Lines once an element: loads, then the maths."""
        self._lay_out()

    # What a language says in its own way.

    @abstractmethod
    def load(self, name: str) -> str:
        """An element of a column, in the dtype of the maths."""

    @property
    @abstractmethod
    def plain(self) -> Writer:
        """What writes the parts of a reduction, in float64."""

    @abstractmethod
    def root(self, row: int) -> str:
        """A scalar of the table."""

    @abstractmethod
    def reduced(self, row: int) -> str:
        """A reduction that an earlier pass left."""

    def place(self, node: Node, line: str) -> None:
        """Put the line of a quantity where it is computed: once an element."""
        self.each_element.append(line)

    # What is the same in all.

    @property
    def columns(self) -> list[tuple[int, str]]:
        """The columns that this pass reads or writes, with their row in the table of addresses."""
        return [(k, n) for k, n in enumerate(self.program.laid) if n in self.touched]

    @property
    def touched(self) -> set[str]:
        """Their names."""
        return {*self.part.loads, *self.stores, *(("p", "g") if self.diagnoses else ())}

    def _lay_out(self) -> None:
        whole = [f"{self._new(n)} = {self.rounded(n, self.expression(n))}" for n in self.part.per_tensor]
        for name in self.part.loads:
            node = self.program.graph.inputs[name]
            self.names[node] = self._unique(name)
            self.place(node, f"{self.names[node]} = {self.load(name)}")
        for node in self.part.elements:
            if node.op != "input":
                expression = self.rounded(node, self.expression(node))
                self.place(node, f"{self._new(node)} = {expression}")
        self.results = [self.show(r.args[0]) for r in self.part.reductions]
        """The operands of this pass's reductions."""
        self.stored = {n: self.show(v) for n, v in self.stores.items()}
        """What it stores, by column."""
        lines = []
        for row, node in enumerate(self.program.roots):
            if node in self.names:
                test = f" > {self.show(0.0)}" if node.truth else ""
                lines.append(f"{self.names[node]} = {self.root(row)}{test}")
        for row, node in enumerate((*self.program.reductions, *self.program.given)):
            if node in self.names:
                lines.append(f"{self.names[node]} = {self.rounded(node, self.reduced(row))}")
        self.whole_tensor = [*lines, *whole]

    def rounded(self, node: Node, expression: str) -> str:
        """What follows from a cast is rounded as torch rounds it: after each operation."""
        if not node.dtype or node.op in (node.dtype, "input"):
            return expression
        return self._text(apply(node.dtype, Written(self, expression)))

    def show(self, arg: Node | Constant) -> str:
        """An operand: a name, or the name of a typed constant."""
        if not isinstance(arg, Node):
            # A bare 1 would make a whole loop float64.
            return self.constants.setdefault(literal(arg), f"{self.prefix}N{len(self.constants)}")
        return self.names.get(arg) or self._new(arg)

    def summands(self, cast: Callable[[str], str]) -> list[str]:
        """What an element adds to each of this pass's reductions; `cast` makes a float64 of an operand."""
        pairs = zip(self.part.reductions, self.results, strict=True)
        return [self.plain.of(reduction_of(node).each, cast(x)) for node, x in pairs]

    def joined(self, node: Node, a: str, b: str) -> str:
        """Two parts of a reduction as one."""
        return self.plain.of(OPERATIONS[reduction_of(node).join].call, a, b)

    def _new(self, node: Node) -> str:
        self.names[node] = self._unique(node.name or node.op)
        return self.names[node]

    def _unique(self, base: str) -> str:
        # The author's names end in an underscore, or in one and a number; no name that a target makes up does.
        name, count = f"{base}_", 1
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name
