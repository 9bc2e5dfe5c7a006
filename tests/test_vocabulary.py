"""What a rule may say beyond arithmetic: ifs on the step, whole numbers, choices, slots that start at p or g; and what it may not."""

from __future__ import annotations

import copy
import json
import math
import shutil
import subprocess
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from thinning import thinned
from tolerances import FORMS_FLOAT32, ROUNDED32, ROUNDED64

import steprule
from steprule import optim, rule
from steprule.cli import main
from steprule.compiler import formula, javascript
from steprule.compiler.tracer import trace
from steprule.errors import InputError, InputTypeError, RuleError
from steprule.hyper import AbsentAtFirst, Decay, Each, Given, OffAtZero, OnePerTensor, Rate, StartsAt, Whole
from steprule.maths import max as largest, norm, size, sqrt, where

# Rules as a stranger writes them, each beside the same in plain torch.


@rule
def lookahead(p, g, slow: Annotated[Any, StartsAt("p")], *, lr: Rate = 0.1, every: Whole = 3, share: Decay = 0.5, t):  # type: ignore[no-untyped-def]
    p = p - lr * g
    if t % every == 0:
        slow = slow + share * (p - slow)
        p = slow
    return p, slow


def lookahead_in_torch(p: Any, grads: list[Any], lr: float, every: int, share: float) -> Any:
    slow = p.clone()
    for t, g in enumerate(grads, 1):
        p = p - lr * g
        if t % every == 0:
            slow = slow + share * (p - slow)
            p = slow.clone()
    return p


@rule
def warmed_up(p, g, m: Annotated[Any, StartsAt("g")], *, lr: Rate = 0.1, beta: Decay = 0.8, t):  # type: ignore[no-untyped-def]
    m = beta * m + (1 - beta) * g
    if t < 3:
        return p - lr * (t / 3) * m, m
    if t == 4:
        lr = 0.5 * lr
    return p - lr * m, m


def warmed_up_in_torch(p: Any, grads: list[Any], lr: float, beta: float) -> Any:
    m = grads[0].clone()
    for t, g in enumerate(grads, 1):
        m = beta * m + (1 - beta) * g
        later = 0.5 if t == 4 else 1.0
        p = p - lr * (t / 3 if t < 3 else later) * m
    return p


@rule
def decayed(  # type: ignore[no-untyped-def]
    p, g, *, lr: Rate = 0.1, wd: Rate = 0.2, mode: Literal["l2", "decoupled"] = "l2", k: int = 2
):
    if mode == "l2":
        g = g + wd * p
    for _ in range(k):
        g = g / sqrt(1 + g * g)
    return (p if mode == "l2" else p * (1 - lr * wd)) - lr * g


def decayed_in_torch(p: Any, grads: list[Any], lr: float, wd: float, mode: str, k: int) -> Any:
    for g in grads:
        g = g + wd * p if mode == "l2" else g
        for _ in range(k):
            g = g / torch.sqrt(1 + g * g)
        p = (p if mode == "l2" else p * (1 - lr * wd)) - lr * g
    return p


@rule
def by_largest(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g / (largest(abs(g)) + norm(g) / sqrt(size(g)) + 1e-3)


def by_largest_in_torch(p: Any, grads: list[Any], lr: float) -> Any:
    for g in grads:
        p = p - lr * g / (g.abs().max() + torch.linalg.vector_norm(g) / math.sqrt(g.numel()) + 1e-3)
    return p


BESIDE = [
    (lookahead, lookahead_in_torch, {"lr": 0.07, "every": 2, "share": 0.3}),
    (warmed_up, warmed_up_in_torch, {"lr": 0.07, "beta": 0.6}),
    (decayed, decayed_in_torch, {"lr": 0.07, "wd": 0.4, "mode": "l2", "k": 3}),
    (decayed, decayed_in_torch, {"lr": 0.07, "wd": 0.4, "mode": "decoupled", "k": 1}),
    (by_largest, by_largest_in_torch, {"lr": 0.07}),
]


def gradients(shape: tuple[int, ...], count: int = 7) -> list[Any]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize("backend", ["eager", "numba", "triton"])
@pytest.mark.parametrize(("ours", "theirs", "hypers"), BESIDE)
def test_beside_the_same_in_torch(ours: Any, theirs: Any, hypers: Any, backend: str) -> None:
    """Over two tensors, saved and loaded in the middle."""
    starts = [torch.linspace(-1, 2, 7, dtype=torch.float64), torch.ones(3, 5, dtype=torch.float64)]
    params = [s.clone().requires_grad_() for s in starts]
    optimizer = optim.from_rule(ours)(params, **hypers, backend=backend)
    for t in range(7):
        if t == 3:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = optim.from_rule(ours)(params, **hypers, backend=backend)
            optimizer.load_state_dict(saved)
        for p in params:
            p.grad = gradients(p.shape)[t].clone()
        optimizer.step()
    for p, start in zip(params, starts, strict=True):
        wanted = theirs(start, gradients(p.shape), **hypers)
        torch.testing.assert_close(p.detach(), wanted, rtol=ROUNDED64, atol=ROUNDED64)


@pytest.mark.parametrize(("ours", "theirs", "hypers"), thinned(BESIDE, 3))
def test_lanes_go_the_way_of_their_own_numbers(ours: Any, theirs: Any, hypers: Any) -> None:
    """A lane is a solo run, whichever engine takes it, also where lanes differ in whole numbers and choices."""
    other = {"every": 4, "k": 2, "mode": "l2"}
    points = {n: [v, other.get(n, 0.5 * v if isinstance(v, float) else v)] for n, v in hypers.items()}
    printed, batched = (
        steprule.sweep(ours, "airfoil-linear", points, epochs=1, compile=way).train.ravel() for way in (True, False)
    )
    solo = [
        steprule.train(ours, "airfoil-linear", epochs=1, **{n: v[k] for n, v in points.items()}).losses[-1]
        for k in range(2)
    ]
    np.testing.assert_allclose(printed, solo, rtol=FORMS_FLOAT32)
    np.testing.assert_allclose(batched, solo, rtol=FORMS_FLOAT32)


def test_an_if_on_the_step_is_one_program() -> None:
    """It is told both ways, and the formula says which holds when."""
    assert formula.text(trace(lookahead)).splitlines()[1] == "p = where(t % 3 == 0, p_new, p - lr * g)"
    shown = formula.latex(trace(lookahead))
    # The parameter of one way has a letter of its own, for the other way still reads the old one.
    assert shown[0].startswith(r"\theta'_{t} = \mathrm{slow}_{t-1} +")
    assert shown[1] == (
        r"\theta_{t} = \begin{cases} \theta'_{t} & \text{if } t \bmod 3 = 0 \\ \theta_{t-1} - \eta \, g_{t} & \text{otherwise} \end{cases}"
    )


def test_an_if_on_a_number_of_the_step_may_differ_from_lane_to_lane() -> None:
    @rule
    def until(p, g, *, lr: Rate = 0.1, last: Rate = 4.0, t):  # type: ignore[no-untyped-def]
        return p - lr * g if t <= last else p

    found = steprule.sweep(until, "airfoil-linear", {"lr": 0.01, "last": [0.0, 2.0, 5.0]}, epochs=1)
    solo = [steprule.train(until, "airfoil-linear", epochs=1, lr=0.01, last=v).losses[-1] for v in (0.0, 2.0, 5.0)]
    np.testing.assert_allclose(found.train.ravel(), solo, rtol=FORMS_FLOAT32)
    assert len(set(solo)) == 3


def test_numpys_own_numbers_are_numbers() -> None:
    two, threshold = np.float64(2.0), np.float32(0.5)

    @rule
    def scaled(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - two * lr * g * (g > threshold) / np.float64(4.0)

    assert scaled(1.0, 1.0) == pytest.approx(0.95, rel=ROUNDED64)
    assert formula.text(trace(scaled)).startswith("p = p - 2.0 * lr * g")


def test_three_betas() -> None:
    @rule
    def three(p, g, *, lr: Rate = 0.1, beta1: Decay = 0.1, beta2: Decay = 0.2, beta3: Decay = 0.3):  # type: ignore[no-untyped-def]
        return p - lr * g * (beta1 + 10 * beta2 + 100 * beta3)

    p = torch.zeros(2, requires_grad=True)
    p.grad = torch.ones(2)
    optimizer = optim.from_rule(three)([{"params": [p], "beta2": 0.5}], lr=1.0, betas=(0.3, 0.4, 0.6))
    assert optimizer.param_groups[0]["betas"] == (0.3, 0.5, 0.6)
    optimizer.step()
    assert p.tolist() == pytest.approx([-65.3, -65.3], rel=ROUNDED32)
    with pytest.raises(InputTypeError, match=r"betas: expected three numbers, got \(0.1, 0.2\)"):
        optim.from_rule(three)([p], betas=(0.1, 0.2))
    with pytest.raises(InputError, match="beta3: expected a number in"):
        optim.from_rule(three)([p], betas=(0.1, 0.2, 1.5))


def test_a_choice_changed_in_a_group_is_obeyed() -> None:
    p = torch.full((2,), 2.0, dtype=torch.float64, requires_grad=True)
    optimizer = optim.from_rule(decayed)([p], lr=0.1, wd=0.5, mode="l2", k=1)
    p.grad = torch.ones(2, dtype=torch.float64)
    for mode, k in (("l2", 1), ("decoupled", 1), ("decoupled", 2)):
        optimizer.param_groups[0].update(mode=mode, k=k)
        wanted = decayed_in_torch(p.detach().clone(), [p.grad], 0.1, 0.5, mode, k)
        optimizer.step()
        torch.testing.assert_close(p.detach(), wanted, rtol=ROUNDED64, atol=0)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("mode", "x", "expected one of 'l2', 'decoupled', got 'x'"),
        ("mode", 3, "expected one of 'l2', 'decoupled', got 3"),
        ("k", 1.5, "expected a whole number in .*got 1.5"),
        ("k", "two", "expected a whole number"),
    ],
)
def test_a_wrong_choice_or_whole_number_is_refused(name: str, value: Any, said: str) -> None:
    with pytest.raises((InputError, InputTypeError), match=said):
        decayed.bind({name: value})


def test_as_typed_on_a_command_line() -> None:
    assert decayed.hyper("mode").parse("decoupled", "decayed") == "decoupled"
    assert decayed.hyper("k").parse("3", "decayed") == 3
    assert type(decayed.hyper("k").parse("3", "decayed")) is int


# What is refused, at the author's line.


def refused(body: Any) -> str:
    with pytest.raises(RuleError) as error:
        trace(rule(body))
    text = str(error.value)
    first = body.__code__.co_firstlineno
    assert any(f"test_vocabulary.py:{line}:" in text for line in range(first, first + 4))
    assert "\n" not in text
    return text


def numpys_root(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * np.sqrt(g)


def numpys_clip(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * np.clip(g, 0, 1)


def maths_root(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * math.sqrt(g)


def torchs_tanh(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * torch.tanh(g)


def pythons_max(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * max(abs(g))


def rest_of_elements(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * (g % 2)


def equal_elements(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * where(g == 0, 1.0, g)


def an_if_on_elements(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g if g > 0 else p


def python_and(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g * ((g > 0) and (p > 0))


def an_if_on_a_norm(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g if norm(g) > 1 else p


def a_number_joined(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g * ((g > 0) & g)


def a_loop_on_the_step(p, g, *, lr: Rate = 0.1, t):  # type: ignore[no-untyped-def]
    while t > 0:  # pragma: no branch
        t = t - 1
    return p - lr * g


def exclusive_or(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g * ((g > 0) ^ (p > 0))


def numel_of(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g / g.numel()


def a_method(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g.abs()


def transposed(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g.T


def in_a_set(p, g, *, lr: Rate = 0.1, t):  # type: ignore[no-untyped-def]
    return p - lr * g * (2 if t in {1, 3} else 1)


def asked_for(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g / (p.numel() if hasattr(p, "numel") else 1)


def caught(p, g, *, lr: Rate = 0.1, t):  # type: ignore[no-untyped-def]
    try:
        lr = lr * int(t)
    except Exception:  # noqa: BLE001
        lr = 100 * lr
    return p - lr * g


def too_large(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * g * 10**400


def a_fraction(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return p - lr * Fraction(1, 3) * g


def largest_of_two(p, g, *, lr: Rate = 0.1, t):  # type: ignore[no-untyped-def]
    return p - lr * g * largest(t, 5)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (in_a_set, r"Write if t in \(1, 3\)"),
        (asked_for, "got the attribute .numel"),
        (caught, "A hyperparameter for range"),
        (too_large, "numbers that a float64 holds, got a whole number of 1329 bits"),
        (a_fraction, "got a Fraction in mul"),
        (largest_of_two, r"Of two, write maximum\(a, b\)"),
        (numel_of, r"got the attribute .numel. Write size\(p\)"),
        (a_method, r"got the attribute .abs. Write abs\(p\)"),
        (transposed, "expected shapes that broadcast, got - of rows x columns and columns x rows"),
        (numpys_root, "got numpy's sqrt on a symbol"),
        (numpys_clip, "got numpy's clip on a symbol"),
        (maths_root, "expected a function of steprule.maths"),
        (torchs_tanh, "expected a function of steprule.maths, got a function of torch"),
        (pythons_max, "import those of steprule.maths"),
        (rest_of_elements, "expected % on hyperparameters and the step number t alone, got % on an element"),
        (equal_elements, "equality of floats is decided by their rounding"),
        (an_if_on_elements, "which differs from element to element"),
        (python_and, "& | ~ join conditions"),
        (an_if_on_a_norm, "from tensor to tensor"),
        (a_number_joined, "got a number as an operand of &"),
        (a_loop_on_the_step, "or a loop on one"),
        (exclusive_or, "&, \\| and ~ on truth values"),
    ],
)
def test_refused_in_one_line(body: Any, said: str) -> None:
    import re

    assert re.search(said, refused(body))


def test_a_slot_that_is_none_after_one_way_only() -> None:
    def some_steps(p, g, z: Annotated[Any, AbsentAtFirst()], *, lr: Rate = 0.1, t):  # type: ignore[no-untyped-def]
        if t > 3:
            z = g
        return p - lr * g, z

    assert "a slot z that is None after one step and not after another" in refused(some_steps)


@pytest.mark.parametrize(
    ("annotation", "default", "said"),
    [
        (str, "c", "Write mode: Literal"),
        (Literal["a", "b"], "c", r"expected a default of \['a', 'b'\], got 'c'"),
        (int, 1.5, "expected a whole number as default, got 1.5"),
        (float, None, "expected a number or a bool as default, got None"),
    ],
)
def test_a_default_that_its_annotation_does_not_allow(annotation: Any, default: Any, said: str) -> None:
    def ruled(p, g, *, mode=default):  # type: ignore[no-untyped-def]
        return p - g

    ruled.__annotations__ = {"mode": annotation}
    with pytest.raises(RuleError, match=said):
        rule(ruled)


@pytest.mark.parametrize("start", ["2*lr", "nothing", "k"])
def test_a_slot_starts_at_a_number_a_hyperparameter_p_or_g(start: str) -> None:
    def ruled(p, g, z, *, lr: Rate = 0.1, k: Whole = 2):  # type: ignore[no-untyped-def]
        return p - lr * g, z

    ruled.__annotations__["z"] = Annotated[Any, StartsAt(start)]
    with pytest.raises(RuleError, match="to start at a number or at one of p, g, lr, got"):
        rule(ruled)


def test_one_number_a_tensor_follows_the_step() -> None:
    @rule
    def counted(p, g, n: Annotated[float, OnePerTensor(0.0)], *, lr: Rate = 0.1, t):  # type: ignore[no-untyped-def]
        if t % 2 == 1:
            n = n + 1
        return p - lr * n * g, n

    p = torch.zeros(2, requires_grad=True)
    optimizer = optim.from_rule(counted)([p], lr=1.0)
    for _ in range(5):
        p.grad = torch.ones(2)
        optimizer.step()
    assert p.tolist() == [-(1 + 1 + 2 + 2 + 3)] * 2


def test_marks_may_stand_alone() -> None:
    @rule
    def bare(
        p, g, slow: StartsAt("p"), n: OnePerTensor(1.0), b: AbsentAtFirst(), *, mu: OffAtZero() = 0.0, x: Given() = 1.0
    ):  # type: ignore
        return p - g, slow, n, b

    assert [(s.first, s.per_tensor, s.absent_at_first, s.start) for s in bare.slots] == [
        ("p", False, True, 0.0),
        ("", True, False, 1.0),
        ("", False, True, 0.0),
    ]
    assert bare.hyper("mu").off_at_zero
    assert bare.hyper("x").given == Given()


@pytest.mark.parametrize("source", ["*, t: float = 4.0", "t", "t, *, lr: float = 0.1"])
def test_t_is_the_step_number_and_nothing_else(source: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"def ruled(p, g, {source}): return p", scope)
    with pytest.raises(RuleError, match="t as the step number"):
        rule(scope["ruled"])


def test_rests_are_pythons_in_every_form() -> None:
    """Of fractions, of numbers below zero, of numbers on either side."""

    @rule
    def cyclic(p, g, *, lr: Rate = 0.1, width: float = 0.1, back: float = -0.7, t):  # type: ignore[no-untyped-def]
        return p - lr * g * ((t % width) + (t // width) + (t % back) + (back // t) + 7 % t)

    def by_hand(t: int) -> float:
        return -0.1 * ((t % 0.1) + (t // 0.1) + (t % -0.7) + (-0.7 // t) + 7 % t)

    for t in range(1, 9):
        assert cyclic(0.0, 1.0, t=t) == pytest.approx(by_hand(t), rel=ROUNDED64)
        assert cyclic(np.zeros(2), np.ones(2), t=t)[0] == pytest.approx(by_hand(t), rel=ROUNDED64)
    for backend in ("eager", "numba", "triton"):
        p = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        p.grad = torch.ones(2, dtype=torch.float64)
        optim.from_rule(cyclic)([p], backend=backend).step()
        assert p[0].item() == pytest.approx(by_hand(1), rel=ROUNDED64)
    if node := shutil.which("node"):
        program = javascript.source(trace(cyclic))
        calls = "".join(
            f"console.log(cyclic([0],[1],{{}},{{lr:0.1,width:0.1,back:-0.7}},{t}).p[0]);" for t in range(1, 9)
        )
        said = subprocess.run([node, "-e", program + ";" + calls], capture_output=True, text=True, check=True).stdout
        assert [float(line) for line in said.split()] == pytest.approx([by_hand(t) for t in range(1, 9)], rel=ROUNDED64)


def test_not_of_joined_truths_in_every_kernel() -> None:
    @rule
    def joined(p, g, *, lr: Rate = 0.1, t):  # type: ignore[no-untyped-def]
        return p - lr * where(~((g > 0) | (t > 3)), 1.0, 2.0) * where(~(~(g > 0) & (norm(g) > 0)), 1.0, 3.0)

    ends = []
    for backend in ("eager", "numba", "triton"):
        p = torch.zeros(3, requires_grad=True)
        p.grad = torch.tensor([1.0, -1.0, 2.0])
        optim.from_rule(joined)([p], backend=backend).step()
        ends.append(p.tolist())
    assert ends[0] == pytest.approx([-0.2, -0.3, -0.2], rel=ROUNDED32)
    assert ends[1] == ends[0] == ends[2]


def test_a_way_that_no_step_goes_is_not_traced() -> None:
    """By bounds, and by what earlier ifs were told."""

    @rule
    def guarded(p, g, *, lr: Rate = 0.1, beta: Decay = 0.9, k: int = 12, t):  # type: ignore[no-untyped-def]
        assert 0 <= beta < 1
        if t < 3:
            w = 1.0
        if t >= 3:
            w = 2.0
        for i in range(k):
            if t > i:
                w = w + 1
        return p - lr * w * beta * g

    ends = []
    for backend in ("eager", "numba"):
        p = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = optim.from_rule(guarded)([p], backend=backend)
        for _ in range(14):
            p.grad = torch.ones(1, dtype=torch.float64)
            optimizer.step()
        ends.append(p.item())
    assert ends[0] == pytest.approx(ends[1], rel=ROUNDED64)


@pytest.mark.parametrize("backend", ["eager", "numba"])
def test_a_groups_values_are_taken_as_pythons(backend: str) -> None:
    p = torch.ones(3, requires_grad=True)
    p.grad = torch.ones(3)
    optimizer = optim.from_rule(decayed)([p], k=2.0, backend=backend)
    assert optimizer.param_groups[0]["k"] == 2
    optimizer.param_groups[0].update(k=np.int64(3), lr=np.array(0.1))
    optimizer.step()
    wanted = decayed_in_torch(torch.ones(3), [torch.ones(3)], 0.1, 0.2, "l2", 3)
    torch.testing.assert_close(p.detach(), wanted, rtol=ROUNDED64, atol=0)
    optimizer.param_groups[0]["mode"] = "typo"
    with pytest.raises(InputError, match="expected one of 'l2', 'decoupled', got 'typo'"):
        optimizer.step()


# A family of slots.


@rule
def aggmo(p, g, *buffers: Each("betas"), lr: Rate = 0.1, betas: tuple[Decay, ...] = (0.0, 0.9, 0.99)):  # type: ignore
    new = [beta * b + g for beta, b in zip(betas, buffers, strict=True)]
    return p - lr * sum(new) / len(new), *new


def test_a_family_of_slots() -> None:
    """AggMo (Lucas et al., 2019): one buffer for each decay."""
    assert [s.name for s in aggmo.slots] == ["buffers1", "buffers2", "buffers3"]
    assert list(aggmo.defaults) == ["lr", "beta1", "beta2", "beta3"]
    params = [torch.ones(5, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    backends = ("eager", "numba", "triton")
    optimizers = [
        optim.from_rule(aggmo)([p], lr=0.2, betas=(0.1, 0.5, 0.7), backend=b)
        for p, b in zip(params, backends, strict=True)
    ]
    wanted, buffers = torch.ones(5, dtype=torch.float64), [torch.zeros(5, dtype=torch.float64)] * 3
    for g in gradients((5,)):
        for p, optimizer in zip(params, optimizers, strict=True):
            p.grad = g.clone()
            optimizer.step()
        buffers = [b * held + g for b, held in zip((0.1, 0.5, 0.7), buffers, strict=True)]
        wanted = wanted - 0.2 * sum(buffers) / 3
        for p, optimizer in zip(params, optimizers, strict=True):
            torch.testing.assert_close(p.detach(), wanted, rtol=ROUNDED64, atol=ROUNDED64)
            torch.testing.assert_close(optimizer.state[p]["buffers2"], buffers[1], rtol=ROUNDED64, atol=ROUNDED64)
    points = {"lr": [0.01, 0.02], "beta2": [0.3, 0.8]}
    printed, batched = (
        steprule.sweep(aggmo, "airfoil-linear", points, epochs=1, compile=c).train for c in (True, False)
    )
    np.testing.assert_allclose(printed, batched, rtol=FORMS_FLOAT32)


@pytest.mark.long
@pytest.mark.parametrize("what", [lookahead, warmed_up, decayed, by_largest, aggmo], ids=lambda r: r.name)
def test_the_judge_passes_them(what: Any) -> None:
    report = steprule.check(what)
    assert report.passed, str(report)
    assert set(report.forms.values()) - {"the rule reduces over a tensor"} == {"run"}


def test_a_family_that_names_no_tuple_is_refused() -> None:
    def ruled(p, g, *buffers: Each("decays"), lr: Rate = 0.1, betas: tuple[Decay, ...] = (0.0, 0.9)):  # type: ignore
        return p, *buffers

    with pytest.raises(RuleError, match=r"expected Each of a hyperparameter that is a tuple \(betas\), got decays"):
        rule(ruled)

    def nameless(p, g, *slots, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p, *slots

    with pytest.raises(RuleError, match="every slot and hyperparameter by name"):
        rule(nameless)


def test_a_sweep_over_whole_numbers_and_betas(capsys: pytest.CaptureFixture[str]) -> None:
    together = steprule.sweep(aggmo, "airfoil-linear", {"lr": 0.01, "betas": (0.1, [0.2, 0.3], 0.4)}, epochs=1)
    apart = {"lr": 0.01, "beta1": 0.1, "beta2": [0.2, 0.3], "beta3": 0.4}
    np.testing.assert_array_equal(together.train, steprule.sweep(aggmo, "airfoil-linear", apart, epochs=1).train)
    with pytest.raises(InputTypeError, match="betas: expected 3 numbers"):
        steprule.sweep(aggmo, "airfoil-linear", {"betas": (0.1, 0.2)}, epochs=1)
    command = ["sweep", f"{__file__}:lookahead", "--on", "airfoil-linear", "--vary", "every=1..4", "--points", "4"]
    assert main([*command, "--epochs", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["hypers"]["every"]
    assert all(value == int(value) and 1 <= value <= 4 for value in found)
    assert len(set(found)) > 1
    assert main(["sweep", f"{__file__}:decayed", "--vary", "mode=1..2"]) == 2
    assert "one of 'l2', 'decoupled'. Write --set" in capsys.readouterr().err
