"""A page opened in Chromium: it complains of nothing, and asks for nothing from a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page


def opened(browser: Browser, file: Path, complaints: list[str], address: str = "lang=en", **options: Any) -> Page:
    """`complaints` takes what the page's console says, its errors and every request; options are Playwright's of a page."""
    page = browser.new_page(**{"viewport": {"width": 1366, "height": 768}, "reduced_motion": "reduce", **options})
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else complaints.append(r.url))
    page.goto(f"{file.as_uri()}#{address}")
    return page
