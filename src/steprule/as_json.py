"""Results as JSON has them: plain values, where a number that is not finite is None."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def finite(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record, with all that it holds.

    >>> finite({"losses": np.array([0.5, np.inf]), "seed": 3})
    {'losses': [0.5, None], 'seed': 3}
    """
    return {name: plain(value) for name, value in record.items()}


def plain(value: Any) -> Any:
    """A value, or all values of mappings, lists, tuples and arrays."""
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return finite(value)
    return [plain(own) for own in value] if isinstance(value, list | tuple) else value
