"""A figure as SVG for light and dark pages: real text, no background, colours that follow the reader's scheme.

As an image of its own the picture follows the image's scheme by `light-dark()`, inside a page the page's.
"""

from __future__ import annotations

import io
import re
import warnings

import matplotlib as mpl
from matplotlib.figure import Figure

from steprule.reports.race_charts import LOOK

DARK = {
    "#0072b2": "#56b4e9",
    "#d55e00": "#f5904a",
    "#009e73": "#3fcf9f",
    "#cc79a7": "#e7a3c8",
    "#555555": "#bdbdbd",
    "#999933": "#c9c95a",
    "#882255": "#d77aa9",
    "#e69f00": "#f2b632",
    "#56b4e9": "#8fcdf3",
    "#332288": "#a79be6",
    "#117733": "#5fc583",
    "#aa4499": "#d98acb",
    "#44aa99": "#6fd0c0",
    "#ffd700": "#ffd700",
    "#777777": "#a0a0a0",
    "#888888": "#9a9a9a",
    "#8a8a8a": "#8a8a8a",
    "#999999": "#8a8a8a",
    "#b0b0b0": "#5c6064",
    "#ffffff": "#1e2129",
}
"""Per colour of the light picture the one in the dark, as far from the dark ground as the first is from white. Black becomes the page's
text colour."""

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
