"""What every typed target shares: the order of a pass, the names of its quantities, and each operation in torch's semantics.

A target (cpu.py, gpu.py) says how its language loads, stores and picks; nothing here knows a language but Python's own
arithmetic signs, which all of them take.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from steprule.arithmetic import is_product
from steprule.compiler.graph import COMPARISONS, Node
from steprule.compiler.split import Pass, Program, literal, product

_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
assert set(COMPARISONS.values()) <= set(_SIGNS)


class Operations(ABC):
    """How a language writes one operation on typed operands, in torch's semantics on NaN."""

    @abstractmethod
    def show(self, arg: Node | float | int | bool) -> str:
        """An operand: a name, or a typed constant."""

    @abstractmethod
    def pick(self, condition: str, a: str, b: str) -> str:
        """a where the condition holds, else b."""

    @abstractmethod
    def function(self, name: str, x: str) -> str:
        """sqrt, exp, log or abs of x."""

    @abstractmethod
    def power(self, a: str, b: str) -> str:
        """a to a power that is no literal."""

    def divide(self, a: str, b: str) -> str:
        """a / b, correctly rounded."""
        return f"{a} / {b}"

    def further(self, sign: str, a: str, b: str) -> str:
        """The larger or smaller of two; nan if `a` is, and if `b` is, because no comparison with it holds."""
        return self.pick(f"({a} {sign} {b}) | ({a} != {a})", a, b)

    def expression(self, node: Node) -> str:
        """One operation on typed operands, in torch's semantics on NaN."""
        op = node.op
        args = [self.show(a) for a in node.args]
        if op == "div":
            return self.divide(args[0], args[1])
        if op in _SIGNS:
            return f"{args[0]} {_SIGNS[op]} {args[1]}"
        if op == "neg":
            return f"-{args[0]}"
        if op == "pow" and is_product(node.args[1]):
            exponent = int(node.args[1])  # type: ignore[arg-type]
            shown = product(args[0], abs(exponent))
            if exponent < 0:
                return self.divide(self.show(1.0), f"({shown})")
            return shown if exponent else self.show(1.0)
        if op == "pow":
            return self.function("sqrt", args[0]) if node.args[1] == 0.5 else self.power(args[0], args[1])
        if op == "maximum":
            return self.further(">", args[0], args[1])
        if op == "minimum":
            return self.further("<", args[0], args[1])
        if op == "clamp":
            x, low, high = args
            return self.further("<", f"({self.further('>', x, low)})", high)
        if op == "lerp":
            a, b, weight = args
            near = f"{self.function('abs', weight)} < {self.show(0.5)}"
            end, share = self.pick(near, a, b), self.pick(near, weight, f"({weight} - {self.show(1.0)})")
            return f"({end}) + ({share}) * ({b} - {a})"
        if op == "where":
            return self.pick(args[0], args[1], args[2])
        if op == "sign":
            one, zero = self.show(1.0), self.show(0.0)
            return self.pick(f"{args[0]} > {zero}", one, f"({self.pick(f'{args[0]} < {zero}', f'-{one}', zero)})")
        return self.function(op, args[0])


class NumbaOperations(Operations):
    """The operations as Numba takes them, on numbers of one dtype."""

    def pick(self, condition: str, a: str, b: str) -> str:
        """A conditional expression: both sides are known, so LLVM makes it a select."""
        return f"{a} if {condition} else {b}"

    def function(self, name: str, x: str) -> str:
        """numpy's."""
        return f"np.{name}({x})"

    def power(self, a: str, b: str) -> str:
        """Python's operator, C's pow."""
        return f"{a} ** {b}"


class PassPrinter(Operations):
    """One pass of a program, for columns of given dtypes; the maths is done in `compute`."""

    @property
    def prefix(self) -> str:
        """What the names of typed constants begin with."""
        return f"C{self.k}"

    def __init__(self, program: Program, k: int, dtypes: Sequence[str], compute: str) -> None:
        self.program, self.k, self.compute = program, k, compute
        self.part: Pass = program.passes[k]
        self.last = not self.part.reductions
        self.dtype = dict(zip(program.columns, dtypes, strict=True))
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

    @abstractmethod
    def root(self, row: int) -> str:
        """A scalar of the table."""

    @abstractmethod
    def reduced(self, row: int) -> str:
        """A reduction that an earlier pass left."""

    # What is the same in all.

    @property
    def columns(self) -> list[tuple[int, str]]:
        """The columns that this pass reads or writes, with their row in the table of addresses."""
        stored = self.program.stores if self.last else {}
        return [(k, n) for k, n in enumerate(self.program.columns) if n in self.part.loads or n in stored]

    def _lay_out(self) -> None:
        whole = [f"{self._new(n)} = {self.expression(n)}" for n in self.part.per_tensor]
        for name in self.part.loads:
            self.names[self.program.graph.inputs[name]] = self._unique(name)
            self.each_element.append(f"{self.names[self.program.graph.inputs[name]]} = {self.load(name)}")
        for node in self.part.elements:
            if node.op != "input":
                expression = self.expression(node)
                self.each_element.append(f"{self._new(node)} = {expression}")
        self.results = [self.show(r.args[0]) for r in self.part.reductions]
        """The operands of this pass's reductions."""
        self.stored = {n: self.show(v) for n, v in self.program.stores.items()} if self.last else {}
        """What the last pass stores, by column."""
        lines = []
        for row, node in enumerate(self.program.roots):
            if node in self.names:
                test = f" > {self.show(0.0)}" if node.truth else ""
                lines.append(f"{self.names[node]} = {self.root(row)}{test}")
        for row, node in enumerate((*self.program.reductions, *self.program.given)):
            if node in self.names:
                lines.append(f"{self.names[node]} = {self.reduced(row)}")
        self.whole_tensor = [*lines, *whole]

    def show(self, arg: Node | float | int | bool) -> str:
        """An operand: a name, or the name of a typed constant."""
        if not isinstance(arg, Node):
            # A bare 1 would make a whole loop float64.
            return self.constants.setdefault(literal(arg), f"{self.prefix}N{len(self.constants)}")
        return self.names.get(arg) or self._new(arg)

    def summands(self, cast: Callable[[str], str]) -> list[str]:
        """What each of this pass's reductions adds up, an element; `cast` makes a float64 of an operand."""
        shown = map(cast, self.results)
        return [f"{x} * {x}" if r.op == "norm" else x for r, x in zip(self.part.reductions, shown, strict=True)]

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
