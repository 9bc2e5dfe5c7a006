"""Models of every kind beside a plain torch loop: the same weights, buffers and losses, in train, in sweeps and in races."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from thinning import thinned
from tolerances import HELD_OUT, ROUNDED32, RULE_AGAINST_LOOP
from torch import Tensor, nn

import steprule
from steprule import races
from steprule.problems.batch import called, taken
from steprule.problems.source import batches, stream

F = nn.functional
COUNT, BATCH, EPOCHS = 36, 8, 2


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X, Y = drawn(COUNT, 6), drawn(COUNT, 1, seed=1)
SEQUENCES, LETTERS = drawn(COUNT, 5, 4), torch.randint(0, 7, (COUNT, 5), generator=torch.Generator().manual_seed(2))
CLASSES = torch.randint(0, 3, (COUNT,), generator=torch.Generator().manual_seed(3))
IMAGES = drawn(COUNT, 1, 6, 6)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.core, self.head = kind(4, 5, batch_first=True), nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.core(x)[0][:, -1])


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = nn.Linear(6, 1), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Any:
        return self.used(x)


class Fourier(nn.Module):
    """Features of its own, drawn when it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("directions", torch.randn(6, 8))
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(torch.cos(x @ self.directions))


class Scaled(nn.Module):
    """A buffer that nothing moves."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((6,), 0.5))
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(x * self.scale)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(x + 0.1 * torch.randn_like(x) if self.training else x)


class Doubling(nn.Module):
    """Another function in training, without anything drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(2 * x if self.training else x)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 3), nn.Linear(6, 3)
        self.head = nn.Linear(3, 1)

    def forward(self, left: Tensor, right: Tensor) -> Any:
        return self.head(torch.tanh(self.left(left)) * self.right(right))


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.value, self.kind = nn.Linear(6, 5), nn.Linear(5, 1), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Any:
        hidden = torch.relu(self.body(x))
        return self.value(hidden), self.kind(hidden)


class LossInside(nn.Module):
    """`model(**batch)` gives the loss, as many libraries have it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.2), nn.Linear(5, 1))

    def forward(self, inputs: Tensor, labels: Tensor) -> Any:
        return {"loss": F.mse_loss(self.head(inputs), labels)}


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    model[0].requires_grad_(False)
    return model


def half_asleep() -> nn.Module:
    """A batch norm that its author keeps in eval mode."""
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))
    model[1].eval()
    return model


def both(outputs: Any, targets: Any) -> Tensor:
    return F.mse_loss(outputs[0], targets[0]) + F.cross_entropy(outputs[1], targets[1])


@dataclass(frozen=True)
class Kind:
    make: Callable[[], nn.Module]
    x: Any = None
    y: Any = None
    loss: Callable[[Any, Any], Tensor] = F.mse_loss
    batched: bool = True
    """Whether lanes are trained together."""

    def problem(self) -> steprule.Problem:
        x, y = X if self.x is None else self.x, Y if self.y is None else self.y
        parts = [(taken(x, part), taken(y, part)) for part in (slice(20), slice(20, 28), slice(28, COUNT))]
        name, held = "kind", {"validation": parts[1], "test": parts[2]}
        return steprule.Problem(name, "", *parts[0], self.make, self.loss, **held, batch_size=BATCH, epochs=EPOCHS)


def mlp(*middle: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(6, 5), *middle, nn.Linear(5, 1))


def small_cnn() -> nn.Module:
    body = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout2d(0.2), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(48, 3))


KINDS = {
    "linear": Kind(lambda: nn.Linear(6, 1)),
    "tanh": Kind(mlp(nn.Tanh())),
    "layer norm": Kind(lambda: nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 1))),
    "dropout": Kind(lambda: nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 1)), batched=False),
    "batch norm": Kind(lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 1)), batched=False),
    "batch norm asleep": Kind(half_asleep),
    "convolution": Kind(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)), IMAGES, CLASSES, F.cross_entropy),
    "convolution, batch norm, dropout": Kind(small_cnn, IMAGES, CLASSES, F.cross_entropy, batched=False),
    "embedding": Kind(lambda: nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 3)), LETTERS, CLASSES, F.cross_entropy),
    "lstm": Kind(lambda: Recurrent(nn.LSTM), SEQUENCES, batched=False),
    "gru": Kind(lambda: Recurrent(nn.GRU), SEQUENCES, batched=False),
    "attention": Kind(Attending, SEQUENCES),
    "transformer": Kind(lambda: nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Flatten(), nn.Linear(20, 1)), SEQUENCES, batched=False),
    "tied": Kind(Tied),
    "frozen": Kind(frozen, batched=False),
    "unused": Kind(Unused, batched=False),
    "buffer": Kind(Scaled),
    "buffers drawn": Kind(Fourier, batched=False),
    "noise": Kind(Noisy, batched=False),
    "another function in training": Kind(Doubling),
    "lazy": Kind(lambda: nn.LazyLinear(1)),
    "two inputs": Kind(TwoInputs, (X, X.flip(0)), batched=False),
    "named inputs": Kind(TwoInputs, {"left": X, "right": X.flip(0)}, batched=False),
    "two outputs": Kind(TwoOutputs, None, (Y, CLASSES), both, batched=False),
    "loss inside": Kind(LossInside, {"inputs": X, "labels": Y}, None, lambda outputs, _: outputs["loss"], batched=False),
    "loss a sum": Kind(mlp(nn.Tanh()), loss=lambda a, b: F.mse_loss(a, b, reduction="sum")),
    "loss of classes with weights": Kind(lambda: nn.Linear(6, 3), None, CLASSES, lambda a, b: F.cross_entropy(a, b, torch.tensor([1.0, 2.0, 5.0]))),
}  # fmt: skip


def plain(task: steprule.Problem, seed: int, lr: float) -> tuple[nn.Module, Callable[[Any, Any], float]]:
    """As everybody writes it; the seeds are the documented ones."""
    torch.manual_seed(stream(seed, 0))
    model = task.model()
    called(model, taken(task.features, slice(2))) if any(nn.parameter.is_lazy(p) for p in model.parameters()) else None
    # Momentum and not Adam: a bias before a batch norm has a gradient of rounding alone, which Adam blows up to whole steps.
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    for t, rows in enumerate(batches(20, BATCH, EPOCHS, seed), 1):
        torch.manual_seed(stream(seed, (2, t)))
        optimizer.zero_grad()
        task.loss(called(model, taken(task.features, rows)), taken(task.targets, rows)).backward()
        optimizer.step()

    def loss(x: Any, y: Any) -> float:
        model.eval()
        with torch.no_grad():
            return float(task.loss(called(model, x), y))

    return model, loss


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_buffers_of_a_plain_loop(kind: str) -> None:
    task = KINDS[kind].problem()
    model, loss = plain(task, 3, 0.01)
    for what, tolerance in ((torch.optim.SGD, 0.0), ("sgd", RULE_AGAINST_LOOP)):
        run = steprule.train(what, task, seed=3, epochs=EPOCHS, batch_size=BATCH, lr=0.01, momentum=0.9)
        for ours, theirs in zip(run.parameters, model.parameters(), strict=True):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=tolerance, atol=tolerance)
        for ours, theirs in zip(run.buffers, model.buffers(), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=tolerance, atol=tolerance)
        assert run.final_loss == pytest.approx(loss(task.features, task.targets), rel=max(tolerance, ROUNDED32))


@pytest.mark.filterwarnings("error")
def test_an_operation_that_vmap_loops_over() -> None:
    """torch warns of one, and which operations they are depends on the processor."""
    x, y = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 4
    task = steprule.Problem("margin", "", x, y, lambda: nn.Linear(3, 4), nn.functional.multi_margin_loss)
    found = steprule.sweep("sgd", task, {"lr": [0.01, 0.03]}, seeds=[3], epochs=2, batch_size=10, compile=False)
    assert found.engine.startswith("vmap")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.long)])
def test_lanes_of_a_sweep(kind: str, compiled: bool) -> None:
    task = KINDS[kind].problem()
    found = steprule.sweep("sgd", task, {"lr": [0.01, 0.03], "momentum": 0.9}, seeds=[3, 4], compile=compiled)
    assert (found.engine.startswith("one by one")) is not KINDS[kind].batched
    for k, lr in enumerate((0.01, 0.03)):
        for s, seed in enumerate((3, 4)):
            _, loss = plain(task, seed, lr)
            held = ((task.features, task.targets), task.validation, task.test)
            ours = (found.train[k, s], found.validation[k, s], found.test[k, s])
            np.testing.assert_allclose(ours, [loss(*part) for part in held], rtol=HELD_OUT)


@pytest.mark.parametrize("kind", thinned(["dropout", "convolution, batch norm, dropout", "loss inside"], 3))
@pytest.mark.long
def test_a_race_is_the_same_again(kind: str, in_folder: Any) -> None:
    task = KINDS[kind].problem()
    found = [
        races.race(
            ["adam", torch.optim.SGD], task, trials=2, seeds=2, fresh=2, schedules=["linear"], out=out, workers=workers
        )
        for out, workers in (("one", 1), ("one", 1), ("two", 2))
    ]
    assert [f.trained > 0 for f in found] == [True, False, True]
    tables = [(in_folder / out / "results.parquet").read_bytes() for out in ("one", "two")]
    assert tables[0] == tables[1]


def test_no_held_out_row_is_seen_in_training_mode() -> None:
    seen: list[tuple[int, bool]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.BatchNorm1d(1), nn.Dropout(0.5), nn.Linear(1, 1))

        def forward(self, x: Tensor) -> Any:
            seen.extend((int(row), self.training) for row in x[:, 0])
            return self.body(x)

    rows = torch.arange(60.0)[:, None]
    parts = rows[:20], rows[20:40], rows[40:]
    task = steprule.Problem(
        "w", "", parts[0], parts[0], Watched, F.mse_loss, validation=(parts[1],) * 2, test=(parts[2],) * 2, batch_size=5
    )
    steprule.train("adam", task)
    steprule.sweep("adam", task, {"lr": [0.1, 0.01]})
    races.race(["adam", torch.optim.SGD], task, trials=2, seeds=2, fresh=2, schedules=["linear"])
    assert {row for row, training in seen if training} == set(range(20))
    assert {row for row, training in seen if not training} == set(range(60))


def test_the_callers_generator_is_left_alone() -> None:
    task = KINDS["dropout"].problem()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    steprule.train("adam", task)
    steprule.sweep("adam", task, {"lr": [0.1]})
    assert torch.equal(before, torch.random.get_rng_state())


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "no factory": (lambda: steprule.Problem("p", "", X, Y, nn.Linear(6, 1), F.mse_loss), "a function that makes a model"),
    "text": (lambda: steprule.Problem("p", "", X, ["cat"] * COUNT, mlp(), F.cross_entropy), "expected numbers"),
    "epochs": (lambda: steprule.Problem("p", "", X, Y, mlp(), F.mse_loss, epochs=0), "epochs: expected 1 or more, got 0"),
    "float64": (lambda: steprule.Problem("p", "", X.double(), Y, mlp(), F.mse_loss), "failed on its first samples"),
    "a loss a sample": (lambda: steprule.Problem("p", "", X, Y, mlp(), lambda a, b: (a - b) ** 2), "expected one number, got a tensor of shape"),
    "no gradient": (lambda: steprule.Problem("p", "", X, Y, mlp(), lambda a, b: F.mse_loss(a.detach(), b)), "depends on the model's parameters"),
    "no parameter": (lambda: steprule.Problem("p", "", X, Y, nn.Identity, F.mse_loss), "a parameter that can be trained"),
    "bfloat16": (lambda: steprule.Problem("p", "", X.bfloat16(), Y.bfloat16(), lambda: mlp()().bfloat16(), F.mse_loss), "float32 or float64, got bfloat16"),
    "shapes": (lambda: steprule.Problem("p", "", X, Y[:, 0], mlp(), F.mse_loss), "Give both one shape"),
    "shapes, by hand": (lambda: steprule.Problem("p", "", X, Y[:, 0], mlp(), lambda a, b: ((a - b) ** 2).mean()), "Give both one shape"),
    "wide test": (lambda: steprule.Problem("p", "", X, Y, mlp(), F.mse_loss, test=(drawn(4, 9), Y[:4])), "sample of the test data"),
    "out of range": (lambda: steprule.Problem("p", "", X, CLASSES + 9, lambda: nn.Linear(6, 3), F.cross_entropy), "targets: expected classes 0 to 2, got"),
    "nan": (lambda: steprule.Problem("p", "", X, CLASSES * 0 - 100, lambda: nn.Linear(6, 3), F.cross_entropy), "expected a number, got nan"),
    "batch of one": (lambda: steprule.Problem("p", "", X, Y, lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), F.mse_loss, batch_size=35), "the model failed in step 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_one_line(name: str) -> None:
    make, words = BAD[name]

    def everything() -> None:
        task = make()
        steprule.train("adam", task, batch_size=task.batch_size)

    for run in (
        everything,
        lambda: steprule.sweep("adam", make()),
        lambda: races.race(["adam"], make(), trials=1, seeds=2, fresh=2),
    ):
        with pytest.raises(steprule.errors.StepruleError) as caught:
            run()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_users_own_line_is_named(in_folder: Any) -> None:
    (in_folder / "mine.py").write_text(
        "import torch, steprule\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.a = torch.nn.Linear(3, 1)\n    def forward(self, x):\n        return self.a(x, wrong=1)\n"
        "p = steprule.Problem('p', '', torch.randn(9, 3), torch.randn(9, 1), Net, torch.nn.functional.mse_loss)\n"
    )
    with pytest.raises(steprule.errors.InputError, match=r"mine.py:7: problem p: the model failed .*wrong"):
        steprule.train("adam", "mine.py:p")
