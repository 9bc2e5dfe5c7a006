"""What can be said of data when a problem is made of them: every name, its type and its default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from torch import nn


class Options(TypedDict, total=False):
    """What is said of any data."""

    name: str
    summary: str
    validation: Any
    test: Any
    metrics: Any
    training_step: Callable[[nn.Module, Any], Any] | None
    epochs: int
    floor: float | None


class ArrayOptions(Options, total=False):
    """What is said of arrays, tables and files: `Problem.from_arrays` explains each."""

    split: Any
    groups: Any
    shuffle: bool
    split_seed: int
    columns: Sequence[str] | None
    standardize: bool
    batch_size: int


DEFAULTS: Options = {
    "name": "mine", "summary": "", "validation": None, "test": None, "metrics": (), "training_step": None, "epochs": 10, "floor": None,
}  # fmt: skip
ARRAY_DEFAULTS: ArrayOptions = {
    **DEFAULTS, "split": None, "groups": None, "shuffle": True, "split_seed": 0, "columns": None, "standardize": False, "batch_size": 32,
}  # fmt: skip
