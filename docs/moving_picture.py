"""The moving picture of README: the playground itself, step by step, as a GIF.

    python docs/moving_picture.py [docs/images/playground.gif]

In Chromium it plays AdaGrad beside RMSProp: the path above, the height above the minimum and the effective step size below.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from steprule import play

STATE = "rule=adagrad,lr=0.4&rule=rmsprop,lr=0.4,alpha=0.9&surface=quadratic&start=-5,-2&steps=20"
"""Of the page, as its address writes it: the first preset with the rules as PyTorch has them."""
WIDTH = 640
"""Of the picture, in pixels."""
EACH, LAST = 180, 1_400
"""Milliseconds that a step is shown, and the last one."""
COLOURED = 50
"""By how much the channels of a line's pixel differ at least; those of black letters are below it."""


def frame(page: Page, step: int) -> Image.Image:
    """The page's canvases at this step, as one picture."""
    page.evaluate(
        "k => { const at = document.getElementById('at'); at.value = k; at.dispatchEvent(new Event('input')); }", step
    )
    page.wait_for_timeout(60)
    plane, legend, values, rate = (
        Image.open(BytesIO(page.locator(f"#{name}").screenshot())).convert("RGB")
        for name in ("plane-frame", "legend", "values", "rate-x")
    )
    half = plane.width // 2
    small = [
        one.resize((half, round(one.height * half / one.width)), Image.Resampling.LANCZOS) for one in (values, rate)
    ]
    whole = Image.new("RGB", (plane.width, plane.height + legend.height + small[0].height + 12), "white")
    whole.paste(plane, (0, 0))
    whole.paste(legend, (60, plane.height + 4))
    for k, one in enumerate(small):
        whole.paste(one, (k * half, plane.height + legend.height + 12))
    return whole.resize((WIDTH, round(whole.height * WIDTH / whole.width)), Image.Resampling.LANCZOS)


def with_more_of_the_lines(picture: Image.Image) -> Image.Image:
    """The picture, and below it as large an area of its coloured and black pixels alone: a palette of it has their colours."""
    pixels = np.asarray(picture)
    coloured = pixels[(np.ptp(pixels, axis=2) > COLOURED) | (pixels.max(axis=2) < COLOURED)]
    return Image.fromarray(np.concatenate([pixels, np.resize(coloured, pixels.shape)]))


def main(out: Path) -> None:
    """Write the picture."""
    steps = int(STATE.partition("steps=")[2])
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "page.html"
        play.write(file)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        page = browser.new_page(viewport={"width": 1500, "height": 820}, color_scheme="light", device_scale_factor=2)
        page.goto(f"{file.as_uri()}#{STATE}")
        page.add_style_tag(
            content="#zoom{display:none}#plane-frame{height:390px}.stage,.charts{position:static}.charts canvas{flex:none;height:235px}"
        )
        page.wait_for_timeout(1_000)
        frames = [frame(page, k) for k in range(steps + 1)]
        browser.close()
    palette = with_more_of_the_lines(frames[-1]).quantize(256)
    shown = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in frames]
    shown[0].save(out, save_all=True, append_images=shown[1:], duration=[EACH] * steps + [LAST], loop=0, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/playground.gif"))
