"""torch's own tests as a client: its table of optimizer inputs, and what its public tests of optimizers check, in our words.

| what torch tests                                       | here                                              |
|--------------------------------------------------------|---------------------------------------------------|
| several GPUs, capture in CUDA graphs, CUDA tensor betas | not: needs a GPU                                  |
| fused CPU against CUDA, tensors of 2^32 elements        | not: needs a GPU, or more memory than tests have  |
| peak memory of foreach steps                            | not here: measured there on a GPU                 |
| loading states of CPU and GPU parameters                | not: needs a GPU; the meta device is tested apart |
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from compare import apart, states_apart
from contract import FUSED, NAMES, REFERENCE, SETTINGS, decays, make, optim, parameter, train
from thinning import thinned
from tolerances import CLASS_FLOAT32_FEW_STEPS, TORCH_FLOAT32_SETTINGS
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.testing._internal.common_optimizers import optim_db

TABLE = [info for info in optim_db if info.optim_cls.__name__ in NAMES]
INFO = {info.optim_cls.__name__: info for info in TABLE}


def test_the_table_has_every_class() -> None:
    assert set(INFO) == set(NAMES)


# Inputs

FLAGS: dict[str, dict[str, Any]] = {
    "no flag": {},
    "foreach": {"foreach": True},
    "no foreach": {"foreach": False},
    "fused": {"fused": True},
    "differentiable": {"differentiable": True},
}
GIVEN = [(name, given) for name, info in INFO.items() for given in info.optim_inputs_func(device="cpu")]
GIVEN_IDS = [f"{name}-{given.desc}" for name, given in GIVEN]


def settings_with(name: str, given: Any, flag: dict[str, Any]) -> dict[str, Any] | None:
    """The input's settings with a flag; None where torch's class refuses the two together."""
    settings = {**copy.deepcopy(given.kwargs), **flag}
    if "fused" in flag and name not in FUSED:
        return None
    if any(isinstance(v, Tensor) and v.requires_grad for v in settings.values()) and not flag.get("differentiable"):
        return None
    try:
        getattr(torch.optim, name)([parameter(1)], **copy.deepcopy(settings))
    except (RuntimeError, ValueError):
        return None
    return settings


def params_of(dtype: torch.dtype = torch.float64, leaf: bool = True) -> list[Tensor]:
    made = [torch.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3), torch.linspace(0.5, 2, 4, dtype=dtype)]
    made = [p.requires_grad_() for p in made]
    return made if leaf else [p.clone() for p in made]


FLAGGED = [(name, given, flag) for flag in list(FLAGS.values())[1:] for name, given in GIVEN]
FLAGGED_IDS = [f"{of}-{flag}" for flag in list(FLAGS)[1:] for of in GIVEN_IDS]


@pytest.mark.parametrize(
    ("name", "given", "flag"),
    [pytest.param(name, given, {}, id=of) for (name, given), of in zip(GIVEN, GIVEN_IDS, strict=True)]
    + thinned(FLAGGED, 4, FLAGGED_IDS),
)
def test_every_input_of_the_table_steps_as_torchs(name: str, given: Any, flag: dict[str, Any]) -> None:
    settings = settings_with(name, given, flag)
    if settings is None:
        with pytest.raises((RuntimeError, ValueError, TypeError)):
            refused(name, given, flag)
        return
    if settings.get("capturable"):
        with pytest.raises((AssertionError, RuntimeError), match=r"capturable|CUDA|supported"):
            two_runs(name, settings)
        return
    a, b = two_runs(name, settings)
    assert all(apart(p, q) <= TORCH_FLOAT32_SETTINGS for p, q in zip(a, b, strict=True))


def refused(name: str, given: Any, flag: dict[str, Any]) -> None:
    settings = {**copy.deepcopy(given.kwargs), **flag}
    params = params_of()
    optimizer = getattr(optim, name)(params, **settings)
    train(optimizer)


def two_runs(name: str, settings: dict[str, Any]) -> list[list[Tensor]]:
    ends = []
    for module in (optim, torch.optim):
        params = params_of(leaf=not settings.get("differentiable"))
        for p in params:
            p.retain_grad()
        optimizer = getattr(module, name)(params, **copy.deepcopy(settings))
        for _ in range(5):
            for p in params:
                p.grad = p.detach() * 0.7 + 0.05
            optimizer.step()
        ends.append([p.detach() for p in params])
    return ends


ERRORS = [
    (name, error)
    for name, info in INFO.items()
    for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float32)
]


@pytest.mark.parametrize(("name", "error"), ERRORS, ids=[f"{n}-{e.optimizer_error_input.desc}" for n, e in ERRORS])
def test_every_error_input_of_the_table_raises_torchs_error(name: str, error: Any) -> None:
    given = error.optimizer_error_input
    params = [parameter(1, 1)] if given.params is None else given.params

    def construct_and_step() -> None:
        optimizer = getattr(optim, name)(params, **given.kwargs)
        if error.error_on.name == "STEP_ERROR":
            train(optimizer)

    if issubclass(error.error_type, Warning):
        with pytest.warns(error.error_type, match=error.error_regex):
            construct_and_step()
    else:
        with pytest.raises(error.error_type, match=error.error_regex):
            construct_and_step()


# Going the right way


def loss_of(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return (weight.mv(x) + bias).pow(2).sum()


SCHEDULES: dict[str, Callable[[Any], list[Any]]] = {
    "constant": lambda o: [],
    "StepLR": lambda o: [lr_scheduler.StepLR(o, 10, 0.9)],
    "Plateau": lambda o: [lr_scheduler.ReduceLROnPlateau(o)],
    "two": lambda o: [lr_scheduler.StepLR(o, 10, 0.9), lr_scheduler.ReduceLROnPlateau(o)],
    "Exponential": lambda o: [lr_scheduler.ExponentialLR(o, 0.99)],
    "Linear": lambda o: [lr_scheduler.LinearLR(o, 0.4, total_iters=4)],
}


LOOPS = [(n, c, g, s) for n in NAMES for c in (True, False) for g in (False, True) for s in SCHEDULES]
LOOP_IDS = [f"{n}-{'contiguous' if c else 'strided'}-{1 + g} groups-{s}" for n, c, g, s in LOOPS]


@pytest.mark.parametrize(("name", "contiguous", "groups", "schedule"), thinned(LOOPS, 5, LOOP_IDS))
def test_a_loop_goes_down(name: str, contiguous: bool, groups: bool, schedule: str) -> None:
    ends = []
    for module in (optim, torch.optim):
        generator = torch.Generator().manual_seed(3)
        shape = (6, 5) if contiguous else (6, 5, 2)
        data = torch.randn(shape, generator=generator)
        weight = nn.Parameter(data if contiguous else data[..., 0])
        bias = nn.Parameter(
            torch.randn(6, generator=generator) if contiguous else torch.randn(6, 2, generator=generator)[..., 0]
        )
        x = torch.randn(5, generator=generator)
        given = [{"params": [weight]}, {"params": [bias], "lr": 0.01}] if groups else [weight, bias]
        optimizer = make(name, given, module, lr=0.01)
        schedulers = SCHEDULES[schedule](optimizer)
        first = loss_of(weight, bias, x).item()
        for _ in range(12):
            optimizer.zero_grad()
            loss = loss_of(weight, bias, x)
            loss.backward()
            optimizer.step()
            for s in schedulers:
                s.step(*([loss.item()] if isinstance(s, lr_scheduler.ReduceLROnPlateau) else []))
        assert loss_of(weight, bias, x).item() < first
        assert weight.is_contiguous() is contiguous
        ends.append((weight, bias))
    assert all(apart(p, q) <= CLASS_FLOAT32_FEW_STEPS for p, q in zip(*ends, strict=True))


@pytest.mark.parametrize("lr", [torch.tensor(0.01), torch.tensor([0.01]), torch.tensor(0.01, dtype=torch.float64)])
@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_as_learning_rate_is_that_number(name: str, lr: Tensor) -> None:
    p, q = parameter(3, 4), parameter(3, 4)
    one, two = make(name, [p], lr=lr.clone()), make(name, [q], torch.optim, lr=0.01)
    for t in range(6):
        train(one, 1, start=t)
        train(two, 1, start=t)
        if t == 3:
            one.param_groups[0]["lr"].mul_(2.0)
            two.param_groups[0]["lr"] *= 2.0
    assert apart(p, q) <= CLASS_FLOAT32_FEW_STEPS
    assert isinstance(one.param_groups[0]["lr"], Tensor)


@pytest.mark.parametrize("flag", [{"foreach": True}, {"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_all_forms_are_one(name: str, dtype: torch.dtype, flag: dict[str, Any]) -> None:
    if "fused" in flag and name not in FUSED:
        with pytest.raises((TypeError, ValueError, RuntimeError), match="fused"):
            make(name, [parameter(2)], fused=True)
        return
    ends = []
    for module, given in ((optim, flag), (torch.optim, {"foreach": False})):
        params = [parameter(*s, dtype=dtype) for s in ((2, 3), (1,), (), (0,), (4, 1, 2))]
        optimizer = make(name, params, module, weight_decay=0.01, **given)
        train(optimizer, 7)
        ends.append((optimizer, params))
    (a, mine), (b, theirs) = ends
    for p, q in zip(mine, theirs, strict=True):
        assert apart(p, q) <= CLASS_FLOAT32_FEW_STEPS
        assert states_apart(a.state[p], b.state[q]) <= CLASS_FLOAT32_FEW_STEPS


# Gradients of zero, none at all, empty


@pytest.mark.parametrize("name", NAMES)
def test_zero_gradients_leave_the_parameters(name: str) -> None:
    p = parameter(3)
    before = p.detach().clone()
    optimizer = make(name, [p], weight_decay=0.0, **({"lambd": 0.0} if name == "ASGD" else {}))
    for _ in range(3):
        p.grad = torch.zeros(3)
        optimizer.step()
    assert torch.equal(p, before)


@pytest.mark.parametrize("name", NAMES)
def test_without_gradients_a_step_does_nothing(name: str) -> None:
    params = [parameter(3), parameter(2)]
    before = [p.detach().clone() for p in params]
    optimizer = make(name, [{"params": [params[0]]}, {"params": [params[1]]}], weight_decay=0.1)
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
    assert bool(optimizer.state) is (name == "Adagrad")


@pytest.mark.parametrize("name", NAMES)
def test_empty_parameters(name: str) -> None:
    p, q = parameter(0), parameter(2, 0, 3)
    optimizer = make(name, [p, q, parameter(2)])
    train(optimizer, 3)
    assert optimizer.state[p].get("step", 3) == 3
    assert all(v.shape in (p.shape, ()) for v in optimizer.state[p].values())


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_only_read(name: str, maximize: bool) -> None:
    p = parameter(4)
    optimizer = make(name, [p], weight_decay=0.1, maximize=maximize)
    for t in range(3):
        p.grad = torch.linspace(-1, 1, 4) + t
        kept, version = p.grad.clone(), p.grad._version
        optimizer.step()
        assert torch.equal(p.grad, kept)
        assert p.grad._version == version


# Groups


@pytest.mark.parametrize(
    ("name", "key"),
    [(n, k) for n in NAMES for k in ("lr", "weight_decay", "maximize") if k != "weight_decay" or decays(n)],
)
def test_groups_have_settings_of_their_own(name: str, key: str) -> None:
    other = {"lr": SETTINGS[name]["lr"] / 10, "weight_decay": 0.5, "maximize": True}[key]
    ends = []
    for module in (optim, torch.optim):
        p, q = parameter(4), parameter(4)
        optimizer = make(name, [{"params": [p]}, {"params": [q], key: other}], module)
        train(optimizer, 3)
        assert not torch.equal(p, q)
        ends.append((p, q))
    assert all(apart(x, y) <= CLASS_FLOAT32_FEW_STEPS for x, y in zip(*ends, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_mixed_dtypes_in_one_group(name: str) -> None:
    ends = []
    for module in (optim, torch.optim):
        params = [parameter(4, dtype=d) for d in (torch.float32, torch.float64, torch.float32)]
        train(make(name, params, module), 4)
        ends.append(params)
    for p, q in zip(*ends, strict=True):
        assert p.dtype is q.dtype
        assert apart(p, q) <= CLASS_FLOAT32_FEW_STEPS


def test_what_add_param_group_refuses() -> None:
    for name in NAMES:
        p = parameter(2)
        optimizer = make(name, [p])
        for wrong, kind, words in (
            ({"params": [p]}, ValueError, "more than one"),
            ({"params": {parameter(1)}}, TypeError, "organized in ordered collections"),
            ({"params": [1.0]}, TypeError, "can only optimize Tensors"),
            ({"params": [parameter(2) * 2]}, ValueError, "non-leaf"),
            ([parameter(2)], TypeError, "must be a dict"),
        ):
            with pytest.raises(kind, match=words):
                optimizer.add_param_group(wrong)
        assert len(optimizer.param_groups) == 1
        train(optimizer)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_changed_after_construction_are_for_new_groups(name: str) -> None:
    """`foreach` set among the defaults, as code that reloads old pickles does."""
    optimizer = make(name, [parameter(2)])
    optimizer.defaults.update(foreach=True, lr=0.125)
    optimizer.add_param_group({"params": [parameter(3)]})
    assert optimizer.param_groups[1]["foreach"] is True
    assert optimizer.param_groups[1]["lr"] == 0.125
    train(optimizer, 2)
    optimizer.zero_grad(set_to_none=False)


# Complex


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_a_complex_parameter_steps_as_its_real_and_imaginary_parts(name: str, shape: tuple[int, ...]) -> None:
    start = torch.complex(torch.full(shape, 0.5), torch.full(shape, -1.0))
    whole = nn.Parameter(start.clone())
    parts = nn.Parameter(torch.view_as_real(start).clone())
    one, two = make(name, [whole]), make(name, [parts], torch.optim)
    for t in range(4):
        g = torch.view_as_real(whole.detach()) * 0.5 + 0.1 * t
        whole.grad, parts.grad = torch.view_as_complex(g.clone()), g.clone()
        one.step()
        two.step()
    assert apart(torch.view_as_real(whole.detach()), parts) <= CLASS_FLOAT32_FEW_STEPS


# Checkpoints


def trained(name: str, steps: int = 3, **settings: Any) -> Any:
    optimizer = make(name, [parameter(2, 3), parameter(4)], **settings)
    train(optimizer, steps)
    return optimizer


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_a_state_dict_does_not_matter(name: str) -> None:
    optimizer = trained(name)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"] = dict(reversed(list(saved["state"].items())))
    params = [nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]]
    other = make(name, params)
    other.load_state_dict(saved)
    train(optimizer, 2)
    train(other, 2)
    for p, q in zip(optimizer.param_groups[0]["params"], params, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_with_weights_only(name: str) -> None:
    optimizer = trained(name)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = make(name, [parameter(2, 3), parameter(4)])
    other.load_state_dict(saved)
    assert other.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    for k, s in optimizer.state_dict()["state"].items():
        assert states_apart(other.state_dict()["state"][k], s) == 0


@pytest.mark.parametrize("name", NAMES)
def test_states_of_an_older_torch(name: str) -> None:
    """Flags that it did not know are absent from its groups, and its count is a number."""
    optimizer = trained(name)
    saved = copy.deepcopy(optimizer.state_dict())
    for group in saved["param_groups"]:
        for flag in ("foreach", "fused", "differentiable", "maximize", "capturable"):
            group.pop(flag, None)
    for s in saved["state"].values():
        if "step" in s:
            s["step"] = int(s["step"])
    params = [nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]]
    other = make(name, params)
    other.load_state_dict(saved)
    assert all(isinstance(s.get("step", torch.ones(())), Tensor) for s in other.state.values())
    train(optimizer, 2)
    train(other, 2)
    for p, q in zip(optimizer.param_groups[0]["params"], params, strict=True):
        assert apart(q, p) <= CLASS_FLOAT32_FEW_STEPS


def test_what_load_state_dict_refuses() -> None:
    for name in NAMES:
        optimizer = trained(name)
        saved = copy.deepcopy(optimizer.state_dict())
        (group,) = saved["param_groups"]
        for groups, words in (
            ([group, group], "different number of parameter groups"),
            ([], "different number of parameter groups"),
            ([{**group, "params": [0]}], "doesn't match the size"),
            ([{**group, "params": [0, 1, 2]}], "doesn't match the size"),
        ):
            with pytest.raises(ValueError, match=words):
                optimizer.load_state_dict({**saved, "param_groups": groups})
        train(optimizer)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_that_the_first_parameter_lacks(name: str) -> None:
    """Only the second parameter was ever stepped; loading and going on needs no state of the first."""
    p, q = parameter(3), parameter(2)
    optimizer = make(name, [p, q])
    q.grad = torch.ones(2)
    optimizer.step()
    other = make(name, [parameter(3), parameter(2)])
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(other, 2)
    assert other.state[other.param_groups[0]["params"][1]].get("step", 3) == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_no_parameter_is_carried_along(name: str) -> None:
    optimizer = trained(name)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"]["of the whole"] = {"seen": 12}
    optimizer.load_state_dict(saved)
    assert optimizer.state_dict()["state"]["of the whole"] == {"seen": 12}
    train(optimizer)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_parameters_come_and_go_with_checkpoints(name: str) -> None:
    named = make(name, [("w", parameter(2, 3)), ("b", parameter(4))])
    train(named, 2)
    plain = trained(name, 2)
    assert named.param_groups[0]["param_names"] == ["w", "b"]
    plain.load_state_dict(copy.deepcopy(named.state_dict()))
    assert plain.param_groups[0]["param_names"] == ["w", "b"]
    unnamed = trained(name, 2)
    named.load_state_dict(copy.deepcopy(unnamed.state_dict()))
    assert named.param_groups[0]["param_names"] == ["w", "b"]
    train(plain)
    train(named)


# Copies, printing, warnings


@pytest.mark.parametrize("name", NAMES)
def test_a_deep_copy_has_every_public_attribute(name: str) -> None:
    optimizer = trained(name, 2)
    twin = copy.deepcopy(optimizer)

    def public(o: Any) -> set[str]:
        return {k for k in dir(o) if not k.startswith("_")}

    assert public(optimizer) <= public(twin)
    train(optimizer)
    train(twin)
    for p, q in zip(optimizer.param_groups[0]["params"], twin.param_groups[0]["params"], strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_printed(name: str) -> None:
    optimizer = make(name, [parameter(2)])
    text = repr(optimizer)
    assert text.startswith(f"{name} (\nParameter Group 0\n")
    assert "    lr: " in text
    assert str(optimizer) == text
    assert text.splitlines()[2:-1] == sorted(text.splitlines()[2:-1])


def test_duplicates_warn() -> None:
    for name in NAMES:
        p = parameter(2)
        with pytest.warns(UserWarning, match="duplicate parameters"):
            make(name, [p, p])


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_zero_grad(name: str, set_to_none: bool) -> None:
    for flag in ({}, {"foreach": True}):
        p, q = parameter(3), parameter(2)
        optimizer = make(name, [p, q], **flag)
        optimizer.zero_grad(set_to_none=set_to_none)
        p.grad = held = torch.ones(3, requires_grad=True) * 1.0
        optimizer.step()
        optimizer.zero_grad(set_to_none=set_to_none)
        assert q.grad is None
        if set_to_none:
            assert p.grad is None
        else:
            assert p.grad is held
            assert not p.grad.any()
            assert p.grad.grad_fn is None


@pytest.mark.parametrize("name", NAMES)
def test_the_constructor_takes_iterators_and_generators(name: str) -> None:
    model = nn.Linear(3, 2)
    assert len(make(name, model.parameters()).param_groups[0]["params"]) == 2
    assert len(make(name, iter([parameter(2)])).param_groups[0]["params"]) == 1
    assert len(make(name, [{"params": parameter(2)}]).param_groups[0]["params"]) == 1
    assert len(make(name, ({"params": p} for p in model.parameters())).param_groups) == 2
    with pytest.raises(ValueError, match="empty parameter list"):
        make(name, [])
    with pytest.raises(TypeError, match="iterable of Tensors or dicts"):
        make(name, parameter(2))


def test_the_switch_is_what_it_says() -> None:
    assert (optim is torch.optim) is REFERENCE
