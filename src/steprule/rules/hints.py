"""What beginners forget, in a line: an import, a package, the step number."""

from __future__ import annotations

from steprule import extras, hyper, maths


def missing_import(error: BaseException) -> str:
    """The line that is missing, where a name is not defined or a package not installed; empty where we know of none."""
    if isinstance(error, ImportError) and error.name == "steprule":
        return "In a file of the catalogue write from steprule.rules.rule import rule."
    if isinstance(error, ModuleNotFoundError):
        return extras.how_to_get((error.name or "").partition(".")[0])
    name = getattr(error, "name", "") if isinstance(error, NameError) else ""
    if name == "t":
        return "The step number is an argument: write t behind the star, without a default."
    if name == "rule":
        return "Write from steprule import rule."
    if name in maths.NAMES:
        return f"Write from steprule.maths import {name}."
    return f"Write from steprule.hyper import {name}." if name and name[0].isupper() and hasattr(hyper, name) else ""
