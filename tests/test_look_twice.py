"""Rules that look at the gradient twice: SAM around any rule beside a plain loop and pytorch_optimizer, in every form, and what may go wrong."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import pytorch_optimizer as po
import torch
from compare import all_apart, apart, states_apart
from drawn_forms import failing
from drawn_looks import drawn_cases
from looking import OWN, each_second, thrice
from thinning import thinned
from tolerances import (
    CLASS_FLOAT32_FEW_STEPS,
    CLASS_FLOAT64,
    PUBLISHED_FLOAT32_COUNTERS,
    PUBLISHED_FLOAT64,
)
from torch import Tensor

import steprule
from steprule import optim, rules
from steprule.compiler import eager
from steprule.compiler.variant import variant_of
from steprule.errors import InputError, InputTypeError, RuleError
from steprule.hyper import Looks, Rate
from steprule.rules import rule

SHAPES = ((7, 3), (1,), (), (5, 2, 3), (0,), (257,))
STEPS = 24
BASES: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.7, "dampening": 0.2, "weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}),
    "adam": (torch.optim.Adam, {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "momentum": 0.6, "centered": True}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.2, "eps": 1e-3}),
}
EACH = pytest.mark.parametrize("name", BASES)
BACKEND = pytest.mark.parametrize("backend", ["numba", "eager"])


def parameters(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in SHAPES]


def without_step(state: Mapping[str, Any]) -> dict[str, Any]:
    """torch's SGD counts no steps; a rule of one's own does."""
    return {name: value for name, value in state.items() if name != "step"}


def closure_of(params: list[Tensor], optimizer: torch.optim.Optimizer, t: int = 1) -> Callable[[], Tensor]:
    """A loss whose gradient is another at each point and each step."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = [(p**2 / 2 + 0.3 * torch.cos(5 * p + 0.1 * t)).sum() for p in params]
        loss = torch.stack(losses).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


def sam_step(params: list[Tensor], base: torch.optim.Optimizer, t: int, rho: float) -> None:
    """SAM as its paper says it, around an optimizer of torch's."""
    closure = closure_of(params, base, t)
    closure()
    with torch.no_grad():
        kept = [p.clone() for p in params]
        length = torch.stack([p.grad.norm() for p in params if p.grad is not None]).norm()
        for p in params:
            p.add_(p.grad, alpha=float(rho / (length + 1e-12)))  # type: ignore[arg-type]
    closure()
    with torch.no_grad():
        for p, old in zip(params, kept, strict=True):
            p.copy_(old)
    base.step()


@EACH
@BACKEND
def test_sam_is_a_plain_loop_around_torchs_class(name: str, backend: str, float64_default: None) -> None:
    """At every step, with a state that is saved and loaded in the middle."""
    kind, settings = BASES[name]
    mine, theirs = parameters(), parameters()
    make = optim.from_rule(f"sam_{name}")
    found, wanted = make(mine, **settings, sam_rho=0.4, backend=backend), kind(theirs, **settings)
    for t in range(1, STEPS):
        found.step(closure_of(mine, found, t))
        sam_step(theirs, wanted, t, 0.4)
        assert all_apart(mine, theirs) <= CLASS_FLOAT64, t
        for p, q in zip(mine, theirs, strict=True):
            assert states_apart(without_step(found.state[p]), without_step(wanted.state[q])) <= CLASS_FLOAT64, t
        if t == 10:
            saved = pickle.loads(pickle.dumps(found.state_dict()))
            found = make(mine, lr=9.0, backend=backend)
            found.load_state_dict(saved)


def test_sam_is_pytorch_optimizers(float64_default: None) -> None:
    mine, theirs = parameters(), parameters()
    settings = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}
    found = optim.from_rule(rules.sam(rules.adamw, rho=0.4))(mine, **settings)
    wanted = po.SAM(theirs, torch.optim.AdamW, rho=0.4, **settings)
    for t in range(1, STEPS):
        found.step(closure_of(mine, found, t))
        again = closure_of(theirs, wanted, t)
        again()
        wanted.step(again)
        assert all_apart(mine, theirs) <= PUBLISHED_FLOAT32_COUNTERS, t  # its norm is in float32


def test_float32_and_its_neighbours() -> None:
    """In float32 near the loop; in bfloat16 the point and the gradient there are rounded as the parameter is."""
    mine, theirs = parameters(torch.float32), parameters(torch.float32)
    found = optim.from_rule("sam_sgd")(mine, lr=0.05, momentum=0.7, sam_rho=0.4)
    wanted = torch.optim.SGD(theirs, lr=0.05, momentum=0.7)
    for t in range(1, 6):
        found.step(closure_of(mine, found, t))
        sam_step(theirs, wanted, t, 0.4)
        assert all_apart(mine, theirs) <= CLASS_FLOAT32_FEW_STEPS, t
    low, eager_low = parameters(torch.bfloat16), parameters(torch.bfloat16)
    a = optim.from_rule("sam_sgd")(low, lr=0.05, sam_rho=0.4)
    b = optim.from_rule("sam_sgd")(eager_low, lr=0.05, sam_rho=0.4, backend="eager")
    a.step(closure_of(low, a))
    b.step(closure_of(eager_low, b))
    assert all(torch.equal(p, q) for p, q in zip(low, eager_low, strict=True))


@pytest.mark.parametrize("own", OWN, ids=lambda r: r.name)
@BACKEND
def test_a_class_steps_as_the_reference(own: rules.Rule, backend: str, float64_default: None) -> None:
    """Parameters, states, the point of evaluation, and how often the loss is computed."""
    mine, theirs = parameters(), parameters()
    make, whole = optim.from_rule(own), optim.from_rule(own).rule
    found, hypers = make(mine, lr=0.03, backend=backend), whole.bind({"lr": 0.03})
    states: list[eager.State] = [{} for _ in theirs]
    model: eager.State = {}
    for t in range(1, 12):
        counted = [0]

        def closure(t: int = t, counted: list[int] = counted, found: Any = found) -> Tensor:
            counted[0] += 1
            return closure_of(mine, found, t)()

        found.step(closure)
        assert counted[0] == 1 + own.looks_in(t, own.defaults, {})
        ones = list(_stepped(theirs, states, t, hypers))
        ones = eager.look_together(whole, ones, model, lambda points, t=t: _gradients(points, t))  # type: ignore[misc]
        for k, (new, state) in enumerate(eager.step_together(whole, ones, model)):
            states[k] = state
            theirs[k].data.copy_(new)
        assert all_apart(mine, theirs) <= CLASS_FLOAT64, t
        for p, state in zip(mine, states, strict=True):
            assert states_apart(without_step(found.state[p]), state) <= CLASS_FLOAT64, t
        if t == 5:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the model is read elsewhere
                saved = copy.deepcopy(found.state_dict())
            found = make(mine, backend=backend)
            found.load_state_dict(saved)
    if own.point is not None:
        with found.evaluated():
            points = [eager.evaluated(whole, p, s, 11, hypers) for p, s in zip(theirs, states, strict=True)]
            assert all_apart(mine, points) <= CLASS_FLOAT64


def _stepped(params: list[Tensor], states: list[eager.State], t: int, hypers: dict[str, Any]) -> Iterator[eager.One]:
    for p, g, state in zip(params, _gradients(params, t), states, strict=True):
        yield eager.One(p.detach(), g, state, t, hypers)


def _gradients(params: list[Tensor], t: int) -> list[Tensor]:
    return [p.detach() - 1.5 * torch.sin(5 * p.detach() + 0.1 * t) for p in params]


# numpy warns of nan and inf, in Triton's interpreter and on its own.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "own", thinned([*OWN, rules.sam(rules.adam), rules.lookahead(rules.sam(rules.sgd), k=2)], 2), ids=lambda r: r.name
)
def test_every_form_is_the_same(own: rules.Rule) -> None:
    report = steprule.check(own)
    assert report.passed, str(report)


@pytest.mark.long
def test_matrices_look_twice() -> None:
    report = steprule.check(rules.sam(rules.muon))
    assert report.passed, str(report)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_drawn_rules_that_look_are_the_same_in_every_form() -> None:
    """Both halves of each: the point, and the step that is given what it saw there."""
    found = failing(drawn_cases(range(12)))
    assert not found, found


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_many_drawn_rules_that_look() -> None:
    found = failing(drawn_cases(range(10**6, 10**6 + 400)))
    assert not found, found


# What a part before the rule does to a gradient, it does to each.


def test_parts_change_both_gradients(float64_default: None) -> None:
    """Clipping, ascent and an average, around a rule whose loss is known in closed form."""
    p = torch.tensor([3.0, -4.0], requires_grad=True)
    optimizer = optim.from_rule("sam_sgd")([p], lr=0.1, sam_rho=0.5, clip_norm=0.5, ema_decay=0.9, maximize=True)
    q = p.detach().clone()
    ema = None

    def clipped(g: Tensor) -> Tensor:
        return -g * torch.clamp(0.5 / (g.norm() + 1e-6), max=1.0)

    for _ in range(5):
        optimizer.step(bowl(p, optimizer))
        g = clipped(q)
        q = q - 0.1 * clipped(q + 0.5 * g / (g.norm() + 1e-12))
        ema = q if ema is None else ema + (1 - 0.9) * (q - ema)
        assert apart(p, q) <= CLASS_FLOAT64
        assert apart(optimizer.state[p]["ema"], ema) <= CLASS_FLOAT64


def bowl(p: Tensor, optimizer: torch.optim.Optimizer, *, fails_at: int = 0) -> Callable[[], Tensor]:
    calls = [0]

    def closure() -> Tensor:
        calls[0] += 1
        if calls[0] == fails_at:
            raise ValueError("the model broke")
        optimizer.zero_grad()
        loss = (p**2).sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


# What may go wrong.


def test_a_step_without_a_closure_says_what_it_needs() -> None:
    optimizer = optim.from_rule("sam_sgd")([torch.ones(2, requires_grad=True)], lr=0.1)
    with pytest.raises(
        InputTypeError, match=r"\.step: expected a closure: its rule looks at the gradient twice, got none"
    ):
        optimizer.step()


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_closure_that_fails_leaves_everything_as_it_was(fails_at: int) -> None:
    p = torch.tensor([3.0, -4.0], requires_grad=True)
    optimizer = optim.from_rule("sam_adamw")([p], lr=0.1)
    optimizer.step(bowl(p, optimizer))
    before, state = p.detach().clone(), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="the model broke"):
        optimizer.step(bowl(p, optimizer, fails_at=fails_at))
    assert torch.equal(p, before)
    assert set(optimizer.state[p]) == set(state["state"][0])
    optimizer.step(bowl(p, optimizer))
    other = before.clone().requires_grad_()
    fresh = optim.from_rule("sam_adamw")([other], lr=0.1)
    fresh.load_state_dict(state)
    fresh.step(bowl(other, fresh))
    assert torch.equal(p, other)


def test_gradients_are_those_of_the_parameter_behind_a_step() -> None:
    """As behind any step; no gradient lives longer than torch's would, and the states keep none."""
    p = torch.tensor([3.0, -4.0], requires_grad=True)
    optimizer = optim.from_rule("sam_sgd")([p], lr=0.1, sam_rho=0.5)
    seen: list[Any] = []

    def closure() -> Tensor:
        loss = bowl(p, optimizer)()
        seen.append(weakref.ref(p.grad))
        return loss

    loss = optimizer.step(closure)
    assert loss.item() == 12.5
    assert p.grad is not None
    assert p.grad.tolist() == [3.0, -4.0]
    assert set(optimizer.state[p]) <= {"step"}
    gc.disable()
    try:
        assert seen[1]() is None, "the second gradient is gone with the step"
    finally:
        gc.enable()


@pytest.mark.parametrize("to_none", [True, False])
def test_a_closure_may_zero_gradients_in_either_way(to_none: bool) -> None:
    ends = []
    for way in (True, to_none):
        p = torch.tensor([3.0, -4.0], requires_grad=True)
        optimizer = optim.from_rule("sam_sgd")([p], lr=0.1, momentum=0.5, sam_rho=0.5)
        for _ in range(3):

            def closure(p: Tensor = p, optimizer: Any = optimizer, way: bool = way) -> Tensor:
                optimizer.zero_grad(set_to_none=way)
                loss = (p**2).sum()
                loss.backward()  # type: ignore[no-untyped-call]
                return loss

            optimizer.step(closure)
        ends.append(p.detach())
    assert torch.equal(*ends)


def test_parameters_that_have_no_gradient_rest() -> None:
    """In the whole step, or at the second look alone, where it is zero then."""
    p, q, r = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(3))
    optimizer = optim.from_rule("sam_sgd")([p, q, r], lr=0.1, sam_rho=0.5)
    calls = [0]

    def closure() -> Tensor:
        calls[0] += 1
        optimizer.zero_grad()
        loss = (p**2).sum() if calls[0] > 1 else (p**2).sum() + q.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    assert r.tolist() == [1.0, 2.0]
    assert r.grad is None
    assert q.tolist() == [1.0, 2.0], "its gradient at the point is zero"
    assert p.tolist() != [1.0, 2.0]


def test_hooks_copies_groups_and_schedulers() -> None:
    p, q = (torch.tensor([3.0, -4.0], requires_grad=True) for _ in range(2))
    optimizer = optim.from_rule("sam_sgd")([{"params": [p], "sam_rho": 0.9}, {"params": [q]}], lr=0.1, sam_rho=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    ran: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: ran.append("pre"))
    optimizer.register_step_post_hook(lambda *_: ran.append("post"))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = ((p**4).sum() + (q**4).sum()) / 4
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    schedule.step()
    assert ran == ["pre", "post"]
    assert not torch.equal(p, q), "each group has its radius"
    twin = copy.deepcopy(optimizer)
    assert twin.param_groups[0]["lr"] == 0.05
    assert pickle.loads(pickle.dumps(optimizer)).param_groups[0]["sam_rho"] == 0.9


def test_it_may_run_in_inference_mode() -> None:
    for mode in (nullcontext, torch.inference_mode):
        p = torch.tensor([3.0, -4.0], requires_grad=True)
        optimizer = optim.from_rule("sam_sgd")([p], lr=0.1)
        with mode():
            # A closure that wants gradients leaves the mode, as for torch's own classes.
            def closure(p: Tensor = p, optimizer: Any = optimizer) -> Tensor:
                with torch.inference_mode(False), torch.enable_grad():
                    return bowl(p, optimizer)()

            optimizer.step(closure)
        assert p.tolist() != [3.0, -4.0]


# The contract.


def refused(source: Callable[[], Any], words: str) -> None:
    with pytest.raises(RuleError, match=words):
        source()


def test_the_contract_names_what_is_wrong() -> None:
    def with_default() -> None:
        @rule
        def looks(p, g, *, lr: Rate = 0.1, gradient=None):  # type: ignore[no-untyped-def]
            return p - lr * g

    def as_slot() -> None:
        @rule
        def looks(p, g, gradient, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
            return p - lr * g, gradient

    refused(with_default, r"expected gradient, the function that looks again, behind the \* and without a default")
    refused(as_slot, r"expected gradient, the function that looks again, behind the \* and without a default")

    @rule
    def too_often(p, g, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
        return p - lr * gradient(gradient(p))

    with pytest.raises(
        RuleError,
        match=r"test_look_twice\.py:\d+: rule too_often: .*expected 1 call of gradient in a step, got one more\. Write gradient: Looks\(2\)",
    ):
        variant_of(too_often, too_often.defaults)

    @rule
    def no_state(p, g, m, *, lr: Rate = 0.1, gradient):  # type: ignore[no-untyped-def]
        return p - lr * gradient(p)

    with pytest.raises(RuleError, match=r"expected 2 results \(p, m\), got 1"):
        variant_of(no_state, no_state.defaults)
    with pytest.raises(InputError, match="Looks: expected a whole number from 1, got 0"):
        Looks(0)
    with pytest.raises(RuleError, match="expected the gradient at the point, got none: nobody took it"):
        rules.sam(rules.sgd)(1.0, 2.0, lr=0.1)


def test_on_numbers_it_is_called_with_a_function() -> None:
    found = thrice(1.0, 1.0, lr=0.1, gradient=lambda p: p)
    assert found == pytest.approx(1 - 0.1 + 0.1**2 / 2 - 0.1**3 / 6, abs=PUBLISHED_FLOAT64), "to the third order"
    p, v = each_second(1.0, 2.0, 0.5, lr=0.1, t=1, gradient=lambda p: 1 / 0)
    assert (p, v) == (0.75, 0.5), "no look at the first step"
    with pytest.raises(InputTypeError, match="expected a function of the point, got 3"):
        thrice(1.0, 1.0, gradient=3)
    with pytest.raises(InputTypeError, match=r"slots: expected at most 1 \(v\), got 2"):
        each_second(1.0, 2.0, 0.5, 0.5, t=2, gradient=abs)


def test_sam_of_something_else() -> None:
    assert rules.resolve("SAM-Adam") is rules.sam(rules.adam)
    assert optim.from_rule("sam_lion") is optim.from_rule(rules.sam(rules.lion))
    assert pickle.loads(pickle.dumps(optim.from_rule("sam_lion"))) is optim.from_rule("sam_lion")
    with pytest.raises(InputTypeError, match=r"sam: expected a rule, got 'adam'\. Write sam"):
        rules.sam("adam")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected a rule that looks once, got one that looks twice"):
        rules.sam(rules.sam(rules.adam))
    with pytest.raises(InputError, match=r"sam_rho: expected a number in \[0, inf\), got -1"):
        rules.sam(rules.adam, rho=-1.0)
    own = replace(rules.sgd, name="own")
    first = rules.sam(own)
    own.evaluated(lambda p, momentum_buffer: p)
    assert first.point is None
    assert rules.sam(own).point is not None


def test_a_rule_per_kind_looks_once() -> None:
    with pytest.raises(InputError, match="by_kind: matrix: expected a rule that looks once, got sam_sgd"):
        steprule.by_kind(matrix="sam_sgd", other="adamw")
