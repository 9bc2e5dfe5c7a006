"""The limit of memory: the time to read and write a step's bytes, with next to no arithmetic."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch


def mover(reads: int, writes: int, shapes: Sequence[tuple[int, ...]], device: str) -> Callable[[], float]:
    """A step that only reads and writes as many bytes; on the CPU in tensors of the same shapes and in the same chunks."""
    if device != "cpu":
        half = torch.zeros(2, (reads + writes) * sum(map(math.prod, shapes)) // 2, device=device)

        def copy() -> float:
            torch.cuda.synchronize()
            began = time.perf_counter()
            half[0].copy_(half[1])
            torch.cuda.synchronize()
            return time.perf_counter() - began

        return copy
    from steprule.compiler import numba_cpu as cpu
    from steprule.compiler.target import HostChunks

    columns = [[torch.zeros(s) for s in shapes] for _ in range(reads)]
    addresses = np.array([[t.data_ptr() for t in column] for column in columns], dtype=np.int64)
    chunks = HostChunks([math.prod(s) for s in shapes], cpu.CHUNK)
    kernel = cpu.mover(reads, writes)

    def move() -> float:
        began = time.perf_counter()
        kernel(addresses, chunks)
        seconds = time.perf_counter() - began
        assert columns  # they must live as long as their addresses are used
        return seconds

    return move
