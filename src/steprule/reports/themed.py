"""A figure as SVG for a light or dark page: real text, no background, colours of the reader's scheme.

As an image of its own the picture follows the image's scheme by `light-dark()`, inside a page the page's.
"""

from __future__ import annotations

import io
import re
import warnings

from steprule import extras
from steprule.reports.style import DARK, LOOK

with extras.needed():
    import matplotlib as mpl
    from matplotlib.figure import Figure


def followed(colour: str) -> str:
    """A colour as a style sheet follows the reader's scheme with it."""
    dark = DARK.get(colour.lower(), colour)
    return f"light-dark({colour},{dark})" if dark != colour else colour


_ALONE = "<style>svg:root{color-scheme:light dark;color:light-dark(#1b1b1b,#ececec);font-family:system-ui,sans-serif}</style>"


def svg(figure: Figure, said: str = "", *, compact: bool = False) -> str:
    """The figure as one <svg> element, `said` for who cannot see it; the same figure gives the same text.

    A `compact` one states the style of marks that look alike once, which makes thousands of dots a third as large.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**LOOK, "savefig.facecolor": "none"}), warnings.catch_warnings():
        # The reader's font draws the text, so glyphs that this machine's font lacks do not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text)
    text = re.sub(r"\n\s+", "\n", text)
    text = re.sub(r"\b(fill|stroke): (#[0-9a-f]{6})\b", _followed, text)
    text = re.sub(r' (d|x|y|transform)="[^"]+"', lambda m: re.sub(r"(\.\d\d)\d+", r"\1", m[0]), text)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    if compact:
        text = re.sub(r"<g([^>]*)>\n((?:<use [^>]*/>\n)+)</g>", _together, text)
    used = set(re.findall(r"#([^\")]+)[\")]", text))
    text = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", text)
    label = said.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    width, height = _points(text, "width"), _points(text, "height")
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width:g} {height:g}"'
        f' width="{width:g}" height="{height:g}" fill="currentColor" role="img" aria-label="{label}">{_ALONE}'
    )
    return head + text[text.index(">") + 1 :].strip()


def _points(svg: str, side: str) -> float:
    return float(re.findall(rf'{side}="([\d.]+)pt"', svg)[0])


def _together(found: re.Match[str]) -> str:
    """Marks of one group, whose style the group has where it is the same for all."""
    about, marks = found[1], found[2]
    styles = set(re.findall(r' style="([^"]*)"', marks))
    if len(styles) != 1 or "style=" in about:
        return found[0]
    style = f' style="{styles.pop()}"'
    return f"<g{about}{style}>\n{marks.replace(style, '')}</g>"


def _followed(found: re.Match[str]) -> str:
    what, colour = found[1], found[2]
    if colour == "#000000":
        return f"{what}: currentColor"
    dark = DARK.get(colour, colour)
    if dark == colour:
        return found[0]
    # A browser without light-dark() keeps the first.
    return f"{what}: {colour}; {what}: light-dark({colour}, {dark})"
