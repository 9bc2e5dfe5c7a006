"""A CUDA graph without a card: torch's operations and Triton's launches of a block are recorded, and replayed into the same memory.

As in a real one, only what the device does is repeated: what the host has read or computed stays as it was. Meanwhile steprule is told that
a graph is being recorded, and reading back to the host is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from steprule.compiler import triton_gpu
from steprule.optim import live

READS_BACK = ("aten._local_scalar_dense", "aten.equal", "aten.is_nonzero", "aten.nonzero", "aten.item")


class RecordedGraph(TorchDispatchMode):
    """What a block did on the device, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Callable[[], None]] = []
        self.launches = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, named = str(func), kwargs or {}
        assert not name.startswith(READS_BACK), f"{name}: the host reads back from the device"
        found = func(*args, **named)

        def again() -> None:
            new = func(*args, **named)
            for old, value in zip(*map(tensors_of, (found, new)), strict=True):
                if old.data_ptr() != value.data_ptr():
                    old.copy_(value)

        self.done.append(again)
        return found

    def launched(self, call: Callable[[], None]) -> None:
        """A launch of Triton's, whose arguments are fixed now; what its interpreter does to run it is no operation of the step's."""
        with _disable_current_modes():
            call()
        self.launches += 1
        self.done.append(call)

    def replay(self) -> None:
        """All of it once more."""
        with torch.no_grad():
            for again in self.done:
                again()


def tensors_of(found: Any) -> list[Tensor]:
    """The tensors among results."""
    if isinstance(found, Tensor):
        return [found]
    return [t for one in found for t in tensors_of(one)] if isinstance(found, list | tuple) else []


@contextmanager
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordedGraph]:
    """A block that is recorded."""
    graph, run, combine = RecordedGraph(), triton_gpu.TritonKernel.run, triton_gpu.TritonKernel.combine

    def recorded_run(self: Any, k: int, chunks: Any, reduced: Any, partial: Any) -> None:
        held = dict(chunks.held)

        def call() -> None:
            before, chunks.held = chunks.held, dict(held)
            run(self, k, chunks, reduced, partial)
            chunks.held = before

        graph.launched(call)

    def recorded_combine(self: Any, node: Any, chunks: Any, of_chunks: Any, of_tensors: Any) -> None:
        graph.launched(lambda: combine(self, node, chunks, of_chunks, of_tensors))

    with monkeypatch.context() as patched:
        patched.setattr(triton_gpu.TritonKernel, "run", recorded_run)
        patched.setattr(triton_gpu.TritonKernel, "combine", recorded_combine)
        patched.setattr(triton_gpu, "is_capturing", lambda device: True)
        patched.setattr(live, "is_capturing", lambda device: True)
        patched.setattr(live, "is_recording", lambda: True)
        with graph:
            yield graph
