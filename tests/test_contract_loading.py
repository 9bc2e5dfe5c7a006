"""Checkpoints: hooks have the last word, every layout goes both ways with torch's class, nothing is cast down or held twice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from compare import apart
from contract import NAMES, in_fresh, make, only_ours, optim, parameter, peak, resident, tensors, train
from thinning import thinned
from tolerances import CLASS_FLOAT32_FEW_STEPS, CLONE_SHARE
from torch import nn


def trained(name: str, module: Any = None, steps: int = 3, **settings: Any) -> tuple[Any, list[nn.Parameter]]:
    params = [parameter(2, 3), parameter(4, value=-1.0)]
    optimizer = make(name, params, module, **settings)
    train(optimizer, steps)
    return optimizer, params


def like(params: list[nn.Parameter]) -> list[nn.Parameter]:
    return [nn.Parameter(p.detach().clone()) for p in params]


STATEFUL = [n for n in NAMES if n != "SGD"]


# Hooks around loading and saving


@pytest.mark.parametrize("name", NAMES)
def test_a_load_pre_hook_may_give_the_states_to_other_parameters(name: str) -> None:
    """What the hook returns is loaded, not what was given: here the second half of a group comes first."""
    optimizer, params = trained(name)
    twins = like(params)
    other = make(name, twins[::-1])

    def swapped(_: Any, saved: dict[str, Any]) -> dict[str, Any]:
        return {**saved, "state": {1 - k: v for k, v in saved["state"].items()}}

    other.register_load_state_dict_pre_hook(swapped)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p, q in zip(params, twins, strict=True):
        assert all(torch.equal(v, other.state[q][k]) for k, v in tensors(optimizer.state[p]).items())
    train(optimizer, 2)
    train(other, 2)
    assert all(apart(q, p) <= CLASS_FLOAT32_FEW_STEPS for p, q in zip(params, twins, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_load_pre_hook_may_match_by_name(name: str) -> None:
    """The layers of the second model stand in another order; only names say what belongs where."""
    optimizer = make(name, [("a", parameter(2, 3)), ("b", parameter(4))])
    train(optimizer, 3)
    named = dict(zip("ab", optimizer.param_groups[0]["params"], strict=True))
    twins = {n: nn.Parameter(p.detach().clone()) for n, p in named.items()}
    other = make(name, [("b", twins["b"]), ("a", twins["a"])])

    def by_name(to: Any, saved: dict[str, Any]) -> dict[str, Any]:
        (group,), names = saved["param_groups"], to.param_groups[0]["param_names"]
        at = dict(zip(group["param_names"], group["params"], strict=True))
        state = {k: saved["state"][at[n]] for k, n in enumerate(names) if at[n] in saved["state"]}
        return {"state": state, "param_groups": [{**group, "param_names": names, "params": list(range(len(names)))}]}

    other.register_load_state_dict_pre_hook(by_name)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(optimizer, 2)
    train(other, 2)
    assert all(apart(twins[n], p) <= CLASS_FLOAT32_FEW_STEPS for n, p in named.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_load_pre_hook_may_extend_a_group(name: str) -> None:
    """The new model has a parameter that the saved one has not; the hook makes room for it."""
    optimizer, params = trained(name)
    twins = [*like(params), parameter(5)]
    other = make(name, twins)

    def extended(_: Any, saved: dict[str, Any]) -> dict[str, Any]:
        return {**saved, "param_groups": [{**saved["param_groups"][0], "params": [0, 1, 2]}]}

    other.register_load_state_dict_pre_hook(extended)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert "step" not in other.state.get(twins[2], {})
    if name != "Adagrad":  # torch's makes its states in the constructor, and loading forgets them
        train(optimizer, 2)
        train(other, 2)
        assert all(apart(q, p) <= CLASS_FLOAT32_FEW_STEPS for p, q in zip(params, twins, strict=False))


@pytest.mark.parametrize("name", NAMES)
def test_a_load_pre_hook_may_write_into_what_it_is_given(name: str) -> None:
    optimizer, params = trained(name)
    saved = copy.deepcopy(optimizer.state_dict())
    kept = copy.deepcopy(saved)
    other = make(name, like(params))

    def emptied(_: Any, given: dict[str, Any]) -> None:
        given["state"] = {}
        given["param_groups"] = [{**g, "lr": 0.5} for g in given["param_groups"]]

    other.register_load_state_dict_pre_hook(emptied)
    other.load_state_dict(saved)
    assert not other.state
    assert other.param_groups[0]["lr"] == 0.5
    assert saved["state"].keys() == kept["state"].keys()  # the caller's own dict has lost nothing


def zeroed(optimizer: Any) -> None:
    for s in optimizer.state.values():
        for k, v in tensors(s).items():
            s[k] = torch.zeros_like(v)


def zeroed_in_place(optimizer: Any) -> None:
    for s in optimizer.state.values():
        for v in tensors(s).values():
            v.zero_()


def widened(optimizer: Any) -> None:
    for s in optimizer.state.values():
        for k, v in tensors(s).items():
            s[k] = v.double()


def forgotten(optimizer: Any) -> None:
    optimizer.state.clear()


@pytest.mark.parametrize("hook", [zeroed, zeroed_in_place, widened, forgotten])
@pytest.mark.parametrize("name", NAMES)
def test_a_load_post_hook_has_the_last_word(name: str, hook: Callable[[Any], None]) -> None:
    optimizer, params = trained(name)
    saved = copy.deepcopy(optimizer.state_dict())
    other = make(name, like(params))
    calls: list[str] = []
    other.register_load_state_dict_post_hook(lambda o: calls.append("last"))
    other.register_load_state_dict_post_hook(lambda o: (calls.append("first"), hook(o))[1], prepend=True)
    other.load_state_dict(saved)
    assert calls == ["first", "last"]
    found = [v for p in other.param_groups[0]["params"] for v in tensors(other.state.get(p, {})).values()]
    if hook is forgotten:
        assert not other.state
    elif hook is widened:
        assert {v.dtype for v in found} == {torch.float64}
    else:
        assert found
        assert not any(v.any() for v in found)


def test_states_narrowed_by_a_post_hook_stay_narrow() -> None:
    """Large models keep bfloat16 moments of float32 weights that way."""
    for name in ("Adam", "SGD", "RMSprop"):
        optimizer, params = trained(name)
        other = make(name, like(params))

        def narrowed(o: Any) -> None:
            for s in o.state.values():
                s.update({k: v.bfloat16() for k, v in tensors(s).items() if k != "step"})

        other.register_load_state_dict_post_hook(narrowed)
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert len(other.state) == len(params)
        for s in other.state.values():
            assert {v.dtype for k, v in s.items() if k != "step"} == {torch.bfloat16}


LAYOUTS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "without state": lambda _, found: {"only": 1},
    "state as a list": lambda _, found: {**found, "state": list(found["state"].values())},
    "groups by name": lambda _, found: {
        **found,
        "param_groups": {str(k): g for k, g in enumerate(found["param_groups"])},
    },
    "not a dict": lambda _, found: [found],
    "a key more": lambda _, found: found.__setitem__("epoch", 3),
    "a key less": lambda _, found: found.__delitem__("param_groups"),
}


@pytest.mark.parametrize("hook", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_save_post_hook_may_return_any_layout(name: str, hook: Callable[..., Any]) -> None:
    optimizer, _ = trained(name)
    plain = optimizer.state_dict()
    wanted = hook(optimizer, dict(plain))
    wanted = plain | {"epoch": 3} if hook is LAYOUTS["a key more"] else wanted
    handle = optimizer.register_state_dict_post_hook(hook)
    found = optimizer.state_dict()
    assert type(found) is type(wanted if wanted is not None else {})
    if hook is LAYOUTS["a key less"]:
        assert list(found) == ["state"]
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
    handle.remove()
    assert list(optimizer.state_dict()) == ["state", "param_groups"]


def test_save_hooks_run_in_order_and_see_the_whole() -> None:
    optimizer, _ = trained("Adam")
    seen: list[str] = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("pre"))
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("pre first"), prepend=True)
    optimizer.register_state_dict_post_hook(lambda o, found: seen.append(",".join(found)))
    optimizer.register_state_dict_post_hook(lambda o, found: seen.append("post first"), prepend=True)
    optimizer.state_dict()
    assert seen == ["pre first", "pre", "post first", "state,param_groups"]


# What state_dict gives


@pytest.mark.parametrize("name", NAMES)
def test_the_keys_of_a_state_dict_are_torchs(name: str) -> None:
    mine, theirs = trained(name)[0].state_dict(), trained(name, torch.optim)[0].state_dict()
    assert list(mine) == list(theirs)
    assert mine["param_groups"] == theirs["param_groups"]
    assert [list(g) for g in mine["param_groups"]] == [list(g) for g in theirs["param_groups"]]
    assert {k: {n: (v.dtype, v.shape) for n, v in tensors(s).items()} for k, s in mine["state"].items()} == {
        k: {n: (v.dtype, v.shape) for n, v in tensors(s).items()} for k, s in theirs["state"].items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_groups_have_the_keys_of_the_state_dict(name: str) -> None:
    """Whoever walks over one and looks up in the other misses nothing."""
    optimizer, _ = trained(name)
    for live, saved in zip(optimizer.param_groups, optimizer.state_dict()["param_groups"], strict=True):
        assert list(live)[1:] == [k for k in saved if k != "params"]


@pytest.mark.parametrize("name", NAMES)
def test_writing_through_a_state_dict_reaches_the_optimizer(name: str) -> None:
    ends = []
    for module in (optim, torch.optim):
        optimizer, params = trained(name, module)
        for s in optimizer.state_dict()["state"].values():
            for k, v in tensors(s).items():
                s[k] = torch.full_like(v, 3.0)
        assert all(v.eq(3).all() for p in params for v in tensors(optimizer.state[p]).values())
        train(optimizer, 1, start=3)
        ends.append(params)
    assert all(apart(p, q) <= CLASS_FLOAT32_FEW_STEPS for p, q in zip(*ends, strict=True))


# Precision and device


def checkpoint_of(name: str, dtype: torch.dtype) -> tuple[dict[str, Any], nn.Parameter]:
    """A checkpoint whose states were rounded to `dtype`, all but the count."""
    p = parameter(4)
    optimizer = make(name, [p], torch.optim)
    train(optimizer, 2)
    saved = copy.deepcopy(optimizer.state_dict())
    for s in saved["state"].values():
        s.update({k: v.to(dtype) for k, v in tensors(s).items() if v.ndim})
    return saved, p


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_states_of_lower_precision_than_their_parameter_are_raised(name: str, dtype: torch.dtype) -> None:
    saved, p = checkpoint_of(name, dtype)
    ends = []
    for module in (optim, torch.optim):
        q = nn.Parameter(p.detach().clone())
        optimizer = make(name, [q], module)
        optimizer.load_state_dict(copy.deepcopy(saved))
        assert {v.dtype for v in optimizer.state[q].values() if v.ndim} == {torch.float32}
        for k in range(10):
            q.grad = torch.full((4,), 1e-4 * (1 + k))
            optimizer.step()
        assert {v.dtype for v in optimizer.state[q].values() if v.ndim} == {torch.float32}
        ends.append(q)
    assert apart(*ends) <= CLASS_FLOAT32_FEW_STEPS


@only_ours
@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", thinned(NAMES, 3))
def test_states_of_higher_precision_than_their_parameter_are_kept(name: str, low: torch.dtype) -> None:
    saved, p = checkpoint_of(name, torch.float32)
    q = nn.Parameter(p.detach().to(low))
    optimizer = make(name, [q])
    optimizer.load_state_dict(saved)
    for k, v in saved["state"][0].items():
        assert optimizer.state[q][k].dtype is torch.float32
        assert torch.equal(optimizer.state[q][k], v)
    train(optimizer, 2)
    assert {v.dtype for v in optimizer.state[q].values()} == {torch.float32}


@pytest.mark.parametrize("capturable", [True, False])
@pytest.mark.parametrize("shape", [(2,), ()])
@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam"])
def test_loaded_states_are_on_their_parameters_device(name: str, shape: tuple[int, ...], capturable: bool) -> None:
    """The count too where it is capturable; elsewhere it stays where it was. States without dimensions are no counts."""
    source = parameter(*shape)
    pattern = make(name, [source], torch.optim)
    train(pattern)
    ends = []
    for module in (optim, torch.optim):
        p = nn.Parameter(torch.zeros(shape, device="meta"))
        optimizer = make(name, [p], module, capturable=capturable)
        saved = {
            "state": copy.deepcopy(pattern.state_dict()["state"]),
            "param_groups": optimizer.state_dict()["param_groups"],
        }
        optimizer.load_state_dict(saved)
        ends.append({k: v.device.type for k, v in tensors(optimizer.state[p]).items() if k != "mu_product"})
    assert ends[0] == ends[1]
    assert ends[0]["step"] == ("meta" if capturable else "cpu")


# Memory


@only_ours
@pytest.mark.parametrize("deep", [False, True], ids=["given", "stepped"])
@pytest.mark.parametrize("name", NAMES)
def test_two_optimizers_never_share_memory(name: str, deep: bool) -> None:
    """Whichever steps first; torch's classes would share."""
    optimizer, params = trained(name)
    twins = like(params)
    other = make(name, twins)
    saved = optimizer.state_dict()
    other.load_state_dict(saved)
    for first, second, held in ((optimizer, other, twins), (other, optimizer, params)):
        before = [{k: v.clone() for k, v in tensors(second.state[p]).items()} for p in held]
        train(first, 2)
        if deep:
            zeroed_in_place(first)
        for p, old in zip(held, before, strict=True):
            assert all(torch.equal(second.state[p][k], v) for k, v in old.items())


@only_ours
def test_a_loaded_checkpoint_is_not_written_to() -> None:
    for name in NAMES:
        saved = copy.deepcopy(trained(name)[0].state_dict())
        kept = copy.deepcopy(saved)
        other, _ = trained(name, steps=0)
        other.load_state_dict(saved)
        train(other, 2)
        zeroed_in_place(other)
        assert kept["state"]
        for k, s in kept["state"].items():
            assert s
            assert all(torch.equal(saved["state"][k][n], v) for n, v in s.items())


SIZE, COUNT = 2_000_000, 12  # 8 MB each


def memory_of_loading(module_name: str) -> int:
    """Bytes above the start: parameters, a checkpoint that is dropped once it is loaded, a step."""
    module = optim if module_name == "mine" else torch.optim
    small = torch.zeros(8, requires_grad=True)
    warm = module.Adam([small])
    small.grad = torch.ones(8)
    warm.step()
    start = resident()
    params = [nn.Parameter(torch.ones(SIZE)) for _ in range(COUNT)]
    optimizer = module.Adam(params)
    state = {
        k: {"step": torch.tensor(1.0), "exp_avg": torch.ones(SIZE), "exp_avg_sq": torch.ones(SIZE)}
        for k in range(COUNT)
    }
    saved = {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    optimizer.load_state_dict(saved)
    del saved, state
    for p in params:  # one gradient at a time: the states are what counts here
        p.grad = torch.ones(SIZE)
        optimizer.step()
        p.grad = None
    return peak() - start


def test_loading_needs_no_second_copy_of_a_checkpoint() -> None:
    mine, torchs = (in_fresh(memory_of_loading, which) for which in ("mine", "torch's"))
    assert mine <= CLONE_SHARE * torchs
