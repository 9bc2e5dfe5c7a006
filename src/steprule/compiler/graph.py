"""The tracer: a rule called on symbols leaves a graph of what it computes, one for each variant.

Every target is printed from this graph, so none can drift from the rule. It is our own and not `torch.fx`'s, so that
showing a rule needs no torch (`benchmarks/show_without_torch.py` has the figures), and small: a node is an operation, its
arguments, and the name that the author gave the result.
"""

from __future__ import annotations

import math
import numbers
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from types import FrameType
from typing import Any, NoReturn

from steprule.arithmetic import Real, Truth
from steprule.errors import RuleError
from steprule.hyper import Hyper, Value
from steprule.maths import OPERATIONS
from steprule.operations import takes_signs
from steprule.rules.hints import missing_import
from steprule.rules.rule import Rule


class Kind(StrEnum):
    """How often a node is computed: once a step, once a tensor, or once an element."""

    SCALAR = "scalar"
    REDUCTION = "reduction"
    ELEMENT = "element"


@dataclass(eq=False)
class Node:
    """One operation. `args` are nodes or plain numbers; an `input` has none. `name` is the author's."""

    op: str
    args: tuple[Node | float | int | bool, ...]
    kind: Kind
    name: str | None = None
    truth: bool = False
    """Whether it is a truth value (a comparison), not a number."""

    def __repr__(self) -> str:
        shown = ", ".join(a.name or f"<{a.op}>" if isinstance(a, Node) else repr(a) for a in self.args)
        return f"{self.name or '_'} = {self.op}({shown})"


@dataclass(eq=False)
class Graph:
    """What one variant of a rule computes, in order."""

    rule: Rule
    switches: Mapping[str, Value]
    absent: frozenset[str]
    """The slots that were None."""
    inputs: dict[str, Node] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    asks_for_reductions: bool = False
    """Whether the rule calls one, be it of a number that is one already."""
    outputs: dict[str, Node | float | None] = field(default_factory=dict)
    """The new p and each new slot; None for a slot that stays absent."""

    @property
    def live(self) -> list[Node]:
        """The nodes that an output depends on, in order."""
        wanted: set[Node] = set()
        todo = [n for n in self.outputs.values() if isinstance(n, Node)]
        while todo:
            node = todo.pop()
            if node not in wanted:
                wanted.add(node)
                todo += [a for a in node.args if isinstance(a, Node)]
        return [n for n in (*self.inputs.values(), *self.nodes) if n in wanted]


_KEEPS = "A rule keeps nothing between calls, as in a global or a list: what it keeps are states, which it returns."
_VOCABULARY = "Write from steprule.maths import sqrt, say."


def _outside(what: str, hint: str = "A rule says what becomes of each element.") -> Callable[..., NoReturn]:
    """A sign of Python's that is no operation of the language."""

    def refused(self: Symbol, *args: Any) -> NoReturn:
        _refuse(f"{what} on a symbol", "+ - * / ** abs, comparisons, steprule.maths", hint)

    return refused


@takes_signs
class Symbol:
    """Stands for a number while a rule is traced; each operation on it adds a node."""

    __slots__ = ("_node", "_tape", "_truth")

    def __init__(self, tape: _Tape, node: Node, *, truth: bool | None = None) -> None:
        self._tape, self._node, self._truth = tape, node, truth

    def steprule_apply(self, name: str, *args: Any) -> Symbol:
        """Record a function of `steprule.maths`."""
        return self._tape.add(name, *args)

    def __bool__(self) -> bool:
        if self._truth is not None:
            return self._truth
        node = self._node
        named = f"{node.name!r}" if node.name else "a computed value"
        if node.op == "input" and node.kind is Kind.SCALAR:
            expected = "a flag, a whole number (int), or a number annotated as off at zero"
            _refuse(f"an `if` on {named}", expected, "Annotate it so, or use where(condition, a, b).")
        if node.kind is not Kind.SCALAR:
            got = f"an `if` on {named}, which differs from element to element or from tensor to tensor"
            _refuse(got, "no such `if`", "Use where(condition, a, b); & | ~ join conditions.")
        return self._tape.decide(node if node.truth else self._tape.add("ne", self, 0.0)._node)

    def __format__(self, spec: str) -> str:
        return repr(self)  # whoever prints while a rule is traced sees what it stands for

    def __repr__(self) -> str:
        return repr(self._node)

    def __hash__(self) -> int:
        _refuse(
            "a symbol looked up in a set or a dict", "comparisons", "Write if t in (1, 3), or where(t == 2, a, b), say."
        )

    def __pos__(self) -> Symbol:
        return self._tape.add("where", self, 1.0, 0.0) if self._node.truth else self

    def __abs__(self) -> Symbol:
        return self._tape.add("abs", self)

    def __xor__(self, other: Any) -> NoReturn:
        _refuse("^ on a symbol", "&, | and ~ on truth values, ** for a power", "")

    __rxor__ = __xor__

    def _foreign(self, *args: Any, **kwargs: Any) -> NoReturn:
        hint = f"{_VOCABULARY} A hyperparameter for range(k) is annotated int."
        _refuse("a function from outside on a symbol", "a function of steprule.maths", hint)

    def __getattr__(self, name: str) -> NoReturn:
        """Python's own questions get Python's answer. A tensor may have what a symbol has not, so who asks is refused."""
        if name.startswith("__"):
            raise AttributeError(name)
        wanted = {"numel": "size(p)", "pow": "p**2", "square": "p**2"}.get(name, f"{name}(p)")
        if name.endswith("_"):
            _refuse(f"the method .{name}", "a pure function", "It would change the caller's: write x = x * y.")
        known = name in ("numel", "pow", "square") or name in OPERATIONS
        hint = f"Write {wanted}: a rule runs on floats and arrays too." if known else _VOCABULARY
        _refuse(f"the attribute .{name}", "signs and functions of steprule.maths", hint)

    __float__ = __int__ = __index__ = __complex__ = __array__ = __round__ = __trunc__ = _foreign

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """numpy's scalars ask with their own signs; what is no sign is refused as torch's functions are."""
        name = _SIGNS_OF_NUMPY.get(ufunc.__name__)
        if (
            method != "__call__"
            or options
            or name is None
            or any(getattr(x, "ndim", 0) for x in inputs if not isinstance(x, Symbol))
        ):
            _refuse(f"numpy's {ufunc.__name__} on a symbol", "a function of steprule.maths", _VOCABULARY)
        return self._tape.add(name, *inputs)

    def __array_function__(self, function: Any, *args: Any) -> NoReturn:
        _refuse(f"numpy's {function.__name__} on a symbol", "a function of steprule.maths", _VOCABULARY)

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """torch asks the class, not the symbol."""
        _refuse("a function of torch on a symbol", "a function of steprule.maths", _VOCABULARY)

    __matmul__ = __rmatmul__ = _outside("@")
    __lshift__ = __rlshift__ = _outside("<<")
    __rshift__ = __rrshift__ = _outside(">>")
    __divmod__ = __rdivmod__ = _outside("divmod")
    __getitem__ = _outside("an index in [ ]")
    __contains__ = _outside("`in`")
    __len__ = _outside("len", "The elements of a tensor are steprule.maths' size(p).")
    __iter__ = _outside("a loop", "Python's max, min and sum are loops: import those of steprule.maths.")

    def _in_place(self, other: Any) -> NoReturn:
        _refuse(
            "an operation in place (+=, -=, *=, /=)",
            "a pure function",
            "Write x = x + y: on tensors, x += y would change the caller's.",
        )

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ipow__ = __imod__ = __ifloordiv__ = __iand__ = __ior__ = _in_place


_SIGNS_OF_NUMPY = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "power": "pow", "negative": "neg",
    "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "equal": "eq", "not_equal": "ne",
    "remainder": "mod", "floor_divide": "floordiv", "absolute": "abs",
}  # fmt: skip

MOST_WAYS = 64
"""Ways through a rule by its ifs on numbers of the step: more are refused, for all of them are computed."""


class _Tape:
    """Records nodes; the same operation on the same arguments is one node."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.answers: list[bool] = []
        """What the first ifs of a run are told; the others are told True."""
        self.decided: dict[Node, bool] = {}
        """What each if on a number of the step was told in this run, in order."""
        self.seen: dict[Any, Node] = {}
        self.frames: list[FrameType] = []
        """The author's functions at work; a frame that is held keeps its local names after the return."""

    def input(self, name: str, kind: Kind, *, truth: bool | None = None) -> Symbol:
        node = self.graph.inputs[name] = Node("input", (), kind, name)
        return Symbol(self, node, truth=truth)

    def add(self, op: str, *args: Any) -> Symbol:
        plain: list[Node | float | int | bool] = []
        for arg in args:
            if isinstance(arg, Symbol):
                if arg._tape is not self:
                    _refuse("a value of another call", "the arguments of this one", _KEEPS)
                plain.append(arg._node)
            elif hasattr(arg, "dtype") and getattr(arg, "ndim", 1) == 0 and isinstance(arg, numbers.Real):
                plain.append(arg.item())  # type: ignore[attr-defined]  # numpy's
            elif type(arg) is int and abs(arg) > sys.float_info.max:
                _refuse(f"a whole number of {arg.bit_length()} bits", "numbers that a float64 holds", "")
            elif isinstance(arg, bool | int | float):
                plain.append(arg)
            else:
                what = "an absent slot (None)" if arg is None else f"a {type(arg).__name__}"
                hint = "Test it first: `if slot is None:`, or the flag that switches it on." if arg is None else ""
                hint = _KEEPS if hasattr(arg, "dtype") else hint
                _refuse(f"{what} in {op}", "symbols and plain numbers", hint)
        self._fit_truths(op, plain)
        key = (op, *((a if isinstance(a, Node) else (type(a), repr(a))) for a in plain))
        if key not in self.seen:
            kinds = {a.kind for a in plain if isinstance(a, Node)}
            kind = Kind.ELEMENT if Kind.ELEMENT in kinds else Kind.REDUCTION if Kind.REDUCTION in kinds else Kind.SCALAR
            row = OPERATIONS[op]
            if row.of_the_step and kind is not Kind.SCALAR:
                _refuse_of_elements(op)
            if row.reduction:
                self.graph.asks_for_reductions = True
                if kind is not Kind.ELEMENT:
                    return row.reduction.of_one(Symbol(self, plain[0]) if isinstance(plain[0], Node) else plain[0])  # type: ignore[no-any-return]
                kind = Kind.REDUCTION
            self._hold_frame()
            node = self.seen[key] = Node(op, tuple(plain), kind, truth=row.truth)
            self.graph.nodes.append(node)
        return Symbol(self, self.seen[key])

    def decide(self, condition: Node) -> bool:
        """What an if on a number of the step is told in this run: another run goes the other way."""
        if (implied := self._implied(condition)) is not None:
            return implied
        if condition not in self.decided:
            k = len(self.decided)
            if k >= MOST_WAYS:
                _refuse(
                    f"more than {MOST_WAYS} ifs on numbers of the step, or a loop on one", "few of them", "Use where."
                )
            self.decided[condition] = self.answers[k] if k < len(self.answers) else True
        return self.decided[condition]

    def _implied(self, condition: Node) -> bool | None:
        """The answer, where earlier ones and bounds leave but one: a way that no step can go is not traced.

        Of the step number and of hyperparameters alone, which are never nan.
        """
        asked = _compared(condition)
        if asked is None:
            return None
        x, op, c = asked
        name = x.name or ""
        known = {"t"} | {h.name for h in self.graph.rule.hypers}
        if x.op != "input" or name not in known:
            return None
        facts = [("ge", 1.0)] if name == "t" else [*_bounds_of(self.graph.rule.hyper(name))]
        for node, answer in self.decided.items():
            earlier = _compared(node)
            if earlier is not None and earlier[0] is x:
                facts.append((earlier[1] if answer else _OPPOSITE[earlier[1]], earlier[2]))
        return _follows(facts, op, c)

    def _fit_truths(self, op: str, args: list[Node | float | int | bool]) -> None:
        """A truth value that meets a number becomes the number 0 or 1; where one is asked for, there must be one."""
        wanted = OPERATIONS[op].truths
        for k, arg in enumerate(args):
            if k not in wanted:
                if isinstance(arg, Node) and arg.truth:
                    args[k] = self.add("where", Symbol(self, arg), 1.0, 0.0)._node
                continue
            if isinstance(
                arg, Truth | bool
            ):  # of constants: a comparison of them, so that the kind is that of the others
                args[k] = arg = self.add("lt", *((0.0, 1.0) if arg else (1.0, 0.0)))._node
            if not (isinstance(arg, Node) and arg.truth):
                what = "the condition of where" if op == "where" else f"an operand of {OPERATIONS[op].sign}"
                hint = "Write where(x > 0, a, b), or (x > 0) & (y > 0), say; of a flag, not f."
                _refuse(f"a number as {what}", "a comparison", hint)

    def _hold_frame(self) -> None:
        frame = sys._getframe(2)
        while frame is not None and frame.f_code not in self.graph.rule.codes:
            frame = frame.f_back  # type: ignore[assignment]  # None above the outermost, which the loop tests
        if frame is not None and frame not in self.frames:
            self.frames.append(frame)


def trace(
    rule: Rule,
    switches: Mapping[str, Value] | None = None,
    *,
    absent: frozenset[str] = frozenset(),
    reduced: frozenset[str] = frozenset(),
) -> Graph:
    """The graph of one variant of a rule.

    `switches` gives each flag its value, and each number that is off at zero either 0 (off) or anything else (on); what it
    leaves out has its default. `absent` names the slots that are None on entry. Slots that the variant does not use are
    found by trying, and are then absent too. `reduced` names slots of one number that are known only after a reduction; more
    are found by trying.

    Raises `RuleError`, with the author's file and line, where the rule breaks the contract.
    """
    switches = {h.name: (switches or {}).get(h.name, h.default) for h in rule.hypers if h.switches}
    graph = _run(rule, switches, absent, reduced)
    # The first steps are traced with the others: what breaks the contract there is found, and what is used there.
    unused = _unused(graph)
    missing = absent | {s.name for s in rule.slots if s.absent_at_first}
    while missing != absent:
        earlier = _run(rule, switches, missing, reduced)
        unused &= _unused(earlier)
        filled = {n for n in missing - absent if earlier.outputs[n] is not None}
        if not filled:
            break
        missing -= filled
    return _run(rule, switches, absent | unused, reduced) if unused else graph


def _unused(graph: Graph) -> set[str]:
    """The slots that nothing reads and that come out as they went in. Read for nothing counts as read: the author's function
    would meet a None there."""
    read = {a for n in graph.nodes for a in n.args if isinstance(a, Node)}
    slots = {s.name: graph.inputs.get(s.name) for s in graph.rule.slots}
    handed_on = {v for n, v in graph.outputs.items() if v is not slots.get(n)}
    return {n for n, node in slots.items() if graph.outputs[n] is node and node not in read and node not in handed_on}


def _run(rule: Rule, switches: Mapping[str, Value], absent: frozenset[str], reduced: frozenset[str]) -> Graph:
    """A trace; a slot of one number that follows from a reduction is known when that is, not when the step begins."""
    while True:
        graph = _run_once(rule, switches, absent, reduced)
        numbers = {s.name for s in rule.slots if s.per_tensor}
        found = {
            n for n, v in graph.outputs.items() if n in numbers and isinstance(v, Node) and v.kind is Kind.REDUCTION
        }
        if found <= reduced:
            return graph
        reduced |= found


def _run_once(rule: Rule, switches: Mapping[str, Value], absent: frozenset[str], reduced: frozenset[str]) -> Graph:
    graph = Graph(rule, switches, absent)
    tape = _Tape(graph)
    args = [tape.input("p", Kind.ELEMENT), tape.input("g", Kind.ELEMENT)]
    kinds = {s.name: Kind.REDUCTION if s.name in reduced else Kind.SCALAR for s in rule.slots if s.per_tensor}
    args += [
        None if s.name in absent else tape.input(s.name, kinds.get(s.name, Kind.ELEMENT))  # type: ignore[misc]
        for s in rule.slots
    ]
    hypers: dict[str, Any] = {}
    for hyper in rule.hypers:
        if hyper.is_plain or (hyper.off_at_zero and not switches[hyper.name]):
            hypers[hyper.name] = switches[hyper.name] if hyper.is_plain else Real(0.0)
        else:
            kind = Kind.REDUCTION if hyper.given is not None and hyper.given.reduction else Kind.SCALAR
            hypers[hyper.name] = tape.input(hyper.name, kind, truth=True if hyper.off_at_zero else None)
    if rule.takes_t:
        hypers["t"] = tape.input("t", Kind.SCALAR)
    try:
        return _taken(rule, graph, tape, absent, args, hypers)
    finally:
        # A held frame holds its callers' frames too, this one and a whole training's among them, in a circle.
        tape.frames.clear()


def _taken(
    rule: Rule, graph: Graph, tape: _Tape, absent: frozenset[str], args: list[Any], hypers: dict[str, Any]
) -> Graph:
    """The graph, filled by the author's function."""
    ways = 0

    def follow(answers: list[bool]) -> dict[str, Node | float | None]:
        """What comes out of all ways that begin with these answers, merged: by `where`, as numbers of the step decide."""
        nonlocal ways
        ways += 1
        tape.answers, tape.decided = answers, {}
        with _authors_errors(rule, absent):
            if ways > MOST_WAYS:
                _refuse(f"more than {MOST_WAYS} ways through its ifs on numbers of the step", "fewer", "Use where.")
            refused: list[RuleError] = []
            token = _refusals.set(refused)
            try:
                result = rule.function(*args, **hypers)
            finally:
                _refusals.reset(token)
            if refused:  # and caught by the author: a number would not have been refused
                raise refused[0]
        last = next((f.f_lineno for f in tape.frames if f.f_code is rule.codes[0]), rule.lines[1])
        found = _results(graph, result, f"{rule.lines[0]}:{last}: rule {rule.name}")
        path = list(tape.decided.items())
        for k in reversed(range(len(answers), len(path))):
            other = follow([*(answer for _, answer in path[:k]), False])
            with _authors_errors(rule, absent):
                found = {name: _merged(tape, path[k][0], name, value, other[name]) for name, value in found.items()}
        return found

    graph.outputs = follow([])
    _name_from(graph, tape.frames)
    return graph


_OPPOSITE = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}
_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}


def _compared(node: Node) -> tuple[Node, str, float] | None:
    """A comparison of a node with a number: the node, the sign, the number."""
    if node.op not in _OPPOSITE:
        return None
    a, b = node.args
    if isinstance(a, Node) and not isinstance(b, Node):
        return a, node.op, float(b)
    return (b, _MIRRORED[node.op], float(a)) if isinstance(b, Node) and not isinstance(a, Node) else None


def _bounds_of(hyper: Hyper) -> Iterator[tuple[str, float]]:
    for bound in hyper.bounds:
        for sign in ("ge", "gt", "le", "lt"):
            if (limit := getattr(bound, sign, None)) is not None:
                yield sign, float(limit)


def _follows(facts: list[tuple[str, float]], op: str, c: float) -> bool | None:
    """Whether `x op c` holds wherever all facts do; None where it may and may not. A fact is a sign and a number."""
    low = max((v, s == "gt") for s, v in [("ge", -math.inf), *facts] if s in ("ge", "gt", "eq"))
    high = min((v, s != "lt") for s, v in [("le", math.inf), *facts] if s in ("le", "lt", "eq"))
    if op in ("eq", "ne"):
        same = (op, c) in facts or (low == (c, False) and high == (c, True) and op == "eq")
        if same or (_OPPOSITE[op], c) in facts:
            return same
        outside = c < low[0] or c > high[0] or low == (c, True) or high == (c, False)
        return (op == "ne") if outside else None
    if op in ("ge", "gt"):
        found = _follows(facts, _OPPOSITE[op], c)
        return None if found is None else not found
    if op == "lt":
        return True if high[0] < c or high == (c, False) else False if low[0] >= c else None
    return True if high[0] <= c else False if low[0] > c or low == (c, True) else None


@contextmanager
def _authors_errors(rule: Rule, absent: frozenset[str]) -> Iterator[None]:
    """Whatever is raised in the author's function is a `RuleError` with its line."""
    try:
        yield
    except RuleError as error:
        raise RuleError(f"{_authors_line(error, rule)}: rule {rule.name}: {error}") from None
    except RecursionError:
        raise RuleError(f"{_authors_line(None, rule)}: rule {rule.name}: it calls itself without end") from None
    except Exception as error:
        what = f"{_authors_line(error, rule)}: rule {rule.name}: {type(error).__name__}: {error}"
        raise RuleError(what, hint=_of_absent(error, absent) or missing_import(error)) from error


def _of_absent(error: Exception, absent: frozenset[str]) -> str:
    """The hint where a slot that is None was computed with."""
    none = absent and "NoneType" in str(error)
    return f"A slot that is absent is None ({', '.join(sorted(absent))}): test `is None`." if none else ""


def _merged(
    tape: _Tape, condition: Node, name: str, a: Node | float | None, b: Node | float | None
) -> Node | float | None:
    """A result of two ways."""
    if a is b or (not isinstance(a, Node) and not isinstance(b, Node) and repr(a) == repr(b)):
        return a
    if a is None or b is None:
        hint = "Let it start at p, at g or at a number: StartsAt."
        _refuse(
            f"a slot {name} that is None after one step and not after another", "no `if` that leaves it so or so", hint
        )
    return tape.add("where", *(Symbol(tape, x) if isinstance(x, Node) else x for x in (condition, a, b)))._node


def _name_from(graph: Graph, frames: list[FrameType]) -> None:
    for frame in frames:
        _name_nodes(graph, frame.f_locals)


def _results(graph: Graph, result: Any, where: str) -> dict[str, Node | float | None]:
    """What the author's function gave, by name."""
    rule = graph.rule
    found: dict[str, Node | float | None] = {}
    wanted = ["p", *(s.name for s in rule.slots)]
    results = result if isinstance(result, tuple) else (result,)
    got, hint = f"{len(results)}", ""
    if result is None:
        got, hint = "nothing", f"Write return {', '.join(wanted)}."
    elif isinstance(result, list | dict | set):
        got, hint = f"a {type(result).__name__}", f"Write return {', '.join(wanted)}, without brackets."
    if len(results) != len(wanted):
        raise RuleError(
            where,
            expected=f"{len(wanted)} results ({', '.join(wanted)})",
            got=got,
            hint=hint or "Return the new p, then every slot in order.",
        )
    for name, value in zip(wanted, results, strict=True):
        slot = next((s for s in rule.slots if s.name == name), None)
        if value is None and slot is not None and name in graph.absent:
            found[name] = None
            continue
        if isinstance(value, bool) or not isinstance(value, Symbol | float | int):
            raise RuleError(
                where,
                expected=f"a number as the new {name}",
                got="None" if value is None else f"a {type(value).__name__}",
            )
        output = value._node if isinstance(value, Symbol) else float(value)
        if isinstance(output, Node) and output.truth:
            raise RuleError(
                where,
                expected=f"a number as the new {name}",
                got="a truth value",
                hint="Use where(condition, 1.0, 0.0).",
            )
        if slot is not None and slot.per_tensor and isinstance(output, Node) and output.kind is Kind.ELEMENT:
            raise RuleError(
                where,
                expected=f"one number a tensor as the new {name}",
                got="one an element",
                hint="Reduce it with norm, mean or sum.",
            )
        found[name] = output
    return found


def _name_nodes(graph: Graph, names: Mapping[str, Any]) -> None:
    """Give nodes the author's local names; a slot's name wins, and so does the first name of two."""
    for name, output in graph.outputs.items():
        if isinstance(output, Node) and output.name is None:
            output.name = name
    for name, value in names.items():
        if isinstance(value, Symbol) and value._tape.graph is graph and value._node.name is None:
            value._node.name = name


def _authors_line(error: BaseException | None, rule: Rule) -> str:
    """The deepest place in the author's files: file:line."""
    files = {code.co_filename for code in rule.codes}
    for frame in reversed(traceback.extract_tb(error.__traceback__ if error else None)):
        if frame.filename in files:
            return f"{frame.filename}:{frame.lineno}"
    return f"{rule.lines[0]}:{rule.lines[1]}"


def _refuse_of_elements(op: str) -> NoReturn:
    sign, hint = OPERATIONS[op].sign, ""
    if op in ("eq", "ne"):
        hint = "Compare with a margin in where(...): equality of floats is decided by their rounding."
    _refuse(f"{sign} on an element", f"{sign} on hyperparameters and the step number t alone", hint)


def _refuse(got: str, expected: str, hint: str) -> NoReturn:
    error = RuleError("not in the language of rules", expected=expected, got=got, hint=hint)
    if (refused := _refusals.get()) is not None:
        refused.append(error)
    raise error


_refusals: ContextVar[list[RuleError] | None] = ContextVar("refusals", default=None)
