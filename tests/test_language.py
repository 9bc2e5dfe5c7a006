"""The language's definition, sentence by sentence (docs/language.md): a rule maps values to values, in every form.

The reference is a loop around the author's function that copies what it is given back.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pytest
import torch
from tolerances import CLASS_FLOAT32_FEW_STEPS, ROUNDED32, SUMS_LOW

import steprule
from steprule import maths, rule
from steprule.compiler import anatomy, formula
from steprule.compiler.tracer import trace
from steprule.errors import RuleError
from steprule.hyper import AbsentAtFirst, Decay, Epsilon, OffAtZero, OnePerTensor, Rate
from steprule.maths import abs, clamp, lerp, maximum, mean, minimum, size, sqrt, sum, where
from steprule.optim import from_rule
from steprule.paths import best_rate
from steprule.problems.catalogue import get
from steprule.problems.source import batches
from steprule.rules.rule import Rule

ON: dict[str, Any] = {"problem": "airfoil-linear", "epochs": 1}
Late = Annotated[Any, AbsentAtFirst()]
Number = Annotated[float, OnePerTensor(0.0)]


@rule
def anchored(p, g, p0: Late, *, lr: Rate = 0.05):
    """A state that is the parameter as it was (MADGRAD, Lookahead, Prodigy)."""
    p0 = p if p0 is None else p0
    return p - lr * (g + (p - p0)), p0


@rule
def delay(p, g, g1, g2, *, lr: Rate = 0.02):
    """A state that becomes what another one was (AdaShift)."""
    return p - lr * g2, g, g1


@rule
def exchange(p, g, a, b, *, lr: Rate = 0.02):
    """Two states that change places (positive-negative momentum)."""
    return p - lr * a, b + g, a


@rule
def late(p, g, prev: Late, prev2: Late, *, lr: Rate = 0.02):
    """A slot that stays absent for two steps."""
    if prev is None:
        return p, g, None
    if prev2 is None:
        return p, g, prev
    return p - lr * prev2, g, prev


@rule
def novo(p, g, v: Number, *, lr: Rate = 0.01, beta: Decay = 0.9):
    """One number a tensor, by a reduction (NovoGrad)."""
    v = beta * v + (1 - beta) * sum(g**2)
    return p - lr * g / (sqrt(v) + 1e-8), v


@rule
def named(p, g, r, *, lr: Rate = 0.02, beta: Decay = 0.9, eps: Epsilon = 1e-3):
    """A state whose name generated code once had for itself."""
    r = beta * r + (1 - beta) * g
    return p - lr * r / (sqrt(abs(r)) + eps), r


@rule
def counted(p, g, *, lr: Rate = 0.01):
    """Truth values and a power of zero as numbers."""
    return p - lr * (mean(g > 0) * g + g / sum(p**0) + (g > 0) * p)


@rule
def never_read(p, g, m, *, lr: Rate = 0.01):
    """A state that is read for nothing."""
    drift = p - m  # noqa: F841  # what a stranger has left over
    return p - lr * g, m


@rule
def flagged(p, g, s: Number, *, lr: Rate = 0.01, flag: bool = True):
    """A flag picks a reduction, a state or a number beside an element, and what was picked is reduced."""
    s = where(flag, 0.9 * s + 0.1 * mean(g * g), sum(where(flag, 2.0, g)))
    scale = sum(where(flag, sqrt(mean(g * g)), g)) + size(where(not flag, p, s)) + sum(where(flag, 0.5, p))
    return p - lr * g / (1 + abs(scale)), s


RULES = [anchored, delay, exchange, late, novo, named, counted, never_read, flagged]


def by_hand(what: Rule, lr: float) -> float:
    """The loss after one epoch of a plain loop."""
    task = get("airfoil-linear")
    model = task.initial_model(0)
    params = list(model.parameters())

    def first(slot: Any, p: Any) -> Any:
        if slot.absent_at_first:
            return None
        return 0.0 if slot.is_number else torch.zeros_like(p)

    states: list[list[Any]] = [[first(slot, p) for slot in what.slots] for p in params]
    for rows in batches(len(task.features), 10, 1, 0):
        loss = task.loss(model(task.features[rows]), task.targets[rows])
        gradients = torch.autograd.grad(loss, params)
        with torch.no_grad():
            for k, (p, g) in enumerate(zip(params, gradients, strict=True)):
                result = what(p.detach().clone(), g.clone(), *states[k], lr=lr)
                new_p, *new = result if isinstance(result, tuple) else (result,)
                states[k] = [x.clone() if isinstance(x, torch.Tensor) else x for x in new]
                p.copy_(new_p)
    with torch.no_grad():
        return float(task.loss(model(task.features), task.targets))


def trained(what: Rule, lr: float, form: str) -> float:
    if form == "training":
        return float(steprule.train(what, lr=lr, **ON).final_loss)
    if form.startswith("class"):
        backend = form.split()[1]
        return float(steprule.train(lambda params: from_rule(what)(params, lr=lr, backend=backend), **ON).final_loss)
    return float(steprule.sweep(what, ON["problem"], {"lr": [lr]}, epochs=1, compile=form == "lanes").train.ravel()[0])


COMPILED = ("class numba", "lanes")
MINDED = (delay, late, novo)
"""The rules whose kernels the default suite compiles."""


@pytest.mark.parametrize(
    ("what", "form"),
    [
        pytest.param(
            what,
            form,
            id=f"{what.name}-{form}",
            marks=[pytest.mark.long] if form in COMPILED and what not in MINDED else [],
        )
        for what in RULES
        for form in ("training", "class eager", "lanes by vmap", *COMPILED)
    ],
)
def test_every_form_gives_what_the_function_gives(what: Rule, form: str) -> None:
    lr = 0.03
    wanted = by_hand(what, lr)
    assert trained(what, lr, form) == pytest.approx(wanted, rel=CLASS_FLOAT32_FEW_STEPS)


@pytest.mark.parametrize(
    "what",
    [late, novo, *(pytest.param(r, marks=pytest.mark.long) for r in RULES if r not in (late, novo))],
    ids=lambda r: r.name,
)
@pytest.mark.long
def test_the_battery_passes(what: Rule) -> None:
    assert steprule.check(what).passed


def test_what_comes_back_is_nobodys_else() -> None:
    @rule
    def same(p, g, a, b):
        return p, g, g

    p, g = torch.ones(3), torch.full((3,), 2.0)
    results = same(p, g, torch.zeros(3), torch.zeros(3))
    assert len({id(x) for x in (p, g, *results)}) == 5
    array = np.ones(3)
    found = same(array, array.copy(), array.copy(), array.copy())
    assert not any(np.shares_memory(x, y) for x in found for y in (array, *found) if x is not y)


def test_elements_meet_hyperparameters_on_arrays_as_on_floats() -> None:
    @rule
    def bounded(p, g, *, lr: Rate = 0.1, eps: Epsilon = 1e-3, q: Annotated[float, OffAtZero()] = 0.5):
        step = where(g > eps, maximum(abs(g), eps), eps > g)
        return p - lr * step**eps * q

    array = np.array([1.0, 2.0]), np.array([2.0, -3.0])
    assert bounded(*array).tolist() == [bounded(p, g) for p, g in zip(*map(np.ndarray.tolist, array), strict=True)]
    assert np.isfinite(steprule.trace(bounded, "beale", lr=0.01, steps=3).points).all()


def test_a_state_of_one_number_is_one_number_in_the_class() -> None:
    p = torch.tensor([3.0, 4.0], requires_grad=True)
    p.grad = torch.tensor([3.0, 4.0])
    optimizer = from_rule(novo)([p], beta=0.5)
    optimizer.step()
    assert optimizer.state[p]["v"].shape == ()
    assert float(optimizer.state[p]["v"]) == 12.5
    optimizer.step()
    assert float(optimizer.state[p]["v"]) == 18.75


def test_a_slot_that_stays_absent_is_no_state_yet() -> None:
    p = torch.ones(3, requires_grad=True)
    optimizer = from_rule(late)([p])
    for wanted in ({"prev"}, {"prev", "prev2"}, {"prev", "prev2"}):
        p.grad = torch.ones(3)
        optimizer.step()
        assert {n for n, v in optimizer.state[p].items() if v is not None} == {"step", *wanted}


def test_one_number_that_is_absent_at_first_is_refused() -> None:
    with pytest.raises(RuleError, match="starts at a number"):

        @rule
        def both(p, g, v: Annotated[float, OnePerTensor(0.0), AbsentAtFirst()]):
            return p - g, v


def test_a_number_is_no_condition() -> None:
    @rule
    def unsure(p, g):
        return p - where(g, g, 0.0)

    with pytest.raises(RuleError, match="expected a comparison, got a number as the condition of where"):
        trace(unsure)


@rule
def power_of_the_rate(p, g, *, lr: Rate = 0.1, t):
    """A power of the step whose base a schedule moves."""
    return p - lr * g * (1 - (1 - 10 * lr) ** t)


def test_a_power_whose_base_a_schedule_moves() -> None:
    on = {"schedule": "linear", **ON}
    swept = [
        steprule.sweep(power_of_the_rate, on["problem"], {"lr": [0.05, 0.02]}, epochs=1, schedule="linear", compile=c)
        for c in (True, False)
    ]
    assert swept[0].train == pytest.approx(swept[1].train, rel=CLASS_FLOAT32_FEW_STEPS)


@rule
def in_turns(p, g, s: Number, b: Late, *, lr: Rate = 0.1, t):
    """A number that follows from a reduction from the second step on."""
    if b is None:
        return p - lr * g / t, lr, g
    return p - lr * b, sum(b), g


def test_a_stage_without_the_reduction_of_the_others() -> None:
    found = []
    for backend in ("eager", "numba"):
        p = torch.ones(3, requires_grad=True)
        optimizer = from_rule(in_turns)([p], backend=backend)
        for k in range(3):
            p.grad = torch.full((3,), k + 1.0)
            optimizer.step()
        found.append((p.detach(), optimizer.state[p]["s"].double()))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=ROUNDED32, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_are_not_rounded_to_a_parameters_sixteen_bits(dtype: torch.dtype) -> None:
    @rule
    def sums(p, g, s: Number, *, lr: Rate = 0.1):
        return p - lr * g, s + sum(g * g)

    found = []
    for backend in ("eager", "numba"):
        p = torch.ones(4, dtype=dtype).requires_grad_()
        optimizer = from_rule(sums)([p], backend=backend, clip_norm=1.0)
        for _ in range(3):
            p.grad = torch.full((4,), 40_000.0, dtype=dtype)
            optimizer.step()
        found.append([p.detach().double(), optimizer.state[p]["s"].double()])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=SUMS_LOW, atol=0)
    assert float(found[0][1]) == pytest.approx(3.0, rel=SUMS_LOW)


def test_truth_values_are_numbers_in_functions() -> None:
    @rule
    def steps(p, g, *, lr: Rate = 1.0):
        return p - lr * (maximum(g > 0, 0.25) + clamp(g > 0, 0.25, 0.75) + lerp(g > 0, 0.5, 0.5) + (+(g > 0)))

    p, g = torch.zeros(2), torch.tensor([1.0, -1.0])
    assert steps(p, g).tolist() == [steps(0.0, x) for x in (1.0, -1.0)] == [-3.5, -0.75]


def test_a_pick_between_an_element_and_a_number_is_one_an_element() -> None:
    @rule
    def picked(p, g, *, lr: Rate = 1.0, t):
        return p - lr * sum(where(t > 2, g, 0.5))

    assert picked(torch.zeros(4), torch.ones(4), t=1).tolist() == [-2.0] * 4
    assert picked(np.zeros(4), np.ones(4), t=1).tolist() == [-2.0] * 4


def test_printed_python_spreads_a_number_as_the_rule_does() -> None:
    @rule
    def off(p, g, *, c: Annotated[float, OffAtZero()] = 0.0):
        return p - where(c > 0.5, g, 2.0) / sum(where(c > 0.5, g, 1.0))

    scope: dict[str, Any] = {n: getattr(maths, n) for n in maths.NAMES}
    exec(formula.python(trace(off, {"c": 0.0})), scope)
    p, g = np.zeros(4), np.ones(4)
    assert scope["off"](p, g).tolist() == off(p, g).tolist() == [-0.5] * 4


def test_a_step_taken_apart_shows_what_is_handed_on() -> None:
    graph = trace(delay)
    inputs = {"p": 1.0, "g": 2.0, "g1": 3.0, "g2": 4.0, "lr": 0.5}
    assert anatomy.values(graph, inputs) == {"p": -1.0, "g1": 2.0, "g2": 3.0}
    assert formula.latex(graph)[1:] == ["g_{1, t} = g_{t}", "g_{2, t} = g_{1, t-1}"]


def test_printed_python_calls_a_function_whose_name_a_value_has() -> None:
    @rule
    def named_so(p, g, norm, *, lr: Rate = 0.1):
        norm = 0.9 * norm + 0.1 * maths.norm(g)
        return p - lr * norm, norm

    text = formula.python(trace(named_so))
    scope: dict[str, Any] = {}
    exec(text, scope)
    assert scope["named_so"](1.0, 2.0, 1.0, lr=0.1) == named_so(1.0, 2.0, 1.0, lr=0.1)


def test_the_best_rate_of_a_rule_that_sums_what_is_one_number() -> None:
    @rule
    def capped(p, g, s: Annotated[float, OnePerTensor(1.0)], *, lr: Rate = 0.1):
        s = 0.9 * s + sum(minimum(lr, 0.1))
        return p - s * g, s

    assert best_rate(capped, "quadratic", steps=5) > 0


def test_what_is_off_divides_as_a_number_does() -> None:
    @rule
    def divided(p, g, *, c: Annotated[float, OffAtZero()] = 0.0):
        return p - g / c

    p = torch.ones(2, requires_grad=True)
    p.grad = torch.ones(2)
    from_rule(divided)([p]).step()
    assert p.tolist() == [-float("inf")] * 2
