"""Problems from DataLoaders as they are, beside a plain torch loop: the same batches, weights and buffers, in train, sweep and race."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tolerances import ROUNDED32, SUMMED32
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

import steprule
from steprule import Problem
from steprule.cli import main
from steprule.errors import StepruleError
from steprule.problems.source import stream

F = nn.functional
X = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
Y = X.sum(1, keepdim=True)
ROWS = TensorDataset(X, Y)
EPOCHS = 2


class Drawing(Dataset[Any]):
    """Augmented by every generator that people use."""

    def __init__(self) -> None:
        self.own, self.older, self.python = np.random.default_rng(5), np.random.RandomState(5), random.Random(5)

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, k: int) -> Any:
        noise = (
            torch.rand(())
            + np.random.rand()
            + random.random()
            + self.own.random()
            + self.older.rand()
            + self.python.random()
        )
        return X[k] + 0.01 * float(noise), Y[k]


class Streamed(IterableDataset[Any]):
    """Without a length; the last batch is smaller."""

    def __iter__(self) -> Iterator[Any]:
        for k in range(17):
            yield X[k], Y[k]


class Named(NamedTuple):
    inputs: Tensor
    labels: Tensor


class Inside(nn.Module):
    """Its loss is inside, and it draws."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.3), nn.Linear(5, 1))

    def forward(self, inputs: Tensor, labels: Tensor) -> Any:
        return {"loss": F.mse_loss(self.body(inputs), labels)}


def named(rows: list[Any]) -> Any:
    x, y = (torch.stack(side) for side in zip(*rows, strict=True))
    return {"inputs": x, "labels": y}


def as_tuple(rows: list[Any]) -> Any:
    return Named(*named(rows).values())


def linear() -> nn.Module:
    return nn.Linear(3, 1)


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1))


def loss_in(found: Any) -> Any:
    """The loss in what a step returns: alone, first of a tuple, or by its name."""
    if isinstance(found, dict):
        return found["loss"]
    return found[0] if isinstance(found, tuple) else found


def of_loss(model: nn.Module, data: Any) -> Tensor:
    return F.mse_loss(model(data[0]), data[1])


def of_inside(model: nn.Module, data: Any) -> Any:
    return model(**data)


def of_tuple(model: nn.Module, data: Any) -> Any:
    return F.mse_loss(model(data.inputs), data.labels), data.labels


Kind = tuple[Callable[[], Any], Callable[[], nn.Module], Callable[..., Any] | None]
KINDS: dict[str, Kind] = {
    "in order": (lambda: DataLoader(ROWS, 8), linear, None),
    "shuffled": (lambda: DataLoader(ROWS, 8, shuffle=True), linear, None),
    "a generator of its own": (lambda: DataLoader(ROWS, 8, shuffle=True, generator=torch.Generator().manual_seed(9)), linear, None),
    "without the last": (lambda: DataLoader(ROWS, 8, shuffle=True, drop_last=True), linear, None),
    "a sampler": (lambda: DataLoader(ROWS, 8, sampler=WeightedRandomSampler(X[:, 0].exp(), 20)), linear, None),
    "augmented": (lambda: DataLoader(Drawing(), 8, shuffle=True), linear, None),
    "drawing twice": (lambda: DataLoader(Drawing(), 8, shuffle=True), normed, None),
    "a stream": (lambda: DataLoader(Streamed(), 5), linear, None),
    "a list of batches": (lambda: [(X[k : k + 7], Y[k : k + 7]) for k in range(0, 30, 7)], linear, None),
    "a dict": (lambda: DataLoader(ROWS, 8, shuffle=True, collate_fn=named), Inside, of_inside),
    "a named tuple": (lambda: DataLoader(ROWS, 8, shuffle=True, collate_fn=as_tuple), linear, of_tuple),
    "workers": (lambda: DataLoader(Drawing(), 8, shuffle=True, num_workers=2), linear, None),
    "workers that stay": (lambda: DataLoader(Drawing(), 8, shuffle=True, num_workers=1, persistent_workers=True), linear, None),
}  # fmt: skip
SLOW = [pytest.param(k, marks=pytest.mark.long) if k.startswith("workers") else k for k in KINDS]


def problem(kind: str, **how: Any) -> Problem:
    make, model, step = KINDS[kind]
    loss = {"training_step": step} if step else {"loss": F.mse_loss}
    return Problem.from_dataloaders(make(), model, **loss, name="kind", epochs=EPOCHS, **how)


def seeded(seed: int, loader: Any) -> list[Any]:
    """A pass, as the documentation has it."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    if isinstance(loader, DataLoader):
        if loader.generator is not None:
            loader.generator.manual_seed(seed)
        if isinstance(loader.dataset, Drawing):
            loader.dataset.own, loader.dataset.python = np.random.default_rng(seed), random.Random(seed)
            loader.dataset.older = np.random.RandomState(seed % 2**32)
    return list(loader)


def plain(kind: str, seed: int) -> nn.Module:
    make, model_of, step = KINDS[kind]
    torch.manual_seed(stream(seed, 0))
    model, t = model_of(), 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for epoch in range(EPOCHS):
        for data in seeded(stream(seed, (1, epoch)), make()):
            t += 1
            torch.manual_seed(stream(seed, (2, t)))
            optimizer.zero_grad()
            found = (step or of_loss)(model, data)
            loss_in(found).backward()
            optimizer.step()
    return model


@pytest.mark.parametrize("kind", SLOW)
def test_the_weights_of_a_plain_loop(kind: str) -> None:
    task = problem(kind)
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[union-attr]
    run = steprule.train(torch.optim.SGD, task, seed=3, epochs=EPOCHS, lr=0.05)
    after = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[union-attr]
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    model = plain(kind, 3)
    for ours, theirs in zip((*run.parameters, *run.buffers), (*model.parameters(), *model.buffers()), strict=True):
        np.testing.assert_array_equal(ours, theirs.detach().numpy())
    assert len(run.losses) == EPOCHS + 1
    model.eval()
    parts = []
    with torch.no_grad():
        for data in seeded(stream(0, 3), KINDS[kind][0]()):
            found = (KINDS[kind][2] or of_loss)(model, data)
            parts.append((float(loss_in(found)), len(next(iter(data.values())) if isinstance(data, dict) else data[1])))
    whole = sum(count for _, count in parts)
    assert run.final_loss == pytest.approx(sum(loss * count for loss, count in parts) / whole, rel=ROUNDED32)


def test_the_loaders_own_generators_are_left_alone() -> None:
    generator, data = torch.Generator().manual_seed(9), Drawing()
    before = generator.get_state(), data.own.bit_generator.state
    task = Problem.from_dataloaders(DataLoader(data, 8, shuffle=True, generator=generator), linear, F.mse_loss)
    first, second = (steprule.train("sgd", task, lr=0.05).losses for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(before[0], generator.get_state())
    assert before[1] == data.own.bit_generator.state


def test_held_out_and_metrics_in_a_sweep() -> None:
    held = DataLoader(TensorDataset(X[:10], Y[:10]), 4)
    task = problem("shuffled", validation=held, test=held, metrics=["r2"])
    found = steprule.sweep("sgd", task, {"lr": [0.01, 0.05]}, seeds=[3, 4])
    assert found.engine == "one by one: its batches come from a loader"
    model = plain("shuffled", 3)
    with torch.no_grad():
        assert found.validation[1, 0] == pytest.approx(float(F.mse_loss(model(X[:10]), Y[:10])), rel=SUMMED32)
        assert found.metrics["test"]["r2"][1, 0] == pytest.approx(
            steprule.metrics.r2(model(X[:10]), Y[:10]), rel=SUMMED32
        )
    assert found.batch_size == 8


STRANGER = """
import torch, steprule
from torch.utils.data import DataLoader, Dataset

class Points(Dataset):
    def __init__(self, low, high):
        self.rows = torch.linspace(low, high, 24)[:, None]
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, k):
        return {"x": self.rows[k] + 0.01 * torch.randn(1), "y": 3 * self.rows[k]}

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(1, 1)
    def forward(self, x, y):
        found = self.line(x)
        return {"loss": ((found - y) ** 2).mean(), "outputs": found, "targets": y}

def step(model, batch):
    return model(**batch)

g = torch.Generator().manual_seed(4)
p = steprule.Problem.from_dataloaders(DataLoader(Points(0, 1), 10, shuffle=True, generator=g), Net, training_step=step,
    validation=DataLoader(Points(1, 2), 24), test=DataLoader(Points(2, 3), 7), metrics="mae", epochs=1)
"""
SMALL: dict[str, Any] = {"trials": 1, "seeds": 1, "fresh": 1, "schedules": ["linear"]}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_race_on_a_strangers_file(workers: int, in_folder: Path) -> None:
    Path("own.py").write_text(STRANGER)
    found = steprule.race(["sgd", "torch.optim.Adam"], "own.py:p", out="run", **SMALL, workers=workers)
    assert "mae" in found.cells[0].standings[0].metrics
    assert np.isfinite(pq.read_table("run/results.parquet")["test mae"].to_numpy()).all()
    assert steprule.race(["sgd", "torch.optim.Adam"], "own.py:p", out="run", **SMALL).trained == 0
    if workers > 1:
        assert steprule.race(["sgd", "torch.optim.Adam"], "own.py:p", out="one", **SMALL, workers=1).trained
        assert Path("one/results.parquet").read_bytes() == Path("run/results.parquet").read_bytes()
    for old, new, where in (
        ("3 * self.rows", "4 * self.rows", "data"),
        ("Points(2, 3)", "Points(2, 4)", "test data"),
        ("0.01 *", "0.02 *", "training data"),
    ):
        Path("own.py").write_text(STRANGER.replace(old, new))
        with pytest.raises(StepruleError, match=f"differs in problems.mine.*{where}"):
            steprule.race(["sgd", "torch.optim.Adam"], "own.py:p", out="run", **SMALL)


def test_the_command_line(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.py").write_text(STRANGER)
    assert main(["train", "sgd", "--on", "own.py:p"]) == 0
    assert "batch 10" in capsys.readouterr().out
    for command in (["train"], ["sweep", "--points", "2"]):
        assert main([command[0], "sgd", "--on", "own.py:p", *command[1:], "--batch-size", "8"]) == 2
        assert "batch_size: expected the loader's own, 10, got 8" in capsys.readouterr().err


def test_what_cannot_be_identified_is_never_taken_up_again(in_folder: Path) -> None:
    class Locked(TensorDataset):
        def __init__(self) -> None:
            super().__init__(X, Y)
            self.lock = threading.Lock()

    task = Problem.from_dataloaders(DataLoader(Locked(), 15), linear, F.mse_loss, epochs=1)
    with pytest.warns(UserWarning, match="training data.*lock"):
        steprule.race("sgd", task, out="run", **SMALL)
    with pytest.raises(StepruleError, match="nobody can tell"):
        steprule.race("sgd", task, out="run", **SMALL)


class Failing(TensorDataset):
    def __getitem__(self, k: int) -> Any:
        if k == 20:
            raise KeyError("no picture 20")
        return super().__getitem__(k)


class Growing:
    """Other batches in each pass."""

    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        return iter([(X, Y)] * (1 + self.passes // 6))


RNG = np.random.default_rng(0)


class Outside(TensorDataset):
    """It draws from a generator that nobody can find."""

    def __getitem__(self, k: int) -> Any:
        return X[k] + float(RNG.random()), Y[k]


def spoilt() -> TensorDataset:
    x = X.clone()
    x[20, 1] = torch.nan
    return TensorDataset(x, Y)


def made(loader: Any, model: Any = linear, loss: Any = F.mse_loss, **how: Any) -> Callable[[], Problem]:
    return lambda: Problem.from_dataloaders(loader, model, loss, **how)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a generator": (made(iter([(X, Y)])), "train loader: expected one that gives its batches again, got an iterator"),
    "a tensor": (made(X), "train loader: expected a DataLoader, or whatever gives batches, got a Tensor"),
    "a number": (made(3), "got a int"),
    "nothing": (made([]), "train loader: expected a batch or more, got none"),
    "no loss": (made(DataLoader(ROWS, 8), loss=None), "expected a loss or a training_step, got neither"),
    "a dict": (made(DataLoader(ROWS, 8, collate_fn=named)), "expected batches (features, targets), got a dict of inputs, labels. Give a training_step"),
    "three": (made(DataLoader(TensorDataset(X, X, Y), 8)), "expected batches (features, targets), got a list of 3"),
    "float64": (made(DataLoader(TensorDataset(X.double(), Y), 8)), "The features are float64 and the parameters are not: features.float()."),
    "whole numbers": (made(DataLoader(TensorDataset(X.long(), Y), 8)), "The features are whole numbers"),
    "shapes": (made(DataLoader(TensorDataset(X, Y[:, 0]), 8)), "loss: expected targets of the outputs' shape [4, 1], got [4]"),
    "classes": (made(DataLoader(TensorDataset(X, torch.full((30,), 7)), 8), lambda: nn.Linear(3, 3), F.cross_entropy), "Target 7 is out of bounds. Classes are numbered from 0"),
    "no scalar": (made(DataLoader(ROWS, 8), loss=lambda a, b: (a - b) ** 2), "loss: expected one number"),
    "nan": (made(DataLoader(spoilt(), 8)), "train loader, batch 2, column 1: expected a number or text in every row, got nan in row 4"),
    "a dataset that fails": (made(DataLoader(Failing(X, Y), 8)), "train loader, batch 2: KeyError: 'no picture 20'"),
    "in a worker": (made(DataLoader(Failing(X, Y), 8, num_workers=1)), "train loader, batch 2: KeyError"),
    "a validation that fails": (made(DataLoader(ROWS, 8), validation=DataLoader(TensorDataset(X[:, :2], Y), 8)), "a sample of the validation data"),
    "draws outside": (made(DataLoader(Outside(X, Y), 8)), "expected the same batches for the same seed, got others"),
    "other passes": (made(Growing()), "samples in every pass, as in the first, got more in a later one"),
    "a batch of one": (made(DataLoader(ROWS, 29), normed), "the model failed in step 2"),
}  # fmt: skip


# A worker that failed is waited for, five seconds.
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long) if n == "in a worker" else n for n in REFUSED]
)
def test_what_does_not_fit_is_one_line(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(StepruleError) as caught:
        steprule.train("sgd", make())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
