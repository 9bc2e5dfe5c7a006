"""A race until decided as it runs: its stages, interrupted, killed, in shards, on workers, with too little time, and read again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pretended import made_up

import steprule
from steprule import races
from steprule.errors import InputError
from steprule.provenance import made_now
from steprule.races import spec as specs
from steprule.races.chain import Chain
from steprule.races.stage import stages_of
from steprule.races.store import write_made

REAL: dict[str, Any] = {"trials": 8, "seeds": 3, "fresh": 4, "epochs": 1, "schedules": ["linear"], "workers": 1}


WHO: tuple[list[str], str] = (["sgd", "adam"], "airfoil-linear")
DECIDED: dict[str, Any] = {
    **{n: v for n, v in REAL.items() if n != "workers"}, "until": "decided", "matters": 0.0, "schedules": ["constant", "linear"],
}  # fmt: skip


def run(out: Path | None, **more: Any) -> races.Race:
    return races.race(*WHO, out=out, **{"workers": 1, **DECIDED, **more})


@pytest.fixture(autouse=True, scope="module")
def _fewer() -> Iterator[None]:
    """Three stages at most, so that a test is quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(specs, "STAGES", 3)
        yield


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Trainings whose results are given: what is tested is what becomes of them."""
    with pytest.MonkeyPatch.context() as patch:
        made_up(patch, lambda label, seed, rng: float(np.exp(0.05 * rng.standard_normal())))
        yield


@pytest.fixture(scope="module")
def whole(quick: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[races.Race, Path]:
    folder = tmp_path_factory.mktemp("whole") / "race"
    return run(folder), folder


def results(folder: Path) -> bytes:
    return (folder / "results.parquet").read_bytes()


def test_an_interrupted_race_goes_on_to_the_same_bytes(whole: tuple[races.Race, Path], tmp_path: Path) -> None:
    class Enough(Exception):  # noqa: N818  (no error)
        pass

    def stop(done: int, lanes: int, what: str) -> None:
        if done > 0.7 * whole[0].lanes:
            raise Enough

    with pytest.raises(Enough):
        run(tmp_path / "race", progress=stop)
    assert not (tmp_path / "race" / "results.parquet").exists()
    again = run(tmp_path / "race")
    assert again.kept > 0
    assert again.trained < whole[0].trained
    assert results(tmp_path / "race") == results(whole[1])
    assert again.to_dict()["cells"] == whole[0].to_dict()["cells"]
    third = run(tmp_path / "race")
    assert third.trained == 0
    read = races.finished(tmp_path / "race", *WHO, **DECIDED)
    assert read.to_dict()["cells"] == whole[0].to_dict()["cells"]


def test_a_budget_stops_at_a_look_and_more_time_goes_on(whole: tuple[races.Race, Path], tmp_path: Path) -> None:
    stopped = run(tmp_path / "race", budget=1e-3)
    assert {s.stages for c in stopped.cells for s in c.standings} == {1}
    words = " ".join(races.in_words(stopped))
    assert "Not decided after 1 stage of at most 3, where it stopped; the same command goes on" in words
    same = run(tmp_path / "race", budget=1e-3)
    assert same.trained == 0
    run(tmp_path / "race")
    assert results(tmp_path / "race") == results(whole[1])
    # What is there is read, however little time is given.
    read = run(tmp_path / "race", budget=1e-3)
    assert read.trained == 0
    assert read.to_dict()["cells"] == whole[0].to_dict()["cells"]


def test_what_is_kept_of_a_stage_that_was_not_finished_counts_for_nothing(
    whole: tuple[races.Race, Path], tmp_path: Path
) -> None:
    run(tmp_path / "race", budget=1e-3)
    before = {n: results(tmp_path / "race") for n in ("first",)}
    label = next(p for p in sorted((whole[1] / "blocks").glob("adam-*-stage-2-tune-*.parquet")))
    (tmp_path / "race" / "blocks" / label.name).write_bytes(label.read_bytes())
    assert run(tmp_path / "race", budget=1e-3).trained == 0
    assert results(tmp_path / "race") == before["first"]


def test_shards_hold_whole_cells_and_merge_to_the_same(whole: tuple[races.Race, Path], tmp_path: Path) -> None:
    folders = [tmp_path / f"shard-{k}" for k in range(2)]
    for k, folder in enumerate(folders):
        part = run(folder, shard=(k, 2))
        assert {c.schedule for c in part.phases} == {("constant", "linear")[k]}
    write_made(folders[0], replace(made_now(), hardware="another machine", date="2020-01-01T00:00:00+00:00"))
    merged = races.merge(folders, tmp_path / "merged", *WHO, **DECIDED)
    assert merged.to_dict()["cells"] == whole[0].to_dict()["cells"]
    assert results(tmp_path / "merged") == results(whole[1])
    assert merged.hardware == f"another machine; {made_now().hardware}"
    assert merged.made.date > "2020-01-02"


@pytest.mark.slow
def test_a_killed_race_goes_on(tmp_path: Path) -> None:
    """kill -9 as soon as a later stage has begun; the same command then ends where an uninterrupted one does."""
    typed = ["race", "sgd", "adam", "--on", "airfoil-linear", "--trials", "8", "--seeds", "3", "--fresh", "4", "--epochs", "1",
             "--until", "decided", "--matters", "0", "--workers", "1", "--json"]  # fmt: skip
    command = [sys.executable, "-m", "steprule", *typed, "--out"]
    folder = tmp_path / "killed"
    killed = subprocess.Popen(
        [*command, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("blocks/*-stage-2-*")) and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert list(folder.glob("blocks/*-stage-2-*"))
    ends = [
        json.loads(subprocess.run([*command, str(out)], check=True, capture_output=True, text=True).stdout)
        for out in (folder, tmp_path / "whole")
    ]
    assert ends[0]["cells"] == ends[1]["cells"]
    assert results(folder) == results(tmp_path / "whole")
    cited = [sys.executable, "-m", "steprule", "race", "cite", str(folder)]
    assert "adam" in subprocess.run(cited, check=True, capture_output=True, text=True).stdout


def test_a_race_that_ended_is_no_first_stage(tmp_path: Path) -> None:
    """It spent all of its error at its end."""
    races.race(["sgd", "adam"], "airfoil-linear", out=tmp_path / "race", **REAL)
    with pytest.raises(InputError, match="differs in stages"):
        races.race(["sgd", "adam"], "airfoil-linear", out=tmp_path / "race", until="decided", **REAL)


def test_judge_sends_its_reader_to_the_race(whole: tuple[races.Race, Path]) -> None:
    for given in (whole[0], whole[1] / "results.parquet"):
        with pytest.raises(InputError, match="expected a race that looks once, got a race until decided"):
            steprule.judge(given)


def test_the_phases_of_a_chain_part_into_stages(whole: tuple[races.Race, Path]) -> None:
    for chain, done in whole[0].phases.items():
        assert isinstance(chain, Chain)
        own = stages_of(done)
        assert [phase for stage in own for phase in stage.phases] == list(done)
        assert len({phase.name for phase in done}) == len(done)
