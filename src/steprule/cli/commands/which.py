"""`steprule which` says which known rule an optimizer is."""

from __future__ import annotations

from typing import Annotated

import typer

from steprule.cli import completion
from steprule.cli.arguments import RULE_HELP, JsonOption


def which(
    thing: Annotated[
        str,
        typer.Argument(
            metavar="THING",
            help=f"{RULE_HELP} Or an optimizer: torch.optim:Adam, file.py:make_optimizer.",
            autocompletion=completion.rule_names,
        ),
    ],
    json: JsonOption = False,
) -> None:
    """Say which known rule an optimizer is, by its steps.

    THING is a rule, an optimizer class, or a factory params -> optimizer.
    """
    from steprule.checking import which as asked
    from steprule.cli import output

    found = asked(thing)
    if json:
        output.as_json(found.to_dict())
    else:
        output.say(str(found))
