"""Races of large models end to end: a GPT of ten million parameters on letters, a ResNet-18 on digits.

    python benchmarks/large_models.py gpt|resnet [--out FILE] [--folder DIR]

Two rules, 6 trials, 2 studies, 3 fresh seeds, 60 steps a training. Also: seconds a step of `steprule.train` against a plain torch loop
with torch's class, in turn, and what 600 steps would take by the race's own estimate. The two problems are those of a stranger's file:
`steprule race adam sgd --on benchmarks/large_models.py:gpt` races them too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import steprule
from steprule import races
from steprule.problems import digits, letters
from steprule.provenance import hardware, versions

LENGTH, WIDTH = 64, 384
RULES = ("adam", "sgd")
SIZES: dict[str, Any] = {"trials": 6, "seeds": 2, "fresh": 3, "schedules": "cosine"}
ROUNDS = 5


class Layer(nn.Module):
    """Attention to the letters before, and a feed-forward part, each behind a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.given, self.mixed = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, letters, WIDTH]"""
        parts = self.given(self.first(x)).unflatten(-1, (3, 6, WIDTH // 6)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.mixed(seen)
        return x + self.wide(self.second(x))


class Gpt(nn.Module):
    """Six layers."""

    def __init__(self) -> None:
        super().__init__()
        self.letter, self.place = nn.Embedding(len(letters.ALPHABET), WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.layers = nn.Sequential(*(Layer() for _ in range(6)))
        self.last, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(letters.ALPHABET))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, classes, letters], as cross entropy wants it."""
        found = self.layers(self.letter(x) + self.place(torch.arange(x.shape[1])))
        return self.head(self.last(found)).transpose(1, 2)


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        first, second = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.body = nn.Sequential(first, nn.BatchNorm2d(outer), nn.ReLU(), second, nn.BatchNorm2d(outer))
        same = stride == 1 and inner == outer
        self.short: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[batch, outer, height, width]"""
        return functional.relu(self.body(x) + self.short(x))


def resnet_18() -> nn.Module:
    """18 layers as He et al. (2016), for images of 8 x 8."""
    widths = [
        (64, 64, 1),
        (64, 64, 1),
        (64, 128, 2),
        (128, 128, 1),
        (128, 256, 2),
        (256, 256, 1),
        (256, 512, 2),
        (512, 512, 1),
    ]
    stem = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*stem, *(Block(*w) for w in widths), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def gpt() -> steprule.Problem:
    """The next letter of the sonnets, at each of 64 places; 60 steps of 4 windows."""
    first, last = letters.load()
    text = torch.from_numpy(np.concatenate([first[0], last]))
    windows = text.unfold(0, LENGTH + 1, 20)
    rows = {name: (windows[k, :-1], windows[k, 1:]) for name, k in _parts(len(windows), 80, 24).items()}
    x, y = rows["train"]
    return steprule.Problem(
        "gpt", "letters, a GPT of ten million parameters", x, y, Gpt, functional.cross_entropy, batch_size=4, epochs=3,
        validation=rows["validation"], test=rows["test"],
    )  # fmt: skip


def resnet() -> steprule.Problem:
    """Digits; 60 steps of 32 images."""
    images, numbers = (torch.from_numpy(part) for part in digits.load())
    rows = {name: (images[k], numbers[k]) for name, k in _parts(len(images), 640, 200).items()}
    x, y = rows["train"]
    return steprule.Problem(
        "resnet", "digits, a ResNet-18", x, y, resnet_18, functional.cross_entropy, batch_size=32, epochs=3,
        validation=rows["validation"], test=rows["test"],
    )  # fmt: skip


def _parts(count: int, train: int, held: int) -> dict[str, Tensor]:
    order = torch.from_numpy(np.random.default_rng(0).permutation(count))
    return {
        "train": order[:train],
        "validation": order[train : train + held],
        "test": order[train + held : train + 2 * held],
    }


def main() -> None:
    """Race, compare and print."""
    parser = argparse.ArgumentParser(description="Race a large model.")
    parser.add_argument("name", choices=["gpt", "resnet"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, help="Of the race, to go on with one that was interrupted.")
    options = parser.parse_args()
    task = {"gpt": gpt, "resnet": resnet}[options.name]()
    longer = races.estimate(RULES, task, **SIZES, epochs=10 * task.epochs)
    beside = _beside_torch(task)
    with tempfile.TemporaryDirectory() as folder:
        said: list[Any] = []
        began = time.perf_counter()
        found = races.race(RULES, task, **SIZES, out=options.folder or folder, told=said.append)
        took = time.perf_counter() - began
    result = {
        "problem": task.name,
        "parameters": sum(p.numel() for p in task.model().parameters()),
        "trainings": found.lanes,
        "kept": found.kept,
        "steps_each": task.epochs * -(-task.samples // task.batch_size),
        "seconds": took,
        "estimated_seconds": said[0].seconds,
        "estimated_seconds_of_600_steps": longer.seconds,
        "step": beside,
        "verdict": races.in_words(found),
        "date": str(date.today()),
        "hardware": hardware(),
        "versions": versions(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


def _beside_torch(task: steprule.Problem) -> dict[str, Any]:
    """Seconds a step: ours as a training takes them, and a plain loop with torch's class, in turn."""
    ours, theirs = [], []
    steps = task.epochs * -(-task.samples // task.batch_size)
    for _ in range(ROUNDS):
        model = task.initial_model(0)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        began = time.perf_counter()
        for (x, y), _count in task.parts["train"].batches(task.batch_size, task.epochs, 0):
            optimizer.zero_grad()
            task.loss(model(x), y).backward()
            optimizer.step()
        theirs.append((time.perf_counter() - began) / steps)
        ours.append(steprule.train("adam", task, lr=1e-3).seconds / steps)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"ours": statistics.median(ours), "torch": statistics.median(theirs), "ratio": statistics.median(ratios)}


if __name__ == "__main__":
    main()
