"""The wheel, built and installed in a clean environment outside the tree, works from there, its data file included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)], check=True, capture_output=True
    )
    (built,) = out.glob("*.whl")
    return built


def test_what_the_wheel_holds(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("steprule/py.typed", "steprule/problems/data/airfoil_self_noise.dat", "steprule/rules/adam.py", "steprule/play/page/app.js",
                   "steprule/play/page/page.html"):  # fmt: skip
        assert wanted in names
    assert any(n.endswith("AIRFOIL-LICENCE.md") for n in names)
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert not [n for n in names if n.startswith("tests")]


@pytest.mark.long
def test_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """pip install of the wheel alone, then `steprule race` from an empty folder; nothing of the source tree in sight."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    folder = tmp_path / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    pip = [str(folder / "python"), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, "torch"], check=True, capture_output=True)
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    work = tmp_path / "work"
    work.mkdir()

    def run(*command: str) -> str:
        return subprocess.run(command, cwd=work, env=env, check=True, capture_output=True, text=True).stdout

    where = run(str(folder / "python"), "-c", "import steprule; print(steprule.__file__)")
    assert str(tmp_path) in where
    result = json.loads(run(str(folder / "steprule"), "race", "--trials", "0", "--seeds", "2", "--json"))
    assert len(result["rows"]) == 12
    run(str(folder / "steprule"), "play", "--out", "page.html")
    assert "const STEPS" in (work / "page.html").read_text(encoding="utf-8")
    small = (
        "--on",
        "digits-softmax",
        "--trials",
        "4",
        "--seeds",
        "2",
        "--fresh",
        "2",
        "--epochs",
        "1",
        "--out",
        "race",
    )
    result = json.loads(run(str(folder / "steprule"), "race", "sgd", "adam", *small, "--json"))
    assert len(result["cells"]) == 2
    assert (work / "race" / "report.html").exists()
    assert (work / "runs" / "airfoil" / "report.html").exists()
    assert (work / "runs" / "airfoil" / "results.parquet").exists()
    run(str(folder / "steprule"), "trace", "sgd", "adam", "--out", "paths.png")
    assert (work / "paths.png").exists()
