"""Two points of a model as strangers meet them: compiled, interrupted, shared, taken out, checked, and loaded from elsewhere."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schedulefree
import torch
from compare import apart
from tolerances import CLASS_FLOAT64
from torch import Tensor

import steprule
from steprule import optim, rules
from steprule.checking.nearest import which
from steprule.cli import main
from steprule.compiler import eager, formula
from steprule.compiler.variant import variant_of
from steprule.errors import InputError, RuleError
from steprule.hyper import Rate
from steprule.optim import points
from steprule.rules import rule
from steprule.steppers import RuleStepper

RULE = """
from steprule import rule
from steprule.maths import lerp, maximum, minimum, where
from steprule.rules.schedule_free import *

@rule
def mine(
    p, g, z: Fast, lr_max: LargestRate, weight_sum: WeightSum,
    *, lr: Rate = 1.0, momentum: Nearness = 0.9, weight_decay: WeightDecay = 0.0, warmup_steps: Warmup = 0.0,
    r: StepPower = 0.0, weight_lr_power: RatePower = 2.0, t,
):
    gamma = warmed(lr, warmup_steps, t)
    lr_max = maximum(lr_max, gamma)
    w = t**r * lr_max**weight_lr_power
    weight_sum = weight_sum + w
    if weight_decay:
        g = g + weight_decay * p
    p, z = moved(p, z, g, share(w, weight_sum), gamma, momentum)
    return p, z, lr_max, weight_sum
"""
RIGHT = """
@mine.evaluated
def average(p, z, *, momentum):
    return lerp(p, z, 1 - 1 / momentum)
"""
WRONG = RIGHT.replace("lerp(p, z, 1 - 1 / momentum)", "lerp(p, z, 0.5)")


def stepped(*members: Tensor, steps: int = 3, **settings: Any) -> Any:
    """A schedule-free optimizer that has stepped these."""
    optimizer = optim.ScheduleFreeSGD(list(members), **{"lr": 0.1, **settings})  # type: ignore[attr-defined]
    descend(optimizer, steps)
    return optimizer


def descend(optimizer: Any, steps: int) -> None:
    for _ in range(steps):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = p.detach().clone()
        optimizer.step()


def weight(size: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.linspace(1, 2, size, dtype=dtype).requires_grad_()


# Compiled, interrupted, shared, taken out.


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("by", ["modes", "block"])
def test_within_a_compiled_function_the_modes_are_what_they_are_outside(count: int, by: str) -> None:
    members = [weight(k + 2) for k in range(count)]
    optimizer = stepped(*members)

    def measured() -> Tensor:
        if by == "block":
            with optimizer.evaluated():
                return sum(p.square().sum() for p in members)  # type: ignore[return-value]
        optimizer.eval()
        found = sum(p.square().sum() for p in members)
        optimizer.train()
        return found  # type: ignore[return-value]

    before = [p.detach().clone() for p in members]
    with torch.no_grad():
        assert apart(torch.compile(measured, backend="eager")(), measured()) < CLASS_FLOAT64
    assert all(torch.equal(p, b) for p, b in zip(members, before, strict=True))
    descend(optimizer, 5)
    after = [p.detach().clone() for p in members]
    optimizer.eval()
    optimizer.train()
    assert all(torch.equal(p, a) for p, a in zip(members, after, strict=True)), "no step is lost"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_fails_on_the_way_leaves_all_as_it_was(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that cannot be built, or Ctrl-C while it is, when another has moved its parameters."""
    members = [weight(dtype=torch.float32), weight(dtype=torch.float64)]
    optimizer = stepped(*members)
    before, build, calls = [p.detach().clone() for p in members], points.kernel_for, []

    def fails_later(*of: Any) -> Any:
        calls.append(of)
        if len(calls) == 2:
            raise error
        return build(*of)

    monkeypatch.setattr(points, "kernel_for", fails_later)
    with pytest.raises(error):
        optimizer.eval()
    monkeypatch.undo()
    assert len(calls) == 2
    assert all(torch.equal(p, b) for p, b in zip(members, before, strict=True))
    assert not any(points.KEPT in state for state in optimizer.state.values())
    optimizer.eval()
    assert not any(torch.equal(p, b) for p, b in zip(members, before, strict=True))


def test_weights_that_cannot_be_put_back_are_kept() -> None:
    p, q = weight(), weight(4)
    optimizer = stepped(p, q)
    before = [p.detach().clone(), q.detach().clone()]
    optimizer.eval()
    whole = p.data
    p.data = torch.zeros(5, dtype=torch.float64)
    with pytest.raises(RuntimeError):
        optimizer.train()
    with pytest.raises(RuntimeError, match="eval mode"):
        descend(optimizer, 1)
    p.data = whole
    optimizer.train()
    assert torch.equal(p, before[0])
    assert torch.equal(q, before[1])


def test_a_parameter_that_left_its_group_comes_back_too() -> None:
    p, q = weight(), weight(4)
    optimizer = stepped(p, q)
    before = q.detach().clone()
    optimizer.eval()
    optimizer.param_groups[0]["params"] = [p]
    optimizer.train()
    assert torch.equal(q, before)
    assert points.KEPT not in optimizer.state[q]


def test_points_of_shared_memory_follow_from_what_was_there_before() -> None:
    """Two parameters lie half in one another: each point is that of the weights of training, written in their order."""
    for backend in ("eager", "auto"):
        whole = torch.arange(1, 7, dtype=torch.float64)
        a, b = whole[:4].requires_grad_(), whole.detach()[2:].requires_grad_()
        optimizer = stepped(a, b, backend=backend)
        before = whole.clone()
        wanted = [
            eager.evaluated(
                optimizer.rule, p.detach().clone(), {**optimizer.state[p]}, 3, {**optimizer.rule.defaults, "lr": 0.1}
            )
            for p in (a, b)
        ]
        optimizer.eval()
        assert apart(whole, torch.cat([wanted[0][:2], wanted[1]])) < CLASS_FLOAT64, backend
        optimizer.train()
        assert torch.equal(whole, before), backend


def test_a_closure_that_evaluates_and_does_not_go_back_is_told() -> None:
    p = weight()
    optimizer = stepped(p)
    z = optimizer.state[p]["z"].clone()

    def closure() -> float:
        optimizer.eval()
        p.grad = torch.ones_like(p)
        return 1.0

    with pytest.raises(RuntimeError, match="eval mode"):
        optimizer.step(closure)
    assert torch.equal(optimizer.state[p]["z"], z)
    assert optimizer.state[p]["step"] == 3


def test_averages_of_the_weights_hide_neither_point() -> None:
    p = weight()
    optimizer = stepped(p, ema_decay=0.5)
    optimizer.eval()
    with optimizer.ema_weights():
        for switch in (optimizer.eval, optimizer.train, lambda: optimizer.evaluated().__enter__()):
            with pytest.raises(RuntimeError, match="inside ema_weights"):
                switch()
    plain = optim.Adam([weight()], ema_decay=0.5)
    descend(plain, 1)
    with plain.ema_weights(), plain.evaluated():
        plain.train()


def test_a_stepper_that_fails_on_the_way_moves_nothing() -> None:
    @rule
    def own(p, g, s, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def, valid-type]
        return p - lr * g, s + g

    asked: list[Any] = []

    def point(p, s):  # type: ignore[no-untyped-def]
        asked.append(p)
        return p + s

    own.evaluated(point)
    model = torch.nn.Linear(2, 2)
    stepper = RuleStepper(own, model.parameters(), {})
    stepper.step(lambda: model(torch.ones(1, 2)).sum())
    before = [p.detach().clone() for p in model.parameters()]
    stepper.states[1]["s"] = torch.ones(7)  # of another model
    with pytest.raises(RuntimeError), stepper.averaged():
        pass
    assert asked
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


# Stated: by whom, and when.


def test_a_point_that_is_stated_after_the_rule_was_shown_is_shown() -> None:
    @rule
    def own(p, g, s, *, lr: Rate = 0.1, weight_decay=0.0, maximize=False):  # type: ignore[no-untyped-def, valid-type]
        return p - lr * g, s + g

    def lines() -> str:
        return formula.whole(variant_of(own, own.defaults))

    assert "evaluated at" not in lines()
    own.evaluated(lambda p, s: p + 7 * s)
    assert "evaluated at: p + 7 * s" in lines()
    own.evaluated(lambda p, s: p + 3 * s)
    assert "evaluated at: p + 3 * s" in lines(), "the last one counts"


def test_a_rule_of_the_catalogue_is_everybodys() -> None:
    def point(p):  # type: ignore[no-untyped-def]
        return 0 * p

    line = point.__code__.co_firstlineno
    with pytest.raises(
        RuleError, match=rf":{line}: adam.evaluated: expected a rule of your own, got one of the catalogue"
    ):
        rules.adam.evaluated(point)
    assert rules.adam.evaluation is None
    mine = dataclasses.replace(rules.adam, name="mine")
    mine.evaluated(point)
    assert mine.evaluation is not None


# Checked and found.


@pytest.fixture
def pupils(tmp_path: Path) -> Path:
    for name, text in {"right": RULE + RIGHT, "without": RULE, "wrong": RULE + WRONG}.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_folder_is_marked_by_where_models_are_read_too(pupils: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", str(pupils), "--against", "schedule_free_sgd", "--json"])
    told = {Path(one["file"]).stem: one for one in json.loads(capsys.readouterr().out)["marks"]}
    assert told["right"]["verdict"] == "passes"
    for name, said in (("without", "is missing"), ("wrong", "gives another point")):
        assert told[name]["verdict"] == "parts"
        assert told[name]["quantity"] == "the point of evaluation"
        assert said in told[name]["slip"]


@pytest.mark.parametrize("name", ["without", "wrong"])
def test_a_rule_parts_where_it_is_read(name: str, pupils: Path) -> None:
    found = steprule.check(f"{pupils / name}.py:mine", against="schedule_free_sgd")
    assert found.parting is not None
    assert found.parting.quantity == "the point of evaluation"
    nearest = which(f"{pupils / name}.py:mine")
    assert str(nearest).startswith("nearest: schedule_free_sgd, but for one thing (the model is read elsewhere)")
    assert not nearest.same


@pytest.mark.parametrize("name", ["SGDScheduleFree", "AdamWScheduleFree", "RAdamScheduleFree"])
def test_authors_classes_are_found_with_both_points(name: str) -> None:
    wanted = {"SGD": "schedule_free_sgd", "AdamW": "schedule_free_adamw", "RAdam": "schedule_free_radam"}
    assert which(getattr(schedulefree, name)).rule == wanted[name.removesuffix("ScheduleFree")]

    class Elsewhere(getattr(schedulefree, name)):  # type: ignore[misc]
        """It steps the same, and reads the model at z."""

        def eval(self) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    if "z" in self.state[p]:
                        p.data.copy_(self.state[p]["z"])

    found = which(Elsewhere)
    assert found.slip == "the model is read elsewhere"


# From elsewhere.


def test_a_checkpoint_of_another_class_is_refused_in_one_line() -> None:
    theirs = schedulefree.SGDScheduleFree([weight()], lr=0.1)
    theirs.train()
    descend(theirs, 2)
    p = weight()
    ours = stepped(p)
    before = copy.deepcopy(ours.state[p])
    with pytest.raises(
        InputError, match=r"ScheduleFreeSGD\.load_state_dict: expected groups with lr, .*, got no maximize"
    ) as caught:
        ours.load_state_dict(theirs.state_dict())
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(ours.state[p][name], before[name]) for name in before)


@pytest.mark.parametrize("form", ["python", "javascript", "numba"])
def test_every_printed_form_has_both_points(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, count in (("schedule_free_sgd", 2), ("sgd", 1)):
        assert main(["show", name, "--as", form]) == 0
        sources = capsys.readouterr().out.count(
            {"python": "def ", "javascript": "function ", "numba": "printed by"}[form]
        )
        assert sources == count, name


def test_a_name_that_a_module_lacks_has_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    for typed, meant in (("torch.optim:Adm", "'Adam'"), ("schedulefree:AdamWScheduleFre", "'AdamWScheduleFree'")):
        assert main(["which", typed]) == 2
        assert capsys.readouterr().err.endswith(f"Did you mean {meant}?\n")
