"""Each rule that torch has gives torch's parameters and states in float64, step by step for 100 steps."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import apart
from grid import CASES, COUNTERPARTS, IDS, Counterpart
from thinning import thinned
from tolerances import TORCH_FLOAT64, TORCH_NADAM_FLOAT32_PRODUCT

from steprule import rules
from steprule.compiler.eager import step
from steprule.rules.parts import composed

STEPS = 100
SHAPES = [(3, 5), (7,), (), (1, 1)]


def run_both(
    case: Counterpart,
    settings: dict[str, Any],
    *,
    tolerance: float,
    change: Callable[[int], dict[str, Any]] = lambda t: {},
) -> None:
    """100 steps of both on a rough convex loss; gradients come from each side's own parameters."""
    generator = torch.Generator().manual_seed(7)
    starts = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    curvature = [torch.rand(shape, generator=generator, dtype=torch.float64) * 3 + 0.1 for shape in SHAPES]
    theirs = [s.clone().requires_grad_() for s in starts]
    ours = [s.clone() for s in starts]
    states: list[dict[str, Any]] = [{} for _ in ours]
    rule = composed(rules.get(case.rule))
    optimizer = case.torch_class(theirs, **settings)
    for t in range(1, STEPS + 1):
        now = {**settings, **change(t)}
        for group in optimizer.param_groups:
            group.update(now)
        wobble = [torch.randn(shape, generator=generator, dtype=torch.float64) * 0.1 for shape in SHAPES]
        for k, p in enumerate(theirs):
            p.grad = curvature[k] * p.detach() + torch.sin(5 * p.detach()) + wobble[k]
        optimizer.step()
        hypers = rule.bind(now)
        for k, p in enumerate(ours):
            g = curvature[k] * p + torch.sin(5 * p) + wobble[k]
            ours[k], states[k] = step(rule, p, g, states[k], t, hypers)
            assert apart(ours[k], theirs[k].detach()) <= tolerance, f"p after step {t}"
            for slot in rule.slots:
                reference = optimizer.state[theirs[k]].get(slot.name)
                mine = states[k][slot.name]
                assert (mine is None) == (reference is None), (
                    f"{slot.name} after step {t}: ours {mine}, torch's {reference}"
                )
                if mine is not None:
                    assert apart(torch.as_tensor(mine, dtype=torch.float64), reference.double()) <= tolerance, (
                        f"{slot.name} after step {t}"
                    )


@pytest.mark.parametrize(("case", "settings"), thinned(CASES, 5, IDS))
def test_every_option_for_100_steps(case: Counterpart, settings: dict[str, Any], float64_default: None) -> None:
    run_both(case, settings, tolerance=TORCH_FLOAT64)


@pytest.mark.parametrize("case", COUNTERPARTS, ids=[c.rule for c in COUNTERPARTS])
def test_learning_rate_that_changes_each_step(case: Counterpart, float64_default: None) -> None:
    run_both(
        case, case.settings()[-1], tolerance=TORCH_FLOAT64, change=lambda t: {"lr": case.base["lr"] * (1.5 - t / STEPS)}
    )


@pytest.mark.parametrize("dampening", [0.0, 0.3])
def test_momentum_switched_on_off_and_on_again(dampening: float, float64_default: None) -> None:
    sgd = COUNTERPARTS[0]
    run_both(
        sgd,
        {"lr": 0.03, "dampening": dampening},
        tolerance=TORCH_FLOAT64,
        change=lambda t: {"momentum": 0.8 if 30 < t <= 60 or t > 80 else 0.0},
    )


def test_weight_decay_switched_on_in_mid_run(float64_default: None) -> None:
    for case in (c for c in COUNTERPARTS if "weight_decay" in inspect.signature(c.torch_class).parameters):
        run_both(
            case, dict(case.base), tolerance=TORCH_FLOAT64, change=lambda t: {"weight_decay": 0.05 if t > 40 else 0.0}
        )


@pytest.mark.parametrize("case", COUNTERPARTS, ids=[c.rule for c in COUNTERPARTS])
def test_complex_parameters(case: Counterpart) -> None:
    settings = case.settings()[-1]
    p = torch.randn(4, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    theirs, ours, state = p.clone().requires_grad_(), p.clone(), {}
    rule = composed(rules.get(case.rule))
    optimizer = case.torch_class([theirs], **settings)
    for t in range(1, 11):
        theirs.grad = theirs.detach() * (1 + 0.5j)
        optimizer.step()
        ours, state = step(rule, ours, ours * (1 + 0.5j), state, t, rule.bind(settings))
        difference = torch.view_as_real(ours - theirs.detach()).abs().max().item()
        assert difference <= (TORCH_NADAM_FLOAT32_PRODUCT if case.rule in ("nadam", "asgd") else TORCH_FLOAT64)
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == optimizer.state[theirs][name].dtype


def test_nadam_where_torch_keeps_its_product_in_float32() -> None:
    assert torch.get_default_dtype() is torch.float32
    nadam = next(c for c in COUNTERPARTS if c.rule == "nadam")
    run_both(nadam, dict(nadam.base), tolerance=TORCH_NADAM_FLOAT32_PRODUCT)
    with pytest.raises(AssertionError):
        run_both(nadam, dict(nadam.base), tolerance=TORCH_FLOAT64)


def test_the_benchmark_measures_it(float64_default: None) -> None:
    """`benchmarks/parity.py` stands on this file and on others of the tests."""
    file = Path(__file__).parent.parent / "benchmarks/parity.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_parity", file)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    found = benchmark.against_its_function(rules.get("signum"))
    assert found["settings"] > 1
    assert found["largest"] <= TORCH_FLOAT64
