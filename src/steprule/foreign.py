"""Turns errors of other people's code into one line each, with the user's own file and line where possible."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping
from typing import Any

from steprule.errors import InputError, StepruleError
from steprule.identity.whose import own_file

LONGEST = 300
"""A foreign message is cut to this many characters."""


def refusal(what: str, error: Exception, *, hint: str = "") -> StepruleError:
    """`error` as one of ours that names its source; an error of ours stays as it is.

    `what` names the optimizer, or what else of the user's was called. The line begins with the user's own file and line where the
    traceback has one; files of Python, of installed packages and of this package do not count.
    """
    if isinstance(error, StepruleError):
        return error
    message = " ".join(str(error).split())
    if len(message) > LONGEST:
        message = message[:LONGEST].rstrip() + " ..."
    speaks_for_itself = isinstance(error, ValueError | TypeError) and message
    said = message if speaks_for_itself else f"{type(error).__name__}: {message}".rstrip(": ")
    place = users_line(error)
    return InputError(f"{place}: {what}: {said}" if place else f"{what}: {said}", hint=hint)


def users_line(error: BaseException) -> str:
    """`file.py:12`, the deepest of the user's own lines on the way to an error; "" where there is none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        made_by_exec = frame.filename.startswith("<") and not frame.filename.startswith("<ipython")
        if not made_by_exec and own_file(frame.filename):
            return f"{frame.filename}:{frame.lineno}"
    return ""


def parameters_of(function: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a class or a function; {} where they cannot be read."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
