"""Tables on terminals of every width: no number and no word is cut, and no line is wider than the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len

from steprule.cli import main
from steprule.cli.tables import table

HEADS = ("rule", "lr", "value", "against lowest", "meaning", "")
ROWS = [
    ("sgd", "0.0001", "-3.36231e+298", "[0.1211, 0.9343]", "decay of a running average", "ends above its start"),
    ("adagrad_eps_inside", "1.778e-05 best", "2.26102e+59", "open", "", ""),
    ("[red]优化器[/red]", "nan", "0.24168796", "+12.3 % real", "学习率由用户给出,其余都不做任何事情", "a\nb"),
]


def printed(capsys: pytest.CaptureFixture[str], width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    table("What [it] is", HEADS, ROWS, left=(0, 4, 5))
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [20, 25, 30, 40, 60, 80, 100, 120, 200])
def test_nothing_is_cut(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = printed(capsys, width, monkeypatch)
    assert max(map(cell_len, out.splitlines())) <= width
    assert out.startswith("What [it] is\n")
    words = out.split()
    for row in ROWS:
        for cell in row:
            for word in cell.split():
                assert word in words or not word.isascii(), (width, word)
    assert "".join(c for c in out if c in "学习率由用户给出其余都不做任何事情") == "学习率由用户给出其余都不做任何事情"
    assert ("What [it] is\nrule sgd\n" in out) is (width < 100)  # cards, or columns


@pytest.mark.parametrize("width", [0, 1, 7])
def test_a_width_that_none_has_is_taken_for_twenty(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrowest = printed(capsys, 20, monkeypatch)
    assert printed(capsys, width, monkeypatch) == narrowest


@pytest.mark.parametrize("columns", ["40", "80"])
def test_a_path_that_leaves_keeps_its_exponent(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["trace", "sgd", "adam", "--set", "sgd.lr=0.6", "--steps", "200"]) == 0
    words = capsys.readouterr().out.split()
    assert {"sgd", "adam", "-3.94007e-11", "-3.36231e+29", "2.26102e+59"} <= {*words}


@pytest.mark.parametrize(
    "command",
    [
        "rules", "problems", "show sgd", "sweep adam --points 4 --epochs 1 --no-compile",
        "race sgd adam --on airfoil-linear --epochs 1 --schedule linear --trials 2 --seeds 2 --fresh 2 --workers 1",
        "race sgd adam --trials 0 --seeds 2",
    ],
)  # fmt: skip
def test_what_a_command_says_at_200_columns_it_says_at_40(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, in_folder: Path
) -> None:
    said = []
    for columns in ("200", "40"):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(command.split()) == 0
        said.append(capsys.readouterr().out)
    wide, narrow = said
    rows = [line for line in wide.splitlines() if "  " in line.strip()]
    assert len(rows) >= 3
    assert {word for row in rows for word in row.split()} <= {*narrow.split()}
