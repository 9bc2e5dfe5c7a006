"""Other people's code: what it takes, and its errors in one line each, with the user's own file and line."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping
from typing import Any

from steprule.errors import InputError, StepruleError
from steprule.identity.whose import own_file

LONGEST = 300
"""Characters of a foreign message that are shown."""


def refusal(what: str, error: Exception, *, hint: str = "") -> StepruleError:
    """`error` as one of ours, which says what raised it; one of ours stays as it is.

    `what` names the optimizer, or whatever else of the user's was called. The line begins with a file and line of the user's where
    the traceback has one: a file of Python's, of an installed package or of this package is none.
    """
    if isinstance(error, StepruleError):
        return error
    message = " ".join(str(error).split())
    if len(message) > LONGEST:
        message = message[:LONGEST].rstrip() + " ..."
    known = isinstance(error, ValueError | TypeError) and message  # whose messages say enough
    said = message if known else f"{type(error).__name__}: {message}".rstrip(": ")
    place = users_line(error)
    return InputError(f"{place}: {what}: {said}" if place else f"{what}: {said}", hint=hint)


def users_line(error: BaseException) -> str:
    """`file.py:12`, the deepest line of the user's own on the way to an error; "" where there is none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if (frame.filename[:1] != "<" or frame.filename.startswith("<ipython")) and own_file(frame.filename):
            return f"{frame.filename}:{frame.lineno}"
    return ""


def parameters_of(function: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a class or a function; {} where they cannot be read."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
