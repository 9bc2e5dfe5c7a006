"""AdamW on bfloat16 parameters by each way of rounding, beside float32: bytes, time of a step, loss over several seeds.

    python benchmarks/low_precision.py [--size small|10m] [--steps 300] [--seeds 5] [--out benchmarks/results/low-precision.json]

Two models learn the letters of six sonnets: a network of the four letters before, and a GPT. Each way trains from the same weights on
the same batches. The loss is that over the whole text, computed in float32 with the weights that were reached. Differences to float32
are paired by seed, with 95 % intervals by Student's t. The time is that of `step()` alone, medians of rounds in which the ways take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from steprule import optim
from steprule.benching import machine
from steprule.problems import letters

LOW = torch.bfloat16
WAYS: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "float32": (torch.float32, {}),
    "bfloat16, nearest": (LOW, {}),
    "bfloat16, stochastic": (LOW, {"rounding": "stochastic", "seed": 1}),
    "bfloat16, kahan": (LOW, {"rounding": "kahan"}),
    "bfloat16, stochastic, float32 states": (LOW, {"rounding": "stochastic", "seed": 1, "state_dtype": torch.float32}),
    "bfloat16, kahan, float32 states": (LOW, {"rounding": "kahan", "state_dtype": torch.float32}),
}
SIZES = {"small": (32, 2, 16), "10m": (320, 8, 64)}
"""Width, layers and letters of context of the GPT."""
LETTERS = len(letters.ALPHABET)
RATES = {"letters": 1e-3, "gpt": 3e-4}
BATCH, ROUNDS, SHAPE, TENSORS = 16, 15, (512, 512), 8


class Block(nn.Module):
    """Attention to what stands before, then two layers for each letter."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.back = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = width // 32

    def forward(self, x: Tensor) -> Tensor:
        """[n, t, width] to the same."""
        n, t, width = x.shape
        parts = self.qkv(self.norms[0](x)).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(n, t, width))
        return x + self.back(functional.gelu(self.wide(self.norms[1](x))))


class GPT(nn.Module):
    """Letters [n, t] to the scores of each next one, [n, t, letters]."""

    def __init__(self, width: int, layers: int, context: int) -> None:
        super().__init__()
        self.letter, self.place = nn.Embedding(LETTERS, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
        self.norm, self.score = nn.LayerNorm(width), nn.Linear(width, LETTERS)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the next letter, behind each."""
        at = torch.arange(x.shape[1])
        return self.score(self.norm(self.blocks(self.letter(x) + self.place(at))))  # type: ignore[no-any-return]


def network() -> nn.Module:
    """Of the letters before, [n, 4], to the scores of the next one."""
    return nn.Sequential(
        nn.Embedding(LETTERS, 16), nn.Flatten(), nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, LETTERS)
    )


def data_of(problem: str, context: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of the whole text."""
    before, after = map(torch.from_numpy, letters.load())
    if problem == "letters":
        return before, after
    windows = after.unfold(0, context + 1, context // 2)
    return windows[:, :-1], windows[:, 1:]


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The mean cross entropy, in float32."""
    return functional.cross_entropy(model(x).float().flatten(0, -2), y.flatten())


def trained(problem: str, size: str, way: str, seed: int, steps: int) -> tuple[float, float]:
    """The loss at the end, and the bytes per parameter of weights and states."""
    dtype, settings = WAYS[way]
    width, layers, context = SIZES[size]
    torch.manual_seed(seed)
    model = (network() if problem == "letters" else GPT(width, layers, context)).to(LOW).to(dtype)
    x, y = data_of(problem, context)
    optimizer = optim.AdamW(model.parameters(), lr=RATES[problem], weight_decay=0.01, **settings)
    chosen = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = torch.randint(len(x), (BATCH,), generator=chosen)
        optimizer.zero_grad()
        loss_of(model, x[batch], y[batch]).backward()
        optimizer.step()
    size_of = bytes_of(optimizer)
    with torch.no_grad():
        return float(loss_of(model.float(), x, y)), size_of


def bytes_of(optimizer: Any) -> float:
    """Per parameter: itself and its states of one number per element."""
    every = [p for group in optimizer.param_groups for p in group["params"]]
    held = [t for p in every for t in (p, *optimizer.state[p].values()) if t.numel() == p.numel() > 1]
    return sum(t.numel() * t.element_size() for t in held) / sum(p.numel() for p in every)


def seconds() -> dict[str, float]:
    """Of a step of 2.1 million parameters, by way."""
    generator, ways = torch.Generator().manual_seed(0), dict[str, Callable[[], Any]]()
    for way, (dtype, settings) in WAYS.items():
        params = [nn.Parameter(torch.randn(SHAPE, generator=generator).to(dtype)) for _ in range(TENSORS)]
        for p in params:
            p.grad = torch.randn(SHAPE, generator=generator).to(dtype)
        ways[way] = optim.AdamW(params, lr=1e-3, **settings).step
        ways[way]()
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, step in ways.items():
            start = time.perf_counter()
            step()
            found[way].append(time.perf_counter() - start)
    return {way: statistics.median(own) for way, own in found.items()}


def interval(values: list[float]) -> tuple[float, float]:
    """The mean and half of its 95 % interval."""
    spread = float(stats.sem(values)) if any(v != values[0] for v in values) else 0.0
    return float(np.mean(values)), spread * float(stats.t.ppf(0.975, len(values) - 1))


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {way: {"step ms": 1e3 * s} for way, s in seconds().items()}
    for problem in RATES:
        found = {
            way: [trained(problem, given.size, way, seed, given.steps) for seed in range(given.seeds)] for way in WAYS
        }
        first = [loss for loss, _ in found["float32"]]
        for way, own in found.items():
            losses = [loss for loss, _ in own]
            apart = interval([a - b for a, b in zip(losses, first, strict=True)])
            rows[way] |= {
                "bytes": own[0][1],
                problem: {"losses": losses, "loss": interval(losses), "beside float32": apart},
            }
    for way, row in rows.items():
        told = [
            f"{p} {row[p]['loss'][0]:.3f} ({row[p]['beside float32'][0]:+.3f} +- {row[p]['beside float32'][1]:.3f})"
            for p in RATES
        ]
        print(f"{way:38} {row['bytes']:5.1f} bytes {row['step ms']:6.2f} ms  {'  '.join(told)}")
    if given.out:
        said = {"size": given.size, "steps": given.steps, "seeds": given.seeds, "threads": torch.get_num_threads()}
        given.out.write_text(json.dumps({"machine": machine(), **said, "ways": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
