"""Under a GradScaler our classes are torch's default ones; the fused unscale, which torch's fused classes have, is an option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from compare import apart, states_apart
from contract import FUSED, NAMES, REFERENCE, make, only_ours, optim, parameter
from thinning import thinned
from tolerances import CLASS_FLOAT32_FEW_STEPS
from torch import nn

INFINITE = (1, 2, 5)  # the steps whose loss overflows


def scaled_run(optimizer: Any, p: nn.Parameter, steps: int = 8, clip: float = 0.0) -> dict[str, Any]:
    """A training under a scaler, and all that a user of it can see."""
    seen: dict[str, Any] = {"gradients": [], "before": 0, "after": 0, "scales": [], "values": [], "counted": []}

    def before(*_: Any) -> None:
        seen["before"] += 1
        seen["gradients"].append(p.grad.detach().clone())

    def after(*_: Any) -> None:
        seen["after"] += 1

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    for t in range(steps):
        optimizer.zero_grad()
        loss = ((p - 0.5) ** 2).sum() * (float("inf") if t in INFINITE else 1.0)
        scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_([p], clip)
        scaler.step(optimizer)
        scaler.update()
        seen["scales"].append(scaler.get_scale())
        seen["values"].append(p.detach().clone())
        seen["counted"].append(float(optimizer.state[p].get("step", 0)) if optimizer.state else 0)
    return seen


def same(mine: dict[str, Any], torchs: dict[str, Any], *keys: str) -> None:
    for key in keys or mine:
        if key in ("gradients", "values"):
            assert len(mine[key]) == len(torchs[key])
            assert all(apart(a, b) <= CLASS_FLOAT32_FEW_STEPS for a, b in zip(mine[key], torchs[key], strict=True)), key
        else:
            assert mine[key] == torchs[key], key


@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_the_scaler_unscales_before_the_step_and_skips_it(name: str, clip: float) -> None:
    """Hooks see gradients of the loss, not of the scaled one; a step that is skipped runs none."""
    runs = []
    for module in (optim, torch.optim):
        p = parameter(4)
        runs.append(scaled_run(make(name, [p], module), p, clip=clip))
    same(*runs)
    assert runs[0]["before"] == runs[0]["after"] == 8 - len(INFINITE)
    assert float(runs[0]["gradients"][0].abs().max()) <= 1.0


@pytest.mark.parametrize("name", NAMES)
def test_by_default_a_class_leaves_unscaling_to_the_scaler(name: str) -> None:
    kind = getattr(optim, name)
    assert not getattr(kind, "_step_supports_amp_scaling", False)
    optimizer = make(name, [parameter(2)])
    assert not getattr(optimizer, "_step_supports_amp_scaling", False)


class SkipWatcher:
    """Knows whether the scaler skipped a step, as trainers do: by whether `step` was called at all.

    It wraps the bound method in its own, and advances the schedule only where the wrapped one ran.
    """

    def __init__(self, optimizer: Any, scaler: Any) -> None:
        self.optimizer, self.scaler, self.called = optimizer, scaler, False
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        plain = optimizer.step

        def noticed(*args: Any, **kwargs: Any) -> Any:
            self.called = True
            return plain(*args, **kwargs)

        self.noticed = noticed

    def step(self) -> bool:
        self.called, plain = False, self.optimizer.step
        self.optimizer.step = self.noticed
        try:
            self.scaler.step(self.optimizer)
        finally:
            self.optimizer.step = plain
        self.scaler.update()
        if self.called:
            self.scheduler.step()
        return self.called


@pytest.mark.parametrize("name", NAMES)
def test_a_trainer_sees_that_a_step_was_skipped(name: str) -> None:
    p = parameter(3)
    optimizer = make(name, [p], lr=0.08)
    watcher = SkipWatcher(optimizer, torch.amp.GradScaler("cpu", init_scale=256.0))
    taken, rates = [], []
    for t in range(6):
        optimizer.zero_grad()
        watcher.scaler.scale((p * p).sum() * (float("inf") if t in INFINITE else 1.0)).backward()
        taken.append(watcher.step())
        rates.append(optimizer.param_groups[0]["lr"])
    assert taken == [t not in INFINITE for t in range(6)]
    assert rates == [0.08 / 2 ** sum(taken[: t + 1]) for t in range(6)]


def clipped_by_a_trainer(optimizer: Any, params: list[nn.Parameter]) -> None:
    """Mixed-precision plugins refuse to clip for an optimizer that unscales by itself."""
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        raise RuntimeError("this optimizer does not allow for gradient clipping")
    nn.utils.clip_grad_norm_(params, 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_trainer_may_clip_gradients_in_mixed_precision(name: str) -> None:
    ends = []
    for module in (optim, torch.optim):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = make(name, model.parameters(), module)
        for _ in range(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(torch.ones(4, 3)).float().square().mean()
            loss.backward()
            clipped_by_a_trainer(optimizer, list(model.parameters()))
            optimizer.step()
        ends.append(list(model.parameters()))
    assert all(apart(p, q) <= CLASS_FLOAT32_FEW_STEPS for p, q in zip(*ends, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_float16_gradients_are_refused(name: str) -> None:
    p = parameter(3, dtype=torch.float16)
    optimizer = make(name, [p])
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(p.float().sum()).backward()
    before = p.detach().clone()
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
        scaler.step(optimizer)
    assert torch.equal(p, before)


def test_two_optimizers_under_one_scaler() -> None:
    """One of them overflows: it alone is skipped."""
    ends = []
    for module in (optim, torch.optim):
        p, q = parameter(3), parameter(3)
        a, b = make("Adam", [p], module), make("SGD", [q], module)
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        for t in range(4):
            a.zero_grad()
            b.zero_grad()
            scaler.scale((p**2).sum() * (float("inf") if t == 1 else 1.0)).backward()
            scaler.scale((q**2).sum()).backward()
            scaler.step(a)
            scaler.step(b)
            scaler.update()
        assert a.state[p]["step"] == 3
        ends.append((p, q, scaler.get_scale()))
    assert all(apart(x, y) <= CLASS_FLOAT32_FEW_STEPS for x, y in zip(*ends, strict=True))


# The option


def fused(name: str, params: Any) -> Any:
    return make(name, params, fused=True)


def unscaling(name: str, params: Any) -> Any:
    return make(name, params, fused_unscale=True)


OPTIONS: list[Any] = [pytest.param(n, fused, id=f"{n}-fused") for n in FUSED]
OPTIONS += [pytest.param(n, unscaling, id=f"{n}-fused_unscale", marks=only_ours) for n in NAMES]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_with_the_option_the_step_unscales_and_skips(name: str, option: Callable[..., Any]) -> None:
    """The same numbers, scales and counts; the gradients stay scaled, and hooks run at every step."""
    p, q = parameter(4), parameter(4)
    optimizer = option(name, [p])
    assert optimizer._step_supports_amp_scaling is True
    mine, torchs = scaled_run(optimizer, p), scaled_run(make(name, [q], torch.optim), q)
    same(mine, torchs, "values", "scales", "counted")
    assert mine["before"] == 8
    assert float(mine["gradients"][0].abs().max()) > 100
    assert states_apart(optimizer.state[p], make_like(name, q)) <= CLASS_FLOAT32_FEW_STEPS


def make_like(name: str, q: nn.Parameter) -> Any:
    """The state that torch's class has after the same run from the same start."""
    start = parameter(4)
    other = make(name, [start], torch.optim)
    scaled_run(other, start)
    assert torch.equal(start, q)
    return other.state[start]


@only_ours
@pytest.mark.parametrize("kind", ["Lion", "lamb"])
def test_rules_of_their_own_have_the_option_too(kind: str) -> None:
    make_one = optim.Lion if kind == "Lion" else optim.from_rule(kind)
    runs = []
    for given in ({}, {"fused_unscale": True}):
        p = parameter(4)
        optimizer = make_one([p], lr=0.05, **given)
        assert bool(getattr(optimizer, "_step_supports_amp_scaling", False)) is bool(given)
        runs.append(scaled_run(optimizer, p))
    same(*runs, "values", "scales")
    assert (runs[0]["before"], runs[1]["before"]) == (5, 8)


@only_ours
@pytest.mark.parametrize("name", NAMES)
def test_with_the_option_a_skipped_step_still_zeroes_gradients_if_asked(name: str) -> None:
    p = parameter(3)
    optimizer = make(name, [p], fused_unscale=True, zero_grad=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = p.detach().clone()
    scaler.scale((p * float("inf")).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(p, before)
    assert not p.grad.any()


@only_ours
@pytest.mark.parametrize("extras", thinned([{"clip_norm": 0.5}, {"clip_value": 0.2}, {"ema_decay": 0.9}], 3))
def test_what_torch_lacks_is_the_same_with_and_without_the_option(extras: dict[str, float]) -> None:
    """Clipping sees unscaled gradients either way."""
    for name in ("SGD", "AdamW"):
        runs = []
        for given in ({}, {"fused_unscale": True}):
            p = parameter(4)
            runs.append(scaled_run(make(name, [p], **extras, **given), p))
        same(*runs, "values", "scales")


@only_ours
def test_the_option_is_a_bool() -> None:
    for name in ("SGD", "Adam"):
        with pytest.raises((TypeError, ValueError), match="fused_unscale"):
            make(name, [parameter(1)], fused_unscale="yes")


@pytest.mark.parametrize("name", FUSED)
def test_fused_and_plain_optimizers_differ_in_that_alone(name: str) -> None:
    """The attribute is of the optimizer: one that is fused leaves the next one as it was."""
    one = fused(name, [parameter(2)])
    two = make(name, [parameter(2)])
    assert getattr(one, "_step_supports_amp_scaling", False)
    assert not getattr(two, "_step_supports_amp_scaling", False)
    assert REFERENCE or not getattr(type(two), "_step_supports_amp_scaling", False)
