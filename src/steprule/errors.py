"""What was expected, what was got, a hint: every error that steprule raises on bad input, in one line each.

All are subclasses of `StepruleError` and of the built-in that Python's users would catch (`ValueError`, `TypeError`,
`OSError`, `RuntimeError`). The command line prints the message as it stands and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class StepruleError(Exception):
    """Base of all errors on bad input; its text is one line: what was expected, what was got, a hint."""

    def __init__(self, what: str, *, expected: str = "", got: str = "", hint: str = "") -> None:
        self.what, self.expected, self.got, self.hint = what, expected, got, hint
        wanted = ", ".join(part for part in (expected and f"expected {expected}", got and f"got {got}") if part)
        text = f"{what}: {wanted}" if wanted else what
        if hint:
            text += ("" if text.endswith(("?", ".", "!")) else ".") + f" {hint}"
        super().__init__(" ".join(text.split()))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), self.what, self.expected, self.got, self.hint)


class InputError(StepruleError, ValueError):
    """A value that cannot be used: out of bounds, not finite, a combination that makes no sense."""


class InputTypeError(StepruleError, TypeError):
    """A value of the wrong type."""


class UnknownNameError(InputError, LookupError):
    """A name that is in no catalogue, with the nearest one that is."""


class RuleError(StepruleError, TypeError, ValueError):
    """A rule that breaks the contract of `steprule.rule`; the text begins with the author's file and line."""


class GradientError(StepruleError, RuntimeError):
    """A gradient that is not finite, where the optimizer was told to raise; torch's `clip_grad_norm_` raises a RuntimeError too."""


class DataError(InputError):
    """A data file that is missing, empty, cut off or altered."""


class OutputError(StepruleError, OSError):
    """A file or folder that cannot be written."""


class MissingPackageError(StepruleError, ImportError):
    """A package that is not installed; the hint is the command that installs it."""


class KernelError(StepruleError, RuntimeError):
    """A kernel that steprule should have made and could not: a fault of its own. The text names the engine that needs none."""


def unknown_name(kind: str, name: object, known: Iterable[str], *, where: str = "", hint: str = "") -> UnknownNameError:
    """The error for `name`, which is no `kind`; suggests the nearest of `known`, or else says `hint`."""
    names = list(known)
    near = nearest(str(name), names)
    hint = f"Did you mean {near!r}?" if near else hint
    listed = "one of " + ", ".join(names) if names else "none"
    return UnknownNameError(f"unknown {kind}{where}", expected=listed, got=repr(name), hint=hint)


def named(kind: str, name: object, things: Mapping[str, T], *, where: str = "") -> T:
    """The thing of that name. Raises `UnknownNameError`."""
    if name not in things:
        raise unknown_name(kind, name, things, where=where)
    return things[str(name)]


def nearest(typed: str, known: Iterable[str]) -> str | None:
    """The one of `known` that was probably meant; None where none is near. Large and small letters are the same.

    >>> nearest("adma", ["adamax", "adam"])
    'adam'
    """
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(typed.lower(), names, n=5, cutoff=0.5)
    return names[min(near, key=lambda name: _slips(typed.lower(), name))] if near else None


def _slips(typed: str, meant: str) -> int:
    """With how many slips one types one for the other: a letter too many, one missing, another, or two in the wrong order."""
    rows = [list(range(len(meant) + 1))]
    for i, letter in enumerate(typed, 1):
        rows.append([i])
        for j, wanted in enumerate(meant, 1):
            ways = [rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (letter != wanted)]
            if i > 1 and j > 1 and typed[i - 2 : i] == wanted + meant[j - 2]:
                ways.append(rows[i - 2][j - 2] + 1)
            rows[i].append(min(ways))
    return rows[-1][-1]


def check_arguments(given: Iterable[str], known: type, where: str) -> None:
    """Raises `UnknownNameError` for a keyword argument of `where` that is not in the record `known`, a `TypedDict`."""
    for name in given:
        if name not in known.__annotations__:
            raise unknown_name("argument", name, known.__annotations__, where=f" of {where}")


def _rebuild(cls: type[StepruleError], text: str, what: str, expected: str, got: str, hint: str) -> StepruleError:
    """Unpickle: the text is taken as it was, so a worker's error reads the same in the parent."""
    error = cls.__new__(cls)
    Exception.__init__(error, text)
    error.what, error.expected, error.got, error.hint = what, expected, got, hint
    return error
