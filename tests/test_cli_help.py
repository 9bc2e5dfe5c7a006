"""What a stranger reads first: `steprule` alone, help with examples that work, lists, a file's rules, a word that is no command."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tolerances import FORMULA
from typer.main import get_command

from steprule.cli import main
from steprule.cli.app import COMMANDS, FIRST, app
from steprule.problems import catalogue
from steprule.surfaces import catalogue as surfaces

NAMES = [command.__name__ for command in COMMANDS]
QUICK = ("rules", "problems", "surfaces", "show", "trace", "judge")
MINE = (
    "from steprule import rule\nfrom steprule.rules import adam\n\n\n"
    "@rule\ndef mine(p, g, *, lr=0.1):\n    '''The first.'''\n    return p - lr * g\n\n\n"
    "@rule\ndef other(p, g, speed, *, lr=0.1):\n    '''The second.'''\n    speed = speed + g\n    return p - lr * speed, speed\n\n\nalias = other\n"
)


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(list(args)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_alone_it_shows_three_examples_and_every_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = printed(capsys)
    assert len(FIRST) == 3
    for example in FIRST:
        assert f"\n  {example}\n" in out
    assert len(out.splitlines()) <= 24  # a terminal's height
    assert max(map(len, out.splitlines())) <= 80
    listed = printed(capsys, "--help")
    for command in COMMANDS:
        first = str(command.__doc__).splitlines()[0]
        assert f"  {command.__name__:10s}{first}\n" in out
        assert f"  {command.__name__:10s}{first}\n" in listed


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_help_has_an_example_and_ends_nowhere_in_its_middle(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in ("44", "80"):
        monkeypatch.setenv("COLUMNS", columns)
        out = printed(capsys, command.__name__, "--help")
        assert out.endswith(f"  Example:\n    {COMMANDS[command]}\n")
        example = f"    {COMMANDS[command]}"
        assert all(len(line) <= int(columns) for line in out.splitlines() if line != example)
        assert "..." not in out.replace("RULE]...", "").replace("RULE}...", "").replace("DIR...", "")
        assert "[[" not in out
        said = " ".join(str(command.__doc__).split())
        assert said in " ".join(out.split())


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_a_command(name: str) -> None:
    """Every option that it names is there, and takes what is given."""
    program, *words = shlex.split(COMMANDS[next(c for c in COMMANDS if c.__name__ == name)])
    assert (program, words[0]) == ("steprule", name)
    found = get_command(app)
    _, command, rest = found.resolve_command(found.make_context("steprule", words), words)  # type: ignore[attr-defined]
    command.make_context(name, rest)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in NAMES if n != "play"]
)
def test_an_example_runs(name: str, capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    """But for the page that a browser opens; a race and an ablation say what they would take."""
    words = shlex.split(COMMANDS[next(c for c in COMMANDS if c.__name__ == name)])[1:]
    Path("results.csv").write_text("method,val_loss\na,1\na,1.1\nb,2\nb,2.1\n", encoding="utf-8")  # what `judge` judges
    assert main([*words, *(["--dry-run"] if name in ("race", "ablate") else [])]) == 0
    out = capsys.readouterr().out
    assert out
    for file in re.findall(r"--out (\S+)", " ".join(words)):
        assert Path(file).stat().st_size > 1_000


def test_problems_and_surfaces_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    listed, records = printed(capsys, "problems"), json.loads(printed(capsys, "problems", "--json"))
    assert [r["name"] for r in records] == [n for n in catalogue.names() if n not in surfaces.names()]
    for record in records:
        assert re.search(rf"^{record['name']} +{record['samples']['train']} ", listed, re.MULTILINE)
        found = catalogue.get(record["name"])
        assert found.summary == record["summary"]
        assert {part: data.samples for part, data in found.parts.items()} == record["samples"]
        assert (found.batch_size, found.epochs) == (record["batch_size"], record["epochs"])
    listed, records = printed(capsys, "surfaces"), json.loads(printed(capsys, "surfaces", "--json"))
    assert [r["name"] for r in records] == list(surfaces.names())
    point = [0.7, -1.3]
    for record in records:
        assert re.search(rf"^{record['name']} ", listed, re.MULTILINE)
        typed = surfaces.get(record["formula"])  # what is shown can be typed
        assert typed.value(point) == pytest.approx(surfaces.get(record["name"]).value(point), rel=FORMULA)


def test_a_files_rules(capsys: pytest.CaptureFixture[str], in_folder: Path) -> None:
    """Several are listed, under the names by which they are found; one is shown. What the file imports is not its own."""
    Path("mine.py").write_text(MINE)
    out = printed(capsys, "show", "mine.py")
    assert re.search(r"^mine.py:mine +- +lr=0.1 +The first\.", out, re.MULTILINE)
    assert re.search(r"^mine.py:other +speed +lr=0.1 +The second\.", out, re.MULTILINE)
    assert "alias" not in out
    assert "adam" not in out
    assert "steprule show mine.py:mine" in out
    assert [r["name"] for r in json.loads(printed(capsys, "show", "mine.py", "--json"))] == ["mine", "other"]
    assert "speed = speed + g" in printed(capsys, "show", "mine.py:other")
    Path("two.py").write_text(MINE)
    assert main(["trace", "two.py"]) == 2
    assert "expected a rule two, or one rule, got mine, other. Write two.py:mine." in capsys.readouterr().err
    Path("one.py").write_text(
        "from steprule import rule\n\n\n@rule\ndef single(p, g, *, lr=0.1):\n    return p - lr * g\n"
    )
    assert "p = p - lr * g" in printed(capsys, "show", "one.py")


def test_closed_streams() -> None:
    """`>&-` is said in a line; `2>&-` disturbs nobody."""
    if sys.platform == "win32":
        pytest.skip("a shell that closes")
    run = f"{shlex.quote(sys.executable)} -m steprule"
    done = subprocess.run(f"{run} rules >&-", shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "steprule: output: standard output is closed\n")
    assert subprocess.run(f"{run} rules 2>&-", shell=True, capture_output=True, check=False).returncode == 0
    assert subprocess.run(f"{run} adm 2>&-", shell=True, capture_output=True, check=False).returncode == 2
