"""The command line as users meet it: what each command prints, its JSON, its start-up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import elementwise
import pyarrow.parquet as pq
import pytest

import steprule
from steprule import rules
from steprule.cli import main
from steprule.tutorial import TUTORIAL

COMMAND = [sys.executable, "-m", "steprule"]


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(list(args)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def as_json(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    return json.loads(printed(capsys, *args, "--json"))


def test_rules(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "rules")
    assert [r["name"] for r in found] == list(rules.names())
    assert [r["paper"] for r in found] == [str(r.paper) if r.paper else None for r in rules.CATALOGUE.values()]
    assert next(r for r in found if r["name"] == "lamb")["title"] == "LAMB"
    listed = printed(capsys, "rules")
    for name in rules.names():
        assert name in listed


@pytest.mark.parametrize("rule", rules.names())
def test_show(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "show", rule)
    record = as_json(capsys, "show", rule)
    assert any(line.startswith("p = ") for line in record["formula"]["text"].splitlines())
    elsewhere = rules.get(rule).point is not None
    assert ("evaluated" in record["formula"]) == elsewhere
    assert out.count("evaluated at: ") == (2 if elsewhere else 0), "in the code's names, and in letters"
    assert any(r"\theta_{t}" in line for line in record["formula"]["latex"])
    for line in (*record["formula"]["text"].splitlines(), *record["formula"]["latex"]):
        assert line in out
    for hyper in rules.get(rule).hypers:
        assert hyper.name in out
        assert hyper.meaning
    for slot in rules.get(rule).slots:
        assert slot.name in out
    assert str(rules.get(rule).paper or "") in out


def test_show_in_one_form_and_in_a_variant(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "show", "adam", "--as", "text")
    assert "m_hat = exp_avg / (1 - beta1**t)" in text
    assert r"\hat{m}_{t}" in printed(capsys, "show", "adam", "--as", "latex")
    assert "max_exp_avg_sq" not in text
    assert "max_exp_avg_sq = maximum(max_exp_avg_sq, exp_avg_sq)" in printed(
        capsys, "show", "adam", "--as", "text", "--set", "amsgrad=true"
    )
    decayed = printed(capsys, "show", "sgd", "--as", "text", "--set", "weight_decay=0.1", "--set", "maximize=yes")
    assert decayed.splitlines()[0] == "g = -g + weight_decay * p"


@pytest.mark.parametrize("rule", rules.names())
def test_show_as_python_runs_and_as_numba_is_source(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    from steprule import maths

    scope = {name: getattr(maths, name) for name in maths.NAMES}
    exec(printed(capsys, "show", rule, "--as", "python"), scope)
    assert callable(scope[rule])
    source = printed(capsys, "show", rule, "--as", "numba")
    compile(source, "kernel", "exec")
    assert "@njit" in source
    pytest.importorskip("triton")
    if rule in {r.name for r in elementwise.OF_MATRICES}:
        assert main(["show", rule, "--as", "triton"]) == 2
        assert "asks for no shape" in capsys.readouterr().err
        return
    source = printed(capsys, "show", rule, "--as", "triton")
    compile(source, "kernel", "exec")
    assert "@triton.jit" in source


def test_show_needs_no_torch() -> None:
    code = "import sys; from steprule.cli import main; main(['show', 'adam']); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from steprule.cli import main; main(sys.argv[1:]); print({'torch', 'numpy', 'sympy', 'matplotlib', 'pyarrow', 'pandas'} & {*sys.modules})"
    for args in (["--help"], ["race", "--help"], []):
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "set()"
        assert "Usage: steprule" in done.stdout


def test_trace(capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    out = printed(capsys, "trace", "sgd", "rmsprop_eps_inside", "--set", "lr=0.4", "--out", "pictures/paths.svg")
    assert next(line.split()[:4] for line in out.splitlines() if line.startswith("sgd")) == [
        "sgd",
        "0.4",
        "-0.943467",
        "-0.000073",
    ]
    _, _, x, y, _ = next(line.split() for line in out.splitlines() if line.startswith("rmsprop"))
    assert x == "-0.010599"
    assert "e-" in y  # what six decimals would print as 0 keeps its exponent
    assert Path("pictures/paths.svg").exists()
    paths = as_json(
        capsys, "trace", "sgd", "adam", "--surface", "beale", "--set", "adam.lr=0.1", "--start=2,1", "--steps", "5"
    )
    assert [p["hypers"]["lr"] for p in paths][1] == 0.1
    assert [p["tuned"] for p in paths] == [True, False]
    assert [len(p["points"]) for p in paths] == [6, 6]
    assert paths[0]["points"][0] == [2, 1]
    defaults = as_json(capsys, "trace", "sgd", "adam", "--defaults", "--set", "adam.betas=0.8,0.9")
    assert [p["hypers"]["lr"] for p in defaults] == [0.001, 0.001]
    assert defaults[1]["hypers"]["beta2"] == 0.9
    assert defaults[0]["points"] == steprule.trace("sgd").points.tolist()


def test_train(capsys: pytest.CaptureFixture[str]) -> None:
    run = as_json(capsys, "train", "adam", "--set", "lr=0.01", "--seed", "3")
    assert run["losses"] == steprule.train("adam", seed=3, lr=0.01).losses.tolist()
    theirs = as_json(
        capsys, "train", "torch.optim.Adam", "--set", "lr=0.01", "--set", "betas=(0.9, 0.999)", "--set", "amsgrad=True"
    )
    assert theirs["optimizer"] == "torch.optim.Adam"
    assert theirs["hypers"]["betas"] == [0.9, 0.999]
    assert "loss 0.49" in printed(capsys, "train", "torch.optim:SGD", "--set", "lr=0.05")


def test_race(capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    out = printed(capsys, "race", "--trials", "0", "--seeds", "2")
    for entry in TUTORIAL:
        assert entry.label in out
    assert "0.24168796" in out
    assert "0.242541" in out
    table = pq.read_table("runs/airfoil/results.parquet")
    assert table.num_rows == 24
    assert 100_000 < Path("runs/airfoil/report.html").stat().st_size < 1_000_000
    result = as_json(capsys, "race", "--trials", "0", "--seeds", "2")
    assert (result["kept"], result["trained"]) == (24, 0)
    assert len(result["settings"]) == 12
    assert result["settings"][4]["book"] == [0.242541, 0.243675]


def test_race_of_ones_own(capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    Path("mine.py").write_text(
        "from steprule import rule\n\n\n@rule\ndef mine(p, g, *, lr=0.05):\n    return p - lr * g\n"
    )
    out = ["--trials", "0", "--seeds", "2", "--out", "out"]
    result = as_json(capsys, "race", "mine.py:mine", "sgd", "torch.optim.SGD", "--set", "sgd.lr=0.05", *out)
    mine, sgd, _ = result["settings"]
    assert mine["mean"] == sgd["mean"]
    assert "mine" in Path("out/report.html").read_text()


def test_python_m_and_the_console_script() -> None:
    script = Path(sys.executable).parent / ("steprule.exe" if sys.platform == "win32" else "steprule")
    for command in (COMMAND, [str(script)]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == f"steprule {steprule.__version__}\n"


def test_a_reader_that_goes_away() -> None:
    done = subprocess.run(
        f"{sys.executable} -m steprule rules --json | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_letters_that_a_terminal_has_not(in_folder: Path) -> None:
    """In columns and in cards, and in the line of an error."""
    source = "from steprule import rule\n\n\n" + "".join(
        f"@rule\ndef {n}(p, g, *, lr=0.1):\n    return p - lr * g\n\n\n" for n in ("优", "化")
    )
    Path("两.py").write_text(source, encoding="utf-8")
    for columns in ("80", "20"):
        env = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": columns}
        done = subprocess.run([*COMMAND, "show", "两.py"], env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert r"\u4f18" in done.stdout
        done = subprocess.run([*COMMAND, "show", "两.py:亿"], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


def test_rules_of_one_name_are_called_as_they_were_typed(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(
        "from steprule import rule\n\n@rule\ndef adam(p, g, *, lr=0.1):\n    return p - lr * g\n"
    )
    both = as_json(capsys, "trace", "mine.py:adam", "adam", "sgd")
    assert [path["rule"] for path in both] == ["mine.py:adam", "adam", "sgd"]
    assert both[0]["points"] != both[1]["points"]
    out = printed(capsys, "trace", "mine.py:adam", "adam", "--out", "both.svg")
    assert re.findall(r"^\S*adam", out, re.MULTILINE) == ["mine.py:adam", "adam"]
    assert "mine.py:adam" in Path("both.svg").read_text(encoding="utf-8")
    alone = as_json(capsys, "trace", "mine.py:adam")
    assert [path["rule"] for path in alone] == ["adam"]


def test_a_training_names_its_losses(capsys: pytest.CaptureFixture[str]) -> None:
    run = steprule.train("adam", "airfoil-linear", seed=2, lr=0.01)
    out = printed(capsys, "train", "adam", "--on", "airfoil-linear", "--seed", "2", "--set", "lr=0.01")
    said = f"validation loss {run.held_out['validation']:#.6g}, test loss {run.held_out['test']:#.6g}"
    assert out.startswith(
        f"adam on airfoil-linear: training loss {run.losses[0]:#.6g} -> {run.final_loss:#.6g}, {said}\n"
    )
    assert run.fall in run.in_words()
    record = as_json(capsys, "train", "adam", "--on", "airfoil-linear", "--seed", "2", "--set", "lr=0.01")
    assert record["held_out_losses"] == run.held_out
    assert as_json(capsys, "train", "adam")["held_out_losses"] == {}


MADE = "import torch\nfrom steprule import Problem\nmade = dict(targets=torch.ones(20, 1), model=lambda: torch.nn.Linear(2, 1))\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wave = Problem.from_arrays(torch.ones(20, 2), **made)\n", "sgd on mine"),
        ("wave = same = Problem.from_arrays(torch.ones(20, 2), **made)\n", "sgd on mine"),
        ("def wave() -> Problem:\n    return Problem.from_arrays(torch.ones(20, 2), **made)\n", "sgd on "),
        (
            "a = Problem.from_arrays(torch.ones(20, 2), **made)\nb = Problem.from_arrays(torch.ones(20, 2), **made)\n",
            "",
        ),
    ],
)
def test_the_one_problem_of_a_file(text: str, words: str, in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("wave.py").write_text(MADE + text)
    code = main(["train", "sgd", "--on", "wave.py"])
    out, err = capsys.readouterr()
    if words:
        assert code == 0, err
        assert out.startswith(words)
    else:
        assert (code, err) == (2, "steprule: wave.py: expected one problem, got a, b. Write wave.py:a.\n")
