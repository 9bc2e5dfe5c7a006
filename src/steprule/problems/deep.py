"""The model of letters-deep is small enough for thousands of lanes: an embedding, residual blocks, a head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH, BLOCKS = 64, 2


class Block(nn.Module):
    """x + down(relu(up(norm(x)))): two hidden matrices, [width, width] each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, width] to the same."""
        return x + self.down(torch.relu(self.up(self.norm(x))))  # type: ignore[no-any-return]


class Deep(nn.Module):
    """The logarithms of the next letter's odds from the letters before, [samples, before] to [samples, letters]."""

    def __init__(self, letters: int, before: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(letters, WIDTH // before)
        self.blocks = nn.Sequential(*(Block(WIDTH) for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, letters)

    def forward(self, x: Tensor) -> Tensor:
        """The letters' rows of the embedding side by side, then the blocks."""
        return self.head(self.norm(self.blocks(self.embedding(x).flatten(1))))  # type: ignore[no-any-return]
