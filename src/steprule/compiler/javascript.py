"""The JavaScript form: one step of one tensor in float64, with every quantity of the formula kept.

`step(p, g, states, hypers, t, keep)` takes arrays of one length and returns `{p, states, quantities}`: the new parameter,
the new states, and, where `keep` is true, each row of `anatomy.rows`: an array where it is one number per element. A matrix is an array
of its rows, one after the other; a slot with one number per row or per column is an array of as many.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial, reduce

from steprule.arithmetic import philox
from steprule.compiler import anatomy
from steprule.compiler.graph import Dims, Graph, Kind, Node
from steprule.compiler.writing import Constant, Writer
from steprule.errors import InputError
from steprule.hyper import LOSS
from steprule.maths import OPERATIONS
from steprule.operations import Reduction

# C's pow, as torch has it: one to any power and any number to the power 0 are 1, for nan too, and minus one to infinity. Then
# Python's rest and whole part of a division, whose signs are the divisor's. Then a number rounded to so many significant bits, half to
# even: what is added to it leaves no room for more. No unit is smaller than 2^least, and what is beyond `most` is infinite. bfloat16
# comes by way of float32, as in numpy and torch.
POWER = " ".join([
    "const power = (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Infinity)) ? 1 : a ** b;",
    "const modulo = (a, b) => { const r = a % b; return r !== 0 && (r < 0) !== (b < 0) ? r + b : r; };",
    "const floorDivide = (a, b) => b === 0 ? a / b : Math.round((a - modulo(a, b)) / b);",
    "const rounded = (x, bits, least, most) => { if (!Number.isFinite(x) || x === 0) return x;",
    "const unit = 2 ** Math.max(Math.floor(Math.log2(Math.abs(x))) + 1 - bits, least), far = 1.5 * 2 ** 52;",
    "const found = (x / unit + far - far) * unit; return Math.abs(found) > most ? Math.sign(x) * Infinity : found || 0 * x; };",
    "const bfloat16 = (x) => rounded(Math.fround(x), 8, -133, 3.3895313892515355e38), float16 = (x) => rounded(x, 11, -24, 65504);",
])  # fmt: skip

HELPERS = ("power(", "modulo(", "floorDivide(", "bfloat16(", "float16(")
"""What it defines."""

# A matrix of m rows and n columns from its elements, row by row; what n numbers join to, from the first to the last; the product of
# m x k and k x n; the transpose of m x n.
MATRICES = "\n".join([
    "const grid = (m, n, f) => {",
    "  const x = [];",
    "  for (let r = 0, i = 0; r < m; r++) for (let c = 0; c < n; c++, i++) x.push(f(r, c, i));",
    "  return x;",
    "};",
    "const fold = (n, f, join, start) => {",
    "  let all = start;",
    "  for (let k = 0; k < n; k++) all = join(all, f(k));",
    "  return all;",
    "};",
    "const product = (a, b, m, k, n) => grid(m, n, (r, c) => {",
    "  let sum = 0;",
    "  for (let j = 0; j < k; j++) sum += a[r * k + j] * b[j * n + c];",
    "  return sum;",
    "});",
    "const turned = (x, m, n) => grid(n, m, (r, c) => x[c * n + r]);",
])  # fmt: skip

# `drawing.noise` of a tensor of n numbers, the same bits. A product of two words has 64 bits, of which a number holds 53, so that the upper
# word is put together from halves. Seeds are whole numbers up to 2^53.
NOISE = "\n".join([
    "const upper = (a, b) => {",
    "  const low = (a & 0xffff) * (b >>> 16) + (((a & 0xffff) * (b & 0xffff)) / 65536 >>> 0);",
    "  const high = (a >>> 16) * (b & 0xffff) + (low % 65536);",
    "  return ((a >>> 16) * (b >>> 16) + Math.floor(low / 65536) + Math.floor(high / 65536)) >>> 0;",
    "};",
    "const philox = (a, b, c, d, k, l) => {",
    f"  for (let i = 0; i < {philox.ROUNDS}; i++) {{",
    f"    const x = {philox.MULTIPLIERS[0]}, y = {philox.MULTIPLIERS[1]};",
    "    [a, b, c, d] = [(upper(y, c) ^ b ^ k) >>> 0, Math.imul(y, c) >>> 0, (upper(x, a) ^ d ^ l) >>> 0, Math.imul(x, a) >>> 0];",
    f"    [k, l] = [(k + {philox.STEPS[0]}) >>> 0, (l + {philox.STEPS[1]}) >>> 0];",
    "  }",
    "  return [a, b, c, d];",
    "};",
    "const series = (x, numbers) => numbers.reduce((sum, v) => sum * x + v, 0);",
    "const normal = (word) => {",
    "  const u = (word + 0.5) * 2 ** -32, near = u < 0.5 ? u : 1 - u, q = u - 0.5;",
    f"  if (near >= {philox.TAIL}) return q * series(q * q, {[*philox.MIDDLE]}) / series(q * q, {[*philox.MIDDLE_OVER]});",
    "  let exponent = 0, x = near;",
    "  while (x < 0.5) { x *= 2; exponent--; }",
    f"  const z = (x - {philox.ROOT_HALF}) / (x + {philox.ROOT_HALF});",
    f"  const artanh = series(z * z, {[1 / k for k in philox.ODD]});",
    f"  const root = Math.sqrt(-2 * ((exponent - 0.5) * {philox.LN2} + 2 * z * artanh));",
    f"  const out = series(root, {[*philox.OUTER]}) / series(root, {[*philox.OUTER_OVER]});",
    "  return u < 0.5 ? out : -out;",
    "};",
    "const normals = (n, seed, tensor, step, draw) => Array.from({length: n}, (_, i) => {",
    "  const block = Math.floor(i / 4), high = (Math.floor(block / 2 ** 32) & 0xffff) + (draw & 0xffff) * 65536;",
    "  return normal(philox(block >>> 0, high >>> 0, step >>> 0, tensor >>> 0, seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0)[i % 4]);",
    "});",
])  # fmt: skip

RESERVED = frozenset({
    "arguments", "await", "case", "catch", "const", "debugger", "default", "delete", "do", "enum", "eval",
    "export", "extends", "function", "implements", "instanceof", "interface", "let", "new", "null", "package",
    "private", "protected", "public", "static", "super", "switch", "this", "throw", "typeof", "undefined",
    "var", "void",
})  # fmt: skip
"""Names that are free in Python and not in JavaScript."""


def source(graph: Graph, size: int | None = None) -> str:
    """A variant of a rule as a JavaScript function, for arrays of any length or, five times faster, of `size` alone.

    The second kind needs `POWER` before it. A rule that asks for shapes is printed for the shape of its graph; with a `size` it needs
    `MATRICES` before it too. Raises `InputError` for a rule that asks for more than products and transposes of matrices.

    >>> from steprule import rules
    >>> from steprule.compiler.tracer import trace
    >>> print(source(trace(rules.sgd)).splitlines()[0])
    function sgd(p, g, states, hypers, t, keep) {
    """
    if graph.sizes is None:
        return JavaScriptPrinter(graph, size).text
    asked = {n.op for n in graph.live if n.op != "input" and OPERATIONS[n.op].of_matrices} - {"matmul", "transpose"}
    if asked:
        got = f"{graph.rule.name}, which asks for {', '.join(sorted(asked))}"
        hint = "A library computes those: the class, `train` and `trace` have the rule."
        raise InputError("JavaScript", expected="a rule whose functions of matrices are @ and .T", got=got, hint=hint)
    if any(len(node.dims or ()) > 2 for node in graph.live):
        got = f"{graph.rule.name} on a tensor of {len(graph.dims_of['p'])} axes"
        raise InputError("JavaScript", expected="a matrix, a vector or a number", got=got)
    return MatrixPrinter(graph, size).text


class JavaScriptPrinter(Writer):
    """One function, whose lines compute the nodes in order."""

    columns_of_table = ("javascript",)
    called = "Math.{name}({operands})"

    def __init__(self, graph: Graph, size: int | None) -> None:
        self.graph, self.size = graph, size
        self.names: dict[Node, str] = {}
        self.i = 0
        """Which element is being written, where their number is known."""
        slots = {s.name for s in graph.rule.slots}
        lines = self._begin()
        for name, node in graph.inputs.items():
            if name in ("p", "g", "t"):
                self.names[node] = name
            elif name in graph.values_of_shape:
                self.names[node] = name.removesuffix("(p)")
            else:
                self.names[node] = f"{name}_"
                lines.append(f"const {name}_ = {'states' if name in slots or name == LOSS else 'hypers'}.{name};")
        for node in graph.live:
            if node.op != "input":
                self.names[node] = f"{node.name or node.op}_{len(self.names)}"
                lines += self._lines(node, self.names[node])
        results = {n: self._result(n, v) for n, v in graph.outputs.items() if v is not None}
        states = ", ".join(f"{n}: {v}" for n, v in results.items() if n != "p")
        kept = ", ".join(f"{json.dumps(r.key)}: {self._array(r.node)}" for r in anatomy.rows(graph))
        lines.append(f"return {{p: {results['p']}, states: {{{states}}}, quantities: keep ? {{{kept}}} : null}};")
        body = [f"  {line}" for line in (*self._head(lines), *lines)]
        name = f"{graph.rule.name}_" if graph.rule.name in RESERVED else graph.rule.name
        self.text = "\n".join([f"function {name}(p, g, states, hypers, t, keep) {{", *body, "}"])

    def _begin(self) -> list[str]:
        """How many elements there are."""
        return ["const n = p.length;"] if self.size is None else []

    def _head(self, lines: list[str]) -> list[str]:
        """The functions that the lines call, for a source that stands alone."""
        return [POWER] if self.size is None and any(name in line for line in lines for name in HELPERS) else []

    def _lines(self, node: Node, name: str) -> list[str]:
        if OPERATIONS[node.op].reduction:
            return [f"const {name} = {self._reduced(node)};"]
        if node.kind is not Kind.ELEMENT:
            return [f"const {name} = {self.expression(node)};"]
        return self._elements(node, name)

    def _elements(self, node: Node, name: str) -> list[str]:
        if self.size is None:
            return [f"const {name} = Array.from({{length: n}}, (_, i) => {self.expression(node)});"]
        return self._each(lambda i: f"const {name}${i} = {self.expression(node)};")

    def _reduced(self, node: Node) -> str:
        """A reduction."""
        of, part_of = OPERATIONS[node.op].reduction, node.args[0]
        assert of is not None
        if not (isinstance(part_of, Node) and part_of.kind is Kind.ELEMENT):
            return self.of(of.of_one, self.show(part_of))  # a total of what a tensor has one number for
        return self._joined(node, of, part_of)

    def _joined(self, node: Node, of: Reduction, part_of: Node) -> str:
        """A reduction of elements, from the first to the last."""
        join = partial(self.of, OPERATIONS[of.join].call)

        def part() -> str:
            return f"({self.of(of.each, self.show(part_of))})"

        if self.size is None:
            each = f"Array.from({{length: n}}, (_, i) => {part()})"
            return self.of(of.end, f"{each}.reduce((a, b) => {join('a', 'b')}, {self.show(of.start)})", "n")
        total = reduce(lambda a, b: f"({join(a, b)})", self._each(lambda _: part()))
        return self.of(of.end, total, str(self.size))

    def _each(self, write: Callable[[int], str]) -> list[str]:
        """What `write` gives for each element, where their number is known."""
        written = []
        for i in range(self.size or 0):
            self.i = i
            written.append(write(i))
        return written

    def _result(self, name: str, value: Node | Constant) -> str:
        """The new parameter or a new state: an array, or one number where the state is one."""
        if _is_number(self.graph, name) or (isinstance(value, Node) and value.kind is Kind.ELEMENT):
            return self._array(value)
        shown = self.show(value)
        return f"Array(n).fill({shown})" if self.size is None else f"[{', '.join([shown] * self.size)}]"

    def _array(self, value: Node | Constant) -> str:
        """A quantity as an array, or as one number where it is one for all elements."""
        if not (isinstance(value, Node) and value.kind is Kind.ELEMENT):
            return self.show(value)
        if self.size is None or value.op == "input":
            return self.names[value]
        return f"[{', '.join(f'{self.names[value]}${i}' for i in range(self.size))}]"

    def show(self, arg: Node | Constant) -> str:
        """An operand: an element of an array, a name, or a constant."""
        if isinstance(arg, Node):
            return self._element(arg) if arg.kind is Kind.ELEMENT else self.names[arg]
        value = float(arg)
        if math.isfinite(value):
            return f"({value!r})"
        if math.isnan(value):
            return "(NaN)"
        return "(Infinity)" if value > 0 else "(-Infinity)"

    def _element(self, array: Node) -> str:
        """An element of an array, where one is being written."""
        if self.size is None:
            return f"{self.names[array]}[i]"
        return f"{self.names[array]}[{self.i}]" if array.op == "input" else f"{self.names[array]}${self.i}"


def _is_number(graph: Graph, name: str) -> bool:
    return any(s.name == name and s.is_number for s in graph.rule.slots)


class MatrixPrinter(JavaScriptPrinter):
    """The function of a rule that asks for shapes: each line computes a matrix by its rows, or calls a function of whole matrices."""

    def _begin(self) -> list[str]:
        self.domain = ("1", "1")
        """How many rows and columns the matrix has whose element is being written."""
        sizes = [f"{name} = {size}" for name, size in (self.graph.sizes or {}).items() if name != "1"]
        return [f"const {', '.join(sizes)};"] if sizes else []

    def _head(self, lines: list[str]) -> list[str]:
        return [*super()._head(lines), *(MATRICES.splitlines() if self.size is None else [])]

    def _elements(self, node: Node, name: str) -> list[str]:
        if OPERATIONS[node.op].of_matrices:
            return [f"const {name} = {self._call(node)};"]
        return [f"const {name} = {self._grid(node.dims or (), lambda: self.expression(node))};"]

    def _call(self, node: Node) -> str:
        """A function of whole matrices."""
        matrices = [a for a in node.args if isinstance(a, Node)]
        names = [self.names[a] for a in matrices]
        rows, columns = _extent(matrices[0].dims or ())
        if node.op == "transpose":
            return f"turned({names[0]}, {rows}, {columns})"
        return f"product({', '.join(names)}, {rows}, {columns}, {_extent(matrices[1].dims or ())[1]})"

    def _grid(self, dims: Dims, write: Callable[[], str]) -> str:
        """A matrix of such axes, from what `write` gives for its element."""
        self.domain = _extent(dims)
        return f"grid({', '.join(self.domain)}, (r, c, i) => {write()})"

    def _joined(self, node: Node, of: Reduction, part_of: Node) -> str:
        """A reduction of elements, from the first to the last: of all, or of a row's or a column's."""
        array = self.names[part_of]
        rows, columns = _extent(part_of.dims or ())
        join = f"(a, b) => {self.of(OPERATIONS[of.join].call, 'a', 'b')}"

        def joined(count: str, place: str) -> str:
            each = self.of(of.each, f"{array}[{place}]")
            return self.of(of.end, f"fold({count}, (k) => {each}, {join}, {self.show(of.start)})", count)

        if len(node.args) == 1:
            sizes = [n for n in (rows, columns) if n != "1"]
            return joined(f"({' * '.join(sizes) or '1'})", "k")
        if node.args[1] == -1:
            return f"grid({rows}, 1, (r) => {joined(columns, f'r * {columns} + k')})"
        return f"grid(1, {columns}, (_, c) => {joined(rows, f'k * {columns} + c')})"

    def _result(self, name: str, value: Node | Constant) -> str:
        wanted = self.graph.dims_of.get(name, ())
        if _is_number(self.graph, name) or (isinstance(value, Node) and value.dims == wanted):
            return self._array(value)
        return self._grid(wanted, lambda: self.show(value))

    def _array(self, value: Node | Constant) -> str:
        return self.names[value] if isinstance(value, Node) else self.show(value)

    def _element(self, array: Node) -> str:
        """As numpy broadcasts: what has one row is the same in all rows, what has one column in all columns."""
        rows, columns = _extent(array.dims or ())
        place = "i"
        if rows != self.domain[0]:
            place = "c" if columns == self.domain[1] else "0"
        elif columns != self.domain[1]:
            place = "r"
        return f"{self.names[array]}[{place}]"


def _extent(dims: Dims) -> tuple[str, str]:
    """The names of the numbers of rows and of columns; a vector is one row.

    >>> _extent(("columns",)), _extent(("rows", "1"))
    (('1', 'columns'), ('rows', '1'))
    """
    rows, columns = ("1", "1", *dims)[-2:]
    return rows, columns
