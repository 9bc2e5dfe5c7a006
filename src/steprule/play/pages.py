"""The pages beside the playground, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from steprule.errors import InputError, unknown_name

PLAYGROUND = "surfaces"
OTHERS = ("luck", "network", "matrix")
"""Each is written by the module of its name, which is imported for it alone: they train, so they need torch."""
WITH_RULES = ("matrix",)
"""Those whose writer takes rules of one's own, as pairs (RULE as it was typed, rule)."""


def writer_of(page: str, playgrounds: Mapping[str, object]) -> Callable[..., None] | None:
    """The function that writes a page, `write(path)`, for one of `WITH_RULES` also `write(path, own)`; None for the playground.

    `playgrounds` holds the values of options that the playground has, by name. Raises `UnknownNameError` for an unknown page, `InputError`
    where one of those options is given for another page.
    """
    if page == PLAYGROUND:
        return None
    if page not in OTHERS:
        hint = "Rules are on the page surfaces, those of matrices on the page matrix; --rule adds your own."
        raise unknown_name("page", page, [PLAYGROUND, *OTHERS], hint=hint)
    takes = ("rule",) if page in WITH_RULES else ()
    if given := [f"--{name}" for name, value in playgrounds.items() if value and name not in takes]:
        expected = " and ".join(f"--{name}" for name in ("out", *takes)) + " alone"
        raise InputError(f"the page {page}", expected=expected, got=", ".join(given))
    writer: Callable[..., None] = import_module(f"steprule.play.{page}").write
    return writer
