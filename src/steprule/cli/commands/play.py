"""`steprule play` writes the playground, or another page that trains in the browser, and opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steprule import rules as catalogue
from steprule.cli import completion
from steprule.cli.arguments import RULE_HELP, JsonOption
from steprule.rules.rule import Rule

PAGES = (".html", ".htm")
"""Endings of what a browser opens."""


def play(
    page: Annotated[
        str,
        typer.Argument(
            metavar="PAGE",
            help="surfaces; luck: 200 seeds beside the book's figures; network: a small network that trains; or matrix: one"
            " matrix that trains, also by rules of matrices.",
            autocompletion=completion.one_of("surfaces", "luck", "network", "matrix"),
        ),
    ] = "surfaces",
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="RULE",
            help=f"A rule of your own, beside the others. {RULE_HELP} Repeatable.",
            autocompletion=completion.rule_names,
        ),
    ] = None,
    story: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Open with this story.", autocompletion=completion.story_names),
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Only the picture and its story, for a slide or a frame of a page.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page here, and open nothing.")] = None,
    json: JsonOption = False,
) -> None:
    """See every rule walk, step by step, in the browser.

    One page works offline: it has stories, sliders, maps, and each step taken apart. Others train 200 seeds, a network, or a matrix,
    beside which rules of matrices such as Muon can be watched.
    """
    from steprule.cli import output
    from steprule.compiler.folder import folder
    from steprule.errors import InputError
    from steprule.play import pages

    if out is not None and not out.is_dir() and out.suffix.lower() not in PAGES:
        hint = "steprule trace --out draws pictures."
        raise InputError(f"--out {out}", expected=f"a name that ends in {PAGES[0]}", got=repr(out.suffix), hint=hint)
    other = pages.writer_of(page, {"rule": rule, "story": story, "embed": embed})
    name = "play" if other is None else page
    where = out or folder() / f"{name}.html"
    if other is None:
        _playground(where, rule or [], story, embed=embed)
    elif rule:
        other(where, _resolved(rule))
    else:
        other(where)
    if json:
        output.as_json({"page": str(where)})
        return
    if out is None:
        _open(where)
    output.say(f"Written: {where}")


def _open(page: Path) -> None:
    """Open a page in the browser, or say that there is none."""
    import webbrowser

    from steprule.cli import output

    address = page.absolute().as_uri()
    if not webbrowser.open(address):
        output.say(f"No browser was found: open {address} in one.")


def _playground(where: Path, rules: list[str], story: str | None, *, embed: bool) -> None:
    """Write the playground with rules of one's own, or open in a story."""
    from steprule import play as playground
    from steprule.errors import InputError
    from steprule.play import stories

    if rules and story:
        raise InputError("play", expected="--rule or --story", got="both", hint="A story has rules of its own.")
    own = _resolved(rules)
    opening = f"story={stories.named(story).name}" if story else ""
    playground.write(where, own, opening=opening, embed=embed)


def _resolved(rules: list[str]) -> list[tuple[str, Rule]]:
    """The rules as they were typed."""
    return [(spec, catalogue.resolve(spec)) for spec in rules]
