"""Print a rule's graph as a formula: text with the code's names, or LaTeX with the paper's letters.

Each quantity that the author named is a line of its own; what has no name stands where it is used. Text is sequential,
like the code: `square_avg = ...` replaces the old value. LaTeX counts steps: v_t from v_{t-1}.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

from steprule import maths
from steprule.compiler.graph import Graph, Kind, Node
from steprule.maths import OPERATIONS
from steprule.operations import ATOM, POWER, PRODUCT, SUM, Operation

_GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
        "eta",
        "theta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "pi",
        "rho",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "chi",
        "psi",
        "omega",
        "ell",
    ]
)

LONGEST_REPEATED = 6  # an unnamed quantity of more operations than this, used twice, is a statement of its own

Arg = Node | float | int | bool


@dataclass(frozen=True)
class Line:
    """One statement: what is defined, and by what. `again` where the name stood for another value before."""

    left: str
    right: str
    again: bool = False


def text(graph: Graph) -> str:
    """The formula with the code's names, one statement a line; it runs as Python with `steprule.maths` in scope.

    >>> from steprule import rules
    >>> from steprule.compiler.tracer import trace
    >>> print(text(trace(rules.rmsprop_eps_inside)))
    square_avg = alpha * square_avg + (1 - alpha) * g * g
    p = p - lr * g / sqrt(square_avg + eps)
    """
    return "\n".join(f"{line.left} = {line.right}" for line in _Text(graph).lines())


def expression(graph: Graph, node: Node) -> str:
    """One quantity of the graph with the code's names: `1 - beta1**t`."""
    return _Text(graph).expression(node)


def python(graph: Graph) -> str:
    """The variant as a Python function on numbers of any kind, with `steprule.maths` in scope.

    >>> from steprule import rules
    >>> from steprule.compiler.tracer import trace
    >>> print(python(trace(rules.sgd)))
    def sgd(p, g, *, lr):
        p = p - lr * g
        return p
    """
    names = [n for n in graph.inputs if n not in ("p", "g")]
    slots = [n for n in names if any(s.name == n for s in graph.rule.slots)]
    live = {n.name for n in graph.live}
    hypers = [n for n in names if n not in slots and n in live]
    results = ", ".join(name for name, value in graph.outputs.items() if value is not None)
    head = f"def {graph.rule.name}({', '.join(['p', 'g', *slots, *(['*', *hypers] if hypers else [])])}):"
    lines = text(graph).splitlines()
    modules = ["from steprule import maths", ""] if any("maths." in line for line in lines) else []
    return "\n".join([*modules, head, *(f"    {line}" for line in lines), f"    return {results}"])


def latex(graph: Graph) -> list[str]:
    """The formula in LaTeX with the paper's letters, one statement an entry."""
    signs = {True: r"\leftarrow", False: "="}
    return [f"{line.left} {signs[line.again]} {line.right}" for line in _Latex(graph).lines()]


def where(graph: Graph) -> list[tuple[str, str, str]]:
    """What each letter stands for: (LaTeX, the code's name, the meaning), for p, g, the slots and hyperparameters."""
    printer = _Latex(graph)
    rows = [(r"\theta", "p", "parameter"), ("g_t", "g", "gradient")]
    rows += [
        (printer.letters[s.name], s.name, f"state, {'' if s.absent_at_first else 'starts at '}{s.starts}")
        for s in graph.rule.slots
        if s.name in graph.inputs
    ]
    live = set(graph.live)
    rows += [
        (printer.letters[h.name], h.name, h.meaning) for h in graph.rule.hypers if graph.inputs.get(h.name) in live
    ]
    return rows


def inputs(graph: Graph) -> dict[str, str]:
    """What goes into a step, by the code's names, as LaTeX, each with its index t-1 or t."""
    printer = _Latex(graph)
    return {name: printer.name(node) for name, node in graph.inputs.items()}


def parts(graph: Graph) -> list[tuple[Node, str, str, str]]:
    """Each statement, and before it each unnamed number that its elements share: (node, code's name, left, right in LaTeX)."""
    latex, names = _Latex(graph), _Text(graph)
    read = {a for n in graph.live if n.kind is not Kind.SCALAR for a in n.args if isinstance(a, Node)}
    shared = {n for n in read if n.kind is Kind.SCALAR and n.op != "input"} - set(latex.statements)
    found = []
    for node in graph.live:
        if node in shared:
            found.append((node, names.expression(node), "", latex.expression(node)))
        elif node in latex.called:
            found.append((node, latex.called[node], latex.defined(node), latex.expression(node)))
    return found + [(v, name, line.left, line.right) for name, v, line in latex.handed_on() if isinstance(v, Node)]


class _Printer:
    """What both forms share: which nodes are statements, in which order, and where brackets stand."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.live = graph.live
        self.outputs = {n: name for name, n in graph.outputs.items() if isinstance(n, Node) and n.op != "input"}
        self.called = self._called()
        self.statements = [n for n in self.live if n in self.called]
        self.place = {n: i for i, n in enumerate(self.statements)}
        self.last_use = {a: i for n, i in self.place.items() for a in self._read_by(n)}
        self.lasting = {n for n in graph.outputs.values() if isinstance(n, Node)}

    def _called(self) -> dict[Node, str]:
        """The name of each node that is a statement: an output, the author's, or long and used more than once."""
        uses = Counter(a for n in self.live for a in n.args if isinstance(a, Node))
        called: dict[Node, str] = {}
        size: dict[Node, int] = {}
        for node in self.live:
            if node.op == "input":
                continue
            size[node] = 1 + sum(1 if a in called else size.get(a, 1) for a in node.args if isinstance(a, Node))
            if name := self.outputs.get(node) or node.name:
                called[node] = name
            elif uses[node] > 1 and size[node] > LONGEST_REPEATED:
                called[node] = f"r{len(called) + 1}"
        return called

    def _read_by(self, statement: Node) -> set[Node]:
        """The names that a statement's expression reads: what has none is written out in it."""
        found: set[Node] = set()
        todo = [a for a in statement.args if isinstance(a, Node)]
        while todo:
            node = todo.pop()
            if node.op == "input" or node in self.called:
                found.add(node)
            else:
                todo += [a for a in node.args if isinstance(a, Node)]
        return found

    def is_needed(self, node: Node, *, after: Node) -> bool:
        """Whether a quantity's name is not free for another: it is read later, or is a result."""
        return self.last_use.get(node, -1) > self.place[after] or node in self.lasting

    def lines(self) -> list[Line]:
        return [
            Line(self.defined(node), self.expression(node), again=node not in self.outputs and self.rebinds(node))
            for node in self.statements
        ]

    def rebinds(self, node: Node) -> bool:
        """Whether the name of this inner quantity is also an input's: g after weight decay."""
        return self.called[node] in self.graph.inputs

    def show(self, arg: Arg, strength: int, *, right: bool = False) -> str:
        """`arg` as an operand of an operation that binds with `strength`."""
        if not isinstance(arg, Node):
            shown = self.number(arg)
            return self.bracket(shown) if arg < 0 and strength > SUM else shown
        if arg.op == "input" or arg in self.statements:
            return self.name(arg)
        shown, own = self.expression(arg), self.strength(arg)
        return self.bracket(shown) if own < strength or (right and own == strength) else shown

    def strength(self, node: Node) -> int:
        return OPERATIONS[node.op].strength if node.op in OPERATIONS else ATOM

    def expression(self, node: Node) -> str:
        return self.operation(node, node.args)

    def defined(self, node: Node) -> str: ...  # type: ignore[empty-body]
    def name(self, node: Node) -> str: ...  # type: ignore[empty-body]
    def number(self, value: float | int | bool) -> str: ...  # type: ignore[empty-body]
    def bracket(self, shown: str) -> str: ...  # type: ignore[empty-body]
    def operation(self, node: Node, args: tuple[Arg, ...]) -> str: ...  # type: ignore[empty-body]


class _Text(_Printer):
    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.names = {n: n.name or "" for n in self.graph.inputs.values()}
        taken = {n.name for n in self.graph.inputs.values()} | set(self.called.values()) | set(graph.outputs)
        self.hidden = taken & set(maths.NAMES)
        """Functions whose names the author's values have: they are called by their module's."""
        holder: dict[str, Node] = {name: node for node, name in ((n, n.name or "") for n in self.graph.inputs.values())}
        for node in self.statements:
            name = wanted = self.called[node]
            while name in holder and self.is_needed(holder[name], after=node):
                name += "_new" if name == wanted else "_"
            self.names[node] = name
            holder[name] = node

    def lines(self) -> list[Line]:
        return super().lines() + self._handed_on()

    def _handed_on(self) -> list[Line]:
        """The results that bear another name yet, each before the name that it is read from gets its own new value."""
        shown = {
            n: self.names[v] if isinstance(v, Node) else self.number(v)
            for n, v in self.graph.outputs.items()
            if v is not None
        }
        waiting = {name: source for name, source in shown.items() if source != name}
        found = []
        while waiting:
            free = next((n for n in waiting if n not in [s for m, s in waiting.items() if m != n]), None)
            if free is None:  # a circle, as of two slots that change places
                name = next(iter(waiting))
                kept = f"{name}_old"
                while kept in self.names.values():
                    kept += "_"
                found.append(Line(kept, name))
                waiting = {n: kept if source == name else source for n, source in waiting.items()}
                continue
            found.append(Line(free, waiting.pop(free)))
        return found

    def defined(self, node: Node) -> str:
        return self.names[node]

    def name(self, node: Node) -> str:
        return self.names[node]

    def number(self, value: float | int | bool) -> str:
        return repr(value) if math.isfinite(value) else f'float("{value}")'

    def bracket(self, shown: str) -> str:
        return f"({shown})"

    def operation(self, node: Node, args: tuple[Arg, ...]) -> str:
        row, own = OPERATIONS[node.op], self.strength(node)
        if row.sign and len(args) == 1:
            return row.sign + self.show(args[0], own)
        if node.op == "pow":
            return f"{self.show(args[0], own, right=True)}**{self.show(args[1], own)}"
        if row.sign:
            return f"{self.show(args[0], own, right=row.truth)} {row.sign} {self.show(args[1], own, right=True)}"
        name = f"maths.{row.name}" if row.name in self.hidden else row.name
        shown = [self.show(a, 0) for a in args]
        if node.op == "where" and node.kind is Kind.ELEMENT and _is_of_literals(args[0]):
            # A plain bool would pick a number where the rule has one for each element; p**0 is 1 for every element.
            shown[0] = f"({shown[0]}) & (p**0 > 0)"
        return f"{name}({', '.join(shown)})"


def _is_of_literals(arg: Arg) -> bool:
    """Whether it follows from numbers in the text alone."""
    return not isinstance(arg, Node) or (arg.op != "input" and all(_is_of_literals(a) for a in arg.args))


class _Latex(_Printer):
    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._slot_names = {s.name for s in graph.rule.slots}
        self.changing = self._changing()
        self.letters = {"p": r"\theta", "g": "g", "t": "t"}
        self.letters |= {s.name: s.letter or letter(s.name) for s in graph.rule.slots}
        own = {h.name: letter(h.name) for h in graph.rule.hypers}
        self.letters |= {
            h.name: own[h.name] if h.name in _GREEK or not h.letter else h.letter for h in graph.rule.hypers
        }
        self.lefts: dict[Node, str] = {}
        holder = {self.name(n): n for n in graph.inputs.values()}
        for node in self.statements:
            left, name = self._left(node), self.called[node]
            while left in holder and self.is_needed(holder[left], after=node):
                changes = left.endswith("_{t-1}") and (name == "p" or name in self._slot_names)
                left = _primed(self._at(name, "t") if changes else left)
            self.lefts[node] = left
            holder[left] = node

    def lines(self) -> list[Line]:
        return super().lines() + [line for _, _, line in self.handed_on()]

    def handed_on(self) -> list[tuple[str, Node | float, Line]]:
        """The results that no statement of their own defines: what is known becomes a state, or the parameter."""
        outputs = {n: v for n, v in self.graph.outputs.items() if v is not None and v is not self.graph.inputs.get(n)}
        return [
            (name, v, Line(self._at(name, "t"), self.name(v) if isinstance(v, Node) else self.number(v)))
            for name, v in outputs.items()
            if not isinstance(v, Node) or self.outputs.get(v) != name
        ]

    def _at(self, name: str, when: str) -> str:
        base = self.letters[name]
        return (
            f"{base[:-1]}, {when}}}"
            if base.endswith("}") and "_{" in base
            else f"{{{base}}}_{{{when}}}"
            if "^" in base
            else f"{base}_{{{when}}}"
        )

    def defined(self, node: Node) -> str:
        return self.lefts[node]

    def rebinds(self, node: Node) -> bool:
        return super().rebinds(node) and "'" not in self.lefts[node]

    def _left(self, node: Node) -> str:
        if node in self.outputs:
            return self._at(self.outputs[node], "t")
        if super().rebinds(node):
            return self.name(self.graph.inputs[self.called[node]])
        # An inner quantity: counted by the step where it changes with it, unless its name says so already.
        base = letter(self.called[node])
        return f"{base}_{{t}}" if node in self.changing and "_" not in base else base

    def _changing(self) -> set[Node]:
        """The nodes that differ from step to step: all but what hyperparameters alone decide."""
        found: set[Node] = set()
        for node in self.live:
            inputs = node.op == "input" and (
                node.kind is Kind.ELEMENT or node.name == "t" or node.name in self._slot_names
            )
            if inputs or any(a in found for a in node.args if isinstance(a, Node)):
                found.add(node)
        return found

    def name(self, node: Node) -> str:
        if node.op != "input":
            return self.defined(node)
        name = node.name or ""
        if name == "p" or name in self._slot_names:
            return self._at(name, "t-1")
        return "g_{t}" if name == "g" else self.letters[name]

    def number(self, value: float | int | bool) -> str:
        if not math.isfinite(value):
            return {"inf": r"\infty", "-inf": r"-\infty", "nan": r"\mathrm{nan}"}[str(float(value))]
        mantissa, _, exponent = repr(value).partition("e")
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa

    def bracket(self, shown: str) -> str:
        return rf"\left({shown}\right)"

    def strength(self, node: Node) -> int:
        if node.op == "lerp":
            return SUM
        return super().strength(node)

    def square(self, args: tuple[Arg, ...]) -> str:
        """x * x and (a * x) * x as a paper prints them, with x squared; empty for any other product."""
        left, x = args
        base = _raised(self.show(x, POWER, right=True), "2")
        if left is x:
            return base
        if isinstance(left, Node) and left.op == "mul" and left not in self.statements and left.args[1] is x:
            return rf"{self.show(left.args[0], PRODUCT)} \, {base}"
        return ""

    def weighted(self, a: Arg, b: Arg, weight: Arg) -> str:
        """lerp(a, b, 1 - d) as a paper prints it: d a + (1 - d) b."""
        rest: Arg = Node("sub", (1, weight), Kind.SCALAR)
        if isinstance(weight, Node) and weight.op == "sub" and weight.args[0] == 1 and weight not in self.statements:
            rest = weight.args[1]
        first, second = (self.operation(n, n.args) for n in (_product(rest, a), _product(weight, b)))
        return f"{first} + {self.bracket(second) if second.startswith('-') else second}"

    def operation(self, node: Node, args: tuple[Arg, ...]) -> str:
        op = node.op
        if op == "mul" and (square := self.square(args)):
            return square
        if op == "mul" and (factors := [a for a in args if isinstance(a, Node) or a != 1]) and len(factors) == 1:
            return self.show(factors[0], PRODUCT)  # a factor 1 is not written
        if op == "lerp":
            return self.weighted(*args)
        if op == "where" and args[1:] == (1.0, 0.0):
            return rf"\mathbf{{1}}\left[{self.show(args[0], 0)}\right]"
        if op == "where":
            return self.cases(args)
        row = OPERATIONS[op]
        if row.sign and len(args) == 1:
            return (row.latex or f"{row.sign}{{0}}").format(self.show(args[0], row.strength))
        if op == "pow":
            return _raised(self.show(args[0], POWER, right=True), self.show(args[1], 0))
        if row.sign and (not row.latex or row.latex.startswith("{0}")):
            return self.infix(row, args)
        if "{0}" in row.latex:  # which encloses its operands
            return row.latex.format(*(self.show(a, 0) for a in args))
        return rf"{row.latex.format()}\left({', '.join(self.show(a, 0) for a in args)}\right)"

    def cases(self, args: tuple[Arg, ...]) -> str:
        """A choice in one brace: conditions that lead to the same `otherwise` stand in one line."""
        conditions, (chosen, other) = [args[0]], args[1:]
        while (
            isinstance(chosen, Node) and chosen.op == "where" and chosen not in self.called and chosen.args[2] == other
        ):
            conditions.append(chosen.args[0])
            chosen = chosen.args[1]
        when = r" \text{ and } ".join(self.show(c, 0) for c in conditions)
        return OPERATIONS["where"].latex.format(when, self.show(chosen, 0), self.show(other, 0))

    def infix(self, row: Operation, args: tuple[Arg, ...]) -> str:
        """Two operands with the sign between them."""
        left, right = (self.show(a, row.strength, right=k > 0 and row.name != "mul") for k, a in enumerate(args))
        if right.startswith("-"):
            right = self.bracket(right)
        by_number = row.name == "mul" and right[0].isdigit()
        template = r"{0} \cdot {1}" if by_number else row.latex or f"{{0}} {row.sign} {{1}}"
        return template.format(left, right)


def _raised(base: str, power: str) -> str:
    r"""A power; a letter with an index carries both beside itself, one above the other.

    >>> _raised("g_{t}", "2"), _raised(r"\beta_{1}", "t"), _raised(r"\hat{m}_{t}", "2")
    ('g_{t}^{2}', '\\beta_{1}^{t}', '{\\hat{m}_{t}}^{2}')
    """
    return f"{base}^{{{power}}}" if re.fullmatch(r"\\?[a-zA-Z]+_\{[^{}]*\}", base) else f"{{{base}}}^{{{power}}}"


def _primed(left: str) -> str:
    r"""Another letter like it.

    >>> _primed(r"\theta_{t-1}"), _primed("g"), _primed("m'_{t}")
    ("\\theta'_{t-1}", "g'", "m''_{t}")
    """
    base, index, when = left.partition("_{") if "^" not in left else (f"{{{left}}}", "", "")
    return f"{base}'{index}{when}"


def _product(a: Arg, b: Arg) -> Node:
    return Node("mul", (a, b), Kind.ELEMENT)


def letter(name: str) -> str:
    r"""A code name as LaTeX: m_hat is \hat{m}, beta1 is \beta_{1}, rho_inf is \rho_{\infty}, exp_avg is \mathrm{exp\_avg}.

    >>> letter("m_hat"), letter("beta1"), letter("rho_t")
    ('\\hat{m}', '\\beta_{1}', '\\rho_{t}')
    """
    base, _, suffix = name.partition("_")
    if found := re.fullmatch(r"([a-z]+?)(\d+)", base):
        base, suffix = found[1], found[2] + (f",{suffix}" if suffix else "")
    if len(base) > 1 and base not in _GREEK:
        return rf"\mathrm{{{name.replace('_', chr(92) + '_')}}}"
    shown = rf"\{base}" if base in _GREEK else base
    if suffix in ("hat", "bar", "tilde"):
        return rf"\{suffix}{{{shown}}}"
    inner = {"inf": r"\infty", "next": "t+1"}.get(suffix, suffix if len(suffix) <= 2 else rf"\mathrm{{{suffix}}}")
    return f"{shown}_{{{inner}}}" if suffix else shown
