"""Bad input gets one clear line, exit code 2 (130 for Ctrl-C), and nothing is lost or half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import steprule
from steprule import errors, rules
from steprule.cli import main
from steprule.problems import airfoil
from steprule.races import Competitor
from steprule.training import train

COMMAND = [sys.executable, "-m", "steprule"]


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line on stderr of a command that exits with 2 and prints nothing else."""
    code = main(list(args))
    out, err = capsys.readouterr()
    assert code == 2, (code, out, err)
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("steprule: ")
    return err.removeprefix("steprule: ").strip()


LINES = {
    "unknown rule": (["show", "adm"], ["unknown rule", "got 'adm'", "Did you mean 'adam'?"]),
    "unknown surface": (["trace", "sgd", "--surface", "rosenbrok"], ["unknown surface", "Did you mean 'rosenbrock'?"]),
    "unknown problem": (["train", "sgd", "--on", "airfoils"], ["unknown problem", "Did you mean 'airfoil'?"]),
    "unknown command": (["trian", "sgd"], ["unknown command", "got 'trian'. Did you mean steprule train?"]),
    "a rule for a command": (["adm"], ["unknown command", "Did you mean steprule show adam?"]),
    "a file for a command": (["mine.py:adam"], ["Did you mean steprule show mine.py:adam?"]),
    "a hyperparameter as an option": (
        ["train", "adam", "--lr", "0.1"],
        ["No such option: --lr", "Write --set lr=VALUE."],
    ),
    "a hyperparameter as a rule": (["race", "sgd", "lr=0.1"], ["unknown rule", "Write --set lr=0.1."]),
    "a picture of one point": (
        ["sweep", "sgd", "--points", "1", "--out", "a.png"],
        ["expected a number that varies, got none"],
    ),
    "too few words": (["show"], ["Missing argument 'RULE'. See steprule show --help."]),
    "no number": (["trace", "sgd", "--noise", "x"], ["expected a number, got 'x'"]),
    "unknown option": (["trace", "sgd", "--surfac", "beale"], ["No such option", "--surface"]),
    "unknown hyperparameter": (
        ["train", "adam", "--set", "beta=0.9"],
        ["unknown hyperparameter of adam", "Did you mean 'beta2'?"],
    ),
    "hyperparameter of a class": (
        ["train", "torch.optim.Adam", "--set", "beta=1"],
        ["unknown hyperparameter", "Did you mean 'betas'?"],
    ),
    "unknown class": (["train", "torch.optim.Adm"], ["unknown class of torch.optim", "Did you mean 'Adam'?"]),
    "out of bounds": (
        ["trace", "sgd", "--set", "lr=-1"],
        ["sgd: hyperparameter lr", "[0, inf)", "got -1.0", "Its default is 0.001"],
    ),
    "beta of one": (["trace", "adam", "--set", "beta1=1"], ["[0, 1)", "got 1.0"]),
    "nan": (["train", "sgd", "--set", "lr=nan"], ["expected a number in [0, inf)", "got nan"]),
    "infinite": (["train", "sgd", "--set", "lr=inf"], ["got inf"]),
    "a word for a number": (["train", "sgd", "--set", "lr=fast"], ["expected a number", "got 'fast'"]),
    "a number for a flag": (["train", "adam", "--set", "amsgrad=0.5"], ["expected True or False", "got '0.5'"]),
    "class out of bounds": (
        ["train", "torch.optim.Adam", "--set", "lr=-1"],
        ["torch.optim.Adam", "Invalid learning rate: -1"],
    ),
    "class nan": (["train", "torch.optim.Adam", "--set", "lr=nan"], ["torch.optim.Adam", "nan"]),
    "class word": (["train", "torch.optim.Adam", "--set", "lr=fast"], ["expected a number", "'fast'"]),
    "set without a value": (["train", "sgd", "--set", "lr"], ["--set", "name=value", "got 'lr'"]),
    "set for a rule that is not there": (
        ["trace", "sgd", "--set", "adam.lr=1"],
        ["unknown rule in --set adam.lr=1", "sgd"],
    ),
    "set for the tutorial": (["race", "--trials", "0", "--set", "lr=1"], ["--set", "Name the rules"]),
    "start of one number": (["trace", "sgd", "--start", "1"], ["--start", "two numbers", "'1'"]),
    "start not finite": (["trace", "sgd", "--start=nan,1"], ["start", "two finite numbers"]),
    "no steps": (["trace", "sgd", "--steps", "0"], ["steps", "1 to 1,000,000", "got 0"]),
    "steps of no number": (["trace", "sgd", "--steps", "x"], ["--steps", "x"]),
    "ending": (
        ["trace", "sgd", "--out", "paths.bmp"],
        ["paths.bmp", ".png, .svg, .gif, .json", "trace --out x.html", "'.bmp'"],
    ),
    "form": (["show", "adam", "--as", "latx"], ["unknown form", "Did you mean 'latex'?"]),
    "seeds": (["race", "--trials", "0", "--seeds", "0"], ["seeds", "1 or more", "got 0"]),
    "seed": (["train", "sgd", "--seed", "-1"], ["seed", "0 or more"]),
    "epochs": (["train", "sgd", "--epochs", "0"], ["epochs", "1 or more"]),
    "batch size": (["train", "sgd", "--batch-size", "0"], ["batch_size", "1 or more"]),
    "device": (["train", "sgd", "--device", "quantum"], ["device 'quantum'", "a device that torch can use here"]),
    "same rule twice": (["race", "--trials", "0", "adam", "adam"], ["rules: expected each once", "'adam' twice"]),
    "no file": (["show", "nowhere.py:mine"], ["nowhere.py", "nothing there"]),
    "no module": (["show", "no.such.module:mine"], ["no.such.module", "can be imported"]),
    "no name": (["show", "file.py:"], ["file.py:name"]),
}


@pytest.mark.parametrize(("args", "parts"), LINES.values(), ids=LINES)
def test_one_line_on_the_command_line(
    args: list[str], parts: list[str], capsys: pytest.CaptureFixture[str], in_folder: Path
) -> None:
    line = refused(capsys, *args)
    for part in parts:
        assert part in line, line
    assert list(in_folder.rglob("*.parquet")) == []


HEAD = "from steprule import rule\nfrom steprule.hyper import Decay, Rate\nfrom steprule.maths import sqrt, where\nimport math, torch, numpy as np\n"
BROKEN = {
    "syntax error": ("def mine(p, g:\n    return p\n", 5, ["syntax error"]),
    "no such function": ("@rule\ndef other(p, g, *, lr: Rate = 0.1):\n    return p - lr * g\n", None, ["in mine.py", "expected one of other", "got 'mine'"]),
    "no decorator": ("def mine(p, g):\n    return p\n", None, ["expected a rule", "without @rule", "@steprule.rule"]),
    "an error on import": ("\nraise RuntimeError('boom')\n", 6, ["RuntimeError: boom"]),
    "a name that is not there": ("@rule\ndef mine(p, g, *, lr: Rat = 0.1):\n    return p\n", 6, ["Rat"]),
    "too few results": ("@rule\ndef mine(p, g, m, *, lr: Rate = 0.1):\n    m = m + g\n    return p - lr * m\n", 8, ["2 results (p, m)", "got 1"]),
    "too many results": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * g, g\n", 7, ["1 results (p)", "got 2"]),
    "nothing returned": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    p = p - lr * g\n", 7, ["a number as the new p", "got None"]),
    "if on an element": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    if g > 0:\n        return p - lr\n    return p + lr\n", 7, ["an `if`", "where(condition, a, b)"]),
    "if on a number": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    if lr:\n        p = p - lr\n    return p\n", 7, ["'lr'", "off at zero"]),
    "python's max": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    x = 1\n    return p - lr * max(g, 0)\n", 8, ["where"]),
    "and": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * where(g > 0 and g < 1, g, 1)\n", 7, ["an `if`"]),
    "==": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    a = where(g == 1, 1, 2)\n    return p - lr * a\n", 7, ["== on an element", "margin"]),
    "!=": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return where(g != 0, p, g)\n", 7, ["!="]),
    "a missing default": ("@rule\ndef mine(p, g, *, lr: Rate):\n    return p - lr * g\n", 5, ["a default", "none for lr"]),
    "a default out of bounds": ("@rule\ndef mine(p, g, *, lr: Rate = -1.0):\n    return p - lr * g\n", 5, ["lr", "[0, inf)", "-1.0"]),
    "a default of no number": ("@rule\ndef mine(p, g, *, lr: Rate = 'x'):\n    return p - lr * g\n", 5, ["a number or a bool", "'x'"]),
    "a slot with a default": ("@rule\ndef mine(p, g, m=0, *, lr: Rate = 0.1):\n    return p - lr * g, m\n", 5, ["slots without default", "m=0"]),
    "no p": ("@rule\ndef mine(g, *, lr: Rate = 0.1):\n    return g\n", 5, ["p, g as the first two"]),
    "star": ("@rule\ndef mine(p, g, *slots, lr: Rate = 0.1):\n    return p\n", 5, ["*slots", "Each"]),
    "math.sqrt": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * math.sqrt(g)\n", 7, ["steprule.maths"]),
    "torch.sqrt": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * torch.sqrt(g)\n", 7, ["steprule.maths"]),
    "np.sqrt": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * np.sqrt(g)\n", 7, ["numpy's sqrt"]),
    "in place": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    p -= lr * g\n    return p\n", 7, ["in place", "x = x + y"]),
    "modulo": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * (g % 2)\n", 7, ["% on an element"]),
    "a matrix product": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * (g @ g)\n", 7, ["as many columns on the left as rows on the right"]),
    "an index": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * g[0]\n", 7, ["got an index in [ ]", "each element"]),
    "a shift": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * (g << 1)\n", 7, ["got << on a symbol"]),
    "python's sum": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p - lr * sum(g)\n", 7, ["a loop", "steprule.maths"]),
    "an absent slot": (
        "from steprule.hyper import MomentumBuffer\n@rule\ndef mine(p, g, b: MomentumBuffer, *, lr: Rate = 0.1):\n    b = 0.9 * b + g\n    return p - lr * b, b\n",
        8, ["None", "slot"],
    ),
    "an error in the body": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    x = {}\n    return p - x['lr'] * g\n", 8, ["KeyError"]),
    "a truth value returned": ("@rule\ndef mine(p, g, *, lr: Rate = 0.1):\n    return p > lr\n", 7, ["truth value", "where"]),
}  # fmt: skip


@pytest.mark.parametrize(("source", "line", "parts"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_names_the_authors_line(
    source: str, line: int | None, parts: list[str], capsys: pytest.CaptureFixture[str], in_folder: Path
) -> None:
    Path("mine.py").write_text(HEAD + source)
    for command in ("show", "trace", "train"):
        text = refused(capsys, command, "mine.py:mine")
        if line is not None:
            assert f"mine.py:{line}:" in text, text
        for part in parts:
            assert part in text, text


def test_a_rule_that_works_is_not_refused(capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    """The counterpart of the list above: the same head, a good body, one decorator."""
    Path("mine.py").write_text(
        HEAD
        + "@rule\ndef mine(p, g, m, *, lr: Rate = 0.1, beta: Decay = 0.9):\n    m = beta * m + g\n    return p - lr * m, m\n"
    )
    for command in ("show", "trace", "train"):
        assert main([command, "mine.py:mine"]) == 0
    assert "mine" in capsys.readouterr().out


def test_python_errors_are_value_and_type_errors() -> None:
    with pytest.raises(ValueError, match="expected a number in"):
        steprule.trace("sgd", lr=float("nan"))
    with pytest.raises(TypeError, match="got True"):
        steprule.trace("sgd", lr=True)
    with pytest.raises(TypeError, match="got 'x'"):
        steprule.trace("sgd", lr="x")
    with pytest.raises(LookupError, match="Did you mean 'adam'"):
        rules.get("adem")
    with pytest.raises(TypeError, match="two numbers"):
        steprule.trace("adam", betas=0.9)
    with pytest.raises(ValueError, match="either betas or"):
        steprule.trace("adam", betas=(0.9, 0.99), beta1=0.8)
    with pytest.raises(TypeError, match="without @rule"):
        steprule.trace(lambda p, g: p)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="at most 1"):
        rules.lion(1.0, 1.0, 0.0, 0.0)
    with pytest.raises(TypeError, match="the number of this step"):
        rules.adam(1.0, 1.0, 0.0, 0.0)
    with pytest.raises(TypeError, match=r"a torch\.optim\.Optimizer"):
        train(lambda params: 3)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="what trains"):
        train(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Put @steprule"):
        train(lambda p, g: p)  # type: ignore[arg-type]


def test_errors_travel_between_processes() -> None:
    import pickle

    error = errors.unknown_name("rule", "adm", ["adam"])
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.hint) == (type(error), str(error), error.hint)


DATA = Path(airfoil.__file__).parent / "data" / "airfoil_self_noise.dat"
ALTERED = {
    "missing": (None, "No such file"),
    "empty": (b"", "an empty file"),
    "cut off": (DATA.read_bytes()[:30_000], "30,000 (cut off)"),
    "altered": (DATA.read_bytes().replace(b"126.201", b"126.202", 1), "altered"),
    "longer": (DATA.read_bytes() + b"1\n", "58,483"),
}


@pytest.mark.parametrize(("content", "words"), ALTERED.values(), ids=ALTERED)
def test_data_file(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "airfoil.dat"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.DataError) as caught:
        airfoil.load(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_file_with_the_other_line_ends_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "airfoil.dat"
    path.write_bytes(DATA.read_bytes().replace(b"\n", b"\r\n"))
    assert np.array_equal(airfoil.load(path), airfoil.load())


def test_an_output_that_is_in_the_way(capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    Path("taken").write_text("mine")
    line = refused(capsys, "race", "--trials", "0", "sgd", "--seeds", "1", "--out", "taken")
    assert "a folder that can be written" in line
    assert "--out" in line
    assert Path("taken").read_text() == "mine"
    Path("folder.png").mkdir()
    assert "Is a folder" in refused(capsys, "trace", "sgd", "--out", "folder.png")
    assert "written" in refused(capsys, "trace", "sgd", "--out", "taken/paths.png")


def test_a_folder_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("needs a folder that even root cannot write: /proc, Linux only")
    assert "written" in refused(capsys, "race", "--trials", "0", "sgd", "--seeds", "1", "--out", "/proc/self/race")
    assert "written" in refused(capsys, "trace", "sgd", "--out", "/proc/self/paths.json")


def test_results_that_are_none_of_ours(capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    command = ["race", "--trials", "0", "sgd", "--seeds", "1", "--out", "out"]
    assert main(command) == 0
    (block,) = Path("out/blocks").glob("*.parquet")
    whole = block.read_bytes()
    for content, words in ((b"", "an empty file"), (whole[:200], "damaged"), (b"hello", "damaged")):
        block.write_bytes(content)
        capsys.readouterr()
        assert words in refused(capsys, *command)
        assert block.read_bytes() == content
    block.write_bytes(whole)
    line = refused(capsys, *command, "--epochs", "3")
    assert "differs in problems.airfoil.epochs: expected 3, got 2" in line
    assert "lr: expected 0.5, got 0.001" in refused(capsys, *command, "--set", "lr=0.5")
    assert block.read_bytes() == whole
    Path("earlier").mkdir()
    Path("earlier/results.parquet").write_bytes(Path("out/results.parquet").read_bytes())
    line = refused(capsys, *command[:-1], "earlier")  # as a race of an earlier version left it
    assert "a folder with 'results.parquet'" in line
    assert [p.name for p in Path("earlier").iterdir()] == ["results.parquet"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits on a file's size are POSIX")
def test_a_file_that_may_not_grow(in_folder: Path) -> None:
    """The kernel refuses the write half-way, as a full disk does: nothing half-written stays, the old file is whole."""
    Path("paths.json").write_text("old")

    import resource  # POSIX

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = subprocess.run(
        [*COMMAND, "trace", "sgd", "--out", "paths.json"], capture_output=True, text=True, preexec_fn=limit, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert Path("paths.json").read_text() == "old"
    assert [p.name for p in in_folder.iterdir()] == ["paths.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are POSIX")
def test_links_and_pipes_stay_what_they_are(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Renaming the new file over them would replace them: as root, /dev/full itself."""
    Path("real.json").write_text("old")
    Path("link.json").symlink_to("real.json")
    assert main(["trace", "sgd", "--out", "link.json"]) == 0
    assert Path("link.json").is_symlink()
    assert json.loads(Path("real.json").read_text())[0]["rule"] == "sgd"
    os.mkfifo("pipe.json")
    with subprocess.Popen(["cat", "pipe.json"], stdout=subprocess.PIPE, text=True) as reader:
        assert main(["trace", "sgd", "--out", "pipe.json"]) == 0
        assert json.loads(reader.communicate(timeout=60)[0])[0]["rule"] == "sgd"
    assert Path("pipe.json").is_fifo()
    if Path("/dev/full").is_char_device():
        Path("full.json").symlink_to("/dev/full")
        capsys.readouterr()
        assert main(["trace", "sgd", "--out", "full.json"]) == 2
        assert "No space left" in capsys.readouterr().err
        assert Path("/dev/full").is_char_device()


def test_ctrl_c_while_a_library_is_imported(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some libraries raise an ImportError from it; an error of another kind is no interruption."""
    from steprule import play

    def importing(cause: BaseException) -> Any:
        def write(*given: Any, **named: Any) -> None:
            raise ImportError("half imported") from cause

        return write

    monkeypatch.setattr(play, "write", importing(KeyboardInterrupt()))
    assert main(["play", "--out", "page.html"]) == 130
    assert capsys.readouterr().err.strip() == "steprule: interrupted."
    monkeypatch.setattr(play, "write", importing(ValueError()))
    with pytest.raises(ImportError, match="half imported"):
        main(["play", "--out", "page.html"])


def test_a_full_disk(in_folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, Linux only")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "trace", "sgd", "--json"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "No space left" in done.stderr


def test_a_full_disk_under_a_race(in_folder: Path) -> None:
    """A real file system of 64 kB: the race stops with one line, and what it had written before is whole."""
    disk = in_folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        done = subprocess.run(
            [*COMMAND, "race", "--trials", "0", "sgd", "--seeds", "1", "--out", str(disk)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
        assert "No space left" in done.stderr
        assert not (disk / "report.html").exists()  # the page did not fit, the results did
        assert pq.read_table(disk / "results.parquet").num_rows == 1
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.long)],
    ids=["Ctrl-C", "kill -9"],
)
def test_an_interrupted_race_keeps_its_finished_runs_and_goes_on(
    sent: signal.Signals, code: int, in_folder: Path
) -> None:
    command = [*COMMAND, "race", "--trials", "0", "sgd", "adam", "--epochs", "1", "--out", "out", "--seeds"]
    process = subprocess.Popen([*command, "400"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    for _ in range(600):
        time.sleep(0.1)
        if len(list(Path("out").glob("blocks/[!.]*.parquet"))) >= 4:
            break
    os.kill(process.pid, sent)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    if sent is signal.SIGINT:
        assert err.strip().splitlines()[-1] == "steprule: interrupted; what was finished is kept."
    kept = {path.name: path.read_bytes() for path in Path("out").glob("blocks/[!.]*.parquet")}
    assert len(kept) >= 4
    seeds = 1 + max(int(name[-14:-8]) for name in kept)
    done = subprocess.run([*command, str(seeds + 1), "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kept"] == len(kept)
    assert pq.read_table("out/results.parquet").num_rows == 2 * (seeds + 1)
    for name, block in kept.items():  # not run again: the same to the last digit, the seconds too
        assert Path("out/blocks", name).read_bytes() == block


def test_a_race_that_went_on_equals_one_that_was_not_interrupted(tmp_path: Path) -> None:
    who = ["sgd", "adam"]
    steprule.race(who, trials=0, seeds=2, out=tmp_path)
    in_two = steprule.race(who, trials=0, seeds=4, out=tmp_path)
    at_once = steprule.race(who, trials=0, seeds=4)
    assert in_two.kept == 4
    for chain, (phase,) in at_once.phases.items():
        assert np.array_equal(phase.results["losses"], in_two.phases[chain][0].results["losses"])


def test_divergence_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "sgd", "--set", "lr=10"]) == 0
    assert "diverged" in capsys.readouterr().out
    assert main(["trace", "sgd", "--surface", "rosenbrock", "--set", "lr=1"]) == 0
    assert "diverged" in capsys.readouterr().out
    race = steprule.race([Competitor("sgd", hypers={"lr": 1e6}, label="wild")], trials=0, seeds=2)
    assert race.settings[0].diverged == 2
    assert race.to_dict()["settings"][0]["mean"] is None


def test_a_file_that_prints_leaves_json_alone(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("talks.py").write_text(
        "from steprule import rule\nprint('hello')\n\n@rule\ndef talks(p, g, *, lr=0.1):\n    return p - lr * g\n"
    )
    assert main(["which", "talks.py", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["rule"] == "sgd"
    assert "hello" in err
    assert main(["which", "talks.py"]) == 0
    assert "hello" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("mine.py:a_rule", ["expected a steprule.Problem, got a Rule"]),
        ("mine.py:raising", ["mine.py:9", "problem mine.py:raising", "KeyError"]),
        ("mine.py:asking", ["problem mine.py:asking", "data"]),
        ("mine.py", ["mine.py: expected one problem, got none. Write mine.py:NAME."]),
    ],
)
def test_what_is_no_problem(spec: str, parts: list[str], capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    Path("mine.py").write_text(
        "from steprule import rule\n\n\n@rule\ndef a_rule(p, g, *, lr=0.1):\n    return p - lr * g\n\n\n"
        "def raising(): return {}['x']\n\n\ndef asking(data): return data\n"
    )
    line = refused(capsys, "train", "adam", "--on", spec)
    for part in parts:
        assert part in line, line
