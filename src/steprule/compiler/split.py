"""Split a graph by how often its nodes are computed: once a step, once a tensor, once an element.

*Scalars* depend on hyperparameters, the step number and one-number-a-tensor slots alone: the host computes them in
float64, so a new learning rate or a later step never compiles again. What elements need of them is a table, the *roots*.
*Reductions* over a tensor end one pass over memory and begin the next. The rest are *elements*. Passes recompute
elements from what they load; only the last one stores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from steprule.arithmetic import Real, quiet
from steprule.compiler.fold import fold
from steprule.compiler.graph import Graph, Kind, Node
from steprule.compiler.lazy import lazy
from steprule.compiler.writing import Constant, Writer, literal
from steprule.maths import OPERATIONS


@dataclass
class Pass:
    """One reading of memory: what it loads, computes for each element, and either reduces or stores."""

    loads: list[str] = field(default_factory=list)
    """Names of the element inputs that are read."""
    per_tensor: list[Node] = field(default_factory=list)
    """Nodes computed once a tensor from earlier reductions, before its elements."""
    elements: list[Node] = field(default_factory=list)
    reductions: list[Node] = field(default_factory=list)
    """Reductions that this pass computes; empty in the last."""


@dataclass(frozen=True, eq=False)
class Program:
    """A graph, split."""

    graph: Graph
    roots: tuple[Node, ...]
    """The scalars that elements and reductions use, in the order of the table's rows."""
    reductions: tuple[Node, ...]
    """All reductions over a tensor, in the order in which passes compute them."""
    passes: tuple[Pass, ...]
    given: tuple[Node, ...]
    """The slots of one number that follow from reductions. A kernel takes them after its own reductions."""
    numbers: Mapping[str, Node | Constant]
    """The new values of such slots, by name."""
    closing: Pass
    """How they are computed from what the other passes have left."""
    stores: Mapping[str, Node | float]
    """What the last pass writes: p, the element slots, g if it is zeroed, by name; what stays as it was is left out."""
    totals: Mapping[str, Node] = field(default_factory=dict)
    """Which of the reductions go on over all tensors, by place: a program that measures has them. What tensors add to another total
    stands among its `numbers`."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the tensors that a kernel takes, in the order of its address table: p, g, the slots."""
        slots = [s.name for s in self.graph.rule.slots if not s.is_number]
        return ("p", "g", *(n for n in slots if n in self.graph.inputs or n in self.stores))

    def scalars(self, values: Mapping[str, Any]) -> tuple[list[float], dict[str, float]]:
        """The roots' values and the new one-number-a-tensor slots, from hyperparameters, t and such slots."""
        fast, exact = self._host
        try:
            return fast(values)  # type: ignore[no-any-return]
        except (ZeroDivisionError, OverflowError, ValueError):  # where Python would raise, IEEE 754 has inf or nan
            roots, new = exact({n: Real(v) if type(v) in (int, float) else v for n, v in values.items()})
            return [float(v) for v in roots], {n: float(v) for n, v in new.items()}

    @lazy
    def scalar_slots(self) -> dict[str, Node | Constant]:
        """The one-number-a-tensor slots that are known when the step begins, and their new values."""
        outputs = ((s.name, self.graph.outputs.get(s.name)) for s in self.graph.rule.slots if s.is_number)
        return {name: value for name, value in outputs if value is not None and name not in self.numbers}

    @lazy
    def _host(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The scalars as a Python function, on plain floats and, slower, on those that never raise."""
        # By subscript: a hyperparameter may bear the name of a function.
        names: dict[Node, str] = {n: f"values[{name!r}]" for name, n in self.graph.inputs.items()}
        host = _Host(names)
        lines = []
        for node in self.graph.live:
            if node.kind is Kind.SCALAR and node.op != "input":
                expression = host.expression(node)
                names[node] = f"_s{len(names)}"
                lines.append(f"{names[node]} = {expression}")
        new = [f"{name!r}: {host.show(value)}" for name, value in self.scalar_slots.items()]
        head = "def scalars(values):"
        tail = f"return [{', '.join(names[n] for n in self.roots)}], {{{', '.join(new)}}}"
        code = compile("\n    ".join([head, *lines, tail]), "<scalars>", "exec")
        scopes = (dict(_FAST), dict(_EXACT))
        for scope in scopes:
            exec(code, scope)
        return scopes[0]["scalars"], scopes[1]["scalars"]


def split(graph: Graph, *, zero_grad: bool = False) -> Program:
    """Split `graph` into scalars, reductions and element passes; with `zero_grad` the last pass also zeroes g."""
    graph = fold(graph)
    live = [n for n in graph.live if n.op != "input"]
    outputs = {k: v for k, v in graph.outputs.items() if v is not None}
    per_tensor = {s.name for s in graph.rule.slots if s.is_number}
    stores = {k: v for k, v in outputs.items() if k not in per_tensor and v is not graph.inputs.get(k)}
    if zero_grad:
        stores["g"] = 0.0
    level: dict[Node, int] = dict.fromkeys(graph.inputs.values(), 0)
    for node in live:
        level[node] = max((level[a] + _is_reduction(a) for a in node.args if isinstance(a, Node)), default=0)
    reductions = sorted((n for n in live if _is_reduction(n)), key=lambda n: level[n])
    count = 1 + max([level[r] + 1 for r in reductions], default=0)
    passes = []
    for k in range(count):
        last = k == count - 1
        targets = (
            [n for n in stores.values() if isinstance(n, Node)] if last else [r for r in reductions if level[r] == k]
        )
        passes.append(_pass(graph, targets, [] if last else targets))
    used = [a for n in live if n.kind is not Kind.SCALAR for a in n.args if isinstance(a, Node)]
    used += [n for n in stores.values() if isinstance(n, Node)]
    numbers = {n: v for n, v in outputs.items() if n in per_tensor and graph.inputs[n].kind is Kind.REDUCTION}
    used += [n for n in numbers.values() if isinstance(n, Node)]
    roots = tuple(dict.fromkeys(n for n in used if n.kind is Kind.SCALAR))
    given = tuple(n for n in graph.inputs.values() if n.kind is Kind.REDUCTION and n in used)
    closing = _pass(graph, [n for n in numbers.values() if isinstance(n, Node)], [])
    return Program(graph, roots, tuple(reductions), tuple(passes), given, numbers, closing, stores)


def measuring(program: Program) -> Program:
    """Only the passes of a program that reduce: what it computes of tensors without writing to any. Its results are sums or numbers."""
    results = {n: v for n, v in program.graph.outputs.items() if v is not None}
    totals = {n: v for n, v in results.items() if isinstance(v, Node) and v in program.reductions and v.op == "sum"}
    numbers = {n: v for n, v in results.items() if n not in totals}
    passes = tuple(p for p in program.passes if p.reductions)
    closing = _pass(program.graph, [v for v in numbers.values() if isinstance(v, Node)], [])
    return replace(program, passes=passes, stores={}, numbers=numbers, closing=closing, totals=totals)


def _pass(graph: Graph, targets: list[Node], reductions: list[Node]) -> Pass:
    """What one pass needs for its targets; it stops at scalars and at reductions, which earlier passes have left."""
    needed: set[Node] = set()
    todo: list[Node] = [a for r in reductions for a in r.args if isinstance(a, Node)] if reductions else list(targets)
    while todo:
        node = todo.pop()
        if node in needed or node.kind is Kind.SCALAR:
            continue
        needed.add(node)
        if not _is_reduction(node):
            todo += [a for a in node.args if isinstance(a, Node)]
    loads = [name for name, n in graph.inputs.items() if n in needed and n.kind is Kind.ELEMENT]
    order = [n for n in graph.nodes if n in needed]
    return Pass(
        loads=loads,
        per_tensor=[n for n in order if n.kind is Kind.REDUCTION and not _is_reduction(n)],
        elements=[n for n in order if n.kind is Kind.ELEMENT],
        reductions=reductions,
    )


def _is_reduction(node: Node) -> bool:
    return node.op != "input" and OPERATIONS[node.op].reduction is not None


class _Host(Writer):
    """Writes scalars as Python, with names for what is known."""

    columns_of_table = ("python",)

    def __init__(self, names: dict[Node, str]) -> None:
        self.names = names

    def show(self, arg: Node | Constant) -> str:
        return self.names[arg] if isinstance(arg, Node) else f"({literal(arg)})"


def _exact(function: Callable[..., Any]) -> Callable[..., Any]:
    never_raising = quiet(function)
    return lambda *args: Real(never_raising(*args))


_FAST = {"power" if row.name == "pow" else row.name: row.floats for row in OPERATIONS.values() if row.floats}
"""The functions of floats that the table has; where one raises, the exact ones are asked."""
_EXACT = {name: _exact(function) for name, function in _FAST.items()}
"""The same on numbers that never raise."""
