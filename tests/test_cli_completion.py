"""What a shell offers at TAB: asked as bash, zsh and fish ask, and by the shells themselves where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from steprule import rules
from steprule.cli import main

MINE = (
    "from steprule import rule\nfrom steprule.hyper import Rate\nprint('a file that talks')\n\n\n"
    "@rule\ndef one(p, g, *, lr: Rate = 0.1, fast=False):\n    '''The first.'''\n    return p - lr * g\n\n\n"
    "@rule\ndef two(p, g, *, lr: Rate = 0.1):\n    '''只沿着负梯度方向走一步，学习率由用户给出，其余都不做任何事情，真的没有别的，一点也没有。'''\n    return p - lr * g\n"
)
OFFERED = {
    "": ["rules", "problems", "surfaces", "show", "trace"],
    "adm ": ["rules"],
    "show ada": [name for name in rules.names() if name.startswith("ada")],
    "show mine.py:": ["mine.py:one", "mine.py:two"],
    "show adam --as ": ["text", "latex", "python", "javascript", "numba", "triton"],
    "show adam --as l": ["latex"],
    "show adam --set b": ["beta1=", "beta2="],
    "show adam --set beta1=": ["beta1=0.9"],
    "show adam --set ams": ["amsgrad=False", "amsgrad=True"],
    "show mine.py:one --set f": ["fast=False", "fast=True"],
    "trace sgd adam --surface ros": ["rosenbrock"],
    "trace sgd adam --set mom": ["momentum="],
    "trace sgd adam --set adam.b": ["adam.beta1=", "adam.beta2="],
    "sweep adam --vary ": ["lr", "beta1", "beta2", "eps", "weight_decay", "clip_norm"],
    "sweep torch.optim.SGD --vary mom": ["momentum="],
    "race sgd lion --vary lion.b": ["lion.beta1", "lion.beta2"],
    "race adam --on dig": ["digits-softmax", "digits-mlp", "digits-cnn"],
    "train adam --on air": ["airfoil", "airfoil-linear", "airfoil-mlp"],
    "train adam --schedule c": ["constant", "cosine"],
    "train torch.optim.AdamW --set am": ["amsgrad="],
    "train torch.optim.Ada": ["torch.optim.Adafactor", "torch.optim.Adadelta", "torch.optim.Adagrad"],
    "race --engine ": ["local", "ray"],
    "ablate adam --part ": ["lr=", "beta1", "beta2", "eps=", "amsgrad", "weight_decay"],
    "ablate mine.py:one --part f": ["fast"],
    "ablate adam --set ams": ["amsgrad=False", "amsgrad=True"],
    "check mine.py:one --against adamw": ["adamw"],
    "play --rule lio": ["lion"],
    "bench --peer torch.optim.SG": ["torch.optim.SGD"],
}
NOTHING = ["show nowhere.py:", "show nowhere.py:x --set ", "sweep adma --vary ", "race --set ", "show broken.py:"]


def offered(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """As fish asks: one text a line, and behind a tab a word on it."""
    monkeypatch.setenv("_STEPRULE_COMPLETE", "complete_fish")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", f"steprule {line}")
    with pytest.raises(SystemExit):
        main([])
    out, err = capsys.readouterr()
    assert err == ""
    return [text.partition("\t")[0] for text in out.splitlines() if text]


@pytest.mark.parametrize("line", OFFERED)
def test_what_can_follow(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], in_folder: Path
) -> None:
    Path("mine.py").write_text(MINE, encoding="utf-8")
    assert offered(line, monkeypatch, capsys)[: len(OFFERED[line])] == OFFERED[line]


@pytest.mark.parametrize("line", NOTHING)
def test_what_is_wrong_so_far_offers_nothing(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], in_folder: Path
) -> None:
    Path("broken.py").write_text("from steprule import rule\nthis is no Python\n")
    assert offered(line, monkeypatch, capsys) == []


ASKING = {
    "bash": """source {script}; COMP_WORDS=(steprule show mine.py : one --set f); COMP_CWORD=6
        _steprule_completion steprule; printf '%s\\n' "${{COMPREPLY[@]}}" """,
    "zsh": """compdef() {{ }}; _arguments() {{ print -r -- "$@" }}; source {script}
        words=(steprule show mine.py:one --set f); CURRENT=5; _steprule_completion""",
    "fish": "source {script}; complete -C 'steprule show mine.py:one --set f'",
}


@pytest.mark.parametrize("shell", ASKING)
def test_the_shells_themselves(shell: str, in_folder: Path) -> None:
    """Each by its own script; bash takes words apart at `:` and `=`."""
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not installed")
    Path("mine.py").write_text(MINE, encoding="utf-8")
    folder = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(in_folder)}
    script = subprocess.run(
        ["steprule"], env={**env, "_STEPRULE_COMPLETE": f"source_{shell}"}, capture_output=True, text=True, check=True
    )
    Path("script").write_text(script.stdout)
    done = subprocess.run(
        [program, "-c", ASKING[shell].format(script="./script")], env=env, capture_output=True, text=True, check=False
    )
    assert "fast=False" in done.stdout, done
    assert "fast=True" in done.stdout
    assert "talks" not in done.stdout


def test_names_wait_for_nothing_heavy() -> None:
    code = (
        "import sys; from steprule.cli import completion as c; assert c.problem_names('d') and c.surface_names('r'); "
        "sys.exit(bool({'torch', 'scipy', 'matplotlib'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
