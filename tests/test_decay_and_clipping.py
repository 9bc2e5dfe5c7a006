"""Weight decay and clipping by the norm of all gradients, set and searched, with any rule: beside torch's classes in a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tolerances import LANE_AGAINST_SOLO, RUN64, SUMMED32, TRAIN_RULE_AGAINST_CLASS

import steprule
from steprule import rules
from steprule.cli import main
from steprule.errors import InputError, UnknownNameError
from steprule.hyper import Decay, Rate, Search
from steprule.problems import catalogue as problems
from steprule.problems.scoring import measured
from steprule.problems.source import batches
from steprule.races import Competitor
from steprule.races.spec import spec_of
from steprule.rules.parts import for_training

ON: dict[str, Any] = {"epochs": 1, "batch_size": 50}
LINEAR = "airfoil-linear"
long = pytest.mark.long


def by_hand(make: Any, clip: float, decay: float = 0.0, problem: str = LINEAR) -> float:
    """The training loss behind one epoch of torch's class, with `clip_grad_norm_` before each step and decay as AdamW has it."""
    task = problems.get(problem)
    model = task.initial_model(0)
    optimizer = make(model.parameters())
    for rows in batches(task.samples, ON["batch_size"], ON["epochs"], 0):
        optimizer.zero_grad()
        task.loss(model(task.features[rows]), task.targets[rows]).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1 - optimizer.param_groups[0]["lr"] * decay)
        optimizer.step()
    return measured(task, model, task.parts["train"])


CLIPS, DECAYS = [0.0, 0.05, 0.5, 1e6], [0.0, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "cls", "engine"),
    [
        ("adam", "Adam", "kernel"),
        ("sgd", "SGD", "vmap"),
        ("adam", "Adam", "one by one"),
        pytest.param("adam", "Adam", "vmap", marks=long),
        pytest.param("sgd", "SGD", "kernel", marks=long),
        pytest.param("sgd", "SGD", "one by one", marks=long),
    ],
)
def test_every_lane_is_torchs(name: str, cls: str, engine: str) -> None:
    """With numbers of its own, among them none."""
    given = {"lr": 0.03, "clip_norm": CLIPS, "weight_decay": DECAYS, "decoupled_weight_decay": True}
    if engine == "one by one":
        runs = [{n: v[k] if isinstance(v, list) else v for n, v in given.items()} for k in range(4)]
        found = [steprule.train(name, LINEAR, **ON, **own).final_loss for own in runs]
    else:
        swept = steprule.sweep(name, LINEAR, given, compile=engine == "kernel", **ON)
        assert swept.engine == engine
        found = swept.train[:, 0].tolist()
    for loss, clip, decay in zip(found, CLIPS, DECAYS, strict=True):
        expected = by_hand(lambda p: getattr(torch.optim, cls)(p, lr=0.03), clip, decay)
        assert loss == pytest.approx(expected, rel=TRAIN_RULE_AGAINST_CLASS)
    assert len(set(found)) == 4
    assert found[1] != pytest.approx(found[3], rel=LANE_AGAINST_SOLO)  # 0.05 clips


def test_decoupled_decay_of_adam_is_adamw() -> None:
    set_ = {"lr": 0.03, "weight_decay": 0.3, "clip_norm": 0.1}
    adam = steprule.train("adam", LINEAR, decoupled_weight_decay=True, **ON, **set_).final_loss
    assert adam == steprule.train("adamw", LINEAR, **ON, **set_).final_loss
    assert adam == pytest.approx(
        by_hand(lambda p: torch.optim.AdamW(p, lr=0.03, weight_decay=0.3), 0.1), rel=TRAIN_RULE_AGAINST_CLASS
    )


@long
def test_several_tensors_and_lanes_of_one_variant_keep_their_norms() -> None:
    """Of a rule with reductions of its own, whose tensors are stepped apart, and of float64."""
    task = problems.get("airfoil-mlp")
    double = steprule.Problem(
        "double", "", task.features.double(), task.targets.double(), lambda: task.model().double(), task.loss
    )
    rates = {"lr": [0.01, 0.02], "clip_norm": [0.1, 0.2]}
    for rule in ("lamb", "lars"):
        found = [steprule.sweep(rule, double, rates, compile=c, **ON).train[:, 0] for c in (True, False)]
        solo = [
            steprule.train(rule, double, lr=a, clip_norm=b, **ON).final_loss
            for a, b in zip(*rates.values(), strict=True)
        ]
        assert np.allclose(found[0], solo, rtol=RUN64, atol=0)
        assert np.allclose(found[1], solo, rtol=RUN64, atol=0)


@steprule.rule
def bare(p, g, m, *, lr: Rate = 0.1, mu: Decay = 0.9):  # type: ignore[no-untyped-def]
    """Momentum, which knows nothing of decay and clipping."""
    m = mu * m + g
    return p - lr * m, m


@steprule.rule
def own_norm(p, g, *, lr: Rate = 0.1, grad_norm=2.0):  # type: ignore[no-untyped-def]
    """A number of one's own by the name of what a part is given."""
    return p - lr * g / grad_norm


def test_a_number_of_ones_own_by_such_a_name_is_ones_own() -> None:
    assert for_training(own_norm).defaults["grad_norm"] == 2.0
    found = steprule.sweep(own_norm, "airfoil", {"lr": [0.1], "grad_norm": [2.0]}, compile=False, epochs=1)
    assert found.train[0, 0] == pytest.approx(steprule.train("sgd", epochs=1, lr=0.05).final_loss, rel=SUMMED32)


def test_what_the_step_supplies_cannot_be_set() -> None:
    for call in (
        lambda: steprule.train("sgd", grad_norm=1.0),
        lambda: steprule.sweep("sgd", hypers={"grad_norm": [1.0]}),
        lambda: spec_of(Competitor("sgd", {"grad_norm": Search(0.1, 1)}), "airfoil-linear"),
        lambda: spec_of(Competitor("sgd", hypers={"grad_norm": 1.0}), "airfoil-linear"),
    ):
        with pytest.raises(
            UnknownNameError, match=r"unknown hyperparameter of sgd: expected one of lr, .*, clip_norm, got 'grad_norm'"
        ):
            call()
    assert "grad_norm" not in steprule.train("sgd", epochs=1, clip_norm=1.0).hypers
    assert for_training(for_training(rules.adam)) is for_training(rules.adam)


SMALL: dict[str, Any] = {"trials": 2, "seeds": 1, "fresh": 1, "schedules": "linear", "epochs": 1, "workers": 1}


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=long)])
def test_a_race_searches_them_for_any_rule(compile: bool) -> None:
    space = {"lr": Search(1e-3, 1), "weight_decay": Search(1e-4, 1), "clip_norm": Search(1e-2, 10)}
    searched = [Competitor(rule, space, {"decoupled_weight_decay": True}) for rule in (bare, "adam")]
    found = steprule.race(searched, "airfoil-linear", compile=compile, **SMALL)
    assert len(found.cells[0].standings) == len(searched)
    for standing in found.cells[0].standings:
        assert set(standing.hypers) == set(space)
        lanes = found.chain("airfoil-linear", "linear", standing.label)[-1].lanes
        solo = steprule.train(
            bare if standing.label == "bare" else "adam", "airfoil-linear", int(lanes.seed[0]), 1,
            found.spec.configs["airfoil-linear"].batch_size, schedule="linear", decoupled_weight_decay=True,
            **{n: float(v[0]) for n, v in lanes.hypers.items()},
        )  # fmt: skip
        assert found.chain("airfoil-linear", "linear", standing.label)[-1].results["train"][0] == pytest.approx(
            solo.final_loss, rel=LANE_AGAINST_SOLO
        )


def spaces_of(typed: list[str]) -> dict[str, set[str]]:
    from steprule.cli.competitors import _competitors

    options: dict[str, list[str]] = {"--vary": [], "--set": []}
    names = []
    words = iter(typed)
    for word in words:
        options[word].append(next(words)) if word in options else names.append(word)
    spec = spec_of(_competitors(names, options["--set"], options["--vary"]), "airfoil-linear", compile=False)
    return {r.label: {f"{n} {s.low:g} {s.high:g} {s.scale}" for n, s in r.space.items()} for r in spec.entrants}


def test_vary_adds_to_what_is_searched(capsys: pytest.CaptureFixture[str]) -> None:
    usual = spaces_of(["sgd", "adam", "torch.optim.SGD"])
    both = spaces_of(["sgd", "adam", "torch.optim.SGD", "--vary", "weight_decay=1e-4..1"])
    added = {label: both[label] - usual[label] for label in usual}
    assert set(map(frozenset, added.values())) == {frozenset({"weight_decay 0.0001 1 log"})}
    assert all(usual[label] <= both[label] for label in usual)
    one = spaces_of(["sgd", "torch.optim.SGD", "--vary", "sgd.clip_norm", "--set", "sgd.momentum=0.5"])
    assert one["sgd"] >= {"clip_norm 0.01 100 log"}
    assert not any(s.startswith("momentum") for s in one["sgd"])
    assert one["torch.optim.SGD"] == usual["torch.optim.SGD"]
    assert capsys.readouterr().err == ""
    spaces_of(["sgd", "torch.optim.SGD", "--vary", "clip_norm"])
    assert "--vary clip_norm: torch.optim.SGD has no clip_norm." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["adam", "--vary", "weight_dcay"], "Did you mean 'weight_decay'?"),
        (["adam", "--vary", "grad_norm=1..2"], "unknown hyperparameter of adam"),
        (["adam", "--vary", "sgd.lr"], "unknown rule in --vary sgd.lr"),
        (["adam", "--vary", "clip_norm=2..1"], "expected low above 0 and below high"),
        (["adam", "--vary", "clip_norm=2"], "expected name or name=low..high"),
        (["adam", "--vary", "clip_norm=-1..1"], "a number in [0, inf)"),
        (["adam", "--vary", "maximize"], "got maximize, which is True or False. Write --set."),
        (["torch.optim.SGD", "--vary", "weight_decay"], "expected a range, got none. Write weight_decay=low..high."),
        (["torch.optim.SGD", "--vary", "weight_decay=a..b"], "expected two numbers"),
        (["torch.optim.SGD", "--vary", "weight_decay=1..inf"], "low above 0 and below high"),
        (["--vary", "lr"], "--vary: expected rules to name, got the whole catalogue. Name the rules."),
        (["adam", "--vary", "lr", "--trials", "0"], "--vary: expected trials, which search, got --trials 0."),
    ],
)
def test_what_cannot_be_varied_is_one_line(typed: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["race", *typed]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_the_command_line_sets_them(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["train", "adam"], ["sweep", "adam", "--points", "2", "--no-compile"]):
        assert main([*command, "--set", "clip_norm=0.5", "--set", "weight_decay=0.1", "--epochs", "1", "--json"]) == 0
    assert main(["sweep", "adam", "--points", "2", "--no-compile", "--vary", "clip_norm", "--epochs", "1"]) == 0
    assert "clip_norm" in capsys.readouterr().out
    assert main(["trace", "sgd", "--set", "clip_norm=1"]) == 2  # a path is no training
    with pytest.raises(InputError):
        steprule.train("sgd", clip_norm=-1.0)
