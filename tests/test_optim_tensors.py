"""The classes on odd tensors beside torch's: layouts, complex, sparse, mixed, moved and replaced ones."""

from __future__ import annotations

import pytest
import torch
from compare import all_apart, same_states
from grid import COUNTERPARTS, Counterpart
from tolerances import CLASS_FLOAT32_FEW_STEPS, ROUNDED32, SUMMED32, TORCH_FLOAT64, TORCH_NADAM_FLOAT32_PRODUCT
from torch import Tensor, nn
from twins import NAMES, both, ours

from steprule import optim


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_layouts(case: Counterpart) -> None:
    base = torch.randn(6, 8, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def make() -> list[Tensor]:
        x = base.clone()
        views = [
            x[:2].to(memory_format=torch.channels_last),
            x[2, :4].transpose(0, 2).clone(memory_format=torch.preserve_format),
            x[3][:, ::2],
        ]
        return [v.detach().requires_grad_() for v in views]

    a, b = both(case, make)
    assert all_apart(a, b) <= (TORCH_NADAM_FLOAT32_PRODUCT if case.rule == "nadam" else TORCH_FLOAT64)
    assert [p.stride() for p in a] == [p.stride() for p in b]


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_gradients_that_lie_otherwise(case: Counterpart) -> None:
    def step(optimizer: torch.optim.Optimizer, p: Tensor, k: int) -> None:
        g = (
            torch.arange(12, dtype=torch.float64).reshape(4, 3).t() / 10
            if k % 2
            else torch.full((3, 4), 0.3, dtype=torch.float64)
        )
        p.grad = g if k != 2 else torch.tensor(0.5, dtype=torch.float64).expand(3, 4)
        optimizer.step()

    p, q = (torch.ones(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mine, theirs = ours(case)([p], **case.base), case.torch_class([q], **case.base)
    for k in range(6):
        step(mine, p, k)
        step(theirs, q, k)
    assert all_apart([p], [q]) <= (TORCH_NADAM_FLOAT32_PRODUCT if case.rule == "nadam" else TORCH_FLOAT64)


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_complex(case: Counterpart) -> None:
    a, b = both(case, lambda: [torch.tensor([1 + 2j, -0.5j, 3], dtype=torch.complex128, requires_grad=True)])
    assert torch.view_as_real(a[0] - b[0]).abs().max() <= (
        TORCH_NADAM_FLOAT32_PRODUCT if case.rule == "nadam" else TORCH_FLOAT64
    )


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_mixed_dtypes_and_missing_gradients(case: Counterpart, float64_default: None) -> None:
    def make() -> list[Tensor]:
        dtypes = [torch.float64, torch.float32, torch.float64]
        return [torch.linspace(-1, 1, 5 + k, dtype=d).requires_grad_() for k, d in enumerate(dtypes)]

    a, b = make(), make()
    mine, theirs = ours(case)(a, **case.base), case.torch_class(b, **case.base)
    for t in range(12):
        for k, (p, q) in enumerate(zip(a, b, strict=True)):
            there = (t + k) % 3 != 0 or k == 1  # each parameter counts its own steps
            p.grad = p.detach() * 0.5 + 0.1 if there else None
            q.grad = q.detach() * 0.5 + 0.1 if there else None
        mine.step()
        theirs.step()
    assert all_apart([a[0], a[2]], [b[0], b[2]]) <= TORCH_FLOAT64
    assert all_apart([a[1]], [b[1]]) <= CLASS_FLOAT32_FEW_STEPS
    same_states(mine, theirs, CLASS_FLOAT32_FEW_STEPS)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_sparse_gradients() -> None:
    def make(kind: type[torch.optim.Optimizer]) -> Tensor:
        torch.manual_seed(0)
        table = nn.Embedding(6, 3, sparse=True)
        optimizer = kind(table.parameters(), lr=0.1)
        for ids in ([0, 2], [2, 5], [1, 1]):
            optimizer.zero_grad()
            table(torch.tensor(ids)).square().sum().backward()
            optimizer.step()
        return table.weight

    for name in ("SGD", "Adagrad"):
        assert torch.equal(make(getattr(optim, name)), make(getattr(torch.optim, name)))
    for name in ("Adam", "AdamW", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD", "Lion"):
        with pytest.raises(RuntimeError, match="sparse"):
            make(getattr(optim, name))


@pytest.mark.parametrize("case", COUNTERPARTS, ids=NAMES)
def test_a_tensor_as_learning_rate(case: Counterpart) -> None:
    ends = []
    for kind in (ours(case), case.torch_class):
        lr = torch.tensor(0.1)
        p = torch.ones(3, requires_grad=True)
        optimizer = kind([p], **{**case.base, "lr": lr})
        p.grad = torch.ones(3)
        optimizer.step()
        assert (1 - p).abs().max() > 0
        lr.zero_()  # changed in place: the same object, another value
        before = p.detach().clone()
        optimizer.step()
        # Rprop's rate is its first step size alone; ASGD's enters the step after.
        assert torch.equal(p, before) == (case.rule not in ("rprop", "asgd"))
        optimizer.step()
        ends.append(p)
    assert all_apart(ends[:1], ends[1:]) <= CLASS_FLOAT32_FEW_STEPS


# What users do


def test_parameters_changed_between_forward_and_backward_raise_torchs_error() -> None:
    for name in optim.NAMES:
        w = torch.ones(1, 3, requires_grad=True)
        optimizer = getattr(optim, name)([w], lr=0.1)

        def closure(w: Tensor = w) -> float:
            w.grad = torch.ones(1, 3)
            return 0.0

        optimizer.step(closure)
        loss = (w * w).sum()
        optimizer.step(closure)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_moved_parameters_and_replaced_states_are_noticed() -> None:
    p = torch.ones(3, requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    p.grad = torch.ones(3)
    optimizer.step()
    optimizer.step()
    old = p.data
    p.data = torch.zeros(3)
    kept = old.clone()
    optimizer.step()
    assert torch.equal(old, kept)
    assert p[0] < 0
    optimizer.state[p]["momentum_buffer"] = torch.full((3,), 100.0)
    optimizer.step()
    assert p[0] < -8
    optimizer.state[p].clear()
    before = p.detach().clone()
    optimizer.step()
    assert torch.allclose(before - p, torch.full((3,), 0.1), rtol=SUMMED32, atol=0)
    optimizer.param_groups[0]["params"].append(torch.ones(2, requires_grad=True))
    optimizer.param_groups[0]["params"][1].grad = torch.ones(2)
    optimizer.step()
    assert optimizer.param_groups[0]["params"][1][0].item() == pytest.approx(0.9, rel=ROUNDED32)
