"""The pages beside the playground, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from steprule.errors import InputError, unknown_name
from steprule.play import luck, network

PLAYGROUND = "surfaces"
OTHERS: Mapping[str, Callable[[Path], None]] = {"luck": luck.write, "network": network.write}
"""The function that writes each page."""


def writer_of(page: str, playgrounds: Mapping[str, object]) -> Callable[[Path], None] | None:
    """The function that writes a page; None for the playground.

    `playgrounds` holds the values of options that only the playground has. Raises `UnknownNameError` for an unknown page, `InputError`
    where one of those options is given for another page.
    """
    if page == PLAYGROUND:
        return None
    if page not in OTHERS:
        hint = "Every rule of the catalogue is on the page surfaces; --rule adds your own."
        raise unknown_name("page", page, [PLAYGROUND, *OTHERS], hint=hint)
    if given := [f"--{name}" for name, value in playgrounds.items() if value]:
        raise InputError(f"the page {page}", expected="--out alone", got=", ".join(given))
    return OTHERS[page]
