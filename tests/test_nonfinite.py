"""Gradients with NaN or infinite elements: passed on, skipped or raised, beside an optimizer that was not called at those steps."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import pickle
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from thinning import thinned
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

import steprule
from steprule import optim
from steprule.errors import GradientError, InputError
from steprule.hyper import Rate
from steprule.maths import noise
from steprule.optim import scan
from steprule.optim.classes import class_of
from steprule.optim.constructors import OF_THE_OPTIMIZER

pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning"
)  # Triton's interpreter computes with numpy, which warns

BAD = {0: math.nan, 2: math.inf, 3: -math.inf}
"""By step what one element of one gradient is; the other steps are whole."""
STEPS = 6
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SHAPES: list[tuple[int, ...]] = [(3, 5), (7,), (), (2, 2)]

MATRIX: dict[str, tuple[str, dict[str, Any]]] = {
    "Adam": ("Adam", {"lr": 0.1}),
    "clipped": ("AdamW", {"lr": 0.1, "clip_norm": 0.5}),
    "clipped by value": ("SGD", {"lr": 0.1, "momentum": 0.9, "clip_value": 0.5}),
    "clipped both ways": ("AdamW", {"lr": 0.1, "clip_value": 0.5, "clip_norm": 0.5}),
    "averaged": ("Adagrad", {"lr": 0.1, "ema_decay": 0.9}),
    "kahan": ("AdamW", {"lr": 0.1, "rounding": "kahan"}),
    "by chance": ("SGD", {"lr": 0.1, "rounding": "stochastic", "seed": 5}),
    "Lion": ("Lion", {"lr": 0.1}),
    "matrices": ("Muon", {"lr": 0.1}),
    "totals": ("Prodigy", {"lr": 1.0}),
    "numbers of tensors": ("LAMB", {"lr": 0.1}),
    "two points": ("ScheduleFreeAdamW", {"lr": 0.1}),
    "states of float32": ("AdamW", {"lr": 0.1, "state_dtype": torch.float32}),
}

FORMS = [(kind, backend, "") for kind in MATRIX for backend in ("auto", "eager")]
FORMS += [("Adam", "auto", "python"), *((kind, "triton", "") for kind in ("Adam", "clipped", "averaged"))]
"""The interpreter is slow: three rows stand for all."""


def made(name: str, settings: dict[str, Any], dtype: torch.dtype, **more: Any) -> tuple[Any, list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shapes = [s for s in SHAPES if len(s) == 2] if name == "Muon" else SHAPES
    params: list[Tensor] = [nn.Parameter((torch.randn(s, generator=generator) + 1).to(dtype)) for s in shapes]
    return class_of(name)([{"params": params[:1]}, {"params": params[1:], "lr": 0.05}], **settings, **more), params


def feed(params: Sequence[Tensor], t: int, bad: float | None = None) -> None:
    generator = torch.Generator().manual_seed(t)
    for k, p in enumerate(params):
        p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        if bad is not None and k == len(params) - 1:
            p.grad.view(-1)[-1] = bad


def everything(optimizer: Any, params: Sequence[Tensor]) -> list[Tensor]:
    states = [optimizer.state.get(p, {}) for p in params]
    return [
        *(p.detach().clone() for p in params),
        *(v.clone() for s in states for v in s.values() if isinstance(v, Tensor)),
    ]


def versions(optimizer: Any, params: Sequence[Tensor]) -> list[int]:
    states = [v for p in params for v in optimizer.state.get(p, {}).values() if isinstance(v, Tensor)]
    return [t._version for t in (*params, *states)]


def alike(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return len(a) == len(b) and all([x.dtype is y.dtype and torch.equal(x, y) for x, y in zip(a, b, strict=True)])


@pytest.mark.parametrize(("kind", "backend", "look"), thinned(FORMS, 3))
def test_a_step_is_left_out_whole(kind: str, backend: str, look: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters, states, counts and versions of all groups are as if it had not been called: also at its first step."""
    name, settings = MATRIX[kind]
    if look == "python":
        monkeypatch.setattr(scan, "refusal", lambda: "STEPRULE_SCAN=python")
    dtype = torch.bfloat16 if kind in ("kahan", "by chance", "states of float32") else torch.float32
    optimizer, params = made(name, settings, dtype, nonfinite="skip", backend=backend)
    twin, twins = made(name, settings, dtype, backend=backend)
    for t in range(STEPS):
        feed(params, t, BAD.get(t))
        before, known = everything(optimizer, params), versions(optimizer, params)
        optimizer.step()
        if t in BAD:
            assert alike(everything(optimizer, params), before)
            assert versions(optimizer, params) == known
        else:
            feed(twins, t)
            twin.step()
        assert alike(everything(optimizer, params), everything(twin, twins)), t
    assert optimizer.skipped_steps == len(BAD)
    assert twin.skipped_steps == 0


@pytest.mark.parametrize("kind", thinned(MATRIX, 3))
def test_raising_names_the_parameter_and_writes_nothing(kind: str) -> None:
    name, settings = MATRIX[kind]
    optimizer, params = made(name, settings, torch.float32, nonfinite="raise")
    for t in range(2):
        before, known = everything(optimizer, params), versions(optimizer, params)
        feed(params, t, math.nan)
        words = rf"^\S+: the gradient of parameter {len(params) - 2} of group 1: expected finite elements, got 1 nan and 0 inf of 4\. "
        with pytest.raises(GradientError, match=words) as found:
            optimizer.step()
        assert "\n" not in str(found.value)
        assert isinstance(found.value, RuntimeError), "as torch's clip_grad_norm_ raises"
        assert alike(everything(optimizer, params), before)
        assert versions(optimizer, params) == known
        feed(params, t)
        optimizer.step()
    assert optimizer.skipped_steps == 0


def test_names_of_parameters_are_said() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = optim.AdamW(model.named_parameters(), nonfinite="raise")
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    model[1].weight.grad = torch.tensor([[math.inf, math.nan]])  # type: ignore[assignment]
    with pytest.raises(
        GradientError, match=r"AdamW: the gradient of 1\.weight: expected finite elements, got 1 nan and 1 inf of 2\."
    ):
        optimizer.step()


def test_passed_on_is_torchs_step() -> None:
    a, b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    for p, kind in ((a, optim.Adam), (b, torch.optim.Adam)):
        optimizer: Any = kind([p], lr=0.1)
        p.grad = torch.tensor([1.0, math.nan, 1.0])
        optimizer.step()
    assert a.isnan().tolist() == b.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(("dtype", "clip"), thinned(itertools.product(DTYPES, [0.0, 1.0]), 3))
def test_what_is_large_is_finite(dtype: torch.dtype, clip: float) -> None:
    """Also where its square is not, as the norm has it."""
    p = nn.Parameter(torch.ones(70_000, dtype=dtype))
    optimizer = optim.SGD([p], lr=1e-30, nonfinite="skip", clip_norm=clip)
    p.grad = torch.full_like(p, torch.finfo(dtype).max)
    optimizer.step()
    assert optimizer.skipped_steps == 0
    assert p._version == 1
    p.grad[-1] = math.inf
    optimizer.step()
    assert optimizer.skipped_steps == 1


def strange(kind: str) -> tuple[Tensor, Callable[[float], Tensor]]:
    """A parameter, and its gradient with this element."""
    shape = (4, 3)
    if kind == "complex":
        return nn.Parameter(torch.ones(shape, dtype=torch.complex64)), lambda x: torch.full(shape, complex(1, x))
    start = nn.Parameter(torch.ones(shape))
    whole = lambda x: torch.tensor([[1.0, 1.0, x]]).repeat(4, 1)  # noqa: E731
    if kind == "sparse":
        return start, lambda x: torch.sparse_coo_tensor(
            [[0, 2]], [[1.0] * 3, [1.0, x, 1.0]], shape, check_invariants=True
        )
    if kind == "transposed":
        return start, lambda x: whole(x).t().contiguous().t()
    if kind == "conjugated":
        return start, lambda x: torch._neg_view(whole(-x))
    return nn.Parameter(torch.ones(3).expand(4, 3)), whole


@pytest.mark.parametrize("kind", ["complex", "sparse", "transposed", "conjugated", "overlapping"])
def test_strange_gradients(kind: str) -> None:
    p, gradient = strange(kind)
    for how in ("skip", "raise"):
        optimizer = optim.SGD([p], lr=0.1, nonfinite=how)
        before = p.detach().clone()
        p.grad = gradient(math.nan)
        if how == "skip":
            optimizer.step()
        else:
            with pytest.raises(GradientError, match=r"SGD: the gradient of parameter 0 of group 0"):
                optimizer.step()
        assert torch.equal(p, before)
        if kind != "overlapping":  # whose step torch refuses
            p.grad = gradient(1.0)
            optimizer.step()
            assert not torch.equal(p, before)


def test_gradients_without_numbers_are_stepped() -> None:
    for mode in (FakeTensorMode(), torch.device("meta")):
        with mode:
            p = nn.Parameter(torch.ones(3))
            p.grad = torch.ones(3)
            optim.Adam([p], nonfinite="skip").step()
    q = nn.Parameter(torch.ones(3))
    q.grad = torch._efficientzerotensor(3)
    optimizer = optim.Adam([q], nonfinite="raise")
    optimizer.step()
    assert optimizer.state[q]["step"] == 1


def test_zero_grad_zeroes_what_was_skipped() -> None:
    """Else the next backward would add to it."""
    p = nn.Parameter(torch.ones(3))
    optimizer = optim.Adam([p], lr=0.1, nonfinite="skip", zero_grad=True)
    p.grad = torch.tensor([1.0, math.nan, 1.0])
    optimizer.step()
    assert torch.equal(p.grad, torch.zeros(3))
    assert torch.equal(p, torch.ones(3))
    assert not optimizer.state


def test_by_kind_is_one_step() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = steprule.by_kind(matrix="lion", other="adamw")(model, show=False, nonfinite="skip", clip_norm=1.0)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    model[2].bias.grad = torch.tensor([1.0, -math.inf])  # type: ignore[assignment]
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert alike(before, [p.detach() for p in model.parameters()])
    assert not optimizer.state


@pytest.mark.parametrize("name", ["sam", "noise"])
@pytest.mark.parametrize("at", [1, 2])
def test_rules_that_look(name: str, at: int) -> None:
    """A gradient is not finite at the first point or at the second; drawn noise is no gradient."""
    if name == "sam":
        kind = optim.from_rule("sam_sgd")
    else:
        kind = optim.from_rule(noisy)
    p = nn.Parameter(torch.ones(3))
    optimizer = kind([p], lr=0.1, nonfinite="skip")
    called = 0
    wrong = 0

    def closure() -> Tensor:
        nonlocal called
        called += 1
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        if called == wrong:
            p.grad[1] = math.nan  # type: ignore[index]
        return loss

    wrong = at if name == "sam" else 1
    before = p.detach().clone()
    optimizer.step(closure)
    assert called == wrong
    assert torch.equal(p, before)
    assert not any(optimizer.state.values())
    assert optimizer.skipped_steps == 1
    optimizer.step(closure)
    assert not torch.equal(p, before)


def test_closures_give_their_loss() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = optim.Adam([p], nonfinite="skip")

    def closure() -> Tensor:
        p.grad = torch.full((2,), math.inf)
        return torch.tensor(3.0)

    assert optimizer.step(closure) == 3.0
    assert optimizer.skipped_steps == 1


@pytest.mark.parametrize("fused", [False, True])
def test_beside_a_scaler(fused: bool) -> None:
    """The scaler skips before the step is asked, so nothing is raised; what it lets through is finite."""
    p = nn.Parameter(torch.ones(3))
    optimizer = optim.AdamW([p], lr=0.1, nonfinite="raise", fused_unscale=fused, clip_norm=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for x in (math.inf, 1.0):
        before = p.detach().clone()
        optimizer.zero_grad()
        scaler.scale((p * x).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(p, before) == (x == math.inf)
    assert scaler.get_scale() == 2.0


def test_the_choice_and_the_count_travel_and_checkpoints_have_neither() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = optim.Adam([p], nonfinite="skip")
    p.grad = torch.full((3,), math.nan)
    optimizer.step()
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert (other.nonfinite, other.skipped_steps) == ("skip", 1)
    assert optimizer.state_dict().keys() == torch.optim.Adam([p]).state_dict().keys()
    assert "nonfinite" not in optimizer.param_groups[0]


def test_the_choice_may_change_and_plans_are_kept() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer: Any = optim.Adam([p], lr=0.1, nonfinite="skip")
    p.grad = torch.ones(3)
    optimizer.step()
    plan = optimizer._plans[0]
    p.grad = torch.full((3,), math.nan)
    optimizer.step()
    assert optimizer._plans[0] is plan, "a skipped step costs no new plan"
    optimizer.nonfinite = "raise"
    with pytest.raises(GradientError):
        optimizer.step()
    optimizer.nonfinite = "pass"
    optimizer.step()
    assert p.isnan().all()


def test_what_is_refused() -> None:
    p = nn.Parameter(torch.ones(3))
    for kind in (optim.Adam, optim.Lion, optim.from_rule("lamb")):
        with pytest.raises(InputError, match=r"^nonfinite: expected one of pass, skip, raise, got 'ignore'$"):
            kind([p], nonfinite="ignore")
        assert "nonfinite" in inspect.signature(kind).parameters
    assert OF_THE_OPTIMIZER["nonfinite"] == optim.Adam([p]).nonfinite == "pass"
    hooked = optim.SGD([p], lr=0.1, nonfinite="skip")
    p.register_post_accumulate_grad_hook(lambda _: hooked.step())
    with pytest.raises(InputError, match=r"SGD: nonfinite: expected all gradients, got a step within backward\(\)\."):
        p.sum().backward()


@steprule.rule
def noisy(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    """Descent with noise."""
    return p - lr * (g + noise(p))


@pytest.mark.parametrize("chosen", ["rais", "Skip", None, True])
def test_a_wrong_choice_later_is_refused_by_name(chosen: Any) -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = optim.SGD([p], lr=0.1)
    optimizer.nonfinite = chosen
    p.grad = torch.tensor([1.0, math.nan])
    with pytest.raises(InputError, match=r"SGD.nonfinite: expected one of pass, skip, raise, got"):
        optimizer.step()
    assert p.tolist() == [1.0, 1.0]


def test_states_that_a_new_plan_replaced_are_let_go() -> None:
    p = nn.Parameter(torch.ones(5))
    optimizer = optim.Adam([p], lr=0.1, nonfinite="skip")
    p.grad = torch.ones(5)
    optimizer.step()
    held = [weakref.ref(v) for v in optimizer.state[p].values()]
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert [ref() for ref in held] == [None] * len(held)
