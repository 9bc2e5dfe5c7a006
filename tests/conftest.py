"""Options and fixtures that all tests share."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# torch reads it when it is imported: two workers with two threads each, which wait by spinning, make the suite three times as slow on 2 cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

# A font list in the home may be old, or of a machine with other fonts: matplotlib would warn where a test counts lines. Workers share this one.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="steprule-matplotlib-")
    atexit.register(shutil.rmtree, os.environ["MPLCONFIGDIR"], ignore_errors=True)

# Triton reads it when a kernel is defined: on a machine without a GPU its interpreter runs the kernels.
os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long-sample", type=float, default=1.0, help="share of the long tests to run, 0 to 1")
    parser.addoption("--long-seed", type=int, default=0, help="which of them")


SLOW = Path(__file__).parent / "slow.txt"
"""The tests that are marked slow, as file::function: those that took over two seconds with all their parameters (`--durations`)."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = set(SLOW.read_text(encoding="utf-8").split())
    for item in items:
        if item.nodeid.split("[")[0] in slow:
            item.add_marker("slow")
    share = config.getoption("--long-sample")
    if share >= 1:
        return
    long = sorted(item.nodeid for item in items if item.get_closest_marker("long"))
    count = min(len(long), max(1, round(share * len(long))))
    chosen = set(random.Random(config.getoption("--long-seed")).sample(long, count))
    left_out = [item for item in items if item.get_closest_marker("long") and item.nodeid not in chosen]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, one for the tests of a file."""
    from chromium_page import chromium

    with chromium() as found:
        yield found


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What a page complains of; nothing, at the end of a test."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The playground's page."""
    from steprule import play

    path = tmp_path_factory.mktemp("play") / "page.html"
    play.write(path)
    return path


@pytest.fixture
def page(browser: Any, file: Path, complaints: list[str]) -> Iterator[Any]:
    """The playground, in a state of few steps. Nothing moves by itself for who prefers it so; what moves is tested for itself."""
    from chromium_page import opened
    from playground import SHORT

    found = opened(browser, file, complaints, SHORT, viewport={"width": 1200, "height": 900}, locale="en-GB")
    yield found
    found.close()


@pytest.fixture
def moving(browser: Any, file: Path) -> Iterator[Any]:
    """The playground where things move, by a clock that the test turns."""
    found = browser.new_page(viewport={"width": 1200, "height": 900}, locale="en-GB", reduced_motion="no-preference")
    found.clock.install()
    found.goto(file.as_uri())
    yield found
    found.close()


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def float64_default() -> Iterator[None]:
    """Under it torch keeps one-number-a-tensor states (`step`, `mu_product`) in float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
