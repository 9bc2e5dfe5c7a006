"""A model that is read elsewhere than where it trains: the contract, the classes, and schedule-free against schedulefree's own."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import schedulefree
import torch
from compare import all_apart, apart
from tolerances import (
    CLASS_FLOAT32_RUN,
    CLASS_FLOAT64,
    FORMS_BFLOAT16,
    FORMS_FLOAT32,
    FORMS_FLOAT64,
    LANE_AGAINST_SOLO,
    TRAIN_RULE_AGAINST_CLASS,
)
from torch import Tensor, nn

import steprule
from steprule import optim, rules
from steprule.compiler import eager
from steprule.errors import RuleError
from steprule.hyper import Decay, OnePerTensor, Rate
from steprule.maths import norm
from steprule.optim import from_rule
from steprule.rules import rule
from steprule.rules.parts import composed

SHAPES = ((7, 3), (1,), (), (5, 2, 3), (0,), (257,))
COMMON = {"lr": 0.05, "weight_decay": 0.1, "r": 0.3, "weight_lr_power": 1.5}
ADAM = {**COMMON, "betas": (0.8, 0.95), "eps": 1e-2}
PEERS: Mapping[str, tuple[str, Any, dict[str, Any]]] = {
    "sgd": ("ScheduleFreeSGD", schedulefree.SGDScheduleFree, {**COMMON, "momentum": 0.8, "warmup_steps": 4}),
    "adamw": ("ScheduleFreeAdamW", schedulefree.AdamWScheduleFree, {**ADAM, "warmup_steps": 4}),
    "radam": ("ScheduleFreeRAdam", schedulefree.RAdamScheduleFree, ADAM),
    "radam that descends": ("ScheduleFreeRAdam", schedulefree.RAdamScheduleFree, {**ADAM, "silent_sgd_phase": False}),
}
STEPS = 24


@rule
def drifting(p, g, s, total: OnePerTensor(0.0), *, lr: Rate = 0.05, ahead: Decay = 0.3, t):  # type: ignore[no-untyped-def, valid-type]
    """Its point follows from a state, a number that a reduction gives, a reduction of its own, a number of its own, and the step."""
    total = total + norm(g)
    s = 0.9 * s + g
    return p - lr * s / (1 + total / t), s, total


@drifting.evaluated
def behind(p, s, total, *, lr, ahead, t):  # type: ignore[no-untyped-def]
    return p - ahead * lr * s / (1 + total / t) + 0.01 * norm(s) / t


def params(dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in SHAPES]


def set_gradients(t: int, *sides: list[Tensor]) -> None:
    for k, same in enumerate(zip(*sides, strict=True)):
        drawn = torch.randn(same[0].shape, generator=torch.Generator().manual_seed(1000 * t + k), dtype=torch.float64)
        for p in same:
            p.grad = drawn.to(p.dtype)


def in_groups(members: list[Tensor], lr: float) -> list[dict[str, Any]]:
    """Two groups that differ in numbers, as layers do."""
    return [{"params": members[:2]}, {"params": members[2:], "lr": 0.5 * lr, "weight_decay": 0.03}]


def begun(steps: int = 3, **more: Any) -> tuple[list[Tensor], Any]:
    """Parameters that a schedule-free optimizer has stepped."""
    members = params()
    optimizer = optim.ScheduleFreeAdamW(members, lr=0.05, **more)  # type: ignore[attr-defined]
    for t in range(steps):
        set_gradients(t, members)
        optimizer.step()
    return members, optimizer


def values(members: list[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in members]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# Against schedulefree.


@pytest.mark.parametrize("backend", ["eager", "auto"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("which", PEERS)
def test_schedule_free_is_schedulefree_at_both_points(which: str, dtype: torch.dtype, backend: str) -> None:
    """At every step: y, x, z, the second moment; two groups, numbers off neutral, saved in eval mode and loaded in the middle."""
    name, peer, numbers = PEERS[which]
    made: Callable[..., Any] = getattr(optim, name)
    ours, theirs = params(dtype), params(dtype)
    starts = values(ours)
    optimizer, other = (
        made(in_groups(ours, 0.05), backend=backend, **numbers),
        peer(in_groups(theirs, 0.05), **numbers),
    )
    limit = CLASS_FLOAT64 if dtype is torch.float64 else CLASS_FLOAT32_RUN
    other.train()
    for t in range(STEPS):
        if t == STEPS // 2:
            optimizer.eval()
            saved = copy.deepcopy(optimizer.state_dict())
            ours = [w.requires_grad_() for w in values(ours)]
            optimizer = made(in_groups(ours, 9.0), backend=backend)
            optimizer.load_state_dict(saved)
            optimizer.train()
        set_gradients(t, ours, theirs)
        optimizer.step()
        other.step()
        assert all_apart(ours, theirs) < limit
        for p, q in zip(ours, theirs, strict=True):
            for slot in {"z", "exp_avg_sq"} & set(other.state[q]):
                assert apart(optimizer.state[p][slot], other.state[q][slot]) < limit
        other.eval()
        with optimizer.evaluated():
            assert all_apart(ours, theirs) < limit
        other.train()
    assert not any(torch.equal(p, start) for p, start in zip(ours, starts, strict=True) if p.numel())


@pytest.mark.parametrize("which", ["sgd", "adamw", "radam"])
def test_the_defaults_are_schedulefrees(which: str) -> None:
    name, peer, _ = PEERS[which]
    ours, theirs = getattr(optim, name)(params()), peer(params())
    # What a run of theirs keeps in its groups and what only says how it computes are no defaults.
    kept = {"foreach", "train_mode", "k", "scheduled_lr", "weight_sum", "lr_max"}
    wanted = {key: value for key, value in theirs.defaults.items() if key not in kept}
    assert {key: ours.defaults[key] for key in wanted} == wanted


def test_a_training_is_schedulefrees() -> None:
    """The author's function on open states, the compiled class, and schedulefree's: the same losses, all at the averages."""
    settings = {"lr": 0.01, "weight_decay": 0.01}
    sides = ["schedule_free_adamw", optim.ScheduleFreeAdamW, schedulefree.AdamWScheduleFree]  # type: ignore[attr-defined]
    runs = [steprule.train(side, "airfoil", **settings) for side in sides]
    for run in runs[1:]:
        assert apart(run.losses, runs[0].losses) < TRAIN_RULE_AGAINST_CLASS
        assert all_apart(run.parameters, runs[0].parameters) < TRAIN_RULE_AGAINST_CLASS


def test_the_parameters_of_a_run_are_those_of_its_loss() -> None:
    from steprule.problems import catalogue, scoring

    run, task = steprule.train("schedule_free_sgd", "airfoil", lr=0.05), catalogue.get("airfoil")
    model = task.initial_model(0)
    with torch.no_grad():
        for p, found in zip(model.parameters(), run.parameters, strict=True):
            p.copy_(torch.from_numpy(found))
    assert scoring.measured(task, model, task.parts["train"]) == run.final_loss


# The two modes of a class.


def test_modes_are_idempotent_and_give_every_bit_back() -> None:
    members, optimizer = begun()
    trained = values(members)
    optimizer.train()
    assert same(values(members), trained)
    optimizer.eval()
    read = values(members)
    assert not same(read, trained)
    optimizer.eval()
    assert same(values(members), read)
    optimizer.train()
    assert same(values(members), trained)
    assert not any("train_point" in state for state in optimizer.state.values())


def test_a_step_in_eval_mode_is_refused_before_the_closure_runs() -> None:
    _, optimizer = begun()
    optimizer.eval()
    with pytest.raises(RuntimeError, match=r"^ScheduleFreeAdamW\.step in eval mode: call optimizer\.train\(\) first"):
        optimizer.step(lambda: pytest.fail("the closure ran"))
    optimizer.train()
    optimizer.step()


def test_eval_before_the_first_step_leaves_all_as_it_is() -> None:
    members = params()
    optimizer = optim.ScheduleFreeSGD(members)  # type: ignore[attr-defined]
    before = values(members)
    optimizer.eval()
    assert same(values(members), before)
    with pytest.raises(RuntimeError, match="eval mode"):
        optimizer.step()
    optimizer.train()


def test_a_parameter_that_never_stepped_stays() -> None:
    members = params()
    optimizer = optim.ScheduleFreeSGD(members)  # type: ignore[attr-defined]
    members[0].grad = torch.ones_like(members[0])
    optimizer.step()
    members[0].grad = torch.ones_like(members[0])
    optimizer.step()
    before = values(members)
    with optimizer.evaluated():
        assert not torch.equal(members[0], before[0])
        assert same(values(members)[1:], before[1:])
    assert same(values(members), before)


def test_a_block_leaves_the_mode_that_it_found_also_when_it_raises() -> None:
    members, optimizer = begun()
    trained = values(members)
    with pytest.raises(KeyError), optimizer.evaluated():
        raise KeyError
    assert same(values(members), trained)
    optimizer.eval()
    with optimizer.evaluated():
        pass
    assert not same(values(members), trained)


def test_other_rules_have_the_modes_and_nothing_happens() -> None:
    for name in optim.NAMES:
        if rules.CATALOGUE[getattr(optim, name).rule.name].point is not None:
            continue
        p = torch.ones(1, 3, requires_grad=True)
        optimizer = getattr(optim, name)([p])
        p.grad = torch.ones(1, 3)
        optimizer.eval()
        optimizer.step(lambda p=p: p.sum().backward())  # type: ignore[misc]
        with optimizer.evaluated(), warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "train_mode" not in optimizer.state_dict()["param_groups"][0]
        optimizer.train()


def test_a_kernel_moves_as_the_authors_function_does() -> None:
    """Of a rule whose point asks for all that one may ask for; tensors of several kinds and shapes, transposed ones too."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        found = []
        for backend in ("eager", "auto"):
            members = [*params(dtype), torch.arange(12.0, dtype=dtype).reshape(3, 4).T.requires_grad_()]
            optimizer = from_rule(drifting)(in_groups(members, 0.2), lr=0.2, backend=backend)
            for t in range(5):
                set_gradients(t, members)
                optimizer.step()
            before, versions = values(members), [p._version for p in members]
            optimizer.eval()
            assert all(p._version > v for p, v in zip(members, versions, strict=True) if p.numel())
            found.append(values(members))
            optimizer.train()
            assert same(values(members), before)
        limit = {torch.float64: FORMS_FLOAT64, torch.float32: FORMS_FLOAT32, torch.bfloat16: FORMS_BFLOAT16}[dtype]
        assert all_apart(*found) < limit
        assert not same(found[0], before)


def test_complex_and_strange_parameters_go_by_the_authors_function() -> None:
    p = torch.randn(4, dtype=torch.complex128, requires_grad=True)
    q = torch.randn(4, 4, dtype=torch.float64)[:, ::2].requires_grad_()
    optimizer = optim.ScheduleFreeAdamW([p, q], lr=0.1)  # type: ignore[attr-defined]
    for _ in range(2):
        p.grad, q.grad = torch.ones_like(p) * (1 + 2j), torch.ones_like(q)
        optimizer.step()
    wanted = [x.detach() / 0.9 + (1 - 1 / 0.9) * optimizer.state[x]["z"] for x in (p, q)]
    optimizer.eval()
    assert all_apart([p, q], wanted) < FORMS_FLOAT64


# Saved and loaded.


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("by", ["checkpoint", "pickle", "deepcopy"])
def test_either_mode_is_resumed_to_the_bit(mode: str, by: str) -> None:
    model, data = nn.Linear(3, 2), torch.randn(5, 3)
    optimizer = optim.ScheduleFreeAdamW(model.parameters(), lr=0.05, warmup_steps=3)  # type: ignore[attr-defined]

    def go(model: nn.Module, optimizer: Any) -> list[Tensor]:
        optimizer.train()
        for _ in range(3):
            optimizer.zero_grad()
            model(data).square().mean().backward()
            optimizer.step()
        optimizer.eval()
        return values(list(model.parameters()))

    go(model, optimizer)
    getattr(optimizer, mode)()
    if by == "deepcopy":
        again, other = copy.deepcopy((model, optimizer))
    elif by == "pickle":
        again, other = pickle.loads(pickle.dumps((model, optimizer)))
    else:
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        saved = torch.load(io.BytesIO(file.getvalue()))
        again = nn.Linear(3, 2)
        other = optim.ScheduleFreeAdamW(again.parameters(), lr=7.0)  # type: ignore[attr-defined]
        other.load_state_dict(saved["optimizer"])
        again.load_state_dict(saved["model"])
        if mode == "eval":
            with pytest.raises(RuntimeError, match="eval mode"):
                other.step()
    assert same(go(model, optimizer), go(again, other))


def test_a_state_dict_of_training_warns_once_and_of_evaluation_never() -> None:
    _, optimizer = begun()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with optimizer.evaluated():
            optimizer.state_dict()
    with pytest.warns(UserWarning, match=r"state_dict\(\) in train mode: .* call optimizer\.eval\(\) first$"):
        optimizer.state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.state_dict()


def test_a_group_that_is_added_in_eval_mode_joins_it() -> None:
    members, optimizer = begun()
    optimizer.eval()
    late = torch.ones(2, dtype=torch.float64, requires_grad=True)
    optimizer.add_param_group({"params": [late]})
    optimizer.train()
    late.grad = torch.ones_like(late)
    set_gradients(9, members)
    optimizer.step()
    assert not torch.equal(late.detach(), torch.ones_like(late))
    assert [group["train_mode"] for group in optimizer.param_groups] == [True, True]


def test_the_averages_of_weights_and_the_modes_do_not_mix() -> None:
    members, optimizer = begun(ema_decay=0.9)
    with optimizer.ema_weights(), pytest.raises(RuntimeError, match=r"^eval\(\) inside ema_weights"):
        optimizer.eval()
    optimizer.eval()
    read = values(members)
    with optimizer.ema_weights():
        assert not same(values(members), read)
        with pytest.raises(RuntimeError, match=r"^train\(\) inside ema_weights"):
            optimizer.train()
    assert same(values(members), read)


def test_a_grad_scaler_and_hooks_see_an_ordinary_optimizer() -> None:
    seen = []
    plain, scaled = params(torch.float32), params(torch.float32)
    one, other = (optim.ScheduleFreeSGD(side, lr=0.1, fused_unscale=side is scaled) for side in (plain, scaled))  # type: ignore[attr-defined]
    other.register_step_post_hook(lambda *_: seen.append(1))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.ones(()))  # its scale begins with the first loss
    for t in range(3):
        set_gradients(t, plain, scaled)
        for p in scaled:
            p.grad = p.grad * 8.0  # type: ignore[operator]
        one.step()
        scaler.step(other)
        scaler.update()
    one.eval()
    other.eval()
    assert same(values(plain), values(scaled))
    assert len(seen) == 3


# The contract.


def stated(function: Callable[..., Any]) -> str:
    @rule
    def own(p, g, velocity, *, lr: Rate = 0.1, betas: tuple[Decay, ...] = (0.9, 0.99), t):  # type: ignore[no-untyped-def]
        return p - lr * g, g

    with pytest.raises(RuleError) as caught:
        own.evaluated(function)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{__file__}:{function.__code__.co_firstlineno}: own.evaluated: ")
    return text


def test_a_signature_asks_for_what_the_rule_has() -> None:
    assert "got velocty. Did you mean 'velocity'?" in stated(lambda p, velocty: p)
    assert "got rl. Did you mean 'lr'?" in stated(lambda p, *, rl: p)
    assert "Put a * before it." in stated(lambda p, lr: p)
    assert "Put it before the *." in stated(lambda p, *, velocity: p)
    assert "expected p as the first parameter" in stated(lambda x: x)
    assert "expected no defaults" in stated(lambda p, *, lr=0.1: p)
    assert "by name" in stated(lambda p, *rest: p)
    assert "a hyperparameter of the rule (" in stated(lambda p, *, alpha: p)


def test_a_point_takes_each_tuple_of_the_rule() -> None:
    @rule
    def own(
        p, g, s, *, lr: Rate = 0.1, shares: tuple[Decay, Decay] = (0.25, 0.5), betas: tuple[Decay, ...] = (0.9, 0.5)
    ):  # type: ignore[no-untyped-def]
        return p - lr * g, s + shares[0] * g

    @own.evaluated
    def read(p, s, *, shares, betas, share2):  # type: ignore[no-untyped-def]
        return p + shares[1] * s + betas[1] + share2

    p = torch.zeros(3, requires_grad=True)
    p.grad = torch.ones(3)
    optimizer = optim.from_rule(own)([p], lr=0.5, shares=(0.5, 0.25), betas=(0.9, 0.125))
    optimizer.step()
    with optimizer.evaluated():
        assert torch.equal(p, torch.full((3,), -0.5 + 0.25 * 0.5 + 0.125 + 0.25))


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda p, s: (p, s), "expected one value, the point, got a tuple"),
        (lambda p, s: None, "expected one value, the point, got nothing"),
        (lambda p, s: torch.sin(s), "torch"),
        (lambda p, s: p if s > 0 else s, "no such `if`"),
    ],
)
def test_a_point_is_one_value_in_the_language_of_rules(function: Any, told: str) -> None:
    @rule
    def own(p, g, s, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * g, s + g

    own.evaluated(function)
    p = torch.ones(2, requires_grad=True)
    p.grad = torch.ones(2)
    optimizer = from_rule(own)([p])
    optimizer.step()
    before = p.detach().clone()
    with pytest.raises(RuleError) as caught:
        optimizer.eval()
    assert told in str(caught.value)
    assert f"{__file__}:{function.__code__.co_firstlineno}" in str(caught.value)
    assert torch.equal(p, before)
    optimizer.step()  # it is still in train mode


def test_what_is_stated_later_is_seen_by_what_was_composed_before() -> None:
    @rule
    def own(p, g, s, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * g, s + g

    first, identity = from_rule(own), own.__steprule_identity__()
    assert first.rule.evaluation is None
    assert composed(own).evaluation is None
    own.evaluated(lambda p, s: s)
    assert composed(own).evaluation is not None
    assert from_rule(own) is not first
    assert from_rule(own).rule.evaluation is not None
    assert own.__steprule_identity__() != identity, "it decides results"


def test_a_slot_that_a_variant_does_not_use_is_none() -> None:
    asked = []

    @rule
    def own(p, g, s, *, lr: Rate = 0.1, keep: bool = False):  # type: ignore[no-untyped-def]
        return p - lr * g, g if keep else s

    @own.evaluated
    def point(p, s):  # type: ignore[no-untyped-def]
        asked.append(s is None)
        return p if s is None else 2 * s

    for keep, wanted in ((False, -0.1), (True, 2.0)):
        for backend in ("eager", "auto"):
            p = torch.zeros(2, dtype=torch.float64, requires_grad=True)
            p.grad = torch.ones_like(p)
            optimizer = from_rule(own)([p], keep=keep, backend=backend)
            optimizer.step()
            optimizer.eval()
            assert p.tolist() == [wanted, wanted]
    assert set(asked) == {True, False}


def test_floats_by_hand() -> None:
    p, state = eager.step(rules.schedule_free_sgd, 1.0, 2.0, {}, 1, rules.schedule_free_sgd.bind({"lr": 0.1}))
    # The first step's average is z itself, and p is on it.
    assert p == state["z"] == 0.8
    read = eager.evaluated(rules.schedule_free_sgd, 1.0, {**state, "z": 0.0}, 1, rules.schedule_free_sgd.defaults)
    assert apart(read, 1 / 0.9) < FORMS_FLOAT64


# What is measured.


def test_a_trace_is_read_at_its_point() -> None:
    path = steprule.trace("schedule_free_sgd", lr=0.4, momentum=0.7)
    assert path.evaluated.shape == path.points.shape == (21, 2)
    assert np.array_equal(path.values, path.ground.value(path.evaluated))
    assert not np.array_equal(path.evaluated[-1], path.points[-1])
    assert np.array_equal(path.evaluated[0], path.points[0])
    assert np.array_equal(path.gradients, path.ground.gradient(path.points[:-1]))
    assert path.to_dict()["evaluated"][-1] == list(path.evaluated[-1])
    plain = steprule.trace("sgd")
    assert plain.evaluated is plain.points
    assert "evaluated" not in plain.to_dict()


@pytest.mark.parametrize("which", ["schedule_free_sgd", "schedule_free_adamw", drifting])
@pytest.mark.parametrize("compiled", [True, False])
def test_lanes_are_measured_as_a_training_is(which: Any, compiled: bool) -> None:
    rates = [0.01, 0.1]
    swept = steprule.sweep(
        which, "airfoil", {"lr": np.array(rates)}, seeds=1, epochs=1, compile=compiled, schedule="linear"
    )
    wanted = [steprule.train(which, "airfoil", lr=lr, epochs=1, schedule="linear").final_loss for lr in rates]
    assert apart(np.ravel(swept.train), wanted) < LANE_AGAINST_SOLO


def test_the_formula_says_where_it_is_read() -> None:
    from steprule.compiler import formula
    from steprule.compiler.points import point_graph
    from steprule.compiler.variant import variant_of

    own = variant_of(drifting, drifting.defaults)
    graph = point_graph(own)
    assert graph is not None
    assert formula.whole(own).splitlines()[-1].startswith("evaluated at: p - ahead * lr * s / (1 + total / t)")
    assert formula.whole_latex(own)[-1].startswith(r"\text{evaluated at: } \theta_{t} - ")
    scope: dict[str, Any] = {}
    exec("from steprule.maths import *\n" + formula.point_python(graph), scope)
    found = scope["drifting_evaluated"](1.0, 2.0, 3.0, lr=0.1, ahead=0.5, t=2.0)
    assert found == behind(1.0, 2.0, 3.0, lr=0.1, ahead=0.5, t=2.0)
