"""One training: a rule with its states in the open, or any `torch.optim.Optimizer`, on a problem.

For one seed, everyone gets the same batches in the same order and the same initial weights. In reading order: record.py (the result),
under_way.py (a training, step by step), entry.py (`train`).
"""

from __future__ import annotations

from steprule.training.entry import train
from steprule.training.record import Run

__all__ = ["Run", "train"]
