"""How a language writes an operation: by its column of the table, or by the operation's definition.

A definition runs on written operands as it runs on symbols and numbers: `clamp` is `minimum(maximum(x, low), high)` everywhere.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from steprule.arithmetic import Truth, literal_power
from steprule.compiler.graph import Node
from steprule.maths import OPERATIONS
from steprule.operations import takes_signs

Constant = float | int | bool


class Writer(ABC):
    """Writes operations on operands that are names, constants or other operations."""

    columns_of_table: tuple[str, ...] = ()
    """The language's columns of the table, the first that a row has."""
    called = "{name}({operands})"
    """How a function is called of which the table says nothing else."""

    @abstractmethod
    def show(self, arg: Node | Constant) -> str:
        """An operand: a name, or a constant."""

    def expression(self, node: Node) -> str:
        """A node's operation on its operands."""
        return self.write(node.op, node.args)

    def write(self, name: str, args: tuple[Any, ...]) -> str:
        """An operation. `args` are nodes, constants or `Written`."""
        row = OPERATIONS[name]
        if name == "pow" and type(args[1]) in (int, float):
            return self._literal_power(args[0], args[1])
        return (
            self._one(name, args)
            if row.body is None or self._template(name)
            else self._text(row.body(*map(self._held, args)))
        )

    def of(self, function: Callable[..., Any], *operands: str) -> str:
        """A function of the language on operands that are written already: names, calls, or in brackets."""
        return self._text(function(*(Written(self, operand, atom=True) for operand in operands)))

    def _one(self, name: str, args: tuple[Any, ...]) -> str:
        operands = [self._operand(a) for a in args]
        row = OPERATIONS[name]
        if template := self._template(name):
            return template.format(*operands)
        if row.sign:
            return f"{operands[0]} {row.sign} {operands[1]}" if len(operands) == 2 else f"{row.sign}{operands[0]}"
        return self.called.format(name=name, operands=", ".join(operands))

    def _template(self, name: str) -> str:
        written = OPERATIONS[name].written
        return next((written[c] for c in self.columns_of_table if c in written), "")

    def _literal_power(self, x: Any, exponent: float) -> str:
        """By products, or by a root."""
        if exponent == 0:
            return self.show(1.0)
        written = literal_power(
            self._held(x),
            exponent,
            pow=lambda a, b: Written(self, self._one("pow", (a, b))),
            sqrt=lambda a: a.steprule_apply("sqrt", a),
        )
        return self._text(written)

    def _held(self, arg: Any) -> Any:
        return Written(self, self.show(arg), atom=True) if isinstance(arg, Node) else arg

    def _text(self, written: Any) -> str:
        return written.text if isinstance(written, Written) else self.show(written)

    def _operand(self, arg: Any) -> str:
        if isinstance(arg, Written):
            return arg.text if arg.atom else f"({arg.text})"
        return self.show(arg)


class PlainWriter(Writer):
    """Writes constants as plain numbers: where a language takes them for float64."""

    def __init__(self, columns: tuple[str, ...], called: str) -> None:
        self.columns_of_table, self.called = columns, called

    def show(self, arg: Node | Constant) -> str:
        """A constant."""
        assert not isinstance(arg, Node)
        return literal(arg)


@takes_signs
class Written:
    """An operation as it is written; computing with it writes more."""

    __slots__ = ("atom", "text", "writer")

    def __init__(self, writer: Writer, text: str, *, atom: bool = False) -> None:
        self.writer, self.text, self.atom = writer, text, atom

    def steprule_apply(self, name: str, *args: Any) -> Any:
        """Write one more operation; a pick that constants decide is made at once."""
        if name == "where" and isinstance(args[0], Truth):
            return args[1] if args[0] else args[2]
        return Written(self.writer, self.writer.write(name, args))


def literal(value: Constant) -> str:
    """A number as Python source; inf and nan have no literal."""
    return repr(float(value)) if math.isfinite(value) else f'float("{float(value)}")'
