"""Times whole training iterations (forward, backward and step), since a step is only a part of a training."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from steprule.benching.steps import Contender, silent, torchs, torchs_forms


class _Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)])
        self.short = nn.Conv2d(inner, outer, 1, stride, bias=False) if stride > 1 or inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norms[0](self.first(x)))
        z = self.norms[1](self.second(y))
        return functional.relu(z + self.short(x))


def _resnet() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """18 layers as He et al. (2016), for 32 x 32 images; a batch of 16."""
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    blocks = [_Block(*w) for w in (*widths, (512, 512, 1))]
    stem = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    model = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    x, y = torch.randn(16, 3, 32, 32), torch.randint(10, (16,))
    return model, lambda m: functional.cross_entropy(m(x), y)


class _Gpt(nn.Module):
    """A decoder of six layers, 384 wide, over 65 characters."""

    def __init__(self, letters: int = 65, width: int = 384, length: int = 64) -> None:
        super().__init__()
        self.letter, self.place = nn.Embedding(letters, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, 6, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.head = nn.Linear(width, letters)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        return self.head(self.layers(self.letter(x) + self.place(places), mask=self.mask, is_causal=True))  # type: ignore[no-any-return]


def _gpt() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """Eight sequences of 64 characters."""
    x = torch.randint(65, (8, 65))
    return _Gpt(), lambda m: functional.cross_entropy(m(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())


MODELS: dict[str, Callable[[], tuple[nn.Module, Callable[[nn.Module], Tensor]]]] = {
    "ResNet-18, batch 16": _resnet,
    "GPT, 6 layers, 8 x 64": _gpt,
}


@dataclass(frozen=True)
class Iteration:
    """One class on one model."""

    optimizer: str
    model: str
    parameters: int
    milliseconds: dict[str, float]
    """A whole iteration by form, median over rounds."""
    share: dict[str, float]
    """The step's part of the iteration by form."""
    ratio: float
    """torch's default iteration divided by ours, median of the rounds' ratios."""
    best_ratio: float
    """The smallest such ratio among torch's forms."""


def iterations(
    names: Sequence[str] = ("Adam", "RMSprop"),
    *,
    rounds: int = 9,
    progress: Callable[[str], None] = silent,
) -> list[Iteration]:
    """Time whole iterations of a ResNet-like and a GPT-like model, each form in turn on its own copy of the model."""
    results = []
    for label, make in MODELS.items():
        for one in map(torchs, names):
            progress(f"{one.name}, {label}, whole iterations")
            results.append(_measure(one, label, make, rounds))
    return results


def _measure(one: Contender, label: str, make: Callable[[], Any], rounds: int) -> Iteration:
    theirs: Any = one.theirs
    sides: dict[str, Callable[[Any], torch.optim.Optimizer]] = {"steprule": one.ours, "default": theirs}
    if "fused" in torchs_forms(theirs):
        sides["fused"] = lambda p: theirs(p, fused=True)
    runs = {}
    for form, build in sides.items():
        torch.manual_seed(0)
        model, loss_of = make()
        runs[form] = (model, loss_of, build(model.parameters()))
    parameters = sum(p.numel() for p in model.parameters())
    whole: dict[str, list[float]] = {form: [] for form in runs}
    share: dict[str, list[float]] = {form: [] for form in runs}
    for k in range(rounds + 2):
        for form, (model, loss_of, optimizer) in runs.items():
            began = time.perf_counter()
            optimizer.zero_grad()
            loss_of(model).backward()
            middle = time.perf_counter()
            optimizer.step()
            end = time.perf_counter()
            if k >= 2:  # the first two warm up
                whole[form].append(end - began)
                share[form].append((end - middle) / (end - began))
    ratios = {form: float(np.median(np.divide(times, whole["steprule"]))) for form, times in whole.items()}
    return Iteration(
        optimizer=one.name,
        model=label,
        parameters=parameters,
        milliseconds={form: statistics.median(times) * 1e3 for form, times in whole.items()},
        share={form: statistics.median(s) for form, s in share.items()},
        ratio=ratios["default"],
        best_ratio=min(r for form, r in ratios.items() if form != "steprule"),
    )
