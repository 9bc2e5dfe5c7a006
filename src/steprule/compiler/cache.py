"""Generated source as real files: written aside and renamed, one kernel a file, named by what it depends on.

A debugger steps into them, and Numba and Triton keep their own caches beside them. The folder is `STEPRULE_CACHE`, or the
user's cache folder. Where it cannot be written, a folder of this process serves, with one warning.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType


def name_for(kind: str, source: str, *packages: str) -> str:
    """A module name that changes with the source and with the versions of what compiles it."""
    depends = "\n".join([source, sys.version, *(f"{p} {version(p)}" for p in ("steprule", *packages))])
    return f"{kind}_{hashlib.sha256(depends.encode()).hexdigest()[:16]}"


def load(kind: str, source: str, *packages: str) -> ModuleType:
    """The module of `source`, from its file; written first where it is not there or not whole."""
    name = name_for(kind, source, *packages)
    return _import(name, _place(name, source))


def _place(name: str, source: str) -> Path:
    try:
        return _write(folder() / f"{name}.py", source)
    except OSError as error:
        return _write(_own_folder(f"{folder()}: {error.strerror or error}") / f"{name}.py", source)


def _write(path: Path, source: str) -> Path:
    """Write `source` to `path` in one step, unless it stands there already: an unchanged file keeps its cache."""
    try:
        if path.read_text(encoding="utf-8") == source:
            return path
    except (OSError, UnicodeDecodeError):
        pass  # not there, or damaged: write it
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(source)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return path


def _import(name: str, path: Path) -> ModuleType:
    full = f"steprule_kernels_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, path)
        assert spec is not None, path  # a .py file always has one
        assert spec.loader is not None, path
        module = sys.modules[full] = importlib.util.module_from_spec(spec)  # Numba's cache finds it by name
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[full]
            raise
    return sys.modules[full]


def folder() -> Path:
    """Where kernels are kept."""
    if own := os.environ.get("STEPRULE_CACHE"):
        return Path(own)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "steprule" / "kernels"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "steprule" / "kernels"


def forget(name: str, path: Path) -> None:
    """Remove what a compiler has cached beside a kernel, so that it is built again."""
    for stale in (path.parent / "__pycache__").glob(f"{path.stem}*"):
        stale.unlink(missing_ok=True)
    sys.modules.pop(f"steprule_kernels_{name}", None)


@cache
def _own_folder(reason: str) -> Path:
    message = (
        f"steprule cannot keep its kernels in {reason}; they are compiled anew in each process. Set STEPRULE_CACHE."
    )
    warnings.warn(message, RuntimeWarning, stacklevel=2)
    own = Path(tempfile.mkdtemp(prefix="steprule-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own
