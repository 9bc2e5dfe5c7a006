"""The pages beside the playground, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from steprule.errors import InputError, unknown_name

PLAYGROUND = "surfaces"
OTHERS = ("luck", "network")
"""Each is written by the module of its name, which is imported for it alone: they train, so they need torch."""


def writer_of(page: str, playgrounds: Mapping[str, object]) -> Callable[[Path], None] | None:
    """The function that writes a page; None for the playground.

    `playgrounds` holds the values of options that only the playground has. Raises `UnknownNameError` for an unknown page, `InputError`
    where one of those options is given for another page.
    """
    if page == PLAYGROUND:
        return None
    if page not in OTHERS:
        hint = "The rules of the catalogue, but for those of matrices, are on the page surfaces; --rule adds your own."
        raise unknown_name("page", page, [PLAYGROUND, *OTHERS], hint=hint)
    if given := [f"--{name}" for name, value in playgrounds.items() if value]:
        raise InputError(f"the page {page}", expected="--out alone", got=", ".join(given))
    writer: Callable[[Path], None] = import_module(f"steprule.play.{page}").write
    return writer
