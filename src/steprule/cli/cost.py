"""What a command says first about its time and memory, with `--dry-run`, `--yes` and `--budget`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import typer

from steprule.cli import output
from steprule.errors import InputError

if TYPE_CHECKING:
    from steprule.sweeps.estimate import Estimate

HOURS = 2 * 3600.0
"""A command asks before it takes this many seconds."""
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


class _DryRun(Exception):  # noqa: N818  (no error)
    """Ends a command once it is known what it would take."""


@contextmanager
def known_first(
    what: str, *, dry_run: bool, yes: bool, json: bool, sizes: Mapping[str, int] | None = None
) -> Iterator[Callable[[Estimate], None]]:
    """Give a function that is to be called with the estimate.

    It says the estimate on stderr, and asks before work that takes hours; a dry run prints the estimate and ends there. Raises
    `InputError` where the work takes hours and nobody can answer.
    """

    def told(found: Estimate) -> None:
        if dry_run:
            if json:
                output.as_json({**found.to_dict(), **(sizes or {})})
            else:
                output.say(f"{what}: {found}.")
            raise _DryRun
        if found.seconds is not None:
            output.note(f"{what}: {found}.")
        if (found.seconds or 0) >= HOURS and not yes:
            _ask(what)

    with suppress(_DryRun):
        yield told
        return
    raise typer.Exit


def _ask(what: str) -> None:
    if sys.stdin.isatty() and sys.stderr.isatty():
        typer.confirm("Go on?", abort=True, err=True)
        return
    smaller = "; --budget 30m makes it smaller" if what == "race" else ""
    hint = f"--dry-run only says what it takes{smaller}."
    raise InputError(what, expected="--yes, for it takes hours", got="no --yes", hint=hint)


def seconds_of(text: str) -> float:
    """A time as people write it: 90s, 30m, 1h30m, 1.5h, 2d; a number alone is seconds. Raises `InputError`."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    whole = "".join(number + unit for number, unit in parts) == re.sub(r"\s", "", text.lower())
    units = [unit or "s" for _, unit in parts]
    if not parts or not whole or not set(units) <= set(UNITS):
        raise InputError("--budget", expected="a time, as 90s, 30m or 1h30m", got=repr(text))
    seconds = sum(float(number) * UNITS[unit] for (number, _), unit in zip(parts, units, strict=True))
    if not seconds > 0:
        raise InputError("--budget", expected="a time above 0", got=repr(text))
    return seconds
