"""States that note when a value is replaced, so that a step need not look at each of them.

To users they are dictionaries; pickled, copied or in a `state_dict` they are plain ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any


def _noting(method: Callable[..., Any]) -> Callable[..., Any]:
    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.changes += 1
        return method(self, *args, **kwargs)

    return noted


class WatchedState(dict[str, Any]):
    """The state of one parameter."""

    def __init__(self, data: Mapping[str, Any], count: list[int]) -> None:
        super().__init__(data)
        self._count = count

    @property
    def changes(self) -> int:
        """How often any state of the same plan was changed."""
        return self._count[0]

    @changes.setter
    def changes(self, value: int) -> None:
        self._count[0] = value

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class WatchedStates(defaultdict[Any, Any]):
    """The states of all parameters of an optimizer."""

    changes = 0

    def __init__(self, data: Mapping[Any, Any]) -> None:
        super().__init__(dict, data)

    def hold(self, key: Any, state: WatchedState) -> None:
        """Put a watched state in the place of the same state unwatched: no change."""
        dict.__setitem__(self, key, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return _plain, (dict(self),)


def _plain(data: dict[Any, Any]) -> defaultdict[Any, Any]:
    return defaultdict(dict, data)


for _name in ("__setitem__", "__delitem__", "__ior__", "pop", "popitem", "clear", "update", "setdefault"):
    setattr(WatchedState, _name, _noting(getattr(dict, _name)))
    setattr(WatchedStates, _name, _noting(getattr(dict, _name)))
