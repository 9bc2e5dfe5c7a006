"""Kahan summation of parameters in bfloat16 and float16: against a plain loop, and wherever else a class is used."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from rounded_by_hand import LOW
from thinning import thinned
from tolerances import KEPT_ONE_STEP, KEPT_STEP_BFLOAT16, KEPT_STEP_FLOAT16
from torch import Tensor, nn

import steprule
from steprule import optim, rule, rules
from steprule.errors import InputError
from steprule.hyper import Rate
from steprule.optim.classes import class_of

EACH_DTYPE = pytest.mark.parametrize("dtype", LOW, ids=["bfloat16", "float16"])
EACH_BACKEND = pytest.mark.parametrize("backend", ["numba", "eager"])
MULTIPLIES = ("Muon", "NorMuon", "Scion", "Dion")
KEPT = "kahan_comp"


def ones(*shape: int, dtype: torch.dtype = torch.bfloat16) -> nn.Parameter:
    return nn.Parameter(torch.ones(*shape, dtype=dtype))


@EACH_BACKEND
@pytest.mark.parametrize(("theirs", "settings"), [(torch.optim.SGD, {"momentum": 0.9}), (torch.optim.AdamW, {})])
def test_checkpoints_of_torchs_class_and_back(theirs: Any, settings: dict[str, Any], backend: str) -> None:
    """Nothing is lost yet where a checkpoint does not say so; rounding stays as it was set here. torch's class takes ours."""
    p, q = ones(64), ones(64)
    before = theirs([p], lr=1e-3, **settings)
    p.grad = torch.ones_like(p)
    before.step()
    ours = getattr(optim, theirs.__name__)([q], lr=1e-4, rounding="kahan", backend=backend, **settings)
    ours.load_state_dict(before.state_dict())
    assert ours.param_groups[0]["rounding"] == "kahan"
    ours.param_groups[0]["lr"] = 1e-4
    q.grad = torch.ones_like(q)
    ours.step()
    assert (q == 1).all()
    assert (ours.state[q][KEPT] < 0).all()
    before.load_state_dict(ours.state_dict())
    before.step()


def test_groups_of_several_roundings_and_dtypes_clip_by_one_norm() -> None:
    """One group by Kahan, one by chance, one to the nearest, in float32, bfloat16 and float16 each: the norm is that of all."""

    def stepped(backend: str) -> tuple[list[nn.Parameter], Any]:
        every = [[nn.Parameter(torch.full((40,), 1.0).to(d)) for d in (*LOW, torch.float32)] for _ in range(3)]
        groups = [
            {"params": own, "rounding": how} for own, how in zip(every, ("kahan", "stochastic", None), strict=True)
        ]
        optimizer = optim.SGD(groups, lr=1e-3, clip_norm=1.0, backend=backend)
        params = [p for own in every for p in own]
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
        return params, optimizer

    for backend in ("numba", "eager"):
        params, optimizer = stepped(backend)
        exact = 1 - 1e-3 / math.sqrt(9 * 40)
        kept = [KEPT in optimizer.state.get(p, {}) for p in params]
        assert kept == [True, True, *[False] * 7]
        assert params[2][0].item() == pytest.approx(exact, abs=KEPT_ONE_STEP)
        for p in params[:2]:
            assert (p.double() + optimizer.state[p][KEPT].double())[0].item() == pytest.approx(exact, abs=KEPT_ONE_STEP)


def test_a_group_that_comes_later_keeps_too_and_may_say_otherwise() -> None:
    a, b, c = ones(30), ones(30), ones(30)
    optimizer = optim.AdamW([a], lr=1e-4, rounding="kahan")
    optimizer.add_param_group({"params": [b]})
    optimizer.add_param_group({"params": [c], "rounding": None})
    for p in (a, b, c):
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert [KEPT in optimizer.state[p] for p in (a, b, c)] == [True, True, False]


@EACH_BACKEND
def test_rounding_is_switched_between_two_steps(backend: str) -> None:
    """Without, what was kept is gone: it would be another parameter's when it is switched on again."""
    p, q = ones(50), ones(50)
    optimizer = optim.SGD([{"params": [p]}, {"params": [q], "rounding": "kahan"}], lr=1e-3, backend=backend)
    for how, there in (("kahan", True), (None, False), ("stochastic", False), ("kahan", True)):
        optimizer.param_groups[0]["rounding"] = how
        before = p.detach().clone()
        for x in (p, q):
            x.grad = torch.full_like(x, 0.01)
        optimizer.step()
        assert (KEPT in optimizer.state[p]) is there
        if there:
            exact = before.double() - 1e-3 * 0.01
            assert torch.allclose(p.double() + optimizer.state[p][KEPT].double(), exact, atol=KEPT_ONE_STEP, rtol=0.0)
    lost = q.double() + optimizer.state[q][KEPT].double() - (1 - 4 * 1e-3 * 0.01)
    assert lost.abs().max() <= 4 * KEPT_STEP_BFLOAT16, "of a group that was not switched nothing is forgotten"


@EACH_BACKEND
def test_a_parameter_of_another_dtype_between_two_steps(backend: str) -> None:
    """A model that goes to float32 is stepped as one, and back again it begins with nothing lost."""
    p = ones(20)
    optimizer = optim.SGD([p], lr=1e-4, rounding="kahan", backend=backend)
    for dtype in (torch.bfloat16, torch.float32, torch.float16):
        p.grad = None
        p.data = p.data.to(dtype)
        p.grad = torch.ones_like(p)
        optimizer.step()
        held = optimizer.state[p].get(KEPT)
        assert (held is None) is (dtype is torch.float32)
    assert held is not None
    assert held.dtype is torch.float16


@EACH_BACKEND
@EACH_DTYPE
def test_one_parameter_in_two_groups_and_two_in_one_memory(dtype: torch.dtype, backend: str) -> None:
    """Tied parameters are stepped one after the other, each from what the one before has left."""
    memory = torch.ones(12, dtype=dtype)
    a, b = nn.Parameter(memory[:8]), nn.Parameter(memory[4:])
    optimizer = optim.SGD([a, b], lr=0.5, rounding="kahan", backend=backend)
    for p in (a, b):
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert memory.tolist() == [0.5] * 4 + [0.0] * 4 + [0.5] * 4
    p = nn.Parameter(torch.ones(4, dtype=dtype))
    twice: Any = optim.SGD([p], lr=0.25, rounding="kahan", backend=backend)
    twice.param_groups.append({**twice.param_groups[0], "params": [p]})
    p.grad = torch.ones_like(p)
    twice.step()
    assert p.tolist() == [0.5] * 4


def test_by_kind_and_what_stands_around_a_step() -> None:
    """A rule per kind of parameter, a scaler whose step is skipped, a fused one, a closure, hooks, zeroed gradients."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).to(torch.bfloat16)
    mixed = steprule.by_kind(matrix="muon", other="adamw")(
        model, rounding="kahan", lr=1e-3, show=False, fused_unscale=True
    )
    called = []
    mixed.register_step_post_hook(lambda *_: called.append(1))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for t in range(3):
        mixed.zero_grad()
        loss = model(torch.ones(4, 6, dtype=torch.bfloat16)).float().square().mean()
        scaler.scale(loss * (float("inf") if t == 1 else 1.0)).backward()
        scaler.step(mixed)
        scaler.update()
    assert all(KEPT in mixed.state[p] for p in model.parameters())
    assert {float(s["step"]) for s in mixed.state.values() if "step" in s} == {2.0}
    mixed.step(lambda: model(torch.ones(4, 6, dtype=torch.bfloat16)).float().mean())
    assert len(called) == 4
    p = ones(9)
    zeroing = optim.Adam([p], rounding="kahan", zero_grad=True)
    p.grad = torch.ones_like(p)
    zeroing.step()
    assert not p.grad.any()


def test_a_rule_that_looks_twice() -> None:
    """SAM steps from the parameter and what it lost; the look itself is taken from the parameter that the model has."""
    for backend in ("numba", "eager"):
        p = ones(30)
        optimizer: Any = optim.from_rule(rules.sam(rules.sgd))([p], lr=1e-4, rounding="kahan", backend=backend)

        def closure(p: nn.Parameter = p, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = p.float().sum()
            loss.backward()
            return loss

        for _ in range(10):
            optimizer.step(closure)
        kept, spread = p.double() + optimizer.state[p][KEPT].double(), 10 * KEPT_STEP_BFLOAT16
        assert kept[0].item() == pytest.approx(1 - 1e-3, abs=spread)


def test_evaluation_and_back_keep_what_was_lost() -> None:
    p = ones(30)
    optimizer: Any = optim.ScheduleFreeSGD([p], lr=1e-4, rounding="kahan")
    for _ in range(3):
        p.grad = torch.ones_like(p)
        optimizer.step()
    before = p.detach().clone(), optimizer.state[p][KEPT].clone()
    optimizer.eval()
    optimizer.train()
    assert torch.equal(p, before[0])
    assert torch.equal(optimizer.state[p][KEPT], before[1])


@EACH_DTYPE
@EACH_BACKEND
def test_inf_and_nan_keep_nothing(dtype: torch.dtype, backend: str) -> None:
    """What overflows stays inf, as without, and what is nan stays nan; the others are not touched by them."""
    most = torch.finfo(dtype).max
    start = torch.tensor([most, -most, 1.0, float("nan"), float("inf"), 0.0]).to(dtype)
    p = nn.Parameter(start.clone())
    optimizer = optim.SGD([p], lr=1.0, rounding="kahan", backend=backend)
    for _ in range(2):
        p.grad = torch.tensor([-most, most, 2.0**-12, 1.0, 1.0, 0.0]).to(dtype)
        optimizer.step()
    assert p[[0, 1, 4]].tolist() == [math.inf, -math.inf, math.inf]
    assert p[3].isnan()
    kept = optimizer.state[p][KEPT]
    assert kept[[0, 1, 3, 4, 5]].tolist() == [0.0] * 5
    assert float(p.detach()[2]) + float(kept[2]) == 1 - 2.0**-11


def test_a_thousand_steps_add_up() -> None:
    """1 + 1,000 steps of 1e-4, which all are lost to the nearest, come to 1.1 as near as parameter and compensation hold it."""
    for dtype, one_step in ((torch.bfloat16, KEPT_STEP_BFLOAT16), (torch.float16, KEPT_STEP_FLOAT16)):
        p = nn.Parameter(torch.ones(3, dtype=dtype))
        optimizer = optim.SGD([p], lr=1e-4, rounding="kahan")
        for _ in range(1_000):
            p.grad = -torch.ones_like(p)
            optimizer.step()
        exact = p.double() + optimizer.state[p][KEPT].double()
        assert (exact - 1.1).abs().max() <= 1_000 * one_step
        assert (p.double() - 1.1).abs().max() <= 2.0**-8 if dtype is torch.bfloat16 else 2.0**-10


def test_what_a_rule_sets_leaves_nothing_of_what_was_lost() -> None:
    """Lookahead sets p to the slow weights: p and what it lost are these then, as near as the two hold them."""
    p = nn.Parameter(torch.linspace(1, 2, 400).to(torch.bfloat16))
    optimizer: Any = optim.from_rule(rules.lookahead(rules.sgd, k=5))([p], lr=1e-3, rounding="kahan")
    for t in range(1, 6):
        p.grad = torch.ones_like(p)
        optimizer.step()
        if t == 4:
            slow = optimizer.state[p]["slow"].double()
    before = slow - 5e-3 * 0.5
    exact = p.double() + optimizer.state[p][KEPT].double()
    assert (exact - before).abs().max() <= 5 * KEPT_STEP_BFLOAT16


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"rounding": "Kahan"},
            "AdamW: rounding: expected 'stochastic' or 'kahan', or None for the nearest, got 'Kahan'",
        ),
        ({"rounding": "kahan", "seed": 1}, "AdamW: seed: expected rounding='stochastic' beside it, got 1 alone"),
    ],
)
def test_bad_input(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        optim.AdamW([ones(3)], **given)
    optimizer = optim.AdamW([ones(3)])
    with pytest.raises(InputError, match=words):
        optimizer.add_param_group({"params": [ones(3)], **given})
    assert len(optimizer.param_groups) == 1


def test_a_seed_that_a_group_draws_nothing_by_is_refused() -> None:
    """Given alone to a group, in the constructor or later: as it is of the constructor itself."""
    words = "SGD: seed: expected rounding='stochastic' beside it, got 3 alone"
    with pytest.raises(InputError, match=words):
        optim.SGD([{"params": [ones(3)], "seed": 3}], lr=0.1)
    optimizer = optim.SGD([ones(3)], lr=0.1)
    with pytest.raises(InputError, match=words):
        optimizer.add_param_group({"params": [ones(3)], "seed": 3})
    again = pickle.loads(pickle.dumps(optim.SGD([ones(3)], lr=0.1, rounding="stochastic", seed=1)))
    again.add_param_group({"params": [ones(3)], "seed": 3})
    assert [g["seed"] for g in again.param_groups] == [1, 3]
    optim.SGD([{"params": [ones(3)], "seed": 3}], lr=0.1, rounding="stochastic")


def test_what_has_no_meaning_is_refused() -> None:
    p = ones(3)
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="capturable together with rounding: torch's own step has no such part"):
        optim.AdamW([p], rounding="kahan", capturable=True).step()
    table = nn.Embedding(4, 2, sparse=True).to(torch.bfloat16)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=r"sparse gradients.*together with rounding"):
        optim.SGD(table.parameters(), rounding="kahan").step()

    @rule
    def keeps(p, g, kahan_comp, *, lr: Rate = 0.01):  # type: ignore[no-untyped-def]
        return p - lr * g, kahan_comp + g

    own = optim.from_rule(keeps)([p])
    own.step()
    assert (own.state[p][KEPT] == 1).all(), "a rule's own state of that name stays its own"
    with pytest.raises(InputError, match="keeps: kahan_comp: expected a rule without a state of that name"):
        optim.from_rule(keeps)([p], rounding="kahan")
    own.param_groups[0]["rounding"] = "kahan"
    with pytest.raises(InputError, match="keeps: kahan_comp: expected a rule without a state of that name"):
        own.step()


@pytest.mark.parametrize("rounding", [None, "stochastic", "kahan"])
@pytest.mark.parametrize("name", thinned(optim.NAMES, 24))
def test_the_default_epsilon_is_there_in_float16(name: str, rounding: str | None) -> None:
    """1e-8, which float16 has not: what is computed in float32 divides by it, where torch's default classes divide 0 by 0."""
    kind = class_of(name)
    if kind.rule.looked or kind.rule.asks_for_loss:
        pytest.skip("it wants a closure")
    for backend in ("numba", "eager"):
        p = nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4).half())
        optimizer = kind([p], rounding=rounding, backend=backend)
        for _ in range(3):
            p.grad = torch.zeros_like(p)
            optimizer.step()
        assert p.isfinite().all()
        held = [v for v in optimizer.state[p].values() if isinstance(v, Tensor)]
        assert all(v.isfinite().all() for v in held)
    q = nn.Parameter(torch.ones(3).half())
    theirs = torch.optim.Adam([q], foreach=False)
    q.grad = torch.zeros_like(q)
    theirs.step()
    assert q.isnan().all(), "else the page says of torch what is no longer so"


@EACH_BACKEND
def test_what_pruned_or_loaded_weights_never_lost_does_not_come_back(backend: str) -> None:
    p = nn.Parameter(torch.full((4,), 100.0, dtype=torch.bfloat16))
    optimizer = optim.SGD([p], lr=1e-2, rounding="kahan", backend=backend)
    for _ in range(5):
        p.grad = torch.full_like(p, 7.0)
        optimizer.step()
    assert optimizer.state[p][KEPT].abs().min() > 0
    with torch.no_grad():
        p.mul_(torch.tensor([0.0, 0.0, 1.0, 1e-4], dtype=torch.bfloat16))
    before = p.detach().clone()
    p.grad = torch.zeros_like(p)
    optimizer.step()
    assert torch.equal(p, before)
    assert torch.equal(optimizer.state[p][KEPT][[0, 1, 3]], torch.zeros(3, dtype=torch.bfloat16))


def test_a_registry_of_subclasses_never_sees_a_class_of_ours() -> None:
    known: dict[str, Any] = {}

    class Registered(optim.AdamW):
        def __init_subclass__(cls, *, must: int, **more: Any) -> None:
            super().__init_subclass__(**more)
            known[cls.__name__] = must

    class Mine(Registered, must=1):
        pass

    p = ones(3)
    p.grad = torch.ones_like(p)
    Mine([p], rounding="kahan").step()
    assert known == {"Mine": 1}

    class Twice(optim.from_rule(rules.sam(rules.sgd))):  # type: ignore[misc]  # what looks twice has a class of ours too
        def __init_subclass__(cls, *, must: int, **more: Any) -> None:
            super().__init_subclass__(**more)
            known[cls.__name__] = must

    class Sharp(Twice, must=2):
        pass

    q = nn.Parameter(torch.ones(3))
    sharp: Any = Sharp([q], lr=0.1)

    def closure() -> Tensor:
        sharp.zero_grad()
        loss = q.square().sum()
        loss.backward()
        return loss

    sharp.step(closure)
    assert (q != 1).all()
    assert known == {"Mine": 1, "Sharp": 2}


def test_what_is_kept_follows_its_parameters_dtype() -> None:
    p = ones(5)
    optimizer = optim.SGD([p], lr=1e-4, rounding="kahan")
    for dtype in (torch.bfloat16, torch.float16, torch.bfloat16):
        p.data = p.data.to(dtype)
        p.grad = torch.ones_like(p)
        optimizer.step()
        assert optimizer.state[p][KEPT].dtype == dtype
