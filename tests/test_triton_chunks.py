"""Chunks of Triton's kernels in the interpreter: whole ones move 16 bytes at once where that is allowed, the numbers are the same anyhow."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from test_triton import WITHIN
from torch import Tensor

from steprule import optim
from steprule.optim import buckets as planning

pytest.importorskip("triton", reason="Triton is for Linux")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs Triton's interpreter", allow_module_level=True)

from steprule.compiler.triton_gpu import CHUNK, PIECE

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

TAILS = [*range(1, 10), 15, 16, 17, 31, 33, 127, 128, 511, 513, CHUNK - 17, CHUNK - 16, CHUNK - 2, CHUNK - 1]
SIZES = [*TAILS, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5]
"""The last chunk of a tensor has 1 to CHUNK elements."""


def laid(size: int, start: int, dtype: torch.dtype, values: Tensor) -> Tensor:
    """A tensor that begins `start` elements behind an address which is a multiple of 16 bytes."""
    room = torch.zeros(size + start + 16, dtype=dtype)
    first = (-room.data_ptr() % 16) // room.element_size()
    found = room[first + start : first + start + size]
    assert found.data_ptr() % 16 == start * room.element_size() % 16
    return found.copy_(values)


def ends(kind: Any, backend: str, dtype: torch.dtype, starts: list[int], settings: dict[str, Any]) -> list[Tensor]:
    """Parameters and states after two steps; parameters and gradients begin at different places."""
    generator = torch.Generator().manual_seed(0)
    params = [laid(n, starts[k % len(starts)], dtype, torch.randn(n, generator=generator)) for k, n in enumerate(SIZES)]
    params = [p.requires_grad_() for p in params]
    optimizer = kind(params, backend=backend, **settings)
    for t in range(2):
        for k, p in enumerate(params):
            p.grad = laid(p.numel(), starts[(k + t) % len(starts)], dtype, torch.randn(p.numel(), generator=generator))
        optimizer.step()
    found = [p.detach() for p in params]
    return found + [v for p in params for _, v in sorted(optimizer.state[p].items()) if isinstance(v, Tensor)]


@pytest.mark.parametrize("starts", [[0], [1, 2, 0, 3]], ids=["aligned", "misaligned"])
def test_the_bits_are_numbas_in_every_tail_and_at_every_address(starts: list[int]) -> None:
    a, b = (ends(optim.AdamW, backend, torch.float32, starts, {"lr": 0.01}) for backend in ("triton", "numba"))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_dtypes_at_every_address(dtype: torch.dtype) -> None:
    """With a norm, which is a pass of its own: of a tail, what lies behind it counts nothing."""
    settings = {"lr": 0.01, "clip_norm": 1.0}
    a, b = (ends(optim.SGD, backend, dtype, [0, 1, 7, 3], settings) for backend in ("triton", "eager"))
    for x, y in zip(a, b, strict=True):
        assert float((x - y).abs().max() / y.abs().max()) <= WITHIN[dtype]


def test_only_whole_chunks_of_aligned_columns_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each column of a chunk asks for its pointer with what was found of the chunk."""
    planning.kernel_for.cache_clear()
    told: list[bool] = []
    patched: list[Any] = []
    kernel_of = planning.kernel_for

    def watched(*args: Any, **how: Any) -> Any:
        kernel = kernel_of(*args, **how)
        if kernel.module in patched:
            return kernel
        patched.append(kernel.module)
        cells = kernel.module.cells

        def noted(address: Any, dtype: Any, whole: Any) -> Any:
            told.append(bool(getattr(whole, "value", whole)))
            return cells(address, dtype, whole)

        monkeypatch.setattr(kernel.module, "cells", noted)
        return kernel

    monkeypatch.setattr(planning, "kernel_for", watched)
    zeros = torch.zeros(2 * CHUNK + 5)
    pieces = CHUNK // PIECE
    for start, wanted in ((0, [True, True, False]), (1, [False] * (2 * pieces + 1)), (4, [True, True, False])):
        told.clear()
        p = torch.zeros_like(zeros).requires_grad_()
        assert p.data_ptr() % 16 == 0
        p.grad = laid(p.numel(), start, torch.float32, zeros)
        optim.SGD([p], backend="triton").step()
        assert told == [whole for whole in wanted for _ in ("p", "g")]
