"""Counts of steps beyond 2^24, where float32 has no longer each whole number: exact in every form, and in checkpoints both ways."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from compare import apart
from contract import NAMES, SETTINGS
from drawn_walks import as_python
from thinning import thinned
from tolerances import CLASS_FLOAT32_FEW_STEPS
from torch import Tensor, nn

from steprule import optim, rule
from steprule.compiler.variant import variant_of
from steprule.hyper import Rate
from steprule.lanes import rule as lanes
from steprule.optim import scan
from steprule.rules.parts import composed

LAST = 2**24
"""The last whole number up to which float32 has each."""
STEPS = (LAST - 1, LAST, LAST + 1, LAST + 2, LAST + 3)


@rule
def beyond(p, g, *, lr: Rate = 1.0, t):  # type: ignore[no-untyped-def]
    """Moves by how far the step's number is beyond 2^24."""
    return p - lr * g * (t - 16777216.0)


FAR = -float(sum(t - LAST for t in STEPS))
"""Where `beyond` comes from 0 in these steps, where each gradient is 1."""


def stepped(optimizer: Any, params: list[Tensor], steps: int) -> None:
    for _ in range(steps):
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()


def counted(optimizer: Any, value: float) -> None:
    for state in optimizer.state.values():
        state["step"].fill_(value)


def made(kind: Any, shapes: list[tuple[int, ...]], **settings: Any) -> tuple[Any, list[Tensor]]:
    """An optimizer that has stepped once, with a count of 2^24 - 2, on parameters of 0."""
    params: list[Tensor] = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    optimizer = kind(params, **settings)
    stepped(optimizer, params, 1)
    counted(optimizer, LAST - 2.0)
    with torch.no_grad():
        for p in params:
            p.zero_()
    return optimizer, params


@pytest.mark.parametrize(
    ("backend", "by"), [("numba", "records"), ("numba", "python"), ("eager", ""), ("triton", "records")]
)
def test_counts_are_exact_in_each_form(backend: str, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "python":
        monkeypatch.setattr(scan, "refusal", lambda: "STEPRULE_SCAN=python")
    optimizer, params = made(optim.from_rule(beyond), [(3,), (2, 2)], lr=1.0, backend=backend)
    held = [optimizer.state[p]["step"] for p in params]
    stepped(optimizer, params, 2)
    assert [count.dtype for count in held] == [torch.float32] * 2, "as torch's, as long as that is exact"
    if by == "python":
        assert optimizer._plans[0].look.how == by
    stepped(optimizer, params, 3)
    for p, count in zip(params, held, strict=True):
        assert optimizer.state[p]["step"] is count, "whoever holds the count sees it"
        assert count.dtype is torch.float64
        assert count.item() == LAST + 3
        assert torch.equal(p, torch.full_like(p, FAR))


def test_parameters_that_have_stepped_less_keep_their_dtype() -> None:
    optimizer, params = made(optim.from_rule(beyond), [(3,), (2, 2)], lr=1.0)
    optimizer.state[params[1]]["step"].fill_(7.0)
    stepped(optimizer, params, 5)
    counts = [optimizer.state[p]["step"] for p in params]
    assert [c.item() for c in counts] == [LAST + 3, 12]
    assert [c.dtype for c in counts] == [torch.float64, torch.float32]


@pytest.mark.parametrize("compute", ["float32", "float64"])
def test_lanes_count_as_far(compute: str) -> None:
    made = lanes.LaneRule.of(variant_of(composed(beyond), composed(beyond).defaults), compute)
    module, width = as_python(lanes.text_of(made)), 2
    table_rows, power_rows, reductions = made.scratch
    hypers = {n: np.full(width, float(v)) for n, v in composed(beyond).defaults.items()}
    tensors, first = lanes.layout([3])
    p, g = np.zeros((3, width), compute), np.ones((3, width), compute)
    scratch = np.empty((table_rows, width), compute), tensors, first, np.empty((reductions, 1, width), compute)
    for t in STEPS:
        module.step(
            float(t), made.rows_of(made.hypers, hypers, width), np.ones((power_rows, width)), np.empty((0, width)), *scratch,
            np.empty((reductions, 1, width)), np.ones(width, np.uint8), p, g, np.empty((0, 3, width), compute),
        )  # fmt: skip
    assert (p == FAR).all()


def settled(name: str, module: Any, steps: int) -> tuple[Any, list[Tensor]]:
    kind = getattr(module, name)
    optimizer, params = made(kind, [(4,), (2, 3)], **SETTINGS[name])
    stepped(optimizer, params, steps)
    return optimizer, params


@pytest.mark.parametrize("name", thinned([n for n in NAMES if n != "SGD"], 4))
def test_checkpoints_go_both_ways(name: str) -> None:
    """Of a count beyond 2^24 torch's class counts on; of one below, the dtype is its own."""
    ours, params = settled(name, optim, 5)
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    twins: list[Tensor] = [p.detach().clone().requires_grad_() for p in params]
    theirs = getattr(torch.optim, name)(twins, **SETTINGS[name])
    theirs.load_state_dict(torch.load(file, weights_only=True))
    stepped(theirs, twins, 3)
    back: list[Tensor] = [p.detach().clone().requires_grad_() for p in params]
    again = getattr(optim, name)(back, **SETTINGS[name])
    again.load_state_dict(ours.state_dict())
    stepped(again, back, 3)
    for p, q in zip(twins, back, strict=True):
        assert theirs.state[p]["step"].item() == again.state[q]["step"].item() == LAST + 6
        assert theirs.state[p]["step"].dtype is again.state[q]["step"].dtype is torch.float64
        assert apart(q, p) <= CLASS_FLOAT32_FEW_STEPS
    again.load_state_dict(theirs.state_dict())
    stepped(again, back, 1)
    assert again.state[back[0]]["step"].item() == LAST + 7


def test_where_torchs_own_class_stands_still_ours_goes_on_from_its_checkpoint() -> None:
    theirs, _ = settled("Adam", torch.optim, 5)
    ours, params = settled("Adam", optim, 0)
    ours.load_state_dict(theirs.state_dict())
    assert ours.state[params[0]]["step"].item() == LAST
    stepped(ours, params, 2)
    assert ours.state[params[0]]["step"].item() == LAST + 2


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("kind", ["complex", "sparse"])
def test_what_torchs_own_class_steps_is_counted_as_far(kind: str) -> None:
    start = torch.zeros(4, 2, dtype=torch.complex64 if kind == "complex" else torch.float32)
    p = nn.Parameter(start)
    optimizer: Any = optim.Adagrad([p], lr=0.1)
    grad = torch.ones_like(start)
    for t in range(6):
        p.grad = grad.to_sparse(1) if kind == "sparse" else grad.clone()
        optimizer.step()
        if t == 0:
            counted(optimizer, LAST - 2.0)
    assert optimizer.state[p]["step"].item() == LAST + 3


@pytest.mark.parametrize(("dtype", "last"), [(torch.bfloat16, 2**8), (torch.float16, 2**11)])
def test_a_count_that_somebody_has_made_coarser(dtype: torch.dtype, last: int) -> None:
    """As by `.half()` on all of a checkpoint: torch's class stands still at 256 in bfloat16."""
    for kind in (optim.Adam, optim.Lion):
        optimizer, params = made(kind, [(3,)], lr=0.1, **({"rounding": "stochastic"} if kind is optim.Lion else {}))
        optimizer.state[params[0]]["step"] = torch.tensor(last - 1.0, dtype=dtype)
        stepped(optimizer, params, 4)
        assert optimizer.state[params[0]]["step"].item() == last + 3


def test_noise_and_rounding_go_on_to_other_numbers() -> None:
    """A count that stood still would draw the same numbers in each step."""
    p = nn.Parameter(torch.ones(256, dtype=torch.bfloat16))
    optimizer = optim.SGD([p], lr=1e-3, rounding="stochastic", seed=1)
    stepped(optimizer, [p], 1)
    counted(optimizer, LAST + 0.0)
    ends = []
    for _ in range(2):
        with torch.no_grad():
            p.fill_(1.0)
        stepped(optimizer, [p], 1)
        ends.append(p.detach().clone())
    assert not torch.equal(*ends)


def test_a_count_that_processes_share_says_that_it_stands_still() -> None:
    optimizer, params = made(optim.Adam, [(3,)], lr=0.1)
    optimizer.state[params[0]]["step"].share_memory_()
    with pytest.warns(UserWarning, match="stands still: it is in memory that processes share"):
        stepped(optimizer, params, 3)
    assert optimizer.state[params[0]]["step"].item() == LAST
