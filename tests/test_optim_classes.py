"""The classes against torch's: numbers, states, checkpoints both ways, odd tensors, what users do with an optimizer."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from grid import CASES, COUNTERPARTS, IDS, Counterpart
from thinning import thinned
from tolerances import (
    CLASS_BFLOAT16_RUN,
    CLASS_FLOAT32_FEW_STEPS,
    CLASS_FLOAT32_RUN,
    CLASS_FLOAT32_ULP,
    CLASS_FLOAT64,
    CLASS_LOW_ULP,
    SMALL_PARAMETERS_RMS,
    TORCH_FLOAT64,
    TORCH_NADAM_FLOAT32_PRODUCT,
)
from torch import Tensor, nn
from torch.optim import lr_scheduler

import steprule
from steprule import optim, rules
from steprule.compiler import eager
from steprule.errors import InputError, RuleError
from steprule.optim.settings import hypers_of
from steprule.rules.parts import composed

NAMES = [c.rule for c in COUNTERPARTS]
SHAPES = [(3, 5), (7,), (), (1, 1), (0,), (2, 3, 4)]


def ours(case: Counterpart) -> type[torch.optim.Optimizer]:
    return getattr(optim, case.torch_class.__name__)  # type: ignore[no-any-return]


def parameters(dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in SHAPES]


def set_gradients(params: list[Tensor], t: int, centre: float = 0.0) -> None:
    """A rough convex loss with its minimum near `centre`, and noise that depends on the step alone."""
    generator = torch.Generator().manual_seed(t)
    for p in params:
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        x = p.detach() - centre
        p.grad = x + 0.3 * torch.sin(5 * x) + 0.1 * noise


def differences(a: list[Tensor], b: list[Tensor]) -> float:
    return max(
        ((x - y).abs().max() / torch.maximum(x.abs().max(), y.abs().max()).clamp(min=1e-300)).item()
        for x, y in zip(a, b, strict=True)
        if x.numel()
    )


def same_states(a: torch.optim.Optimizer, b: torch.optim.Optimizer, tolerance: float) -> None:
    for p, q in zip(a.param_groups[0]["params"], b.param_groups[0]["params"], strict=True):
        mine, theirs = a.state[p], b.state[q]
        assert {k for k, v in mine.items() if v is not None} == {k for k, v in theirs.items() if v is not None}
        for name, value in theirs.items():
            if value is None or not value.numel():
                continue
            assert mine[name].dtype == value.dtype, name
            assert mine[name].shape == value.shape, name
            assert differences([mine[name].double()], [value.double()]) <= tolerance, name


def run(optimizers: list[torch.optim.Optimizer], steps: range) -> None:
    for t in steps:
        for optimizer in optimizers:
            set_gradients(optimizer.param_groups[0]["params"], t)
            optimizer.step()


@pytest.mark.parametrize(("case", "settings"), thinned(CASES, 5, IDS))
def test_every_option_equals_torch(case: Counterpart, settings: dict[str, Any], float64_default: None) -> None:
    if settings.get("maximize"):
        settings = {**settings, "lr": settings["lr"] / 100}  # uphill the loss grows, and differences with it
    a, b = ours(case)(parameters(), **settings), case.torch_class(parameters(), **settings)
    for start in range(1, 121, 40):
        run([a, b], range(start, start + 40))
        assert differences(a.param_groups[0]["params"], b.param_groups[0]["params"]) <= CLASS_FLOAT64
        same_states(a, b, CLASS_FLOAT64)


@pytest.mark.long
@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_a_thousand_steps_in_float64(case: Counterpart, float64_default: None) -> None:
    for settings in case.settings():
        if not settings.get("maximize"):
            a, b = ours(case)(parameters(), **settings), case.torch_class(parameters(), **settings)
            run([a, b], range(1, 1001))
            assert differences(a.param_groups[0]["params"], b.param_groups[0]["params"]) <= CLASS_FLOAT64
            same_states(a, b, CLASS_FLOAT64)


def one_step_apart(case: Counterpart, settings: dict[str, Any], dtype: torch.dtype, steps: int, limit: float) -> None:
    """At each step: the kernel, and the eager form in float64 from the same values; distance in ulp of `dtype`.

    The loss has its minimum at 2: where a parameter is smaller than its own step, the step's rounding is many of its ulp.
    """
    params = [(p.detach() * 0.1 + 2).requires_grad_() for p in parameters(dtype)]
    optimizer = ours(case)(params, **settings)
    rule = type(optimizer).rule  # type: ignore[attr-defined]
    for t in range(1, steps + 1):
        set_gradients(params, t, centre=2.0)
        before = [p.detach().clone() for p in params]
        states = [{k: v.clone() for k, v in optimizer.state[p].items() if isinstance(v, Tensor)} for p in params]
        optimizer.step()
        hypers = hypers_of(rule, optimizer.param_groups[0], beyond=optimizer._extras)  # type: ignore[attr-defined]
        for p, old, state in zip(params, before, states, strict=True):
            if not p.numel():
                continue
            held = {
                s.name: state[s.name].item() if s.per_tensor else state[s.name].double()
                for s in rule.slots
                if s.name in state
            }
            exact, new = eager.step(rule, old.double(), p.grad.double(), held, t, hypers)  # type: ignore[union-attr]
            largest = torch.maximum(old.double().abs(), exact.abs())
            ulp = torch.finfo(dtype).eps * 2.0 ** torch.floor(torch.log2(largest.clamp(min=torch.finfo(dtype).tiny)))
            assert ((p.double() - exact).abs() / ulp).max() <= limit, f"p at step {t}"
            for name, value in new.items():
                # With L2 decay g + weight_decay * p may cancel, and states of it with it: only p is bounded then.
                if isinstance(value, Tensor) and not settings.get("weight_decay"):
                    got = optimizer.state[p][name].double()
                    size = value.abs().clamp(min=torch.finfo(dtype).tiny)
                    # A state may cancel: its error counts against the sizes that were added.
                    scale = torch.maximum(size, held[name].abs() if name in held else size)
                    assert ((got - value).abs() / (torch.finfo(dtype).eps * scale)).max() <= limit, (
                        f"{name} at step {t}"
                    )


@pytest.mark.parametrize("case", thinned(COUNTERPARTS, 3, NAMES))
def test_float32_within_four_ulp(case: Counterpart) -> None:
    one_step_apart(case, {**case.settings()[-1], "maximize": False}, torch.float32, 100, CLASS_FLOAT32_ULP)
    one_step_apart(case, case.settings()[0], torch.float32, 100, CLASS_FLOAT32_ULP)


@pytest.mark.long
@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_float32_within_four_ulp_at_each_of_a_thousand_steps(case: Counterpart) -> None:
    for settings in case.settings():
        if not settings.get("maximize"):
            one_step_apart(case, settings, torch.float32, 1000, CLASS_FLOAT32_ULP)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", thinned(COUNTERPARTS, 4, NAMES))
def test_low_precision_is_computed_in_float32_and_rounded_once(case: Counterpart, dtype: torch.dtype) -> None:
    one_step_apart(case, {**case.settings()[-1], "maximize": False}, dtype, 30, 0.5 + CLASS_LOW_ULP)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_special_gradients_behave_as_torchs(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).smallest_normal
    values = [
        float("nan"),
        float("inf"),
        -float("inf"),
        0.0,
        -0.0,
        tiny / 4,
        -tiny / 4,
        torch.finfo(dtype).max,
        1.0,
    ] * 5
    for case in COUNTERPARTS:
        if case.rule == "adadelta" and dtype is torch.float16:
            continue  # torch computes it in float16, where delta over- and underflows; ours in float32 does not
        a = [torch.ones(len(values), dtype=dtype, requires_grad=True)]
        b = [torch.ones(len(values), dtype=dtype, requires_grad=True)]
        mine, theirs = ours(case)(a, **case.base), case.torch_class(b, **case.base)
        for _ in range(3):
            a[0].grad, b[0].grad = (torch.tensor(values, dtype=dtype) for _ in range(2))
            mine.step()
            theirs.step()
        finite, wanted = a[0].isfinite(), b[0].isfinite()
        # The largest number: torch's RAdam overflows where ours need not; the other way round would be a fault.
        assert not (wanted & ~finite)[7::9].any() or dtype in (torch.float16, torch.bfloat16), case.rule
        finite[7::9] = wanted[7::9]
        assert torch.equal(finite, wanted) or dtype in (torch.float16, torch.bfloat16), case.rule
        assert torch.equal(a[0][3:6].isfinite(), b[0][3:6].isfinite()), case.rule
        assert not a[0][8].isnan()


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.0, 0.3)])
def test_lion_beside_another_package(
    weight_decay: float, decoupled: bool, maximize: bool, betas: tuple[float, float]
) -> None:
    """The class against pytorch_optimizer's, with every option, which decays decoupled by default as well."""
    other = pytest.importorskip("pytorch_optimizer", reason="another package's Lion is what this one is compared with")
    generator = torch.Generator().manual_seed(3)
    p = torch.randn(40, generator=generator, dtype=torch.float64)
    a, b = p.clone().requires_grad_(), p.clone().requires_grad_()
    given = {"lr": 0.03, "weight_decay": weight_decay, "maximize": maximize}
    mine = optim.Lion(
        [a], beta1=betas[0], beta2=betas[1], **given, **({} if decoupled else {"decoupled_weight_decay": False})
    )
    theirs = other.Lion([b], betas=betas, **given, **({} if decoupled else {"weight_decouple": False}))
    for _ in range(50):
        gradient = torch.randn(40, generator=generator, dtype=torch.float64)
        a.grad, b.grad = gradient.clone(), gradient.clone()
        mine.step()
        theirs.step()
        assert ((a - b).abs() <= TORCH_FLOAT64 * b.abs().clamp(min=1.0)).all()
        assert ((mine.state[a]["exp_avg"] - theirs.state[b]["exp_avg"]).abs() <= TORCH_FLOAT64).all()


@pytest.mark.parametrize("case", thinned(COUNTERPARTS, 3, NAMES))
def test_serial_parallel_and_eager(case: Counterpart, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serial and parallel give the same bits, whatever the number of threads; the eager form the same to rounding."""
    import numba

    from steprule.compiler import numba_cpu as cpu

    shapes = [(70_001,), (3,), (16_384,), (5, 7)]
    results = {}
    for form, below, threads in (
        ("serial", 10**9, 1),
        ("parallel 1", 0, 1),
        ("parallel 2", 0, numba.config.NUMBA_NUM_THREADS),
        ("eager", 0, 1),
    ):
        monkeypatch.setattr(cpu, "SERIAL_BELOW", below)
        monkeypatch.setattr(cpu, "allowed", lambda: 2)  # whatever torch's count is here: Numba's mask sets the number
        numba.set_num_threads(threads)
        generator = torch.Generator().manual_seed(1)
        params = [torch.randn(s, generator=generator).requires_grad_() for s in shapes]
        optimizer = ours(case)(params, **case.settings()[-1])
        if form == "eager":
            optimizer.backend = "eager"  # type: ignore[attr-defined]
        for t in range(1, 4):
            set_gradients(params, t)
            optimizer.step()
        results[form] = params
    for form in ("parallel 1", "parallel 2"):
        assert all(torch.equal(p, q) for p, q in zip(results["serial"], results[form], strict=True))
    assert differences(results["serial"], results["eager"]) <= CLASS_FLOAT32_RUN


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
    assert differences(params, alone.param_groups[0]["params"]) <= TORCH_FLOAT64
    same_states(optimizer, alone, TORCH_FLOAT64)


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


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "state_dict"])
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
        other.load_state_dict(optimizer.state_dict())
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


# Odd tensors


def both(case: Counterpart, make: Any, steps: int = 5, **extra: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The same parameters through both classes; `make()` gives them, gradients follow from their values."""
    a, b = make(), make()
    mine, theirs = ours(case)(a, **case.base, **extra), case.torch_class(b, **case.base, **extra)
    for _ in range(steps):
        for p in (*a, *b):
            p.grad = (p.detach() * 1.5 + 0.25).to(p.dtype)
        mine.step()
        theirs.step()
    return a, b


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_layouts(case: Counterpart) -> None:
    base = torch.randn(6, 8, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def make() -> list[Tensor]:
        x = base.clone()
        views = [
            x[:2].to(memory_format=torch.channels_last),
            x[2, :4].transpose(0, 2).clone(memory_format=torch.preserve_format),
            x[3][:, ::2],
        ]
        return [v.detach().requires_grad_() for v in views]

    a, b = both(case, make)
    assert differences(a, b) <= (TORCH_NADAM_FLOAT32_PRODUCT if case.rule == "nadam" else TORCH_FLOAT64)
    assert [p.stride() for p in a] == [p.stride() for p in b]


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_gradients_that_lie_otherwise(case: Counterpart) -> None:
    def step(optimizer: torch.optim.Optimizer, p: Tensor, k: int) -> None:
        g = (
            torch.arange(12, dtype=torch.float64).reshape(4, 3).t() / 10
            if k % 2
            else torch.full((3, 4), 0.3, dtype=torch.float64)
        )
        p.grad = g if k != 2 else torch.tensor(0.5, dtype=torch.float64).expand(3, 4)
        optimizer.step()

    p, q = (torch.ones(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mine, theirs = ours(case)([p], **case.base), case.torch_class([q], **case.base)
    for k in range(6):
        step(mine, p, k)
        step(theirs, q, k)
    assert differences([p], [q]) <= (TORCH_NADAM_FLOAT32_PRODUCT if case.rule == "nadam" else TORCH_FLOAT64)


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_complex(case: Counterpart) -> None:
    a, b = both(case, lambda: [torch.tensor([1 + 2j, -0.5j, 3], dtype=torch.complex128, requires_grad=True)])
    assert torch.view_as_real(a[0] - b[0]).abs().max() <= (
        TORCH_NADAM_FLOAT32_PRODUCT if case.rule == "nadam" else TORCH_FLOAT64
    )


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_mixed_dtypes_and_missing_gradients(case: Counterpart, float64_default: None) -> None:
    def make() -> list[Tensor]:
        dtypes = [torch.float64, torch.float32, torch.float64]
        return [torch.linspace(-1, 1, 5 + k, dtype=d).requires_grad_() for k, d in enumerate(dtypes)]

    a, b = make(), make()
    mine, theirs = ours(case)(a, **case.base), case.torch_class(b, **case.base)
    for t in range(12):
        for k, (p, q) in enumerate(zip(a, b, strict=True)):
            there = (t + k) % 3 != 0 or k == 1  # each parameter counts its own steps
            p.grad = p.detach() * 0.5 + 0.1 if there else None
            q.grad = q.detach() * 0.5 + 0.1 if there else None
        mine.step()
        theirs.step()
    assert differences([a[0], a[2]], [b[0], b[2]]) <= TORCH_FLOAT64
    assert differences([a[1]], [b[1]]) <= CLASS_FLOAT32_FEW_STEPS
    same_states(mine, theirs, CLASS_FLOAT32_FEW_STEPS)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_sparse_gradients() -> None:
    def make(kind: type[torch.optim.Optimizer]) -> Tensor:
        torch.manual_seed(0)
        table = nn.Embedding(6, 3, sparse=True)
        optimizer = kind(table.parameters(), lr=0.1)
        for ids in ([0, 2], [2, 5], [1, 1]):
            optimizer.zero_grad()
            table(torch.tensor(ids)).square().sum().backward()
            optimizer.step()
        return table.weight

    for name in ("SGD", "Adagrad"):
        assert torch.equal(make(getattr(optim, name)), make(getattr(torch.optim, name)))
    for name in ("Adam", "AdamW", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam", "Lion"):
        with pytest.raises(RuntimeError, match="sparse"):
            make(getattr(optim, name))


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_a_tensor_as_learning_rate(case: Counterpart) -> None:
    lr = torch.tensor(0.1)
    p = torch.ones(3, requires_grad=True)
    optimizer = ours(case)([p], **{**case.base, "lr": lr})
    p.grad = torch.ones(3)
    optimizer.step()
    moved = (1 - p).detach().clone()
    lr.zero_()  # changed in place: the same object, another value
    before = p.detach().clone()
    optimizer.step()
    assert moved.abs().max() > 0
    assert torch.equal(p, before)


# What users do


def test_parameters_changed_between_forward_and_backward_raise_torchs_error() -> None:
    for name in optim.NAMES:
        w = torch.ones(3, requires_grad=True)
        optimizer = getattr(optim, name)([w], lr=0.1)
        w.grad = torch.ones(3)
        optimizer.step()
        loss = (w * w).sum()
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_moved_parameters_and_replaced_states_are_noticed() -> None:
    p = torch.ones(3, requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    p.grad = torch.ones(3)
    optimizer.step()
    optimizer.step()
    old = p.data
    p.data = torch.zeros(3)
    kept = old.clone()
    optimizer.step()
    assert torch.equal(old, kept)
    assert p[0] < 0
    optimizer.state[p]["momentum_buffer"] = torch.full((3,), 100.0)
    optimizer.step()
    assert p[0] < -8
    optimizer.state[p].clear()
    before = p.detach().clone()
    optimizer.step()
    assert torch.allclose(before - p, torch.full((3,), 0.1))
    optimizer.param_groups[0]["params"].append(torch.ones(2, requires_grad=True))
    optimizer.param_groups[0]["params"][1].grad = torch.ones(2)
    optimizer.step()
    assert optimizer.param_groups[0]["params"][1][0].item() == pytest.approx(0.9)


def test_groups_schedulers_hooks_closures_and_accumulation() -> None:
    def train(kind: type[torch.optim.Optimizer]) -> tuple[list[Tensor], list[str]]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        model[0].bias.requires_grad_(False)
        optimizer = kind([{"params": model[0].parameters(), "lr": 0.05}], lr=0.01)
        optimizer.add_param_group({"params": model[2].parameters(), "weight_decay": 0.1})
        calls: list[str] = []
        optimizer.register_step_pre_hook(lambda *a: calls.append("before"))
        optimizer.register_step_post_hook(lambda *a: calls.append("after"))
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.1, 0.05], total_steps=20, cycle_momentum=False)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        for k in range(15):
            x = torch.randn(8, 4)

            def closure() -> Tensor:
                optimizer.zero_grad(set_to_none=k % 2 == 0)  # noqa: B023
                for part in x.split(4):  # noqa: B023
                    (model(part).square().mean() / 2).backward()
                return model(x).square().mean()  # noqa: B023

            loss = optimizer.step(closure)
            assert loss is not None
            scheduler.step()
            plateau.step(float(loss.detach()))
        return [p.detach() for p in model.parameters()], calls

    for name in ("SGD", "Adam", "RMSprop", "RAdam"):
        a, calls = train(getattr(optim, name))
        b, _ = train(getattr(torch.optim, name))
        assert differences(a, b) <= CLASS_FLOAT32_RUN
        assert calls == ["before", "after"] * 15


SCHEDULERS: dict[str, Any] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda k: 0.9**k),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda k: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.3, 3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 4),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=2),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=12),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ExponentialLR(o, 0.9), lr_scheduler.ConstantLR(o, 0.5, 3)]
    ),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
}


def test_every_scheduler_of_torch_is_in_the_table() -> None:
    public = {n for n in lr_scheduler.__all__ if n not in ("LRScheduler", "SWALR")}
    assert public <= {*SCHEDULERS}, public - {*SCHEDULERS}


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=list(SCHEDULERS))
@pytest.mark.parametrize("name", ["Adam", "RMSprop", "SGD"])
def test_schedulers(name: str, make: Any, float64_default: None) -> None:
    """Those that cycle the momentum (or beta1) too; none compiles anything anew."""
    ends = []
    for module in (optim, torch.optim):
        p = torch.ones(3, requires_grad=True)
        optimizer = getattr(module, name)([p], lr=0.1, **({"momentum": 0.9} if name != "Adam" else {}))
        scheduler = make(optimizer)
        for k in range(10):
            p.grad = p.detach() * (1 + k % 3)
            optimizer.step()
            scheduler.step(
                *([float(p.detach().sum())] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else [])
            )
        ends.append(p.detach())
    assert differences([ends[0]], [ends[1]]) <= CLASS_FLOAT64


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
    assert differences(*ends) <= TORCH_NADAM_FLOAT32_PRODUCT


@pytest.mark.parametrize("case", thinned(COUNTERPARTS, 5, NAMES))
@pytest.mark.long
def test_float32_errs_as_torchs_where_parameters_are_small(case: Counterpart) -> None:
    """With the minimum at 0 a parameter can be smaller than its own step, and a state cancel: there torch's float32 is
    up to 70 ulp off as well. One step from the same state, both against float64: ours errs no more on the average."""
    off: list[list[Tensor]] = [[], []]
    for settings in case.settings():
        a = [p for p in parameters(torch.float32) if p.numel()]
        b = [p.detach().clone().requires_grad_() for p in a]
        mine, theirs = ours(case)(a, **settings), case.torch_class(b, **settings)
        rule = type(mine).rule  # type: ignore[attr-defined]
        for t in range(1, 61):
            set_gradients(a, t)
            if t > 1:
                theirs.load_state_dict(copy.deepcopy(mine.state_dict()))
            hypers = hypers_of(rule, mine.param_groups[0], beyond=mine._extras)  # type: ignore[attr-defined]
            exact, before = [], []
            for p, q in zip(a, b, strict=True):
                with torch.no_grad():
                    q.copy_(p)
                q.grad = p.grad
                state = mine.state[p]
                held = {
                    s.name: state[s.name].item() if s.per_tensor else state[s.name].double()
                    for s in rule.slots
                    if state.get(s.name) is not None
                }
                before.append(p.detach().double())
                exact.append(eager.step(rule, before[-1], p.grad.double(), held, t, hypers)[0])  # type: ignore[union-attr]
            mine.step()
            theirs.step()
            for found, params in zip(off, (a, b), strict=True):
                for p, old, new in zip(params, before, exact, strict=True):
                    largest = torch.maximum(old.abs(), new.abs()).clamp(min=1e-30)
                    ulp = 2.0**-23 * 2.0 ** torch.floor(torch.log2(largest))
                    found.append(((p.detach().double() - new) / ulp).flatten())
    rms = [torch.cat(found).square().mean().sqrt().item() for found in off]
    assert rms[0] <= SMALL_PARAMETERS_RMS * rms[1], rms


@pytest.mark.filterwarnings("ignore")  # torch.compile's own, of its version and machine
def test_inside_torch_compile() -> None:
    """The graph breaks at the step and nowhere deeper; the numbers are those of the plain loop."""
    ends = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = optim.Adam(model.parameters(), lr=0.1)

        def train() -> Tensor:
            optimizer.zero_grad()  # noqa: B023
            loss = model(torch.ones(4, 3)).square().mean()  # noqa: B023
            loss.backward()
            optimizer.step()  # noqa: B023
            return loss

        step = torch.compile(train, backend="eager") if compiled else train
        for _ in range(5):
            step()
        ends.append(model.weight.detach())
    assert torch.allclose(ends[0], ends[1], rtol=1e-6)


def test_tied_parameters_move_once() -> None:
    for kind in (optim.Adam, torch.optim.Adam):
        torch.manual_seed(0)
        a = nn.Linear(3, 3, bias=False)
        b = nn.Linear(3, 3, bias=False)
        b.weight = a.weight
        optimizer = kind(nn.ModuleList([a, b]).parameters(), lr=0.1)
        assert len(optimizer.param_groups[0]["params"]) == 1
        b(a(torch.ones(2, 3))).sum().backward()
        before = a.weight.detach().clone()
        optimizer.step()
        assert (before - a.weight).abs().max().item() == pytest.approx(0.1, rel=1e-4)


def test_grad_scaler() -> None:
    def train(kind: type[torch.optim.Optimizer]) -> Tensor:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = kind(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        for k in range(6):
            optimizer.zero_grad()
            loss = model(torch.ones(2, 3)).square().mean() * (float("inf") if k == 3 else 1.0)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        return model.weight.detach()

    assert torch.allclose(train(optim.Adam), train(torch.optim.Adam), rtol=1e-5)
    assert not train(optim.Adam).isnan().any()


def test_nothing_compiles_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one compilation per rule, variant and dtype: not for an lr, a scheduler, a step, another model."""
    from steprule.compiler import cache
    from steprule.optim import buckets as plan

    plan.kernel_for.cache_clear()
    built: list[str] = []
    load = cache.load
    monkeypatch.setattr(cache, "load", lambda kind, *rest: built.append(kind) or load(kind, *rest))
    for width in (3, 50, 400):
        model = nn.Sequential(nn.Linear(4, width), nn.Linear(width, 1))
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        for k in range(10):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.param_groups[0]["betas"] = (0.9 - k / 100, 0.99)
            optimizer.step()
            scheduler.step()
    assert built == ["adam_serial"]


def test_from_rule_and_the_constructors_errors() -> None:
    Mine = optim.from_rule("rmsprop_eps_inside")
    p = torch.ones(2, requires_grad=True)
    optimizer = Mine([p], lr=0.1, weight_decay=0.1)
    p.grad = torch.ones(2)
    optimizer.step()
    wanted, _, *_ = (*rules.rmsprop_eps_inside(1.0, 1.1, 0.0, lr=0.1), None)
    assert p[0].item() == pytest.approx(wanted, rel=1e-6)
    assert list(optimizer.state[p]) == ["step", "square_avg"]
    for bad, words in (({"lr": -1}, "lr"), ({"lrr": 1}, "Did you mean 'lr'"), ({"alpha": 1.0}, "alpha")):
        with pytest.raises(ValueError, match=words):
            Mine([p], **bad)
    for name in optim.NAMES:
        with pytest.raises((ValueError, TypeError)):
            getattr(optim, name)([p], lr=-1.0)
        with pytest.raises(ValueError, match="empty parameter list"):
            getattr(optim, name)([], lr=0.1)
    optimizer.backend = "cuda"  # type: ignore[assignment]
    optimizer._plans.clear()
    with pytest.raises(ValueError, match="one of auto, eager, numba"):
        optimizer.step()


# A rule whose numbers have the names that the classes use for something else.


@pytest.mark.parametrize(
    "name", ["self", "params", "betas", "zero_grad", "backend", "fused", "capturable", "differentiable"]
)
def test_a_hyperparameter_by_a_name_of_torchs_is_refused(name: str) -> None:
    space: dict[str, Any] = {}
    exec(f"def own(p, g, *, lr=0.1, {name}=2.0):\n    return p - lr * {name} * g", space)
    with pytest.raises(
        RuleError, match=f"rule own: expected a hyperparameter by a name .* got {name}. Call it otherwise"
    ):
        optim.from_rule(steprule.rule(space["own"]))


def test_a_slot_called_step_is_refused() -> None:
    @steprule.rule
    def own(p, g, step, *, lr=0.1):  # type: ignore[no-untyped-def]
        return p - lr * (step + g), step + g

    with pytest.raises(RuleError, match=r"state\['step'\] is the number of steps taken, got step"):
        optim.from_rule(own)


@steprule.rule
def borrowing(p, g, ema, *, lr=0.1, scaled=3.0, grad_scale=0.5, clip_norm=2.0, clip_value=7.0):  # type: ignore[no-untyped-def]
    """Numbers by the names of the parts, none of which means what the part means."""
    ema = 0.5 * ema + clip_value * g
    return p - lr * scaled * grad_scale * clip_norm * ema, ema


@steprule.rule
def named_as_decay(p, g, weight_decay, maximize, *, lr=0.1):  # type: ignore[no-untyped-def]
    """Slots by the names of the parts' hyperparameters."""
    weight_decay = weight_decay + g
    maximize = 2 * maximize + weight_decay
    return p - lr * maximize, weight_decay, maximize


@pytest.mark.parametrize("backend", ["numba", "eager"])
@pytest.mark.parametrize("rule", [borrowing, named_as_decay], ids=["hyperparameters", "slots"])
def test_a_rule_that_uses_the_names_of_parts(rule: rules.Rule, backend: str) -> None:
    """Its own numbers are meant; the part of that name is left out, and what would need it says so."""
    p = torch.ones(3, requires_grad=True)
    optimizer = optim.from_rule(rule)([p], backend=backend)
    wanted: Any = (1.0, *(0.0 for _ in rule.slots))
    for k in range(1, 4):
        p.grad = torch.full((3,), 0.01 * k)
        optimizer.step()
        wanted = rule(wanted[0], 0.01 * k, *wanted[1:])
        assert p.detach() == pytest.approx(wanted[0], rel=1e-5)
    if rule is borrowing:
        with (
            pytest.raises(InputError, match="ema_weights: expected an average of the weights"),
            optimizer.ema_weights(),
        ):
            pass
        with pytest.raises(
            InputError, match="fused_unscale: expected a rule without a scaled or grad_scale of its own"
        ):
            optim.from_rule(rule)([p], fused_unscale=True)


def test_clip_norm_measures_by_the_parts_that_the_rule_has() -> None:
    """A rule with a clip_value of its own meaning has no clip by value, so its gradients' norm is that of all of them."""

    @steprule.rule
    def own(p, g, *, lr=0.1, clip_value=1e-3):  # type: ignore[no-untyped-def]
        return p - lr * g + clip_value

    for backend in ("numba", "eager"):
        p = torch.zeros(4, requires_grad=True)
        p.grad = torch.full((4,), 5.0)
        optim.from_rule(own)([p], clip_norm=1.0, backend=backend).step()
        assert p.detach() == pytest.approx(-0.1 * 0.5 + 1e-3, rel=1e-5)


@pytest.mark.parametrize("name", ["lr", "weight_decay", "maximize", "eps"])
def test_a_missing_key_of_torchs_is_torchs_error(name: str) -> None:
    for module in (torch.optim, optim):
        p = torch.ones(3, requires_grad=True)
        optimizer = module.Adam([p])
        p.grad = torch.ones(3)
        optimizer.step()
        del optimizer.param_groups[0][name]
        with pytest.raises(KeyError, match=name):
            optimizer.step()


def test_numbers_are_counted_once(float64_default: None) -> None:
    """Each `step` is a tensor of its own, as torch's: saved alone, it brings nothing else along."""
    params = parameters()
    optimizer = optim.Adam(params)
    for t in range(1, 4):
        set_gradients(params, t)
        optimizer.step()
    steps = [optimizer.state[p]["step"] for p in params]
    assert [float(s) for s in steps] == [3.0] * len(params)
    assert all(s.shape == () for s in steps)
    assert len({s.untyped_storage().data_ptr() for s in steps}) == len(params)
    assert all(s.untyped_storage().nbytes() == s.element_size() for s in steps)


@pytest.mark.parametrize(
    ("dtype", "every"),
    [
        (torch.float32, True),
        (torch.float64, False),
        (torch.bfloat16, False),
        pytest.param(torch.float64, True, marks=pytest.mark.long),
        pytest.param(torch.bfloat16, True, marks=pytest.mark.long),
        pytest.param(torch.float16, True, marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("rule", thinned(rules.CATALOGUE.values(), 14, rules.names()))
def test_every_rule_of_the_catalogue_in_its_kernel(rule: Any, dtype: torch.dtype, every: bool) -> None:
    """The kernel against the eager form, every variant, over three steps; reductions and first uses included.

    Where not every variant, the plain one and that with all switches on.
    """
    variants = list(composed(rule).variants())
    for variant in variants if every else (variants[0], variants[-1]):
        hypers = {"lr": 0.05, **variant}
        kind = optim.from_rule(rule)
        shapes = [(40_000,), (3, 5), (1,), (0,), ()]
        results = []
        for backend in ("numba", "eager"):
            generator = torch.Generator().manual_seed(0)
            params = [(torch.randn(s, generator=generator) + 1).to(dtype).requires_grad_() for s in shapes]
            optimizer = kind(params, **hypers)  # type: ignore[call-arg]
            optimizer.backend = backend  # type: ignore[assignment]
            for t in range(1, 4):
                set_gradients(params, t, centre=1.0)
                optimizer.step()
            results.append((params, optimizer))
        (a, mine), (b, theirs) = results
        tolerance = {
            torch.float64: CLASS_FLOAT64,
            torch.float32: CLASS_FLOAT32_RUN,
            torch.bfloat16: CLASS_BFLOAT16_RUN,
            torch.float16: CLASS_BFLOAT16_RUN,
        }[dtype]
        assert differences([x.double() for x in a], [y.double() for y in b]) <= tolerance, variant
        for p, q in zip(a, b, strict=True):
            assert {k for k, v in mine.state[p].items() if v is not None} == {
                k for k, v in theirs.state[q].items() if v is not None
            }


def test_reductions_have_the_same_bits_serial_and_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    from steprule.compiler import numba_cpu as cpu

    results = []
    for below in (0, 10**9):
        monkeypatch.setattr(cpu, "SERIAL_BELOW", below)
        params = [torch.linspace(-1, 2, 100_003).requires_grad_(), torch.linspace(0, 1, 17).requires_grad_()]
        optimizer = optim.from_rule("lamb")(params, lr=0.1, weight_decay=0.01)  # type: ignore[call-arg]
        for t in range(3):
            set_gradients(params, t)
            optimizer.step()
        results.append(params)
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))
