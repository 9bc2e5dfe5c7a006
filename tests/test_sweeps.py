"""Sweeps: a lane is a solo run; engines agree; what diverges harms no neighbour; what cannot be batched runs one by one."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from thinning import thinned
from tolerances import (
    EXP_ULP,
    INTERPOLATED,
    LANE_AGAINST_SOLO,
    MEAN_OF_BATCHES,
    MUON_BFLOAT16,
    ROUNDED32,
    TANH_ULP,
)
from torch import Tensor, nn

import steprule
from steprule import rules, sweeps
from steprule.cli import main
from steprule.compiler.variant import asks_for_shapes, variant_of
from steprule.errors import InputError, InputTypeError, KernelError, UnknownNameError
from steprule.hyper import OnePerTensor, Rate, Search
from steprule.lanes import choose, kernel, step
from steprule.lanes.model import NotPrintable
from steprule.lanes.records import WINDOWS, Trainings
from steprule.lanes.rule import LaneRule
from steprule.lanes.step import compiled
from steprule.lanes.train import train_lanes
from steprule.maths import abs, clamp, exp, lerp, log, maximum, mean, minimum, norm, sign, sqrt, sum, where
from steprule.problems import catalogue as problems
from steprule.problems.problem import Problem
from steprule.rules.parts import composed
from steprule.surfaces import catalogue as surfaces
from steprule.training.recipe import Recipe

KERNELS = ["airfoil-linear", "airfoil-mlp", "digits-softmax", "digits-mlp", "letters", "letters-deep"]


def small(count: int = 120) -> Problem:
    """A line in three dimensions: trained in milliseconds."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(count, 3, generator=generator)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.1 * torch.randn(count, 1, generator=generator)
    held = (x[:30], y[:30])
    return Problem(
        "small", "a line", x, y, lambda: nn.Linear(3, 1), nn.functional.mse_loss, validation=held, test=held,
        batch_size=25, epochs=3,
    )  # fmt: skip


SMALL = small()


@pytest.mark.parametrize("name", thinned(problems.names(), 2))
def test_every_problem_trains(name: str) -> None:
    task = problems.get(name)
    on_a_surface = name in surfaces.names()
    rates, epochs = ([1e-3, 0.1], 10) if on_a_surface else ([1e-4, 1e-2], 2)
    found = steprule.sweep("adam", task, {"lr": rates}, epochs=epochs, compile=False)
    assert found.engine == "vmap"
    assert found.train[1, 0] < (0.99 if on_a_surface else 0.8) * found.initial[0]
    assert found.train[1, 0] < found.train[0, 0]
    if task.validation is not None:
        assert found.validation[1, 0] < found.validation[0, 0]
        assert np.isfinite(found.test).all()


# Some seconds each: four rules with all that is special (absent slots, one number a tensor, reductions), the others long.
SPECIAL = ("sgd", "adam", "nadam", "lamb")
BOTH_WAYS = [(n, c) for n in rules.names() for c in (True, False)]


@pytest.mark.parametrize(
    ("name", "compile"),
    [
        pytest.param(n, c, marks=[] if n in SPECIAL and (not c or n in SPECIAL[::2]) else [pytest.mark.long])
        for n, c in BOTH_WAYS
    ],
)
def test_a_lane_is_a_solo_run(name: str, compile: bool) -> None:
    """Every hyperparameter of a rule differs from lane to lane, over both variants of what switches by default."""
    rule = composed(rules.get(name))
    ranges = {h.name: h.search for h in rule.hypers if h.search and h.name not in ("weight_decay", "momentum")}
    if "lr" in ranges:
        ranges["lr"] = Search(1e-4, 0.05)
    if "scale" in ranges:  # of Scion: with longer steps the rounding of products decides
        ranges["scale"] = Search(0.5, 2.0)
    if "eps" in ranges:
        ranges["eps"] = Search(1e-8, 1e-3)
    points = sweeps.sobol(ranges, 6, seed=1)
    points["weight_decay"] = np.array([0.0, 0.1, 0.0, 0.02, 0.0, 0.3])
    if "momentum" in rule.defaults:
        least = 0.0 if rule.defaults["momentum"] == 0 else 0.1  # 0 is out of some bounds
        points["momentum"] = np.maximum(least, [0.0, 0.9, 0.5, 0.0, 0.0, 0.7])
    found = steprule.sweep(name, SMALL, points, seeds=2, compile=compile)
    of_matrices = asks_for_shapes(rule)
    assert found.engine.partition(":")[0] == ("kernel" if compile and not (rule.draws or of_matrices) else "vmap")
    nodes = variant_of(rule, rule.defaults, (3, 5)).graph().nodes if of_matrices else ()
    low = any(node.op == "matmul" and node.dtype for node in nodes)  # a stack's products add up in another order
    for k in range(6):
        for s, seed in enumerate(found.seeds):
            alone = steprule.train(name, SMALL, seed, SMALL.epochs, SMALL.batch_size, **found.point(k))
            tolerance = MUON_BFLOAT16 if low else LANE_AGAINST_SOLO
            assert found.train[k, s] == pytest.approx(alone.final_loss, rel=tolerance), (k, seed)


@pytest.mark.parametrize(
    "name", thinned(["Adam", "RMSprop", "Adagrad", "SGD", "NAdam", "RAdam", "Adamax", "Adadelta"], 3)
)
def test_a_lane_is_torchs_own_training(name: str) -> None:
    lr = [0.5, 1.0] if name == "Adadelta" else [0.003, 0.03]
    found = steprule.sweep(name.lower(), SMALL, {"lr": lr}, compile=name == "Adam")
    for k, rate in enumerate(lr):
        alone = steprule.train(f"torch.optim.{name}", SMALL, 0, SMALL.epochs, SMALL.batch_size, lr=rate)
        assert found.train[k, 0] == pytest.approx(alone.final_loss, rel=LANE_AGAINST_SOLO)


@pytest.mark.parametrize("compile", [True, False])
def test_a_lanes_bits_depend_on_no_other_lane(compile: bool) -> None:
    rates = np.geomspace(1e-4, 0.3, 700)
    together = steprule.sweep("adam", SMALL, {"lr": rates}, compile=compile)
    apart = steprule.sweep("adam", SMALL, {"lr": rates[[3, 699]]}, compile=compile)
    if compile:
        assert np.array_equal(together.train[[3, 699]], apart.train)
        assert np.array_equal(together.curve[[3, 699]], apart.curve)
    else:  # a product of many matrices may add in another order than one of few
        assert np.allclose(together.train[[3, 699]], apart.train, rtol=LANE_AGAINST_SOLO, atol=0)


@pytest.mark.parametrize("compile", [True, False])
def test_a_lane_that_diverges_is_marked_and_harms_no_neighbour(compile: bool) -> None:
    rates = np.array([0.01, 1e30, 0.02, 1e4])
    found = steprule.sweep("sgd", SMALL, {"lr": rates, "momentum": 0.9}, compile=compile)
    assert found.diverged.ravel().tolist() == [False, True, False, True]
    assert found.died_at[0, 0] == 0
    assert 1 < found.died_at[1, 0] <= 5
    assert np.isinf(found.scores[[1, 3]]).all()
    calm = steprule.sweep("sgd", SMALL, {"lr": rates[[0, 2]], "momentum": 0.9}, compile=compile)
    assert np.array_equal(found.train[[0, 2]], calm.train)
    assert found.best in (0, 2)


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_schedules(schedule: str) -> None:
    found = steprule.sweep("adam", SMALL, {"lr": [0.01, 0.1]}, schedule=schedule, compile=True)
    for k in range(2):
        for what in ("adam", "torch.optim.Adam"):
            alone = steprule.train(what, SMALL, 0, 3, 25, schedule=schedule, lr=[0.01, 0.1][k])
            assert found.train[k, 0] == pytest.approx(alone.final_loss, rel=LANE_AGAINST_SOLO)


def test_curves_are_means_of_batch_losses() -> None:
    found = steprule.sweep("sgd", SMALL, {"lr": [0.0]}, epochs=12, compile=True)
    assert found.curve.shape == (1, 1, WINDOWS)
    assert found.curve.mean() == pytest.approx(found.initial[0], rel=MEAN_OF_BATCHES)


@pytest.mark.long
def test_schedule_epochs_and_batch_size_by_point() -> None:
    plans = {
        "schedule": ["linear", "constant", "linear", "linear"],
        "epochs": [1, 2, 1, 3],
        "batch_size": [10, 7, 10, 25],
    }
    rates = [0.01, 0.02, 0.05, 0.1]
    for compile in (True, False):
        found = steprule.sweep("adam", SMALL, {"lr": rates}, seeds=2, compile=compile, **plans)  # type: ignore[arg-type]
        assert (found.epochs, found.batch_size) == ((1, 2, 1, 3), (10, 7, 10, 25))
        for k in range(4):
            own = {n: v[k] for n, v in plans.items()}
            alone = steprule.train("adam", SMALL, 1, lr=rates[k], **own)  # type: ignore[arg-type]
            assert found.train[k, 1] == pytest.approx(alone.final_loss, rel=LANE_AGAINST_SOLO)
    json.dumps(found.to_dict())
    only = steprule.sweep("sgd", SMALL, {"lr": 0.1}, epochs=[1, 2, 3], compile=False)
    assert only.train.shape == (3, 1)
    assert only.batch_size == SMALL.batch_size
    with pytest.raises(InputError, match=r"lr: 4, epochs: 3"):
        steprule.sweep("adam", SMALL, {"lr": rates}, epochs=[1, 2, 3])
    with pytest.raises(InputError, match="batch_size: expected a whole number"):
        steprule.sweep("adam", SMALL, {"lr": rates}, batch_size=[1, 2, 0, 4])


@pytest.mark.parametrize("name", thinned(rules.names(), 14))
def test_the_form_for_other_devices(name: str) -> None:
    """The rule as operations on tensors, as on a GPU: every rule, states and all, against the kernel."""
    rule = composed(rules.get(name))
    task = replace(
        problems.get("airfoil-mlp"),
        features=SMALL.features,
        targets=SMALL.targets,
        model=lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)),
        validation=None,
        test=None,
    )
    values = {h.name: np.full(4, h.default) for h in rule.hypers} | {"lr": np.array([1e-3, 1e-2, 0.1, 1e30])}
    values["weight_decay"] = np.array([0.01, 0.02, 0.03, 0.01])
    if "momentum" in values:
        values["momentum"] = np.full(4, 0.8)
    lanes, recipe = Trainings(values, np.array([0, 1, 0, 1])), Recipe(2, 9, steprule.schedules.linear())
    printed = train_lanes(task, rule, lanes, recipe, "kernel")
    tensors = train_lanes(task, rule, lanes, recipe, "vmap")
    assert tensors.train[:3] == pytest.approx(printed.train[:3], rel=LANE_AGAINST_SOLO)
    assert tensors.curve[:3] == pytest.approx(printed.curve[:3], rel=LANE_AGAINST_SOLO)
    assert np.array_equal(tensors.died_at > 0, printed.died_at > 0)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(InputError, match="a device that torch can use here"):
        steprule.sweep("adam", SMALL, device="cuda:99")


@pytest.mark.long
def test_when_compiling_pays() -> None:
    found = steprule.sweep("adam", SMALL, {"lr": np.geomspace(1e-3, 0.1, 500)}, compile=True)
    # A kernel that costs ten seconds and then no time at all has paid after ten seconds of the other way.
    free = replace(found, compile_seconds=10.0, seconds=10.0)
    assert sweeps.pays_after("adam", SMALL, free) == pytest.approx(10.0, rel=INTERPOLATED)
    slow = replace(found, compile_seconds=10.0, seconds=1e6)
    assert sweeps.pays_after("adam", SMALL, slow) is None
    assert sweeps.pays_after("adam", SMALL, steprule.sweep("adam", SMALL, {"lr": [0.1]}, compile=False)) is None


def test_auto_compiles_by_counts() -> None:
    assert steprule.sweep("adam", SMALL, {"lr": [0.1]}).engine == "vmap"
    assert steprule.sweep("adam", SMALL, {"lr": np.full(200_000 // 15, 0.1)}, epochs=40).engine == "kernel"


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
def test_what_cannot_be_batched_runs_one_by_one_and_says_so() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.line(x)
            return y if float(y.sum()) > 0 else y * 1.0

    task = Problem("branching", "", SMALL.features, SMALL.targets, Branching, nn.functional.mse_loss, epochs=2)
    found = steprule.sweep("adam", task, {"lr": [0.01, 0.1]})
    assert found.engine.startswith("one by one: the model ")
    alone = steprule.train("adam", task, 0, 2, 10, lr=0.1)
    assert found.train[1, 0] == alone.final_loss


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    return model


def batch_normed() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))


@pytest.mark.parametrize("make", [frozen, batch_normed, dropping])
@pytest.mark.parametrize("compile", [True, False])
def test_frozen_parameters_running_means_and_dropout_run_one_by_one(make: Any, compile: bool) -> None:
    task = Problem("odd", "", SMALL.features, SMALL.targets, make, nn.functional.mse_loss, batch_size=30)
    found = steprule.sweep("adam", task, {"lr": [0.01, 0.1]}, compile=compile)
    assert found.engine.startswith("one by one: the model ")
    assert (found.train[:, 0] < found.initial[0]).all()


def hidden(*layers: nn.Module) -> Any:
    return lambda: nn.Sequential(nn.Linear(3, 4), *(copy.deepcopy(m) for m in layers), nn.Linear(4, 1))


class Doubled(nn.Module):
    """Computes in twice the precision of the model around it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x.double()).float()


@pytest.mark.parametrize(
    ("make", "loss", "engine_used"),
    [
        (hidden(nn.GELU()), nn.functional.mse_loss, "vmap: no kernel for aten.gelu"),
        (hidden(nn.ELU()), nn.functional.mse_loss, "vmap: no kernel for aten.elu"),
        (hidden(nn.Tanh()), nn.functional.huber_loss, "vmap: no kernel for aten.huber_loss"),
        (hidden(Doubled()), nn.functional.mse_loss, "vmap: no kernel for aten._to_copy.default in torch.float64"),
        (
            hidden(),
            lambda y, wanted: nn.functional.mse_loss(y, wanted) + nn.functional.mse_loss(wanted, 0 * wanted),
            "vmap: no kernel for a squared error that hangs on no parameter",
        ),
        pytest.param(hidden(nn.LayerNorm(4)), nn.functional.mse_loss, "kernel", marks=pytest.mark.long),
        pytest.param(hidden(nn.Sigmoid()), nn.functional.mse_loss, "kernel", marks=pytest.mark.long),
        pytest.param(hidden(nn.ReLU()), nn.functional.l1_loss, "kernel", marks=pytest.mark.long),
    ],
)
def test_other_layers_and_losses(make: Any, loss: Any, engine_used: str) -> None:
    task = Problem("other", "", SMALL.features, SMALL.targets, make, loss, batch_size=32, epochs=2)
    found = steprule.sweep("adam", task, {"lr": [0.01, 0.1]}, compile=True)
    assert found.engine.startswith(engine_used)
    for k, rate in enumerate((0.01, 0.1)):
        alone = steprule.train("adam", task, 0, 2, 32, lr=rate)
        assert found.train[k, 0] == pytest.approx(alone.final_loss, rel=LANE_AGAINST_SOLO)


def at_fault(*given: Any) -> None:
    raise KeyError("rows")


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("step.PRINTED", "problem small: the model's kernel could not be printed: got KeyError: 'rows'"),
        ("step.cache.load", "problem small: a kernel could not be compiled: got KeyError: 'rows'"),
        ("rule.text_of", "problem small: a kernel could not be compiled: got KeyError: 'rows'"),
    ],
)
@pytest.mark.parametrize("compile", [True, "auto"])
def test_a_fault_of_ours_in_a_kernel_is_an_error(place: str, says: str, compile: Any, monkeypatch: Any) -> None:
    """No reason to take another engine in silence: the error names the engine that needs no kernel."""
    fault = dict.fromkeys(step.PRINTED, at_fault) if place == "step.PRINTED" else at_fault
    monkeypatch.setattr(f"steprule.lanes.{place}", fault)
    monkeypatch.setattr(choose, "WORTH", 0)
    task = replace(SMALL, batch_size=24)
    for kept in (LaneRule.of, compiled):  # all is printed and compiled anew
        kept.cache_clear()
    with pytest.raises(KernelError, match=re.escape(says)) as error:
        steprule.sweep("sgd", task, {"lr": [0.1]}, compile=compile)
    assert "(test_sweeps.py, line " in str(error.value)
    assert "compile=False (of a sweep: --no-compile) trains without a kernel" in str(error.value)
    assert steprule.sweep("sgd", task, {"lr": [0.1]}, compile=False).engine == "vmap"


def test_a_wrong_argument() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown argument of sweep: .* Did you mean 'batch_size'\?"):
        steprule.sweep("sgd", SMALL, {"lr": 0.1}, batchsize=3)  # type: ignore[call-arg]
    with pytest.raises(UnknownNameError, match=r"Did you mean 'compile'\?"):
        steprule.sweep("sgd", SMALL, {"lr": 0.1}, compiled=True)  # type: ignore[call-arg]


def test_data_of_another_dtype_than_the_model_has_no_kernel() -> None:
    task = Problem("mixed", "", SMALL.features, SMALL.targets.double(), lambda: nn.Linear(3, 1), nn.functional.mse_loss)
    with pytest.raises(NotPrintable, match=r"float64|Double"):  # ours, or an older torch's while it is traced
        kernel.source_of(task, 10)


def test_an_optimizer_that_is_no_rule_runs_one_by_one() -> None:
    found = steprule.sweep(torch.optim.Adam, SMALL, {"lr": [0.01, 0.1]}, seeds=[4, 7])
    assert found.engine == "one by one: an optimizer that is not a rule"
    as_rule = steprule.sweep("adam", SMALL, {"lr": [0.01, 0.1]}, seeds=[4, 7])
    assert np.allclose(found.train, as_rule.train, rtol=LANE_AGAINST_SOLO, atol=0)
    assert np.allclose(found.validation, as_rule.validation, rtol=LANE_AGAINST_SOLO, atol=0)


def test_a_convolution_has_no_kernel_and_goes_by_vmap() -> None:
    task = problems.get("digits-cnn")
    with pytest.raises(NotPrintable, match="convolution"):
        kernel.source_of(task, 50)
    found = steprule.sweep("adam", task, {"lr": [0.01]}, epochs=1, compile=True)
    assert found.engine.startswith("vmap: no kernel for aten.convolution")


def test_exp_and_tanh() -> None:
    from numba import njit

    from steprule.compiler import intrinsics

    @njit
    def all_of(x: Any) -> Any:
        e, t = np.empty_like(x), np.empty_like(x)
        for k in range(len(x)):
            e[k], t[k] = intrinsics.exp_float32(x[k]), intrinsics.tanh_float32(x[k])
        return e, t

    x = np.concatenate([np.linspace(-12, 12, 400_001), np.linspace(-87, 88.7, 400_001), np.geomspace(1e-30, 1, 1000)])
    x = np.concatenate([x, -np.geomspace(1e-30, 1, 1000)]).astype(np.float32)
    e, t = all_of(x)
    for got, exact, limit in ((e, np.exp(x.astype(np.float64)), EXP_ULP), (t, np.tanh(x.astype(np.float64)), TANH_ULP)):
        ulp = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
        assert (np.abs(got - exact) / ulp).max() <= limit
    special = np.array([np.nan, np.inf, -np.inf, 0.0, 200.0, -200.0], dtype=np.float32)
    e, t = all_of(special)
    assert np.array_equal(e, np.array([np.nan, np.inf, 0, 1, np.inf, 0], dtype=np.float32), equal_nan=True)
    assert np.array_equal(t, np.array([np.nan, 1, -1, 0, 1, -1], dtype=np.float32), equal_nan=True)


@steprule.rule
def scalars(p, g, m, c: Annotated[Any, OnePerTensor(1.0)], *, lr: Rate = 0.1, power: Rate = 1.5, t):  # type: ignore[no-untyped-def]
    """The whole vocabulary on numbers of which there is one per step or one per tensor, and an infinite bound."""
    c = lerp(minimum(0.9 * c, 1 / (1 + t)), c, lr * 0.1) + clamp(log(t) * 0.01, 0.0, float("inf"))
    rate = lr * where(t > 3, exp(-0.1 * t), maximum(c, 0.2)) * norm(sign(lr - 1)) * mean(abs(-c)) ** power
    m = 0.9 * m + sum(rate) * clamp(lerp(m, g, lr), -float("inf"), 5.0) / (norm(norm(g)) + 1)
    return p - (sqrt(c) + rate**-1 * 0.001) * m, m, c


@pytest.mark.parametrize("compile", [True, False])
def test_the_vocabulary_on_scalars(compile: bool) -> None:
    points = {"lr": [0.01, 0.3, 1.5, 0.0], "power": [0.5, 1.0, 2.5, 3.0]}
    found = steprule.sweep(scalars, SMALL, points, compile=compile)
    for k in range(4):
        alone = steprule.train(scalars, SMALL, 0, SMALL.epochs, SMALL.batch_size, **found.point(k))
        if np.isfinite(alone.final_loss):
            assert found.train[k, 0] == pytest.approx(alone.final_loss, rel=LANE_AGAINST_SOLO)
        else:
            assert found.died_at[k, 0] > 0
    assert np.isfinite(found.train[:3]).all()
    kernel, eager = (_stepped(backend) for backend in ("numba", "eager"))
    assert torch.allclose(kernel, eager, rtol=ROUNDED32, atol=0)


def _stepped(backend: str) -> Tensor:
    p = torch.linspace(-1, 1, 7).requires_grad_()
    optimizer = steprule.optim.from_rule(scalars)([p], backend=backend)
    for t in range(1, 6):
        p.grad = torch.sin(t * torch.arange(7.0)) * 9
        optimizer.step()
    return p.detach()


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) for n in KERNELS])
def test_lanes_with_batches_of_their_own(name: str) -> None:
    """Many seeds in one call give the bits of one seed a call, whether the model is printed or not."""
    task = problems.get(name)
    rates = {h.name: np.full(6, h.default) for h in composed(rules.adam).hypers} | {"lr": np.geomspace(1e-3, 0.1, 6)}
    lanes, recipe = Trainings(rates, np.array([0, 1, 2, 0, 1, 2])), Recipe(1, 50)
    for how in ("kernel", "vmap"):
        mixed = train_lanes(task, composed(rules.adam), lanes, recipe, how)
        for k in range(6):
            alone = train_lanes(task, composed(rules.adam), lanes.take(slice(k, k + 1)), recipe, how)
            if how == "kernel":
                assert mixed.train[k] == alone.train[0]
                assert np.array_equal(mixed.test[k], alone.test[0], equal_nan=True)
                assert np.array_equal(mixed.curve[k], alone.curve[0])
            else:
                assert mixed.train[k] == pytest.approx(alone.train[0], rel=LANE_AGAINST_SOLO)
            assert mixed.initial[k] == alone.initial[0]


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
def test_a_sweep_in_a_forked_child() -> None:
    """OpenMP kills a child that runs a parallel form after its parent has: the child's sweep runs on one thread."""
    code = """
import os, numpy as np, torch
torch.set_num_threads(1)
import steprule
def run():
    return steprule.sweep("adam", "airfoil", {"lr": np.geomspace(1e-3, 0.1, 300)}, compile=True).train
first = run()
read, write = os.pipe()
child = os.fork()
if child == 0:
    os.write(write, run().tobytes())
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert os.read(read, 100_000) == first.tobytes()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.long
def test_a_short_last_batch_stays_in_its_block() -> None:
    """A batch of 3 needs less scratch than one of 50: its lanes a block must not be more for that."""
    task = problems.get("airfoil-mlp")
    width = kernel.source_of(task, 50).width
    assert kernel.source_of(task, 3).width > width
    assert kernel.source_of(task, 3, False, width).width == width
    found = steprule.sweep(
        "sgd",
        replace(task, features=task.features[:53], targets=task.targets[:53]),
        {"lr": np.full(100, 0.1)},
        epochs=1,
        compile=True,
    )
    assert len(set(found.train.ravel())) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"hypers": {"lrr": [0.1]}}, UnknownNameError, "Did you mean 'lr'"),
        ({"hypers": {"lr": [0.1, -1.0]}}, InputError, "lr"),
        ({"hypers": {"lr": [0.1, float("nan"), 0.2]}}, InputError, "lr"),
        ({"hypers": {"lr": []}}, InputTypeError, "lr"),
        ({"hypers": {"lr": [[0.1]]}}, InputTypeError, "one dimension"),
        ({"hypers": {"lr": [0.1, 0.2], "eps": [1e-8, 1e-7, 1e-6]}}, InputError, "one length"),
        ({"seeds": 0}, InputError, "seeds"),
        ({"seeds": "3"}, InputTypeError, "seeds"),
        ({"epochs": 0}, InputError, "epochs"),
        ({"batch_size": 2.5}, InputError, "batch_size"),
        ({"schedule": "cosin"}, InputError, "Did you mean 'cosine'"),
        ({"compile": "yes"}, InputTypeError, "compile"),
        ({"problem": "airfoyl"}, UnknownNameError, "Did you mean 'airfoil'"),
    ],
)
def test_bad_input(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        steprule.sweep("adam", **{"problem": SMALL, **arguments})


USER = """
import torch
import steprule

x = torch.linspace(-1, 1, 40)[:, None]

def wave():
    return steprule.Problem("wave", "a wave", x, torch.sin(3 * x), lambda: torch.nn.Linear(1, 1), torch.nn.functional.mse_loss)

nothing = 3
"""


def test_a_file_is_read_again_where_it_changed(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words in another folder, or after an edit, are another problem; else the problem is made once."""
    names = []
    for folder, name in (("a", "wave"), ("b", "other"), ("b", "edited")):
        (in_folder / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(in_folder / folder)
        Path("mine.py").write_text(USER.replace('"wave"', f'"{name}"', 1))
        os.utime("mine.py", ns=(0, len(names)))
        names.append(problems.get("mine.py:wave").name)
        assert problems.get("mine.py:wave") is problems.get("mine.py:wave")
    assert names == ["wave", "other", "edited"]


def test_command(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_folder / "mine.py").write_text(USER)
    arguments = ["sweep", "adam", "--on", "mine.py:wave", "--points", "8", "--seeds", "2", "--vary", "lr=1e-3..1"]
    assert main([*arguments, "--vary", "beta2", "--set", "beta1=0.8", "--out", "lanes.parquet"]) == 0
    out = capsys.readouterr().out
    assert "16 lanes in" in out
    table = pq.read_table("lanes.parquet")
    assert table.num_rows == 16
    assert {"lr", "beta2", "beta1", "seed", "train", "curve"} <= set(table.column_names)
    assert set(table["beta1"].to_pylist()) == {0.8}
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["train"]) == 8
    assert found["problem"] == "wave"
    for bad, says in (
        (["--vary", "lr=1..0.1"], "below high"),
        (["--vary", "lr=0..1"], "above 0"),
        (["--vary", "lr=3"], "low..high"),
        (["--vary", "amsgrad"], "a range"),
        (["--out", "lanes.csv"], ".parquet, .json, .png or .svg"),
        (["--on", "mine.py:nothing"], "a steprule.Problem"),
        (["--on", "mine.py:wavy"], "wavy"),
        (["--on", "other.py:wave"], "nothing there"),
        (["--points", "0"], "1 or more"),
    ):
        assert main(["sweep", "adam", "--on", "mine.py:wave", "--points", "2", *bad]) == 2
        assert says in capsys.readouterr().err


def test_it_shows_itself() -> None:
    html = steprule.sweep("adam", SMALL, {"lr": [0.1, 0.01]})._repr_html_()
    assert "2 trainings" in html
    assert "<th>lr</th>" in html
    odd = steprule.rule(name="<script>")(_plain)
    assert "<script>" not in steprule.sweep(odd, SMALL, {"lr": [0.1]})._repr_html_()


def _plain(p, g, *, lr: float = 0.1):  # type: ignore[no-untyped-def]
    """Gradient descent."""
    return p - lr * g
