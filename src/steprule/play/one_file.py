"""One page in one file: its markup, styles, data and scripts put together, so that it opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from steprule.reports.document import font_face


def one_file(markup: str, styles: Sequence[str], scripts: Sequence[str], data: str) -> str:
    """The page of these files of `page/`, by name; `data` is JavaScript that comes before the scripts."""
    folder = resources.files("steprule.play") / "page"

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    # A script ends where its text says so, whatever stands in a rule's summary.
    script = "\n".join(['"use strict";', data, *(read(f"{n}.js") for n in scripts)]).replace("</script", "<\\/script")
    face = font_face() if "<math" in data else ""
    style = face + "".join(read(f"{n}.css") for n in styles)
    return read(f"{markup}.html").replace("/*STYLE*/", style, 1).replace("/*SCRIPT*/", script, 1)
