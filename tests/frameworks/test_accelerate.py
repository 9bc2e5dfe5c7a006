"""Accelerate: prepare, accumulate, clip, a schedule, bfloat16, save_state and load_state, in one process and in two."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from same import OURS, RESUMED, TORCHS, Trained, assert_differ, assert_same, both, data, needed, net, weights_of
from torch import nn

import steprule

(accelerate,) = needed("accelerate")
pytestmark = pytest.mark.long

CLIPS = {"not": {}, "norm": {"norm": 0.2}, "value": {"value": 0.02}}


class Training:
    """A loop as Accelerate's documentation writes it, which can be saved and loaded."""

    def __init__(
        self, make: Any, *, accumulates: int = 1, precision: str = "no", clip: dict[str, float] | None = None
    ) -> None:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = accelerate.Accelerator(
            cpu=True, gradient_accumulation_steps=accumulates, mixed_precision=precision
        )
        accelerate.utils.set_seed(0)
        model = net()
        optimizer = make(model)
        cycles = bool(
            {"betas", "momentum"} & optimizer.defaults.keys()
        )  # groups of several rules have no momentum in common
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=40, cycle_momentum=cycles)
        loader = torch.utils.data.DataLoader(data(), batch_size=4)
        self.model, self.optimizer, self.loader, self.schedule = self.accelerator.prepare(
            model, optimizer, loader, schedule
        )
        self.clip = clip or {}

    def run(self) -> Trained:
        """One epoch."""
        losses = []
        for x, y in self.loader:
            with self.accelerator.accumulate(self.model):
                loss = nn.functional.mse_loss(self.model(x), y)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients and "norm" in self.clip:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip["norm"])
                if self.accelerator.sync_gradients and "value" in self.clip:
                    self.accelerator.clip_grad_value_(self.model.parameters(), self.clip["value"])
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
            losses.append(float(loss.detach()))
        return Trained(losses, weights_of(self.model))


def making(module: Any, **settings: Any) -> Any:
    return lambda model: module.AdamW(model.parameters(), lr=0.02, **settings)


@pytest.mark.parametrize(("clip", "accumulates", "precision"), [*product(CLIPS, (1, 4), ("no", "bf16"))])
def test_as_torch(clip: str, accumulates: int, precision: str) -> None:
    settings: dict[str, Any] = {"clip": CLIPS[clip], "accumulates": accumulates, "precision": precision}
    ours, theirs = both(lambda module: Training(making(module), **settings).run())
    assert_same(ours, theirs, low=precision == "bf16")


def test_the_settings_act() -> None:
    plain, *clipped = (Training(making(OURS), clip=clip).run() for clip in CLIPS.values())
    for other in clipped:
        assert_differ(plain, other)


@pytest.mark.parametrize("accumulates", [1, 4])
def test_clipping_in_the_step(accumulates: int) -> None:
    theirs = Training(making(TORCHS), clip=CLIPS["norm"], accumulates=accumulates).run()
    assert_same(Training(making(OURS, clip_norm=0.2, zero_grad=True), accumulates=accumulates).run(), theirs)


def two_epochs(folder: Path, first: Any, second: Any, **settings: Any) -> tuple[Trained, Training]:
    """The second of two epochs, behind a checkpoint of the first; one object trains both where there is no second."""
    made = Training(first, **settings)
    made.run()
    if second is not None:
        made.accelerator.save_state(str(folder))
        made = Training(second, **settings)
        made.accelerator.load_state(str(folder))
    return made.run(), made


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("saves_and_goes_on", RESUMED.values(), ids=list(RESUMED))
def test_resumed(saves_and_goes_on: tuple[Any, Any], precision: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"clip": CLIPS["norm"], "accumulates": 2, "precision": precision}
    whole, _ = two_epochs(tmp_path, making(TORCHS), None, **settings)
    resumed, _ = two_epochs(tmp_path, *map(making, saves_and_goes_on), **settings)
    assert_same(resumed, whole, low=precision == "bf16")


EXACTLY = {
    "clipping, an average": making(OURS, clip_norm=0.2, ema_decay=0.9),
    "Lion": lambda model: steprule.optim.Lion(model.parameters(), lr=0.02),
    "a rule per kind": steprule.by_kind(matrix="muon", other="adamw"),
    "two points": lambda model: steprule.optim.from_rule("schedule_free_sgd")(model.parameters(), lr=0.02),
}


@pytest.mark.parametrize("make", EXACTLY.values(), ids=list(EXACTLY))
def test_resumed_exactly(make: Any, tmp_path: Path) -> None:
    """What torch has no class for goes on bit by bit."""
    whole, first = two_epochs(tmp_path, make, None)
    resumed, second = two_epochs(tmp_path, make, make)
    assert resumed.losses == whole.losses
    for p, q in zip(first.model.parameters(), second.model.parameters(), strict=True):
        held, loaded = (t.optimizer.optimizer.state[w] for t, w in ((first, p), (second, q)))
        assert held.keys() == loaded.keys()
        assert all([torch.equal(held[name], loaded[name]) for name in held])
