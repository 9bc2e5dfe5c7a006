"""The playground is a page that walks rules over surfaces in the browser, by the code that the compiler prints.

page/ holds the page itself, in reading order `FILES`. Everything goes into one file that opens offline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from steprule.atomic import write_text
from steprule.paths import Trace
from steprule.play.data import check_shown, data, keys_of
from steprule.play.one_file import one_file
from steprule.reports.address import address
from steprule.rules.rule import Rule

FILES = (
    "words",
    "stepper",
    "walk",
    "formula",
    "state",
    "pen",
    "labels",
    "plane",
    "zoom",
    "curves",
    "picture",
    "film",
    "maps",
    "anatomy",
    "story",
    "ways",
    "controls",
    "app",
)
"""The page's scripts, in reading order."""


NO_LINKS: Mapping[str, str] = {}


def page(
    own: Sequence[tuple[str, Rule]] = (), links: Mapping[str, str] = NO_LINKS, opening: str = "", embed: bool = False
) -> str:
    """The page as text.

    Args:
        own: rules of one's own beside the catalogue's, as pairs (RULE as it was typed, rule).
        links: where the page finds the `lesson`, the `docs` and how a `race` is run, where it stands beside them.
        opening: the state in which the page opens if its address has none: `story=ravine`, or the part of a permalink after #. If not
            given, the page opens with the rules of one's own, or with the first story.
        embed: show only the picture and its story, for a slide or a frame of another page.
    """
    return one_file("page", ["style"], FILES, data(own, links, opening, embed))


def write(
    path: Path,
    own: Sequence[tuple[str, Rule]] = (),
    links: Mapping[str, str] = NO_LINKS,
    opening: str = "",
    embed: bool = False,
) -> None:
    """Write the page. Raises `OutputError` where it cannot be written, `RuleError` for a rule that breaks the contract."""
    write_text(path, page(own, links, opening, embed))


def write_paths(path: Path, traces: Sequence[Trace], own: Sequence[tuple[str, Rule]]) -> None:
    """Write the page, opened in the state of these paths; `own` is each path's rule, (how to say it, rule).

    Raises `OutputError` where it cannot, `InputError` for paths that the page cannot walk.
    """
    check_shown(own, traces)
    write(path, own, opening=address(traces, keys_of(own)))
