"""What it costs to look for NaN and inf in each step: AdamW with `nonfinite="skip"`, beside "pass" and beside a check by torch's functions.

    python benchmarks/nonfinite.py [--rounds 41] [--out benchmarks/results/nonfinite.json]

Forms run in turn on one thread, and what is counted is that thread's time on the processor, of which others on the machine take none.
Printed is the median of each form in milliseconds, and the median of its ratios to "pass" in the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import steprule
from steprule.benching import machine

WORKS: dict[str, list[tuple[int, ...]]] = {
    "48 x 768 x 768": [(768, 768)] * 48,
    "300 x 1,000": [(1_000,)] * 300,
    "2 x 6": [(6,)] * 2,
}
OURS: dict[str, dict[str, Any]] = {
    "pass": {},
    "skip": {"nonfinite": "skip"},
    "pass, clip_norm": {"clip_norm": 1e9},
    "skip, clip_norm": {"clip_norm": 1e9, "nonfinite": "skip"},
}
BY_TORCH = "pass, behind torch's check"
WARM = 5


def all_finite(params: list[Tensor]) -> bool:
    """As scripts ask: the norm of norms, in torch's fused functions."""
    norms = torch._foreach_norm([p.grad for p in params])  # type: ignore[misc]
    return bool(torch.linalg.vector_norm(torch.stack(norms)).isfinite())


def forms(shapes: list[tuple[int, ...]]) -> dict[str, Callable[[], Any]]:
    """By name a step on parameters of its own."""
    found: dict[str, Callable[[], Any]] = {}
    for name, settings in {**OURS, BY_TORCH: {}}.items():
        params: list[Tensor] = [nn.Parameter(torch.randn(shape)) for shape in shapes]
        for p in params:
            p.grad = torch.randn_like(p)
        step = steprule.optim.AdamW(params, lr=1e-4, **settings).step
        found[name] = (lambda step=step, own=params: all_finite(own) and step()) if name == BY_TORCH else step  # type: ignore[misc]
    return found


def measured(shapes: list[tuple[int, ...]], rounds: int) -> dict[str, dict[str, float]]:
    """The median of each form, and of its ratios to the first."""
    made = forms(shapes)
    times: dict[str, list[float]] = {name: [] for name in made}
    for k in range(rounds + WARM):
        for name, step in made.items():
            start = time.thread_time()
            step()
            if k >= WARM:
                times[name].append(1e3 * (time.thread_time() - start))
    first = times["pass"]
    return {
        name: {"ms": statistics.median(own), "ratio": statistics.median(a / b for a, b in zip(own, first, strict=True))}
        for name, own in times.items()
    }


def main() -> None:
    """Measure all and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: measured(shapes, given.rounds) for name, shapes in WORKS.items()}
    for work, own in found.items():
        for name, row in own.items():
            print(f"{work:16}{name:28}{row['ms']:9.3f} ms{row['ratio']:7.2f} x")
    if given.out:
        given.out.write_text(json.dumps({"machine": machine(), "works": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
