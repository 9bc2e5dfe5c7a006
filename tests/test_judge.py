"""`judge`: every kind of table, the columns it guesses, what it refuses, and what comes out."""

from __future__ import annotations

import csv
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pretended import pretended
from tolerances import JUDGED_AGAIN, JUDGED_MEAN, JUDGED_PERCENT

import steprule
from steprule.cli import main
from steprule.errors import InputError, InputTypeError, StepruleError
from steprule.races.judging import Judgement, judge

MEANS = {"adam": 0.5, "lion": 0.502, "sgd": 0.6}


def results(problems: tuple[str, ...] = ("airfoil", "digits"), seeds: int = 6, noise: float = 0.01) -> pd.DataFrame:
    """A row per run; adam is lowest, lion next to it, sgd far above."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "optimizer": name,
            "dataset": problem,
            "seed": seed,
            "val_loss": mean * math.exp(noise * rng.standard_normal()),
        }
        for problem in problems
        for name, mean in MEANS.items()
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def verdicts(found: Judgement) -> list[tuple[str, str, str, str]]:
    return [(p.problem, p.a, p.b, p.verdict) for p in found.pairs]


def same(a: Judgement, b: Judgement) -> bool:
    return [p.to_dict() for p in a.pairs] == [p.to_dict() for p in b.pairs]


@pytest.fixture(scope="module")
def found() -> Judgement:
    return judge(results())


def test_the_verdict(found: Judgement) -> None:
    assert len(found.pairs) == 6
    assert {(p.a, p.b): p.verdict for p in found.comparison("airfoil").pairs}["adam", "sgd"] == "real"
    assert all(p.how == "paired" for p in found.pairs)
    assert dict(found.columns) == {"method": "optimizer", "loss": "val_loss", "problem": "dataset", "seed": "seed"}
    words = str(found)
    assert re.search(r"airfoil: (adam|lion) has the lowest val_loss, 0\.\d+ \[0\.\d+, 0\.\d+\]\.", words)
    assert re.search(r"Really above it: sgd \+\d\d\.\d % \[\+", words)
    assert "A lower val_loss is better." in words
    assert isinstance(found, steprule.Judgement)
    assert steprule.judge is judge


WRITERS: dict[str, Any] = {
    "results.csv": lambda table, path: table.to_csv(path, index=False),
    "semicolons.csv": lambda table, path: table.to_csv(path, index=False, sep=";"),
    "results.tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "results.parquet": lambda table, path: table.to_parquet(path, index=False),
    "results.jsonl": lambda table, path: table.to_json(path, orient="records", lines=True, double_precision=15),
    "results.json": lambda table, path: table.to_json(path, orient="records", double_precision=15),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_says_the_same(name: str, found: Judgement, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](results(), path)
    read = judge(path)
    assert verdicts(read) == verdicts(found)
    assert [p.difference for p in read.pairs] == pytest.approx([p.difference for p in found.pairs], rel=JUDGED_PERCENT)


@pytest.mark.parametrize("turn", [
    pa.Table.from_pandas, lambda t: t.to_dict("records"), lambda t: t.to_dict("list"), lambda t: t.sample(frac=1, random_state=0),
])  # fmt: skip
def test_every_table_in_memory_says_the_same(turn: Any, found: Judgement) -> None:
    assert sorted(verdicts(judge(turn(results())))) == sorted(verdicts(found))


def test_a_races_own_results_give_its_verdicts(tmp_path: Path) -> None:
    """Of ratios and of a loss below 0; of the race in memory and of its file."""
    rng = np.random.default_rng(1)
    for shift, initial in ((0.0, 2.0), (-5.0, -2.0)):
        means = {"a": 0.5, "b": 0.51, "c": 0.9, "d": 3.0}
        race = pretended(
            {n: shift + m * np.exp(0.02 * rng.standard_normal((4, 6))) for n, m in means.items()}, initial=initial
        )
        (cell,) = race.cells
        (own,) = judge(race).comparisons
        assert [s.label for s in cell.standings] == [s.method for s in own.standings]
        for pair in cell.pairs:
            judged = own.pair(pair.first, pair.second)
            assert (judged.verdict, judged.p_same) == (pair.verdict(), pair.p_same)
            assert judged.p_real == pytest.approx(pair.p_real, rel=JUDGED_AGAIN)
            assert (judged.difference, judged.low, judged.high) == pytest.approx(pair.percent, rel=JUDGED_PERCENT)
        for s, t in zip(cell.standings, own.standings, strict=True):
            assert (t.value, t.low, t.high) == pytest.approx((s.loss, s.low, s.high), rel=JUDGED_AGAIN)


def test_a_races_file_gives_its_verdicts(tmp_path: Path) -> None:
    small: dict[str, Any] = {"epochs": 1, "compile": False, "schedules": "linear"}
    race = steprule.race(["sgd", "adam", "rmsprop"], "airfoil-linear", 2, 3, fresh=3, out=tmp_path / "race", **small)
    of_file = judge(tmp_path / "race" / "results.parquet")
    assert same(of_file, judge(race))
    assert {(p.a, p.b): (p.verdict, p.p_real) for p in of_file.pairs} == {
        (p.first, p.second): (p.verdict(), p.p_real) for p in race.cells[0].pairs
    }
    assert "a jackknife's over the batches of all its trials" in of_file.methods()
    assert "jackknife" not in judge(race, noise=0.1).methods()
    for some in (
        [("role", "=", "winner")],
        [("trial", "<", 1)],
        [("phase", "=", "confirm")],
    ):  # rows left out: the groups tell
        part = judge(pq.read_table(tmp_path / "race" / "results.parquet", filters=some))
        assert {p.how for p in part.pairs} == {"tuning groups"}
        assert "jackknife" not in part.methods()
    given = judge(steprule.race(["sgd", "adam"], "airfoil-linear", trials=0, seeds=3, **small))
    assert [p.how for p in given.pairs] == ["paired"]
    assert given.measure == "training loss"


def test_of_studies_winners_the_studies_tell_the_luck(tmp_path: Path) -> None:
    """Of an ablation, and of a race before every trial counted: there each study trains its own winner on all fresh seeds."""
    small: dict[str, Any] = {"trials": 16, "seeds": 3, "fresh": 3, "epochs": 1, "compile": False, "workers": 1}
    race = steprule.ablate("sgd", "airfoil-linear", ["momentum"], out=tmp_path / "out", **small).race
    of_file = judge(tmp_path / "out" / "results.parquet")
    assert same(of_file, judge(race))
    assert "jackknife" not in of_file.methods()
    (pair,), (judged,) = race.cells[0].pairs, of_file.pairs
    assert (judged.difference, judged.low, judged.high) == pytest.approx(pair.percent, rel=JUDGED_PERCENT)


def wandb(folder: Path) -> Path:
    """As W&B exports a table of runs: every field quoted, a config column, `_step`, and runs that did not finish."""
    path = folder / "wandb_export.csv"
    rows = []
    for k, row in enumerate(results(("x",)).to_dict("records")):
        rows.append({"Name": f"sunny-dawn-{k}", "State": "finished", "Notes": "-", "Created": "2026-11-01T10:00:00.000Z", "Runtime": 60 + k,
                     "optimizer": row["optimizer"], "seed": row["seed"], "lr": 0.1, "loss_fn": "mse", "_step": 99,
                     "train/loss": 0.1 + k, "val/loss": row["val_loss"]})  # fmt: skip
    rows.append({**rows[0], "Name": "left-1", "State": "crashed", "seed": 90, "val/loss": ""})
    rows.append({**rows[0], "Name": "left-2", "State": "running", "seed": 91})
    rows.append({**rows[0], "Name": "gone", "State": "failed", "optimizer": "sgd", "seed": 92, "val/loss": "NaN"})
    pd.DataFrame(rows).to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    return path


def test_an_export_of_wandb(tmp_path: Path) -> None:
    path = wandb(tmp_path)
    with pytest.raises(
        InputError, match=r"expected one column of losses, got train/loss, val/loss\. Name one: --loss train/loss"
    ):
        judge(path)
    own = judge(path, loss="val/loss")
    assert own.columns["method"] == "optimizer"
    assert "Left out, because they did not finish: 2 runs (adam 2)." in own.notes
    sgd = next(s for s in own.comparisons[0].standings if s.method == "sgd")
    assert (sgd.runs, sgd.gone) == (7, 1)
    assert "Diverged: sgd in 1 of 7 runs." in str(own)


def test_an_export_of_mlflow(tmp_path: Path) -> None:
    table = results(("x",))
    out = pd.DataFrame({
        "run_id": [f"{k:032x}" for k in range(len(table))], "experiment_id": 1, "status": "FINISHED", "start_time": "2026-11-01",
        "metrics.val_loss": table["val_loss"], "params.optimizer": table["optimizer"], "params.seed": table["seed"].astype(str),
        "params.lr": "0.1", "tags.mlflow.user": "me",
    })  # fmt: skip
    out.to_csv(tmp_path / "runs.csv", index=False)
    own = judge(tmp_path / "runs.csv")
    assert dict(own.columns)["method"] == "params.optimizer"
    assert [p.difference for p in own.pairs] == [p.difference for p in judge(table.drop(columns="dataset")).pairs]


def curves(lengths: dict[str, int] | None = None) -> pd.DataFrame:
    """A row per step: a falls below 0.1 at steps 24 to 28, b at 47 to 51, c never does."""
    return pd.DataFrame([
        {"method": name, "seed": seed, "step": step, "seconds": step * (2.0 if name == "a" else 1.0),
         "loss": math.exp(-rate * max(0, step - seed))}
        for name, rate in {"a": 0.1, "b": 0.05, "c": 0.01}.items()
        for seed in range(5)
        for step in range(1, (lengths or {}).get(name, 60) + 1)
    ])  # fmt: skip


def test_curves_are_judged_at_their_end_or_by_when_they_reach_a_target(tmp_path: Path) -> None:
    table = curves().sample(frac=1, random_state=0)
    ends = judge(table)
    assert ends.runs == 15
    assert [s.method for s in ends.comparison().standings] == ["a", "b", "c"]
    steps = judge(table, by="steps", target=0.1)
    assert steps.measure == "steps until loss ≤ 0.1"
    found = {s.method: sorted(s.values.tolist()) for s in steps.comparison().standings}
    assert found["a"] == pytest.approx([24, 25, 26, 27, 28], rel=JUDGED_AGAIN)
    assert found["b"] == pytest.approx([47, 48, 49, 50, 51], rel=JUDGED_AGAIN)
    assert found["c"] == [math.inf] * 5
    assert "Missed the target: c in 5 of 5 runs." in str(steps)
    assert steps.comparison().pair("a", "c").verdict == "real"
    seconds = judge(table, by="seconds", target=0.1)
    assert min(next(s for s in seconds.comparison().standings if s.method == "a").values) == pytest.approx(
        48, rel=JUDGED_AGAIN
    )
    short = judge(curves({"c": 40}), by="steps", target=0.1)
    assert {s.method: s.gone for s in short.comparison().standings} == {"a": 0, "b": 5, "c": 5}
    assert "Runs are watched for 40 steps" in str(short)
    lists = table.sort_values("step").groupby(["method", "seed"])["loss"].apply(list).reset_index()
    lists.to_parquet(tmp_path / "curves.parquet")
    assert verdicts(judge(tmp_path / "curves.parquet", by="steps", target=0.1)) == verdicts(steps)
    assert verdicts(judge(tmp_path / "curves.parquet")) == verdicts(ends)


def test_higher_is_better_by_name_or_as_said() -> None:
    table = results(("x",)).rename(columns={"val_loss": "test_acc"})
    own = judge(table)
    assert own.comparison().standings[0].method == "sgd"
    assert own.comparison().pair("sgd", "adam").difference < 0
    assert own.comparison().pair("sgd", "adam").high < 0
    assert "A higher test_acc is better." in str(own)
    assert judge(table, higher=False).comparison().standings[0].method != "sgd"


def test_values_of_no_ratio_and_a_margin_in_their_own_units() -> None:
    table = results(("x",), noise=0.001)
    table["val_loss"] -= 0.55
    own = judge(table)
    assert own.comparison().yardstick.scale is None
    assert {p.verdict for p in own.pairs} <= {"real", "open"}
    assert "No difference that matters is stated" in str(own)
    margin = judge(table, margin=0.01)
    assert margin.comparison().pair("adam", "lion").verdict == "same"
    assert margin.comparison().pair("adam", "sgd").difference == pytest.approx(0.1, rel=JUDGED_MEAN)


def test_pairing() -> None:
    rng = np.random.default_rng(3)
    common = np.repeat(0.2 * rng.standard_normal(8), 2)
    table = pd.DataFrame({"method": ["a", "b"] * 8, "seed": np.repeat(range(8), 2),
                          "loss": np.exp(common + np.tile([0, 0.05], 8) + 0.005 * rng.standard_normal(16))})  # fmt: skip
    assert judge(table).pairs[0].verdict == "real"
    apart = judge(table, paired=False).pairs[0]
    assert (apart.verdict, apart.how) == ("open", "unpaired")
    fewer = table[1:]
    assert judge(fewer).pairs[0].how == "unpaired"
    with pytest.raises(InputError, match=r"--paired: expected the same seeds for every method, got .* lacks seed 0"):
        judge(fewer, paired=True)
    with pytest.raises(InputError, match="expected a column of seeds, got none"):
        judge(table.drop(columns="seed"), paired=True)


def test_over_problems() -> None:
    own = judge(results(tuple("abcdefgh"))).overall
    assert own is not None
    assert list(own.ranks)[-1] == "sgd"
    assert own.ranks["sgd"] == 3
    assert own.p_any is not None
    assert own.p_any < 0.05
    assert {pair for pair, p in own.p_pairs.items() if p < 0.05} >= {("adam", "sgd"), ("lion", "sgd")}
    assert judge(results(("x",))).overall is None
    assert judge(results(tuple("abc"))).overall.p_pairs == {}  # type: ignore[union-attr]


def test_what_comes_out(found: Judgement, tmp_path: Path) -> None:
    for name in ("r.html", "r.svg", "r.png", "r.pdf", "r.md", "r.csv", "r.tex", "r.json"):
        assert found.save(tmp_path / name).stat().st_size > 200
    record = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert list(record["pairs"][0])[:7] == ["a", "b", "difference", "low", "high", "verdict", "runs_needed"]
    lines = list(csv.DictReader((tmp_path / "r.csv").read_text(encoding="utf-8").splitlines()))
    assert [line["verdict"] for line in lines] == [p.verdict for p in found.pairs]
    text = (tmp_path / "r.tex").read_text(encoding="utf-8")
    assert text.count(r"\textbf") == sum(len(c.level_with_best) for c in found.comparisons)
    table = [line for line in (tmp_path / "r.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert "http" not in re.sub(r"http://www\.w3\.org/\S+", "", page)
    with pytest.raises(InputError, match="expected a file that ends in"):
        found.save(tmp_path / "r.docx")
    assert "<img" in str(found._repr_html_())


def test_a_users_names_are_text_on_the_page_and_in_tables(tmp_path: Path) -> None:
    table = results(("x",)).replace({"optimizer": {"sgd": "<b>$x_1$ & 50%|\\</b>"}})
    own = judge(table)
    page = own.save(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<b>$x" not in page
    assert "&lt;b&gt;" in page
    assert r"\$x\_1\$ \& 50\%" in own.latex()
    assert r"50%\|" in own.markdown()


def test_a_thousand_runs_of_fifty_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(4)
    table = pd.DataFrame({"method": np.repeat([f"m{k:02d}" for k in range(50)], 20), "seed": np.tile(range(20), 50),
                          "loss": np.exp(np.repeat(0.05 * rng.standard_normal(50), 20) + 0.05 * rng.standard_normal(1000))})  # fmt: skip
    table.loc[::97, "loss"] = np.inf
    table.to_csv(tmp_path / "r.csv", index=False)
    start = time.perf_counter()
    assert main(["judge", str(tmp_path / "r.csv"), "--json"]) == 0
    assert time.perf_counter() - start < 5
    assert len(json.loads(capsys.readouterr().out)["pairs"]) == 1225


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], found: Judgement) -> None:
    path = tmp_path / "results.csv"
    results().to_csv(path, index=False)
    assert main(["judge", str(path), "--out", str(tmp_path / "a.html"), "--out", str(tmp_path / "a.png")]) == 0
    out = capsys.readouterr().out
    assert "airfoil" in out
    assert f"Written: {tmp_path / 'a.png'}" in out
    assert main(["judge", str(path), "--json", "--matters", "0.5"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {p["verdict"] for p in record["pairs"]} == {"same"}
    assert main(["judge", str(path), "--json", "--unpaired", "--noise", "0.01"]) == 0
    assert {p["by"] for p in json.loads(capsys.readouterr().out)["pairs"]} == {"known noise"}


FILES: dict[str, tuple[str, str, list[str], str]] = {
    "nothing there": ("a.csv", "", [], "expected a table, got an empty file"),
    "a header alone": ("a.csv", "method,loss\n", [], "expected a row or more, got a header alone"),
    "no method": ("a.csv", "x,loss\n1,2\n2,3\n", [], "expected a column method, optimizer or algorithm, got x, loss. Name the column of the methods: --method COLUMN."),
    "no loss": ("a.csv", "method,lr\na,2\nb,3\n", [], "expected a column of numbers named loss, error or accuracy, got method, lr. Name it: --loss COLUMN."),
    "a column that is not there": ("a.csv", "method,loss\na,2\nb,3\n", ["--seed", "sed"], "unknown column of"),
    "text among numbers": ("a.csv", "method,loss\n" + "a,2\n" * 10 + "b,x3\n", [], "expected a number, as in other rows, got 'x3' in line 12"),
    "text for numbers": ("a.csv", "method,loss\na,low\nb,high\n", ["--loss", "loss"], "expected numbers, got 'low' in line 2"),
    "no number": ("a.csv", "method,loss\na,2\na,\nb,3\nb,3.1\n", [], "expected a number in every row, got none in line 3. Write nan or inf for a run that diverged, or drop the row."),
    "no name": ("a.csv", "method,loss\na,2\n,1\nb,3\nb,3.1\n", [], "column 'method': expected a value in every row, got none in line 3"),
    "one method": ("a.csv", "method,loss\na,2\na,1\n", [], "methods: expected two or more, got 'a' alone. The methods are those of column 'method'"),
    "one run each": ("a.csv", "method,loss\na,2\nb,1\n", [], "runs: expected two or more of a method, got one of each. Run each with more seeds, or give the noise of one run with --noise."),
    "a seed twice": ("a.csv", "method,seed,loss\na,0,2\na,0,2.1\nb,0,1\nb,1,1\n", [], "expected each seed once per method and problem, got method a, seed 0 in line 2 and line 3"),
    "cut off": ("a.jsonl", '{"method": "a", "loss": 1}\n{"method": "b", "lo', [], "expected an object per line, got line 2"),
    "no objects": ("a.jsonl", "1\n2\n", [], "expected an object per line, got a int in line 1"),
    "no Parquet": ("a.parquet", "method,loss\n", [], "expected a Parquet file"),
    "another kind": ("a.xlsx", "x", [], "expected a file that ends in .csv"),
    "several losses": ("a.csv", "method,val_loss,test_acc\na,2,1\nb,3,1\n", [], "expected one column of losses, got val_loss, test_acc. Name one: --loss val_loss."),
    "no curves": ("a.csv", "method,loss\na,2\na,1\nb,3\nb,4\n", ["--by", "steps", "--target", "1"], "expected curves, to find when they reach a target, got one loss per run"),
    "another way": ("a.csv", "method,loss\na,2\na,1\nb,3\nb,4\n", ["--by", "epochs"], "by: expected one of final, steps, seconds, got 'epochs'"),
    "a negative noise": ("a.csv", "method,loss\na,2\na,1\nb,3\nb,4\n", ["--noise", "-1"], "noise: expected a number, 0 or more, got -1.0"),
    "another output": ("a.csv", "method,loss\na,2\na,1\nb,3\nb,4\n", ["--out", "a.docx"], "--out: expected a file that ends in .html"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES.values(), ids=FILES)
def test_bad_input_is_one_line(
    case: tuple[str, str, list[str], str], in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, text, options, words = case
    Path(name).write_text(text, encoding="utf-8")
    code = main(["judge", name, *options])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_a_folder_and_a_file_that_is_not_there(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").mkdir()
    assert main(["judge", "runs"]) == 2
    assert "runs: expected a file, got a folder\n" in capsys.readouterr().err
    Path("runs/results.parquet").touch()
    assert main(["judge", "runs"]) == 2
    assert "got a folder. Name the file: runs/results.parquet." in capsys.readouterr().err
    assert main(["judge", "none.csv"]) == 2
    assert "none.csv: expected a file, got nothing there" in capsys.readouterr().err


def test_a_file_that_is_cut_off(in_folder: Path) -> None:
    results().to_parquet("r.parquet")
    whole = Path("r.parquet").read_bytes()
    Path("r.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StepruleError, match=r"expected a Parquet file, got .* Is it cut off"):
        judge("r.parquet")


def test_things_that_are_no_results() -> None:
    with pytest.raises(InputTypeError, match="expected a file, a table"):
        judge(3)
    with pytest.raises(StepruleError, match=r"unknown argument of judge: .*Did you mean 'method'"):
        judge(results(), metod="optimizer")  # type: ignore[call-arg]
    with pytest.raises(InputError, match="expected columns of one length, got 1, 2"):
        judge({"method": ["a", "b"], "loss": [1.0]})


def test_equal_bits_tell_no_luck() -> None:
    """Runs that do not differ at all: their seeds may do nothing, so nothing is real until the noise is said to be 0."""
    table = {"method": ["a"] * 3 + ["b"] * 3, "loss": [1.0] * 3 + [1.5] * 3}
    assert judge(table).pairs[0].verdict == "open"
    assert "All runs are equal to the bit of: a and b." in str(judge(table))
    assert judge(table, noise=0.0).pairs[0].verdict == "real"
