"""The default suite stays short: of long lists of cases it runs each n-th."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def is_param(case: object) -> bool:
    """Whether `pytest.param` made it."""
    return isinstance(case, type(pytest.param()))


def thinned(cases: Iterable[Any], every: int, ids: Iterable[str] | None = None) -> list[Any]:
    """Parameters for `parametrize`: the first and each `every`-th in the default suite, all in the long one."""
    listed = list(cases)
    names = list(ids) if ids is not None else [None] * len(listed)

    def values(case: Any) -> Any:
        if is_param(case):
            return case.values
        return case if isinstance(case, tuple) else (case,)

    return [
        pytest.param(
            *values(case),
            id=case.id if is_param(case) else name,
            marks=[*(case.marks if is_param(case) else ()), *(() if k % every == 0 else (pytest.mark.long,))],
        )
        for k, (case, name) in enumerate(zip(listed, names, strict=True))
    ]
