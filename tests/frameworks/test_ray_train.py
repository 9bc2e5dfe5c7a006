"""Ray Train: two workers, a checkpoint of torch's class that ours goes on from, and the other way; a class made by the driver."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from same import RESUMED, TORCHS, Trained, assert_same, data, needed, net, weights_of
from torch import nn

import steprule
from steprule.hyper import Decay, Rate

ray, _, train = needed("ray", "ray.train.torch", "ray.train")
pytestmark = pytest.mark.long

EPOCHS = 3


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    here = Path(__file__).parent
    paths = {"PYTHONPATH": f"{here}:{here.parent}"}
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": paths})
    yield
    ray.shutdown()


def loop(config: dict[str, Any]) -> None:
    """As Ray's documentation writes it. A worker trains on every other row."""
    torch.set_num_threads(1)
    rank = train.get_context().get_world_rank()
    model = train.torch.prepare_model(net())
    make, settings = config["makes"][0], config["settings"]
    optimizer = make(model.parameters(), **settings)
    start, losses = 0, []
    if config["resume"] is not None:
        saved = torch.load(Path(config["resume"]) / "state.pt", weights_only=True)
        model.module.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["epoch"]
    for epoch in range(start, config["until"]):
        for t, (x, y) in enumerate(torch.utils.data.DataLoader(data()[rank::2], batch_size=8)):
            torch.manual_seed(100 * epoch + t)
            loss = nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            if config["clip"]:
                nn.utils.clip_grad_norm_(model.parameters(), config["clip"])
            optimizer.step()
            losses.append(float(loss.detach()))
    with tempfile.TemporaryDirectory() as folder:
        state = {"model": model.module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": config["until"]}
        torch.save(state, Path(folder) / "state.pt")
        kept = train.Checkpoint.from_directory(folder) if rank == 0 else None
        weights = torch.cat([w.ravel() for w in weights_of(model)]).tolist()
        train.report({"losses": losses, "weights": weights}, checkpoint=kept)


def run(
    make: Any, folder: Path, until: int = EPOCHS, resume: Path | None = None, clip: float = 0.2, **settings: Any
) -> Trained:
    config = {"makes": [make], "settings": settings, "until": until, "clip": clip, "resume": resume and str(resume)}
    scaling = train.ScalingConfig(num_workers=2, use_gpu=False)
    made = train.torch.TorchTrainer(
        loop,
        train_loop_config=config,
        scaling_config=scaling,
        run_config=train.RunConfig(storage_path=str(folder), name="r"),
    )
    found = made.fit()
    found.checkpoint.to_directory(folder / "state")
    return Trained(found.metrics["losses"], [torch.tensor(found.metrics["weights"])])


RATE = {"lr": 0.02}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """torch's class, from the first epoch to the last."""
    return run(TORCHS.AdamW, tmp_path_factory.mktemp("whole"), **RATE)


def test_as_torch(whole: Trained, tmp_path: Path) -> None:
    assert_same(run(steprule.optim.AdamW, tmp_path / "ours", **RATE), whole)
    assert_same(run(steprule.optim.AdamW, tmp_path / "own", clip=0.0, clip_norm=0.2, **RATE), whole)


@pytest.mark.parametrize("saves_and_goes_on", RESUMED.values(), ids=list(RESUMED))
def test_resumed(saves_and_goes_on: tuple[Any, Any], whole: Trained, tmp_path: Path) -> None:
    first, second = saves_and_goes_on
    run(first.AdamW, tmp_path / "first", until=1, **RATE)
    resumed = run(second.AdamW, tmp_path / "second", resume=tmp_path / "first" / "state", **RATE)
    assert_same(resumed, Trained(whole.losses[4:], whole.weights))


@steprule.rule
def heavy(p: Any, g: Any, velocity: Any, *, lr: Rate = 0.1, beta: Decay = 0.9) -> Any:
    """Momentum, by a rule of the driver."""
    velocity = beta * velocity + g
    return p - lr * velocity, velocity


def test_a_class_that_the_driver_makes(tmp_path: Path) -> None:
    """It reaches the workers by cloudpickle, and is torch's SGD with momentum."""
    made = run(steprule.optim.from_rule(heavy), tmp_path / "ours", lr=0.02)
    assert_same(made, run(TORCHS.SGD, tmp_path / "torch", lr=0.02, momentum=0.9))
