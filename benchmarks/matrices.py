"""Whole steps of Muon and Adafactor beside torch's classes, on CPU.

    python benchmarks/matrices.py [--threads 2] [--rounds 9] [--out matrices.json]

One step of each in turn, on equal tensors in float32; the first of a round changes from round to round. The first step, which compiles,
stands apart. After the rounds the parameters of both sides must have moved, and alike.
Muon's speed in its products stands beside that of bare products of the same shapes, in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steprule import optim
from steprule.benching import machine

Shapes = list[tuple[int, int]]


@dataclass(frozen=True)
class Work:
    """One comparison."""

    name: str
    ours: Callable[[list[Tensor]], Any]
    theirs: Callable[[list[Tensor]], Any]
    shapes: Shapes
    alike: float
    """How far the sides may end apart, relative to the largest element."""


def muon(params: list[Tensor]) -> Any:
    """Ours."""
    return optim.Muon(params, lr=0.02)  # type: ignore[attr-defined]


def torchs_muon(params: list[Tensor]) -> Any:
    """torch's."""
    return torch.optim.Muon(params, lr=0.02)


def adafactor(params: list[Tensor]) -> Any:
    """Ours."""
    return optim.Adafactor(params, lr=0.01)  # type: ignore[attr-defined]


def torchs_adafactor(params: list[Tensor]) -> Any:
    """torch's, which steps its tensors one after the other on a CPU."""
    return torch.optim.Adafactor(params, lr=0.01)


BLOCK: Shapes = [(768, 768)] * 2 + [(768, 3072), (3072, 768)]
WORKS = [
    Work("Muon, 300 of 64 x 64", muon, torchs_muon, [(64, 64)] * 300, 0.1),
    Work("Muon, a block of GPT-small", muon, torchs_muon, BLOCK, 0.1),
    Work("Adafactor, 48 matrices of GPT-small", adafactor, torchs_adafactor, BLOCK * 12, 1e-5),
    Work("Adafactor, 300 of 64 x 64", adafactor, torchs_adafactor, [(64, 64)] * 300, 1e-5),
]


class Side:
    """An optimizer with parameters of its own."""

    def __init__(self, make: Callable[[list[Tensor]], Any], shapes: Shapes) -> None:
        generator = torch.Generator().manual_seed(0)
        self.params = [torch.nn.Parameter(0.02 * torch.randn(s, generator=generator)) for s in shapes]
        for p in self.params:
            p.grad = 0.01 * torch.randn(p.shape, generator=generator)
        self.optimizer = make(list(self.params))

    def step(self) -> float:
        """The seconds of one step."""
        began = time.perf_counter()
        self.optimizer.step()
        return time.perf_counter() - began


def measured(work: Work, rounds: int) -> dict[str, Any]:
    """The medians of both sides in milliseconds, of the rounds' ratios, and the first steps in seconds."""
    sides = {"steprule": Side(work.ours, work.shapes), "torch": Side(work.theirs, work.shapes)}
    before = [p.detach().clone() for p in sides["steprule"].params]
    first = {who: side.step() for who, side in sides.items()}
    times: dict[str, list[float]] = {who: [] for who in sides}
    for k in range(rounds):
        for who in sorted(sides, reverse=bool(k % 2)):
            times[who].append(sides[who].step())
    for p, q, old in zip(sides["steprule"].params, sides["torch"].params, before, strict=True):
        assert not torch.equal(p, old), "nothing moved"
        gap = float((p - q).detach().abs().max() / q.detach().abs().max())
        assert gap <= work.alike, (work.name, gap)
    ratios = [b / a for a, b in zip(times["steprule"], times["torch"], strict=True)]
    return {
        "work": work.name,
        **{f"{who} ms": 1e3 * statistics.median(own) for who, own in times.items()},
        "ratio": statistics.median(ratios),
        "ratios": [min(ratios), max(ratios)],
        "first step s": first["steprule"],
    }


def products(rows: int, columns: int) -> list[tuple[int, int, int]]:
    """The products of five steps of Newton-Schulz on a matrix: x x.T, its square, and that times x."""
    few, many = sorted((rows, columns))
    return [(few, many, few), (few, few, few), (few, few, many)] * 5


def operations(shapes: Shapes) -> float:
    """Multiplications and additions of those products."""
    return sum(2.0 * m * k * n for shape in shapes for m, k, n in products(*shape))


def bare(shapes: Shapes, rounds: int) -> float:
    """The seconds that torch takes for them alone, in bfloat16: the median."""
    sides = [
        (torch.randn(m, k).bfloat16(), torch.randn(k, n).bfloat16(), torch.empty(m, n).bfloat16())
        for shape in shapes
        for m, k, n in products(*shape)
    ]
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        for a, b, out in sides:
            torch.mm(a, b, out=out)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description="Steps of rules of matrices beside torch's classes.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for work in WORKS:
        rows.append(measured(work, arguments.rounds))
        row = rows[-1]
        print(
            f"{row['work']:38s} {row['steprule ms']:8.1f} ms  torch {row['torch ms']:8.1f} ms  "
            f"{row['ratio']:6.2f}x  [{row['ratios'][0]:.2f}, {row['ratios'][1]:.2f}]  first {row['first step s']:.1f} s"
        )
        if "block" in work.name:
            count = operations(work.shapes)
            row["GFLOP/s"], row["GFLOP/s of the bare products"] = (
                count / 1e6 / row["steprule ms"],
                count / 1e9 / bare(work.shapes, arguments.rounds),
            )
            print(f"{'':38s} {row['GFLOP/s']:.0f} GFLOP/s, bare products {row['GFLOP/s of the bare products']:.0f}")
    if arguments.out:
        found = {"machine": machine(), "threads": arguments.threads, "rounds": arguments.rounds, "works": rows}
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
