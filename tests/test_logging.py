"""`log=` of a training: what it is told and when; and that a problem's own epochs and batch size count."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tolerances import ROUNDED32, SUMMED32

import steprule
from steprule.cli import main
from steprule.problems import catalogue as problems
from steprule.problems.source import batches


def told(what: Any, **how: Any) -> tuple[steprule.Run, list[tuple[int, dict[str, float]]]]:
    found: list[tuple[int, dict[str, float]]] = []
    run = steprule.train(what, log=lambda step, numbers: found.append((step, dict(numbers))), **how)
    return run, found


@pytest.mark.parametrize("what", ["sgd", torch.optim.SGD])
def test_the_batch_loss_of_each_step_and_the_losses_of_the_curve(what: Any) -> None:
    run, found = told(what, epochs=1, batch_size=64, lr=0.05)
    task = problems.get("airfoil")
    steps = -(-task.samples // 64)
    assert [step for step, _ in found] == list(range(steps + 1))
    assert [numbers["loss"] for _, numbers in found if "loss" in numbers] == run.losses.tolist()
    assert "batch_loss" not in found[0][1]
    assert all("batch_loss" in numbers for _, numbers in found[1:])
    model = task.initial_model(0)
    rows = next(batches(task.samples, 64, 1, 0))
    assert found[1][1]["batch_loss"] == pytest.approx(
        task.loss(model(task.features[rows]), task.targets[rows]).item(), rel=ROUNDED32
    )
    silent = steprule.train(what, epochs=1, batch_size=64, lr=0.05)
    assert silent.losses.tolist() == run.losses.tolist()


class FullDiskError(Exception):
    pass


def test_what_it_raises_is_the_users_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def log(step: int, numbers: Mapping[str, float]) -> None:
        if step == 3:
            raise FullDiskError(step)

    for what in ("sgd", torch.optim.SGD):
        with pytest.raises(FullDiskError):
            steprule.train(what, log=log)
    file = tmp_path / "mine.py"
    file.write_text("def log(step, numbers):\n    print(step, *numbers)\n    return 1 / (2 - step)\nnumber = 3\n")
    assert main(["train", "sgd", "--log", f"{file}:log"]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == ["0 loss", "1 batch_loss"]
    assert err.startswith(f"steprule: {file}:3: --log {file}:log, step 2: ZeroDivisionError")
    assert err.count("\n") == 1
    assert main(["train", "sgd", "--log", f"{file}:number"]) == 2
    assert "expected a function (step, numbers), got 3" in capsys.readouterr().err


def test_a_problems_own_epochs_and_batch_size_count(capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.linspace(-1, 1, 60)[:, None]
    mine = steprule.Problem(
        "mine", "", x, 2 * x, lambda: torch.nn.Linear(1, 1), torch.nn.functional.mse_loss, epochs=3, batch_size=7
    )
    run = steprule.train("sgd", mine)
    assert (run.epochs, run.batch_size) == (3, 7)
    assert run.final_loss == steprule.train("sgd", mine, 0, 3, 7).final_loss
    assert run.final_loss == pytest.approx(
        steprule.sweep("sgd", mine, {"lr": [0.001]}, compile=False).train[0, 0], rel=SUMMED32
    )
    assert run.final_loss == steprule.race("sgd", mine, trials=0, seeds=1).settings[0].finals[0]
    assert main(["train", "sgd", "--on", "digits-softmax"]) == 0
    assert "5 epochs, batch 50, seed 0" in capsys.readouterr().out
    assert (steprule.train("sgd").epochs, steprule.train("sgd").batch_size) == (2, 10)


PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "log-and-tune.md").read_text(encoding="utf-8")


def shown(title: str) -> str:
    """The block of code below a heading of the page."""
    return PAGE.split(f"## {title}\n")[1].split("```python\n")[1].split("```")[0]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_csv_as_shown(elsewhere: Path) -> None:
    exec(shown("CSV"), {})
    with open("log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) == pytest.approx(steprule.train("adam", lr=0.01).final_loss, rel=ROUNDED32)
    assert [int(row["step"]) for row in rows] == list(range(301))


def test_tensorboard_as_shown(elsewhere: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    exec(shown("TensorBoard"), {})
    read = EventAccumulator("runs/adam", size_guidance={"scalars": 0})
    read.Reload()
    assert sorted(read.Tags()["scalars"]) == ["batch_loss", "loss"]
    losses = [event.value for event in read.Scalars("loss")]
    assert losses == pytest.approx(steprule.train("adam", lr=0.01).losses.tolist(), rel=ROUNDED32)
    assert [event.step for event in read.Scalars("batch_loss")] == list(range(1, 301))


class StandIn:
    """What is documented of W&B's `init` and `Run.log` and of MLflow's `start_run`, `log_params` and `log_metrics`."""

    def __init__(self) -> None:
        self.said: list[tuple[int | None, dict[str, Any]]] = []

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def init(self, *, project: str, config: dict[str, Any]) -> StandIn:
        return self

    def start_run(self) -> StandIn:
        return self

    def log(self, data: dict[str, Any], step: int | None = None) -> None:
        self.said.append((step, data))

    def log_params(self, params: dict[str, Any]) -> None:
        assert params == {"rule": "adam", "lr": 0.01}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.said.append((step, metrics))


@pytest.mark.parametrize(("title", "module"), [("Weights & Biases", "wandb"), ("MLflow", "mlflow")])
def test_services_as_shown_with_a_stand_in(title: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = StandIn()
    monkeypatch.setitem(sys.modules, module, service)
    exec(shown(title), {})
    assert [step for step, _ in service.said] == list(range(301))
    assert service.said[-1][1]["loss"] == steprule.train("adam", lr=0.01).final_loss


def test_optuna_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    scope: dict[str, Any] = {}
    exec(shown("Optuna"), scope)
    study = scope["study"]
    assert len(study.trials) == 5
    again = steprule.train("adam", "airfoil", epochs=1, **study.best_params)
    assert study.best_value == again.final_loss < 0.3
