"""Tensors that are not what they look like, and modes that change what tensors are made of: torch's numbers or torch's error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from compare import apart, states_apart
from contract import NAMES, REFERENCE, feed, in_child, make, only_ours, optim, parameter, train
from thinning import thinned
from tolerances import CLASS_BFLOAT16_RUN, CLASS_FLOAT32_FEW_STEPS, CLASS_FLOAT64, SUMMED32
from torch import Tensor, nn

EXTRAS: dict[str, dict[str, Any]] = {"plain": {}}
if not REFERENCE:
    EXTRAS |= {"zero_grad": {"zero_grad": True}, "clip_norm": {"clip_norm": 1e6}, "eager": {"backend": "eager"}}


def against_torch(
    name: str,
    start: Callable[[], nn.Parameter],
    gradient: Callable[[nn.Parameter, int], None],
    steps: int = 3,
    **extra: Any,
) -> None:
    """The same steps through our class and torch's in a child; parameter and states must agree."""

    def go() -> None:
        ends = []
        for module, given in ((optim, extra), (torch.optim, {})):
            p = start()
            optimizer = make(name, [p], module, **given)
            for t in range(steps):
                gradient(p, t)
                optimizer.step()
            ends.append((p.detach().resolve_neg().resolve_conj().clone(), optimizer.state[p]))
        (p, mine), (q, theirs) = ends
        assert apart(p, q) <= CLASS_FLOAT32_FEW_STEPS
        assert states_apart(mine, theirs) <= CLASS_FLOAT32_FEW_STEPS

    in_child(go)


# Gradients and parameters with lazy bits


def by_backward(function: Callable[[Tensor], Tensor]) -> Callable[[nn.Parameter, int], None]:
    def gradient(p: nn.Parameter, t: int) -> None:
        p.grad = None
        function(p).sum().backward()

    return gradient


def assigned(value: Callable[[nn.Parameter], Tensor]) -> Callable[[nn.Parameter, int], None]:
    def gradient(p: nn.Parameter, t: int) -> None:
        p.grad = value(p.detach())

    return gradient


def only_at_first(value: Callable[[nn.Parameter], Tensor]) -> Callable[[nn.Parameter, int], None]:
    """A plain gradient first, so that a plan stands, then the strange one, then plain again."""

    def gradient(p: nn.Parameter, t: int) -> None:
        p.grad = value(p.detach()) if t == 1 else torch.full_like(p.detach(), 0.25)

    return gradient


LAZY: dict[str, Callable[[nn.Parameter, int], None]] = {
    **{f: by_backward(getattr(torch, f)) for f in ("sgn", "sign", "round", "floor", "trunc", "ceil")},
    "no storage": assigned(lambda p: torch._efficientzerotensor(p.shape, dtype=p.dtype)),
    "no storage in mid-run": only_at_first(lambda p: torch._efficientzerotensor(p.shape, dtype=p.dtype)),
    "negative": assigned(lambda p: torch._neg_view(p * 0.5 + 1)),
    "negative in mid-run": only_at_first(lambda p: torch._neg_view(torch.ones_like(p))),
    "imaginary part of a conjugate": assigned(lambda p: torch.complex(p, p + 1).conj().imag),
    "through autograd": by_backward(lambda p: torch.complex(p, p * 2).conj().imag),
}


@pytest.mark.parametrize("gradient", LAZY.values(), ids=list(LAZY))
@pytest.mark.parametrize("name", NAMES)
def test_gradients_with_lazy_bits(name: str, gradient: Callable[[nn.Parameter, int], None]) -> None:
    against_torch(name, lambda: parameter(3, value=-0.7), gradient)


@only_ours
@pytest.mark.parametrize("extra", list(EXTRAS.values())[1:], ids=list(EXTRAS)[1:])
@pytest.mark.parametrize("which", ["sgn", "negative", "no storage in mid-run"])
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_gradients_with_lazy_bits_and_what_torch_lacks(name: str, which: str, extra: dict[str, Any]) -> None:
    against_torch(name, lambda: parameter(3, value=-0.7), LAZY[which], **extra)


def negative_parameter() -> nn.Parameter:
    p = nn.Parameter(torch.zeros(3))
    p.data = torch._neg_view(torch.tensor([1.0, -2.0, 3.0]))
    return p


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_with_a_negative_bit(name: str) -> None:
    against_torch(name, negative_parameter, assigned(lambda p: torch.tensor([0.5, 1.0, -0.25])))


@pytest.mark.parametrize("name", NAMES)
def test_a_conjugated_gradient(name: str) -> None:
    """torch's numbers; where torch refuses, torch's error or the number of the resolved gradient."""

    def go(module: Any, resolved: bool) -> Any:
        p = nn.Parameter(torch.tensor([1 + 2j, 3 - 1j]))
        optimizer = make(name, [p], module)
        for _ in range(2):
            g = torch.tensor([1 + 2j, 0.5 - 1j]).conj()
            p.grad = g.resolve_conj() if resolved else g
            optimizer.step()
        return p.detach()

    wanted = in_child(go, torch.optim, True)
    try:
        torchs = in_child(go, torch.optim, False)
    except RuntimeError:
        torchs = None
    try:
        mine = in_child(go, optim, False)
    except RuntimeError:
        assert torchs is None
        return
    assert apart(mine, wanted if torchs is None else torchs) <= CLASS_FLOAT32_FEW_STEPS


# Complex without dimensions


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=list(EXTRAS))
@pytest.mark.parametrize("name", NAMES)
def test_a_complex_parameter_without_dimensions(name: str, extra: dict[str, Any]) -> None:
    against_torch(
        name,
        lambda: nn.Parameter(torch.tensor(1 + 2j)),
        assigned(lambda p: p * 0.5 + 0.1j),
        steps=4,
        **(extra if "zero_grad" not in extra else {}),
    )


@pytest.mark.parametrize("shape", [(0,), (1,), (1, 1), (2, 0)])
@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_complex_parameters_of_odd_shapes(name: str, shape: tuple[int, ...]) -> None:
    against_torch(name, lambda: nn.Parameter(torch.full(shape, 1 + 2j)), assigned(lambda p: p * 0.5 + 0.1j), steps=4)


# The default device


@pytest.mark.parametrize("block", [True, False], ids=["with", "set_default_device"])
@pytest.mark.parametrize("name", NAMES)
def test_a_default_device_that_is_not_the_parameters(name: str, block: bool) -> None:
    """Constructor, first step, later steps, saving and loading all happen while tensors are made elsewhere by default."""

    def go() -> None:
        p, q = parameter(3), parameter(3)
        theirs = make(name, [q], torch.optim)
        train(theirs, 4)
        if block:
            with torch.device("meta"):
                mine = make(name, [p])
                train(mine, 2)
                mine.load_state_dict(mine.state_dict())
                train(mine, 2, start=2)
        else:
            torch.set_default_device("meta")
            mine = make(name, [p])
            train(mine, 2)
            mine.load_state_dict(mine.state_dict())
            train(mine, 2, start=2)
            torch.set_default_device(None)
        assert apart(p, q) <= CLASS_FLOAT32_FEW_STEPS
        assert {v.device.type for k, v in mine.state[p].items() if k not in ("step", "mu_product")} <= {"cpu"}

    # torch's NAdam and Adagrad make a number of theirs on the default device, and cannot step with it.
    if REFERENCE and name in meta_refused():
        with pytest.raises((RuntimeError, NotImplementedError, AssertionError)):
            in_child(go)
    else:
        in_child(go)


def meta_refused() -> set[str]:
    """torch's classes whose own step fails under a default device of meta."""

    def fails(name: str) -> bool:
        p = parameter(3)
        with torch.device("meta"):
            optimizer = make(name, [p], torch.optim)
            try:
                train(optimizer, 2)
                optimizer.load_state_dict(optimizer.state_dict())
                train(optimizer, 2)
            except (RuntimeError, NotImplementedError):
                return True
        return False

    return {n for n in NAMES if in_child(fails, n)}


# Fake tensors and meta tensors


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_fake_tensors(name: str) -> None:
    """Nothing is computed; shapes, dtypes and devices of the states are those of a true step."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    def go(module: Any) -> Any:
        with FakeTensorMode():
            model = nn.Linear(3, 2)
            optimizer = make(name, model.parameters(), module)
            for _ in range(2):
                model(torch.ones(4, 3)).sum().backward()
                optimizer.step()
                optimizer.zero_grad()
            return {
                k: (v.shape, v.dtype, v.device.type) for k, v in optimizer.state[model.weight].items() if v is not None
            }

    assert outcome(go, optim) == outcome(go, torch.optim)


def outcome(go: Callable[[Any], Any], module: Any) -> Any:
    """What a child says, or the kind of its error: torch's ASGD asks a tensor without memory for its number."""
    try:
        return in_child(go, module)
    except RuntimeError as error:
        if "_local_scalar_dense" in str(error) or "Tensor.item()" in str(error):
            return RuntimeError
        raise


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_meta_tensors(name: str) -> None:
    def go(module: Any) -> dict[str, Any]:
        p = nn.Parameter(torch.empty(3, 4, device="meta"))
        optimizer = make(name, [p], module)
        for _ in range(2):
            p.grad = torch.empty(3, 4, device="meta")
            optimizer.step()
        return {k: (v.shape, v.dtype, v.device.type) for k, v in optimizer.state[p].items() if v is not None}

    assert outcome(go, optim) == outcome(go, torch.optim)


# inference_mode


@only_ours
@pytest.mark.parametrize("name", NAMES)
def test_a_step_inside_inference_mode_leaves_states_that_go_on(name: str) -> None:
    """torch refuses the second step; here it goes on, and outside nothing is an inference tensor."""
    p, q = parameter(3), parameter(3)
    mine, theirs = make(name, [p], ema_decay=0.9), make(name, [q], torch.optim)
    with torch.inference_mode():
        p.grad = q.detach().clone() * 0.5
        mine.step()
    q.grad = q.detach().clone() * 0.5
    theirs.step()
    assert not any(v.is_inference() for v in mine.state[p].values())
    train(mine, 2)
    train(theirs, 2)
    assert apart(p, q) <= CLASS_FLOAT32_FEW_STEPS
    inside = p.detach().clone()
    with mine.ema_weights():
        assert not torch.equal(p, inside)
    assert torch.equal(p, inside)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_made_in_inference_mode(name: str) -> None:
    def gradient(p: nn.Parameter, t: int) -> None:
        with torch.inference_mode():
            g = p.detach() * 0.5 + t
        p.grad = None
        with torch.inference_mode():
            p.grad = g

    def torch_takes_it() -> bool:
        p = parameter(3)
        optimizer = make(name, [p], torch.optim)
        gradient(p, 0)
        optimizer.step()
        return True

    assert in_child(torch_takes_it)
    against_torch(name, lambda: parameter(3), gradient)


# Subclasses


class Marked(nn.Parameter):
    """A Parameter of a user's own type, as libraries make them to carry a note."""


class Renamed(nn.Parameter):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("kind", [Marked, Renamed])
@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_a_type_of_ones_own(name: str, kind: type[nn.Parameter]) -> None:
    def start() -> nn.Parameter:
        p = kind(torch.linspace(1, 2, 5))
        p.note = "mine"
        return p

    against_torch(name, start, assigned(lambda p: p.as_subclass(Tensor) * 0.5))


# Global settings of torch


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_mode(name: str) -> None:
    """Uninitialized memory is filled in that mode; nothing of it shows."""

    def go() -> None:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = True
        ends = []
        for module in (optim, torch.optim):
            p = parameter(3, 4)
            optimizer = make(name, [p], module)
            train(optimizer, 3)
            ends.append(p)
        assert apart(*ends) <= CLASS_FLOAT32_FEW_STEPS

    in_child(go)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", thinned(NAMES, 4))
def test_the_default_dtype(name: str, dtype: torch.dtype) -> None:
    def go() -> None:
        torch.set_default_dtype(dtype)
        ends = []
        for module in (optim, torch.optim):
            p = nn.Parameter(torch.linspace(1, 2, 6, dtype=torch.float32).to(dtype))
            optimizer = make(name, [p], module)
            train(optimizer, 3)
            ends.append((p, optimizer.state[p]))
        (p, mine), (q, theirs) = ends
        assert apart(p, q) <= (CLASS_FLOAT64 if dtype is torch.float64 else CLASS_BFLOAT16_RUN)
        assert {k: v.dtype for k, v in mine.items() if v is not None} == {
            k: v.dtype for k, v in theirs.items() if v is not None
        }

    in_child(go)


# An average in low precision


@only_ours
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", thinned(NAMES, 5))
def test_the_average_of_low_precision_weights_moves(name: str, dtype: torch.dtype) -> None:
    """It is kept in float32: of 2, 2, 2, ... from 1 it is 2 - 0.99^n, and in bfloat16 it would stand still."""
    p = nn.Parameter(torch.ones(2, dtype=dtype))
    optimizer = getattr(optim, name)([p], lr=0.0, ema_decay=0.999)
    p.grad = torch.zeros(2, dtype=dtype)
    optimizer.step()
    assert optimizer.state[p]["ema"].dtype is torch.float32
    p.data.fill_(2.0)
    for _ in range(300):
        optimizer.step()
    assert optimizer.state[p]["ema"][0].item() == pytest.approx(2 - 0.999**300, abs=SUMMED32)
    with optimizer.ema_weights():
        assert p.dtype is dtype
        assert p[0].item() == pytest.approx(2 - 0.999**300, rel=torch.finfo(dtype).eps)
    assert p[0].item() == 2
    saved = optimizer.state_dict()
    other = getattr(optim, name)([nn.Parameter(p.detach().clone())], lr=0.0, ema_decay=0.999)
    other.load_state_dict(saved)
    (held,) = other.state.values()
    assert held["ema"].dtype is torch.float32
    assert torch.equal(held["ema"], optimizer.state[p]["ema"])


# Smaller ones


@only_ours
@pytest.mark.parametrize("size", [2, 70_000])
@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_of_two_parameters_is_zeroed_after_its_last_reader(name: str, size: int) -> None:
    def go() -> None:
        torch.set_num_threads(1)
        g = torch.ones(size)
        a, b, c = (nn.Parameter(torch.zeros(size)) for _ in range(3))
        optimizer = make(name, [a, b], zero_grad=True)
        a.grad = b.grad = g
        optimizer.step()
        plain = make(name, [c], torch.optim)
        c.grad = torch.ones(size)
        plain.step()
        assert apart(a, c) <= CLASS_FLOAT32_FEW_STEPS
        assert apart(b, c) <= CLASS_FLOAT32_FEW_STEPS
        assert not g.any()

    in_child(go)


@only_ours
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_data_replaced_while_the_averages_are_in_the_parameters(dtype: torch.dtype) -> None:
    """The weights come back, the average stays: what was written to a parameter in the block is neither."""
    p = nn.Parameter(torch.zeros(2, dtype=dtype))
    optimizer = optim.SGD([p], lr=1.0, ema_decay=0.5)
    for _ in range(2):
        p.grad = torch.ones(2, dtype=dtype)
        optimizer.step()
    with optimizer.ema_weights():
        p.data = torch.full((2,), 10.0, dtype=dtype)
    assert p.tolist() == [-2.0, -2.0]
    assert optimizer.state[p]["ema"].tolist() == [-1.5, -1.5]


SPECIAL = {"inf": float("inf"), "-inf": -float("inf"), "nan": float("nan")}


@pytest.mark.parametrize("value", SPECIAL.values(), ids=list(SPECIAL))
@pytest.mark.parametrize("name", NAMES)
def test_what_one_gradient_that_is_not_finite_leaves(name: str, value: float) -> None:
    """Where torch's element is lost, ours is, and no neighbour with it."""
    ends = []
    for module in (optim, torch.optim):
        p = parameter(4)
        optimizer = make(name, [p], module)
        for t in range(4):
            p.grad = torch.full((4,), 0.5)
            if t == 1:
                p.grad[2] = value
            optimizer.step()
        ends.append(p.detach())
    assert ends[0].isfinite().tolist() == ends[1].isfinite().tolist()
    good = ends[1].isfinite()
    assert apart(ends[0][good], ends[1][good]) <= CLASS_FLOAT32_FEW_STEPS


@pytest.fixture(autouse=True)
def modes_are_left() -> Iterator[None]:
    before = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
    yield
    assert (torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()) == before
    assert torch.zeros(1).device.type == "cpu"


def test_feeding_is_what_it_says() -> None:
    """The helper's gradients depend on the step, so that a step with an old gradient shows."""
    p = parameter(2)
    found = []
    for t in range(3):
        feed([p], t)
        found.append(p.grad.tolist())
    assert len({*map(tuple, found)}) == 3
