"""Checkpoints of the classes, both ways between torch's and ours: in mid-run, by pickle, by name."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from compare import all_apart, same_states
from grid import COUNTERPARTS, Counterpart
from tolerances import (
    TORCH_FLOAT64,
    TORCH_NADAM_FLOAT32_PRODUCT,
)
from torch import nn
from twins import NAMES, ours, parameters, run

from steprule import optim

# Checkpoints


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
@pytest.mark.parametrize("first", ["torch", "steprule"])
def test_a_checkpoint_moves_in_mid_run(case: Counterpart, first: str, float64_default: None) -> None:
    """torch -> steprule -> torch, or the other way round, equals torch all the way."""
    settings = {**case.settings()[-1], "maximize": False}
    mine, theirs = ours(case), case.torch_class
    alone = theirs(parameters(), **settings)
    order = [theirs, mine, theirs] if first == "torch" else [mine, theirs, mine]
    params, saved = parameters(), None
    for k, make in enumerate(order):
        params = [p.detach().clone().requires_grad_() for p in params]
        optimizer = make(params, **settings)
        if saved is not None:
            saved.seek(0)
            optimizer.load_state_dict(torch.load(saved, weights_only=True))
        run([optimizer, alone], range(1 + 15 * k, 16 + 15 * k))
        saved = io.BytesIO()
        torch.save(optimizer.state_dict(), saved)
    assert all_apart(params, alone.param_groups[0]["params"]) <= TORCH_FLOAT64
    same_states(optimizer, alone, TORCH_FLOAT64)


def test_a_checkpoint_that_is_kept_stays_what_it_is() -> None:
    """torch dies where memory of `torch.load` is shared until it is written: it has no allocator."""
    params, saved = parameters(), io.BytesIO()
    optimizer = optim.Adam(params)
    run([optimizer], range(1, 4))
    torch.save(optimizer.state_dict(), saved)
    saved.seek(0)
    kept = torch.load(saved, weights_only=True)
    before = copy.deepcopy(kept["state"])
    again = optim.Adam([p.detach().clone().requires_grad_() for p in params])
    again.load_state_dict(kept)
    run([optimizer, again], range(4, 7))
    assert all_apart(again.param_groups[0]["params"], params) == 0
    assert all(torch.equal(kept["state"][k][n], v) for k, state in before.items() for n, v in state.items())


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_the_state_dict_has_torchs_layout(case: Counterpart) -> None:
    a, b = (
        ours(case)(parameters(torch.float32), **case.settings()[-1]),
        case.torch_class(parameters(torch.float32), **case.settings()[-1]),
    )
    run([a, b], range(1, 3))
    mine, theirs = a.state_dict(), b.state_dict()
    assert mine["param_groups"] == theirs["param_groups"]
    assert list(mine["state"]) == list(theirs["state"])
    for k, state in theirs["state"].items():
        assert {n for n, v in mine["state"][k].items() if v is not None} == {
            n for n, v in state.items() if v is not None
        }


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "state_dict", "file"])
@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_copies_go_on_alike_and_apart(case: Counterpart, how: str) -> None:
    model = nn.Linear(4, 3)
    optimizer = ours(case)(model.parameters(), **case.base)

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()

    for seed in range(3):
        train(model, optimizer, seed)
    if how == "pickle":
        twin, other = pickle.loads(pickle.dumps((model, optimizer)))
    elif how == "deepcopy":
        twin, other = copy.deepcopy((model, optimizer))
    else:
        twin = copy.deepcopy(model)
        other = ours(case)(twin.parameters(), **case.base)
        kept = optimizer.state_dict()
        if how == "file":  # held while the twin goes on, as a script holds what it has read
            file = io.BytesIO()
            torch.save(kept, file)
            file.seek(0)
            kept = torch.load(file)
        other.load_state_dict(kept)
    before = [p.detach().clone() for p in model.parameters()]
    for seed in range(3, 6):
        train(twin, other, seed)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    for seed in range(3, 6):
        train(model, optimizer, seed)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


def test_states_keep_their_dtype_on_load() -> None:
    """Half-precision parameters with states saved in float32 keep them, where torch casts them down."""
    p = torch.ones(4, dtype=torch.bfloat16, requires_grad=True)
    optimizer = optim.Adam([p], lr=0.1)
    p.grad = torch.ones_like(p)
    optimizer.step()
    saved = optimizer.state_dict()
    for name in ("exp_avg", "exp_avg_sq"):
        saved["state"][0][name] = saved["state"][0][name].float() * 1.001
    q = p.detach().clone().requires_grad_()
    other = optim.Adam([q], lr=0.1)
    other.load_state_dict(saved)
    assert other.state[q]["exp_avg"].dtype is torch.float32
    assert other.state[q]["exp_avg"][0].item() == saved["state"][0]["exp_avg"][0].item()
    q.grad = torch.ones_like(q)
    other.step()
    assert other.state[q]["exp_avg"].dtype is torch.float32


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_named_parameters_and_their_checkpoints(case: Counterpart, float64_default: None) -> None:
    """Built from `named_parameters`, saved with names, loaded with `weights_only=True`, on to torch's class and back."""
    if (
        "param_names"
        not in case.torch_class([("w", torch.ones(1, requires_grad=True))]).state_dict()["param_groups"][0]
    ):
        pytest.skip("this torch knows no named parameters")
    ends = []
    for kinds in ((ours(case), case.torch_class, ours(case)), (case.torch_class,) * 3):
        torch.manual_seed(0)
        model = nn.Linear(4, 2)
        state = None
        for kind in kinds:
            optimizer = kind(model.named_parameters(), **case.base)
            if state is not None:
                state.seek(0)
                optimizer.load_state_dict(torch.load(state, weights_only=True))
            assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
            for k in range(3):
                optimizer.zero_grad()
                model(torch.full((5, 4), k + 1.0)).square().mean().backward()
                optimizer.step()
            state = io.BytesIO()
            torch.save(optimizer.state_dict(), state)
        ends.append([p.detach() for p in model.parameters()])
    assert all_apart(*ends) <= TORCH_NADAM_FLOAT32_PRODUCT
