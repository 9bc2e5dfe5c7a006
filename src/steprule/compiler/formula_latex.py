"""A formula in LaTeX with the paper's letters: it counts steps, v_t from v_{t-1}."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from steprule.compiler.graph import Graph, Kind, Macro, Node
from steprule.compiler.statements import Arg, Line, StatementPrinter
from steprule.maths import OPERATIONS
from steprule.operations import ATOM, POWER, PRODUCT, SUM, Operation

GREEK = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi", "pi",
    "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "ell",
})  # fmt: skip


class LatexPrinter(StatementPrinter):
    """Statements as a paper prints them."""

    before = "t-1"
    """The index of what goes in: of p and the states."""

    def __init__(self, graph: Graph, of: tuple[Node, Macro] | None = None) -> None:
        self.of = of
        """Where a function of the library is defined: its result, and the function, which is written out."""
        super().__init__(graph)
        self._slot_names = {s.name for s in graph.rule.slots}
        self.changing = self._changing()
        self.letters = {"p": r"\theta", "g": "g", "t": "t"}
        self.letters |= {s.name: s.letter or letter(s.name) for s in graph.rule.slots}
        own = {h.name: letter(h.name) for h in graph.rule.hypers}
        self.letters |= {
            h.name: own[h.name] if h.name in GREEK or not h.letter else h.letter for h in graph.rule.hypers
        }
        self.lefts: dict[Node, str] = {}
        holder = {self.name(n): n for n in graph.inputs.values()}
        for node in self.statements:
            left, name = self._left(node), self.called[node]
            while left in holder and self.is_needed(holder[left], after=node):
                changes = left.endswith(f"{self.before}}}") and (name == "p" or name in self._slot_names)
                left = _primed(self._at(name, "t") if changes else left)
            self.lefts[node] = left
            holder[left] = node

    def macro(self, node: Node) -> Macro | None:
        """The function of the library that gave a quantity. For the one that is defined here: the function that it is written with."""
        if self.of is None or node is not self.of[0]:
            return node.macro
        return self.of[1].inner

    def is_argument(self, arg: Arg) -> bool:
        """Whether it is what the function that is defined here is called with."""
        return self.of is not None and arg is self.of[1].of

    def operands(self, node: Node) -> list[Node]:
        """What a function of the library is called with; how it computes is not shown."""
        macro = self.macro(node)
        if macro is not None:
            return [macro.of]
        return [] if self.is_argument(node) else super().operands(node)

    def show(self, arg: Arg, strength: int, *, right: bool = False) -> str:
        """An operand; the argument of a function that is defined by its letter."""
        return ARGUMENT if self.is_argument(arg) else super().show(arg, strength, right=right)

    def expression(self, node: Node) -> str:
        """What a node is; a function of the library by its name, with its power where it is called on its own result."""
        called = self.macro(node)
        if called is None:
            return super().expression(node)
        times = 1
        while (before := self.macro(called.of)) is not None and called.of not in self.called and _same(before, called):
            times, called = times + 1, before
        power = f"^{{{times}}}" if times > 1 else ""
        return rf"{_named(called.name)}{power}\left({self.show(called.of, 0)}\right)"

    def definitions(self) -> list[str]:
        """The functions of the library that it names, each with what it is, outer ones first."""
        found: dict[str, str] = {}
        todo = [(n, m) for n in self.live if (m := self.macro(n)) is not None]
        while todo:
            node, macro = todo.pop(0)
            if macro.name not in found:
                inner = LatexPrinter(replace(self.graph, outputs={"p": node}), of=(node, macro))
                found[macro.name] = rf"{_named(macro.name)}\left({ARGUMENT}\right) = {inner.expression(node)}"
                todo += [(n, m) for n in inner.live if (m := inner.macro(n)) is not None]
        return list(found.values())

    def lines(self) -> list[Line]:
        """All statements, then the results that none defines."""
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
        if base.endswith("}") and "_{" in base:
            return f"{base[:-1]}, {when}}}"
        return f"{{{base}}}_{{{when}}}" if "^" in base else f"{base}_{{{when}}}"

    def defined(self, node: Node) -> str:
        """The letter that a statement defines."""
        return self.lefts[node]

    def rebinds(self, node: Node) -> bool:
        """Whether the letter too stood for another value before."""
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
            if inputs or any(a in found for a in self.operands(node)):
                found.add(node)
        return found

    def name(self, node: Node) -> str:
        """A letter, with its index t-1 or t where it changes."""
        if node.op != "input":
            return self.defined(node)
        name = node.name or ""
        if name in self.graph.rule.looked:
            return self.seen(name)
        if name == "p" or name in self._slot_names:
            return self._at(name, self.before)
        if name.endswith("(p)"):  # a number of the shape
            return rf"{_named(name[:-3])}\left(\theta\right)"
        return "g_{t}" if name == "g" else self.letters[name]

    def seen(self, name: str) -> str:
        """What a step sees at a point to which it looks."""
        return self._at(name, "t")

    def number(self, value: float | int | bool) -> str:
        """A constant, a power of ten as one."""
        if not math.isfinite(value):
            return {"inf": r"\infty", "-inf": r"-\infty", "nan": r"\mathrm{nan}"}[str(float(value))]
        mantissa, _, exponent = repr(value).partition("e")
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa

    def bracket(self, shown: str) -> str:
        """An operand in brackets that grow with it."""
        return rf"\left({shown}\right)"

    def strength(self, node: Node) -> int:
        """A weighted mean is printed as a sum, a function of the library by its name, and what is a power there as one."""
        if self.macro(node) is not None:
            return ATOM
        if node.op == "lerp":
            return SUM
        row = OPERATIONS.get(node.op)
        return POWER if row and row.latex.startswith(_RAISED) else super().strength(node)

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
        """An operation as a paper prints it."""
        op = node.op
        if op == "mul" and _are_arrays(args):
            return r" \odot ".join(self.show(a, POWER) for a in args)
        if op == "pow" and _are_arrays(args[:1]):
            return _raised(self.show(args[0], POWER, right=True), rf"\odot {self.show(args[1], 0)}")
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
        if op == "inverse_root" and len(args) > 2:
            shown = rf"\left({self.show(args[0], 0)} + {self.show(args[2], PRODUCT)} \, I\right)"
            return row.latex.format(shown, self.show(args[1], 0))
        if row.latex.startswith(_RAISED):
            power = row.latex[len(_RAISED) : -2].format("", *(self.show(a, POWER) for a in args[1:]))
            return _raised(self.show(args[0], POWER, right=True), power)
        if row.sign and (not row.latex or row.latex.startswith("{0}")):
            return self.infix(row, args)
        if row.reduction and len(args) > 1:
            along = r"\text{each row}" if args[1] == -1 else r"\text{each column}"
            shown = self.operation(replace(node, args=args[:1]), args[:1])
            return f"{shown[:-1]}{{2, {along}}}" if shown.endswith("_2") else f"{shown}_{{{along}}}"
        if op == "sort_by":
            args = args[:2]
        if "{0}" in row.latex:  # which encloses its operands
            return row.latex.format(*(self.show(a, 0) for a in args))
        return rf"{row.latex.format()}\left({', '.join(self.show(a, 0) for a in args)}\right)"

    def cases(self, args: tuple[Arg, ...]) -> str:
        """A choice in one brace: conditions that lead to the same `otherwise` stand in one line."""
        first, chosen, other = args
        conditions = [first]
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


class PointPrinter(LatexPrinter):
    """The point of evaluation, which is read behind the step: p and the states are those of t."""

    before = "t"


_RAISED = "{{{0}}}^{{"
"""How the table begins what is printed as a power of its first operand."""
ARGUMENT = "X"
"""What the argument of a function of the library is called."""


def _named(name: str) -> str:
    return rf"\operatorname{{{name}}}"


def _same(a: Macro, b: Macro) -> bool:
    return (
        a.name == b.name
        and len(a.others) == len(b.others)
        and all(x is y or x == y for x, y in zip(a.others, b.others, strict=True))
    )


def _are_arrays(args: tuple[Arg, ...]) -> bool:
    """Whether all are arrays of a rule that asks for shapes."""
    return all(isinstance(a, Node) and a.dims is not None for a in args)


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
    if len(base) > 1 and base not in GREEK:
        return rf"\mathrm{{{name.replace('_', chr(92) + '_')}}}"
    shown = rf"\{base}" if base in GREEK else base
    if suffix in ("hat", "bar", "tilde"):
        return rf"\{suffix}{{{shown}}}"
    inner = suffix if len(suffix) <= 2 else rf"\mathrm{{{suffix}}}"
    inner = {"inf": r"\infty", "next": "t+1"}.get(suffix, inner)
    return f"{shown}_{{{inner}}}" if suffix else shown
