"""A plugin of pytest: which rooms of the package ran a function during the tests, printed at the end."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

HEAD = "rooms: "
_found: set[str] = set()


def _note(frame: FrameType, event: str, argument: Any) -> None:
    if event == "call" and frame.f_code.co_name != "<module>":
        _, inside, path = frame.f_code.co_filename.replace("\\", "/").rpartition("/src/steprule/")
        if inside:
            _found.add(path.partition("/")[0])


def pytest_runtest_setup() -> None:
    sys.setprofile(_note)


def pytest_runtest_teardown() -> None:
    sys.setprofile(None)


def pytest_sessionfinish() -> None:
    sys.stdout.write(f"{HEAD}{' '.join(sorted(_found))}\n")
