"""What surrounds a step: hooks, closures, the profiler, signatures, and settings that change between steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from compare import apart
from contract import NAMES, REFERENCE, SETTINGS, feed, in_child, in_fresh, make, only_ours, optim, parameter, train
from tolerances import CLASS_FLOAT32_FEW_STEPS, ROUNDED32
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

# Hooks run once


def counted(optimizer: Any) -> list[str]:
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    return calls


def derived(name: str) -> list[type]:
    """A class with a step of its own, one below it with none, and one below that with one more."""
    base = getattr(optim, name)

    class Own(base):  # type: ignore[misc]
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    class Without(Own):
        pass

    class Another(Without):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    return [Own, Without, Another]


def hooks_of_subclasses(name: str) -> list[list[str]]:
    found = []
    for kind in derived(name)[: 1 if REFERENCE else 3]:  # torch wraps each class's step that was made
        optimizer = kind([parameter(3), parameter(2)], **SETTINGS[name])
        calls = counted(optimizer)
        train(optimizer)
        found.append(calls)
    return found


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_a_subclass_with_a_step_of_its_own_runs_hooks_once(name: str) -> None:
    """In a fresh process: torch's own class runs them twice once its base was made."""
    assert all(calls == ["pre", "post"] for calls in in_fresh(hooks_of_subclasses, name))


@only_ours
@pytest.mark.parametrize("name", NAMES)
def test_a_subclass_runs_hooks_once_whatever_was_made_before(name: str) -> None:
    make(name, [parameter(1)], torch.optim)
    make(name, [parameter(1)])
    assert all(calls == ["pre", "post"] for calls in hooks_of_subclasses(name))


def sparse_groups(name: str) -> list[str]:
    tables = [nn.Embedding(4, 2, sparse=True) for _ in range(3)]
    optimizer = getattr(optim, name)([{"params": t.parameters()} for t in tables], lr=0.1)
    calls = counted(optimizer)
    sum(t(torch.tensor([1])).sum() for t in tables).backward()  # type: ignore[union-attr]
    optimizer.step()
    return calls


def mixed_groups(name: str) -> list[str]:
    """A group with sparse gradients between two with dense ones."""
    table = nn.Embedding(4, 2, sparse=True)
    p, q = parameter(2), parameter(3)
    optimizer = getattr(optim, name)([{"params": [p]}, {"params": table.parameters()}, {"params": [q]}], lr=0.1)
    calls = counted(optimizer)
    table(torch.tensor([1])).sum().backward()
    feed([p, q], 0)
    optimizer.step()
    return calls


def differentiable_groups(name: str) -> list[str]:
    """Groups that torch's own step serves."""
    params = [parameter(3).clone(), parameter(2).clone()]
    optimizer = make(name, [{"params": [p]} for p in params], differentiable=True)
    calls = counted(optimizer)
    for p in params:
        p.retain_grad()
    feed(params, 0)
    optimizer.step()
    return calls


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    ("groups", "arg"),
    [
        (sparse_groups, "SGD"),
        (sparse_groups, "Adagrad"),
        (mixed_groups, "SGD"),
        (mixed_groups, "Adagrad"),
        (differentiable_groups, "SGD"),
        (differentiable_groups, "Adam"),
    ],
)
def test_hooks_run_once_over_all_groups(groups: Callable[[str], list[str]], arg: str) -> None:
    make("SGD", [parameter(1)], torch.optim)  # torch wraps its step then
    make("Adagrad", [parameter(1)], torch.optim)
    assert groups(arg) == ["pre", "post"]


# What a hook sees and may change


@pytest.mark.parametrize("name", NAMES)
def test_the_arguments_that_a_hook_sees(name: str) -> None:
    p = parameter(3)
    optimizer = make(name, [p])
    seen: list[tuple[Any, Any, Any]] = []
    optimizer.register_step_pre_hook(lambda *given: seen.append(given))
    optimizer.register_step_post_hook(lambda *given: seen.append(given))

    def closure() -> torch.Tensor:
        feed([p], 0)
        return torch.tensor(2.0)

    assert optimizer.step() is None
    assert optimizer.step(closure) == 2
    assert optimizer.step(closure=closure) == 2
    wanted = [((optimizer,), {}), ((optimizer, closure), {}), ((optimizer,), {"closure": closure})]
    assert [(a, b) for who, a, b in seen] == [w for w in wanted for _ in range(2)]
    assert all(who is optimizer for who, _, _ in seen)


@pytest.mark.parametrize("name", NAMES)
def test_a_pre_hook_may_give_other_arguments(name: str) -> None:
    optimizer = make(name, [parameter(3)])
    after: list[Any] = []
    handle = optimizer.register_step_pre_hook(lambda o, args, kwargs: ((o, lambda: 5.0), {}))
    optimizer.register_step_post_hook(lambda o, args, kwargs: after.append(args[1]()))
    assert optimizer.step(lambda: 1.0) == 5.0
    assert optimizer.step() == 5.0
    assert after == [5.0, 5.0]
    handle.remove()
    handle = optimizer.register_step_pre_hook(lambda *_: "nonsense")
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()
    handle.remove()


@pytest.mark.parametrize("name", NAMES)
def test_hooks_in_order_around_the_step(name: str) -> None:
    p = parameter(3)
    optimizer = make(name, [p])
    start = p.detach().clone()
    calls: list[tuple[str, bool]] = []

    def call(what: str) -> Callable[..., None]:
        return lambda *_: calls.append((what, torch.equal(p, start)))

    handles = [
        register_optimizer_step_pre_hook(call("all before")),
        register_optimizer_step_post_hook(call("all after")),
    ]
    handles += [optimizer.register_step_pre_hook(call("before")), optimizer.register_step_post_hook(call("after"))]
    try:
        train(optimizer)
    finally:
        for handle in handles:
            handle.remove()
    assert calls == [("all before", True), ("before", True), ("after", False), ("all after", False)]
    train(optimizer)
    assert len(calls) == 4


def gradients_changed(optimizer: Any, *_: Any) -> None:
    for p in optimizer.param_groups[0]["params"]:
        p.grad = p.grad * 0.5


def gradients_changed_in_place(optimizer: Any, *_: Any) -> None:
    for p in optimizer.param_groups[0]["params"]:
        p.grad.clamp_(-0.2, 0.2)


def settings_changed(optimizer: Any, *_: Any) -> None:
    optimizer.param_groups[0]["lr"] *= 0.5


def states_changed(optimizer: Any, *_: Any) -> None:
    for s in optimizer.state.values():
        for k, v in s.items():
            if k != "step":
                s[k] = v * 0.5


def gradients_taken_away(optimizer: Any, *_: Any) -> None:
    optimizer.param_groups[0]["params"][0].grad = None


HOOKS = [gradients_changed, gradients_changed_in_place, settings_changed, states_changed, gradients_taken_away]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("name", NAMES)
def test_what_a_pre_hook_changes_is_what_is_stepped(name: str, hook: Callable[..., None]) -> None:
    def go() -> None:
        ends = []
        for module in (optim, torch.optim):
            params = [parameter(3), parameter(2, 2)]
            optimizer = make(name, params, module)
            train(optimizer, 2)
            optimizer.register_step_pre_hook(hook)
            train(optimizer, 3, start=2)
            ends.append(params)
        assert all(apart(p, q) <= CLASS_FLOAT32_FEW_STEPS for p, q in zip(*ends, strict=True))

    in_child(go)


@pytest.mark.parametrize("name", NAMES)
def test_a_closure_runs_with_gradients_and_before_the_step(name: str) -> None:
    ends = []
    for module in (optim, torch.optim):
        p = parameter(3)
        optimizer = make(name, [p], module)
        enabled: list[bool] = []

        def closure() -> torch.Tensor:
            enabled.append(torch.is_grad_enabled())  # noqa: B023
            optimizer.zero_grad()  # noqa: B023
            loss = (p * p).sum()  # noqa: B023
            loss.backward()
            return loss

        with torch.no_grad():
            losses = [optimizer.step(closure).item() for _ in range(4)]
        assert enabled == [True] * 4
        assert losses[-1] < losses[0]
        with pytest.raises(ZeroDivisionError):
            optimizer.step(lambda: 1 / 0)
        ends.append(p)
    assert apart(*ends) <= CLASS_FLOAT32_FEW_STEPS


@pytest.mark.parametrize("name", NAMES)
def test_the_profilers_records_have_torchs_names(name: str) -> None:
    class Mine(getattr(optim, name)):  # type: ignore[misc]
        pass

    for kind in (getattr(optim, name), Mine):
        optimizer = kind([parameter(3)], **SETTINGS[name])
        train(optimizer)
        with torch.autograd.profiler.profile() as seen:
            optimizer.step()
            optimizer.zero_grad()
        names = [e.name for e in seen.function_events if e.name.startswith("Optimizer.")]
        assert names == [f"Optimizer.step#{kind.__name__}.step", f"Optimizer.zero_grad#{kind.__name__}.zero_grad"]


def test_schedulers_see_whether_a_step_was_taken() -> None:
    optimizer = make("Adam", [parameter(3)])
    early = lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        early.step()
    optimizer = make("Adam", [parameter(3)])
    late = lr_scheduler.StepLR(optimizer, 1)
    train(optimizer)
    late.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01, rel=ROUNDED32)
