"""What a judgement says on the command line: a table per problem, then the verdict in words."""

from __future__ import annotations

from steprule.cli import output
from steprule.cli.tables import table
from steprule.races.judging import Judgement
from steprule.races.judging.export import tables_of
from steprule.races.judging.words import in_words, threshold


def say(found: Judgement) -> None:
    """The tables, then the words."""
    for own in tables_of(found):
        table(own.title, own.heads, own.rows, left=(0, len(own.heads) - 1))
        output.say()
    same = next((text for c in found.comparisons if (text := threshold(found, c))), "")
    words = f" same: differs by less than {same}. real: by more." if same else ""
    output.say(f"open: cannot be told apart, and with how many runs of each it could.{words}\n")
    for paragraph in in_words(found):
        output.say(paragraph + "\n")
