"""States kept in another dtype than their parameter's: what is computed in float32 all the same, checkpoints both ways, bad input."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import pytest
import torch
from compare import apart
from rounded_by_hand import LAYOUTS, gradients, parameters, take
from thinning import thinned
from tolerances import FORMS_BFLOAT16, FORMS_FLOAT32, STATE_STEP_FLOAT32
from torch import Tensor, nn

import steprule
from steprule import optim, rule
from steprule.errors import InputError, RuleError
from steprule.hyper import Rate
from steprule.optim.classes import class_of

KEPT = (torch.float32, torch.bfloat16)
EACH = pytest.mark.parametrize("kept", KEPT, ids=["float32", "bfloat16"])
EACH_BACKEND = pytest.mark.parametrize("backend", ["numba", "eager"])
MULTIPLIES = ("Muon", "NorMuon", "Scion", "Dion")
OF_ITS_OWN = ("ema", "kahan_comp")


def slots_of(optimizer: Any, p: Tensor) -> dict[str, Tensor]:
    """The states of one number per element that have no dtype of their own."""
    numbers = {"step", *(s.name for s in optimizer.rule.slots if s.is_number)}
    return {n: v for n, v in optimizer.state[p].items() if n not in (*numbers, *OF_ITS_OWN)}


@EACH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", thinned(optim.NAMES, 24))
def test_every_class_keeps_them_so_in_both_forms(name: str, dtype: torch.dtype, kept: torch.dtype) -> None:
    """A step each from the same states: the forms are as near as the states hold."""
    kind = class_of(name)
    if kind.rule.looked or kind.rule.asks_for_loss:
        pytest.skip("it wants a closure")
    found = []
    for backend in ("numba", "eager"):
        generator = torch.Generator().manual_seed(2)
        p = nn.Parameter(torch.randn(12, 9, generator=generator).to(dtype))
        optimizer = kind([p], state_dtype=kept, backend=backend)
        p.grad = torch.randn(12, 9, generator=generator).to(dtype)
        optimizer.step()
        found.append(slots_of(optimizer, p))
        assert {v.dtype for v in found[-1].values()} <= {kept}
    assert set(found[0]) == set(found[1])
    if name in MULTIPLIES:  # their products, in bfloat16, add up in another order: more than a rounding apart
        return
    within = FORMS_BFLOAT16 if torch.bfloat16 in (dtype, kept) else FORMS_FLOAT32
    if dtype is torch.float16:
        within = max(within, FORMS_BFLOAT16)
    for slot, value in found[0].items():
        if "basis" not in slot:  # the columns of a basis are told apart by less than a rounding
            assert apart(value, found[1][slot]) <= within, slot


@EACH_BACKEND
def test_float32_states_are_those_of_float32_parameters(backend: str) -> None:
    """Of the same gradients, which bfloat16 has: states do not see how the parameter is rounded. The average is in float32 anyhow."""
    found = []
    for dtype, kept in ((torch.bfloat16, torch.float32), (torch.float32, None)):
        params = [nn.Parameter(p.detach().to(dtype)) for p in parameters(torch.bfloat16)]
        optimizer = optim.AdamW(params, lr=1e-3, state_dtype=kept, backend=backend, ema_decay=0.9, rounding="kahan")
        for t in range(1, 4):
            for p, g in zip(params, gradients([q.to(torch.bfloat16) for q in params], t), strict=True):
                p.grad = None if g is None else g.to(dtype)
            optimizer.step()
        found.append([optimizer.state[p] for p in params])
        assert {s["ema"].dtype for s in found[-1]} == {torch.float32}
    for ours, theirs in zip(*found, strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(ours[name], theirs[name])


@EACH
@EACH_BACKEND
@pytest.mark.parametrize("layout", LAYOUTS)
def test_save_and_load_in_the_middle(layout: str, backend: str, kept: torch.dtype) -> None:
    """Bit for bit, through a file, a copy and a pickle: the dtype is a key of the group."""
    whole, params = parameters(torch.bfloat16, layout), parameters(torch.bfloat16, layout)
    straight, first = (optim.AdamW(ps, state_dtype=kept, backend=backend) for ps in (whole, params))
    for t in range(1, 7):
        take(straight, whole, t)
        take(first, params, t)
        if t == 2:
            file = io.BytesIO()
            torch.save(first.state_dict(), file)
            file.seek(0)
            first = optim.AdamW(params, backend=backend)
            first.load_state_dict(torch.load(file, weights_only=True))
        elif t in (3, 4):
            first = copy.deepcopy(first) if t == 3 else pickle.loads(pickle.dumps(first))
            params = first.param_groups[0]["params"]
    assert all(torch.equal(a, b) for a, b in zip(whole, params, strict=True))
    assert {v.dtype for p in params for v in slots_of(first, p).values()} == {kept}


@EACH
@EACH_BACKEND
def test_a_checkpoint_of_torchs_class_and_back(backend: str, kept: torch.dtype) -> None:
    """States come in the dtype of torch's parameters, and have the one that is wanted from the next step on; torch's class takes ours."""
    p, q = (nn.Parameter(torch.ones(64, dtype=torch.bfloat16)) for _ in range(2))
    theirs = torch.optim.AdamW([p], lr=1e-3)
    p.grad = torch.ones_like(p)
    theirs.step()
    ours = optim.AdamW([q], lr=1e-3, state_dtype=kept, backend=backend)
    ours.load_state_dict(theirs.state_dict())
    q.grad = torch.ones_like(q)
    ours.step()
    assert {v.dtype for v in slots_of(ours, q).values()} == {kept}
    theirs.load_state_dict(ours.state_dict())
    theirs.step()
    assert theirs.state[p]["exp_avg"].dtype is torch.bfloat16


@EACH_BACKEND
def test_a_group_is_told_between_two_steps_and_may_say_otherwise(backend: str) -> None:
    """A state that is there keeps what it holds; back at None it keeps the dtype that it has."""
    a, b, c = (nn.Parameter(torch.ones(30, dtype=torch.bfloat16)) for _ in range(3))
    optimizer = optim.SGD(
        [{"params": [a]}, {"params": [b], "state_dtype": None}], lr=0.1, momentum=0.9, backend=backend
    )
    optimizer.add_param_group({"params": [c], "state_dtype": torch.float32})
    for wanted, found in ((None, torch.bfloat16), (torch.float32, torch.float32), (None, torch.float32)):
        optimizer.param_groups[0]["state_dtype"] = wanted
        for p in (a, b, c):
            p.grad = torch.ones_like(p)
        optimizer.step()
        kept = [optimizer.state[p]["momentum_buffer"].dtype for p in (a, b, c)]
        assert kept == [found, torch.bfloat16, torch.float32]
    assert apart(optimizer.state[a]["momentum_buffer"], optimizer.state[c]["momentum_buffer"]) <= FORMS_BFLOAT16


def test_by_kind_and_float32_states_mend_what_bfloat16_ones_lose() -> None:
    """The figures of the page's table, without a checkpoint: a schedule-free rule moves, and beta2=0.999 is what it is."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).to(torch.bfloat16)
    mixed = steprule.by_kind(matrix="muon", other="adamw")(model, state_dtype=torch.float32, lr=1e-3, show=False)
    model(torch.ones(4, 6, dtype=torch.bfloat16)).float().mean().backward()
    mixed.step()
    assert {v.dtype for s in mixed.state.values() for n, v in s.items() if n != "step"} == {torch.float32}
    p = nn.Parameter(torch.ones(20, dtype=torch.bfloat16))
    free: Any = optim.ScheduleFreeSGD([p], lr=1e-4, rounding="kahan", state_dtype=torch.float32)
    for _ in range(1_000):
        p.grad = -torch.ones_like(p)
        free.step()
    assert abs(float(free.state[p]["z"].mean()) - 1.1) <= 1_000 * STATE_STEP_FLOAT32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # schedule-free: the model saved is that of training
        assert free.state_dict()["param_groups"][0]["state_dtype"] is torch.float32


@pytest.mark.parametrize("given", [torch.float64, torch.float16, "float32", 32, torch.int8])
def test_bad_input(given: Any) -> None:
    words = r"AdamW: state_dtype: expected torch.float32 or torch.bfloat16, or None for the parameter's, got"
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(InputError, match=words):
        optim.AdamW([p], state_dtype=given)
    with pytest.raises(InputError, match=words):
        optim.AdamW([{"params": [p], "state_dtype": given}])
    optimizer = optim.AdamW([p])
    optimizer.param_groups[0]["state_dtype"] = given
    p.grad = torch.ones_like(p)
    with pytest.raises(InputError, match=words):
        optimizer.step()


def test_what_has_no_meaning_is_refused() -> None:
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="capturable together with state_dtype: torch's own step has no such part"):
        optim.AdamW([p], state_dtype=torch.bfloat16, capturable=True).step()

    @rule
    def own(p, g, *, state_dtype: Rate = 0.01):  # type: ignore[no-untyped-def]
        return p - state_dtype * g

    with pytest.raises(RuleError, match="by a name that torch's optimizers do not use"):
        optim.from_rule(own)


@EACH_BACKEND
def test_adagrads_sum_begins_in_the_dtype_that_its_group_says(backend: str) -> None:
    """torch makes it in the constructor, in the parameter's dtype, in which a small start would be 0."""
    p, q, c = (nn.Parameter(torch.ones(3, dtype=d)) for d in (torch.float16, torch.float16, torch.complex64))
    groups = [{"params": [p]}, {"params": [q], "state_dtype": None}]
    optimizer = optim.Adagrad(
        groups, lr=0.1, initial_accumulator_value=1e-9, state_dtype=torch.float32, backend=backend
    )
    assert [optimizer.state[k]["sum"].dtype for k in (p, q)] == [torch.float32, torch.float16]
    assert optimizer.state[p]["sum"].tolist() == torch.full((3,), 1e-9).tolist()
    p.grad = torch.full_like(p, 1e-4)
    optimizer.step()
    assert apart(optimizer.state[p]["sum"], torch.full((3,), 1e-9) + p.grad.float() ** 2) <= FORMS_FLOAT32
    assert optim.Adagrad([c], state_dtype=torch.float32).state[c]["sum"].dtype is torch.complex64


def test_torchs_class_loses_small_float32_states_of_float16_parameters() -> None:
    """As the page says: it casts them, and 1e-10 is 0 in float16. Ours goes on from what was saved."""
    p = nn.Parameter(torch.ones(3, dtype=torch.float16))
    ours = optim.AdamW([p], lr=1e-3, state_dtype=torch.float32)
    p.grad = torch.full_like(p, 3e-4)
    ours.step()
    theirs, again = torch.optim.AdamW([p], lr=1e-3), optim.AdamW([p], lr=1e-3)
    for other in (theirs, again):
        other.load_state_dict(ours.state_dict())
    assert (theirs.state[p]["exp_avg_sq"] == 0).all()
    assert torch.equal(again.state[p]["exp_avg_sq"], ours.state[p]["exp_avg_sq"])
    assert (again.state[p]["exp_avg_sq"] > 0).all()


def test_a_checkpoint_is_loaded_in_the_dtype_that_its_group_says() -> None:
    p = nn.Parameter(torch.ones(64))
    optimizer = optim.AdamW([p], state_dtype=torch.bfloat16)
    p.grad = torch.ones_like(p)
    optimizer.step()
    kept = optimizer.state_dict()
    again = optim.AdamW([nn.Parameter(torch.ones(64))], state_dtype=torch.bfloat16)
    again.load_state_dict(kept)
    (state,) = again.state.values()
    assert {state[n].dtype for n in ("exp_avg", "exp_avg_sq")} == {torch.bfloat16}
    assert torch.equal(state["exp_avg"], optimizer.state[p]["exp_avg"])
