"""Problems from what people have: arrays, tables, files. Beside a plain torch loop, in train, sweep and race; and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sized import sized
from tolerances import ROUNDED32, SUMMED32
from torch import Tensor, nn

import steprule
from steprule import Problem, metrics
from steprule.cli import main
from steprule.errors import StepruleError
from steprule.problems.options import ARRAY_DEFAULTS, DEFAULTS, ArrayOptions, Options
from steprule.problems.source import batches, stream
from steprule.races import Competitor

F = nn.functional
DRAWN = np.random.default_rng(0)
X = DRAWN.normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.1 * DRAWN.normal(size=60)
KINDS = np.array(["iris", "ash", "oak"])[DRAWN.integers(0, 3, 60)]
TABLE = pa.table({"a": X[:, 0], "b": X[:, 1], "kind": KINDS, "wet": X[:, 2] > 0, "y": Y, "who": np.arange(60) // 5})
PARTS = (0.6, 0.2, 0.2)


def pandas() -> Any:
    return pytest.importorskip("pandas")


def plain(task: Problem, seed: int, loss: Callable[..., Tensor], lr: float = 0.05) -> nn.Module:
    """As everybody writes it; the seeds are the documented ones."""
    torch.manual_seed(stream(seed, 0))
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for rows in batches(len(task.targets), task.batch_size, 2, seed):
        optimizer.zero_grad()
        loss(model(task.features[rows]), task.targets[rows]).backward()
        optimizer.step()
    return model


FORMS: dict[str, Callable[[], Problem]] = {
    "numpy": lambda: Problem.from_arrays(X, Y, nn.Linear, split=PARTS),
    "lists": lambda: Problem.from_arrays(X.tolist(), Y.tolist(), nn.Linear, split=PARTS),
    "tensors": lambda: Problem.from_arrays(torch.tensor(X), torch.tensor(Y)[:, None], nn.Linear, split=PARTS),
    "a list of tensors": lambda: Problem.from_arrays(list(torch.tensor(X)), torch.tensor(Y), nn.Linear, split=PARTS),
    "other bytes and strides": lambda: Problem.from_arrays(np.asfortranarray(X.astype(">f8")), Y.astype(">f8"), nn.Linear, split=PARTS),
    "rows by part": lambda: Problem.from_arrays(X, Y, nn.Linear, split=_rows()),
    "a mask": lambda: Problem.from_arrays(X, Y, nn.Linear, split={p: np.isin(np.arange(60), r) for p, r in _rows().items()}),
    "a table": lambda: Problem.from_arrays(pa.table({**{n: X[:, k] for k, n in enumerate("abc")}, "y": Y}), "y", nn.Linear, split=PARTS),
    "pandas": lambda: Problem.from_arrays(pandas().DataFrame(X), pandas().Series(Y), nn.Linear, split=PARTS),
}  # fmt: skip


def _rows() -> dict[str, np.ndarray]:
    """The documented split."""
    return dict(
        zip(("train", "validation", "test"), np.split(np.random.default_rng(0).permutation(60), [36, 48]), strict=True)
    )


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_problem(form: str) -> None:
    task, rows = FORMS[form](), _rows()
    if form == "a mask":
        rows = {p: np.sort(r) for p, r in rows.items()}
    assert task.validation is not None
    assert task.test is not None
    for part, (x, y) in {
        "train": (task.features, task.targets),
        "validation": task.validation,
        "test": task.test,
    }.items():
        np.testing.assert_array_equal(x.numpy(), X[rows[part]].astype(np.float32))
        np.testing.assert_array_equal(y.numpy(), Y[rows[part]].astype(np.float32)[:, None])
    assert task.loss is F.mse_loss


def test_the_weights_of_a_plain_loop() -> None:
    for task, loss in ((FORMS["numpy"](), F.mse_loss), (Problem.from_arrays(X, KINDS, nn.Linear), F.cross_entropy)):
        run = steprule.train(torch.optim.SGD, task, seed=3, epochs=2, batch_size=task.batch_size, lr=0.05)
        for ours, theirs in zip(run.parameters, plain(task, 3, loss).parameters(), strict=True):
            np.testing.assert_array_equal(ours, theirs.detach().numpy())


def test_what_is_chosen_by_the_data() -> None:
    text = Problem.from_arrays(X, KINDS, nn.Linear)
    assert text.categories == {"targets": ("ash", "iris", "oak")}
    np.testing.assert_array_equal(np.array(text.categories["targets"])[text.targets.numpy()], KINDS)
    assert "targets (3)" in text.summary
    truth = Problem.from_arrays(X, X[:, 0] > 0, nn.Linear)
    assert (truth.loss, truth.targets.dtype, truth.model().out_features) == (F.cross_entropy, torch.int64, 2)
    double = Problem.from_arrays(X.astype(np.float32), Y, lambda: nn.Linear(3, 1).double())
    assert double.features.dtype == double.targets.dtype == torch.float64
    tokens = Problem.from_arrays(
        DRAWN.integers(0, 7, (60, 4)), KINDS, lambda: nn.Sequential(nn.Embedding(7, 2), nn.Flatten(), nn.Linear(8, 3))
    )
    assert tokens.features.dtype == torch.int64
    flat = Problem.from_arrays(X, Y[:, None], lambda: nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)))
    assert flat.targets.shape == (60,)
    table = Problem.from_arrays(TABLE, "y", nn.Linear, columns=["kind", "wet"])
    np.testing.assert_array_equal(table.features.numpy()[:, 0], np.searchsorted(["ash", "iris", "oak"], KINDS))
    np.testing.assert_array_equal(table.features.numpy()[:, 1], X[:, 2] > 0)


def test_several_inputs_and_parts_that_are_apart_already() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(3, 1), nn.Embedding(3, 1)

        def forward(self, left: Tensor, right: Tensor) -> Any:
            return self.left(left) + self.right(right)

    for features in ({"left": X, "right": KINDS}, (X, KINDS)):
        held = {n: v[:9] for n, v in features.items()} if isinstance(features, dict) else tuple(v[:9] for v in features)
        task = Problem.from_arrays(features, Y, Both, validation=(held, Y[:9]), metrics="r2")
        run = steprule.train("adam", task)
        assert set(run.metrics) == {"train", "validation"}
    # A category that one part alone has, has its number in all.
    apart = Problem.from_arrays(X[:2], ["b", "c"], nn.Linear, test=(X[:1], ["a"]))
    assert (apart.targets.tolist(), apart.test[1].tolist()) == ([1, 2], [0])  # type: ignore[index]


def test_splits() -> None:
    groups = np.arange(60) // 7
    one, other, again = (
        Problem.from_arrays(np.c_[X, groups], Y, nn.Linear, split=PARTS, groups=groups, split_seed=seed)
        for seed in (0, 1, 0)
    )
    held = [set(x[:, 3].tolist()) for x in (one.features, one.validation[0], one.test[0])]  # type: ignore[index]
    assert set.union(*held) == set(map(float, groups))
    assert sum(map(len, held)) == len(set(groups))
    assert torch.equal(one.features, again.features)
    assert not torch.equal(one.features[:9], other.features[:9])
    ordered = Problem.from_arrays(X, Y, nn.Linear, split=(0.8, 0.2), shuffle=False)
    np.testing.assert_array_equal(ordered.features.numpy(), X[:48].astype(np.float32))
    assert ordered.test is None
    named = Problem.from_arrays(
        TABLE.append_column("part", pa.array(["train"] * 50 + ["test"] * 10)),
        "y",
        nn.Linear,
        split="part",
        columns=["a"],
    )
    assert [len(named.targets), named.validation, len(named.test[1])] == [50, None, 10]  # type: ignore[index]
    by_column = Problem.from_arrays(TABLE, "y", nn.Linear, split=(0.5, 0.5), groups="who")
    assert by_column.features.shape[1] == 4  # neither the target nor the groups


def test_standardised_by_the_training_rows_alone() -> None:
    task = Problem.from_arrays(np.c_[100 + 5 * X, np.ones(60)], Y, nn.Linear, split=PARTS, standardize=True)
    train = 100 + 5 * X[_rows()["train"]]
    np.testing.assert_allclose(task.features[:, :3].mean(0), 0, atol=ROUNDED32, rtol=0)
    np.testing.assert_allclose(task.features[:, :3].std(0, correction=0), 1, rtol=ROUNDED32)
    assert (task.features[:, 3] == 0).all()
    wanted = (100 + 5 * X[_rows()["test"]] - train.mean(0)) / train.std(0)
    np.testing.assert_allclose(task.test[0][:, :3], wanted, rtol=SUMMED32, atol=ROUNDED32)  # type: ignore[index]


def test_metrics_by_hand() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 5.0], [9.0, 0.0, 0.0]])
    assert metrics.accuracy(scores, torch.tensor([0, 1, 1, 0])) == 0.75
    for logits in (torch.tensor([[1.0], [-1.0], [2.0]]), torch.tensor([1.0, -1.0, 2.0])):
        assert metrics.accuracy(logits, torch.tensor([1, 0, 0])) == pytest.approx(2 / 3, rel=ROUNDED32)
    found, wanted = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([1.0, 3.0, 2.0])
    assert metrics.mae(found, wanted) == 1.0
    assert metrics.mse(found, wanted) == pytest.approx(5 / 3, rel=ROUNDED32)
    assert metrics.rmse(found, wanted) == pytest.approx((5 / 3) ** 0.5, rel=ROUNDED32)
    assert metrics.r2(found, wanted) == pytest.approx(1 - 5 / 2, rel=ROUNDED32)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.long)])
def test_metrics_are_of_all_samples_at_once(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every engine, in eval mode, on outputs gathered from parts; one that writes into what it is given spoils nothing."""
    seen: list[int] = []

    def spread(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(len(outputs))
        found = (outputs - targets).std() + torch.rand(()) * 0
        outputs.zero_()
        targets.zero_()
        return found

    monkeypatch.setattr("steprule.problems.facts.AT_ONCE", 7)
    task = Problem.from_arrays(
        X, Y, nn.Linear, split=PARTS, metrics={"spread": spread, "R2": "r2"}, batch_size=9, epochs=2
    )
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    run = steprule.train("sgd", task, seed=3, epochs=2, batch_size=9, lr=0.05)
    assert torch.equal(before, torch.random.get_rng_state())
    model = plain(task, 3, F.mse_loss)
    assert task.validation is not None
    with torch.no_grad():
        wanted = [float((model(x) - y).std()) for x, y in ((task.features, task.targets), task.validation)]
        share = metrics.r2(model(task.validation[0]), task.validation[1])
    assert [run.metrics[part]["spread"] for part in ("train", "validation")] == pytest.approx(wanted, rel=SUMMED32)
    assert run.metrics["validation"]["R2"] == pytest.approx(share, rel=SUMMED32)
    assert json.loads(json.dumps(run.to_dict()))["metrics"]["validation"]["R2"] == run.metrics["validation"]["R2"]
    assert "R2: train" in run.in_words()
    for what, engine in (("sgd", "kernel" if compiled else "vmap"), (torch.optim.SGD, "one by one")):
        found = steprule.sweep(what, task, {"lr": [0.01, 0.05]}, seeds=[3], compile=compiled)
        assert found.engine.startswith(engine)
        assert found.metrics["validation"]["R2"].shape == (2, 1)
        assert found.metrics["validation"]["R2"][1, 0] == pytest.approx(share, rel=SUMMED32)
        assert "R2: train" in found.in_words()
        assert found.to_dict()["metrics"]["test"]["spread"][1][0] == pytest.approx(
            run.metrics["test"]["spread"], rel=SUMMED32
        )
    assert set(seen) == {36, 12}


def test_a_training_that_diverges_has_no_metric() -> None:
    task = Problem.from_arrays(X, Y, nn.Linear, metrics="r2", epochs=3)
    for what in ("sgd", torch.optim.SGD):
        found = steprule.sweep(what, task, {"lr": [3e38]})
        assert np.isnan(found.metrics["train"]["r2"]).all()
        assert found.to_dict()["metrics"]["train"]["r2"] == [[None]]


STRANGER = """
import numpy as np, torch, steprule

class Net(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(inputs, 6), torch.nn.Tanh(), torch.nn.Linear(6, outputs))
    def forward(self, x):
        return self.body(x)

def halves(outputs, targets):
    return ((outputs.argmax(1) == targets) / 2).sum()

def step(model, batch):
    x, y = batch
    outputs = model(x)
    return {"loss": torch.nn.functional.cross_entropy(outputs, y), "outputs": outputs, "targets": y}

drawn = np.random.default_rng(0)
x = drawn.normal(size=(60, 3))
how = {"split": (0.6, 0.2, 0.2), "metrics": {"accuracy": "accuracy", "halves": halves}, "batch_size": 12, "epochs": 1}
arrays = steprule.Problem.from_arrays(x, np.where(x[:, 0] > 0, "up", "down"), Net, **how)
stepped = steprule.Problem.from_arrays(x, np.where(x[:, 0] > 0, "up", "down"), Net, training_step=step, **how)
"""


def said(capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    assert main([*command, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["arrays", "stepped"])
def test_a_strangers_file(name: str, in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.py").write_text(STRANGER)
    run = said(capsys, "train", "sgd", "--on", f"own.py:{name}")
    assert run["metrics"]["test"]["accuracy"] * 6 == run["metrics"]["test"]["halves"]
    swept = said(capsys, "sweep", "sgd", "--on", f"own.py:{name}", "--points", "2", "--out", "lanes.parquet")
    assert ("one by one: a training step" in swept["engine"]) is (name == "stepped")
    lanes = pq.read_table("lanes.parquet")
    assert lanes["validation accuracy"].to_pylist() == [row[0] for row in swept["metrics"]["validation"]["accuracy"]]


SMALL: dict[str, Any] = {"trials": 2, "seeds": 2, "fresh": 2, "schedules": ["linear"]}
RACERS = ["sgd", "torch.optim.Adam"]


@pytest.mark.parametrize("name", ["arrays", pytest.param("stepped", marks=pytest.mark.long)])
def test_a_race_on_a_strangers_file(name: str, in_folder: Path) -> None:
    Path("own.py").write_text(STRANGER)
    found = steprule.race(RACERS, f"own.py:{name}", out="run", **SMALL)
    standing = found.cells[0].standings[0]
    rows = [
        r
        for r in pq.read_table("run/results.parquet").to_pylist()
        if r["role"] == "winner" and r["rule"] == standing.label
    ]
    assert standing.metrics["accuracy"] == pytest.approx(np.mean([r["test accuracy"] for r in rows]), rel=ROUNDED32)
    assert all(r["test accuracy"] * 6 == r["test halves"] for r in rows)
    assert found.to_dict()["cells"][0]["standings"][0]["metrics"] == standing.metrics
    assert steprule.race(RACERS, f"own.py:{name}", out="run", **SMALL).trained == 0
    Path("own.py").write_text(STRANGER.replace("/ 2).sum()", "/ 3).sum()"))
    with pytest.raises(StepruleError, match=r"metrics\.halves"):
        steprule.race(RACERS, f"own.py:{name}", out="run", **SMALL)


def test_settings_as_given(in_folder: Path) -> None:
    Path("own.py").write_text(STRANGER)
    mine = Competitor(torch.optim.SGD, hypers={"lr": 0.1}, label="mine")
    first, again = (steprule.race(mine, "own.py:arrays", 0, 2, "run", epochs=1).settings[0] for _ in range(2))
    assert first == again
    runs = [
        steprule.train(torch.optim.SGD, "own.py:arrays", seed, 1, lr=0.1).metrics["test"]["accuracy"] for seed in (0, 1)
    ]
    assert first.metrics["test accuracy"] == pytest.approx(np.mean(runs), rel=ROUNDED32)
    assert first.to_dict()["metrics"]["test accuracy"] == first.metrics["test accuracy"]


@pytest.mark.long
@pytest.mark.parametrize("name", ["arrays", "stepped"])
def test_two_workers_find_the_same(name: str, in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the command line, with problems of other metrics beside it; and the report and the table on the terminal have them."""
    Path("own.py").write_text(STRANGER)
    command = ["race", *RACERS, "--on", f"own.py:{name}", "--on", "airfoil-linear", *sized(2, 2, 2, "linear")]
    for workers in ("1", "2"):
        assert main([*command, "--workers", workers, "--out", workers]) == 0
    shown = capsys.readouterr().out.split("On the test samples, means over the winners' runs:")
    assert [part.split()[:2] for part in shown[1:]] == [["accuracy", "halves"]] * 2
    assert "test accuracy" in Path("2/report.html").read_text()
    assert Path("1/results.parquet").read_bytes() == Path("2/results.parquet").read_bytes()
    assert main(["race", "sgd", "--on", f"own.py:{name}", "--trials", "0", "--seeds", "2", "--out", "given"]) == 0
    assert "test accuracy" in " ".join(capsys.readouterr().out.split())


def csv(text: str, **how: Any) -> Callable[[], Any]:
    def make() -> Problem:
        Path("data.csv").write_bytes(text.encode(how.pop("written", "utf-8")) if isinstance(text, str) else text)
        return Problem.from_csv("data.csv", **{"target": "y", "model": nn.Linear, **how})

    return make


def test_files(in_folder: Path) -> None:
    text = "a;kind;y\n0,5;ä;1\n\n1,5;b;2\n2,5;ä;4\n"
    task = csv(text, written="latin-1", encoding="latin-1", decimal=",")()
    assert (task.name, task.categories) == ("data", {"kind": ("b", "ä")})
    assert task.features.tolist() == [[0.5, 1.0], [1.5, 0.0], [2.5, 1.0]]
    assert task.targets.dtype == torch.int64
    pq.write_table(TABLE, "data.parquet")
    stored = Problem.from_parquet("data.parquet", "y", nn.Linear, split=PARTS, groups="who", name="mine")
    held = Problem.from_arrays(TABLE, "y", nn.Linear, split=PARTS, groups="who")
    assert stored.name == "mine"
    assert torch.equal(stored.features, held.features)
    assert steprule.train("adam", stored).final_loss < 10


def arrays(*given: Any, **how: Any) -> Callable[[], Any]:
    return lambda: Problem.from_arrays(*given, **how)


def spoilt(value: Any) -> np.ndarray:
    found = X.copy()
    found[7, 1] = value
    return found


def frame(**columns: Any) -> Callable[[], Any]:
    """A pandas table with one column more."""
    return lambda: Problem.from_arrays(pandas().DataFrame({"a": X[:, 0], "y": Y}).assign(**columns), "y", nn.Linear)


def vague(model: nn.Module, batch: Any) -> Any:
    loss = F.mse_loss(model(batch[0]), batch[1])
    return loss, loss.detach()


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "nan": (arrays(spoilt(np.nan), Y, nn.Linear), "features, column 1: expected a number or text in every row, got nan in row 7"),
    "inf": (arrays(torch.tensor(spoilt(np.inf)), Y, nn.Linear), "features, column 1: expected a number or text in every row, got inf in row 7"),
    "nan target": (arrays(X, np.where(np.arange(60) == 5, np.nan, Y), nn.Linear), "targets: expected a number or text in every row, got nan in row 5"),
    "None": (arrays([[1.0, 2], [None, 3]], [1.0, 2.0], nn.Linear), "column 0: expected a number or text in every row, got none in row 1"),
    "masked": (arrays(np.ma.masked_invalid(spoilt(np.nan)), Y, nn.Linear), "got none in row 7"),
    "ragged": (arrays([[1, 2], [3]], [1, 2], nn.Linear), "Lists need one length."),
    "mixed": (arrays(X[:2], [1, "a"], nn.Linear), "targets: expected one kind of value, got a int in row 0 and text in row 1"),
    "text in two dimensions": (arrays(np.array([["1", "a"], ["2", "b"]]), [1.0, 2.0], nn.Linear), "expected real numbers, got text. A table"),
    "dates": (arrays(np.array(["2020-01-01"] * 60, dtype="M8[D]"), Y, nn.Linear), "got dates. Make numbers of dates first"),
    "one number": (arrays(3.0, Y, nn.Linear), "expected numbers, samples first, got a float"),
    "empty": (arrays(X[:0], Y[:0], nn.Linear), "1 or more, got 0 and 0"),
    "lengths": (arrays(X, Y[:-1], nn.Linear, split=PARTS), "as many targets as samples, 1 or more, got 60 and 59"),
    "whole numbers": (arrays(DRAWN.integers(0, 5, (60, 3)), Y, nn.Linear), "features.float(), unless the model embeds them"),
    "float classes": (arrays(X, Y, lambda: nn.Linear(3, 3), F.cross_entropy), "cross_entropy takes class numbers"),
    "classes": (arrays(X, np.arange(60), lambda: nn.Linear(3, 50)), "targets: expected classes 0 to 49, got 50 in row 50. The model has 50 outputs"),
    "classes of the test": (arrays(X, np.zeros(60, int), lambda: nn.Linear(3, 2), test=(X[:2], [0, 4])), "test targets: expected classes 0 to 1, got 4 in row 1"),
    "prices": (arrays(X, 1000 * np.arange(60), lambda: nn.Linear(3, 1)), "For a regression give floats as targets"),
    "shapes": (arrays(X, Y, nn.Linear, F.mse_loss), "loss: expected targets of the outputs' shape [4, 1], got [4]"),
    "no scalar": (arrays(X, Y[:, None], nn.Linear, lambda a, b: (a - b) ** 2), "loss: expected one number, got a tensor of shape [4, 1]"),
    "instance": (arrays(X, Y, nn.Linear(3, 1)), "model: expected a function that makes a model, got a Linear"),
    "arguments": (arrays(X, Y, lambda width: nn.Linear(3, width)), "without arguments, or of (inputs, outputs), got one of width"),
    "column": (arrays(TABLE, "yy", nn.Linear), "unknown column for the targets of problem mine"),
    "columns": (arrays(TABLE, "y", nn.Linear, columns=["kin"]), "Did you mean 'kind'?"),
    "columns of parts": (arrays(TABLE.select(["a", "y"]), "y", nn.Linear, test=(TABLE.select(["b", "y"]), "y")), "the same columns in every part"),
    "names": (arrays(pa.table({"a": [f"x{k}" for k in range(60)], "y": Y}), "y", nn.Linear), "another text in each of 60 rows. Leave it out by columns="),
    "shares": (arrays(X, Y, nn.Linear, split=(0.5, 0.6)), "split: expected shares of at least 0 that sum to 1"),
    "too few rows": (arrays(X[:3], Y[:3], nn.Linear, split=(0.9, 0.05, 0.05)), "got no row for validation from 3 rows"),
    "one group": (arrays(X, Y, nn.Linear, split=PARTS, groups=[0] * 60), "no row for validation from 1 group, the largest of 60"),
    "groups alone": (arrays(X, Y, nn.Linear, groups=[0] * 60), "groups: expected shares to hold them out by, got None"),
    "parts": (arrays(X, Y, nn.Linear, split=["train"] * 59 + ["val"]), "got 'val' in row 59"),
    "row twice": (arrays(X, Y, nn.Linear, split={"train": [1, 2], "test": [2]}), "expected each row once, got row 2 twice"),
    "row beyond": (arrays(X, Y, nn.Linear, split={"test": [60]}), "expected rows 0 to 59, got 60"),
    "part twice": (arrays(X, Y, nn.Linear, split=(0.5, 0.5), validation=(X, Y)), "validation: expected it once"),
    "metric": (arrays(X, Y, nn.Linear, metrics="acuracy"), "unknown metric: expected one of accuracy, mae, mse, rmse, r2, got 'acuracy'. Did you mean"),
    "metric that fails": (arrays(X, Y, nn.Linear, metrics={"bad": lambda a, b: 1 / 0}), "metric bad: ZeroDivisionError"),
    "metric of nan": (arrays(X, Y, nn.Linear, metrics={"bad": lambda a, b: float("nan")}), "metric bad on the train data: expected a number, got nan"),
    "metric of many": (arrays(X, Y, nn.Linear, metrics={"bad": lambda a, b: a}), "metric bad: expected one number, got a Tensor of shape [60, 1]"),
    "metric, shapes": (arrays(X, Y[:, None], lambda: nn.Linear(3, 1), F.mse_loss, metrics={"r2": lambda a, b: metrics.r2(a, b[:9])}), "expected one shape, got [60, 1] and [9, 1]"),
    "accuracy of floats": (arrays(X, Y, nn.Linear, metrics="accuracy"), "metric accuracy: targets: expected classes, or 0 and 1, got "),
    "r2 of one value": (arrays(X, np.ones(60), nn.Linear, metrics="r2"), "metric r2: targets: expected values that differ"),
    "no model": (arrays(X, Y, lambda: None), "expected a function that makes a model, got one that makes a NoneType"),
    "two ways": (arrays(X, Y, nn.Linear, F.mse_loss, training_step=vague), "expected a loss or a training_step, got both"),
    "step": (arrays(X, Y[:, None], nn.Linear, training_step=vague), "training_step: expected one tensor without dimensions, the loss, got 2"),
    "step of nothing": (arrays(X, Y, nn.Linear, training_step=lambda m, b: None), "training_step: expected the loss, or parts with one called loss, got a NoneType"),
    "step of others": (arrays(X, Y, nn.Linear, training_step=lambda m, b: {"mse": 1}), "got a dict of mse"),
    "step, metrics": (arrays(X, Y[:, None], nn.Linear, training_step=lambda m, b: vague(m, b)[0], metrics="r2"), "expected outputs and targets beside the loss"),
    "pandas nan": (frame(b=spoilt(np.nan)[:, 1]), "features, column 'b': expected a number or text in every row, got none in row 7"),
    "pandas NA": (lambda: frame(b=pandas().array([1] * 59 + [None], dtype="Int64"))(), "column 'b': expected a number or text in every row, got none in row 59"),
    "pandas None": (frame(b=["x"] * 59 + [None]), "column 'b': expected a number or text in every row, got none in row 59"),
    "pandas dates": (lambda: frame(b=pandas().Timestamp("2020-01-01"))(), "column 'b': expected numbers or text, got dates"),
    "pandas mixed": (frame(b=[1] * 59 + ["?"]), "column 'b': expected one kind of value, got a int in row 0 and text in row 59"),
    "no file": (lambda: Problem.from_csv("nowhere.csv", "y", nn.Linear), "nowhere.csv: expected a file, got nothing there"),
    "a folder": (lambda: Problem.from_csv(".", "y", nn.Linear), "expected a file, got a folder"),
    "empty file": (csv(""), "data.csv: expected a table, got an empty file"),
    "header alone": (csv("a,y\n"), "expected a row or more, got a header alone: a, y"),
    "cut off": (csv("a,b,y\n1,2,3\n4,5"), "Expected 3 columns, got 2"),
    "cut in a text": (csv('a,y\n"x",3\n"z'), "data.csv: expected a CSV file"),
    "twice": (csv("a,a,y\n1,2,3\n"), "expected each column once, got 'a' twice"),
    "pandas' index": (csv(",a,y\n0,2,3\n"), "to_csv(index=False)"),
    "another delimiter": (csv("a;y\n1;2\n", delimiter=","), "expected columns apart by ',', got one column, 'a;y'. Give delimiter=."),
    "another encoding": (csv("a,kind,y\n1,ä,2\n", written="latin-1"), "expected text in utf-8, got bytes that are not utf-8. Give encoding="),
    "no encoding": (csv("a,y\n1,2\n", encoding="utf8x"), "an encoding that Python knows, got 'utf8x'"),
    "missing in a file": (csv("a,y\n1,2\n\n3,4\n,6\n"), "features, column 'a': expected a number or text in every row, got none in line 5"),
    "missing behind a long text": (csv('a,b,y\n"x\nx",1,2\n"x",,4\n'), "column 'b': expected a number or text in every row, got none in line 4"),
    "a sign for missing": (csv("a,y\n" + "1,2\n" * 20 + "?,4\n"), "column 'a': expected a number, as in other rows, got '?' in line 22"),
    "decimal commas": (csv("a;y\n0,5;2\n1,5;3\n"), """column 'a': expected numbers with a point, got '0,5'. Give decimal=","""),
    "no target": (csv("a,price\n1,2\n", target="prize"), "Did you mean 'price'?"),
    "no Parquet": (lambda: (Path("x.parquet").write_bytes(b"PAR1 spoilt"), Problem.from_parquet("x.parquet", "y", nn.Linear)), "x.parquet: expected a Parquet file"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_one_line(name: str, in_folder: Path) -> None:
    make, words = REFUSED[name]
    with pytest.raises(StepruleError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_ones_own_names_its_line(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.py").write_text(
        "import torch, steprule\n\np = steprule.Problem.from_csv('no.csv', 'y', torch.nn.Linear)\n"
    )
    assert main(["train", "adam", "--on", "own.py:p"]) == 2
    assert "own.py:3: no.csv: expected a file, got nothing there" in capsys.readouterr().err


def test_categories_are_numbered_alike_in_all_parts_whatever_holds_them() -> None:
    """A part that lacks a category, as objects, text and tables: each column goes to the same numbers."""
    train = [["ash", 1.0], ["oak", 2.0], ["yew", 3.0]]
    held = [["oak", 4.0], ["yew", 5.0]]
    for make in (lambda rows: rows, lambda rows: np.array(rows, dtype=object)):
        task = Problem.from_arrays(make(train), [1.0, 2.0, 3.0], nn.Linear, validation=(make(held), [2.0, 3.0]))
        assert task.features.tolist() == [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
        assert task.validation is not None
        assert task.validation[0].tolist() == [[1.0, 4.0], [2.0, 5.0]]
        assert next(iter(task.categories.values())) == ("ash", "oak", "yew")
    with pytest.raises(StepruleError, match="validation features: expected 2 columns, as in training, got 1"):
        Problem.from_arrays(train, [1.0, 2.0, 3.0], nn.Linear, validation=([["oak"]], [2.0]))


@pytest.mark.parametrize(
    "make",
    [
        lambda **wrong: Problem.from_arrays([[1.0], [2.0]], [1.0, 2.0], nn.Linear, **wrong),
        lambda **wrong: Problem.from_dataloaders([], lambda: nn.Linear(1, 1), nn.functional.mse_loss, **wrong),
    ],
    ids=["arrays", "loaders"],
)
def test_an_argument_that_is_none_is_named_with_the_one_that_was_meant(make: Callable[..., Problem]) -> None:
    with pytest.raises(
        StepruleError, match=r"unknown argument of Problem\.from_.*got 'epoch'\. Did you mean 'epochs'\?"
    ):
        make(epoch=3)


def test_every_argument_has_a_default_and_is_explained() -> None:
    for record, defaults, make in (
        (Options, DEFAULTS, Problem.from_dataloaders),
        (ArrayOptions, ARRAY_DEFAULTS, Problem.from_arrays),
    ):
        explained = re.findall(r"- `(\w+)=(.*?)`", make.__doc__ or "")
        assert {n: repr(v).replace("'", '"') for n, v in defaults.items()} == dict(explained)
        assert set(defaults) == set(record.__annotations__)


def test_a_class_of_ones_own_stays_one() -> None:
    """What is made by a subclass is of the subclass, as Python's users expect of a class method."""

    class Mine(Problem):
        pass

    assert type(Mine.from_arrays([[1.0], [2.0]], [1.0, 2.0], nn.Linear)) is Mine
