"""The life of the command's processes: pipes that close, signals, workers and temporary files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "steprule"]
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and pipes as POSIX has them")


@POSIX
@pytest.mark.parametrize("args", ["show adam", "rules", "trace sgd adam", "show adam --json", "train sgd", "--help"])
def test_a_reader_that_has_gone_is_no_failure(args: str) -> None:
    """As in `set -o pipefail; steprule show adam | true`."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        done = subprocess.run([*COMMAND, *args.split()], stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if args == "show adam" and (bash := shutil.which("bash")):
        line = f"set -o pipefail; {' '.join(COMMAND)} {args} | true"
        assert subprocess.run([bash, "-c", line], check=False).returncode == 0
