"""Totals over all tensors, and numbers of the model: Prodigy beside its authors' class, and what a stranger may bring."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from compare import all_apart, apart
from tolerances import DRAWN_FLOAT32, PRODIGY_FLOAT64, RUN64, TOTALS_FLOAT64

import steprule
from steprule import optim, rule, rules
from steprule.compiler import eager
from steprule.errors import InputError, RuleError
from steprule.hyper import AbsentAtFirst, Momentum, OnePerModel, OnePerTensor, Rate
from steprule.maths import norm, size, sqrt, total, where
from steprule.play import network, trainings
from steprule.problems import catalogue as problems

SHAPES = [(3, 5), (7,), (2, 3, 2), (1,), ()]
BACKENDS = ("eager", "numba", "triton")


def tensors(seed: int = 0, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_() for shape in SHAPES]


def slide(params: list[torch.Tensor], t: int) -> None:
    """Gradients of a bowl, with noise: along them the distance is found."""
    drawn = torch.Generator().manual_seed(t)
    for k, p in enumerate(params):
        noise = torch.randn(p.shape, generator=drawn, dtype=torch.float64).to(p.dtype)
        p.grad = (k + 1) * (p.detach() - 1.5) + 0.3 * noise


SETTINGS = [
    {"d_decay": 0.93, "d_coef": 0.7, "use_bias_correction": True, "growth_rate": 1.3},
    {"d_decay": 0.0, "d_coef": 1.6, "safeguard_warmup": True, "weight_decay": 0.03},
    {"d_decay": 0.9, "weight_decay": 0.03, "decoupled_weight_decay": False, "growth_rate": 2.0},
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("settings", SETTINGS, ids=["corrected", "safeguarded", "coupled"])
def test_prodigy_is_its_authors(settings: dict[str, Any], backend: str) -> None:
    peer = pytest.importorskip("prodigyopt")
    mine, theirs = tensors(), tensors()
    common = {"lr": 0.8, "betas": (0.85, 0.97), "eps": 1e-3, "d0": 1e-3}
    own = optim.class_of("Prodigy")([{"params": mine[:2]}, {"params": mine[2:]}], **common, **settings, backend=backend)
    named = {n: v for n, v in settings.items() if n not in ("decoupled_weight_decay", "d_decay")}
    named |= {"beta3": settings["d_decay"] or None, "growth_rate": settings.get("growth_rate") or float("inf")}
    named["decouple"] = settings.get("decoupled_weight_decay", True)
    other = peer.Prodigy([{"params": theirs[:2]}, {"params": theirs[2:]}], **common, **named)
    for t in range(1, 31):
        if t == 15:  # saved and loaded half-way
            again = optim.class_of("Prodigy")([{"params": mine[:2]}, {"params": mine[2:]}], backend=backend)
            again.load_state_dict(copy.deepcopy(own.state_dict()))
            own = again
        slide(mine, t)
        slide(theirs, t)
        own.step()
        other.step()
        assert all_apart(mine, theirs) <= PRODIGY_FLOAT64
        for p, q in zip(mine, theirs, strict=True):
            a, b = own.state[p], other.state[q]
            for name in ("s", "exp_avg", "exp_avg_sq"):
                assert apart(a[name].flatten(), b[name].flatten()) <= PRODIGY_FLOAT64, (t, name)
        for name in ("d", "d_max", "d_numerator"):
            right = torch.tensor(other.param_groups[0][name], dtype=torch.float64)
            assert apart(own.state[mine[0]][name], right) <= PRODIGY_FLOAT64, (t, name)
    assert float(own.state[mine[0]]["d"]) > 0.01  # it has found a distance


@rule
def shared(
    p, g, m, c: Annotated[float, OnePerTensor(1.0)], e: Annotated[float, OnePerModel(0.5)],
    *, lr: Rate = 0.1, mu: Momentum = 0.9, t,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Totals of elements, of numbers of a tensor, and of what follows from totals."""
    n = sqrt(total(g**2))
    k = total(norm(g)) + total(lr) + total(size(p) * c)
    m = mu * m + g / (n + 1)
    q = total(m * n) / (1 + k)
    c = 0.5 * c + norm(m) + q
    e = 0.5 * e + where(q > 0, q, 0.1) + 1 / (1 + k)
    return p - lr * m * e - 0.01 * c * q * (1 - 0.5**t), m, c, e


def stepped(
    backend: str, groups: list[dict[str, Any]], params: list[torch.Tensor], steps: range
) -> optim.RuleOptimizer:
    found = optim.from_rule(shared)(groups, backend=backend)
    go(found, params, steps)
    return found


def go(optimizer: torch.optim.Optimizer, params: list[torch.Tensor], steps: range) -> None:
    for t in steps:
        slide(params, t)
        optimizer.step()


def by_hand(params: list[torch.Tensor], hypers: list[dict[str, Any]], steps: range) -> list[dict[str, Any]]:
    """The author's function on every tensor, with totals over all of them, computed in the open: each total one after the other."""
    states: list[dict[str, Any]] = [{"m": torch.zeros_like(p), "c": 1.0, "e": 0.5} for p in params]
    for t in steps:
        slide(params, t)
        gs = [p.grad for p in params]
        n = float(sum(float((g**2).sum()) for g in gs)) ** 0.5  # type: ignore[operator]
        k = sum(float(g.norm()) for g in gs) + sum(h["lr"] for h in hypers)  # type: ignore[union-attr]
        k += sum(p.numel() * s["c"] for p, s in zip(params, states, strict=True))
        for g, s, h in zip(gs, states, hypers, strict=True):
            s["m"] = h["mu"] * s["m"] + g / (n + 1)  # type: ignore[operator]
        q = sum(float((s["m"] * n).sum()) for s in states) / (1 + k)
        for p, s, h in zip(params, states, hypers, strict=True):
            s["c"] = 0.5 * s["c"] + float(s["m"].norm()) + q
            s["e"] = 0.5 * s["e"] + (q if q > 0 else 0.1) + 1 / (1 + k)
            with torch.no_grad():
                p.sub_(h["lr"] * s["m"] * s["e"] + 0.01 * s["c"] * q * (1 - 0.5**t))
    return states


@pytest.mark.parametrize("backend", BACKENDS)
def test_groups_of_other_numbers_and_switches_share_their_totals(backend: str) -> None:
    mine, theirs = tensors(), tensors()
    hypers = [{"lr": 0.1, "mu": 0.9}] * 2 + [{"lr": 0.02, "mu": 0.0}] * 3
    groups = [{"params": mine[:2], "lr": 0.1}, {"params": mine[2:], "lr": 0.02, "mu": 0.0}]
    torch.set_default_dtype(torch.float64)
    try:
        found = stepped(backend, groups, mine, range(1, 9))
    finally:
        torch.set_default_dtype(torch.float32)
    states = by_hand(theirs, hypers, range(1, 9))
    assert all_apart(mine, theirs) <= TOTALS_FLOAT64
    for p, state in zip(mine, states, strict=True):
        held = {n: v for n, v in found.state[p].items() if n in state}
        wanted = [torch.as_tensor(state[n], dtype=torch.float64) for n in held]
        assert all_apart(held.values(), wanted) <= TOTALS_FLOAT64


def test_a_number_of_the_model_is_one_tensor_and_outlives_rest_copies_and_checkpoints() -> None:
    params = tensors()
    found = stepped("numba", [{"params": params[:4]}], params[:4], range(1, 4))
    number = found.state[params[0]]["e"]
    assert number.dtype is torch.float64
    assert all(found.state[p]["e"] is number for p in params[:4])
    again = copy.deepcopy(found)
    own = again.param_groups[0]["params"]
    assert all(again.state[p]["e"] is again.state[own[0]]["e"] is not number for p in own)

    slide(params, 4)
    params[1].grad = params[4].grad = None  # one rests, and another joins a step later with what is true then
    found.step()
    assert found.state[params[1]]["e"] is number
    found.add_param_group({"params": params[4:]})
    loaded = optim.from_rule(shared)([{"params": params[:4]}, {"params": params[4:]}], backend="numba")
    loaded.load_state_dict(copy.deepcopy(found.state_dict()))
    before = float(number)
    assert {float(state["e"]) for state in loaded.state.values()} == {before}
    slide(params, 5)
    params[0].grad = None  # the copy that the first has must follow, though it rests
    loaded.step()
    assert loaded.state[params[0]]["e"] is loaded.state[params[4]]["e"]
    assert float(loaded.state[params[0]]["e"]) != before


def test_groups_that_give_two_numbers_are_refused_in_one_line() -> None:
    @rule
    def torn(p, g, e: Annotated[float, OnePerModel(1.0)], *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * e * g, 0.5 * e + lr

    params = tensors()
    for backend in BACKENDS[:2]:
        made = optim.from_rule(torn)([{"params": params[:2]}, {"params": params[2:], "lr": 0.3}], backend=backend)
        slide(params, 1)
        before = [p.detach().clone() for p in params]
        with pytest.raises(
            InputError, match=r"torn: the new e: expected one number for the whole model, got 0\.6 and 0\.8"
        ):
            made.step()
        assert all_apart(params, before) == 0  # nothing was written


def refusals() -> Iterator[tuple[Any, str]]:
    def behind_an_if(p, g, *, lr: Rate = 0.1, t):  # type: ignore[no-untyped-def]
        if t < 3:
            g = g / total(g**2)
        return p - lr * g

    def decided(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        if total(g**2) > 1:
            lr = lr / 2
        return p - lr * g

    def of_a_tensor(p, g, e: Annotated[float, OnePerModel(1.0)], *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * e * g, norm(g)

    yield behind_an_if, "a total behind an `if`"
    yield decided, "an `if` on a computed value|an `if` on .* follows from a total"
    yield of_a_tensor, "expected one number per model as the new e, got one per tensor"


@pytest.mark.parametrize(("function", "said"), list(refusals()))
def test_what_cannot_be_a_total_is_said_in_one_line(function: Any, said: str) -> None:
    with pytest.raises(RuleError, match=said) as caught:
        steprule.trace(rule(function))
    assert "\n" not in str(caught.value)


def test_an_absent_number_of_the_model_is_refused() -> None:
    with pytest.raises(RuleError, match="one number per model that starts at a number"):

        @rule
        def mine(p, g, e: Annotated[float, OnePerModel(), AbsentAtFirst()], *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
            return p - lr * g, e


def test_by_hand_a_tensor_alone_is_the_model() -> None:
    prodigy = rules.get("prodigy")
    p = torch.tensor([1.0, -2.0])
    whole = prodigy(p, p, torch.zeros(2), p, torch.zeros(2), torch.zeros(2), 1e-3, 1e-3, 0.0, t=1)
    one = eager.One(p.double(), p.double(), {}, 1, {**prodigy.defaults, "d0": 1e-3})
    ((new_p, state),) = eager.step_together(prodigy, [one], {})
    assert whole[0].dtype is torch.float32
    assert apart(whole[0].double(), new_p) <= DRAWN_FLOAT32
    assert isinstance(state["d"], float)


def test_lanes_of_both_engines_and_a_training_alone_agree() -> None:
    """Of a model with four tensors, in float64."""
    task = problems.get("airfoil-mlp")
    double = steprule.Problem(
        "double", "", task.features.double(), task.targets.double(), lambda: task.model().double(), task.loss
    )
    given, how = {"d0": [1e-3, 1e-2], "clip_norm": [0.5, 2.0]}, {"epochs": 1, "batch_size": 256}
    for name in ("prodigy", shared):
        set_ = given if name == "prodigy" else {"lr": [0.01, 0.02], "clip_norm": [0.5, 2.0]}
        found = [steprule.sweep(name, double, set_, compile=c, **how).train[:, 0] for c in (True, False)]
        points = [dict(zip(set_, values, strict=True)) for values in zip(*set_.values(), strict=True)]
        solo = [steprule.train(name, double, **point, **how).final_loss for point in points]
        assert np.allclose(found[0], solo, rtol=RUN64, atol=0)
        assert np.allclose(found[1], solo, rtol=RUN64, atol=0)


def test_a_page_that_trains_refuses_totals_in_one_line() -> None:
    """Its steps are printed per tensor."""
    with pytest.raises(InputError, match="got prodigy, which asks for a total over all of them"):
        trainings.code(network.NETWORK, [("Prodigy", rules.get("prodigy"), {})])


@rule
def far_read(
    p: Any, g: Any, m: Annotated[Any, AbsentAtFirst()], d: Annotated[Any, OnePerModel(1.0)], *, lr: Rate = 0.01
) -> Any:
    n = sqrt(total(g**2))
    d = d + 0.1 * n
    m = g if m is None else 0.9 * m + g / (1.0 + n)
    return p - lr * d * m, m, d


@far_read.evaluated
def far_point(p: Any, m: Any, d: Any) -> Any:
    return p + d * m


@pytest.mark.parametrize("backend", ["eager", "numba"])
def test_a_rule_with_totals_is_read_at_its_point(backend: str) -> None:
    params = tensors()
    optimizer = optim.from_rule(far_read)(params, lr=0.01, backend=backend)
    for t in range(1, 4):
        slide(params, t)
        optimizer.step()
    states = [optimizer.state[p] for p in params]
    expected = [p.detach() + float(s["d"]) * s["m"] for p, s in zip(params, states, strict=True)]
    assert all(float(s["d"]) > 1.0 for s in states)
    with optimizer.evaluated():
        read = [p.detach().clone() for p in params]
    for got, wanted in zip(read, expected, strict=True):
        assert apart(got, wanted) <= TOTALS_FLOAT64


@rule
def summed_read(p: Any, g: Any, m: Any, *, lr: Rate = 0.01) -> Any:
    return p - lr * g, m + g


@summed_read.evaluated
def summed_point(p: Any, m: Any) -> Any:
    return p + m * total(m)


@pytest.mark.parametrize("backend", ["eager", "numba"])
def test_a_point_of_evaluation_asks_for_no_total(backend: str) -> None:
    params = tensors()
    optimizer = optim.from_rule(summed_read)(params, backend=backend)
    slide(params, 1)
    optimizer.step()
    with pytest.raises(RuleError, match=r"summed_read\.evaluated: expected what each tensor has on its own"):
        optimizer.eval()
    with pytest.raises(RuleError, match="a total over all tensors"):
        eager.evaluated(summed_read, np.ones(2), {"m": np.ones(2)}, 1, summed_read.defaults)
