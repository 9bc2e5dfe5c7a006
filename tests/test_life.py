"""The life of the command's processes: pipes that close, signals, workers and temporary files."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

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


RACE = [
    "race",
    "torch.optim.SGD",
    "torch.optim.Adam",
    "--on",
    "digits-mlp",
    "--trials",
    "200",
    "--workers",
    "2",
    "--out",
    "out",
]
LONG = pytest.mark.long
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def in_session(session: int) -> list[int]:
    """The processes of a session that are not dead."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def begun(at: Path, *, nohup: bool = False) -> subprocess.Popen[str]:
    """A race that trains in two workers, in a session of its own as under setsid."""
    command = [*(["nohup"] if nohup else []), *COMMAND, *RACE]
    env = {**os.environ, "TMPDIR": str(at)}
    race = subprocess.Popen(
        command, cwd=at, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(in_session(race.pid)) < 4 and time.monotonic() < deadline and race.poll() is None:
        time.sleep(0.05)  # the race, loky's tracker and two workers
    assert race.poll() is None, race.communicate()
    return race


def all_gone(session: int, within: float) -> bool:
    deadline = time.monotonic() + within
    while in_session(session) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not in_session(session)


def said(err: str) -> list[str]:
    """The lines on stderr but the first, which says what the race will take."""
    return [line for line in err.splitlines() if line and not line.startswith("steprule: race: ")]


def nothing_half_written(at: Path) -> bool:
    left = [p for p in at.rglob("*") if p.name.startswith(("steprule-race-", ".")) and p.name != ".lock"]
    return not left and isinstance(json.loads((at / "out/race.json").read_text()), dict)


@LINUX
@pytest.mark.parametrize(
    ("name", "code"),
    [("SIGTERM", 143), pytest.param("SIGHUP", 129, marks=LONG), pytest.param("SIGINT", 130, marks=LONG)],
)
def test_a_signal_ends_a_race_as_ctrl_c_does(name: str, code: int, tmp_path: Path) -> None:
    race = begun(tmp_path)
    time.sleep(random.Random(name).uniform(0, 4))
    race.send_signal(getattr(signal, name))
    _, err = race.communicate(timeout=60)
    assert (race.returncode, said(err)) == (code, ["steprule: interrupted; what was finished is kept."])
    assert all_gone(race.pid, within=5)
    assert nothing_half_written(tmp_path)


@LINUX
@pytest.mark.parametrize("name", ["SIGHUP", pytest.param("SIGTERM", marks=LONG)])
@pytest.mark.long
def test_a_signal_to_all_of_its_processes(name: str, tmp_path: Path) -> None:
    """As `kill -- -GROUP` and a terminal that closes send it."""
    race = begun(tmp_path)
    time.sleep(random.Random(name).uniform(0, 2))
    os.killpg(race.pid, getattr(signal, name))
    _, err = race.communicate(timeout=60)
    assert (race.returncode, len(said(err))) == (128 + getattr(signal, name), 1), err
    assert all_gone(race.pid, within=5)
    assert nothing_half_written(tmp_path)


@LINUX
@pytest.mark.parametrize("wait", [3.0, pytest.param(0.0, marks=LONG)])
def test_workers_end_with_a_race_that_is_killed(wait: float, tmp_path: Path) -> None:
    race = begun(tmp_path)
    time.sleep(wait)
    race.kill()
    race.communicate()
    assert all_gone(race.pid, within=20), in_session(race.pid)
    assert nothing_half_written(tmp_path)


@LONG
@LINUX
def test_nohup_keeps_a_race_alive(tmp_path: Path) -> None:
    race = begun(tmp_path, nohup=True)
    race.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert race.poll() is None
    race.terminate()
    race.communicate(timeout=60)
    assert race.returncode == 143
    assert all_gone(race.pid, within=5)


@LINUX
def test_a_pupils_endless_loop_ends_with_who_marks_it(tmp_path: Path) -> None:
    (tmp_path / "loops.py").write_text("while True:\n    pass\n")
    command = [*COMMAND, "check", ".", "--against", "adam", "--seconds", "600"]
    marking = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline, pupils = time.monotonic() + 60, []
    children = Path(f"/proc/{marking.pid}/task")
    while not pupils and time.monotonic() < deadline:
        pupils = [int(p) for path in children.glob("*/children") for p in path.read_text().split()]
        time.sleep(0.1)
    time.sleep(3)
    marking.kill()
    marking.wait()
    assert pupils
    assert all(all_gone(pupil, within=30) for pupil in pupils)
