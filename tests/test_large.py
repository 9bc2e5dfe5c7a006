"""Large models: stepped by the rule's kernels, one by one on all cores, and kept in the middle of a training."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import steprule
from steprule.lanes import keeping
from steprule.lanes.one_by_one import one_by_one
from steprule.lanes.records import Trainings
from steprule.problems.source import batches
from steprule.races import partial
from steprule.races.spec import spec_of
from steprule.steppers import LARGE, LargeStepper, RuleStepper, stepper_of
from steprule.trainable import Trainable
from steprule.training import under_way
from steprule.training.recipe import Recipe

CLOSE = 2e-5


def wide(width: int = 1_000, samples: int = 24) -> steprule.Problem:
    """A layer of `width` x `width`: a million parameters."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(samples, width, generator=generator)
    y = torch.randn(samples, width, generator=generator)
    model = lambda: nn.Linear(width, width)  # noqa: E731
    return steprule.Problem("wide", "", x, y, model, nn.functional.mse_loss, batch_size=10, epochs=2)


@pytest.mark.parametrize(
    ("rule", "theirs", "hypers"),
    [
        ("adam", torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6}),
        ("sgd", torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.01}),
    ],
)
def test_a_large_model_is_trained_as_by_torch(rule: str, theirs: Any, hypers: dict[str, Any]) -> None:
    task = wide()
    assert sum(p.numel() for p in task.model().parameters()) >= LARGE
    model = task.initial_model(0)
    optimizer = theirs(model.parameters(), **hypers)
    for rows in batches(task.samples, 10, 2, 0):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(task.features[rows]), task.targets[rows]).backward()
        optimizer.step()
    found = steprule.train(rule, task, **hypers)
    for ours, p in zip(found.parameters, model.parameters(), strict=True):
        assert np.allclose(ours, p.detach().numpy(), rtol=CLOSE, atol=CLOSE)
    assert {n: found.hypers[n] for n in ("lr", "weight_decay")} == {
        "weight_decay": 0.0,
        **{n: hypers[n] for n in hypers if n in ("lr", "weight_decay")},
    }


def test_who_steps_it() -> None:
    rule = steprule.rules.resolve("adam")
    assert isinstance(stepper_of(rule, nn.Linear(10, 10), {}), RuleStepper)
    assert isinstance(stepper_of(rule, nn.Linear(1_000, 1_000), {}), LargeStepper)

    @steprule.rule
    def strange(p, g, step, *, lr: steprule.hyper.Rate = 0.1):  # type: ignore[no-untyped-def]
        step = step + g
        return p - lr * step, step

    assert isinstance(stepper_of(strange, nn.Linear(1_000, 1_000), {}), RuleStepper)  # no class can have a slot `step`


def test_lanes_of_a_large_model_go_one_by_one_on_all_cores() -> None:
    found = steprule.sweep("adam", wide(), {"lr": [1e-3, 1e-2]}, epochs=1)
    assert found.engine.startswith("one by one: a model of a million parameters")
    spec = spec_of("adam", [wide(), "airfoil-linear"])
    assert {n: p.threads for n, p in spec.configs.items()} == {"wide": torch.get_num_threads(), "airfoil-linear": 1}
    assert spec.block("wide", "adam") < spec.block("airfoil-linear", "adam")


class _Keeper:
    """Ends a training behind a step, and gives what was saved last."""

    def __init__(self, after: int) -> None:
        self.after, self.asked, self.kept = after, 0, b""

    def load(self) -> bytes | None:
        return self.kept or None

    def is_due(self) -> bool:
        return True

    def save(self, told: bytes | None) -> None:
        self.kept = told or b""
        self.asked += 1
        if self.asked == self.after:
            raise KeyboardInterrupt


class Noisy(torch.optim.SGD):
    """Draws in each step, and counts its steps outside of its state."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                p.grad += torch.randn(p.shape) / self.steps
        return super().step(closure)


def dropped() -> steprule.Problem:
    """With dropout, a batch norm and a metric."""
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(1))
    body = lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))  # noqa: E731
    metrics = {"most": lambda outputs, targets: (outputs - targets).abs().max()}
    return steprule.Problem(
        "dropped", "", x, x.sum(1, keepdim=True), body, nn.functional.mse_loss, batch_size=20, epochs=3, metrics=metrics,
        validation=(x[:20], x[:20].sum(1, keepdim=True)),
    )  # fmt: skip


@pytest.mark.parametrize(
    "what",
    ["adam", torch.optim.AdamW, Noisy, pytest.param(torch.optim.LBFGS, marks=pytest.mark.long)],
    ids=lambda w: getattr(w, "__name__", w),
)
@pytest.mark.parametrize("after", [5, *(pytest.param(k, marks=pytest.mark.long) for k in (1, 4, 8))])
def test_a_training_goes_on_in_its_middle(what: Any, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three trainings of nine steps, each kept at its steps 2, 5, 8 and at its end."""
    monkeypatch.setattr(under_way, "TRIED", 1)
    task = dropped()
    resolved = Trainable.of(what).what
    lanes = Trainings({"lr": np.array([0.01, 0.02, 0.03])}, np.array([0, 1, 1]))
    recipe = Recipe(3, 20, steprule.schedules.get("cosine"))
    whole = one_by_one(task, resolved, lanes, recipe)
    keeper = _Keeper(after)
    with pytest.raises(KeyboardInterrupt):
        one_by_one(task, resolved, lanes, recipe, keeper)
    assert keeper.kept
    kept = keeping.loaded(keeper.load())
    finished = 9 * len(kept["found"]["initial"]) + (kept["state"]["done"] if "state" in kept else 0)
    assert finished == {1: 2, 4: 9, 5: 11, 8: 18}[after]
    taken: list[int] = []
    real = under_way.Training._step
    monkeypatch.setattr(under_way.Training, "_step", lambda self, t, data: taken.append(t) or real(self, t, data))
    monkeypatch.setattr(_Keeper, "is_due", lambda self: False)
    again = one_by_one(task, resolved, lanes, recipe, keeper)
    assert len(taken) == 27 - finished
    for name in ("train", "validation", "initial", "died_at", "curve", "metrics"):
        assert np.array_equal(getattr(again, name), getattr(whole, name), equal_nan=True), name


SCRIPT = """
import sys, time
import torch, steprule
from steprule.races import partial
from torch import nn

class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        partial.EVERY, partial.DEAR = 0.05, 0.0  # in a worker too
        self.body = nn.Linear(5, 1)
    def forward(self, x):
        if self.training:
            with open(sys.argv[2], "a") as told:
                told.write("x")
            time.sleep(0.002)
        return self.body(x)

if __name__ == "__main__":
    x = torch.randn(400, 5, generator=torch.Generator().manual_seed(1))
    task = steprule.Problem("slow", "", x, x.sum(1, keepdim=True), Counted, nn.functional.mse_loss, batch_size=1, epochs=1)
    who = steprule.races.Competitor(torch.optim.Adam, space={}, hypers={"lr": 0.01}, label="adam")
    steprule.race(who, task, trials=1, seeds=1, fresh=1, schedules="constant", workers=int(sys.argv[3]), out=sys.argv[1])
"""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_race_that_is_killed_goes_on_in_the_middle_of_a_training(workers: int, tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SCRIPT)

    def run(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, script, tmp_path / name, tmp_path / f"{name}.txt", str(workers)])

    assert run("whole").wait() == 0
    child = run("parts")
    told = tmp_path / "parts.txt"
    while not told.exists() or told.stat().st_size < 250:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    killed = told.stat().st_size
    assert [p.suffix for p in (tmp_path / "parts/blocks").iterdir() if p.suffix != ".new"] == [".partial"]
    assert not list((tmp_path / "parts/blocks").glob("[!.]*"))
    assert run("parts").wait() == 0
    assert (tmp_path / "whole/results.parquet").read_bytes() == (tmp_path / "parts/results.parquet").read_bytes()
    steps = (tmp_path / "whole.txt").stat().st_size
    assert told.stat().st_size < steps + killed - 50, f"{killed} steps were made again"
    assert not list((tmp_path / "parts/blocks").glob(".*.partial"))


def test_what_was_kept_and_is_of_no_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = partial.Partial(tmp_path / ".block.partial", "race")
    assert kept.load() is None
    assert not kept.is_due()
    monkeypatch.setattr(partial, "EVERY", 0.0)
    assert kept.is_due()
    kept.save(b"a training")
    assert kept.load() == b"a training"
    assert partial.Partial(kept.path, "another race").load() is None
    kept.save(None)
    assert not list(tmp_path.iterdir())
    for garbage in (b"", b"race", b"race\n", b"race\nno pickle", b"\x00" * 99):
        kept.path.write_bytes(garbage)
        assert keeping.loaded(kept.load()) == {}
    kept.path.unlink()
    kept.path.mkdir()  # as a disk that cannot be written
    kept.save(b"a training")
    assert kept.load() is None


class ById(torch.optim.SGD):
    """Keeps momentum by the parameters' ids."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)
        self.m: dict[int, torch.Tensor] = {}

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                m = self.m.setdefault(id(p), torch.zeros_like(p))
                m.mul_(0.9).add_(p.grad)
                p.grad.copy_(m)
        return super().step(closure)


class Accumulates(torch.optim.SGD):
    """Steps with the sum of two gradients."""

    k = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        if self.k % 2 == 0:
            super().zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        self.k += 1
        return super().step(closure)


class Flat(torch.optim.SGD):
    """Steps one buffer of which the parameters are views."""

    def __init__(self, params: Any, lr: float) -> None:
        params = list(params)
        super().__init__(params, lr=lr)
        self.flat = torch.cat([p.detach().reshape(-1) for p in params])
        low = 0
        for p in params:
            p.data = self.flat[low : low + p.numel()].view_as(p)
            low += p.numel()

    def step(self, closure: Any = None) -> Any:
        grads = [p.grad.reshape(-1) for p in self.param_groups[0]["params"]]
        self.flat.sub_(self.param_groups[0]["lr"] * torch.cat(grads))


class Hooked(nn.Module):
    """The usual way to clip."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(5, 1)
        for p in self.parameters():
            p.register_hook(lambda g: g.clamp(-50, 50))  # acts at an outlier alone, which a trial may not see

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)  # type: ignore[no-any-return]


class OwnRate(torch.optim.SGD):
    """Keeps a rate in a closure, which cloudpickle takes along."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)
        steps = [0]

        def rate() -> float:
            steps[0] += 1
            return lr / steps[0]

        self.rate = rate

    def step(self, closure: Any = None) -> Any:
        self.param_groups[0]["lr"] = self.rate()
        return super().step(closure)


class Waits(torch.optim.SGD):
    """Every twentieth step it goes half the way back to where it was, which it keeps by the parameter's id (Lookahead, as many write it)."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)
        self.slow: dict[int, torch.Tensor] = {}
        self.steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        self.steps += 1
        for p in self.param_groups[0]["params"]:
            if self.steps % 20 == 0 and id(p) in self.slow:
                p.add_(self.slow[id(p)] - p, alpha=0.5)
            if self.steps % 20 == 0:
                self.slow[id(p)] = p.clone()


def held_by_a_generator(params: Any, lr: float) -> Any:
    found = torch.optim.SGD(params, lr=lr)
    found.rates = (lr for _ in range(9))  # type: ignore[attr-defined]  # cannot be pickled
    return found


@pytest.mark.parametrize(
    ("what", "model", "goes_on"),
    [
        (torch.optim.SGD, lambda: nn.Linear(5, 1), True),
        (Accumulates, lambda: nn.Linear(5, 1), True),
        (OwnRate, lambda: nn.Linear(5, 1), True),
        (ById, lambda: nn.Linear(5, 1), False),
        (Waits, lambda: nn.Linear(5, 1), False),
        (Flat, lambda: nn.Linear(5, 1), False),
        (torch.optim.SGD, Hooked, False),
        (held_by_a_generator, lambda: nn.Linear(5, 1), False),
    ],
)
def test_what_a_copy_would_lose_begins_again(what: Any, model: Any, goes_on: bool) -> None:
    """What is kept is found by some steps of each copy, beside those that the training itself takes."""
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(1))
    task = steprule.Problem("line", "", x, x.sum(1, keepdim=True), model, nn.functional.mse_loss)
    lanes = Trainings({"lr": np.array([0.01])}, np.array([0]))
    recipe = Recipe(20, 20)
    whole = one_by_one(task, what, lanes, recipe)
    times = 2 if goes_on else 1
    keeper = _Keeper(3 if what is Waits else times)  # what waits holds no id before its twentieth step
    with pytest.raises(KeyboardInterrupt):
        one_by_one(task, what, lanes, recipe, keeper)
    assert ("state" in keeping.loaded(keeper.kept)) == goes_on
    again = one_by_one(task, what, lanes, recipe, keeper)
    assert np.array_equal(again.train, whole.train)


class Counts(nn.Module):
    """A loss that is annealed by its own calls: a copy's calls would count too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            self.calls += 1
        return ((ours - theirs) ** 2).mean() * (1 + 1e-4 * self.calls)


@pytest.mark.parametrize("by_step", [False, True])
def test_trying_a_copy_changes_no_number(by_step: bool) -> None:
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(1))
    lanes = Trainings({"lr": np.array([0.01])}, np.array([0]))
    recipe = Recipe(12, 20)

    def trained(keeper: Any) -> Any:
        loss = Counts()
        given_as: dict[str, Any] = {"loss": loss}
        if by_step:
            given_as = {"training_step": lambda model, batch: loss(model(batch[0]), batch[1])}
        task = steprule.Problem("counted", "", x, x.sum(1, keepdim=True), lambda: nn.Linear(5, 1), **given_as)
        return one_by_one(task, torch.optim.SGD, lanes, recipe, keeper).train

    keeper = _Keeper(99)
    assert np.array_equal(trained(None), trained(keeper))
    assert "state" not in keeping.loaded(keeper.kept)


def test_finished_trainings_are_kept_however_short_they_are() -> None:
    task = dropped()
    lanes = Trainings({"lr": np.full(6, 0.01)}, np.arange(6))
    recipe = Recipe(1, 20)
    whole = one_by_one(task, torch.optim.SGD, lanes, recipe)
    keeper = _Keeper(4)
    with pytest.raises(KeyboardInterrupt):
        one_by_one(task, torch.optim.SGD, lanes, recipe, keeper)
    assert len(keeping.loaded(keeper.kept)["found"]["initial"]) == 4
    again = one_by_one(task, torch.optim.SGD, lanes, recipe, keeper)
    assert np.array_equal(again.train, whole.train)


def test_the_search_for_ids_ends() -> None:
    """It stays out of Python's modules (torch's warn when they are looked at), and deep nesting is no end of it."""
    deep: list[Any] = [7]
    for _ in range(5_000):
        deep = [deep, deep]
    round_about: dict[str, Any] = {"torch": torch, "deep": deep}
    round_about["self"] = round_about
    assert under_way._holds(round_about, {7})
    assert not under_way._holds(round_about, {8})


def test_an_estimate_counts_the_threads_of_a_large_model() -> None:
    """One training at a time takes all cores; small ones take one each."""
    x = torch.randn(8, 4)
    for width, threads in ((600_000, torch.get_num_threads()), (8, 1)):
        task = steprule.Problem(
            "task",
            "",
            x,
            x[:, :1],
            lambda w=width: nn.Sequential(nn.Linear(4, w), nn.Linear(w, 1)),
            nn.functional.mse_loss,
            epochs=1,
        )
        found = steprule.races.estimate(
            torch.optim.SGD, task, trials=1, seeds=1, fresh=1, schedules="constant", workers=1
        )
        assert found.threads == threads
        assert f"on {threads} core{'' if threads == 1 else 's'}" in found.in_words()
