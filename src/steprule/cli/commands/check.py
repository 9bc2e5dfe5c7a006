"""`steprule check` judges a rule, or marks a folder of files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from steprule.cli import completion
from steprule.cli.arguments import RULE_HELP, JsonOption, number
from steprule.errors import InputError, UnknownNameError


def check(
    rule: Annotated[
        str,
        typer.Argument(metavar="RULE", help=f"{RULE_HELP} Or a folder to mark.", autocompletion=completion.rule_names),
    ],
    against: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="Find where the two part.", autocompletion=completion.rule_names),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="For a folder: write sheet.html here.")] = None,
    seconds: Annotated[
        float, typer.Option(metavar="SECONDS", help="For a folder: the time limit per file.", parser=number)
    ] = 30.0,
    json: JsonOption = False,
) -> None:
    """Judge a rule in every form; mark a folder of files.

    It looks at contract, forms, dtypes, zero and huge gradients, nan and checkpoints, and says which known rule it is.

    A folder with --against gives a class sheet: which files pass, where each parts, and the likely slip.

    Exit code: 0 passed (warnings too), 1 something failed or parts from --against, 2 bad input.
    """
    from steprule.checking import check as battery
    from steprule.cli import output

    if Path(rule).is_dir():
        _mark(Path(rule), against, out, seconds, json=json)
        return
    if "/" in rule.replace(os.sep, "/") and ":" not in rule and not rule.endswith(".py"):
        raise InputError(f"folder {rule}", expected="a folder of files to mark", got=_found_at(Path(rule)))
    if out is not None:
        raise typer.BadParameter("--out is for a folder of files, with --against")
    try:
        report = battery(rule, against)
    except UnknownNameError as error:
        if error.hint or error.got != repr(rule):
            raise
        hint = "There is no folder of that name either."
        raise UnknownNameError(error.what, expected=error.expected, got=error.got, hint=hint) from error
    if json:
        output.as_json(report.to_dict())
    else:
        output.say(str(report))
    if not report.passed:
        raise typer.Exit(1)


def _found_at(path: Path) -> str:
    return "a file" if path.exists() else "nothing there"


def _mark(folder: Path, against: str | None, out: Path | None, seconds: float, *, json: bool) -> None:
    """The class sheet of a folder."""
    from steprule.checking import mark, sheet
    from steprule.cli import output
    from steprule.cli.tables import table

    if against is None:
        raise typer.BadParameter(f"to mark the folder {folder}, expected --against RULE")
    with output.progress("marking") as advance:
        marked = mark(folder, against, seconds=seconds, progress=advance)
    page = out / "sheet.html" if out is not None else None
    if page is not None:
        sheet.write(marked, page)
    if json:
        output.as_json(marked.to_dict())
    else:
        rows = [(m.file, m.verdict, f"{m.why}\n{m.where}".strip("\n")) for m in marked.marks]
        table(f"marked against {marked.against}", ("file", "verdict", "why, and where"), rows, left=(0, 1, 2))
        output.say(f"\n{marked.verdict}")
        if page is not None:
            output.say(f"Written: {page}")
    if marked.passed < len(marked.marks):
        raise typer.Exit(1)
