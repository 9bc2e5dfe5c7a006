"""The playground's times in headless Chromium: first picture, a frame of eight rules with 500 steps, the map.

    python benchmarks/play_frames.py [--out FILE]

A frame is one whole redraw after a move of the start: walks, plane, three charts, the step taken apart.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from steprule import play
from steprule.provenance import hardware, versions

RULES = ("adam", "sgd", "adagrad", "rmsprop", "adadelta", "adamax", "nadam", "lion")
ADDRESS = "&".join(f"rule={r},lr=0.02" for r in RULES) + "&surface=rosenbrock&start=-1.5,2&steps=500"
# 10,000 paths of 500 steps: the first address, the surface that takes longest, a formula of one's own.
MAPS = {
    "rosenbrock": ADDRESS,
    "ackley": "rule=adam,lr=0.02&surface=ackley&steps=500",
    "formula": "rule=adam,lr=0.02&surface=x^2/10%2B2*y^2%2Bsin(2*x)&steps=500",
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OURS = """() => { const began = performance.now();
  model.state.start = [-1.5 + Math.random() / 10, 2];
  clearTimeout(mapTimer); changed(); clearTimeout(mapTimer); draw();
  return performance.now() - began; }"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The playground's frame times.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "page.html"
        began = time.perf_counter()
        play.write(file)
        found["write_seconds"], found["megabytes"] = time.perf_counter() - began, file.stat().st_size / 1e6
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        firsts: list[float] = []
        maps: dict[str, list[float]] = {name: [] for name in MAPS}
        for _ in range(5):
            for name, address in MAPS.items():
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.goto(f"{file.as_uri()}#{address}")
                page.wait_for_selector("#map[data-seconds]")
                painted = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
                if address == ADDRESS:
                    firsts.append(float(page.evaluate(painted)))
                maps[name].append(float(page.get_attribute("#map", "data-seconds") or "nan"))
                page.close()
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{file.as_uri()}#{ADDRESS}")
        page.wait_for_selector("#map[data-seconds]")
        found["first_picture_ms"] = statistics.median(firsts)
        found |= {f"map_500_steps_seconds_{name}": statistics.median(seconds) for name, seconds in maps.items()}
        found["played_frames_a_second"] = _played(page)
        frames = [float(page.evaluate(OURS)) for _ in range(40)][5:]  # the first warm the engine up
        found["frame_ms"] = statistics.median(frames)
        found["frame_ms_slowest_tenth"] = statistics.quantiles(frames, n=10)[-1]
        found["chromium"] = browser.version
        browser.close()
    for name, value in found.items():
        print(f"{name:32s} {value if isinstance(value, str) else f'{value:.2f}'}")
    if options.out:
        about = {"hardware": hardware(), "versions": versions(), "date": time.strftime("%Y-%m-%d")}
        options.out.write_text(json.dumps({**found, **about}, indent=1) + "\n")


def _played(page: Page) -> float:
    """Frames a second while the eight paths of 500 steps play."""
    page.evaluate("() => { model.state.at = 0; document.getElementById('speed').value = '60'; }")
    count = "() => new Promise((r) => { let n = 0; const began = performance.now(); play(); (function f() { n++; performance.now() - began < 3000 ? requestAnimationFrame(f) : r(n / (performance.now() - began) * 1000); })(); })"
    return float(page.evaluate(count))


if __name__ == "__main__":
    main()
