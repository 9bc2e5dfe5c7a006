"""A step that clips by the norm of all gradients, on FSDP2's shards: ours, torch's clipping before ours, and all torch's.

    OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 benchmarks/sharded_clip.py

Prints the median milliseconds of each form's steps, taken in turn, and how many times ours each takes. Gradients are fixed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

import steprule

BLOCKS, WIDTH, WORDS, ROUNDS = 12, 256, 5_000, 15


def model() -> nn.Sequential:
    """75 parameters, 8.9 million numbers."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Embedding(WORDS, WIDTH)]
    for _ in range(BLOCKS):
        up, down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        layers.append(nn.Sequential(up, nn.GELU(), down, nn.LayerNorm(WIDTH)))
    layers.append(nn.Linear(WIDTH, WORDS))
    whole = nn.Sequential(*layers)
    for layer in whole:
        fully_shard(layer)
    return fully_shard(whole)


def form(make: Callable[[Any], torch.optim.Optimizer], *, clips: bool) -> Callable[[], None]:
    """A step of a model of its own, behind torch's clipping or without."""
    own = model()
    optimizer = make(own.parameters())
    for p in own.parameters():
        p.grad = torch.ones_like(p)

    def step() -> None:
        if clips:
            nn.utils.clip_grad_norm_(own.parameters(), 1.0)
        optimizer.step()

    return step


def main() -> None:
    """Time the forms in turn."""
    dist.init_process_group("gloo")
    forms = {
        "steprule, clip_norm=": form(lambda p: steprule.optim.AdamW(p, clip_norm=1.0), clips=False),
        "clip_grad_norm_, steprule": form(steprule.optim.AdamW, clips=True),
        "clip_grad_norm_, torch": form(torch.optim.AdamW, clips=True),
    }
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for k in range(ROUNDS + 3):
        for name, step in forms.items():
            dist.barrier()
            start = time.perf_counter()
            step()
            if k >= 3:  # the first compile
                taken[name].append(1e3 * (time.perf_counter() - start))
    if dist.get_rank() == 0:
        times = {name: statistics.median(own) for name, own in taken.items()}
        first = next(iter(times.values()))
        for name, own in times.items():
            print(f"{name:28}{own:8.2f} ms {own / first:6.2f} x")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
