"""What a function does, by its bytecode without file, lines and docstring, and the names that it reaches."""

from __future__ import annotations

import dis
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

EMPTY = frozenset({"NOP", "EXTENDED_ARG", "CACHE"})
"""Instructions that do nothing by themselves; their number depends on lines and on the number of constants."""
JUMPS = frozenset(dis.opname[k] for k in (*dis.hasjrel, *dis.hasjabs))
LOOKUPS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
ABOUT = frozenset({"__doc__", "__qualname__", "__module__", "__firstlineno__", "__static_attributes__"})
"""Names in a class body that only describe the class."""
KINDS = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200
"""Flags that matter: *args, **kwargs, generator, coroutine, iterable coroutine, asynchronous generator."""


def signature(code: CodeType) -> tuple[object, ...]:
    """The function's arguments and kind."""
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)  # *args, **kwargs
    return (
        code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & KINDS,
        code.co_varnames[:count], code.co_freevars,
    )  # fmt: skip


def steps(code: CodeType) -> Iterator[tuple[str, Any]]:
    """The instructions, each with its operand: a constant, a name, or the number of the instruction that it jumps to.

    They come from `dis`, not from `co_code`, where a docstring would shift the numbers of the constants.
    """
    kept = _instructions(code)
    offsets = [i.offset for i in kept]
    for i in kept:
        yield i.opname, bisect_left(offsets, i.argval) if i.opname in JUMPS else i.argval
    for entry in dis.Bytecode(code).exception_entries:  # type: ignore[attr-defined]  # since Python 3.11
        start, end = bisect_left(offsets, entry.start), bisect_left(offsets, entry.end)
        yield "except", (start, end, bisect_left(offsets, entry.target), entry.depth, entry.lasti)


def _instructions(code: CodeType) -> list[dis.Instruction]:
    kept: list[dis.Instruction] = []
    for i in dis.get_instructions(code):
        if i.opname in EMPTY:
            continue
        if i.opname == "STORE_NAME" and i.argval in ABOUT and kept[-1].opname.startswith("LOAD_"):
            kept.pop()
            continue
        kept.append(i)
    return kept


@dataclass
class Reach:
    """The names that code reaches, nested code included."""

    names: dict[str, set[tuple[str, ...]]] = field(default_factory=dict)
    """Globals, each with the chains of attributes that are read from it; () where it is used as it is."""
    imports: set[tuple[str, int, tuple[str, ...]]] = field(default_factory=set)
    """Modules that it imports when it runs: name, level, names taken from them."""


def reach(code: CodeType) -> Reach:
    """The names that `code` reaches."""
    found = Reach()
    _reach(code, found)
    return found


def _reach(code: CodeType, found: Reach) -> None:
    kept = _instructions(code)
    for k, i in enumerate(kept):
        if i.opname in LOOKUPS:
            chain: list[str] = []
            for following in kept[k + 1 :]:
                if following.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                    break
                chain.append(following.argval)
            found.names.setdefault(i.argval, set()).add(tuple(chain))
        elif i.opname == "IMPORT_NAME":
            level, taken = kept[k - 2].argval, kept[k - 1].argval
            found.imports.add((i.argval, level if isinstance(level, int) else 0, tuple(taken or ())))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _reach(constant, found)


def texts(code: CodeType) -> set[str]:
    """The texts in `code`, nested code included, that could be a module's name."""
    found = set()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= texts(constant)
        elif isinstance(constant, str) and all(part.isidentifier() for part in constant.split(".")):
            found.add(constant)
    return found
