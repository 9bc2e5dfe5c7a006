"""Prints a race or a judgement in one form that a paper takes: `--as`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steprule.cli import output
from steprule.cli.completion import CITED
from steprule.errors import unknown_name

if TYPE_CHECKING:
    from steprule.races.citing.citable import Citable


def check_form(form: str) -> None:
    """Raises `UnknownNameError` for a form that there is not."""
    if form not in ("", *CITED):
        raise unknown_name("form", form, CITED, where=" for --as")


def say(result: Citable, form: str) -> None:
    """The result in that form, and nothing else."""
    from steprule.races.citing.citable import FORMS

    output.say(FORMS[form](result).rstrip("\n"))
