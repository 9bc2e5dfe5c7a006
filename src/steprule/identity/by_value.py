"""Sends the user's own code to another process by value, since a worker cannot import a notebook or a script."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

from steprule import extras
from steprule.identity.whose import own_module

_REGISTERING = RLock()
"""cloudpickle's list of modules belongs to the process."""


def dumps(thing: object, reduce: Callable[[Any], Any] | None = None) -> bytes:
    """`thing` as bytes together with the user's own code, so that its reader needs none of the user's files.

    `reduce` replaces the `__reduce__` of a part, or gives NotImplemented where the part's own serves.
    Raises what cloudpickle raises for things that cannot be sent, such as a lock.
    """
    cloudpickle = _cloudpickle()

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc,name-defined]
        def reducer_override(self, part: Any) -> Any:
            found = NotImplemented if reduce is None else reduce(part)
            return super().reducer_override(part) if found is NotImplemented else found

    told = io.BytesIO()
    with _by_value():
        Pickler(told).dump((_folders(), thing))
    return told.getvalue()


def loads(told: bytes) -> Any:
    """What `dumps` made bytes of. Folders of the user's files become importable, for imports that a function makes when called."""
    cloudpickle = _cloudpickle()

    folders, thing = cloudpickle.loads(told)
    sys.path.extend(f for f in folders if f not in sys.path and Path(f).is_dir())
    return thing


@contextmanager
def _by_value() -> Iterator[None]:
    cloudpickle = _cloudpickle()

    with _REGISTERING:
        known = set(cloudpickle.list_registry_pickle_by_value())
        mine = []
        for name, module in list(sys.modules.items()):
            if name == "__main__" or name in known or not _is_users(module):
                continue
            if module.__name__ == name:  # a module may stand under other names too
                mine.append(module)
        for module in mine:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in mine:
                cloudpickle.unregister_pickle_by_value(module)


def _cloudpickle() -> Any:
    """The package, which only what goes to another process needs. Raises `MissingPackageError`."""
    with extras.needed():
        import cloudpickle
    return cloudpickle


def _folders() -> list[str]:
    """The folders of the user's own modules."""
    files = [m.__file__ for m in list(sys.modules.values()) if _is_users(m) and m.__file__]
    folders = [str(Path(file).absolute().parent) for file in files]
    return list(dict.fromkeys(folders))


def _is_users(module: ModuleType) -> bool:
    return getattr(module, "__file__", None) is not None and own_module(module)
