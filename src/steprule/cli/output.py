"""How a command prints: lines for people, JSON for programs, progress on stderr."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape

Advance = Any


_kept: list[TextIO] = []
"""Holds the real stdout while only JSON may be written to it."""


@contextmanager
def json_alone() -> Iterator[None]:
    """While this lasts, only `as_json` writes to stdout; everything else that is printed goes to stderr."""
    _kept.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _kept.pop()


def as_json(data: Any) -> None:
    """One JSON document on stdout."""
    stdout = _kept[-1] if _kept else sys.stdout
    stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")


@contextmanager
def warnings_as_lines(*kinds: type[Warning]) -> Iterator[None]:
    """While this lasts, each warning of these kinds is one line on stderr."""
    with warnings.catch_warnings():
        for kind in kinds:
            warnings.simplefilter("always", kind)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
            if issubclass(category, kinds):
                sys.stderr.write(f"steprule: {message}.\n")
            else:
                usual(message, category, *rest, **named)

        warnings.showwarning = show
        yield


def say(text: str = "") -> None:
    """Print a line on stdout as it is, without rich's markup."""
    Console(highlight=False, soft_wrap=True).print(escape(text))


def note(text: str) -> None:
    """Print a line on stderr, beside the result."""
    sys.stderr.write(f"steprule: {text}\n")


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """Show a bar on stderr where it is a terminal; gives a function `(done, total, label)` that moves it."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Pace(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="progress.data.speed")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Pace(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int, label: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{what}: {escape(label)}")

        yield advance
