"""`make smoke`: the tests of tests/smoke.txt are there, and together they touch every room. Those of tests/slow.txt are there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import rooms_touched

ROOT = Path(__file__).parent.parent
CHOSEN = [line.removeprefix("--deselect=") for line in (ROOT / "tests/smoke.txt").read_text().split() if "/" in line]


SLOW = (ROOT / "tests/slow.txt").read_text().split()


@pytest.mark.parametrize("chosen", [*CHOSEN, *SLOW])
def test_what_is_chosen_is_there(chosen: str) -> None:
    file, _, name = chosen.partition("::")
    assert (ROOT / file).exists()
    if name:
        assert f"def {name.rpartition('.')[2]}(" in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.long
def test_every_room_is_touched() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "rooms_touched", "-m", "not long", "@tests/smoke.txt"]
    path = os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [x for x in done.stdout.splitlines() if rooms_touched.HEAD in x]
    rooms = {f.parent.name for f in (ROOT / "src/steprule").glob("*/__init__.py")}
    assert rooms - set(line.partition(rooms_touched.HEAD)[2].split()) == set()
