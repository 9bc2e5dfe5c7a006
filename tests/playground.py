"""The playground in tests: an address to open, and what is read from it."""

from __future__ import annotations

import elementwise
from playwright.sync_api import Page

from steprule.tutorial.rules import adam_uncorrected

RULES = [*elementwise.RULES, adam_uncorrected]
SHORT = "rule=sgd,lr=0.1&rule=adam,lr=0.2&surface=quadratic&start=-5,-2&steps=20"


def settle(page: Page) -> None:
    page.evaluate("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")


def state(page: Page) -> str:
    settle(page)
    return str(page.evaluate("writeState(model.state)"))


def address_of(page: Page) -> str:
    """The address, once the page has written it."""
    page.wait_for_function("location.hash.slice(1) === writeState(model.state)")
    return page.url


def go(page: Page, address: str) -> None:
    """As if somebody typed behind the #."""
    page.evaluate(
        "(hash) => location.hash === '#' + hash ? open(hash) : new Promise((r) => (addEventListener('hashchange', r, {once: true}), (location.hash = hash)))",
        address,
    )
    settle(page)


def reopen(page: Page, address: str) -> None:
    page.goto("about:blank")
    page.goto(address)


SEEN = "(ids) => ids.every((id) => { const r = $(id).getBoundingClientRect(); return r.height > 60 && r.top > -1 && r.left > -1 && r.bottom < innerHeight + 1 && r.right < innerWidth + 1; })"
