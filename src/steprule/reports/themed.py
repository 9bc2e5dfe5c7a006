"""A figure as SVG for light and dark pages: real text, no background, colours that follow the reader's scheme.

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

_ALONE = "<style>svg:root{color-scheme:light dark;color:light-dark(#1b1b1b,#ececec);font-family:system-ui,sans-serif}</style>"


def svg(figure: Figure, said: str = "") -> str:
    """The figure as one <svg> element, with `said` for readers who cannot see it; the same figure gives the same text."""
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


def _followed(found: re.Match[str]) -> str:
    what, colour = found[1], found[2]
    if colour == "#000000":
        return f"{what}: currentColor"
    dark = DARK.get(colour, colour)
    if dark == colour:
        return found[0]
    # A browser without light-dark() keeps the first.
    return f"{what}: {colour}; {what}: light-dark({colour}, {dark})"
