"""The playground: one page that walks rules over surfaces in the browser, by the code that the compiler prints.

data.py (what the page knows, from rules and surfaces), presets.py, words.py (Chinese), and page/: the page itself, in
reading order `FILES`. Everything goes into one file that opens offline.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from steprule.files import write_aside
from steprule.play.data import data
from steprule.rules.rule import Rule

FILES = ("words", "walk", "formula", "state", "pen", "plane", "curves", "picture", "maps", "anatomy", "ways", "app")
"""The page's scripts, in reading order."""


def page(own: Sequence[tuple[str, Rule]] = (), race_link: str = "") -> str:
    """The page as text, with rules of one's own, (how to say it, rule), beside the catalogue's.

    `race_link` is where the page finds how a race is run, where it stands beside the documentation.
    """
    folder = resources.files("steprule.play") / "page"
    scripts = "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in FILES)
    # A script ends where its text says so, whatever stands in a rule's summary.
    script = f'"use strict";\n{data(own, race_link)}\n{scripts}'.replace("</script", "<\\/script")
    text = (folder / "page.html").read_text(encoding="utf-8")
    style = (folder / "style.css").read_text(encoding="utf-8")
    return text.replace("/*STYLE*/", style, 1).replace("/*SCRIPT*/", script, 1)


def write(path: Path, own: Sequence[tuple[str, Rule]] = (), race_link: str = "") -> None:
    """Write the page. Raises `OutputError` where it cannot, `RuleError` for a rule that breaks the contract."""
    text = page(own, race_link)
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")
