"""Puts a page's markup, styles, data and scripts into one file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from steprule.reports.document import font_face


def one_file(markup: str, styles: Sequence[str], scripts: Sequence[str], data: str) -> str:
    """The page from these files of `page/`, by name; `data` is JavaScript that comes before the scripts."""
    folder = resources.files("steprule.play") / "page"

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    code = "\n".join(read(f"{name}.js") for name in scripts)
    # A browser ends a script at this word, even within a text, as a rule's summary might have it.
    script = f'"use strict";\n{data}\n{code}'.replace("</script", "<\\/script")
    face = font_face() if "<math" in data else ""
    style = face + "".join(read(f"{n}.css") for n in styles)
    return read(f"{markup}.html").replace("/*STYLE*/", style, 1).replace("/*SCRIPT*/", script, 1)
