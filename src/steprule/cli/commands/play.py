"""`steprule play`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steprule import rules as catalogue
from steprule.cli import completion
from steprule.cli.arguments import RULE_HELP, JsonOption


def play(
    page: Annotated[
        str,
        typer.Argument(
            metavar="PAGE",
            help="surfaces; luck, 200 seeds beside the book's figures; or network, a small one that trains.",
            autocompletion=completion.one_of("surfaces", "luck", "network"),
        ),
    ] = "surfaces",
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="RULE",
            help=f"One of your own, beside the others. {RULE_HELP} Repeatable.",
            autocompletion=completion.rule_names,
        ),
    ] = None,
    story: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Open with this story.", autocompletion=completion.story_names),
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="The picture and its story alone, for a slide or a frame of a page.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page there, and open nothing.")] = None,
    json: JsonOption = False,
) -> None:
    """See every rule walk, step by step, in the browser.

    One page that works offline: stories, sliders, maps, and each step taken apart. Or watch 200 seeds or a network train.
    """
    from steprule import play as playground
    from steprule.cli import output
    from steprule.compiler.folder import folder
    from steprule.errors import InputError
    from steprule.play import pages, stories

    other = pages.writer_of(page, {"rule": rule, "story": story, "embed": embed})
    where = out or folder() / ("play.html" if other is None else f"{page}.html")
    if other is None:
        shown = [(spec, catalogue.resolve(spec)) for spec in rule or []]
        if shown and story:
            raise InputError("play", expected="--rule or --story", got="both", hint="A story has rules of its own.")
        playground.write(where, shown, opening=f"story={stories.named(story).name}" if story else "", embed=embed)
    else:
        other(where)
    if json:
        output.as_json({"page": str(where)})
        return
    if out is None:
        import webbrowser

        address = where.absolute().as_uri()
        if not webbrowser.open(address):
            output.say(f"No browser was found: open {address} in one.")
    output.say(f"Written: {where}")
