"""`optimizer.diagnostics()` against a plain loop in float64 around each step, in every form; and that it changes no bit of a step."""

from __future__ import annotations

import copy
import io
import itertools
import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from thinning import thinned
from tolerances import ROUNDED32, SUMMED64
from torch import Tensor, nn

import steprule
from steprule import optim, rule, rules
from steprule.errors import InputError, InputTypeError
from steprule.hyper import Rate
from steprule.optim import diagnostics, sharding
from steprule.rules.sam import sam

KEYS = ["grad_norm", "weight_norm", "update_norm", "update_ratio", "cosine"]
SHAPES = [(130, 140), (7,), (), (0,), (3, 2, 4)]
MATRICES = [(30, 40), (7, 5), (64, 3)]


def params(shapes: Iterable[tuple[int, ...]], dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter((torch.randn(shape, generator=generator) + 1).to(dtype)) for shape in shapes]


def numbers(before: Tensor, after: Tensor, gradient: Tensor) -> dict[str, float]:
    """The plain loop's."""
    flat = [torch.view_as_real(x.detach()) if x.is_complex() else x.detach() for x in (before, after, gradient)]
    weight, stepped, g = (x.double().flatten() for x in flat)
    update = stepped - weight
    w, u, n = weight.norm(), update.norm(), g.norm()
    return {k: float(x) for k, x in zip(KEYS, (n, w, u, u / w, update @ g / u / n), strict=True)}


def near(found: dict[str, float], wanted: dict[str, float]) -> bool:
    return list(found) == list(wanted) and all(
        found[k] == pytest.approx(wanted[k], rel=SUMMED64, abs=SUMMED64, nan_ok=True) for k in wanted
    )


def joined(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([x.detach().flatten().to(torch.float64) for x in tensors])


def again(own: list[nn.Parameter], grads: list[Tensor | None]) -> Tensor:
    """A closure that finds the same gradients wherever the parameters are."""
    for p, g in zip(own, grads, strict=True):
        p.grad = None if g is None else g.clone(memory_format=torch.preserve_format)
    return torch.ones(())


class Watched:
    """An optimizer whose steps are held against the plain loop, and against an equal one without."""

    def __init__(self, kind: Any, own: list[nn.Parameter], **settings: Any) -> None:
        self.own, self.others = own, copy.deepcopy(own)
        self.optimizer = kind(own, diagnostics=True, **settings)
        self.plain = kind(self.others, **settings)

    def step(self, grads: list[Tensor | None]) -> None:
        for members in (self.own, self.others):
            for p, g in zip(members, grads, strict=True):
                p.grad = None if g is None else g.clone(memory_format=torch.preserve_format)
        before = [p.detach().clone() for p in self.own]
        for made, members in ((self.optimizer, self.own), (self.plain, self.others)):
            asks = made.rule.looks_twice or made.rule.asks_for_loss
            made.step(lambda own=members: again(own, grads)) if asks else made.step()
        there = [k for k, g in enumerate(grads) if g is not None]
        found = self.optimizer.diagnostics("tensor")
        assert [id(p) for p in found] == [id(self.own[k]) for k in there]
        for k in there:
            wanted = numbers(before[k], self.own[k], grads[k])  # type: ignore[arg-type]
            assert near(found[self.own[k]], wanted), (k, found[self.own[k]], wanted)
        if not any(p.is_complex() for p in self.own):
            whole = numbers(*(joined(x[k] for k in there) for x in (before, self.own, grads)))  # type: ignore[misc]
            together = self.optimizer.diagnostics()
            assert near({k: together[k] for k in KEYS}, whole)
            assert str(self.optimizer.diagnostics("group")) == str({0: together})  # as a nan equals none

    def check_bits(self) -> None:
        for p, q in zip(self.own, self.others, strict=True):
            assert torch.equal(p, q)
            state, other = self.optimizer.state[p], self.plain.state[q]
            assert list(state) == list(other)
            assert all(torch.equal(v, other[n]) for n, v in state.items() if isinstance(v, Tensor))


def grads_of(own: list[nn.Parameter], t: int) -> list[Tensor | None]:
    """One parameter rests in the second step, one gradient lies otherwise in the third."""
    generator = torch.Generator().manual_seed(t + 1)
    found: list[Tensor | None] = [torch.randn(p.shape, generator=generator).to(p.dtype) for p in own]
    first = found[0]
    assert first is not None
    if t == 1:
        found[1] = None
    if t == 2:
        found[0] = first.t().contiguous().t()
    return found


def follow(kind: Any, dtype: torch.dtype, **settings: Any) -> Watched:
    shapes = MATRICES if kind is optim.Muon else SHAPES
    if settings.get("backend") == "triton":  # whose interpreter takes its time
        shapes = shapes[1:]
    watched = Watched(kind, params(shapes, dtype), **settings)
    for t in range(3):
        watched.step(grads_of(watched.own, t))
    watched.check_bits()
    return watched


FEW = ["Adam", "LAMB"]
REST = sorted({*optim.NAMES} - {*FEW})


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.long) for name in REST)])
@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_every_rule(name: str, backend: str) -> None:
    watched = follow(getattr(optim, name), torch.float32, backend=backend)
    assert bool(watched.optimizer._plans[0].buckets) == (backend == "auto")


@pytest.mark.parametrize(("name", "backend"), thinned(itertools.product(["AdamW", "Muon"], ["auto", "eager"]), 3))
def test_all_parts(name: str, backend: str) -> None:
    """The gradient is the one that lay there before it was zeroed, not the clipped one; a matrix's was zeroed in another pass."""
    settings = {"clip_value": 0.9, "clip_norm": 2.0, "ema_decay": 0.6, "weight_decay": 0.1, "zero_grad": True}
    follow(getattr(optim, name), torch.float32, backend=backend, **settings)


LOW = [torch.bfloat16, torch.float16]
HOW: list[dict[str, Any]] = [{}, {"rounding": "stochastic", "seed": 3}, {"rounding": "kahan"}]


@pytest.mark.parametrize(
    ("dtype", "how", "backend"),
    thinned([(torch.float64, {}, "auto"), *itertools.product(LOW, HOW, ["auto", "eager"])], 3),
)
def test_every_dtype(dtype: torch.dtype, how: dict[str, Any], backend: str) -> None:
    """The update is what was stored."""
    follow(optim.AdamW, dtype, backend=backend, **how)


def test_a_step_that_rounds_away_is_no_update() -> None:
    p = nn.Parameter(torch.ones(10, dtype=torch.bfloat16))
    optimizer = optim.SGD([p], lr=1e-6, diagnostics=True)
    p.grad = torch.ones_like(p)
    optimizer.step()
    found = optimizer.diagnostics()
    assert found["update_norm"] == found["update_ratio"] == 0.0
    assert math.isnan(found["cosine"])


@rule
def by_turns(p, g, m, *, lr: Rate = 0.1, t):  # type: ignore[no-untyped-def]
    """A rule of matrices that leaves the parameter in every second step."""
    m = m + (g @ g.T) @ g
    return p if t % 2 == 1 else p - lr * m, m


@rule
def never(p, g, m, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    """A rule that leaves the parameter."""
    return p, m + lr * g


@pytest.mark.parametrize(
    ("which", "shapes", "zero"),
    [(by_turns, [(3, 4), (5, 2)], True), (by_turns, [(3, 4)], False), (never, [(9,)], True)],
)
def test_a_parameter_that_no_pass_stores(which: Any, shapes: list[tuple[int, ...]], zero: bool) -> None:
    watched = Watched(optim.from_rule(which), params(shapes), zero_grad=zero)
    for t in range(2):
        watched.step([torch.randn(p.shape, generator=torch.Generator().manual_seed(t)).double() for p in watched.own])
        assert watched.optimizer._plans[0].buckets
    watched.check_bits()


def test_infinite_and_missing_numbers() -> None:
    found = []
    for backend in ("auto", "eager"):
        own = params([(3,), (2,)])
        optimizer = optim.SGD(own, lr=0.1, diagnostics=True, backend=backend)
        own[0].grad = torch.tensor([1.0, math.nan, 2.0], dtype=torch.float64)
        own[1].grad = torch.tensor([math.inf, 0.0], dtype=torch.float64)
        optimizer.step()
        found.append([str(own) for own in optimizer.diagnostics("tensor").values()])
    assert found[0] == found[1]
    assert "'grad_norm': nan" in found[0][0]
    assert "'grad_norm': inf" in found[0][1]


def test_numbers_whose_squares_leave_float32() -> None:
    for size in (1e-25, 1e25):
        p = nn.Parameter(torch.full((5,), size))
        optimizer = optim.SGD([p], lr=0.5, diagnostics=True)
        p.grad = torch.full((5,), size)
        optimizer.step()
        wanted = {k: math.sqrt(5) * float(torch.tensor(size)) * x for k, x in zip(KEYS[:3], (1, 1, 0.5), strict=True)}
        assert near(optimizer.diagnostics(), {**wanted, "update_ratio": 0.5, "cosine": -1.0})


def test_the_same_bits_for_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for backend, threads in itertools.product(("auto", "eager"), (1, 2)):
            torch.set_num_threads(threads)
            own = params([(300_000,), (40_000,)], torch.float32)
            optimizer = optim.Adam(own, diagnostics=True, backend=backend)
            for p in own:
                p.grad = p.detach().sin()
            optimizer.step()
            found.append((optimizer.diagnostics(), list(optimizer.diagnostics("tensor").values())))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]
    assert found[2] == found[3]


# Groups, names, switches.


def test_groups_names_and_by() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    layers = [list(model[k].named_parameters(prefix=str(k))) for k in (0, 2)]
    optimizer = optim.Adam(
        [{"params": layers[0]}, {"params": layers[1], "lr": 0.1, "clip_norm": 1e-9}], diagnostics=True
    )
    assert optimizer.diagnostics() == optimizer.diagnostics("group") == optimizer.diagnostics("tensor") == {}
    model(torch.ones(5, 3, dtype=torch.float64)).sum().backward()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer.step()
    by_name = optimizer.diagnostics("tensor")
    assert list(by_name) == list(before)
    assert all(near(by_name[n], numbers(before[n], p, p.grad)) for n, p in model.named_parameters())  # type: ignore[arg-type]
    groups = optimizer.diagnostics("group")
    assert list(groups) == [0, 1]
    assert list(groups[0]) == KEYS
    assert list(groups[1]) == list(optimizer.diagnostics()) == [*KEYS, "clipped"]
    own = [p for n, p in model.named_parameters() if n.startswith("2")]
    wanted = numbers(joined(before[n] for n in before if n.startswith("2")), joined(own), joined(p.grad for p in own))  # type: ignore[misc]
    assert near({k: groups[1][k] for k in KEYS}, wanted)


def test_a_group_says_so_while_it_runs_and_what_is_off_is_no_key() -> None:
    own = params([(3,), (4,)])
    optimizer = optim.Adam([{"params": own[:1]}, {"params": own[1:]}], lr=0.1)
    assert "diagnostics" not in optimizer.param_groups[0]
    with pytest.raises(
        InputError, match=r"Adam.diagnostics: expected diagnostics=True, got steps that are not diagnosed"
    ):
        optimizer.diagnostics()
    for p in own:
        p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.param_groups[1]["diagnostics"] = True
    assert optimizer.diagnostics() == {}
    optimizer.step()
    assert list(optimizer.diagnostics("group")) == [1]
    assert list(optimizer.diagnostics("tensor")) == own[1:]
    optimizer.param_groups[1]["diagnostics"] = False
    optimizer.step()
    with pytest.raises(InputError):
        optimizer.diagnostics()


@pytest.mark.parametrize("given", [1, "tensor", None, torch.tensor(True)])
def test_what_is_no_switch(given: Any) -> None:
    with pytest.raises(InputTypeError, match="Adam: diagnostics: expected a bool"):
        optim.Adam(params([(2,)]), diagnostics=given)


@pytest.mark.parametrize("by", ["tensors", 0, torch.ones(2), ["group"]])
def test_what_it_cannot_be_by(by: Any) -> None:
    with pytest.raises(InputError, match=r"Adam.diagnostics: by: expected None or 'group' or 'tensor', got") as found:
        optim.Adam(params([(2,)]), diagnostics=True).diagnostics(by)
    assert "\n" not in str(found.value)


def test_the_share_of_clipped_steps() -> None:
    (p,) = params([(4,)])
    optimizer = optim.SGD([p], lr=0.1, clip_norm=1.0, diagnostics=True)
    shares = []
    for size in (3.0, 0.1, 0.1, math.inf, 0.0):
        p.grad = torch.full_like(p, size)
        optimizer.step()
        shares.append(optimizer.diagnostics()["clipped"])
    assert shares == [1.0, 1 / 2, 1 / 3, 2 / 4, 2 / 5]
    optimizer.param_groups[0]["clip_norm"] = 0.0
    optimizer.step()
    assert "clipped" not in optimizer.diagnostics("group")[0]
    assert "clipped" not in optimizer.diagnostics()


def test_rules_per_kind() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 2)).double()
    optimizer = steprule.by_kind(matrix="muon", other="adamw")(model, show=False, clip_norm=0.01, diagnostics=True)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer.step()
    found = optimizer.diagnostics("tensor")
    assert found.keys() == before.keys()
    assert all(near(found[n], numbers(before[n], p, p.grad)) for n, p in model.named_parameters())  # type: ignore[arg-type]
    assert optimizer.diagnostics()["clipped"] == 1.0


def test_it_is_no_state_and_checkpoints_go_both_ways() -> None:
    own = params([(3,)])
    optimizer = optim.Adam(own, diagnostics=True, clip_norm=1.0)
    own[0].grad = torch.ones_like(own[0])
    optimizer.step()
    assert copy.deepcopy(optimizer).diagnostics() == {}
    saved = io.BytesIO()
    torch.save(optimizer.state_dict(), saved)
    saved.seek(0)
    theirs = torch.optim.Adam(params([(3,)]))
    theirs.load_state_dict(torch.load(saved))
    back = optim.Adam(params([(3,)]), diagnostics=True)
    back.load_state_dict(torch.optim.Adam(params([(3,)])).state_dict())
    assert back.diagnostics() == {}


# Tensors that no kernel steps, scaled losses, two points.


def test_complex_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    own = [nn.Parameter(torch.randn(5, 2, dtype=torch.complex64, generator=generator))]
    watched = Watched(optim.Adam, own)
    watched.step([torch.randn(5, 2, dtype=torch.complex64, generator=generator)])
    watched.check_bits()


@pytest.mark.parametrize("width", [(), (2,)])
def test_sparse_gradients(width: tuple[int, ...]) -> None:
    p = nn.Parameter(torch.arange(1.0, 1 + 6 * math.prod(width)).reshape(6, *width))
    at, values = torch.tensor([[1, 4, 1]]), torch.randn(3, *width)
    gradient = torch.sparse_coo_tensor(at, values, p.shape, check_invariants=True)
    optimizer = optim.SGD([p], lr=0.1, diagnostics=True)
    p.grad, before = gradient, p.detach().clone()
    optimizer.step()
    assert near(optimizer.diagnostics(), numbers(before, p, gradient.to_dense()))


@pytest.mark.parametrize("settings", [{"differentiable": True}, {"maximize": True, "backend": "eager"}])
def test_torchs_own_step(settings: dict[str, Any]) -> None:
    p = params([(40_000,)])[0].detach().clone()  # a leaf that requires gradients cannot be stepped differentiably
    optimizer = optim.Adam([p], diagnostics=True, **settings)
    p.grad, before = torch.randn_like(p), p.clone()
    optimizer.step()
    assert near(optimizer.diagnostics(), numbers(before, p, p.grad))


def test_memory_that_is_shared() -> None:
    """A parameter that is listed twice, and a gradient in the parameter's own memory."""
    (p,) = params([(3,)])
    with pytest.warns(UserWarning, match="duplicate"):
        optimizer = optim.SGD([p, p], lr=0.1, diagnostics=True)
    p.grad = p.detach()
    optimizer.step()
    assert len(optimizer.diagnostics("tensor")) == 1
    own = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = optim.SGD([own], lr=0.5, diagnostics=True)
    own.grad = own.detach()
    optimizer.step()
    assert near(optimizer.diagnostics(), dict(zip(KEYS, (5.0, 5.0, 2.5, 0.5, -1.0), strict=True)))


def test_tensors_without_numbers_are_left_out() -> None:
    p = nn.Parameter(torch.empty(3, device="meta"))
    optimizer = optim.SGD([p], lr=0.1, diagnostics=True)
    p.grad = torch.empty_like(p)
    optimizer.step()
    assert optimizer.diagnostics() == optimizer.diagnostics("tensor") == {}


@pytest.mark.parametrize(("fused", "backend"), [(True, "auto"), (True, "eager"), (False, "auto")])
def test_a_scaled_loss(fused: bool, backend: str) -> None:
    """The scale is gone, and a step that is skipped leaves what there was."""
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = optim.SGD([p], lr=0.5, diagnostics=True, fused_unscale=fused, backend=backend)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for factor in (1.0, math.inf):
        optimizer.zero_grad()
        scaler.scale((p * torch.tensor([0.0, 2.0]) * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert near(optimizer.diagnostics(), dict(zip(KEYS, (2.0, 5.0, 1.0, 0.2, -1.0), strict=True)))


def test_a_step_that_is_left_out_leaves_what_there_was() -> None:
    (p,) = params([(2,)])
    optimizer = optim.Adam([p], lr=0.1, nonfinite="skip", clip_norm=1.0, diagnostics=True)
    p.grad = torch.ones_like(p)
    optimizer.step()
    found = optimizer.diagnostics()
    p.grad[0] = math.nan
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert optimizer.diagnostics() == found


def test_a_rule_that_looks_twice_says_what_it_did_to_the_first_gradient() -> None:
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = optim.from_rule(sam(rules.get("sgd")))([p], lr=0.1, diagnostics=True)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    before = p.detach().clone()
    optimizer.step(closure)
    assert near(optimizer.diagnostics(), numbers(before, p, 2 * before))


def test_two_points() -> None:
    """Going to the point of evaluation and back is no step."""
    (p,) = params([(5,)])
    optimizer = optim.ScheduleFreeAdamW([p], lr=0.1, diagnostics=True)
    p.grad = torch.randn_like(p)
    optimizer.step()
    found = optimizer.diagnostics()
    with optimizer.evaluated():
        assert optimizer.diagnostics() == found


# Many processes: tests/processes.py has what they add up.


@pytest.mark.parametrize("who", [sharding._FSDP, sharding._ZERO_REDUNDANCY])
def test_parts_without_dtensors_are_refused(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "is_distributed", lambda: True)
    monkeypatch.setattr(sharding.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(sharding, "_who_cuts", lambda _: who)
    (p,) = params([(5,)])
    p.grad = torch.ones_like(p)
    wanted = f"SGD: diagnostics: expected whole parameters, or DTensors, got this process's part by {who}"
    with pytest.raises(InputError, match=wanted):
        optim.SGD([p], lr=0.1, diagnostics=True).step()
    optim.SGD([p], lr=0.1).step()


# Other devices' kernel, and what is left behind.


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="needs Triton's interpreter")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "settings", "dtype"),
    [
        ("Adam", {}, torch.float32),
        ("LAMB", {"clip_norm": 0.5, "zero_grad": True}, torch.float64),
        ("SGD", {"rounding": "stochastic", "seed": 1}, torch.float16),
    ],
)
def test_in_triton(name: str, settings: dict[str, Any], dtype: torch.dtype) -> None:
    pytest.importorskip("triton")
    watched = follow(getattr(optim, name), dtype, backend="triton", **settings)
    assert watched.optimizer._plans[0].buckets


def test_kernels_without_it_are_what_they_were() -> None:
    """Another optimizer's diagnosis compiles a kernel of its own."""
    from steprule.compiler.numba_cpu import NumbaKernel
    from steprule.compiler.variant import variant_of

    program = variant_of(optim.Adam.rule, optim.Adam.rule.defaults).program()
    dtypes = dict.fromkeys(program.columns, "float32")
    plain, diagnosed = (NumbaKernel.of(program, dtypes, diagnoses=on).source() for on in (False, True))
    assert "product" not in plain
    assert "plus_product" in diagnosed


def test_slabs_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "ROW", 64)
    monkeypatch.setattr(diagnostics, "SLAB", 256)
    follow(optim.Adam, torch.float32, backend="eager")


def test_names_that_two_groups_have_are_no_key() -> None:
    a, b = nn.Linear(2, 1), nn.Linear(2, 1)
    groups = [{"params": list(model.named_parameters())} for model in (a, b)]
    optimizer = optim.SGD(groups, lr=0.1, diagnostics=True)
    (5 * a(torch.ones(3, 2)).sum() + b(torch.ones(3, 2)).sum()).backward()
    optimizer.step()
    found = optimizer.diagnostics("tensor")
    assert list(found) == [a.weight, a.bias, b.weight, b.bias]
    assert [own["grad_norm"] for own in found.values()] == pytest.approx(
        [15 * 2**0.5, 15, 3 * 2**0.5, 3], rel=ROUNDED32
    )


@pytest.mark.parametrize("given", ["no", 1, np.array([True, False])])
def test_a_groups_switch_is_a_bool(given: Any) -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = torch.ones(2)
    optimizer.param_groups[0]["diagnostics"] = given
    with pytest.raises(InputTypeError, match="SGD: diagnostics: expected a bool"):
        optimizer.step()
