"""The classes' numbers against torch's: every option, a thousand steps, low precision, special gradients, every kernel."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from compare import all_apart, same_states
from grid import CASES, COUNTERPARTS, IDS, Counterpart
from thinning import thinned
from tolerances import (
    CLASS_BFLOAT16_RUN,
    CLASS_FLOAT32_RUN,
    CLASS_FLOAT32_ULP,
    CLASS_FLOAT64,
    CLASS_LOW_ULP,
    MUON_BFLOAT16,
    SMALL_PARAMETERS_RMS,
    TORCH_FLOAT64,
)
from torch import Tensor
from twins import NAMES, ours, parameters, run, set_gradients

from steprule import optim, rules
from steprule.compiler import eager
from steprule.compiler.variant import variant_of
from steprule.optim.settings import hypers_of
from steprule.rules.parts import composed


@pytest.mark.parametrize(("case", "settings"), thinned(CASES, 5, IDS))
def test_every_option_equals_torch(case: Counterpart, settings: dict[str, Any], float64_default: None) -> None:
    if settings.get("maximize"):
        settings = {**settings, "lr": settings["lr"] / 100}  # uphill the loss grows, and differences with it
    a, b = ours(case)(parameters(), **settings), case.torch_class(parameters(), **settings)
    for start in range(1, 121, 40):
        run([a, b], range(start, start + 40))
        assert all_apart(a.param_groups[0]["params"], b.param_groups[0]["params"]) <= CLASS_FLOAT64
        same_states(a, b, CLASS_FLOAT64)


@pytest.mark.long
@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_a_thousand_steps_in_float64(case: Counterpart, float64_default: None) -> None:
    for settings in case.settings():
        if not settings.get("maximize"):
            a, b = ours(case)(parameters(), **settings), case.torch_class(parameters(), **settings)
            run([a, b], range(1, 1001))
            assert all_apart(a.param_groups[0]["params"], b.param_groups[0]["params"]) <= CLASS_FLOAT64
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
                s.name: state[s.name].item() if s.is_number else state[s.name].double()
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
        # torch overflows where ours need not: its RAdam at the largest number, and all that it computes in low precision. The other way
        # round would be a fault.
        assert not (wanted & ~finite).any(), case.rule
        if dtype not in (torch.float16, torch.bfloat16):
            finite[7::9] = wanted[7::9]
            assert torch.equal(finite, wanted), case.rule
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
    assert all_apart(results["serial"], results["eager"]) <= CLASS_FLOAT32_RUN


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
                    s.name: state[s.name].item() if s.is_number else state[s.name].double()
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


STEPPED = [r for r in rules.CATALOGUE.values() if not r.looked]
"""The rules whose class steps without a closure."""


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
@pytest.mark.parametrize("rule", thinned(STEPPED, 14, [r.name for r in STEPPED]))
def test_every_rule_of_the_catalogue_in_its_kernel(rule: Any, dtype: torch.dtype, every: bool) -> None:
    """The kernel against the eager form, every variant, over three steps; reductions and first uses included.

    Where not every variant, the plain one and that with all switches on. A product in bfloat16 is fused with what is added to it.
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
        graph = variant_of(composed(rule), composed(rule).defaults | variant, (3, 5)).graph()
        if any(node.op == "matmul" and node.dtype for node in graph.nodes):
            tolerance = max(tolerance, MUON_BFLOAT16)
        assert all_apart([x.double() for x in a], [y.double() for y in b]) <= tolerance, variant
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
