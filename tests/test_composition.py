"""Clipping, unscaling, averaging and zeroing in the step's own pass, against torch's functions for each, one after the other."""

from __future__ import annotations

import copy
import inspect
import itertools
import warnings
from typing import Any

import pytest
import torch
from compare import all_apart, apart
from thinning import thinned
from tolerances import CLASS_BFLOAT16_RUN, CLASS_FLOAT32_RUN, CLASS_FLOAT64, ROUNDED32, SUMMED64
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from steprule import optim, rule, rules
from steprule.errors import InputError, InputTypeError, UnknownNameError
from steprule.hyper import Rate
from steprule.maths import clamp
from steprule.optim import buckets as planning

SHAPES = [(3, 4), (5,), (), (0,), (40_000,), (2, 3, 4)]
SETTINGS: dict[str, dict[str, Any]] = {"SGD": {"lr": 0.01, "momentum": 0.8}}
# Muon iterates in bfloat16: test_matrices.py holds it to its bound.
CLASSES = [n for n in optim.NAMES if hasattr(torch.optim, n) and n != "Muon"]
FORMS = ["eager", "numba"]


def shapes_for(name: str) -> list[tuple[int, ...]]:
    """torch's Adafactor divides by the number of elements."""
    return [s for s in SHAPES if s != (0,)] if name == "Adafactor" else SHAPES


def parameters(dtype: torch.dtype, name: str = "") -> list[Tensor]:
    generator, shapes = torch.Generator().manual_seed(1), shapes_for(name)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


def gradients(t: int, dtype: torch.dtype, name: str = "") -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + t)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes_for(name)]


def both(
    name: str, dtype: torch.dtype, *, backend: str, value: float, norm: float, ema: float, zero: bool, steps: int = 6
) -> tuple[float, float]:
    """How far parameters and averages end from those of torch's functions called one after the other."""
    settings = {"lr": 0.01, **SETTINGS.get(name, {})}
    if dtype is torch.float16 and "eps" in inspect.signature(getattr(torch.optim, name)).parameters:
        settings["eps"] = 1e-3  # torch's 1e-8 is zero there, and divides zero by zero
    p, q = parameters(dtype, name), parameters(dtype, name)
    ours = getattr(optim, name)(
        [{"params": p[:2]}, {"params": p[2:], "lr": 0.02}],
        **settings, clip_value=value, clip_norm=norm, ema_decay=ema, zero_grad=zero, backend=backend,
    )  # fmt: skip
    theirs = getattr(torch.optim, name)([{"params": q[:2]}, {"params": q[2:], "lr": 0.02}], **settings)
    model = nn.ParameterList(q)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema)) if ema else None
    for t in range(1, steps + 1):
        for x, y, g in zip(p, q, gradients(t, dtype, name), strict=True):
            # In turn: as the parameter lies, and otherwise.
            x.grad = g.t().contiguous().t() if g.ndim == 2 and t % 2 else g.clone()
            y.grad = g.clone()
        if value:
            torch.nn.utils.clip_grad_value_(q, value)
        if norm:
            torch.nn.utils.clip_grad_norm_(q, norm)
        kept = [x.grad.clone() for x in p]  # type: ignore[union-attr]
        ours.step()
        theirs.step()
        if averaged is not None:
            averaged.update_parameters(model)
        for x, old in zip(p, kept, strict=True):
            assert x.grad is not None
            assert torch.equal(x.grad, torch.zeros_like(old) if zero else old)
    averages = list(averaged.parameters()) if averaged is not None else []
    assert all(("ema" in ours.state[x]) == bool(ema) for x in p)
    return (
        all_apart(p, q),
        all_apart([ours.state[x]["ema"] for x in p] if ema else [], averages),
    )


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("name", thinned(CLASSES, 3))
def test_all_parts_equal_torchs_functions(name: str, backend: str, float64_default: None) -> None:
    at, averages = both(name, torch.float64, backend=backend, value=0.9, norm=3.0, ema=0.7, zero=True)
    assert at <= CLASS_FLOAT64
    assert averages <= CLASS_FLOAT64


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize(
    ("value", "norm", "ema", "zero"), thinned(itertools.product((0, 0.9), (0, 3.0), (0, 0.7), (False, True)), 5)
)
def test_each_combination(
    value: float, norm: float, ema: float, zero: bool, backend: str, float64_default: None
) -> None:
    at, averages = both("AdamW", torch.float64, backend=backend, value=value, norm=norm, ema=ema, zero=zero)
    assert max(at, averages) <= CLASS_FLOAT64


@pytest.mark.parametrize(
    ("dtype", "within"),
    [(torch.float32, CLASS_FLOAT32_RUN), (torch.bfloat16, CLASS_BFLOAT16_RUN), (torch.float16, CLASS_BFLOAT16_RUN)],
)
def test_other_dtypes(dtype: torch.dtype, within: float) -> None:
    at, averages = both("RMSprop", dtype, backend="numba", value=0.9, norm=3.0, ema=0.7, zero=True, steps=3)
    assert max(at, averages) <= within


def test_a_norm_within_the_bound_changes_no_bit() -> None:
    p, q = parameters(torch.float32), parameters(torch.float32)
    a, b = optim.Adam(p, clip_norm=1e9), optim.Adam(q)
    for x, y, g in zip(p, q, gradients(1, torch.float32), strict=True):
        x.grad, y.grad = g.clone(), g
    a.step()
    b.step()
    assert all(torch.equal(x, y) for x, y in zip(p, q, strict=True))


def test_only_groups_that_clip_are_counted_and_clipped() -> None:
    x, y = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = optim.SGD([{"params": [x], "clip_norm": 1.0}, {"params": [y]}], lr=1.0)
    x.grad, y.grad = torch.tensor([3.0, 4.0]), torch.tensor([30.0, 40.0])
    optimizer.step()
    assert torch.allclose(x.detach(), torch.tensor([-0.6, -0.8]), rtol=ROUNDED32, atol=0)
    assert torch.equal(y.detach(), torch.tensor([-30.0, -40.0]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_clips_as_torchs(bad: float) -> None:
    p, q = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    for x in (p, q):
        x.grad = torch.tensor([bad, 1.0, 0.0])
    torch.nn.utils.clip_grad_norm_([q], 1.0)
    optim.SGD([p], lr=1.0, clip_norm=1.0).step()
    torch.optim.SGD([q], lr=1.0).step()
    assert torch.equal(p.isnan(), q.isnan())
    assert torch.allclose(p, q, equal_nan=True, rtol=ROUNDED32, atol=0)


@pytest.mark.parametrize("name", thinned(["lamb", "lion", "lars", "rmsprop_eps_inside"], 3))
def test_rules_that_torch_has_not_compose_too(name: str, float64_default: None) -> None:
    """The kernel against the eager form, parts and all; LARS and LAMB reduce over the clipped gradient."""
    ends = []
    for backend in FORMS:
        p = parameters(torch.float64)
        optimizer = optim.from_rule(name)(
            p, lr=0.01, clip_value=0.9, clip_norm=2.0, ema_decay=0.6, weight_decay=0.1, zero_grad=True, backend=backend
        )
        for t in range(1, 5):
            for x, g in zip(p, gradients(t, torch.float64), strict=True):
                x.grad = g
            optimizer.step()
        ends.append([*p, *(optimizer.state[x]["ema"] for x in p)])
    assert all_apart(*ends) <= CLASS_FLOAT64


def test_a_users_own_name_for_a_part_wins() -> None:
    @rule
    def clipped(p, g, *, lr: Rate = 0.1, clip_value: Rate = 2.0):  # type: ignore[no-untyped-def]
        """Clips by itself."""
        return p - lr * clamp(g, -clip_value, clip_value)

    p = torch.zeros(1, requires_grad=True)
    p.grad = torch.tensor([5.0])
    optim.from_rule(clipped)([p]).step()
    assert p.item() == pytest.approx(-0.2, rel=ROUNDED32)


def scaled_run(make: Any, *, clip: float, bad_step: int = 3) -> tuple[list[Tensor], list[float]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = make(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    scales = []
    for t in range(6):
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(t))
        optimizer.zero_grad()
        loss = model(x).square().mean() * (float("inf") if t == bad_step else 1.0)
        scaler.scale(loss).backward()
        if clip and not isinstance(optimizer, optim.Adam):
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    steps = {float(s["step"]) for s in optimizer.state.values()}
    assert steps == {5.0}, "the step with an inf counts not"
    return list(model.parameters()), scales


@pytest.mark.parametrize("clip", [0.0, 0.01])
@pytest.mark.parametrize("backend", FORMS)
def test_grad_scaler(clip: float, backend: str) -> None:
    def ours_of(p: Any) -> Any:
        return optim.Adam(p, lr=0.01, clip_norm=clip, backend=backend, fused_unscale=True)

    ours, scales = scaled_run(ours_of, clip=clip)
    theirs, wanted = scaled_run(lambda p: torch.optim.Adam(p, lr=0.01), clip=clip)
    assert scales == wanted
    assert all_apart(ours, theirs) <= CLASS_FLOAT32_RUN


def test_grad_scaler_after_the_users_own_unscale() -> None:
    """The user unscales, to look at the gradients, say: then the step must not do it again."""
    ends = []
    for cls in (optim.Adam, torch.optim.Adam):
        torch.manual_seed(0)
        p = torch.ones(3, requires_grad=True)
        option = {"fused_unscale": True} if cls.__module__.startswith("steprule") else {}
        optimizer, scaler = cls([p], lr=0.1, **option), torch.amp.GradScaler("cpu", init_scale=64.0)
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale((p * p).sum()).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        ends.append(p.detach())
    assert apart(*ends) <= CLASS_FLOAT32_RUN


def test_a_skipped_step_still_zeroes() -> None:
    p = torch.ones(3, requires_grad=True)
    optimizer = optim.Adam([p], zero_grad=True, ema_decay=0.5, fused_unscale=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale((p * float("inf")).sum()).backward()
    scaler.step(optimizer)
    assert p.grad is not None
    assert torch.equal(p.grad, torch.zeros(3))
    assert torch.equal(p.detach(), torch.ones(3))
    assert not optimizer.state[p]


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch says that it does not check sparse tensors
def test_grad_scaler_with_a_step_of_torchs_own() -> None:
    """A group with sparse gradients runs torch's step, which would not unscale."""
    ends = []
    for cls in (optim.Adagrad, torch.optim.Adagrad):
        torch.manual_seed(0)
        table = nn.Embedding(5, 3, sparse=True)
        option = {"fused_unscale": True} if cls.__module__.startswith("steprule") else {}
        optimizer, scaler = cls(table.parameters(), lr=0.1, **option), torch.amp.GradScaler("cpu", init_scale=64.0)
        for t in range(3):
            optimizer.zero_grad()
            scaler.scale(table(torch.tensor([t, 4])).square().sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        ends.append(table.weight.detach())
    assert apart(*ends) <= CLASS_FLOAT32_RUN


def test_the_average_is_swapped_in_and_out() -> None:
    p = torch.zeros(2, requires_grad=True)
    q = torch.zeros(2, requires_grad=True)  # without a gradient: no average, and left alone
    optimizer = optim.SGD([p, q], lr=1.0, ema_decay=0.5)
    with pytest.raises(InputError, match="an average of the weights"), optimizer.ema_weights():
        pass
    for g in (1.0, 2.0):
        p.grad = torch.full((2,), g)
        optimizer.step()
    address = p.data_ptr()
    with optimizer.ema_weights():
        assert torch.equal(p.detach(), torch.full((2,), -2.0))
        assert p.data_ptr() == address
        with pytest.raises(RuntimeError, match="leave its block first"):
            optimizer.step()
        with pytest.raises(RuntimeError, match="state_dict"):
            optimizer.state_dict()
        with pytest.raises(RuntimeError, match="already"), optimizer.ema_weights():
            pass
    assert torch.equal(p.detach(), torch.full((2,), -3.0))
    assert torch.equal(q.detach(), torch.zeros(2))
    with pytest.raises(ZeroDivisionError), optimizer.ema_weights():
        raise ZeroDivisionError
    assert torch.equal(p.detach(), torch.full((2,), -3.0))
    optimizer.step()
    assert torch.equal(optimizer.state[p]["ema"], torch.full((2,), -3.5))


def test_swapping_between_forward_and_backward_is_torchs_error() -> None:
    p = torch.ones(2, requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1, ema_decay=0.5)
    p.grad = torch.ones(2)
    optimizer.step()
    loss = (p * p).sum()
    with optimizer.ema_weights():
        pass
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_checkpoint_that_lost_our_keys_has_the_constructors_values() -> None:
    def steps(optimizer: Any, p: Tensor, n: int) -> None:
        for t in range(n):
            p.grad = torch.full_like(p, float(t + 3))
            optimizer.step()

    p = torch.ones(3, requires_grad=True)
    q = p.detach().clone().requires_grad_()
    ours = optim.AdamW([p], lr=0.1, clip_norm=0.5, ema_decay=0.9, zero_grad=True)
    steps(ours, p, 3)
    through = torch.optim.AdamW([q], lr=0.1)
    state = ours.state_dict()
    assert state["param_groups"][0]["clip_norm"] == 0.5
    assert "clip_value" not in state["param_groups"][0]
    for group in state["param_groups"]:
        for name in ("clip_norm", "ema_decay", "zero_grad"):
            group.pop(name)
    for held in state["state"].values():
        held.pop("ema")
    through.load_state_dict(state)
    steps(through, q, 2)
    r = q.detach().clone().requires_grad_()
    back = optim.AdamW([r], lr=0.3, clip_norm=0.25, ema_decay=0.8)
    back.load_state_dict(copy.deepcopy(through.state_dict()))
    group = back.param_groups[0]
    assert (group["lr"], group["clip_norm"], group["ema_decay"]) == (0.1, 0.25, 0.8)
    assert "zero_grad" not in group, "what is off is no key"
    steps(back, r, 1)
    assert torch.equal(back.state[r]["ema"], r.detach()), "the average starts anew"


def test_the_average_goes_through_a_checkpoint() -> None:
    p, q = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    a, b = optim.RMSprop([p], ema_decay=0.9), optim.RMSprop([q], ema_decay=0.9)

    def step(optimizer: Any, x: Tensor, t: int) -> None:
        x.grad = torch.full_like(x, 0.1 * t)
        optimizer.step()

    for t in range(3):
        step(a, p, t)
    with torch.no_grad():
        q.copy_(p)
    b.load_state_dict(copy.deepcopy(a.state_dict()))
    for t in range(3, 6):
        step(a, p, t)
        step(b, q, t)
    assert torch.equal(p, q)
    assert torch.equal(a.state[p]["ema"], b.state[q]["ema"])


def test_off_costs_nothing_and_on_compiles_once() -> None:
    p = torch.ones(9, requires_grad=True)
    optimizer = optim.Adam([p])
    p.grad = torch.ones(9)
    optimizer.step()
    assert set(optimizer.state[p]) == {"step", "exp_avg", "exp_avg_sq"}
    program = optimizer._plans[0].buckets[0].program
    assert program.columns == ("p", "g", "exp_avg", "exp_avg_sq")
    assert [len(part.reductions) for part in program.passes] == [0]
    optimizer = optim.Adam([p], clip_norm=1.0, ema_decay=0.5)
    optimizer.step()
    optimizer.step()
    before = planning.kernel_for.cache_info().misses
    for t in range(1, 6):
        optimizer.param_groups[0].update(clip_norm=1.0 / t, ema_decay=0.9 / t)
        p.grad = torch.ones(9) * t
        optimizer.step()
    assert planning.kernel_for.cache_info().misses == before


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"clip_norm": -1.0}, InputError, "clip_norm"),
        ({"clip_norm": float("nan")}, InputError, "clip_norm"),
        ({"clip_value": "1"}, InputTypeError, "clip_value"),
        ({"ema_decay": 1.0}, InputError, "ema_decay"),
        ({"zero_grad": 1}, InputTypeError, "zero_grad"),
        ({"backend": "cuda"}, InputError, "backend"),
    ],
)
@pytest.mark.parametrize("cls", [optim.SGD, optim.Lion])
def test_bad_settings(cls: Any, settings: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        cls([torch.ones(2, requires_grad=True)], **settings)


def test_complex_parameters_are_clipped_by_their_norm() -> None:
    p, q = (torch.zeros(4, dtype=torch.complex128, requires_grad=True) for _ in range(2))
    for x in (p, q):
        x.grad = torch.arange(1, 5) * torch.tensor(3 + 4j, dtype=torch.complex128)
    torch.nn.utils.clip_grad_norm_([q], 1.0)
    optim.SGD([p], lr=1.0, clip_norm=1.0, zero_grad=True).step()
    torch.optim.SGD([q], lr=1.0).step()
    assert torch.allclose(p, q, rtol=SUMMED64, atol=0)
    assert p.grad is not None
    assert not p.grad.any()


def test_bad_settings_of_a_group() -> None:
    p, q = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    with pytest.raises(InputError, match="clip_norm"):
        optim.SGD([{"params": [p], "clip_norm": -1.0}])
    optimizer = optim.SGD([p])
    with pytest.raises(InputTypeError, match="ema_decay"):
        optimizer.add_param_group({"params": [q], "ema_decay": None})
    assert len(optimizer.param_groups) == 1


def test_what_the_step_supplies_is_no_setting() -> None:
    with pytest.raises(UnknownNameError, match="grad_scale"):
        optim.Lion([torch.ones(2, requires_grad=True)], grad_scale=2.0)
    with pytest.raises(TypeError, match="grad_scale"):
        optim.SGD([torch.ones(2, requires_grad=True)], grad_scale=2.0)  # type: ignore[call-arg]


def test_sparse_gradients_refuse_what_torch_has_not() -> None:
    p = torch.ones(3, requires_grad=True)
    p.grad = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.tensor([2.0]), (3,), check_invariants=False)
    with pytest.raises(RuntimeError, match="clip_norm"):
        optim.SGD([p], lr=0.1, clip_norm=1.0).step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optim.SGD([p], lr=0.1).step()
    assert torch.allclose(p.detach(), torch.tensor([1.0, 0.8, 1.0]), rtol=ROUNDED32, atol=0)


def test_decoupled_decay_in_a_class_that_torch_gives_none() -> None:
    p = torch.full((2,), 2.0, requires_grad=True)
    p.grad = torch.zeros(2)
    optim.SGD([p], lr=0.1, weight_decay=0.5, decoupled_weight_decay=True).step()
    assert torch.allclose(p.detach(), torch.full((2,), 1.9), rtol=ROUNDED32, atol=0)


def test_the_same_bits_serial_and_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    from steprule.compiler import numba_cpu as cpu

    ends = []
    for below in (0, 10**9):
        monkeypatch.setattr(cpu, "SERIAL_BELOW", below)
        p = torch.linspace(-1, 1, 50_000).requires_grad_()
        optimizer = optim.Adam([p], clip_norm=0.1, ema_decay=0.9)
        for t in range(1, 4):
            p.grad = torch.sin(p.detach() * t)
            optimizer.step()
        ends.append([p.detach(), optimizer.state[p]["ema"]])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_every_part_has_its_rule() -> None:
    """The parts are in the equipped rule of every class, and only once."""
    for name in optim.NAMES:
        hypers = [h.name for h in getattr(optim, name).rule.hypers]
        for part in ("clip_norm", "clip_value", "ema_decay", "weight_decay", "maximize", "scaled"):
            assert hypers.count(part) == 1, (name, part)
    assert "clip_norm" not in rules.adam.defaults
