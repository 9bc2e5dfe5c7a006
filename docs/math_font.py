"""Make the font of the formulas: the part of STIX Math that they use, with its table of mathematics, under another name.

    python docs/math_font.py STIXMath-Regular.otf      (needs fonttools and brotli)

STIX's licence asks that a changed font has another name.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fontTools import subset
from fontTools.pens.t2CharStringPen import T2CharStringPen
from fontTools.pens.transformPen import TransformPen
from fontTools.ttLib import TTFont

NAME = "Rule Math"
TARGET = Path(__file__).parent.parent / "src" / "steprule" / "reports" / "fonts" / "rule-math.woff2"
ROOT = 0.78
"""The size of the smallest root, as a share of STIX's."""
RANGES = (
    (0x20, 0x7E),  # letters, digits, signs
    (0x391, 0x3F5),  # Greek
    (0x1D400, 0x1D419),  # bold capitals
    (0x1D434, 0x1D467),  # italic
    (0x1D6E2, 0x1D71B),  # italic Greek
    (0x302, 0x304),  # accents
    (0x2190, 0x2194),  # arrows
    (0x2308, 0x230B),  # brackets
)
SINGLE = "\xa0\xac\xaf\xb1\xb7\xd7ˆ˜‖′″…⁄ℎℓ⋯⟨⟩𝟏∀∂∅∇∈−∑√∞∣∥∧∨≈≠≤≥⋅"


def shrink_root(font: TTFont) -> None:
    """Make the smallest root as high as a line: STIX's is a quarter higher, and in a sentence it would hang below its line."""
    name, drawn = font.getBestCmap()[0x221A], font.getGlyphSet()
    strings = font["CFF "].cff.topDictIndex[0].CharStrings
    old = strings[name]
    pen = T2CharStringPen(round(ROOT * font["hmtx"][name][0]), drawn)
    drawn[name].draw(TransformPen(pen, (ROOT, 0, 0, ROOT, 0, 0)))
    strings[name] = pen.getCharString(old.private, old.globalSubrs)
    font["hmtx"][name] = (round(ROOT * font["hmtx"][name][0]), round(ROOT * font["hmtx"][name][1]))
    variants = font["MATH"].table.MathVariants
    first = variants.VertGlyphConstruction[variants.VertGlyphCoverage.glyphs.index(name)].MathGlyphVariantRecord[0]
    first.AdvanceMeasurement = round(ROOT * first.AdvanceMeasurement)


def main(source: str) -> None:
    """Write the font."""
    font = TTFont(source)
    options = subset.Options(
        layout_features=["*"], name_IDs=[0, 1, 2, 3, 4, 5, 6, 13, 14], hinting=False, notdef_outline=True
    )
    cut = subset.Subsetter(options)
    cut.populate(unicodes=[*(c for low, high in RANGES for c in range(low, high + 1)), *map(ord, SINGLE)])
    cut.subset(font)
    shrink_root(font)
    plain = NAME.replace(" ", "")
    for record in font["name"].names:
        if record.nameID in (1, 3, 4, 6):
            record.string = plain if record.nameID == 6 else NAME
    font["CFF "].cff.fontNames[0] = plain
    font.flavor = "woff2"
    font.save(TARGET)
    print(f"{TARGET}: {TARGET.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1])
