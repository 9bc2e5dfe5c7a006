"""Rules that look twice as strangers write and call them: looks that shapes or states decide, odd closures, odd points."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import all_apart, apart
from tolerances import CLASS_FLOAT64, LANE_AGAINST_SOLO
from torch import Tensor, nn

import steprule
from steprule import optim, rules
from steprule.cli import main
from steprule.compiler.variant import variant_of
from steprule.errors import InputError, InputTypeError, RuleError, UnknownNameError
from steprule.hyper import AbsentAtFirst, Looks, MomentumBuffer, Rate
from steprule.maths import ndim
from steprule.rules import rule

BACKEND = pytest.mark.parametrize("backend", ["numba", "eager"])


@rule
def matrices_look(p, g, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
    if ndim(p) > 1:
        g = gradient(p - lr * g)
    return p - lr * g


@rule
def vectors_look(p, g, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
    if ndim(p) == 1:
        g = gradient(p - lr * g)
    return p - lr * g


@rule
def first_looks(p, g, anchor: MomentumBuffer, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
    if anchor is None:
        anchor = gradient(p - lr * g)
    return p - lr * (g + anchor), anchor


@rule
def caught(p, g, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
    try:
        g = gradient(p - lr * g)
    except Exception:  # noqa: BLE001
        g = 0.0 * g
    return p - lr * g


DECIDED = pytest.mark.parametrize("own", [matrices_look, vectors_look, first_looks, caught], ids=lambda r: r.name)


def by_hand(own: rules.Rule, p: Tensor, steps: int, lr: float) -> tuple[Tensor, int]:
    """Of half the square of p, whose gradient is p itself; and whether a step looks."""
    anchor, looked = None, 0
    for _ in range(steps):
        there = p - lr * p
        if own is first_looks:
            looked += anchor is None
            anchor = there if anchor is None else anchor
            p = p - lr * (p + anchor)
        else:
            looks = {"matrices_look": p.ndim > 1, "vectors_look": p.ndim == 1, "caught": True}[own.name]
            looked += looks
            p = p - lr * (there if looks else p)
    return p, looked


def bowls(params: list[Tensor], optimizer: torch.optim.Optimizer, counted: list[int]) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        counted[0] += 1
        optimizer.zero_grad()
        loss = torch.stack([(p**2).sum() / 2 for p in params]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


@DECIDED
@BACKEND
def test_shapes_and_absent_states_may_decide_a_look(own: rules.Rule, backend: str) -> None:
    starts = [torch.tensor([[3.0, -4.0]], dtype=torch.float64), torch.tensor([1.0, 2.0], dtype=torch.float64)]
    params = [p.clone().requires_grad_() for p in starts]
    optimizer, counted = optim.from_rule(own)(params, lr=0.1, backend=backend), [0]
    for _ in range(3):
        optimizer.step(bowls(params, optimizer, counted))
    found = [by_hand(own, p, 3, 0.1) for p in starts]
    assert counted[0] == 3 + max(looked for _, looked in found)
    for p, (wanted, _) in zip(params, found, strict=True):
        assert (p - wanted).abs().max() <= CLASS_FLOAT64
    for p, (wanted, _) in zip(starts, [by_hand(own, p, 1, 0.1) for p in starts], strict=True):
        found_there = own(p, p, lr=0.1, gradient=lambda q: q)
        new = found_there[0] if isinstance(found_there, tuple) else found_there
        assert (new - wanted).abs().max() <= CLASS_FLOAT64, "called on numbers"


@DECIDED
def test_lanes_take_such_looks_too(own: rules.Rule) -> None:
    how: dict[str, Any] = {"epochs": 1, "batch_size": 50}
    found = steprule.sweep(own, "airfoil", {"lr": [0.003, 0.03]}, **how)
    for k, rate in enumerate((0.003, 0.03)):
        for alone in (own, optim.from_rule(own)):
            loss = steprule.train(alone, "airfoil", 0, **how, lr=rate).final_loss
            assert found.train[k, 0] == pytest.approx(loss, rel=LANE_AGAINST_SOLO)


def test_on_numbers_errors_name_the_rule() -> None:
    @rule
    def counted(p, g, *, lr: Rate = 0.1, t, gradient):  # type: ignore[no-untyped-def]
        return p - lr * gradient(p - g / t)

    with pytest.raises(InputTypeError, match=r"^counted: t: expected the number of this step"):
        counted(1.0, 1.0, gradient=lambda p: p)
    with pytest.raises(UnknownNameError, match=r"unknown hyperparameter of counted: .*'speed'"):
        counted(1.0, 1.0, t=1, speed=3.0, gradient=lambda p: p)


def test_what_is_no_point_is_named() -> None:
    @rule
    def itself(p, g, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
        return p - lr * gradient

    @rule
    def nowhere(p, g, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
        return p - lr * gradient()

    @rule
    def pair(p, g, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
        return p - lr * gradient((p, g))

    for own, words in (
        (itself, r"got gradient itself in mul\. It is a function of the point"),
        (nowhere, "gradient: expected one point, with a number for each element, got none of them"),
        (pair, "gradient: expected one point, with a number for each element, got a tuple"),
    ):
        with pytest.raises(RuleError, match=words):
            variant_of(own, own.defaults)


def test_annotations_say_what_they_say_without_brackets() -> None:
    @rule
    def bare(p, g, m: AbsentAtFirst, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        m = g if m is None else m + g
        return p - lr * m, m  # type: ignore[operator]

    assert bare.slots[0].absent_at_first
    with pytest.raises(RuleError, match="slot m: annotation: expected that of a slot, got Looks, which is of gradient"):

        @rule
        def looks(p, g, m: Looks(2), *, lr: Rate = 0.1):  # type: ignore[no-untyped-def, valid-type]
            return p - lr * m, m


def test_the_commands_of_its_page_run() -> None:
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "look-twice.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ steprule (.+)$", page, re.MULTILINE)
    assert commands
    assert [main(shlex.split(command)) for command in commands] == [0 for _ in commands]


# Closures. Of half the square of p the gradient is p, so that SAM with a radius of |p| / 10 sees 1.1 p.

START = torch.tensor([3.0, -4.0], dtype=torch.float64)


def sam_of(p: Tensor, **settings: Any) -> torch.optim.Optimizer:
    return optim.from_rule("sam_sgd")([p], lr=0.1, sam_rho=0.5, **settings)


@rule
def midpoints(p, g, *, lr: Rate = 0.1, gradient: Looks(2)):  # type: ignore[no-untyped-def, valid-type]
    """All of its gradients are read at its end."""
    first = gradient(p - lr * g)
    second = gradient(p - 2 * lr * g)
    return p - lr * (g + 2 * first + 4 * second)


@pytest.mark.parametrize("way", ["buffer", "view of a buffer", "the parameter", "zeroed"])
@BACKEND
def test_gradients_may_lie_anywhere(way: str, backend: str) -> None:
    """In one memory for all looks, or in the parameters' own; behind the step they are those of the first look."""
    for kind, factor in ((optim.from_rule("sam_sgd"), 0.89), (optim.from_rule(midpoints), 1 - 0.1 * (1 + 1.8 + 3.2))):
        p = START.clone().requires_grad_()
        optimizer = kind([p], lr=0.1, backend=backend, **({"sam_rho": 0.5} if factor == 0.89 else {}))
        flat = torch.zeros(4, dtype=torch.float64)
        buffer = flat[1:3] if way == "view of a buffer" else torch.zeros_like(START)

        def closure(p: Tensor = p, optimizer: Any = optimizer, buffer: Tensor = buffer) -> Tensor:
            if way == "zeroed":
                optimizer.zero_grad(set_to_none=False)
                (p**2).sum().div(2).backward()  # type: ignore[no-untyped-call]
            else:
                p.grad = p.detach() if way == "the parameter" else buffer.copy_(p.detach())
            return (p**2).sum() / 2

        if way == "zeroed":
            p.grad = buffer
        optimizer.step(closure)
        assert (p - factor * START).abs().max() <= CLASS_FLOAT64
        assert p.grad is not None
        assert torch.equal(p.grad, START)
        own = p.grad.data_ptr() == buffer.data_ptr()
        assert own is (way != "the parameter"), "the tensor that it was"


def test_within_autocast_each_look_casts_the_weights_anew() -> None:
    """Also where the mode is around the step, so that what it keeps of the weights would live on."""
    ends = []
    for outside in (False, True):
        torch.manual_seed(0)
        model, x = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)), torch.randn(16, 8)
        optimizer = optim.from_rule("sam_sgd")(model.parameters(), lr=0.1, sam_rho=0.5)

        def loss(model: nn.Module = model, optimizer: Any = optimizer, x: Tensor = x) -> Tensor:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = model(x).float().square().mean()
            found.backward()
            return found  # type: ignore[no-any-return]

        for _ in range(3):
            with torch.autocast("cpu", dtype=torch.bfloat16) if outside else nullcontext():
                optimizer.step(loss)
        ends.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_graph_of_the_first_look_is_no_graph_of_the_second() -> None:
    """As torch says of any tensor that was written to since."""
    p = START.clone().requires_grad_()
    optimizer, loss = sam_of(p), (p**3).sum()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        return loss

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        optimizer.step(closure)  # type: ignore[arg-type]
    assert torch.equal(p, START)


def test_a_closure_that_computes_no_gradient_is_refused() -> None:
    p = START.clone().requires_grad_()
    optimizer = sam_of(p)
    (p**2).sum().backward()  # type: ignore[no-untyped-call]
    with pytest.raises(InputError, match=r"closure: expected gradients at the point of the look, got none\. It calls"):
        optimizer.step(lambda: float((p.detach() ** 2).sum()))
    assert torch.equal(p, START)
    assert p.grad is not None
    assert torch.equal(p.grad, 2 * START)
    assert not optimizer.state
    with pytest.raises(InputTypeError, match=r"expected a closure: .*got a Tensor"):
        optimizer.step((p**2).sum())  # type: ignore[call-overload]


def test_a_first_closure_that_fails_leaves_no_states() -> None:
    p = START.clone().requires_grad_()
    optimizer = optim.from_rule("sam_adamw")([p], lr=0.1)
    calls = [0]

    def closure() -> Tensor:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return bowls([p], optimizer, [0])()

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert torch.equal(p, START)
    assert p.grad is not None
    assert torch.equal(p.grad, START)
    assert optimizer.state_dict()["state"] == {}


def test_strange_tensors() -> None:
    """Transposed, shared, complex, and with gradients that lie otherwise: as the author's function steps them."""
    ends = []
    for backend in ("numba", "eager"):
        torch.manual_seed(3)
        tied = torch.randn(4, 3, dtype=torch.float64)
        params = [
            torch.randn(3, 5, dtype=torch.float64).T.requires_grad_(),
            torch.randn(6, dtype=torch.float64)[::2].requires_grad_(),
            torch.randn(3, dtype=torch.complex128).requires_grad_(),
            tied.requires_grad_(),
            tied.detach()[1:].requires_grad_(),
        ]
        optimizer = optim.from_rule("sam_adamw")(params, lr=0.1, sam_rho=0.4, backend=backend)
        for _ in range(4):

            def closure(params: list[Tensor] = params, optimizer: Any = optimizer) -> Tensor:
                optimizer.zero_grad()
                loss = torch.stack([(p.abs() ** 3).sum() for p in params]).sum()
                loss.backward()  # type: ignore[no-untyped-call]
                params[0].grad = params[0].grad.contiguous()  # type: ignore[union-attr]
                return loss

            optimizer.step(closure)
        ends.append([p.detach() for p in params])
    assert all_apart(*ends) <= CLASS_FLOAT64


def test_sparse_gradients_are_refused() -> None:
    table = nn.Embedding(5, 2, sparse=True)
    optimizer = optim.from_rule("sam_sgd")(table.parameters(), lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = table(torch.tensor([1, 2])).sum()
        loss.backward()
        return loss  # type: ignore[no-any-return]

    before = table.weight.detach().clone()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        optimizer.step(closure)
    assert torch.equal(table.weight, before)


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_with_a_closure_by_position(fused: bool) -> None:
    """torch hands it on where the scaler has unscaled already: what the closure computes then would stay scaled."""
    p = START.clone().requires_grad_()
    optimizer = optim.from_rule("sam_sgd")([p], lr=0.1, sam_rho=0.5, fused_unscale=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (p**2).sum() / 2
        scaler.scale(loss).backward()
        return loss

    closure()
    if not fused:
        with pytest.raises(RuntimeError, match="its closure would compute scaled gradients"):
            scaler.step(optimizer, closure)
        assert torch.equal(p, START)
        return
    scaler.step(optimizer, closure)
    q = START.clone().requires_grad_()
    plain = optim.from_rule("sam_sgd")([q], lr=0.1, sam_rho=0.5)

    def alone() -> torch.Tensor:
        plain.zero_grad()
        loss = (q**2).sum() / 2
        loss.backward()
        return loss

    plain.step(alone)
    assert apart(p, q) <= CLASS_FLOAT64
