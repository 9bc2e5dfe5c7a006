"""Measures how much memory a piece of work needs: the most bytes that its tensors hold at one time."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def most_held(work: Callable[[], Any]) -> int:
    """The most bytes that the tensors made by `work` hold at one time.

    Each operation's result counts until its storage is freed; memory that an operation takes only while it runs is not seen.
    """
    held = _Held()
    with held:
        work()
    return held.most


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every new storage from the operation that makes it until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self.storages: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if _is_stored(t)}
        for tensor in tree_leaves(made):
            if _is_stored(tensor) and id(tensor.untyped_storage()) not in given:
                self._count(tensor.untyped_storage())
        self.most = max(self.most, self.now)
        return made

    def _count(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()
        known = self.storages.get(key)
        if known is not None and known() is storage:
            return

        def freed(reference: weakref.ref[Any]) -> None:
            self.now -= size
            if self.storages.get(key) is reference:
                del self.storages[key]

        self.now += size
        self.storages[key] = weakref.ref(storage, freed)


def _is_stored(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided
