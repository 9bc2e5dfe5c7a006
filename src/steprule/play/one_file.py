"""Puts a page's markup, styles, data and scripts into one file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from steprule.reports.document import font_face


def one_file(markup: str, styles: Sequence[str], scripts: Sequence[str], data: str) -> str:
    """The page from these files of `page/`, by name; `data` is JavaScript that comes before the scripts.

    A markup has its title, its heading and its links in a line each, then what stands between; `frame.html` is around that.
    """
    folder = resources.files("steprule.play") / "page"

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    code = "\n".join(read(f"{name}.js") for name in scripts)
    # A browser ends a script at this word, even within a text, as a rule's summary might have it.
    script = f'"use strict";\n{data}\n{code}'.replace("</script", "<\\/script")
    face = font_face() if "<math" in data else ""
    style = face + "".join(read(f"{n}.css") for n in styles)
    title, heading, links, main = read(f"{markup}.html").rstrip("\n").split("\n", 3)
    parts = {
        "<title><!--TITLE--></title>": title,
        "<!--HEADING-->": heading,
        "<!--LINKS-->": links,
        "<!--MAIN-->": main,
        "/*STYLE*/": style,
        "/*SCRIPT*/": script,
    }
    page = read("frame.html")
    for mark, part in parts.items():
        page = page.replace(mark, part, 1)
    return page
