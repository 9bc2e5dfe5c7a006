"""Parameters in bfloat16 and float16, rounded by chance and with what is lost kept: what holds of both, against a plain loop."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import warnings
from typing import Any

import pytest
import torch
from rounded_by_hand import LAYOUTS, LOW, ByHand, KahanByHand, betas, gradients, parameters, same, take
from thinning import thinned
from tolerances import OTHER_ROUNDINGS
from torch import nn

from steprule import optim, rule
from steprule.compiler.threads import one_thread
from steprule.hyper import Rate
from steprule.optim.classes import class_of

EACH_DTYPE = pytest.mark.parametrize("dtype", LOW, ids=["bfloat16", "float16"])
EACH_BACKEND = pytest.mark.parametrize("backend", ["numba", "eager"])
SEED = 2**40 + 7
GIVEN: dict[str, dict[str, Any]] = {
    "stochastic": {"rounding": "stochastic", "seed": SEED}, "kahan": {"rounding": "kahan"},
}  # fmt: skip
EACH_ROUNDING = pytest.mark.parametrize("how", GIVEN)
MULTIPLIES = ("Muon", "NorMuon", "Scion", "Dion")
KEPT = "kahan_comp"


def by_hand(how: str, of: Any, params: list[nn.Parameter], **settings: Any) -> ByHand:
    """The plain loop of a rounding."""
    return KahanByHand(of, params, **settings) if how == "kahan" else ByHand(of, params, SEED, **settings)


def held_to(optimizer: Any, params: list[nn.Parameter], hand: ByHand, backend: str, t: int) -> None:
    """Take a step by both, compare, and go on from one place."""
    few = len(params) <= 5
    grads = [torch.ones_like(p) * t for p in params] if few else gradients(params, t)
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    optimizer.step()
    hand.step(grads)
    same(optimizer, params, hand, 0.0 if backend == "eager" else OTHER_ROUNDINGS)
    hand.go_on_from(optimizer, params)


@EACH_DTYPE
@EACH_BACKEND
@pytest.mark.parametrize(("name", "how"), thinned(itertools.product(optim.NAMES, GIVEN), 11))
def test_every_class_is_a_plain_loop(name: str, how: str, backend: str, dtype: torch.dtype) -> None:
    """The author's function in float32, then rounded by hand: with resting ones, an expanded gradient, a float32 one."""
    kind = class_of(name)
    if kind.rule.looked:
        pytest.skip("what it looks at is computed from the parameters")
    if backend == "numba" and name in MULTIPLIES:
        pytest.skip("its products, in bfloat16, add up in another order: the steps differ by more than a rounding")
    params = [p for p in parameters(dtype) if p.ndim == 2 or not name.startswith("Muon")]
    settings = {"lr": 0.003} if "lr" in kind.rule.defaults else {}
    given = {**settings, "adjust_lr_fn": "original"} if name == "Muon" else settings
    optimizer = kind(params, **settings, **GIVEN[how], backend=backend)
    by_rule = optimizer.as_rule(optimizer.param_groups[0])
    hypers = {h.name: by_rule[h.name] for h in kind.rule.hypers if h.name in by_rule and h.given is None}
    known = {k: v for k, v in given.items() if k in hypers}
    hand = by_hand(how, kind.rule, params, **{**known, **hypers, **betas(optimizer)})
    for t in range(1, 4):
        held_to(optimizer, params, hand, backend, t)
    if how == "kahan":
        assert {optimizer.state[p][KEPT].dtype for p in params if p.dtype in LOW} == {dtype}
        assert not any(KEPT in optimizer.state.get(p, {}) for p in params if p.dtype not in LOW)


@rule
def own_step(p, g, m, *, lr: Rate = 0.01):  # type: ignore[no-untyped-def]
    """A rule of one's own, whose state is a delay line."""
    return p - lr * (g + 0.5 * m), g


PARTS = [
    dict(zip(("weight_decay", "maximize", "clip_norm", "ema_decay"), values, strict=True))
    for values in itertools.product((0.0, 0.1), (False, True), (0.0, 1.0), (0.0, 0.9))
]


@EACH_DTYPE
@pytest.mark.parametrize(("layout", "parts", "how"), thinned(itertools.product(LAYOUTS, PARTS, GIVEN), 11))
def test_parts_layouts_and_dtypes(layout: str, parts: dict[str, Any], how: str, dtype: torch.dtype) -> None:
    """Weight decay, ascent, clipping and averaging, over tensors that lie in any way, in both forms."""
    for backend in ("numba", "eager"):
        for kind in (optim.AdamW, optim.from_rule(own_step)):
            params = parameters(dtype, layout)
            optimizer = kind(params, lr=0.01, **GIVEN[how], backend=backend, **parts)
            hand = by_hand(how, kind.rule, params, lr=0.01, **parts)
            for t in (1, 2):
                held_to(optimizer, params, hand, backend, t)


@EACH_DTYPE
@EACH_ROUNDING
def test_bits_are_those_of_one_thread_and_of_several(how: str, dtype: torch.dtype) -> None:
    """A tensor that several threads step has the bits of one thread, and those of the author's function."""
    found = []
    for way in ("threads", "one", "eager"):
        p = nn.Parameter(torch.linspace(-2, 2, 200_003).to(dtype))
        given = {"momentum": 0.0 if how == "kahan" else 0.5, **GIVEN[how]}
        optimizer = optim.SGD([p], lr=1e-3, **given, backend="eager" if way == "eager" else "numba")
        for t in (1, 2):
            p.grad = torch.full_like(p, 0.3 * t)
            if way == "one":
                with one_thread():
                    optimizer.step()
            else:
                optimizer.step()
        held = [v for n, v in optimizer.state[p].items() if n != "step"]
        assert len(held) == 1
        found.append((p.detach(), *held))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@EACH_DTYPE
@EACH_BACKEND
@EACH_ROUNDING
@pytest.mark.parametrize("name", ["AdamW", "SGD", "RMSprop", "Lion", "Adafactor", "ScheduleFreeAdamW"])
def test_save_and_load_in_the_middle(name: str, how: str, backend: str, dtype: torch.dtype) -> None:
    """Bit for bit, through a file, a copy and a pickle; the checkpoint has the seed and the steps, or what was lost."""
    kind = class_of(name)
    whole, params = parameters(dtype), parameters(dtype)
    straight, first = (kind(own, **GIVEN[how], backend=backend) for own in (whole, params))
    for t in range(1, 7):
        take(straight, whole, t)
        take(first, params, t)
        if t == 2:
            file = io.BytesIO()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # schedule-free: the model saved is that of training
                torch.save(first.state_dict(), file)
            file.seek(0)
            other = {"rounding": "stochastic", "seed": 3} if how == "stochastic" else {}
            first = kind(params, **other, backend=backend)
            first.load_state_dict(torch.load(file, weights_only=True))
        elif t in (3, 4):
            first = copy.deepcopy(first) if t == 3 else pickle.loads(pickle.dumps(first))
            params = first.param_groups[0]["params"]
    assert {n: first.param_groups[0][n] for n in GIVEN[how]} == GIVEN[how]
    assert all(torch.equal(a, b) for a, b in zip(whole, params, strict=True))
    for a, b in zip(whole, params, strict=True):
        if how == "kahan" and a.dtype in LOW:
            assert torch.equal(straight.state[a][KEPT], first.state[b][KEPT])


@EACH_ROUNDING
def test_float32_and_float64_are_stepped_as_without(how: str) -> None:
    for dtype in (torch.float32, torch.float64):
        found = []
        for given in ({}, GIVEN[how]):
            p = nn.Parameter(torch.linspace(-1, 1, 50, dtype=dtype))
            optimizer = optim.AdamW([p], lr=0.01, **given)
            for _ in range(3):
                p.grad = p.detach().clone()
                optimizer.step()
            found.append(p.detach())
        assert torch.equal(*found)
        assert set(optimizer.state[p]) == {"step", "exp_avg", "exp_avg_sq"}
