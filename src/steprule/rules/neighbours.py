"""The files beside a user's file, which it may import while it is loaded, as a script may."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from steprule.identity.whose import own_file

_LOADING = threading.RLock()
"""`sys.path` and `sys.modules` are the process's: one file is loaded at a time."""
_found: dict[str, ModuleType] = {}
"""What was imported from beside a file, by name: another file's neighbour of that name is another module."""


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Modules of `folder` can be imported inside, and are read anew; `sys.path` is as it was afterwards.

    A module by the same name that was found elsewhere is put aside meanwhile, where it is the user's own. Python's own and those
    of installed packages stay, as they do for a script.
    """
    with _LOADING:
        aside = {name: module for name, module in list(sys.modules.items()) if _in_the_way(name, module, folder)}
        for name in aside:
            del sys.modules[name]
        before = dict(sys.modules)
        entry = str(folder)
        sys.path.insert(0, entry)
        importlib.invalidate_caches()
        try:
            yield
        finally:
            with suppress(ValueError):  # the file may have changed it too
                sys.path.remove(entry)
            own = {n: m for n, m in list(sys.modules.items()) if n not in before and _lies_in(m, folder)}
            sys.modules.update({n: m for n, m in aside.items() if _found.get(n) is not m or n not in own})
            _found.update(own)


def _in_the_way(name: str, module: ModuleType, folder: Path) -> bool:
    if _found.get(name) is module:
        return True
    top = name.partition(".")[0]
    here = (folder / f"{top}.py").is_file() or (folder / top).is_dir()
    return here and not _lies_in(module, folder) and _is_users(module)


def _is_users(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and own_file(file) and module.__name__ != "__main__"


def _lies_in(module: ModuleType, folder: Path) -> bool:
    path: Any = getattr(module, "__path__", None)
    # torch.classes answers to any name, with something else.
    places = list(path) if isinstance(path, list) or type(path).__name__ == "_NamespacePath" else []
    places.append(getattr(module, "__file__", None))
    return any(isinstance(p, str) and Path(p).resolve().is_relative_to(folder) for p in places)
