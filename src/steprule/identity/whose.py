"""Decides whose code something is: the user's own counts by value, an installed package's by name and version.

The place of the file decides, so an editable install is its author's own code.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import sys
import sysconfig
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from types import FunctionType, ModuleType

HEAP_TYPE = 1 << 9
"""The flag of a class that was made at run time (Py_TPFLAGS_HEAPTYPE); other classes are compiled into Python or an extension."""


def own_function(function: FunctionType) -> bool:
    """Whether a function counts by value."""
    file = function.__code__.co_filename
    if not file.startswith("<"):
        return own_file(file)
    if file.startswith("<frozen "):
        return False
    # Made by exec, as a dataclass's __init__, or in a notebook: its module decides, where the globals are that module's.
    module = sys.modules.get(str(function.__globals__.get("__name__")))
    return module is None or vars(module) is not function.__globals__ or own_module(module)


def own_class(cls: type) -> bool:
    """Whether a class counts by value. A class that its module does not hold under its name does, whatever the module."""
    if not cls.__flags__ & HEAP_TYPE:
        return False
    if own_module_named(cls.__module__):
        return True
    found: object = sys.modules[cls.__module__]
    for name in cls.__qualname__.split("."):
        # A module's own __getattr__ is not asked.
        found = vars(found).get(name) if isinstance(found, ModuleType) else getattr(found, name, None)
    return found is not cls


def own_module(module: ModuleType) -> bool:
    """Whether a module counts by value."""
    file = getattr(module, "__file__", None)
    if file is not None:
        return own_file(file)
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    if origin in ("built-in", "frozen") or module.__name__ in sys.builtin_module_names:
        return False
    paths = list(getattr(module, "__path__", ()))  # of a package without __init__.py
    return all(map(own_file, paths))


def own_module_named(name: object) -> bool:
    """Whether a module of that name counts by value; a module that is not loaded does."""
    module = sys.modules.get(name) if isinstance(name, str) else None
    return module is None or own_module(module)


@cache
def own_file(file: str) -> bool:
    """Whether the code of a file counts by value."""
    where = os.path.realpath(file)
    folders = where.split(os.sep)
    at = next((k for k, f in enumerate(folders) if f in ("site-packages", "dist-packages")), None)
    if at is not None:
        # A file that was put there by hand has no version that could stand for it.
        return not _release(folders[at + 1].partition(".")[0])
    return not where.startswith(_elsewhere())


@cache
def _elsewhere() -> tuple[str, ...]:
    """Python's own folders, and this package's, which its version identifies wherever it lies."""
    paths = sysconfig.get_paths()
    folders = (paths["stdlib"], paths["platstdlib"], str(Path(__file__).parents[1]))
    return tuple(os.path.realpath(folder) + os.sep for folder in folders)


def release(module: str | None) -> str:
    """The package of a module with its version: "torch 2.13.0", "Python 3.11.7"."""
    top = (module or "builtins").partition(".")[0]
    return _release(top) or top


@cache
def _release(top: str) -> str:
    """The release that a top-level name belongs to; "" where no version is known."""
    if top in sys.stdlib_module_names or top in ("builtins", "__main__", ""):
        return f"Python {platform.python_version()}"
    try:
        return _version(top)
    except metadata.PackageNotFoundError:
        pass
    own = getattr(sys.modules.get(top), "__version__", None)
    if isinstance(own, str):
        return f"{top} {own}"
    # This reads every distribution's record, so it comes last: few packages have another name and no __version__.
    versions = {_version(name) for name in _distributions().get(top, [])}
    return ", ".join(sorted(versions))


_distributions = cache(metadata.packages_distributions)


def _version(name: str) -> str:
    found = metadata.distribution(name)
    try:
        origin = json.loads(found.read_text("direct_url.json") or "{}")
    except ValueError:
        origin = {}
    commit = origin.get("vcs_info", {}).get("commit_id", "")
    shown = found.metadata["Name"].lower().replace("-", "_")
    return f"{shown} {found.version} {commit}".rstrip()


def syntax_of(module: ModuleType) -> bytes:
    """The digest of a module's file: for Python of its syntax tree without comments and docstrings, else of its bytes."""
    file = getattr(module, "__file__", None)
    try:
        with open(file or "", "rb") as stream:
            content = stream.read()
    except OSError:
        return b""
    if str(file).endswith(".py"):
        with suppress(SyntaxError, ValueError):  # the file may have changed since it was imported
            tree = _undocumented(ast.parse(content))
            content = ast.dump(tree).encode()
    return hashlib.sha256(content).digest()


def _undocumented(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
            del node.body[0]  # a text, or another constant that does nothing
    return tree


def patched(cls: type) -> dict[str, FunctionType]:
    """The user's own functions in an installed class or its bases."""
    found = {}
    for base in cls.__mro__:
        for name, value in vars(base).items():
            if isinstance(value, FunctionType) and not value.__code__.co_filename.startswith("<"):
                value = unhooked(value)
                if own_function(value):
                    found[f"{base.__qualname__}.{name}"] = value
    return found


def unhooked(function: FunctionType) -> FunctionType:
    """The function itself where torch has wrapped it: the first instance of an optimizer class replaces the class's `step`."""
    inner = vars(function).get("__wrapped__")
    if vars(function).get("hooked") is True and isinstance(inner, FunctionType):
        return inner
    return function
