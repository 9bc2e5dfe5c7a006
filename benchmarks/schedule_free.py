"""Whole steps of schedule-free AdamW and SGD beside schedulefree's own classes, and of `eval()` and `train()`.

    python benchmarks/schedule_free.py [--threads 2] [--rounds 15] [--out benchmarks/results/schedule-free.json]

One step of each in turn, on equal tensors in float32; the first of a round changes from round to round. schedulefree's classes write
to the gradients, so both sides get theirs anew before each step, outside of the time. The first two steps, which compile, stand apart.
After each round the parameters of both sides must have moved, and alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import schedulefree
import torch
from torch import Tensor

from steprule import optim
from steprule.benching import machine

SHAPES = [(768, 768), (768,)] * 48
CLASSES = {
    "AdamW": (optim.ScheduleFreeAdamW, schedulefree.AdamWScheduleFree),  # type: ignore[attr-defined]
    "SGD": (optim.ScheduleFreeSGD, schedulefree.SGDScheduleFree),  # type: ignore[attr-defined]
}
SETTINGS = {"lr": 1e-3, "weight_decay": 0.01, "warmup_steps": 10}
ALIKE = 1e-4
"""How far the sides may be apart, relative to the largest element: float32 over the steps of a run."""


class Side:
    """An optimizer with parameters and gradients of its own."""

    def __init__(self, kind: Any, gradients: list[Tensor], **more: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        self.params = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in SHAPES]
        self.gradients = gradients
        self.optimizer = kind(self.params, **SETTINGS, **more)
        self.optimizer.train()
        for p, g in zip(self.params, gradients, strict=True):
            p.grad = g.clone()

    def step(self) -> float:
        """The seconds of one step."""
        for p, g in zip(self.params, self.gradients, strict=True):
            assert p.grad is not None
            p.grad.copy_(g)
        return seconds(self.optimizer.step)

    def there_and_back(self) -> float:
        """The seconds of `eval()` and `train()`."""
        return seconds(self.optimizer.eval) + seconds(self.optimizer.train)


def seconds(call: Callable[[], Any]) -> float:
    """Of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measured(name: str, rounds: int) -> dict[str, Any]:
    """The medians of the two sides in milliseconds, and of the rounds' ratios."""
    generator = torch.Generator().manual_seed(1)
    gradients = [0.01 * torch.randn(s, generator=generator) for s in SHAPES]
    kind, peer = CLASSES[name]
    sides = {"steprule": Side(kind, gradients), "schedulefree": Side(peer, gradients, foreach=True)}
    # Two: z is absent in the first, so that the second has a kernel of its own.
    first = {who: side.step() + side.step() for who, side in sides.items()}
    for side in sides.values():
        side.there_and_back()
    times: dict[str, list[float]] = {who: [] for who in sides}
    swaps: dict[str, list[float]] = {who: [] for who in sides}
    for k in range(rounds):
        before = sides["steprule"].params[0].detach().clone()
        order = list(sides) if k % 2 else list(reversed(sides))
        for who in order:
            times[who].append(sides[who].step())
        for who in order:
            swaps[who].append(sides[who].there_and_back())
        ours, theirs = (side.params[0].detach() for side in sides.values())
        assert not torch.equal(before, ours)
        assert (ours - theirs).abs().max() <= ALIKE * theirs.abs().max()

    def summed(found: dict[str, list[float]]) -> dict[str, float]:
        ratios = [b / a for a, b in zip(found["steprule"], found["schedulefree"], strict=True)]
        medians = {f"{who} ms": 1e3 * statistics.median(own) for who, own in found.items()}
        return {**medians, "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}

    return {"first two steps s": first, "step": summed(times), "eval and train": summed(swaps)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = {name: measured(name, args.rounds) for name in CLASSES}
    print(f"48 x (768 x 768 + 768), float32, {args.threads} threads, medians of {args.rounds} rounds")
    for name, own in found.items():
        for what in ("step", "eval and train"):
            a, b, ratio, least, most = own[what].values()
            print(
                f"{name:6} {what:15} steprule {a:7.1f} ms  schedulefree {b:7.1f} ms  {ratio:5.2f}x ({least:.2f} to {most:.2f})"
            )
        print(f"{name:6} first two steps {own['first two steps s']['steprule']:.2f} s, with compilation")
    if args.out:
        told = {"machine": machine(), "threads": args.threads, "rounds": args.rounds, "found": found}
        args.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
