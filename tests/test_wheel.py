"""The wheel, built and installed in clean environments outside the tree: each extra brings what its part needs, and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from tolerances import ROUNDED32

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


@dataclass(frozen=True)
class Environment:
    """A Python of its own, and an empty folder to work in."""

    folder: Path

    def pip(self, *arguments: str) -> None:
        command = [self._program("python"), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt")]
        subprocess.run([*command, *arguments], check=True, capture_output=True)

    def run(self, *command: str, code: int = 0) -> str:
        """What a program prints: on stdout where it succeeds, on stderr where it must not."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        env["STEPRULE_CACHE"] = str(self.folder / "cache")
        command = (self._program(command[0]), *command[1:])
        done = subprocess.run(command, cwd=self.work, env=env, capture_output=True, text=True)
        assert done.returncode == code, f"{' '.join(command)}: {done.stderr}"
        return done.stderr if code else done.stdout

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def _program(self, name: str) -> str:
        return str(self.folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / name)


def environment(folder: Path, wheel: Path, extra: str) -> Environment:
    """torch first and alone, as the constraints have it; then the wheel with an extra, or without torch."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    (folder / "work").mkdir()
    made = Environment(folder)
    if extra == "no torch":
        made.pip("--no-deps", str(wheel))
        made.pip("numpy", "sympy", "typer", "rich")
    else:
        made.pip("torch")
        made.pip(f"{wheel}[{extra}]" if extra else str(wheel))
    assert str(folder) in made.run("python", "-c", "import steprule; print(steprule.__file__)")
    return made


ADAM = """
import torch, steprule
p = torch.nn.Parameter(torch.ones(3))
p.grad = torch.ones(3)
optimizer = steprule.optim.Adam([p], lr=0.5)
optimizer.step()
print(p.tolist(), end="")
"""


@pytest.mark.long
def test_the_core(wheel: Path, tmp_path: Path) -> None:
    """An Adam steps, and what needs more says what."""
    made = environment(tmp_path, wheel, "")
    assert json.loads(made.run("python", "-W", "error", "-c", ADAM)) == pytest.approx([0.5] * 3, rel=ROUNDED32)
    made.run("steprule", "train", "adam", "--on", "airfoil-linear")
    made.run("steprule", "play", "--out", "page.html")
    assert "const STEPS" in (made.work / "page.html").read_text(encoding="utf-8")
    assert 'pip install "steprule[race]"' in made.run("steprule", "race", "sgd", "adam", code=2)
    assert 'pip install "steprule[plot]"' in made.run("steprule", "trace", "adam", "--out", "a.png", code=2)


@pytest.mark.long
def test_no_torch(wheel: Path, tmp_path: Path) -> None:
    """A class sees a dot slow down within a minute: numpy, sympy and the command line's packages alone."""
    made = environment(tmp_path, wheel, "no torch")
    for command in ("show adam", "rules", "surfaces", "problems", "trace sgd adam --out paths.svg", "trace adam --out paths.json",
                    "play --out page.html"):  # fmt: skip
        made.run("steprule", *command.split())
    assert "<svg" in (made.work / "paths.svg").read_text(encoding="utf-8")
    assert "const STEPS" in (made.work / "page.html").read_text(encoding="utf-8")
    for command in ("train adam", "sweep adam", "race adam sgd", "check adam"):
        said = made.run("steprule", *command.split(), code=2)
        assert said.startswith("steprule: package ")
        assert said.count("\n") == 1
        assert "torch" in said.partition("pip install")[2]


@pytest.mark.long
def test_plot(wheel: Path, tmp_path: Path) -> None:
    made = environment(tmp_path, wheel, "plot")
    for command in ("trace sgd adam --out paths.png", "train sgd --epochs 1 --out curve.png"):
        made.run("steprule", *command.split())
    assert sorted(p.name for p in made.work.iterdir()) == ["curve.png", "paths.png"]


@pytest.mark.long
@pytest.mark.parametrize("extra", ["race", "all"])
def test_race(wheel: Path, tmp_path: Path, extra: str) -> None:
    made = environment(tmp_path, wheel, extra)
    result = json.loads(made.run("steprule", "race", "--trials", "0", "--seeds", "2", "--json"))
    assert len(result["settings"]) == 12
    assert (made.work / "runs" / "airfoil" / "report.html").exists()
    assert (made.work / "runs" / "airfoil" / "results.parquet").exists()
    small = [
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
        "--json",
    ]
    result = json.loads(made.run("steprule", "race", "sgd", "adam", *small))
    assert len(result["cells"]) == 2
    assert (made.work / "race" / "report.html").exists()
    made.run("steprule", "sweep", "adam", "--on", "airfoil-linear", "--points", "8", "--out", "lanes.parquet")
    made.run("steprule", "play", "luck", "--out", "luck.html")
