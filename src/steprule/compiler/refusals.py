"""What a rule may not do, said in one line with the author's file and line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NoReturn

from steprule.errors import RuleError
from steprule.rules.hints import missing_import
from steprule.rules.rule import Rule

_refusals: ContextVar[list[RuleError] | None] = ContextVar("refusals", default=None)


def refuse(got: str, expected: str, hint: str) -> NoReturn:
    """Raise for what is not in the language of rules; `all_refusals` knows of it even where the author catches it."""
    error = RuleError("not in the language of rules", expected=expected, got=got, hint=hint)
    if (refused := _refusals.get()) is not None:
        refused.append(error)
    raise error


@contextmanager
def none_refused() -> Iterator[None]:
    """A block that raises what was refused within it, also where the author has caught it: a number would not have been refused."""
    refused: list[RuleError] = []
    token = _refusals.set(refused)
    try:
        yield
    finally:
        _refusals.reset(token)
    if refused:
        raise refused[0]


@contextmanager
def authors_errors(rule: Rule, absent: frozenset[str]) -> Iterator[None]:
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


def _authors_line(error: BaseException | None, rule: Rule) -> str:
    """The deepest place in the author's files: file:line."""
    files = {code.co_filename for code in rule.codes}
    for frame in reversed(traceback.extract_tb(error.__traceback__ if error else None)):
        if frame.filename in files:
            return f"{frame.filename}:{frame.lineno}"
    return f"{rule.lines[0]}:{rule.lines[1]}"
