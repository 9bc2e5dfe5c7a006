"""A card's streams and memory: what one reads that another made, and what a recorded CUDA graph will read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_OF_GRAPHS: list[Any] = []
"""What graphs read when they are replayed. Nothing tells when the last of them is gone, so it stays: some bytes per chunk and graph."""


def is_capturing(device: torch.device) -> bool:
    """Whether what is launched on a device now is recorded for a CUDA graph instead."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def keep_for_graph(held: Iterable[Any]) -> None:
    """Keep alive what the graph that is being recorded reads: it knows addresses alone."""
    _OF_GRAPHS.append(tuple(held))


def stream_of(device: torch.device) -> int:
    """The number of the current stream of a device; 0 where it has none."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


def used_here(tensors: Iterable[Tensor], device: torch.device) -> None:
    """Say that the current stream reads these, which may be another's: their memory is not given away before it has."""
    if device.type == "cuda":
        stream = torch.cuda.current_stream(device)
        for t in tensors:
            t.record_stream(stream)


def staging(like: Any, device: torch.device) -> Tensor:
    """Memory of the host that a card reads by itself, of the shape and dtype of an array."""
    return torch.empty(like.shape, dtype=torch.from_numpy(like[:0]).dtype, pin_memory=device.type == "cuda")
