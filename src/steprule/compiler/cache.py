"""Generated source as real files: written aside and renamed, one kernel per file, named by what it depends on.

A debugger steps into them, and Numba and Triton keep their own caches beside them.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from filelock import FileLock, Timeout

from steprule.compiler.folder import folder, own_folder

NUMBA = ("numba", "llvmlite", "numpy")
"""What compiles a source for Numba."""
INTRINSICS = tuple(
    str(Path(__file__).parent.parent / name) for name in ("compiler/intrinsics.py", "arithmetic/philox.py")
)
"""The files of ours whose functions it calls, and those that they compile in turn."""
WORDS = (str(Path(__file__).parent / "words.py"),)
"""The file that translates functions of words."""


def interpreting() -> bool:
    """Whether NUMBA_DISABLE_JIT leaves Numba's functions to Python, which cannot read memory by address as kernels do."""
    return os.environ.get("NUMBA_DISABLE_JIT", "") not in ("", "0")


def name_for(kind: str, source: str, called: tuple[str, ...], *packages: str) -> str:
    """A module name that changes with the source, with what it calls and with what compiles it."""
    depends = "\n".join(
        [source, *map(_text_of, called), sys.version, *(f"{p} {_version_of(p)}" for p in ("steprule", *packages))]
    )
    return f"{kind}_{hashlib.sha256(depends.encode()).hexdigest()[:16]}"


def load(kind: str, source: str, called: tuple[str, ...], *packages: str) -> ModuleType:
    """The module of `source`, from its file; written first where it is not there or not whole.

    `called` are the files of ours whose functions the source calls, `packages` are those that compile it.

    What the compiler cached beside it and cannot read any more is built again; a folder that cannot be written, or is
    full, is left for one of this process.
    """
    name = name_for(kind, source, called, *packages)
    with _LOADING:
        if ready := sys.modules.get(_module_name(name)):
            return ready
        began = time.perf_counter()
        try:
            return _loaded(name, source)
        finally:
            _SPENT[0] += time.perf_counter() - began


def count() -> int:
    """How many kernels this process has built, or read from the cache."""
    return sum(name.startswith(_module_name("")) for name in sys.modules)


def seconds() -> float:
    """How long this process has spent on building kernels, or on reading them from the cache."""
    return _SPENT[0]


def _loaded(name: str, source: str) -> ModuleType:
    path = folder() / f"{name}.py"
    try:
        _write(path, source)
        with _one_process_at_a_time(path, source):
            return _import(name, path)
    except OSError as error:
        own = own_folder(f"{folder()}: {error.strerror or error}")
        return _import(name, _write(own / f"{name}.py", source))
    except Exception:  # noqa: BLE001  (whatever a damaged cache raises: one fresh try tells it from a real fault)
        _forget(path)
        return _import(name, _write(path, source))


WAIT = 120.0
"""Seconds for which a process waits for another that compiles the same kernel, before it compiles the kernel itself."""


@contextmanager
def _one_process_at_a_time(path: Path, source: str) -> Iterator[None]:
    """Hold the kernel's lock while it is compiled: processes that start together wait, then read what one of them compiled.

    The system frees the lock of a process that dies. Nothing is locked where Numba has cached every function already.
    """
    functions = [line for line in source.splitlines() if line.startswith("@njit(") and "inline" not in line]
    if len([*(path.parent / "__pycache__").glob(f"{path.stem}.*.nbi")]) >= len(functions):
        yield
        return
    lock = FileLock(path.with_suffix(".lock"))
    with suppress(Timeout, OSError, NotImplementedError):  # then it is compiled more than once, which is no error
        lock.acquire(timeout=WAIT)
    try:
        yield
    finally:
        lock.release()


_version_of = cache(version)


@cache
def _text_of(called: str) -> str:
    """What generated source calls of ours: a change there must not meet a kernel that was compiled before it."""
    return Path(called).read_text(encoding="utf-8")


_SPENT = [0.0]
_LOADING = threading.RLock()
"""Held while a module is loaded, so that another thread does not see it before it is whole. A fork waits for it: in the
child no thread would go on that holds it, or the compiler's own lock. What waits for the fork's end while it holds this would
never let the fork begin: filelock does, so it is imported above, and its own hook comes after this one."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_LOADING.acquire, after_in_parent=_LOADING.release, after_in_child=_LOADING.release)


def _module_name(name: str) -> str:
    return f"steprule_kernels_{name}"


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
    full = _module_name(name)
    loader = importlib.machinery.SourceFileLoader(full, str(path))
    spec = importlib.util.spec_from_file_location(full, path, loader=loader)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # never None: the loader is given
    sys.modules[full] = module  # Numba's cache finds it by name
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[full]
        raise
    return module


def _forget(path: Path) -> None:
    """Remove a kernel's file and what a compiler has cached beside it."""
    for stale in (path, *(path.parent / "__pycache__").glob(f"{path.stem}*")):
        stale.unlink(missing_ok=True)
