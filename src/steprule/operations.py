"""The table of operations: what each means on every kind of number, and how every language writes it.

The rows stand in `signs.py` and `maths.py`. All that computes, prints or records an operation reads its row here: a new operation is a
row there and nothing elsewhere. (A language that lacks the function calls one of ours: Triton's are in `compiler/triton_gpu.py`.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

COMPARISON, OR, AND, SUM, PRODUCT, SIGN, POWER, ATOM = range(8)
"""How strongly an operation binds, as in Python: an operand needs brackets where it binds less."""


@dataclass(frozen=True)
class Reduction:
    """How one number comes from all elements of a tensor: in float64, in parts that are joined in their order."""

    each: Callable[[Any], Any]
    """What an element adds, in the language of rules."""
    end: Callable[[Any, Any], Any] = lambda total, count: total
    """The result, from what was joined and the number of elements, in the language of rules."""
    of_one: Callable[[Any], Any] = lambda x: x
    """The result for a tensor of one element, in the language of rules."""
    join: str = "add"
    """The operation that joins two parts."""
    start: float = 0.0
    """What it starts from."""


@dataclass(frozen=True, eq=False)
class Operation:
    """One row."""

    name: str
    latex: str = ""
    """With {0}, {1} for the operands; or, without any, what stands before the brackets."""
    sign: str = ""
    """Python's sign; empty for a function."""
    method: str = ""
    """The name of Python's method for the sign, without underscores."""
    strength: int = ATOM
    truth: bool = False
    """Whether it gives a truth value."""
    truths: tuple[int, ...] = ()
    """Which operands must be truth values; where another is one, it becomes the number 0 or 1."""
    of_the_step: bool = False
    """Whether its operands must be known before a step begins: hyperparameters and the step number."""
    floats: Callable[..., Any] | None = None
    """On Python floats; it never raises."""
    numpy: str | Callable[..., Any] = ""
    """numpy's function: its name, or a function of numpy and the operands. The row's own name where nothing is said."""
    torch: str | Callable[..., Any] = ""
    """torch's, likewise."""
    over: str = ""
    """numpy's and torch's function that joins all numbers along a dimension by it."""
    body: Callable[..., Any] | None = None
    """Its definition in the language of rules: what serves wherever nothing else is said."""
    written: Mapping[str, str] = field(default_factory=dict)
    """By language, how it is written, with {0}, {1} for the operands."""
    reduction: Reduction | None = None
    of_shape: Callable[[tuple[int, ...]], int] | None = None
    """For a number of the shape, as `rows`: the number that a shape has."""
    of_matrices: bool = False
    """Whether it takes whole matrices, as `@`, and not one element after the other."""
    over_model: bool = False
    """Whether the reduction goes on over all tensors of the model: one number, in float64."""

    call: Callable[..., Any] = lambda *operands: None
    """Computes it on numbers of any kind that a rule runs on."""


LANGUAGES = ("python", "numba", "triton", "triton_float32", "javascript")
"""What the columns of how an operation is written are called. A function is written as it is called, unless a row says more."""

TABLE: dict[str, Operation] = {}
"""Every operation by its name."""


F = TypeVar("F", bound=Callable[..., Any])


def row(**columns: Any) -> Callable[[F], F]:
    """Put the function that is decorated into the table, under its own name; the function stays what it is."""

    def decorate(function: F) -> F:
        name = columns.pop("name", function.__name__)
        written = {language: columns.pop(language) for language in LANGUAGES if language in columns}
        TABLE[name] = Operation(name, call=function, written=written, **columns)
        return function

    return decorate


C = TypeVar("C", bound=type)


def takes_signs(cls: C) -> C:
    """Give a class Python's signs: each asks its method `steprule_apply(name, *operands)`, as the functions of `maths` do."""

    def method(name: str, *, reflected: bool) -> Callable[..., Any]:
        if reflected:
            return lambda self, other: self.steprule_apply(name, other, self)
        return lambda self, *others: self.steprule_apply(name, self, *others)

    for row in TABLE.values():
        if row.sign:
            setattr(cls, f"__{row.method}__", method(row.name, reflected=False))
            if not row.truth or row.truths:
                setattr(cls, f"__r{row.method}__", method(row.name, reflected=True))
    return cls
