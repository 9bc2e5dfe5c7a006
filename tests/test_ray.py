"""The race on a Ray cluster: the same bits as local, and what dies costs only its blocks."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from steprule import races
from steprule.cli import main
from steprule.errors import MissingPackageError
from steprule.races import on_ray

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.filterwarnings("ignore::ResourceWarning"), pytest.mark.filterwarnings("ignore::FutureWarning"),
              pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # fmt: skip

RULES = ["sgd", "adam", "lion"]
TINY: dict[str, Any] = {"problems": "airfoil-linear", "trials": 8, "seeds": 3, "fresh": 4, "epochs": 1}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("local")
    races.race(RULES, out=folder, workers=1, **TINY)
    return (folder / "results.parquet").read_bytes()


@pytest.mark.long
def test_the_same_bits_as_local(local: bytes, tmp_path: Path) -> None:
    found = races.race(RULES, out=tmp_path, engine="ray", **TINY)
    assert (tmp_path / "results.parquet").read_bytes() == local
    assert found.trained == found.lanes
    assert not ray.is_initialized()


def test_no_cluster_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    typed = ["race", "sgd", "adam", "--on", "airfoil-linear", "--trials", "2",
             "--engine", "ray", "--address", "127.0.0.1:1"]  # fmt: skip
    assert main([*typed, "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "a Ray cluster that answers" in err


def test_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r'pip install "steprule\[ray\]"'), on_ray.cluster(b"", None):
        pass


@pytest.mark.long
def test_a_node_that_dies(local: bytes, tmp_path: Path) -> None:
    """Of a head and two nodes one is killed in the middle: its blocks are trained again, and the bits are the same."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    killed = []

    def kill() -> None:
        while len(list((tmp_path / "blocks").glob("[!.]*.parquet"))) < 2:
            time.sleep(0.02)
        cluster.remove_node(nodes[0], allow_graceful=False)
        killed.append(len(list((tmp_path / "blocks").glob("[!.]*.parquet"))))

    try:
        killer = threading.Thread(target=kill)
        killer.start()
        found = races.race(RULES, out=tmp_path, engine="ray", **TINY)
        killer.join()
        assert killed
        assert killed[0] < len(list((tmp_path / "blocks").glob("[!.]*.parquet")))
        assert found.trained == found.lanes
        assert (tmp_path / "results.parquet").read_bytes() == local
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.long
def test_a_worker_that_dies(local: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first task on each of two blocks kills its process; Ray gives them to others."""
    flag = tmp_path / "died"

    def dying(package: bytes, block: Any) -> Any:
        import os
        import signal

        marked = flag.with_name(f"died-{block.name}")
        if block.phase == "tune-0" and block.chain.label != "sgd" and not marked.exists():
            marked.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return on_ray.train_block(on_ray.unpacked(package), block)

    monkeypatch.setattr(on_ray, "_train", dying)
    races.race(RULES, out=tmp_path / "race", engine="ray", **TINY)
    assert len(list(tmp_path.glob("died-*"))) == 4
    assert (tmp_path / "race" / "results.parquet").read_bytes() == local
