"""Rules of matrices: each against a plain loop and against torch's class, in every form, on every shape."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from typing import Any

import elementwise
import matrix_references
import numpy as np
import pytest
import torch
from compare import all_apart, apart, states_apart
from staged_walk import by_author, by_class, by_lanes, by_stages, by_text
from thinning import thinned
from tolerances import (
    CLASS_BFLOAT16_RUN,
    CLASS_FLOAT32_RUN,
    CLASS_FLOAT64,
    MATRICES_FLOAT64,
    MUON_BFLOAT16,
    MUON_SINGULAR,
    RUN64,
)
from torch import Tensor

import steprule
from steprule import optim, rules
from steprule.compiler.numba_matrix import StagedKernel
from steprule.compiler.stages import COPY, Call, Staged
from steprule.compiler.variant import variant_of
from steprule.errors import InputError, RuleError, StepruleError
from steprule.hyper import PerRow, Rate, Square
from steprule.maths import cast, inverse_root, mean, qr, rows, sqrt
from steprule.optim import from_rule
from steprule.problems import catalogue as problems
from steprule.rules.rule import rule

FULL = {"precision": "full"}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "muon": [
        {**FULL, "lr": 0.03, "weight_decay": 0.2, "momentum": 0.8},
        {**FULL, "lr": 0.03, "nesterov": False, "weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw", "eps": 1e-3},
        {
            **FULL,
            "lr": 0.03,
            "adjust_lr_fn": "spectral",
            "ns_steps": 3,
            "ns_coefficient1": 3.0,
            "ns_coefficient2": -4.0,
        },
    ],
    "normuon": [
        {**FULL, "lr": 0.03, "weight_decay": 0.2, "momentum": 0.8, "beta2": 0.7, "eps": 1e-3, "ns_eps": 1e-4},
        {**FULL, "lr": 0.03, "nesterov": False, "ns_steps": 2},
    ],
    "scion": [
        {
            **FULL,
            "lr": 0.03,
            "momentum": 0.3,
            "scale": 7.0,
            "weight_decay": 0.2,
            "ball": ball,
            "eps": 1e-3,
            "constrained": c,
        }
        for ball in ("spectral", "sign", "row", "column", "rms")
        for c in (False, True)
    ],
    "adafactor": [{"lr": 0.3, "weight_decay": 0.2, "beta2_decay": -0.6, "eps1": 1e-3, "eps2": 0.1, "d": 1.2}],
    "soap": [{"lr": 0.03, "beta1": 0.8, "beta2": 0.7, "eps": 1e-3, "weight_decay": 0.2, "precondition_frequency": 2.0}],
    "came": [
        {
            "lr": 0.03,
            "weight_decay": 0.2,
            "beta1": 0.8,
            "beta2": 0.7,
            "beta3": 0.6,
            "eps1": 1e-2,
            "eps2": 0.1,
            "clip_threshold": d,
        }
        for d in (0.7, 1.2)
    ],
    "shampoo": [
        {"lr": 0.03, "momentum": 0.8, "eps": 0.1, "precondition_frequency": f, "max_precondition_dim": n}
        for f, n in ((1.0, 1200), (2.0, 4), (3.0, 50))
    ],
    "sm3": [{"lr": 0.03, "momentum": 0.8, "eps": 0.1}, {"lr": 0.03, "eps": 1e-3}],
}
CASES = [(name, settings) for name, own in SETTINGS.items() for settings in own]
IDS = [f"{name}-{k}" for name, own in SETTINGS.items() for k in range(len(own))]
SQUARE = [(6, 6), (1, 1)]
SHAPES = [*SQUARE, (5, 3), (3, 5), (1, 7), (7, 1), (70, 33)]


def shapes_of(name: str) -> list[tuple[int, int]]:
    """SOAP's first bases of a matrix that is not square are those of a null space, which no paper determines."""
    return SQUARE if name == "soap" else SHAPES


@pytest.mark.parametrize(("name", "settings"), CASES, ids=IDS)
def test_each_is_the_published_loop(name: str, settings: dict[str, Any]) -> None:
    found, reference = rules.get(name), getattr(matrix_references, name)
    h = found.bind(settings)
    loops = {**h, "ns_coefficients": tuple(h[f"ns_coefficient{k}"] for k in (1, 2, 3))} if "ns_steps" in h else h
    for shape in shapes_of(name):
        generator, state = torch.Generator().manual_seed(1), {}
        p = torch.randn(shape, generator=generator, dtype=torch.float64)
        q, kept = p.clone().requires_grad_(), {}
        optimizer = from_rule(found)([q], **settings)
        for _ in range(6):
            g = torch.randn(shape, generator=generator, dtype=torch.float64)
            q.grad = g.clone()
            optimizer.step()
            p = reference(p, g, kept, loops)
            assert apart(q, p) <= MATRICES_FLOAT64, (shape, state)


@pytest.mark.parametrize(("name", "settings"), CASES, ids=IDS)
def test_every_form_is_the_authors_function(name: str, settings: dict[str, Any]) -> None:
    found = rules.get(name)
    hypers = found.bind(settings)
    for shape in shapes_of(name):
        wanted = by_author(found, hypers, shape, 6)
        forms: dict[str, Any] = {"class": by_class, "lanes": by_lanes, "text": by_text}
        if name not in ("soap", "shampoo"):  # whose stages ask for LAPACK
            forms["stages"] = by_stages
        for form, walked in forms.items():
            for step, (row, right) in enumerate(zip(walked(found, hypers, shape, 6), wanted, strict=True)):
                for key, value in right.items():
                    got = torch.as_tensor(np.asarray(row[key])).reshape(torch.as_tensor(value).shape)
                    assert apart(got, value) <= MATRICES_FLOAT64, (form, shape, step, key)


MIXED = [(5, 3), (3, 5), (70, 33), (5, 3), (7,), (1,), (), (4, 3, 3, 3), (0, 3), (3, 0), (1, 4)]


def walked(
    kind: Any, settings: dict[str, Any], shapes: Sequence[tuple[int, ...]], backend: str
) -> tuple[list[Tensor], Any]:
    """Parameters of many shapes in two groups; gradients that rest or lie otherwise; saved and loaded in the middle."""
    generator = torch.Generator().manual_seed(2)
    params = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]

    def made() -> Any:
        return kind([{"params": params[::2]}, {"params": params[1::2], "lr": 0.011}], **settings, backend=backend)

    optimizer = made()
    for t in range(1, 7):
        for k, p in enumerate(params):
            g = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            g = g.mT.contiguous().mT if g.ndim == 2 and t % 2 else g
            p.grad = None if (k + t) % 5 == 0 else g
        optimizer.step()
        if t == 3:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = made()
            optimizer.load_state_dict(saved)
    return params, optimizer


@pytest.mark.parametrize(("name", "settings"), thinned(CASES, 3, IDS))
def test_a_model_of_many_shapes(name: str, settings: dict[str, Any], float64_default: None) -> None:
    """Kernels beside the author's function: vectors, empty ones and convolutions too, with a norm over all of them."""
    shapes = [s for s in MIXED if name != "soap" or s in ((7,), (1,), ())] + ([(6, 6)] * 2 if name == "soap" else [])
    for more in ({}, {"clip_norm": 0.5}):
        kind = from_rule(rules.get(name))
        p, ours = walked(kind, {**settings, **more}, shapes, "auto")
        q, theirs = walked(kind, {**settings, **more}, shapes, "eager")
        assert all_apart(p, q) <= MATRICES_FLOAT64
        for x, y in zip(p, q, strict=True):
            assert list(ours.state[x]) == list(theirs.state[y])
            assert states_apart(ours.state[x], theirs.state[y]) <= MATRICES_FLOAT64
        assert sum(len(plan.places) for plan in ours._plans) > 3, "kernels stepped them"


def test_a_parameter_that_takes_another_shape(float64_default: None) -> None:
    """It comes to the plan of its new slots, and none is left out."""
    for backend in ("auto", "eager"):
        a, b = torch.ones(3, 4, requires_grad=True), torch.ones(5, requires_grad=True)
        optimizer = optim.Adafactor([a, b], lr=0.1, backend=backend)
        for _ in range(2):
            a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)
            optimizer.step()
        with torch.no_grad():
            b.data = torch.ones(2, 6)
        b.grad = None
        del optimizer.state[b]
        a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)
        before = b.detach().clone()
        optimizer.step()
        assert sorted(optimizer.state[b]) == ["col_var", "row_var", "step"]
        assert not torch.equal(b, before)


# torch's classes.


def beside_torch(name: str, settings: dict[str, Any], shapes: Sequence[tuple[int, ...]], dtype: torch.dtype) -> float:
    """The largest gap over twelve steps, of parameters and states; checkpoints change sides in the middle."""
    kinds = [getattr(optim, name), getattr(torch.optim, name)]
    generators = [torch.Generator().manual_seed(3) for _ in kinds]
    sides = [[torch.randn(s, generator=g, dtype=dtype).requires_grad_() for s in shapes] for g in generators]
    ours, theirs = (kind(params, **settings) for kind, params in zip(kinds, sides, strict=True))
    worst = 0.0
    for t in range(12):
        for params, generator in zip(sides, generators, strict=True):
            for p in params:
                p.grad = torch.randn(p.shape, generator=generator, dtype=dtype)
        ours.step()
        theirs.step()
        if t == 5:
            saved = [copy.deepcopy(o.state_dict()) for o in (ours, theirs)]
            ours, theirs = (kind(params, **settings) for kind, params in zip(kinds, sides, strict=True))
            ours.load_state_dict(saved[1])
            theirs.load_state_dict(saved[0])
        worst = max(worst, all_apart(*sides))
        for x, y in zip(*sides, strict=True):
            assert list(ours.state[x]) == list(theirs.state[y])
            assert [v.dtype for v in ours.state[x].values()] == [v.dtype for v in theirs.state[y].values()]
            worst = max(worst, states_apart(ours.state[x], theirs.state[y]))
    return worst


@pytest.mark.parametrize(
    "settings",
    [{}, {"lr": 0.1, "weight_decay": 0.02, "eps": (1e-4, 0.05), "d": 1.3, "beta2_decay": -0.7}, {"maximize": True}],
    ids=["defaults", "away", "maximize"],
)
def test_adafactor_is_torchs(settings: dict[str, Any]) -> None:
    shapes = [(5, 3), (3, 5), (40, 70), (64,), (2, 3, 4), (4, 3, 3, 3), (1,)]
    assert beside_torch("Adafactor", settings, shapes, torch.float64) <= CLASS_FLOAT64
    assert beside_torch("Adafactor", settings, shapes, torch.float32) <= CLASS_FLOAT32_RUN
    assert beside_torch("Adafactor", settings, shapes, torch.bfloat16) <= CLASS_BFLOAT16_RUN


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon since 2.9")
@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 0.02},
        {"lr": 0.02, "nesterov": False, "momentum": 0.8, "weight_decay": 0.03},
        {
            "lr": 0.02,
            "adjust_lr_fn": "match_rms_adamw",
            "ns_steps": 4,
            "ns_coefficients": (3.0, -4.0, 2.0),
            "eps": 1e-4,
        },
    ],
    ids=["defaults", "away", "scaled"],
)
def test_muon_is_torchs_in_bfloat16(settings: dict[str, Any]) -> None:
    shapes = [(5, 3), (3, 5), (40, 70), (64, 64)]
    for dtype in (torch.float64, torch.float32):
        assert beside_torch("Muon", settings, shapes, dtype) <= MUON_BFLOAT16
    assert (
        beside_torch("Muon", {**settings, "ns_coefficients": (2.0, -1.5, 0.5)}, shapes, torch.float32) <= MUON_BFLOAT16
    )
    with pytest.raises(ValueError, match="only supports 2D"):
        optim.Muon([torch.ones(3, requires_grad=True)])


@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (96, 48)])
def test_the_orthogonal_factor_of_muon(shape: tuple[int, int]) -> None:
    """From the first step: p moves by lr o, whose singular values lie in the published band, in bfloat16 as in float64."""
    for precision in ("bfloat16", "full"):
        p = torch.zeros(shape, requires_grad=True)
        p.grad = torch.randn(shape, generator=torch.Generator().manual_seed(4))
        from_rule(rules.muon)([p], lr=1.0, weight_decay=0.0, momentum=0.0, precision=precision).step()
        scale = max(1.0, shape[0] / shape[1]) ** 0.5
        values = torch.linalg.svdvals(p.detach() / scale)
        assert MUON_SINGULAR[0] <= float(values.min()) <= float(values.max()) <= MUON_SINGULAR[1]


# Stages.


def staged(name: str, shape: tuple[int, int], **settings: Any) -> Staged:
    program = variant_of(rules.get(name), rules.get(name).bind(settings), shape).program()
    assert isinstance(program, Staged)
    return program


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)])
def test_muons_stages_are_its_products_and_three_passes(shape: tuple[int, int]) -> None:
    """A tall matrix is turned nowhere; each iteration is three calls, as torch's; a scale goes into the product."""
    ((_, way),) = staged("muon", shape).ways
    calls = [stage for stage in way.stages if isinstance(stage, Call)]
    assert len(way.passes) == 3
    assert [call.op for call in calls] == ["matmul"] * 15
    assert not [call for call in calls if call.op == COPY]
    assert [call.added is not None for call in calls] == [False, True, True] * 5


def test_temporaries_are_bounded_and_said() -> None:
    kernel = StagedKernel.of(
        staged("muon", (768, 3072), precision="full"), dict.fromkeys(("p", "g", "momentum_buffer"), "float32")
    )
    (way,) = kernel.ways.values()
    matrix, gram = 768 * 3072 * 4, 768 * 768 * 4
    assert way.bytes_of_one <= 2 * matrix + 2 * gram + 64
    assert way.room * way.bytes_of_one <= max(way.bytes_of_one, 64 * 2**20)
    assert f"{way.bytes_of_one} bytes of temporaries" in kernel.source()


def test_batches_change_no_number(monkeypatch: pytest.MonkeyPatch, float64_default: None) -> None:
    """Some tensors at once, or one after the other."""
    ends = []
    for limit in (2**26, 1):
        monkeypatch.setattr("steprule.compiler.numba_matrix.BATCH_BYTES", limit)
        params = [torch.randn(5, 3, generator=torch.Generator().manual_seed(k)).requires_grad_() for k in range(5)]
        optimizer = from_rule(rules.normuon)(params, **FULL)
        for p in params:
            p.grad = p.detach() * 2
        optimizer.step()
        ends.append([p.detach() for p in params])
    assert all_apart(*ends) <= MATRICES_FLOAT64


def test_shown_as_numba_the_stages_are_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    from steprule.cli import main

    assert main(["show", "muon", "--as", "numba"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# ")]
    assert "# t2 = t1 @ t1.T" in said
    assert "# t3 = ns_coefficient3 * t2 @ t2 + ns_coefficient2 * t2" in said


def test_the_formula_names_what_the_library_has() -> None:
    from steprule.compiler.formula import latex

    lines = latex(variant_of(rules.muon, rules.muon.bind(FULL)).graph())
    assert r"o_{t} = \operatorname{polar}\left(u_{t}\right)" in lines
    assert sum(r"\operatorname{quintic}\left(X\right) =" in line for line in lines) == 1


@pytest.mark.parametrize("k", [2, 4])
def test_an_inverse_root_with_a_ridge(k: int) -> None:
    """Of a matrix of rank two in five columns: its power gives the identity; what is below zero counts as zero, on numbers too."""
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    x, eye = x.mT @ x, torch.eye(5, dtype=torch.float64)
    root = inverse_root(x, k, 0.25)
    assert apart(torch.linalg.matrix_power(root, k) @ (x + 0.25 * eye), eye) <= MATRICES_FLOAT64
    assert apart(inverse_root(x - 1e3 * eye, k, 0.25), eye * 0.25 ** (-1 / k)) <= MATRICES_FLOAT64
    assert apart(inverse_root(x.numpy(), k, 0.25), root) <= MATRICES_FLOAT64
    assert inverse_root(-1.0, k, 0.25) == inverse_root(0.25, k) == 0.25 ** (-1 / k)
    assert math.isnan(float(inverse_root(math.nan, k, 0.25)))


def test_an_inverse_root_of_a_number_that_is_known_before_the_step(float64_default: None) -> None:
    @rule
    def rooted(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - inverse_root(lr - 1.0, 2, 0.25) * inverse_root(lr, 2, 0.15) * g

    for backend in ("auto", "eager"):
        p = torch.ones(3, requires_grad=True)
        p.grad = torch.ones(3)
        from_rule(rooted)([p], lr=0.1, backend=backend).step()
        assert apart(p, torch.full((3,), 1 - 2 * 2.0)) <= MATRICES_FLOAT64


def test_the_formula_of_a_ridge() -> None:
    from steprule.compiler.formula import latex

    lines = latex(variant_of(rules.shampoo, rules.shampoo.defaults).graph())
    assert r"P'_{t} = {\left(L_{t} + \epsilon \, I\right)}^{-1/4}" in lines


def test_a_ridge_keeps_shampoo_finite_in_float32() -> None:
    """Sums of rank one and of size 1e6, whose zero eigenvalues float32 takes to both sides of zero."""
    p = torch.ones(64, 32, requires_grad=True)
    optimizer = from_rule(rules.shampoo)([p], lr=0.1)
    for k in range(5):
        generator = torch.Generator().manual_seed(k)
        p.grad = 1e2 * torch.randn(64, 1, generator=generator) @ torch.randn(1, 32, generator=generator)
        optimizer.step()
        assert torch.linalg.eigvalsh(optimizer.state[p]["left"]).min() < 0
        assert bool(p.isfinite().all())


# What strangers write.


def test_a_strangers_rule_of_five_lines(float64_default: None) -> None:
    """Row-wise RMSprop with a whitening of one side: shapes, slots and functions of one's own."""

    @rule(as_matrix=True)
    def mine(p, g, v: PerRow, left: Square("rows"), *, lr: Rate = 0.1, t):  # type: ignore[no-untyped-def]
        v = 0.9 * v + 0.1 * mean(g**2, axis=-1)
        left = 0.9 * left + 0.1 * g @ g.T
        u = qr(left + 1e-3 * g @ g.T) if rows(p) > 1 else 1.0
        step = u @ g if rows(p) > 1 else g
        return p - lr / sqrt(t) * step / (sqrt(v) + 1e-3), v, left

    p, ours = walked(from_rule(mine), {}, [(4, 3), (2, 3, 3), (5,), ()], "auto")
    q, _ = walked(from_rule(mine), {}, [(4, 3), (2, 3, 3), (5,), ()], "eager")
    assert all_apart(p, q) <= MATRICES_FLOAT64
    assert ours.state[p[0]]["left"].shape == (4, 4)


def _refused(body: Any, **settings: Any) -> str:
    p = torch.ones(2, 3, requires_grad=True)
    p.grad = torch.ones(2, 3)
    with pytest.raises(StepruleError) as refusal:
        from_rule(body)([p], **settings).step()
    message = str(refusal.value)
    assert "\n" not in message
    return message


def test_what_does_not_fit_is_refused_with_the_authors_line() -> None:
    @rule
    def unfit(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * g @ g

    @rule
    def too_small(p, g, m, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * g, mean(g, axis=-1) + m @ m.T

    @rule
    def third_axis(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * mean(g, axis=0)

    @rule
    def other_dtype(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * cast(g, "int8")

    assert "as many columns on the left as rows on the right" in _refused(unfit)
    assert "the new m as rows x columns" in _refused(too_small)
    assert "axis: expected -1, -2 or nothing, got 0" in _refused(third_axis)
    assert "expected one of 'bfloat16', 'float16', got 'int8'" in _refused(other_dtype)
    for body in (unfit, too_small, third_axis, other_dtype):
        assert "test_matrices.py" in _refused(body)


def test_a_vector_and_a_convolution_are_refused_where_a_matrix_is_meant() -> None:
    @rule
    def gram(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * g @ g.T @ g

    for shape in ((3,), (2, 3, 4)):
        p = torch.ones(shape, requires_grad=True)
        p.grad = torch.ones(shape)
        with pytest.raises((InputError, RuleError), match="as_matrix=True"):
            from_rule(gram)([p]).step()
        assert torch.equal(p, torch.ones(shape))


def test_complex_parameters_and_a_backend_without_matrices_are_refused() -> None:
    p = torch.ones(2, 2, dtype=torch.complex64, requires_grad=True)
    p.grad = torch.ones_like(p)
    with pytest.raises(TypeError, match="real parameters"):
        from_rule(rules.muon)([p]).step()
    with pytest.raises(ValueError, match="Square: expected 'rows' or 'columns'"):
        Square("row")


def test_nan_stays_in_its_tensor_and_nothing_raises() -> None:
    for found in elementwise.OF_MATRICES:
        params = [torch.ones(3, 3).requires_grad_() for _ in range(2)]
        optimizer = from_rule(found)(params, lr=0.1)
        for _ in range(3):
            params[0].grad, params[1].grad = torch.full((3, 3), torch.nan), torch.randn(3, 3)
            optimizer.step()
        assert bool(params[1].isfinite().all()), found.name
        shown = [params[0], *(v for v in optimizer.state[params[0]].values() if v.ndim)]
        assert any(bool(v.isnan().any()) for v in shown), found.name


def test_they_sweep_and_say_how() -> None:
    found = steprule.sweep("muon", "airfoil-mlp", hypers={"lr": [0.001, 0.01]}, epochs=1, compile=True)
    assert re.search("vmap: no kernel for a rule of matrices", found.engine)
    assert not found.diverged.any()


def test_lanes_of_shampoo_differ_in_what_their_roots_take() -> None:
    task = problems.get("airfoil-mlp")
    double = steprule.Problem(
        "double", "", task.features.double(), task.targets.double(), lambda: task.model().double(), task.loss
    )
    points, how = {"lr": [0.01, 0.1], "eps": [1e-4, 1e-2]}, {"epochs": 1, "batch_size": 256}
    found = steprule.sweep("shampoo", double, points, **how)
    for k, (lr, eps) in enumerate(zip(points["lr"], points["eps"], strict=True)):
        alone = steprule.train("shampoo", double, lr=lr, eps=eps, **how).final_loss
        assert np.isclose(found.train[k, 0], alone, rtol=RUN64, atol=0)
