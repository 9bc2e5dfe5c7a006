"""What was expected, what was got, a hint: every error that steprule raises on bad input, in one line each.

All are subclasses of `StepruleError` and of the built-in that Python's users would catch (`ValueError`, `TypeError`,
`OSError`, `RuntimeError`). The command line prints the message as it stands and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


class DataError(InputError):
    """A data file that is missing, empty, cut off or altered."""


class OutputError(StepruleError, OSError):
    """A file or folder that cannot be written."""


class KernelError(StepruleError, RuntimeError):
    """A kernel that steprule should have made and could not: a fault of its own. The text names the engine that needs none."""


def unknown_name(kind: str, name: object, known: Iterable[str], *, where: str = "", hint: str = "") -> UnknownNameError:
    """The error for `name`, which is no `kind`; suggests the nearest of `known`, or else says `hint`."""
    names = list(known)
    near = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else hint
    listed = "one of " + ", ".join(names) if names else "none"
    return UnknownNameError(f"unknown {kind}{where}", expected=listed, got=repr(name), hint=hint)


def _rebuild(cls: type[StepruleError], text: str, what: str, expected: str, got: str, hint: str) -> StepruleError:
    """Unpickle: the text is taken as it was, so a worker's error reads the same in the parent."""
    error = cls.__new__(cls)
    Exception.__init__(error, text)
    error.what, error.expected, error.got, error.hint = what, expected, got, hint
    return error
