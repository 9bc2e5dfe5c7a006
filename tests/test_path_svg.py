"""Pictures of paths as SVG, and what they are made of: contours, ticks, outlines; no drawing library has part in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from tolerances import AREA_OF_A_CONTOUR, CONTOUR, SUMMED64

import steprule
from steprule import paths
from steprule.reports import paths as pictures
from steprule.reports.contours import curves
from steprule.reports.path_svg import svg
from steprule.reports.style import STYLES, outline
from steprule.reports.ticks import powers, ticks
from steprule.reports.walked import LOWEST
from steprule.surfaces.catalogue import SURFACES

SIDE = np.linspace(-2, 2, 201)
X, Y = np.meshgrid(SIDE, SIDE)


def area(ring: Any) -> float:
    """Positive where the inside lies to the left."""
    x, y = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


@pytest.mark.parametrize(
    ("values", "level", "areas"),
    [
        (X**2 + Y**2, 1.0, [np.pi]),
        (np.abs(X**2 + Y**2 - 1), 0.5, [-np.pi / 2, 3 * np.pi / 2]),  # a ring, with a hole that is walked the other way
        (X, 1.0, [12.0]),  # closed along the border
        (X * 0, 1.0, [16.0]),
        (X * 0, -1.0, []),
        (np.where(X > 0, X, np.nan), 1.0, [4.0]),  # what is not finite lies above
        (np.minimum((X - 1) ** 2 + Y**2, (X + 1) ** 2 + Y**2), 0.25, [np.pi / 4, np.pi / 4]),
    ],
)
def test_contours_enclose_what_lies_below(values: Any, level: float, areas: list[float]) -> None:
    found = sorted(area(ring) for ring in curves(SIDE, SIDE, values, level))
    assert found == pytest.approx(areas, rel=AREA_OF_A_CONTOUR)


def test_points_of_a_contour_lie_on_it() -> None:
    (ring,) = curves(SIDE, SIDE, X**2 + 2 * Y**2, 1.0)
    assert np.allclose(ring[:, 0] ** 2 + 2 * ring[:, 1] ** 2, 1.0, atol=CONTOUR, rtol=0)


@pytest.mark.parametrize("scale", [1e-9, 0.3, 1.0, 7.0, 1e12])
def test_ticks_are_few_and_round(scale: float) -> None:
    for low, high in ((-5.5, 5.5), (0, 1), (-1, 0.01), (3, 3.7)):
        found = ticks(low * scale, high * scale, 6)
        assert 2 <= len(found) <= 6
        assert low * scale <= found[0]
        assert found[-1] <= high * scale * (1 + SUMMED64)
    assert 2 <= len(powers(LOWEST * scale, 1e3 * scale, 6)) <= 6


def test_every_style_has_an_outline_of_its_own() -> None:
    shapes = {style.marker: outline(style.marker, 5) for style in STYLES.values()}
    assert len(set(shapes.values())) == len(shapes)


@pytest.mark.parametrize("surface", SURFACES)
def test_a_picture_says_what_it_shows(surface: str) -> None:
    walked = [paths.tuned_trace(rule, surface) for rule in ("sgd", "adam")]
    text = svg(walked)
    root = ElementTree.fromstring(text)
    words = "".join(root.itertext())
    for wanted in (
        surface.replace("_", " "),
        "start",
        "minimum",
        "step",
        "f − f*",
        "best learning rate",
        "sgd  lr",
        "adam  lr",
    ):
        assert wanted in words
    assert text == svg(walked)
    assert "nan" not in re.sub(r"<title>.*?</title>|<text.*?</text>", "", text)
    assert STYLES["adam"].colour in text
    assert len(text) < 400_000


def test_a_path_that_diverges_ends_in_a_cross() -> None:
    wild = steprule.trace("sgd", "rosenbrock", lr=1.0)
    text = svg([wild, steprule.trace("adam", "rosenbrock")])
    ElementTree.fromstring(text)
    assert "diverged: not finite from step 4" in text
    assert text.count("M-7,-7L7,7M7,-7L-7,7") == 2
    assert not re.search(r"[\d.]{9,}", re.sub(r"<title>.*?</title>", "", text))  # no numbers that a viewer cannot hold


def test_names_from_outside_are_escaped() -> None:
    walked = steprule.trace("sgd", "x^2 + y^2")
    object.__setattr__(walked, "label", "<script>")
    assert "<script>" not in svg([walked])


def test_a_path_that_stands_still(tmp_path: Path) -> None:
    """On the minimum from its start: no height spans nothing."""
    pictures.save([steprule.trace("sgd", start=(0, 0), steps=1)], tmp_path / "still.svg")
    ElementTree.fromstring((tmp_path / "still.svg").read_text(encoding="utf-8"))
