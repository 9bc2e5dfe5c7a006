"""Lightning: automatic and manual optimization, its clipping, accumulation, bf16-mixed, averages of weights, resuming, Fabric."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import compare
import pytest
import torch
from same import OURS, RESUMED, TORCHS, Trained, assert_differ, assert_same, both, data, needed, net, weights_of
from tolerances import CLASS_BFLOAT16_RUN, CLASS_FLOAT32_FEW_STEPS, SUMMED32
from torch import nn

import steprule

(lightning,) = needed("lightning")
callbacks = lightning.pytorch.callbacks
pytestmark = pytest.mark.long

CLIPS = {"not": {}, "norm": {"gradient_clip_val": 0.2}, "value": {"gradient_clip_val": 0.02, "gradient_clip_algorithm": "value"}}  # fmt: skip
LOW = ("bf16-mixed", "16-mixed", "bf16-true")


class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
    """A module as Lightning's documentation writes it; `make` makes the optimizer of the model."""

    def __init__(self, make: Callable[[nn.Module], Any], schedules: bool = True) -> None:
        super().__init__()
        self.net, self.make, self.schedules = net(), make, schedules
        self.seen: list[float] = []

    def training_step(self, batch: Any, index: int) -> Any:
        torch.manual_seed(
            100 * self.current_epoch + index
        )  # Lightning's checkpoints lack the state of the dropout's generator
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.seen.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = self.make(self.net)
        if not self.schedules:
            return optimizer
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=40)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Manual(Module):
    """Manual optimization: it accumulates two batches and clips by itself."""

    def __init__(self, make: Callable[[nn.Module], Any]) -> None:
        super().__init__(make, schedules=False)
        self.automatic_optimization = False

    def training_step(self, batch: Any, index: int) -> None:
        optimizer = self.optimizers()
        self.manual_backward(super().training_step(batch, index))
        if index % 2:
            self.clip_gradients(optimizer, gradient_clip_val=0.2, gradient_clip_algorithm="norm")
            optimizer.step()
            optimizer.zero_grad()


def making(module: Any, name: str = "AdamW", **settings: Any) -> Any:
    return lambda model: getattr(module, name)(model.parameters(), **{"lr": 0.02, **settings})


def trainer(folder: Path, **settings: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    shared = {"accelerator": "cpu", "devices": 1, "max_epochs": 2, "enable_checkpointing": False, **quiet}
    return lightning.Trainer(default_root_dir=str(folder), **{**shared, **settings})


def loader() -> Any:
    return torch.utils.data.DataLoader(data(), batch_size=8)


def fit(model: Any, folder: Path, resume: Path | None = None, **settings: Any) -> Trained:
    trainer(folder, **settings).fit(model, loader(), loader(), ckpt_path=resume)
    return Trained(model.seen, weights_of(model.net))


@pytest.mark.parametrize(
    ("clip", "accumulates", "precision"), [*product(CLIPS, (1, 4), ("32-true", "bf16-mixed", "16-mixed"))]
)
def test_automatic(clip: str, accumulates: int, precision: str, tmp_path: Path) -> None:
    settings = {**CLIPS[clip], "accumulate_grad_batches": accumulates, "precision": precision}
    ours, theirs = both(lambda module: fit(Module(making(module)), tmp_path, **settings))
    assert_same(ours, theirs, low=precision in LOW)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_all_of_the_model_in_another_precision(precision: str, tmp_path: Path) -> None:
    """Ours rounds a bfloat16 weight once a step, torch's more often."""
    ours, theirs = both(lambda module: fit(Module(making(module)), tmp_path, precision=precision))
    if precision == "64-true":
        assert_same(ours, theirs)
    else:
        assert ours.losses == pytest.approx(theirs.losses, rel=CLASS_BFLOAT16_RUN)


def test_the_settings_act(tmp_path: Path) -> None:
    plain, *clipped = (fit(Module(making(OURS)), tmp_path, **clip) for clip in CLIPS.values())
    for other in clipped:
        assert_differ(plain, other)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("accumulates", [1, 4])
def test_clipping_in_the_step(accumulates: int, precision: str, tmp_path: Path) -> None:
    settings = {"accumulate_grad_batches": accumulates, "precision": precision}
    theirs = fit(Module(making(TORCHS)), tmp_path, **CLIPS["norm"], **settings)
    ours = fit(Module(making(OURS, clip_norm=0.2, zero_grad=True)), tmp_path, **settings)
    assert_same(ours, theirs, low=precision in LOW)


@pytest.mark.parametrize(
    "name", ["SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD", "Adafactor"]
)
def test_every_class(name: str, tmp_path: Path) -> None:
    assert_same(*both(lambda module: fit(Module(making(module, name), schedules=False), tmp_path, max_epochs=1)))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_manual(precision: str, tmp_path: Path) -> None:
    ours, theirs = both(lambda module: fit(Manual(making(module)), tmp_path, precision=precision))
    assert_same(ours, theirs, low=precision in LOW)


@pytest.mark.parametrize("kind", [Module, Manual], ids=["automatic", "manual"])
@pytest.mark.parametrize("saves_and_goes_on", RESUMED.values(), ids=list(RESUMED))
def test_resumed(saves_and_goes_on: tuple[Any, Any], kind: Any, tmp_path: Path) -> None:
    settings = CLIPS["norm"] if kind is Module else {}
    whole = fit(kind(making(TORCHS)), tmp_path, **settings)
    first, second = (making(module) for module in saves_and_goes_on)
    made = trainer(tmp_path, max_epochs=1, **settings)
    made.fit(kind(first), loader(), loader())
    made.save_checkpoint(tmp_path / "half.ckpt")
    resumed = fit(kind(second), tmp_path, tmp_path / "half.ckpt", **settings)
    assert_same(resumed, Trained(whole.losses[8:], whole.weights))


# Averages of the weights

AVERAGES: dict[str, Callable[[], Any]] = {
    "EMA": lambda: callbacks.EMAWeightAveraging(decay=0.9),
    "every step alike": lambda: callbacks.WeightAveraging(),
    "SWA": lambda: callbacks.StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1),
}


@pytest.mark.parametrize("average", AVERAGES)
def test_averages(average: str, tmp_path: Path) -> None:
    """Lightning's callbacks put the average into the model at the end: it is torch's."""
    run = lambda module: fit(  # noqa: E731
        Module(making(module), schedules=False), tmp_path, callbacks=[AVERAGES[average]()], max_epochs=4
    )
    ours, theirs = both(run)
    assert_same(ours, theirs)
    for p, q in zip(ours.weights, theirs.weights, strict=True):
        assert compare.apart(p, q) <= CLASS_FLOAT32_FEW_STEPS


def test_the_average_of_the_class_is_lightnings(tmp_path: Path) -> None:
    """`ema_decay=` and the callback, which begins with the weights before the first step."""
    theirs = fit(
        Module(making(TORCHS)), tmp_path, callbacks=[callbacks.EMAWeightAveraging(decay=0.9, update_starting_at_step=0)]
    )
    made = Module(making(OURS, ema_decay=0.9))
    fit(made, tmp_path)
    with made.optimizers().optimizer.ema_weights():
        for p, q in zip(weights_of(made.net), theirs.weights, strict=True):
            assert compare.apart(p, q) <= CLASS_FLOAT32_FEW_STEPS


# What torch has no class for

CLASSES: dict[str, Callable[[nn.Module], Any]] = {
    "clipping, an average": making(OURS, clip_norm=0.2, ema_decay=0.9),
    "Lion": making(OURS, "Lion"),
    "a rule per kind": steprule.by_kind(matrix="muon", other="adamw"),
    "two points": lambda model: steprule.optim.from_rule("schedule_free_sgd")(model.parameters(), lr=0.02),
    "looks twice": lambda model: steprule.optim.from_rule("sam_adamw")(model.parameters(), lr=0.02),
}


@pytest.mark.parametrize("name", CLASSES)
def test_resumed_exactly(name: str, tmp_path: Path) -> None:
    """Lightning gives `step` a closure, so that a rule that looks twice can."""
    whole = fit(Module(CLASSES[name], schedules=False), tmp_path)
    made = trainer(tmp_path, max_epochs=1)
    made.fit(Module(CLASSES[name], schedules=False), loader(), loader())
    made.save_checkpoint(tmp_path / "half.ckpt")
    resumed = fit(Module(CLASSES[name], schedules=False), tmp_path, tmp_path / "half.ckpt")
    assert resumed.losses == whole.losses[-len(resumed.losses) :]
    assert len(resumed.losses) == len(whole.losses) / 2


class TwoPoints(Module):
    """It is measured where the rule says, and goes on where it trained."""

    def on_validation_start(self) -> None:
        self.optimizers().eval()

    def on_validation_end(self) -> None:
        self.optimizers().train()


def test_a_rule_with_two_points_is_measured_at_its_own(tmp_path: Path) -> None:
    make = CLASSES["two points"]
    plain, own = Module(make, schedules=False), TwoPoints(make, schedules=False)
    trainers = [trainer(tmp_path), trainer(tmp_path)]
    for one, model in zip(trainers, (plain, own), strict=True):
        one.fit(model, loader(), loader())
    assert own.seen == plain.seen
    assert all([torch.equal(p, q) for p, q in zip(weights_of(plain.net), weights_of(own.net), strict=True)])
    measured = []
    with plain.optimizers().optimizer.evaluated(), torch.no_grad():
        plain.net.eval()
        measured = [float(nn.functional.mse_loss(plain.net(x), y)) for x, y in loader()]
    assert float(trainers[1].callback_metrics["val"]) == pytest.approx(sum(measured) / len(measured), rel=SUMMED32)
    assert float(trainers[0].callback_metrics["val"]) != pytest.approx(sum(measured) / len(measured), rel=SUMMED32)


def test_lightning_refuses_its_clipping_of_what_unscales(tmp_path: Path) -> None:
    """Of torch's fused form, and of ours where it is asked for."""
    settings = {"precision": "bf16-mixed", **CLIPS["norm"]}
    for make in (making(TORCHS, fused=True), making(OURS, fused=True), making(OURS, fused_unscale=True)):
        with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
            fit(Module(make), tmp_path, **settings)


# Fabric


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("clip", [{}, {"max_norm": 0.2}, {"clip_val": 0.02}], ids=str)
@pytest.mark.parametrize("saves_and_goes_on", RESUMED.values(), ids=list(RESUMED))
def test_fabric(saves_and_goes_on: tuple[Any, Any], clip: dict[str, float], precision: str, tmp_path: Path) -> None:
    def epochs(*kinds: Any) -> Trained:
        """An epoch by each class in turn, each from the checkpoint of the one before."""
        losses: list[float] = []
        for k, kind in enumerate(kinds):
            fabric = lightning.Fabric(accelerator="cpu", devices=1, precision=precision)
            model, optimizer = fabric.setup(module := net(), making(kind)(module))
            state = {"model": model, "optimizer": optimizer}
            if k:
                fabric.load(tmp_path / "state.ckpt", state)
            torch.manual_seed(k)
            for x, y in loader():
                loss = nn.functional.mse_loss(model(x), y)
                fabric.backward(loss)
                if clip:
                    fabric.clip_gradients(model, optimizer, **clip)
                optimizer.step()
                optimizer.zero_grad()
                losses.append(float(loss.detach()))
            fabric.save(tmp_path / "state.ckpt", state)
        return Trained(losses, weights_of(module))

    assert_same(epochs(*saves_and_goes_on), epochs(TORCHS, TORCHS), low=precision in LOW)
