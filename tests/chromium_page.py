"""Chromium as every test starts it, and a page opened in it that complains of nothing and asks for nothing from a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")
# The first for a test run as root; the others so that it asks for nothing by itself.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium without a window, and its end."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        yield found
        found.close()


def opened(browser: Browser, file: Path, complaints: list[str], address: str = "lang=en", **options: Any) -> Page:
    """`complaints` takes what the page's console says, its errors and every request; options are Playwright's of a page."""
    page = browser.new_page(**{"viewport": {"width": 1366, "height": 768}, "reduced_motion": "reduce", **options})
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else complaints.append(r.url))
    page.goto(f"{file.as_uri()}#{address}")
    return page
