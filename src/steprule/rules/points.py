"""Where a rule's model is read: a second function of the same states, and what its signature must say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from types import CodeType
from typing import Any

from steprule.errors import RuleError, nearest
from steprule.hyper import Slot

KEPT = "train_point"
"""The state in which a class keeps the point of training while the model is at that of evaluation."""
MODE = "train_mode"
"""The key of a parameter group that says which of the two its parameters hold; schedulefree's name for it."""


@dataclass(frozen=True)
class Point:
    """The function that gives the point of evaluation: of p, some slots by name, and some numbers by name."""

    function: Callable[..., Any]
    """The author's."""
    slots: tuple[str, ...]
    numbers: tuple[str, ...]
    """Hyperparameters of the rule, its tuples such as `betas`, and `t`."""

    @property
    def code(self) -> CodeType:
        """The code of the author's function."""
        return self.function.__code__

    def of(
        self, p: Any, slots: Mapping[str, Any], numbers: Mapping[str, Any], tuples: Mapping[str, Sequence[str]]
    ) -> Any:
        """The point of one parameter. `slots` and `numbers` are all of the rule's; `tuples` says what `betas` and the like gather."""
        known = {name: tuple(numbers[n] for n in members) for name, members in tuples.items()} | dict(numbers)
        own = {n: known[n] for n in self.numbers}
        found = self.function(p, *(slots[n] for n in self.slots), **own)
        if found is None or isinstance(found, tuple | list | dict | set):
            got = "nothing" if found is None else f"a {type(found).__name__}"
            raise RuleError("the point of evaluation", expected="one value, the point", got=got)
        return found


def point_of(function: Callable[..., Any], rule: str, slots: Iterable[Slot], numbers: Iterable[str]) -> Point:
    """The record of an author's function. `slots` and `numbers` are what the rule has for it.

    Raises `RuleError`, with the author's file and line, where the signature asks for anything else.
    """
    code = function.__code__
    where = f"{code.co_filename}:{code.co_firstlineno}: {rule}.evaluated"
    parameters = list(inspect.signature(function).parameters.values())
    if any(q.kind in (q.VAR_POSITIONAL, q.VAR_KEYWORD) for q in parameters):
        raise RuleError(where, expected="p, then slots and hyperparameters by name", got=str(_starred(parameters)))
    first = [q.name for q in parameters if q.kind is not q.KEYWORD_ONLY]
    if first[:1] != ["p"]:
        hint = "p is the parameter as the rule steps it; slots follow, and behind a * hyperparameters."
        raise RuleError(where, expected="p as the first parameter", got=first[0] if first else "none", hint=hint)
    known, asked = [s.name for s in slots], [q.name for q in parameters if q.kind is q.KEYWORD_ONLY]
    numbers = list(numbers)
    for name in first[1:]:
        _check("slot", name, known, where, "Put a * before it." if name in numbers else "")
    for name in asked:
        _check("hyperparameter", name, numbers, where, "Put it before the *." if name in known else "")
    if given := next((q for q in parameters if q.default is not q.empty), None):
        hint = f"Write {given.name} alone: its value is the rule's."
        raise RuleError(where, expected="no defaults", got=str(given), hint=hint)
    return Point(function, tuple(first[1:]), tuple(asked))


def _starred(parameters: Sequence[Parameter]) -> Parameter:
    return next(q for q in parameters if q.kind in (q.VAR_POSITIONAL, q.VAR_KEYWORD))


def _check(kind: str, name: str, known: Sequence[str], where: str, hint: str) -> None:
    """Raises for a name that the rule does not have, with the nearest one that it has."""
    if name not in known:
        near = nearest(name, known)
        told = hint or (f"Did you mean {near!r}?" if near else "")
        raise RuleError(where, expected=f"a {kind} of the rule ({', '.join(known) or 'none'})", got=name, hint=told)
