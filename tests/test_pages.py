"""Large states ask for large pages: within their own memory only, and a refusal changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tolerances import ROUNDED32

from steprule import optim
from steprule.compiler import pages

LARGE = pages.LEAST // 4 + 12_345
"""Elements of float32, not a whole number of pages."""

MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """The system's calls, all refused."""
    calls: list[tuple[int, int, int]] = []

    def refuse(*call: int) -> int:
        calls.append(call)
        return -1

    monkeypatch.setattr(pages, "_madvise", lambda: refuse)
    return calls


def _stepped(count: int, dtype: torch.dtype = torch.float32) -> Any:
    p = torch.ones(count, dtype=dtype, requires_grad=True)
    p.grad = torch.full_like(p, 0.5)
    optimizer = optim.Adam([p], lr=0.1)
    optimizer.step()
    return p, optimizer.state[p]


def test_whole_pages_within_each_state(asked: list[tuple[int, int, int]]) -> None:
    p, state = _stepped(LARGE)
    slots = [state["exp_avg"], state["exp_avg_sq"]]
    assert len(asked) == len(slots)
    for (address, size, _), slot in zip(asked, slots, strict=True):
        assert address % pages.PAGE == size % pages.PAGE == 0
        assert slot.data_ptr() <= address < address + size <= slot.data_ptr() + slot.numel() * 4
        assert size > slot.numel() * 4 - 2 * pages.PAGE
    assert torch.allclose(p.detach(), torch.full_like(p, 0.9), rtol=ROUNDED32, atol=0)


@pytest.mark.parametrize(("count", "dtype"), [(pages.LEAST // 4 - 1, torch.float32), (LARGE, torch.bfloat16)])
def test_a_small_state_does_not_ask(asked: list[tuple[int, int, int]], count: int, dtype: torch.dtype) -> None:
    _stepped(count, dtype)
    assert asked == []


def test_within_vmap_there_is_no_memory_to_ask_for(asked: list[tuple[int, int, int]]) -> None:
    made = torch.vmap(lambda p: pages.full_like(p, 0.5) + p)(torch.ones(2, LARGE))
    assert asked == []
    assert bool((made == 1.5).all())


def test_a_meta_tensor_has_none_either(asked: list[tuple[int, int, int]]) -> None:
    assert pages.full_like(torch.empty(LARGE, device="meta"), 0.5).device.type == "meta"
    assert asked == []


@pytest.mark.skipif(not MODE.exists(), reason="this system has no transparent huge pages")
def test_the_system_takes_the_request() -> None:
    made = torch.empty(LARGE)
    call = pages._madvise()
    first = -(-made.data_ptr() // pages.PAGE) * pages.PAGE
    assert call(first, pages.PAGE, pages._MADV_HUGEPAGE) == 0
    assert bool((made.fill_(2.0) == 2.0).all())
