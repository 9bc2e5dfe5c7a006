"""Symbols stand for numbers while a rule is traced: each operation on one adds a node to the tape."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from steprule.arithmetic import Real, Truth, apply
from steprule.arithmetic.totals import Places
from steprule.compiler.graph import Dims, Graph, Kind, Macro, Node
from steprule.compiler.implied import implied
from steprule.compiler.refusals import refuse
from steprule.compiler.shapes import ShapeNeededError, Shapes
from steprule.maths import OPERATIONS, ROUNDED
from steprule.operations import takes_signs
from steprule.rules.looks import GRADIENT, Sight

_KEEPS = "A rule keeps nothing between calls, as in a global or a list: what it keeps are states, which it returns."
_VOCABULARY = "Write from steprule.maths import sqrt, say."


def _outside(what: str, hint: str = "A rule says what becomes of each element.") -> Callable[..., NoReturn]:
    """A sign of Python's that the language does not have."""

    def refused(self: Symbol, *args: Any) -> NoReturn:
        refuse(f"{what} on a symbol", "+ - * / ** abs, comparisons, steprule.maths", hint)

    return refused


@takes_signs
class Symbol:
    """Stands for a number while a rule is traced; each operation on it adds a node."""

    __slots__ = ("_node", "_tape", "_truth")

    def __init__(self, tape: Tape, node: Node, *, truth: bool | None = None) -> None:
        self._tape, self._node, self._truth = tape, node, truth

    def steprule_apply(self, name: str, *args: Any) -> Symbol:
        """Record a function of `steprule.maths`."""
        return self._tape.add(name, *args)

    def steprule_called(self, name: str, others: tuple[Any, ...], result: Any) -> None:
        """Note that a function of the library, written in the language, gave this result for this symbol: formulas print its name."""
        if isinstance(result, Symbol) and result._node.op != "input":
            inner = result._node.macro
            while inner is not None and (inner.name, inner.of) != (name, self._node):
                inner = inner.inner
            if inner is None:  # not yet noted, by another way through the rule
                own = tuple(o._node if isinstance(o, Symbol) else o for o in others)
                result._node.macro = Macro(name, self._node, own, result._node.macro)

    def __bool__(self) -> bool:
        if self._truth is not None:
            return self._truth
        node = self._node
        named = f"{node.name!r}" if node.name else "a computed value"
        if node.op == "input" and node.kind is Kind.SCALAR and self._tape.of_shape(node) is None:
            expected = "a flag, a whole number (int), or a number annotated as off at zero"
            refuse(f"an `if` on {named}", expected, "Annotate it so, or use where(condition, a, b).")
        if (known := self._tape.of_shape(node)) is not None:
            return bool(known)
        if node.kind is Kind.MODEL:
            got = f"an `if` on {named}, which follows from a total"
            refuse(got, "no such `if`", "Use where(condition, a, b); & | ~ join conditions.")
        if node.kind is not Kind.SCALAR:
            got = f"an `if` on {named}, which differs from element to element or from tensor to tensor"
            refuse(got, "no such `if`", "Use where(condition, a, b); & | ~ join conditions.")
        return self._tape.decide(node if node.truth else self._tape.add("ne", self, 0.0)._node)

    def __format__(self, spec: str) -> str:
        return repr(self)  # whoever prints while a rule is traced sees what it stands for

    def __repr__(self) -> str:
        return repr(self._node)

    def __hash__(self) -> int:
        refuse(
            "a symbol looked up in a set or a dict", "comparisons", "Write if t in (1, 3), or where(t == 2, a, b), say."
        )

    @property
    def T(self) -> Symbol:  # noqa: N802  # as numpy and torch call it
        """The transpose of a matrix."""
        return self._tape.add("transpose", self)

    def __pos__(self) -> Symbol:
        return self._tape.add("where", self, 1.0, 0.0) if self._node.truth else self

    def __abs__(self) -> Symbol:
        return self._tape.add("abs", self)

    def __xor__(self, other: Any) -> NoReturn:
        refuse("^ on a symbol", "&, | and ~ on truth values, ** for a power", "")

    __rxor__ = __xor__

    def _foreign(self, *args: Any, **kwargs: Any) -> NoReturn:
        hint = f"{_VOCABULARY} A hyperparameter for range(k) is annotated int."
        refuse("a function from outside on a symbol", "a function of steprule.maths", hint)

    def __getattr__(self, name: str) -> NoReturn:
        """Python's own questions get Python's answer. A tensor may have what a symbol has not, so who asks is refused."""
        if name.startswith("__"):
            raise AttributeError(name)
        wanted = {"numel": "size(p)", "pow": "p**2", "square": "p**2"}.get(name, f"{name}(p)")
        if name.endswith("_"):
            refuse(f"the method .{name}", "a pure function", "It would change the caller's: write x = x * y.")
        known = name in ("numel", "pow", "square") or name in OPERATIONS
        hint = f"Write {wanted}: a rule runs on floats and arrays too." if known else _VOCABULARY
        refuse(f"the attribute .{name}", "signs and functions of steprule.maths", hint)

    __float__ = __int__ = __index__ = __complex__ = __array__ = __round__ = __trunc__ = _foreign

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """numpy's scalars ask with their own signs; all else of numpy is refused, as torch's functions are."""
        name = _SIGNS_OF_NUMPY.get(ufunc.__name__)
        if (
            method != "__call__"
            or options
            or name is None
            or any(getattr(x, "ndim", 0) for x in inputs if not isinstance(x, Symbol))
        ):
            refuse(f"numpy's {ufunc.__name__} on a symbol", "a function of steprule.maths", _VOCABULARY)
        return self._tape.add(name, *inputs)

    def __array_function__(self, function: Any, *args: Any) -> NoReturn:
        refuse(f"numpy's {function.__name__} on a symbol", "a function of steprule.maths", _VOCABULARY)

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """torch asks the class, not the symbol."""
        refuse("a function of torch on a symbol", "a function of steprule.maths", _VOCABULARY)

    __lshift__ = __rlshift__ = _outside("<<")
    __rshift__ = __rrshift__ = _outside(">>")
    __divmod__ = __rdivmod__ = _outside("divmod")
    __getitem__ = _outside("an index in [ ]")
    __contains__ = _outside("`in`")
    __len__ = _outside("len", "The elements of a tensor are steprule.maths' size(p).")
    __iter__ = _outside("a loop", "Python's max, min and sum are loops: import those of steprule.maths.")

    def _in_place(self, other: Any) -> NoReturn:
        refuse(
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


class Tape:
    """Records nodes; the same operation on the same arguments is one node."""

    def __init__(self, graph: Graph, shapes: Shapes | None = None) -> None:
        self.graph, self.shapes = graph, shapes
        self.answers: list[bool] = []
        """What the first ifs of a run are told; the others are told True."""
        self.decided: dict[Node, bool] = {}
        """What each if on a number of the step was told in this run, in order."""
        self.seen: dict[Any, Node] = {}
        self.places = Places()
        """Of the totals of this run."""
        self.frames: list[FrameType] = []
        """The author's functions at work; a frame that is held keeps its local names after the return."""

    def input(self, name: str, kind: Kind, *, truth: bool | None = None, dims: Dims | None = None) -> Symbol:
        """What goes into a step; `truth` is what an `if` on it is told, where it may be asked so."""
        node = self.graph.inputs[name] = Node("input", (), kind, name, dims=dims)
        return Symbol(self, node, truth=truth)

    def of_shape(self, node: Node | float) -> float | None:
        """The value of what numbers of the shape alone decide; None of another."""
        if not isinstance(node, Node):
            return node
        if node.op == "input":
            return self.graph.values_of_shape.get(node.name or "")
        if node.kind is not Kind.SCALAR:
            return None
        args = [self.of_shape(a) for a in node.args]
        known = [Real(a) for a in args if a is not None]
        return float(OPERATIONS[node.op].call(*known)) if len(known) == len(args) else None

    def add(self, op: str, *args: Any) -> Symbol:
        """The symbol of an operation, recorded where it is new."""
        plain = [self._operand(op, arg) for arg in args]
        self._fit_truths(op, plain)
        place = self._place_of(op) if OPERATIONS[op].over_model else ""
        key = (op, *((a if isinstance(a, Node) else (type(a), repr(a))) for a in plain), place)
        if key not in self.seen:
            row = OPERATIONS[op]
            if self.shapes is None:
                if row.of_shape or row.of_matrices or (row.reduction and len(plain) > 1):
                    raise ShapeNeededError
            elif row.of_shape or op == "size":
                return self._number_of_shape(op, plain[0], self.shapes)  # type: ignore[no-any-return]
            kind = _kind_of(plain)
            if row.over_model:
                kind = Kind.MODEL
            elif row.of_the_step and kind is not Kind.SCALAR:
                _refuse_of_elements(op)
            if row.of_matrices and kind is not Kind.ELEMENT:
                found = apply(op, *(1.0 if isinstance(a, Node) else a for a in plain))
                return found if op in ("qr", "eigenvectors") else self._of_numbers(op, plain)  # type: ignore[no-any-return]
            dims = self._dims_of(op, plain, kind)
            if row.reduction:
                self.graph.asks_for_reductions = True
            if row.reduction and not row.over_model:
                if kind is not Kind.ELEMENT:
                    return row.reduction.of_one(Symbol(self, plain[0]) if isinstance(plain[0], Node) else plain[0])  # type: ignore[no-any-return]
                if dims is None:  # of a vector, along its only axis, or of the rows' own numbers
                    kind, plain = Kind.REDUCTION, plain[:1]
            self._hold_frame()
            node = Node(op, tuple(plain), kind, truth=row.truth, dims=dims, dtype=_dtype_of(op, plain), place=place)
            self.seen[key] = node
            self.graph.nodes.append(node)
        return Symbol(self, self.seen[key])

    def _dims_of(self, op: str, args: Sequence[Any], kind: Kind) -> Dims | None:
        """The axes of an operation on these; None for a number."""
        if self.shapes is None or kind is not Kind.ELEMENT:
            return None
        arrays = [a.dims or () for a in args if isinstance(a, Node) and a.kind is Kind.ELEMENT]
        row = OPERATIONS[op]
        if row.reduction:
            left = self.shapes.reduced(op, arrays[0], args[1]) if len(args) > 1 else ()
            return None if set(left) <= {"1"} else left
        if row.of_matrices:
            # What a matrix meets must be one too, but for the root's number and the axis.
            if op == "matmul" and len(arrays) < 2:
                refuse("@ of a matrix and a number", "two matrices", "A number times a matrix is x * y.")
            if op == "inverse_root" and len(arrays) > 1:
                refuse(
                    "a root of another number for each element",
                    "one number",
                    "inverse_root(x, 4) is x to the power -1/4.",
                )
            _check_dtypes(op, [a.dtype for a in args if isinstance(a, Node) and a.kind is Kind.ELEMENT])
            return self.shapes.of_matrices(op, arrays[:2] if op == "matmul" else arrays[:1])
        return self.shapes.broadcast(OPERATIONS[op].sign or op, arrays)

    def _number_of_shape(self, op: str, of: Any, shapes: Shapes) -> Any:
        """rows, columns, ndim or size: a number that is known when the step begins, so that graphs of many sizes are alike."""
        dims = of.dims or () if isinstance(of, Node) and of.kind is Kind.ELEMENT else ()
        if op == "ndim":
            return len(dims)
        names = {"rows": dims[-2:-1], "columns": dims[-1:], "size": dims}[op]
        found: Any = 1
        for name in names:
            if name != "1":
                known = self.graph.inputs.get(f"{name}(p)")
                symbol = Symbol(self, known) if known else self.input(f"{name}(p)", Kind.SCALAR)
                found = symbol if found == 1 else found * symbol
        return found

    def _of_numbers(self, op: str, args: Sequence[Any]) -> Any:
        """A function of matrices of numbers, each a matrix of one row and one column."""
        shown: list[Any] = [Symbol(self, a) if isinstance(a, Node) else a for a in args]
        a, *others = shown
        if op == "matmul":
            return a * others[0]
        if op == "inverse_root":
            a = a if len(others) == 1 else apply("maximum", a, 0.0) + others[1]
            return a ** (-1.0 / others[0])
        return a

    def _operand(self, op: str, arg: Any) -> Node | float | int | bool:
        """An argument as a node or a plain number."""
        if isinstance(arg, Symbol):
            if arg._tape is not self:
                refuse("a value of another call", "the arguments of this one", _KEEPS)
            return arg._node
        if hasattr(arg, "dtype") and getattr(arg, "ndim", 1) == 0 and isinstance(arg, numbers.Real):
            return arg.item()  # type: ignore[attr-defined,no-any-return]  # numpy's
        if not isinstance(arg, bool | int | float):
            what, hint = f"a {type(arg).__name__}", ""
            if arg is None:
                what, hint = (
                    "an absent slot (None)",
                    "Test it first: `if slot is None:`, or the flag that switches it on.",
                )
            elif isinstance(arg, Sight):
                what, hint = f"{GRADIENT} itself", f"It is a function of the point: {GRADIENT}(p - lr * g), say."
            elif hasattr(arg, "dtype"):
                hint = _KEEPS
            refuse(f"{what} in {op}", "symbols and plain numbers", hint)
        if type(arg) is int and abs(arg) > sys.float_info.max:
            refuse(f"a whole number of {arg.bit_length()} bits", "numbers that a float64 holds", "")
        return arg

    def _place_of(self, op: str) -> str:
        """Where the author asks for a total; there each tensor must come."""
        if self.decided:
            hint = "Take the total before the first `if` on t or a hyperparameter, and write where(condition, a, b) behind it."
            refuse(f"a {op} behind an `if` on a number of the step", "one to which each tensor comes", hint)
        return self.places.next()

    def decide(self, condition: Node) -> bool:
        """What an if on a number of the step is told in this run: another run goes the other way."""
        if (only := implied(self.graph.rule, self.decided, condition)) is not None:
            return only
        if condition not in self.decided:
            k = len(self.decided)
            if k >= MOST_WAYS:
                refuse(
                    f"more than {MOST_WAYS} ifs on numbers of the step, or a loop on one", "few of them", "Use where."
                )
            self.decided[condition] = self.answers[k] if k < len(self.answers) else True
        return self.decided[condition]

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
                refuse(f"a number as {what}", "a comparison", hint)

    def _hold_frame(self) -> None:
        frame = sys._getframe(2)
        while frame is not None and frame.f_code not in self.graph.rule.codes:
            frame = frame.f_back  # type: ignore[assignment]  # None above the outermost, which the loop tests
        if frame is not None and frame not in self.frames:
            self.frames.append(frame)


def _kind_of(args: Sequence[Node | float | int | bool]) -> Kind:
    """How often an operation on these is computed: as often as that of them which is computed most often."""
    kinds = {a.kind for a in args if isinstance(a, Node)}
    return next((kind for kind in (Kind.ELEMENT, Kind.REDUCTION, Kind.MODEL) if kind in kinds), Kind.SCALAR)


def _dtype_of(op: str, args: Sequence[Any]) -> str:
    """The dtype of a result, as torch: that of a cast goes on where nothing of the computing dtype comes in."""
    if op in ROUNDED:
        return op
    nodes = [a for a in args if isinstance(a, Node)]
    decides = Kind.ELEMENT if any(a.kind is Kind.ELEMENT for a in nodes) else Kind.REDUCTION
    found = {a.dtype for a in nodes if a.kind is decides}
    return found.pop() if len(found) == 1 and not OPERATIONS[op].truth else ""


def _check_dtypes(op: str, dtypes: Sequence[str]) -> None:
    """Refuse what torch has no function for: a product of two dtypes, and factors of what was cast."""
    if op == "matmul" and len(set(dtypes)) > 1:
        got = " @ ".join(dtype or "the parameter's dtype" for dtype in dtypes)
        refuse(got, "a product of two matrices of one dtype", "Cast both, or neither.")
    if op in ("qr", "eigenvectors", "inverse_root") and dtypes[0]:
        refuse(f"{op} of {dtypes[0]}", f"{op} of what was not cast", "Cast what comes of it.")


def _refuse_of_elements(op: str) -> NoReturn:
    sign, hint = OPERATIONS[op].sign, ""
    if op in ("eq", "ne"):
        hint = "Compare with a margin in where(...): equality of floats is decided by their rounding."
    refuse(f"{sign} on an element", f"{sign} on hyperparameters and the step number t alone", hint)
