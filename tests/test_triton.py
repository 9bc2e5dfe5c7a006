"""The Triton form in Triton's interpreter, against the eager form."""

from __future__ import annotations

import itertools
import os
import sys
from typing import Any

import elementwise
import pytest
import torch
from compare import apart
from thinning import thinned
from tolerances import (
    CLASS_BFLOAT16_RUN,
    CLASS_FLOAT32_RUN,
    CLASS_FLOAT64,
    FORMS_VOCABULARY,
    INTERPRETER_BFLOAT16_RUN,
    KEPT_BFLOAT16,
    ROUNDED32,
    TRITON_TANH_ULP,
)
from torch import Tensor
from whole_vocabulary import everything

from steprule import optim, rule, rules
from steprule.errors import InputError
from steprule.hyper import Rate
from steprule.maths import atan2, tanh
from steprule.optim import buckets as planning
from steprule.optim.backends import target_for
from steprule.rules.parts import composed

triton = pytest.importorskip("triton", reason="Triton is for Linux")
if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 3):
    pytest.skip(
        "the interpreter of Triton 3.2 cannot loop to a bound it loaded; its AOT calls differ", allow_module_level=True
    )
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs Triton's interpreter", allow_module_level=True)

# The interpreter computes with numpy, which warns where a GPU gives inf or nan.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

SHAPES = [(3, 5), (1500,), (), (0,), (1024,)]
WITHIN = {
    torch.float64: CLASS_FLOAT64,
    torch.float32: CLASS_FLOAT32_RUN,
    torch.bfloat16: INTERPRETER_BFLOAT16_RUN,
    torch.float16: CLASS_BFLOAT16_RUN,
}


def ends(kind: Any, dtype: torch.dtype, settings: dict[str, Any], backend: str, steps: int = 3) -> list[Tensor]:
    """Parameters and states after some steps; the second gradient lies otherwise, one parameter rests at times."""
    generator = torch.Generator().manual_seed(0)
    params = [(torch.randn(s, generator=generator) + 1).to(dtype).requires_grad_() for s in SHAPES]
    optimizer = kind(params, **settings, backend=backend)
    for t in range(1, steps + 1):
        for k, p in enumerate(params):
            g = torch.randn(p.shape, generator=generator).to(dtype)
            if g.ndim == 2 and t == 2:
                g = g.t().contiguous().t()
            p.grad = None if (k, t) == (1, 2) else g
        optimizer.step()
    found = [p.detach() for p in params]
    for p in params:
        found += [v for _, v in sorted(optimizer.state[p].items()) if isinstance(v, Tensor)]
    return found


def far(kind: Any, dtype: torch.dtype, settings: dict[str, Any], **how: Any) -> float:
    a, b = (ends(kind, dtype, settings, backend, **how) for backend in ("triton", "eager"))
    assert [x.dtype for x in a] == [y.dtype for y in b]
    gaps = [
        ((x - y).abs().max() / y.abs().max().clamp(min=1e-30)).item() for x, y in zip(a, b, strict=True) if x.numel()
    ]
    return max(gaps)


@pytest.mark.parametrize("name", thinned(elementwise.NAMES, 4))
def test_every_rule_and_variant(name: str) -> None:
    kind = optim.from_rule(name)
    for variant in composed(rules.get(name)).variants():
        assert far(kind, torch.float32, {"lr": 0.05, **variant}, steps=2) <= CLASS_FLOAT32_RUN, variant


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", thinned(elementwise.NAMES, 3))
def test_every_rule_in_other_dtypes(name: str, dtype: torch.dtype, float64_default: None) -> None:
    if dtype is torch.bfloat16 and any(s.per_model for s in rules.get(name).slots):
        pytest.skip(
            "the interpreter cuts off at a store to bfloat16: a step that rounds away moves p, and distances follow from it"
        )
    assert far(optim.from_rule(name), dtype, {"lr": 0.05, "weight_decay": 0.1}) <= WITHIN[dtype]


@pytest.mark.parametrize(
    ("value", "total", "ema", "zero"), list(itertools.product((0.0, 0.9), (0.0, 3.0), (0.0, 0.7), (False, True)))
)
@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_each_composition(name: str, value: float, total: float, ema: float, zero: bool) -> None:
    settings = {"lr": 0.05, "clip_value": value, "clip_norm": total, "ema_decay": ema, "zero_grad": zero}
    assert far(getattr(optim, name), torch.float32, settings) <= CLASS_FLOAT32_RUN


@pytest.mark.parametrize("name", thinned(elementwise.NAMES, 7))
def test_every_rule_with_all_parts(name: str) -> None:
    settings = {"clip_value": 0.9, "clip_norm": 3.0, "ema_decay": 0.7, "zero_grad": True, "weight_decay": 0.1}
    assert far(optim.from_rule(name), torch.float32, settings) <= CLASS_FLOAT32_RUN


def test_grad_scaler() -> None:
    found = []
    for backend in ("triton", "eager"):
        p = torch.ones(5, requires_grad=True)
        optimizer, scaler = optim.Adam([p], lr=0.1, backend=backend), torch.amp.GradScaler("cpu", init_scale=64.0)
        for t in range(4):
            optimizer.zero_grad()
            scaler.scale((p * p).sum() * (float("inf") if t == 1 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
        found.append(p.detach())
        assert optimizer.state[p]["step"] == 3
    assert torch.allclose(*found, rtol=ROUNDED32, atol=0)


@pytest.mark.parametrize("dtype", thinned([torch.float64, torch.float32], 2))
def test_the_whole_vocabulary(dtype: torch.dtype, float64_default: None) -> None:
    within = {torch.float64: FORMS_VOCABULARY, torch.float32: CLASS_FLOAT32_RUN}[dtype]
    assert far(optim.from_rule(everything), dtype, {}) <= within


def test_special_values() -> None:
    """NaN, inf and signed zero, in maxima, signs and picks, as the eager form."""
    values = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-40, 3e38, -2.0])
    for kind, settings in ((optim.Adamax, {}), (optim.Lion, {}), (optim.Adam, {"amsgrad": True, "clip_value": 1.0})):
        found = []
        for backend in ("triton", "eager"):
            p = torch.ones(8, requires_grad=True)
            optimizer = kind([p], backend=backend, **settings)
            for _ in range(2):
                p.grad = values.clone()
                optimizer.step()
            found.append(p.detach())
        assert torch.allclose(*found, equal_nan=True, rtol=ROUNDED32, atol=0)


@rule
def angles(p, g, s, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
    return tanh(p), atan2(g, s)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_functions_that_triton_lacks(dtype: torch.dtype) -> None:
    """tanh and atan2 as torch's: in every quadrant, on the axes, tiny, huge, nan, inf and signed zero."""
    special = [0.0, -0.0, 1.0, -1.0, 1e-30, -1e-5, 0.3, -7.0, 1e30, float("inf"), -float("inf"), float("nan")]
    pairs = torch.tensor(list(itertools.product(special, special)), dtype=dtype)
    y, x = torch.cat(
        [pairs, torch.randn((500, 2), generator=torch.Generator().manual_seed(1)).to(dtype)]
    ).T.contiguous()
    p = y.clone().requires_grad_()
    optimizer = optim.from_rule(angles)([p], backend="triton")
    p.grad = y.clone()
    optimizer.state[p]["s"] = x.clone()
    optimizer.step()
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(p.detach(), torch.tanh(y), rtol=TRITON_TANH_ULP * eps, atol=0, equal_nan=True)
    found, wanted = optimizer.state[p]["s"], torch.atan2(y, x)
    torch.testing.assert_close(found, wanted, rtol=TRITON_TANH_ULP * eps, atol=0, equal_nan=True)
    assert torch.equal(torch.signbit(found[~found.isnan()]), torch.signbit(wanted[~wanted.isnan()]))


def test_the_same_bits_as_numbas_kernel() -> None:
    """Products round before sums in both, so an Adam on a GPU is an Adam on the CPU."""
    a, b = (ends(optim.AdamW, torch.float32, {"weight_decay": 0.1}, backend) for backend in ("triton", "numba"))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_by_chance_has_the_same_bits(dtype: torch.dtype) -> None:
    """Parameters and states."""
    settings = {"lr": 1e-3, "weight_decay": 0.1, "rounding": "stochastic", "seed": 2**40 + 7}
    for kind in (optim.SGD, optim.AdamW):
        a, b = (ends(kind, dtype, settings, backend) for backend in ("triton", "numba"))
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    kept = {**settings, "state_dtype": torch.bfloat16}
    c, d = (ends(optim.AdamW, torch.float32, kept, backend) for backend in ("triton", "numba"))
    assert all(torch.equal(x, y) for x, y in zip(c, d, strict=True))
    a, b = (ends(optim.SGD, dtype, settings, backend) for backend in ("triton", "numba"))
    wide = {**settings, "seed": 2**64 - 1}
    a, c = (ends(optim.SGD, dtype, wide, backend) for backend in ("triton", "eager"))
    assert all(torch.equal(x, y) for x, y in zip(a, c, strict=True))
    assert not torch.equal(b[1], c[1])


def test_kahan_summation_has_the_same_bits() -> None:
    """Parameters, and what they have lost. The interpreter cuts numbers in bfloat16 off: there the sum of the two is the same."""
    for kind in (optim.SGD, optim.AdamW):
        settings = {"lr": 1e-3, "weight_decay": 0.1, "rounding": "kahan"}
        a, b = (ends(kind, torch.float16, settings, backend) for backend in ("triton", "numba"))
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    found = []
    for backend in ("triton", "numba", "eager"):
        p = torch.linspace(-2, 2, 2_000).to(torch.bfloat16).requires_grad_()
        optimizer = optim.SGD([p], lr=1e-3, rounding="kahan", backend=backend)
        for t in range(3):
            p.grad = torch.full_like(p, 0.3 * t)
            optimizer.step()
        found.append(p.detach().double() + optimizer.state[p]["kahan_comp"].double())
    assert torch.equal(found[1], found[2])
    assert apart(found[0], found[1]) <= KEPT_BFLOAT16


def test_nothing_is_built_twice() -> None:
    far(optim.RMSprop, torch.float32, {})
    before = planning.kernel_for.cache_info().misses
    for t in range(1, 4):
        far(optim.RMSprop, torch.float32, {"lr": 0.1 / t}, steps=t + 2)
    assert planning.kernel_for.cache_info().misses == before


def test_a_backend_by_name_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    target_for.cache_clear()
    monkeypatch.delenv("TRITON_INTERPRET")
    p = torch.ones(2, requires_grad=True)
    p.grad = torch.ones(2)
    with pytest.raises(InputError, match="expected parameters on an NVIDIA GPU, got one on cpu"):
        optim.Adam([p], backend="triton").step()
    monkeypatch.setitem(sys.modules, "steprule.compiler.triton_gpu", None)
    with pytest.raises(InputError, match=r'pip install "steprule\[gpu\]"'):
        target_for("triton", "cuda")
    with pytest.raises(InputError, match="expected parameters on an NVIDIA GPU, got one on mps"):
        target_for("triton", "mps")
    assert target_for("auto", "mps") is None
    target_for.cache_clear()
    with pytest.warns(RuntimeWarning, match="eager form, which is slow: triton cannot be imported"):
        assert target_for("auto", "cuda") is None
    target_for.cache_clear()


def test_cards_of_other_makers_are_tried_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """AMD's, which torch calls cuda too, and Intel's, for which the usual Triton has no compiler."""
    from steprule.compiler import triton_calls

    target_for.cache_clear()
    monkeypatch.setattr(triton_calls, "COMPILERS", ("amd", "nvidia"))
    with pytest.raises(
        InputError, match="expected a Triton that compiles for Intel's cards, got one for amd and nvidia"
    ):
        target_for("triton", "xpu")
    assert target_for("auto", "xpu") is None
    monkeypatch.setattr(triton_calls, "COMPILERS", ("intel",))
    assert target_for("triton", "xpu") == "triton"
    monkeypatch.setattr(torch.version, "hip", "6.3")
    target_for.cache_clear()
    with pytest.raises(InputError, match="expected a Triton that compiles for AMD's cards, got one for intel"):
        target_for("triton", "cuda")
    monkeypatch.setattr(triton_calls, "COMPILERS", ("amd", "nvidia"))
    assert target_for("triton", "cuda") == "triton"
    with pytest.warns(RuntimeWarning, match="never run on AMD's cards. backend='triton' tries it"):
        assert target_for("auto", "cuda") is None
    target_for.cache_clear()
