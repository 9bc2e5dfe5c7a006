"""A gradient of any size, once or in every step: each class beside each form of torch's, in every dtype.

One tensor holds the whole grid. An element is one case: a size, a sign, and whether the gradient has it in the fifth of
twelve steps or in all of them. Each element must

- stay finite where it does in every form of torch's,
- move where every form of torch's moves it,
- have torch's value, in the parameter and in every state, where torch's forms agree among themselves.

Some values hang on the last bit: a mean that cancels, a variance that is rounding alone. Nobody's are right there, so torch
must also agree with itself where each state moves by a few ulp after every step (`SHAKEN`). In float16 and bfloat16 torch rounds after
each operation and over- and underflows half-way, where ours and torch's fused forms compute in float32; the values asked for
there are those of torch's float32 class, its parameter and states rounded after every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from thinning import thinned
from tolerances import MAGNITUDES, SHAKEN, TABLE_OF_LOW
from torch import Tensor

from steprule import optim

STEPS, SPIKE = 12, 5
SEEDS = (1, 2, 3)
INF, NAN = float("inf"), float("nan")
SIZES = [0.0, 1e-45, 1e-40, 1e-30, 1e-22, 1e-10, 1.0, 1e10, 1e18, 3e19, 1e20, 5e20, 1e30, 3e38]
OWN_SIZES = {
    torch.float64: [5e-324, 1e-310, 1e-200, 1e-160, 1e150, 1.4e154, 1e155, 4e155, 1e300],
    torch.float16: [6e-8, 6e-5, 1e-4, 1e-3, 200.0, 256.0, 1000.0, 3e4],
}
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
LOW = (torch.bfloat16, torch.float16)
FORMS = {"single": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
FUSED = {"SGD", "Adagrad", "Adam", "AdamW"}

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "dampening": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {"momentum": 0.9, "centered": True, "alpha": 0.3}),
    ("Adadelta", {"lr": 1.0}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"betas": (0.0, 0.99)}),
    ("Adam", {"betas": (0.3, 0.9)}),
    ("AdamW", {}),
    ("Adamax", {}),
    ("Adamax", {"betas": (0.1, 0.9)}),
    ("NAdam", {}),
    ("NAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("RAdam", {}),
    ("RAdam", {"betas": (0.5, 0.9)}),
    ("Rprop", {}),
    ("Rprop", {"etas": (0.6, 1.4), "step_sizes": (5e-3, 2e-2)}),
    ("ASGD", {}),
    ("ASGD", {"lambd": 0.1, "t0": 1.0}),
]
PLAIN = [("SGD", {"momentum": 0.9}), *((n, s) for n, s in SETTINGS if set(s) <= {"lr"} and n not in ("SGD", "Rprop"))]
SETTINGS += [(name, {**settings, "weight_decay": 0.1}) for name, settings in PLAIN]
CASES = [(name, {"lr": 1e-2, **settings}, dtype) for dtype in DTYPES for name, settings in SETTINGS]
IDS = [
    "-".join([str(dtype).removeprefix("torch."), name, *(f"{k}={v}" for k, v in settings.items() if k != "lr")])
    for name, settings, dtype in CASES
]

ASKED = {False: 0.95, True: 0.7}
"""The least share of values that torch must agree on, for the test to have asked for anything; more roundings in a low dtype."""

History = dict[str, Tensor]
"""The parameter and every state of its shape, in float64, [steps, cases]."""


@dataclass(frozen=True)
class Grid:
    """The cases of one dtype: their names, and their gradients in each step."""

    names: list[str]
    gradients: list[Tensor]

    @classmethod
    def of(cls, dtype: torch.dtype) -> Grid:
        """Every size that the dtype has, both signs, inf and nan; first as a spike, then in all steps."""
        limits = torch.finfo(dtype)
        wanted = [*SIZES, *OWN_SIZES.get(dtype, []), limits.max, limits.smallest_normal]
        sizes = torch.tensor([s for s in wanted if s <= limits.max], dtype=torch.float64).to(dtype)
        values = torch.cat([sizes, -sizes, torch.tensor([INF, -INF, NAN], dtype=dtype)])
        values = torch.tensor(list(dict.fromkeys(values.tolist())), dtype=torch.float64).to(dtype)
        names = [f"{how} {value:g}" for how in ("a spike of", "always") for value in values.tolist()]
        generator = torch.Generator().manual_seed(0)
        gradients = []
        for t in range(1, STEPS + 1):
            ordinary = torch.randn(len(values), generator=generator, dtype=torch.float64).to(dtype)
            gradients.append(torch.cat([values if t == SPIKE else ordinary, values]))
        return cls(names, gradients)


def history(
    make: Any, settings: dict[str, Any], grid: Grid, rounded: torch.dtype | None = None, shaken: int | None = None
) -> History:
    """A run over the grid.

    With `rounded` it is in float32, its parameter and states rounded to that dtype after each step; with `shaken`, a seed,
    each state moves after each step, up or down.
    """
    generator = torch.Generator().manual_seed(shaken or 0)
    dtype = grid.gradients[0].dtype if rounded is None else torch.float32
    p = torch.ones(len(grid.names), dtype=dtype, requires_grad=True)
    optimizer = make([p], **settings)
    found: dict[str, list[Tensor]] = {}
    for g in grid.gradients:
        p.grad = g.to(dtype, copy=True)  # torch's Nesterov adds to it
        optimizer.step()
        held = {k: v for k, v in optimizer.state[p].items() if isinstance(v, Tensor) and v.shape == p.shape}
        if rounded is not None:
            for value in (p.detach(), *held.values()):
                value.copy_(value.to(rounded))
        for key, value in {"p": p, **held}.items():
            found.setdefault(key, []).append(value.detach().double().clone())
        for value in held.values() if shaken else ():
            signs = torch.randint(0, 2, value.shape, generator=generator) * 2 - 1
            stored = rounded or dtype
            value.copy_((value.double() * (1 + SHAKEN[stored] * torch.finfo(stored).eps * signs)).to(stored))
    return {key: torch.stack(values) for key, values in found.items()}


def near(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """Where two histories agree: relative to either, or to `a` one step before, which may have cancelled; or to a few subnormals."""
    before = torch.cat([torch.ones_like(a[:1]), a[:-1]]).abs().nan_to_num(0, 0, 0)
    scale = torch.stack([a.abs(), b.abs(), before]).amax(0)
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    close = (a - b).abs() <= MAGNITUDES[dtype] * scale + 8 * least
    return (a == b) | (a.isnan() & b.isnan()) | (close & a.isfinite() & b.isfinite())


@dataclass(frozen=True)
class Reference:
    """What torch makes of a grid."""

    grid: Grid
    dtype: torch.dtype
    forms: list[History]
    """Each of torch's forms; in a low dtype, the float32 class rounded as well."""
    shaken: list[History]
    wanted: History
    agreeing: list[History]
    """What must agree for `wanted` to be asked for."""

    @classmethod
    def of(cls, name: str, settings: dict[str, Any], dtype: torch.dtype) -> Reference:
        """Every form, and those that are shaken."""
        made, grid = getattr(torch.optim, name), Grid.of(dtype)
        forms = [
            history(made, {**settings, **form}, grid) for f, form in FORMS.items() if f != "fused" or name in FUSED
        ]
        rounded = dtype if dtype in LOW else None
        single = {**settings, "foreach": False}
        shaken = [history(made, single, grid, rounded, seed) for seed in SEEDS]
        if rounded is None:
            return cls(grid, dtype, forms, shaken, forms[0], [*forms, *shaken])
        wanted, foreach = (history(made, {**settings, **FORMS[f]}, grid, rounded) for f in ("single", "foreach"))
        return cls(grid, dtype, [*forms, wanted, foreach], shaken, wanted, [foreach, *shaken])

    def faults(self, mine: History) -> tuple[set[tuple[str, str]], float]:
        """(what, which case) of everything wrong; and the share of values that torch agrees on."""
        found: set[tuple[str, str]] = set()
        asked = []
        for key, value in mine.items():
            theirs = torch.stack([run[key] for run in (*self.forms, *self.shaken)])
            wanted = self.wanted[key]
            finite = theirs.isfinite().all(0)
            agreed = torch.stack([near(wanted, run[key], self.dtype) for run in self.agreeing]).all(0)
            wrong = {
                "not finite": finite & ~value.isfinite(),
                "another value": agreed & ~near(wanted, value, self.dtype),
            }
            if key == "p":
                wrong["stuck"] = finite & moves(theirs, self.dtype) & ~moves(value[None], self.dtype, ulp=0)
            asked.append(agreed.double().mean())
            for what, at in wrong.items():
                found |= {(f"{key} {what}", self.grid.names[i]) for i in at.any(0).nonzero().flatten().tolist()}
        return found, torch.stack(asked).mean().item()


def moves(runs: Tensor, dtype: torch.dtype, ulp: int = 4) -> Tensor:
    """Where the parameter [runs, steps, cases] moves by more than some ulp in a step, in every run."""
    before = torch.cat([torch.ones_like(runs[:, :1]), runs[:, :-1]], dim=1)
    least = ulp * torch.finfo(dtype).eps * torch.maximum(runs.abs(), before.abs())
    return ((runs - before).abs() > least).all(0)


def known(name: str, dtype: torch.dtype, backend: str, case: str) -> bool:
    """What is known to differ, and why.

    Adam's m_hat is the gradient again where that is constant. Within an ulp of the largest number it rounds to inf in the
    author's own function, which divides as the paper does; a kernel divides the learning rate instead, as torch does. (RAdam's
    does too, and one of torch's own forms with it.)
    """
    largest = torch.finfo(dtype).max
    return (
        backend == "eager"
        and name in ("Adam", "AdamW", "RAdam")
        and case in (f"always {largest:g}", f"always {-largest:g}")
    )


def check(name: str, settings: dict[str, Any], dtype: torch.dtype, backend: str) -> None:
    reference = Reference.of(name, settings, dtype)
    faults, asked = reference.faults(history(getattr(optim, name), {**settings, "backend": backend}, reference.grid))
    unknown = {fault for fault in faults if not known(name, dtype, backend, fault[1])}
    assert not unknown, sorted(unknown)
    assert asked > ASKED[dtype in LOW]


COUNT = len(SETTINGS)


@pytest.mark.parametrize(
    ("name", "settings", "dtype"), [*CASES[:COUNT], *thinned(CASES[COUNT:], 12)], ids=[*IDS[:COUNT], *IDS[COUNT:]]
)
def test_the_authors_function(name: str, settings: dict[str, Any], dtype: torch.dtype, float64_default: None) -> None:
    check(name, settings, dtype, "eager")


@pytest.mark.parametrize(("name", "settings", "dtype"), thinned(CASES, 25, IDS))
def test_the_kernel(name: str, settings: dict[str, Any], dtype: torch.dtype, float64_default: None) -> None:
    check(name, settings, dtype, "numba")
    grid = Grid.of(dtype)
    eager, kernel = (history(getattr(optim, name), {**settings, "backend": b}, grid) for b in ("eager", "numba"))
    shaken = [history(getattr(optim, name), {**settings, "backend": "eager"}, grid, shaken=seed) for seed in SEEDS]
    faults, asked = Reference(grid, dtype, [eager], shaken, eager, [eager, *shaken]).faults(kernel)
    unknown = {fault for fault in faults if not known(name, dtype, "eager", fault[1])}
    assert not unknown, sorted(unknown)
    assert asked > ASKED[dtype in LOW]


# Where torch's own forms differ by more than rounding, float32 or float16, an element and its gradients: what each gives
# after the last of them, what ours gives, and why.
APART: list[tuple[str, torch.dtype, list[float], dict[str, float], dict[str, float], str]] = [
    (
        "NAdam", torch.float32, [1e20], {"single": 1.0, "foreach": 0.9894}, {"numba": 0.9894, "eager": 0.9894},
        "the second moment overflows when it is divided by 1 - beta2**t before the root, as the one form does it",
    ),
    (
        "RAdam", torch.float32, [torch.finfo(torch.float32).max] * 6, {"single": NAN, "foreach": -1.7014e37}, {"numba": -1.7014e37, "eager": NAN},
        "the one form, and the author's function, divide the mean by 1 - beta1**t before the learning rate shrinks it",
    ),
    (
        "Adam", torch.float16, [0.0], {"single": NAN, "foreach": NAN, "fused": 1.0}, {"numba": 1.0, "eager": 1.0},
        "epsilon, 1e-8, is 0 in float16: 0 / 0 where the operations are rounded one by one",
    ),
    (
        "NAdam", torch.float16, [0.0], {"single": NAN, "foreach": NAN}, {"numba": 1.0, "eager": 1.0},
        "the same, and there is no fused form",
    ),
    (
        "RMSprop", torch.float16, [3e4], {"single": 1.0, "foreach": 1.0}, {"numba": 0.9, "eager": 0.9},
        "the square of the gradient overflows in float16 before it is averaged, and again as the average itself: no step",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "dtype", "gradients", "theirs", "mine", "why"), APART, ids=[f"{a[0]}-{a[1]}" for a in APART]
)
def test_where_torchs_forms_part(
    name: str, dtype: torch.dtype, gradients: list[float], theirs: dict[str, float], mine: dict[str, float], why: str
) -> None:
    def last(make: Any, **settings: Any) -> float:
        p = torch.ones(1, dtype=dtype, requires_grad=True)
        optimizer = make([p], lr=1e-2, **settings)
        for g in gradients:
            p.grad = torch.full((1,), g, dtype=dtype)
            optimizer.step()
        return p.item()

    for form, wanted in theirs.items():
        assert last(getattr(torch.optim, name), **FORMS[form]) == pytest.approx(
            wanted, rel=TABLE_OF_LOW, nan_ok=True
        ), why
    for backend, wanted in mine.items():
        assert last(getattr(optim, name), backend=backend) == pytest.approx(wanted, rel=TABLE_OF_LOW, nan_ok=True), why


@pytest.mark.parametrize("backend", ["numba", pytest.param("eager", marks=pytest.mark.long)])
@pytest.mark.long
def test_a_centered_variance_that_is_nearly_nothing(backend: str) -> None:
    """Gradients of 1 with noise of 1e-3: the mean's square must not pass the mean square more often than torch's does."""

    def lost(make: Any, **settings: Any) -> int:
        generator = torch.Generator().manual_seed(0)
        p = torch.zeros(1000, requires_grad=True)
        optimizer = make([p], lr=1e-3, centered=True, **settings)
        for _ in range(2000):
            p.grad = 1 + 1e-3 * torch.randn(1000, generator=generator)
            optimizer.step()
        return int(p.isnan().sum())

    assert lost(optim.RMSprop, backend=backend) <= lost(torch.optim.RMSprop)
