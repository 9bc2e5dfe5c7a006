"""Whole runs in float32: how far they drift from the float64 run, ours beside torch's own.

    python benchmarks/float32_drift.py [--steps 1000] [--out benchmarks/results/float32-drift.json]

A rough convex loss with its minimum at 0 and noise that depends on the step alone: what differs is rounding. The distance
is the largest of |p32 - p64| over all elements, relative to the largest |p64| at the start.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from steprule import optim
from steprule.benching import machine

SIZE = 4096


def run(kind: Callable[..., torch.optim.Optimizer], dtype: torch.dtype, steps: int) -> Tensor:
    """The parameter at the end, in float64."""
    p = torch.linspace(-2, 2, SIZE, dtype=torch.float64).to(dtype).requires_grad_()
    settings = {"momentum": 0.9} if kind.__name__ == "SGD" else {}
    optimizer = kind([p], lr=0.01, **settings)
    for t in range(steps):
        noise = torch.randn(SIZE, generator=torch.Generator().manual_seed(t), dtype=torch.float64).to(dtype)
        x = p.detach()
        p.grad = x + 0.3 * torch.sin(5 * x) + 0.1 * noise
        optimizer.step()
    return p.detach().double()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)  # so that the float64 run keeps its counters in float64
    found = {}
    print(f"{'class':10} {'steprule':>10} {'torch':>10}   after {args.steps} steps in float32, from float64")
    for name in [n for n in optim.NAMES if hasattr(torch.optim, n)]:
        exact = run(getattr(torch.optim, name), torch.float64, args.steps)
        gaps = [
            float((run(getattr(module, name), torch.float32, args.steps) - exact).abs().max() / 2)
            for module in (optim, torch.optim)
        ]
        found[name] = dict(zip(("steprule", "torch"), gaps, strict=True))
        print(f"{name:10} {gaps[0]:10.1e} {gaps[1]:10.1e}")
    if args.out:
        args.out.write_text(json.dumps({"machine": machine(), "steps": args.steps, "drift": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
