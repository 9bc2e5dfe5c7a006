"""One training by our class and by torch's, as a framework runs it, and what must be the same: what these tests share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tolerances import CLASS_FLOAT32_FEW_STEPS, LOSSES_BFLOAT16
from torch import Tensor, nn

import steprule

OURS, TORCHS = steprule.optim, torch.optim
RESUMED = {"ours by ours": (OURS, OURS), "torch's by ours": (TORCHS, OURS), "ours by torch's": (OURS, TORCHS)}
"""Whose class saves and whose goes on."""


@dataclass(frozen=True)
class Trained:
    """The loss of each batch, and the weights behind the last step."""

    losses: list[float]
    weights: list[Tensor]


def needed(*names: str) -> list[Any]:
    """Frameworks by name; the file's tests are skipped where one is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _stand_in_for_torchvision()
        return [pytest.importorskip(name, exc_type=ImportError) for name in names]


_KEPT: list[torch.library.Library] = []


def _stand_in_for_torchvision() -> None:
    """Where torchvision was built for another torch than this one it has no operators, and two that it misses stop its import."""
    if not _KEPT:
        _KEPT.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                _KEPT[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def weights_of(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def apart(a: Trained, b: Trained) -> float:
    """The largest relative difference of two losses at the same batch."""
    assert len(a.losses) == len(b.losses) > 0
    return max(abs(x - y) / abs(y) for x, y in zip(a.losses, b.losses, strict=True))


def assert_same(ours: Trained, theirs: Trained, *, low: bool = False) -> None:
    """The losses are torch's at each batch. `low`: parts of the model run in bfloat16."""
    assert apart(ours, theirs) <= (LOSSES_BFLOAT16 if low else CLASS_FLOAT32_FEW_STEPS)
    assert len(set(ours.losses)) > 1
    assert all([w.isfinite().all() for w in ours.weights])


def assert_differ(a: Trained, b: Trained) -> None:
    """A setting that is said to act does: otherwise two trainings without it would be the same too."""
    assert apart(a, b) > LOSSES_BFLOAT16


def both(train: Callable[[Any], Trained]) -> tuple[Trained, Trained]:
    return train(OURS), train(TORCHS)


def data(rows: int = 64, columns: int = 4) -> Sequence[tuple[Tensor, Tensor]]:
    """Rows with a label that follows from them, the same at each call."""
    made = torch.Generator().manual_seed(7)
    x = torch.randn(rows, columns, generator=made)
    return list(zip(x, torch.tanh(x.sum(1, keepdim=True)) + 0.1 * torch.randn(rows, 1, generator=made), strict=True))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 1))
