"""The default race as a command: wall time from an empty kernel cache and with a warm one, and the memory of all processes.

    python benchmarks/default_race.py [--out FILE]

Memory is the proportional share (PSS) of the command and its workers together, looked at twice a second; Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from steprule.provenance import hardware, versions


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Wall time and memory of the default race.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("empty cache", "warm cache"):
            command = [sys.executable, "-m", "steprule", "race", "--json", "--out", str(Path(folder) / name)]
            began, most = time.perf_counter(), 0
            with open(Path(folder) / f"{name}.json", "w") as record:
                child = subprocess.Popen(
                    command, stdout=record, env=os.environ | {"STEPRULE_CACHE": f"{folder}/kernels"}
                )
                while child.poll() is None:
                    most = max(most, sum(map(_share, _family(child.pid))))
                    time.sleep(0.5)
            seconds = time.perf_counter() - began
            lanes = json.loads((Path(folder) / f"{name}.json").read_text())["lanes"]
            found[name] = {"seconds": seconds, "lanes": lanes, "megabytes": most / 1024}
            print(f"{name:12s} {seconds:6.1f} s, {lanes:,} trainings, {most / 1024:,.0f} MB")
    if options.out:
        about = {"hardware": hardware(), "versions": versions(), "date": time.strftime("%Y-%m-%d")}
        options.out.write_text(json.dumps({**found, **about}, indent=1) + "\n")


def _family(pid: int) -> list[int]:
    """A process and those that it started."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [pid, *(p for child in listed.stdout.split() for p in _family(int(child)))]


def _share(pid: int) -> int:
    """Its proportional share of memory, kB; 0 for one that has ended."""
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


if __name__ == "__main__":
    main()
