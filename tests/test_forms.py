"""One rule, unchanged, on floats, numpy arrays, torch tensors of each dtype, under vmap, and on symbols."""

from __future__ import annotations

import math
from typing import Any

import elementwise
import numpy as np
import pytest
import torch
from compare import close
from thinning import thinned
from tolerances import FORMS_BFLOAT16, FORMS_FLOAT16, FORMS_FLOAT32, FORMS_FLOAT64, ROUNDED64

from steprule import Rule, maths, rules
from steprule.compiler.eager import start, step
from steprule.compiler.formula import text
from steprule.compiler.tracer import trace
from steprule.rules.parts import composed

CASES = [(r, v) for raw in elementwise.RULES for r in (composed(raw),) for v in r.variants()]
IDS = [f"{r.name}-" + "-".join(f"{k}={x}" for k, x in v.items()) for r, v in CASES]
COUNT, STEPS = 11, 6  # RAdam trusts its second moment from the fifth or sixth step on


def hypers_of(rule: Rule, variant: dict[str, Any]) -> dict[str, Any]:
    """Every number away from its default and from neutral; a choice by name stays."""
    values: dict[str, Any] = {}
    for hyper in rule.hypers:
        if not hyper.is_flag and not hyper.off_at_zero and not isinstance(hyper.default, str):
            value = hyper.default * 0.97 if 0 < hyper.default < 1 else 0.11
            values[hyper.name] = value if hyper.allows(value) else hyper.default * 1.1
    return rule.bind({**values, "eps": 3e-4, **variant} if "eps" in rule.defaults else {**values, **variant})


def numbers(seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=COUNT), [generator.normal(size=COUNT) for _ in range(STEPS)]


def run(rule: Rule, hypers: dict[str, Any], convert: Any) -> tuple[Any, dict[str, Any]]:
    """Some steps with given gradients, all converted to one kind of number."""
    p, gradients = numbers()
    p, state = convert(p), {}
    for t, g in enumerate(gradients, start=1):
        p, state = step(rule, p, convert(g), state, t, hypers)
    return p, state


@pytest.mark.parametrize(("rule", "variant"), thinned(CASES, 2, IDS))
def test_floats_numpy_and_torch_agree(rule: Rule, variant: dict[str, Any]) -> None:
    hypers = hypers_of(rule, variant)
    p, state = run(rule, hypers, lambda a: torch.from_numpy(a.copy()))
    assert not torch.equal(p, torch.from_numpy(numbers()[0]))
    in_numpy = run(rule, hypers, np.copy)
    assert close(in_numpy[0], p, FORMS_FLOAT64)
    if trace(rule, variant).asks_for_reductions:
        return  # a float is a tensor of one element: see the next test
    for k in range(COUNT):
        alone = run(rule, hypers, lambda a: float(a[k]))  # noqa: B023
        assert isinstance(alone[0], float)
        assert close(alone[0], p[k], FORMS_FLOAT64)
        for name, value in state.items():
            assert (value is None) == (alone[1][name] is None) == (in_numpy[1][name] is None)
            if value is not None:
                expected = value if isinstance(value, float) else value[k]
                assert close(alone[1][name], expected, FORMS_FLOAT64)
                assert close(in_numpy[1][name], value, FORMS_FLOAT64)


@pytest.mark.parametrize("rule", [rules.lars, rules.lamb], ids=["lars", "lamb"])
def test_a_float_is_a_tensor_of_one_element(rule: Rule) -> None:
    hypers = {**rule.bind({}), "weight_decay": 0.1}
    alone = run(rule, hypers, lambda a: float(a[0]))
    for convert in (lambda a: a[:1].copy(), lambda a: torch.tensor(a[:1].copy())):
        assert close(run(rule, hypers, convert)[0][0], alone[0], FORMS_FLOAT64)


def test_lamb_and_lars_are_the_papers() -> None:
    p, g = np.array([3.0, 4.0]), np.array([0.6, 0.8])
    new_p, *_ = rules.lars(p, g, None, lr=0.1, trust_coefficient=0.01, momentum=0.0)
    assert new_p == pytest.approx(p - 0.1 * 0.01 * 5.0 / 1.0 * g, rel=ROUNDED64)
    new_p, buffer = rules.lars(
        p, g, np.array([1.0, 1.0]), lr=0.1, trust_coefficient=0.01, momentum=0.9, weight_decay=0.2
    )
    assert buffer == pytest.approx(0.9 + 0.1 * (0.01 * 5.0 / (1.0 + 0.2 * 5.0)) * (g + 0.2 * p), rel=ROUNDED64)
    new_p, *_ = rules.lamb(p, g, np.zeros(2), np.zeros(2), lr=0.1, eps=0.0, t=1)
    assert new_p == pytest.approx(
        p - 0.1 * 5.0 / np.sqrt(2) * np.ones(2), rel=ROUNDED64
    )  # Adam's first direction is sign(g)
    still, *_ = rules.lamb(np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(2), eps=1e-6, t=1)
    assert still.tolist() == [0.0, 0.0]


DTYPES = [(torch.float32, FORMS_FLOAT32), (torch.bfloat16, FORMS_BFLOAT16), (torch.float16, FORMS_FLOAT16)]


@pytest.mark.parametrize(("rule", "variant"), thinned(CASES, 3, IDS))
def test_every_dtype(rule: Rule, variant: dict[str, Any]) -> None:
    """One step from the same values: the low precision is only in what is stored."""
    hypers = hypers_of(rule, variant)
    p, gradients = numbers()
    for dtype, tolerance in DTYPES:
        low_p, low_g = torch.from_numpy(p).to(dtype), torch.from_numpy(gradients[0]).to(dtype)
        got, state = step(rule, low_p, low_g, {}, 1, hypers)
        wanted, reference = step(rule, low_p.double(), low_g.double(), {}, 1, hypers)
        assert got.dtype is dtype
        assert close(got.double(), wanted, tolerance)
        of_model = {s.name for s in rule.slots if s.per_model}
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                if name in of_model:
                    assert value.dtype is torch.float64
                elif value.shape == low_p.shape:  # a number of a tensor is in float32 or better
                    assert value.dtype is dtype
                assert close(value.double(), reference[name], tolerance)
    half = step(rule, p.astype(np.float16), gradients[0].astype(np.float16), {}, 1, hypers)[0]
    assert half.dtype == np.float16


@pytest.mark.parametrize(("rule", "variant"), thinned(CASES, 3, IDS))
def test_vmap_gives_each_lane_its_own_rate(rule: Rule, variant: dict[str, Any]) -> None:
    hypers = hypers_of(rule, variant)
    p, gradients = numbers()
    lanes = torch.stack([torch.from_numpy(p), torch.from_numpy(p) * 2])
    g = torch.stack([torch.from_numpy(gradients[0]), torch.from_numpy(gradients[1])])
    rates = torch.tensor([hypers["lr"], 3 * hypers["lr"]], dtype=torch.float64)
    _, state = step(rule, lanes[0], g[0], {}, 1, hypers)
    names = [n for n, v in state.items() if v is not None]

    def one_lane(p: Any, g: Any, lr: Any, *slots: Any) -> Any:
        new_p, new = step(rule, p, g, dict(zip(names, slots, strict=True)), 2, {**hypers, "lr": lr})
        return new_p, *(torch.as_tensor(new[n], dtype=torch.float64) for n in names)

    slots = [
        state[n] if isinstance(state[n], torch.Tensor) else torch.tensor(state[n], dtype=torch.float64) for n in names
    ]
    in_lanes = torch.func.vmap(one_lane, in_dims=(0, 0, 0, *(None for _ in names)))(lanes, g, rates, *slots)
    for k in range(2):
        alone = one_lane(lanes[k], g[k], float(rates[k]), *slots)
        for got, wanted in zip(in_lanes, alone, strict=True):
            assert close(got[k], wanted, FORMS_FLOAT64)


@pytest.mark.parametrize(("rule", "variant"), CASES, ids=IDS)
def test_the_graph_prints_the_function_it_was_traced_from(rule: Rule, variant: dict[str, Any]) -> None:
    """The printed text, run as Python on torch tensors, gives the same bits as the author's function."""
    hypers = hypers_of(rule, variant)
    p, gradients = (torch.from_numpy(numbers()[0]), [torch.from_numpy(g) for g in numbers()[1]])
    state: dict[str, Any] = {}
    for t, g in enumerate(gradients, start=1):
        used = {s.name for s in rule.slots} - trace(rule, variant).absent
        now = {s.name: state.get(s.name) for s in rule.slots}
        absent = frozenset(
            s.name for s in rule.slots if s.name not in used or (s.absent_at_first and now[s.name] is None)
        )
        graph = trace(rule, variant, absent=absent)
        scope: dict[str, Any] = {n: getattr(maths, n) for n in maths.NAMES} | hypers | {"p": p, "g": g, "t": float(t)}
        scope |= {s.name: start(s, p, hypers) for s in rule.slots if s.name in used}
        scope |= {n: v for n, v in now.items() if v is not None}
        exec(text(graph), scope)
        p, state = step(rule, p, g, state, t, hypers)
        assert torch.equal(scope["p"], p)
        for name in used:
            assert torch.equal(torch.as_tensor(scope[name]), torch.as_tensor(state[name]))


DIVIDED = ("mars", "stable_adamw", "novograd", "dog", "ldog")
"""What divides by a mean, a norm or a sum over the tensor, which is nan where an element is."""


@pytest.mark.parametrize("rule", elementwise.RULES, ids=elementwise.NAMES)
def test_bad_gradients_raise_nothing_and_stay_in_their_element(rule: Rule) -> None:
    hypers = rule.bind({})
    bad = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, 5e-324, 1.0]
    for convert in (torch.tensor, np.array):
        p, g = convert([1.0] * len(bad)), convert(bad)
        new_p, states = step(rule, p, g, {}, 1, hypers)
        elements = [state for state in states.values() if np.shape(state)]
        assert any(math.isnan(float(value[0])) for value in (new_p, *elements)), "sign(nan) is 0, so a state shows it"
        if rule.name not in DIVIDED:
            assert math.isfinite(float(new_p[-1]))
    for value in bad:
        step(rule, 1.0, value, {}, 1, hypers)


def test_lion_is_the_papers() -> None:
    """torch has no Lion: against the paper's algorithm 2, by hand."""
    p, m = 1.0, 0.25
    new_p, new_m = rules.lion(p, -0.5, m, lr=0.1, beta1=0.9, beta2=0.99)
    assert new_p == pytest.approx(1.0 - 0.1 * 1.0, rel=ROUNDED64)  # c = 0.9 * 0.25 - 0.1 * 0.5 > 0
    assert new_m == pytest.approx(0.99 * 0.25 - 0.01 * 0.5, rel=ROUNDED64)
    decayed, _ = step(
        composed(rules.lion),
        p,
        -0.5,
        {"exp_avg": m},
        1,
        composed(rules.lion).bind({"lr": 0.1, "weight_decay": 0.2}),
    )
    assert decayed == pytest.approx(1.0 - 0.1 * (1.0 + 0.2 * 1.0), rel=ROUNDED64)


def test_a_rule_is_pure() -> None:
    """Nothing that it is given is written to: parameter, gradient, and the states of the step before."""
    for rule in rules.CATALOGUE.values():
        if rule.looked:  # it is given more: `steprule check` asks the same of it
            continue
        p, g = torch.ones(3), torch.ones(3)
        _, state = step(rule, p, g, {}, 1, rule.bind({}))
        given = [x for x in (p, g, *state.values()) if isinstance(x, torch.Tensor)]
        kept = [(x.clone(), x._version) for x in given]
        step(rule, p, g, state, 2, rule.bind({}))
        assert all(torch.equal(x, was) and x._version == version for x, (was, version) in zip(given, kept, strict=True))
