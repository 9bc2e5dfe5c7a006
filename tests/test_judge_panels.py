"""W&B's export of one panel, a column per run: judged as the same runs in a table are, and refused in a line where it cannot be."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tolerances import ROUNDED64

from steprule import judge
from steprule.cli import main
from steprule.errors import StepruleError

STEPS, SEEDS = (0, 10, 20, 30), (0, 1, 2, 3, 4)
MEANS = {"adam": 0.5, "lion": 0.6, "sgd": 0.51}


def curves() -> dict[tuple[str, int], list[float]]:
    """By method and seed the losses at `STEPS`."""
    rng = np.random.default_rng(0)
    return {
        (m, s): [mean + 1 / (1 + t) + 0.01 * rng.standard_normal() for t in STEPS]
        for m, mean in MEANS.items()
        for s in SEEDS
    }


def panel(
    path: Path, name: str = "{m}-{s}", metric: str = "val/loss", axis: str = "Step", *, more: tuple[str, ...] = ()
) -> Path:
    """As W&B writes it: every field quoted, a minimum and a maximum beside each, empty where a run logged nothing at that step."""
    columns: dict[str, Any] = {axis: [*STEPS, 31]}
    for k, ((m, s), losses) in enumerate(curves().items()):
        for own in (metric, *more):
            values = [*losses, None] if k % 2 == 0 else [*losses[:-1], None, losses[-1]]
            head = f"{name.format(m=m, s=s)} - {own}"
            columns |= {head: values, f"{head}__MIN": values, f"{head}__MAX": values}
    pd.DataFrame(columns).to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    return path


def as_rows() -> dict[str, list[Any]]:
    """The same with a row per run."""
    own = curves()
    return {"method": [m for m, _ in own], "seed": [s for _, s in own], "val/loss": [v[-1] for v in own.values()]}


def told(judgement: Any) -> list[tuple[Any, ...]]:
    return [(p.a, p.b, p.difference, p.low, p.high, p.verdict) for p in judgement.pairs]


@pytest.mark.parametrize(
    "name",
    ["{m}-{s}", "{m}_seed{s}", "{m} (seed={s})", "{m}/seed_{s}", "{m}.s{s}", "{m}{s}", "{m} run {s}", "x - {m}-{s}"],
)
def test_a_panel_is_judged_as_its_runs_are(tmp_path: Path, name: str) -> None:
    found, rows = judge(panel(tmp_path / "panel.csv", name)), judge(as_rows())
    before = name.split("{m}")[0]
    assert [tuple(str(v).removeprefix(before) for v in pair[:2]) for pair in told(found)] == [
        pair[:2] for pair in told(rows)
    ]
    assert [pair[2:] for pair in told(found)] == [pair[2:] for pair in told(rows)]
    assert found.columns["seed"] == "seed"


def test_steps_to_a_target_by_a_panel(tmp_path: Path) -> None:
    found = judge(panel(tmp_path / "panel.csv"), by="steps", target=0.56)
    at = {s.method: s.value for s in found.comparisons[0].standings}
    assert at["adam"] == pytest.approx(20.0, rel=ROUNDED64)  # a mean of logarithms
    assert not np.isfinite(at["lion"])


def test_of_several_metrics_one_is_named(tmp_path: Path) -> None:
    path = panel(tmp_path / "panel.csv", more=("train/loss",))
    with pytest.raises(StepruleError, match="expected one column of losses, got val/loss, train/loss"):
        judge(path)
    assert told(judge(path, loss="train/loss")) == told(judge(as_rows()))
    with pytest.raises(StepruleError, match=r"unknown metric of .*got 'tran/loss'\. Did you mean 'train/loss'"):
        judge(path, loss="tran/loss")


def test_names_that_say_no_method_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "panel.csv"
    names = ("crisp-river-12", "sunny-dawn-7", "dry-moon-3")
    pd.DataFrame({"Step": [0], **{f"{n} - loss": [0.5] for n in names}}).to_csv(path, index=False)
    assert main(["judge", str(path)]) == 2
    said = capsys.readouterr().err
    assert (
        "expected runs named by method and seed, as adam-0 and adam-1, got crisp-river-12, sunny-dawn-7, dry-moon-3"
        in said
    )
    assert "export the table of runs" in said


def test_a_table_of_runs_is_no_panel(tmp_path: Path) -> None:
    """A column with a dash in its name, among others, stays what it is."""
    rows = {**as_rows(), "note - of mine": ["x"] * 15}
    assert told(judge(rows)) == told(judge(as_rows()))


def test_a_run_that_diverged_in_a_panel(tmp_path: Path) -> None:
    path = panel(tmp_path / "panel.csv")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for end in ("", "__MIN", "__MAX"):
        table.loc[3, f"sgd-0 - val/loss{end}"] = "NaN"
        table.loc[4, f"sgd-0 - val/loss{end}"] = "NaN"
    table.to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    (sgd,) = (s for s in judge(path).comparisons[0].standings if s.method == "sgd")
    assert (sgd.runs, sgd.gone) == (5, 1)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (("1", "1", "2", "2"), None),  # whole numbers beside others
        (("nan", "1", "2", "2"), None),
        (("Infinity", "1", "2", "2"), None),
        (("abc", "1", "2", "2"), "column 'a-0 - loss': expected numbers, got 'abc' in line 3"),
        (("", "1", "2", "2"), "expected a loss of each run, got none of a-0"),
        (("True", "1", "2", "2"), "expected numbers, got 'True' in line 3"),
    ],
)
def test_cells_of_every_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cells: tuple[str, ...], said: str | None
) -> None:
    """One line for each that is no number, and never an error of the library that holds the columns."""
    path = tmp_path / "panel.csv"
    path.write_text(f"Step,a-0 - loss,a-1 - loss,b-0 - loss,b-1 - loss\n0,,0.5,1.5,\n1,{','.join(cells)}\n")
    code = main(["judge", str(path), "--out", str(tmp_path / "report.html")])
    if said is None:
        assert code == 0
    else:
        assert code == 2
        assert said in capsys.readouterr().err
