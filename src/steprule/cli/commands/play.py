"""`steprule play`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steprule import rules as catalogue
from steprule.cli import completion
from steprule.cli.arguments import RULE_HELP, JsonOption


def play(
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

    One page that works offline: stories, sliders, maps, and each step taken apart.
    """
    from steprule import play as playground
    from steprule.cli import output
    from steprule.compiler import cache
    from steprule.play import stories

    found = [(spec, catalogue.resolve(spec)) for spec in rule or []]
    where = out or cache.folder() / "play.html"
    own = [(spec, r) for spec, r in found if r not in catalogue.CATALOGUE.values()]
    playground.write(where, own, opening=f"story={stories.named(story).name}" if story else "", embed=embed)
    if json:
        output.as_json({"page": str(where)})
        return
    if out is None:
        import webbrowser

        webbrowser.open(where.absolute().as_uri())
    output.say(f"Written: {where}")
