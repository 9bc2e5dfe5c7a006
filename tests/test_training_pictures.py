"""The pictures of a training and of a sweep: what stands in them, and what cannot be drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule
from steprule.cli import main
from steprule.errors import InputError
from steprule.hyper import Search
from steprule.problems import airfoil, digits
from steprule.reports import training_charts
from steprule.sweeps import sobol

ON: dict[str, Any] = {"epochs": 1, "batch_size": 100, "compile": False}


def swept(space: dict[str, Search], points: int = 32, **how: Any) -> steprule.Sweep:
    return steprule.sweep("adam", "airfoil", sobol(space, points), 2, **{**ON, **how})


def test_a_trainings_curve_is_its_losses() -> None:
    run = steprule.train("adam", epochs=1, schedule="cosine", lr=0.05)
    (axes,) = training_charts.of_run(run).axes
    (line,) = axes.get_lines()
    assert line.get_xdata().tolist() == run.samples.tolist()
    assert line.get_ydata().tolist() == run.losses.tolist()
    assert axes.get_xlabel() == "samples seen (1 epoch, batch 10, seed 0, cosine learning rate)"
    assert axes.get_ylabel() == "loss on all training samples"
    assert axes.texts[0].get_text() == f"final loss {run.final_loss:.4g}"


def test_one_number_that_varies_is_an_axis() -> None:
    sweep = steprule.sweep("sgd", "airfoil", {"lr": np.geomspace(1e-3, 100, 12)}, 3, **ON)
    (axes,) = training_charts.of_sweep(sweep).axes
    assert axes.get_xscale() == "log"
    assert axes.get_ylabel() == "training loss, mean over seeds"
    lived = np.isfinite(sweep.scores).all(axis=1)
    drawn = {line.get_label(): line for line in axes.get_lines()}
    assert drawn["a point"].get_xdata().tolist() == sweep.hypers["lr"][lived].tolist()
    assert drawn["a point"].get_ydata().tolist() == sweep.scores[lived].mean(axis=1).tolist()
    assert len(drawn["diverged with some seed"].get_xdata()) == (~lived).sum() > 0
    best = next(line for label, line in drawn.items() if label.startswith("best: lr "))
    assert best.get_xdata().tolist() == [sweep.hypers["lr"][sweep.best]]


def test_an_axis_is_that_along_which_the_points_lie_evenly() -> None:
    space = {
        "lr": Search(1e-4, 1),
        "beta1": Search(0.5, 0.9999, "complement"),
        "weight_decay": Search(0, 0.5, "linear"),
    }
    axes = training_charts.of_sweep(swept(space)).axes
    assert [a.get_xlabel() for a in axes] == ["lr (logarithmic)", "1 - beta1 (logarithmic)", "weight_decay"]
    assert [a.get_xscale() for a in axes] == ["log", "log", "linear"]
    near = axes[1].get_lines()[0].get_xdata()
    assert 0 < near.min() < near.max() <= 0.5


def test_two_numbers_are_a_map() -> None:
    sweep = swept({"lr": Search(1e-4, 1), "beta1": Search(0.5, 0.9999, "complement")})
    axes, bar = training_charts.of_sweep(sweep).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lr (logarithmic)", "1 - beta1 (logarithmic)")
    assert bar.get_ylabel() == "training loss, mean over seeds"
    means = sweep.scores.mean(axis=1)
    assert axes.collections[0].get_array().tolist() == means[np.isfinite(means)].tolist()


def test_where_everything_diverged_there_is_a_picture_without_a_best() -> None:
    (axes,) = training_charts.of_sweep(steprule.sweep("sgd", "airfoil", {"lr": [1e4, 1e5]}, **ON)).axes
    assert [line.get_label() for line in axes.get_lines()] == ["diverged with some seed"]
    with pytest.raises(InputError, match="expected a number that varies, got none"):
        training_charts.of_sweep(steprule.sweep("sgd", "airfoil", {"nesterov": [False, False]}, **ON))


def test_the_command_line_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "adam", "--epochs", "1", "--out"]
    sweep = ["sweep", "adam", "--points", "4", "--epochs", "1", "--no-compile", "--out"]
    for name, command in (("a.png", train), ("b.svg", sweep), ("c.svg", sweep)):
        assert main([*command, str(tmp_path / name)]) == 0
        assert f"Written: {tmp_path / name}" in capsys.readouterr().out
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "b.svg").read_bytes() == (tmp_path / "c.svg").read_bytes()
    for command, endings in ((train, ".png or .svg"), (sweep, ".parquet, .json, .png or .svg")):
        assert main([*command, str(tmp_path / "d.pdf")]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert f"a name that ends in {endings}, got '.pdf'" in err
    assert not (tmp_path / "d.pdf").exists()


def test_the_data_are_credited_in_the_pictures() -> None:
    run = steprule.train("sgd", "airfoil-linear", lr=0.1, epochs=1)
    assert training_charts.of_run(run).get_supxlabel() == f"Data: {airfoil.CREDIT}"
    sweep = steprule.sweep("sgd", "digits-softmax", {"lr": [0.01, 0.1]}, epochs=1, compile=False)
    (legend,) = training_charts.of_sweep(sweep).legends
    assert legend.get_title().get_text() == f"Data: {digits.CREDIT}"
    own = steprule.train("sgd", "rosenbrock", lr=1e-4)
    assert training_charts.of_run(own).get_supxlabel() == ""
