"""A small model with parameters of every kind, its kinds, its data, and how it is stepped: for the tests of `by_kind`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from steprule.problems.problem import Problem

LETTERS = 7


class Small(nn.Module):
    """Embedding, two hidden matrices of odd shapes in a block and beside it, a norm, a convolution, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(LETTERS, 5)
        self.position = nn.Parameter(torch.randn(3, 5) / 9)
        self.conv = nn.Conv1d(5, 4, 2)
        self.first = nn.Linear(8, 9)
        self.norm = nn.LayerNorm(9)
        self.second = nn.Linear(9, 6, bias=False)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.head = nn.Linear(6, LETTERS)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv((self.embedding(x) + self.position).transpose(1, 2)).flatten(1)
        return self.head(self.second(self.norm(self.first(h)).tanh()).tanh() * self.scale)  # type: ignore[no-any-return]


FOUND = {
    "position": "embedding", "scale": "vector", "embedding.weight": "embedding", "conv.weight": "other", "conv.bias": "vector",
    "first.weight": "matrix", "first.bias": "vector", "norm.weight": "vector", "norm.bias": "vector", "second.weight": "matrix",
    "head.weight": "head", "head.bias": "vector",
}  # fmt: skip
X = torch.randint(0, LETTERS, (11, 3), generator=torch.Generator().manual_seed(1))
Y = (X.sum(1) + X[:, 0]) % LETTERS


def small(dtype: torch.dtype = torch.float64) -> Small:
    torch.manual_seed(3)
    return Small().to(dtype)


def loss_of(model: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(model(X), Y)


def stepped(model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss_of(model).backward()
    for optimizer in optimizers:
        optimizer.step()


def model_of(params: Iterable[Tensor]) -> Any:
    """Groups of parameters in the order of `Small`."""
    return [
        {"params": [p], "kind": kind}
        for p, kind in zip(params, (FOUND[n] for n, _ in Small().named_parameters()), strict=True)
    ]


TASK = Problem("small", "letters of a sum", X.repeat(6, 1), Y.repeat(6), lambda: Small(), nn.functional.cross_entropy,
               batch_size=12, epochs=3)  # fmt: skip
