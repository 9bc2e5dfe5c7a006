"""What a user wrote, as bytes for another process, which cannot import a notebook or a script."""

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


def dumps(thing: object, reduce: Callable[[Any], Any] = lambda part: NotImplemented) -> bytes:
    """`thing` as bytes, with the code that is no installed package's; whoever reads them needs none of the user's files.

    `reduce` gives of a part what its `__reduce__` would, or NotImplemented where that is right.
    Raises what cloudpickle raises for what no process can send, such as a lock.
    """
    cloudpickle = _cloudpickle()

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc,name-defined]
        def reducer_override(self, part: Any) -> Any:
            found = reduce(part)
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
        mine = [m for n, m in list(sys.modules.items()) if n != "__main__" and n not in known and _is_users(m)]
        mine = [m for m in mine if sys.modules.get(m.__name__) is m]
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
    """Where the user's own modules lie."""
    files = [m.__file__ for m in list(sys.modules.values()) if _is_users(m) and m.__file__]
    return list(dict.fromkeys(str(Path(f).absolute().parent) for f in files))


def _is_users(module: ModuleType) -> bool:
    return getattr(module, "__file__", None) is not None and own_module(module)
