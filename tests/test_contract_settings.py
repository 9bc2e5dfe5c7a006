"""torch's contract of settings: signatures, settings that change between steps, betas, the backend."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from compare import apart, states_apart
from contract import NAMES, REFERENCE, SETTINGS, in_child, make, only_ours, optim, parameter, train
from thinning import thinned
from tolerances import CLASS_FLOAT32_FEW_STEPS
from torch import nn
from torch.optim import lr_scheduler

BETAS = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam")


# Signatures

CLASSES: dict[str, Any] = {n: getattr(optim, n) for n in NAMES}
if not REFERENCE:
    CLASSES |= {"Lion": optim.Lion, "lamb": optim.from_rule("lamb"), "lars": optim.from_rule("lars")}


@pytest.mark.parametrize("kind", CLASSES.values(), ids=list(CLASSES))
def test_a_class_and_its_constructor_have_one_signature(kind: Any) -> None:
    """Readers of either find each argument by name, and what they find is taken."""
    whole, (first, *own) = inspect.signature(kind), inspect.signature(kind.__init__).parameters.values()
    assert first.name == "self"
    assert [(p.name, p.default, p.kind) for p in whole.parameters.values()] == [
        (p.name, p.default, p.kind) for p in own
    ]
    assert [p.name for p in own if p.default is p.empty] == ["params"]
    assert not [p for p in own if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    p, q = parameter(3), parameter(3)
    given = {p.name: p.default for p in own[1:]}
    explicit, implicit = kind(params=[p], **given), kind([q])
    assert list(explicit.param_groups[0]) == list(implicit.param_groups[0])
    train(explicit, 2)
    train(implicit, 2)
    assert torch.equal(p, q)


@pytest.mark.parametrize("name", NAMES)
def test_torchs_arguments_come_first_as_torch_has_them(name: str) -> None:
    mine, theirs = (list(inspect.signature(getattr(m, name)).parameters.values()) for m in (optim, torch.optim))
    own = [(p.name, p.default, p.kind) for p in mine]
    positional = [(p.name, p.default, p.kind) for p in theirs if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert own[: len(positional)] == positional
    assert {(p.name, repr(p.default)) for p in theirs} <= {(p.name, repr(p.default)) for p in mine}
    assert (
        make(name, [parameter(1)]).param_groups[0]["lr"]
        == getattr(optim, name)([parameter(1)], SETTINGS[name]["lr"]).defaults["lr"]
    )


@pytest.mark.parametrize("kind", CLASSES.values(), ids=list(CLASSES))
def test_an_unknown_argument_is_refused(kind: Any) -> None:
    for wrong in ({"lrr": 0.1}, {"learning_rate": 0.1}, {"Lr": 0.1}):
        with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
            kind([parameter(1)], **wrong)


@pytest.mark.parametrize("name", NAMES)
def test_a_subclass_keeps_its_own_signature(name: str) -> None:
    base = getattr(optim, name)

    class Mine(base):  # type: ignore[misc]
        def __init__(self, params: Any, lr: float = 0.5, *, warmup: int = 10) -> None:
            super().__init__(params, lr=lr)
            self.warmup = warmup

    class Further(Mine):
        pass

    class Plain(base):  # type: ignore[misc]
        pass

    for kind in (Mine, Further):
        assert str(inspect.signature(kind)).startswith("(params")
        assert list(inspect.signature(kind).parameters) == ["params", "lr", "warmup"]
        optimizer = kind([parameter(2)], warmup=3)
        assert (optimizer.warmup, optimizer.defaults["lr"]) == (3, 0.5)
    assert inspect.signature(Plain) == inspect.signature(base)


@only_ours
def test_a_subclass_may_pass_on_what_torch_lacks() -> None:
    class Mine(optim.AdamW):  # type: ignore[misc, name-defined]
        def __init__(self, params: Any, *, warmup: int = 10, **settings: Any) -> None:
            super().__init__(params, **settings)

    optimizer = Mine([parameter(2)], clip_norm=0.5, ema_decay=0.9, zero_grad=True)
    assert optimizer.defaults["clip_norm"] == 0.5
    train(optimizer)
    assert not optimizer.param_groups[0]["params"][0].grad.any()


# Settings that change between steps


def twins(name: str, **settings: Any) -> Iterator[tuple[Any, nn.Parameter]]:
    for module in (optim, torch.optim):
        p = parameter(4)
        yield make(name, [p], module, **settings), p


def tensors_filled(group: dict[str, Any]) -> None:
    group["betas"][0].fill_(0.25)
    group["betas"][1].fill_(0.5)


def list_changed(group: dict[str, Any]) -> None:
    group["betas"][0], group["betas"][1] = 0.25, 0.5


def one_replaced(group: dict[str, Any]) -> None:
    group["betas"] = (0.25, group["betas"][1])


BETA_CHANGES: dict[str, tuple[Callable[[], Any], Callable[[dict[str, Any]], None]]] = {
    "tensors": (lambda: (torch.tensor(0.9), torch.tensor(0.99)), tensors_filled),
    "a list": (lambda: [0.9, 0.99], list_changed),
    "a tuple": (lambda: (0.9, 0.99), one_replaced),
}


@pytest.mark.parametrize("tensor_lr", [False, True])
@pytest.mark.parametrize(("start", "change"), BETA_CHANGES.values(), ids=list(BETA_CHANGES))
@pytest.mark.parametrize("name", thinned(BETAS, 3))
def test_betas_changed_in_place_are_seen(name: str, start: Any, change: Any, tensor_lr: bool) -> None:
    def go() -> None:
        both = list(twins(name))
        for optimizer, _ in both:
            group = optimizer.param_groups[0]
            group["betas"] = start()
            if tensor_lr:
                group["lr"] = torch.tensor(0.1)
            train(optimizer, 2)
            change(group)
            train(optimizer, 2, start=2)
        (a, p), (b, q) = both
        assert apart(p, q) <= CLASS_FLOAT32_FEW_STEPS
        assert states_apart(a.state[p], b.state[q]) <= CLASS_FLOAT32_FEW_STEPS

    in_child(go)


FOREIGN: dict[str, Callable[[int], Any]] = {
    "an array": lambda k: np.arange(3) + k,
    "a list of tensors": lambda k: [torch.arange(3) + k, torch.ones(2)],
    "a tensor": lambda k: torch.arange(4) + k,
    "a dict": lambda k: {"scale": np.ones(2) * k},
    "a function": lambda k: lambda: k,
    "None": lambda k: None,
    "nan": lambda k: float("nan"),
}


@pytest.mark.parametrize("value", FOREIGN.values(), ids=list(FOREIGN))
@pytest.mark.parametrize("name", thinned(NAMES, 4))
def test_keys_of_ones_own_in_a_group_are_left_alone(name: str, value: Callable[[int], Any]) -> None:
    def go() -> None:
        ends = []
        for module in (optim, torch.optim):
            p = parameter(4)
            first = value(0)
            optimizer = make(name, [{"params": [p], "tag": first}], module)
            train(optimizer, 2)
            assert optimizer.param_groups[0]["tag"] is first
            for k in range(1, 3):
                optimizer.param_groups[0]["tag"] = mine = value(k)
                train(optimizer, 1, start=1 + k)
                assert optimizer.param_groups[0]["tag"] is mine
            assert "tag" in optimizer.state_dict()["param_groups"][0]
            del optimizer.param_groups[0]["tag"]
            train(optimizer, 1, start=4)
            ends.append(p)
        assert apart(*ends) <= CLASS_FLOAT32_FEW_STEPS

    in_child(go)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_settings_given_as_arrays_and_tensors(name: str) -> None:
    """A number is a number, whoever made it."""
    for given in (np.float32(0.25), np.float64(0.25), np.array(0.25), torch.tensor(0.25), torch.tensor([0.25])):
        both = list(twins(name))
        for optimizer, _ in both:
            train(optimizer, 1)
            optimizer.param_groups[0]["lr"] = given
            train(optimizer, 2, start=1)
        assert apart(both[0][1], both[1][1]) <= CLASS_FLOAT32_FEW_STEPS


# `betas` for every rule that has beta1 and beta2


def rules_with_betas() -> list[str]:
    from steprule import rules

    return [r.name for r in rules.CATALOGUE.values() if tuple(r.betas) == ("beta1", "beta2") and not r.looked]


def from_rule(name: str) -> Any:
    return optim.Lion if name == "lion" else optim.from_rule(name)


def stepped(optimizer: Any, steps: int = 3) -> Any:
    """Its parameter and its moment: Lion's step is the sign of it, and may be the same with other betas."""
    train(optimizer, steps)
    p = optimizer.param_groups[0]["params"][0]
    moments = [optimizer.state[p][name] for name in ("exp_avg", "exp_avg_sq") if name in optimizer.state[p]]
    return torch.cat([p.detach(), *moments])


WITH_BETAS = [] if REFERENCE else rules_with_betas()


@only_ours
@pytest.mark.parametrize("name", WITH_BETAS)
def test_betas_wherever_they_are_given(name: str) -> None:
    """In the constructor, in a group, later in a group, in a checkpoint: each equals beta1 and beta2 in the constructor."""
    kind = from_rule(name)
    wanted = stepped(kind([parameter(4)], lr=0.05, beta1=0.5, beta2=0.75))
    usual = stepped(kind([parameter(4)], lr=0.05))
    assert not torch.equal(wanted, usual)

    def later() -> Any:
        optimizer = kind([parameter(4)], lr=0.05)
        optimizer.param_groups[0]["betas"] = (0.5, 0.75)
        return optimizer

    def loaded() -> Any:
        optimizer = kind([parameter(4)], lr=0.05)
        saved = optimizer.state_dict()
        saved["param_groups"][0]["betas"] = (0.5, 0.75)
        optimizer.load_state_dict(saved)
        return optimizer

    def from_a_checkpoint() -> Any:
        optimizer = kind([parameter(4)], lr=0.05)
        optimizer.load_state_dict(kind([parameter(4)], lr=0.05, betas=(0.5, 0.75)).state_dict())
        return optimizer

    made = [
        kind([parameter(4)], lr=0.05, betas=(0.5, 0.75)),
        kind([{"params": [parameter(4)], "betas": (0.5, 0.75)}], lr=0.05),
        kind([{"params": [parameter(4)]}], lr=0.05, betas=[0.5, 0.75]),
        later(),
        loaded(),
        from_a_checkpoint(),
    ]
    for optimizer in made:
        assert torch.equal(stepped(optimizer), wanted)
    for optimizer in made[:2]:
        optimizer.param_groups[0]["betas"] = (0.9, 0.75)
    assert torch.equal(stepped(made[0]), stepped(made[1]))


@only_ours
@pytest.mark.parametrize("name", WITH_BETAS)
def test_betas_are_checked(name: str) -> None:
    for wrong in ((1.0, 0.9), (0.9, -0.1), (0.9,), 0.9, (0.9, 0.9, 0.9)):
        with pytest.raises((ValueError, TypeError), match="beta"):
            from_rule(name)([parameter(2)], betas=wrong)


CYCLES: dict[str, Callable[[Any], Any]] = {
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=8),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=2),
}


@only_ours
@pytest.mark.parametrize("cycle", CYCLES.values(), ids=list(CYCLES))
@pytest.mark.parametrize("name", ["lion", "lamb"])
def test_schedulers_that_cycle_the_momentum(name: str, cycle: Callable[[Any], Any]) -> None:
    """The same settings by hand give the same bits, and constant ones do not."""
    kind = from_rule(name)
    optimizer, by_hand, constant = (kind([parameter(4)], lr=0.05) for _ in range(3))
    scheduler = cycle(optimizer)
    seen = set()
    for t in range(6):
        group = optimizer.param_groups[0]
        by_hand.param_groups[0].update(lr=group["lr"], betas=tuple(group["betas"]))
        constant.param_groups[0].update(lr=group["lr"])
        seen.add(group["betas"][0])
        for o in (optimizer, by_hand, constant):
            train(o, 1, start=t)
        scheduler.step()
    assert len(seen) > 2
    p, q, r = (o.param_groups[0]["params"][0] for o in (optimizer, by_hand, constant))
    assert torch.equal(p, q)
    # Lion's step is a sign: here is a gradient whose sum with the momentum has another sign under each beta1.
    between = (optimizer.param_groups[0]["betas"][0] + constant.param_groups[0]["betas"][0]) / 2
    for o, x in ((optimizer, p), (constant, r)):
        x.grad = -o.state[x]["exp_avg"] * between / (1 - between)
        o.step()
    assert not torch.equal(p, r)


@only_ours
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lion_is_the_lion_of_others(weight_decay: float) -> None:
    """Its weight decay is decoupled, as in the paper: it never goes into the sign."""
    from pytorch_optimizer import Lion

    p, q = parameter(50, value=10.0), parameter(50, value=10.0)
    mine = optim.Lion([p], lr=0.1, weight_decay=weight_decay, betas=(0.9, 0.99))
    theirs = Lion([q], lr=0.1, weight_decay=weight_decay, betas=(0.9, 0.99))
    for t in range(5):
        for x, optimizer in ((p, mine), (q, theirs)):
            x.grad = -torch.linspace(-1, 1.5, 50) * (1 + t)
            optimizer.step()
    assert apart(p, q) <= CLASS_FLOAT32_FEW_STEPS
    assert apart(mine.state[p]["exp_avg"], theirs.state[q]["exp_avg"]) <= CLASS_FLOAT32_FEW_STEPS


# The backend


@only_ours
@pytest.mark.parametrize("name", NAMES)
def test_a_backend_named_later_is_obeyed_or_refused(name: str) -> None:
    optimizer = make(name, [parameter(4)])
    train(optimizer, 2)
    try:
        optimizer.backend = "eager"
    except (AttributeError, ValueError, RuntimeError):
        return  # refused: then nothing else can be asked
    with torch.autograd.profiler.profile() as seen:
        train(optimizer, start=2)
    elementwise = {e.name for e in seen.function_events} & {
        "aten::mul",
        "aten::add",
        "aten::sub",
        "aten::mul_",
        "aten::add_",
    }
    eager = make(name, [parameter(4)], backend="eager")
    train(eager, 3)
    assert apart(optimizer.param_groups[0]["params"][0], eager.param_groups[0]["params"][0]) <= CLASS_FLOAT32_FEW_STEPS
    with torch.autograd.profiler.profile() as wanted:
        train(eager)
    assert elementwise == {e.name for e in wanted.function_events} & {
        "aten::mul",
        "aten::add",
        "aten::sub",
        "aten::mul_",
        "aten::add_",
    }


@only_ours
@pytest.mark.parametrize("when", ["at once", "after a step"])
def test_a_backend_that_there_is_not_is_refused(when: str) -> None:
    optimizer = make("Adam", [parameter(4)])
    if when == "after a step":
        train(optimizer)

    def name_it() -> None:
        optimizer.backend = "cuda"
        train(optimizer)

    with pytest.raises(ValueError, match="one of auto, eager, numba"):
        name_it()
