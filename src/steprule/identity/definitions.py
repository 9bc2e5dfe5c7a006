"""Functions, classes and modules by value: what they do, and what they reach."""

from __future__ import annotations

import builtins
import enum
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from steprule.identity import whose
from steprule.identity.arrays import ArrayWalk, digest_of
from steprule.identity.code import reach, signature, steps, texts

_DYNAMIC = frozenset({"eval", "exec", "globals"})
"""Builtins by which code reaches globals that it does not name."""
_NOT_WALKED = frozenset(
    {
        "__name__",
        "__file__",
        "__doc__",
        "__spec__",
        "__loader__",
        "__builtins__",
        "__package__",
        "__cached__",
        "__path__",
    }
)
_OF_CLASSES = frozenset(
    {
        "__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__",
        "__abstractmethods__", "_abc_impl", "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__",
        "__wrapped__", "_backward_cls", "_autograd_function_id",
    }
)  # fmt: skip
"""What in a class's dict only tells of it, or is counted up with each class that is made."""


_EMPTY = object()


class CodeWalk(ArrayWalk, Protocol):
    """What is asked of the walk that meets a function, a class or a module."""

    def place(self, x: Any, where: str) -> bytes:
        """The digest of what has a name, kept in words."""

    def note(self, where: str, text: str) -> None:
        """Keep a place in words."""


def function(walk: CodeWalk, f: types.FunctionType) -> bytes:
    """A function: the user's own by its bytecode and by all that it reaches, an installed package's by its name and version."""
    code, name = f.__code__, f.__qualname__.replace("<locals>.", "")
    attributes = {n: v for n, v in vars(f).items() if n not in ("__wrapped__", "registry", "dispatch")}
    if compiled := attributes.pop("_torchdynamo_orig_callable", None):
        return digest_of(b"compiled", walk.installed("torch"), walk.visit(compiled, name))
    own = whose.own_function(f)
    if own:
        found = [b"function", bytecode(walk, code, f"code of {name}")]
        walk.note(f"code of {name}", "#" + found[1].hex()[:16])
    else:
        # Not `__module__` and `__qualname__`, which functools.wraps takes from another function.
        found = [b"installed", walk.installed(f.__globals__.get("__name__")), code.co_qualname.encode()]
        if "<locals>" in code.co_qualname:  # several functions can have this name, as lambdas do
            found.append(str(code.co_firstlineno).encode())
    if isinstance(registry := getattr(f, "registry", None), types.MappingProxyType):  # singledispatch
        return digest_of(*found, walk.visit(registry, f"registry of {name}"))
    if own or f.__closure__:
        count = code.co_argcount
        defaults = f.__defaults__ or ()
        given = dict(zip(code.co_varnames[count - len(defaults) : count], defaults, strict=True))
        found.append(walk.named({**given, **(f.__kwdefaults__ or {})}, "default ", f" of {name}"))
        cells = {
            n: c.cell_contents if filled(c) else _EMPTY
            for n, c in zip(code.co_freevars, f.__closure__ or (), strict=True)
        }
        found.append(walk.named(cells, "closure variable ", f" of {name}"))
        found.append(walk.named(attributes, f"{name}.", ""))
    if own:
        found.append(_reached(walk, f, name))
    return digest_of(*found)


def bytecode(walk: CodeWalk, code: types.CodeType, where: str) -> bytes:
    """What a code object does, instruction by instruction."""
    found = [b"code", walk.visit(signature(code), where)]
    for name, about in steps(code):
        found += [name.encode(), walk.visit(about, where)]
    return digest_of(*found)


def _reached(walk: CodeWalk, f: types.FunctionType, of: str) -> bytes:
    """The globals that a function reaches, and the modules that it imports when it runs."""
    known, found = f.__globals__, [b"globals"]
    reached = reach(f.__code__)
    if any(n in _DYNAMIC and n not in known for n in reached.names):
        reached.names |= {n: {()} for n in known if isinstance(n, str)}
    for name in sorted(reached.names):
        if name in _NOT_WALKED:
            continue
        value = known.get(name, _EMPTY)
        if value is _EMPTY:
            value = vars(builtins).get(name, _EMPTY)
        found.append(name.encode())
        if isinstance(value, types.ModuleType):
            found.append(_through(walk, value, reached.names[name]))
        else:
            found.append(walk.place(value, f"global {name} of {of}"))
    called = set(reached.names).union(*(chain for chains in reached.names.values() for chain in chains))
    if called & {"__import__", "import_module"}:
        reached.imports |= {(text, 0, ()) for text in texts(f.__code__)}
    for name, level, taken in sorted(reached.imports):
        found += [name.encode(), _imported(walk, name, level, taken, known)]
    return digest_of(*found)


def _through(walk: CodeWalk, module: types.ModuleType, chains: Iterable[tuple[str, ...]]) -> bytes:
    """A module of which code takes attributes, one after the other."""
    found = [_file(walk, module)]
    for chain in sorted(chains):
        value: Any = module
        of, taken = module, ""
        for name in chain:
            if not isinstance(value, types.ModuleType):
                break
            of, taken, value = value, name, _attribute(value, name)
        found += [_file(walk, of), taken.encode(), _taken(walk, of, value, f"{taken} of {_said(of)}")]
    return digest_of(*found)


def _taken(walk: CodeWalk, of: types.ModuleType, value: Any, place: str) -> bytes:
    if isinstance(value, types.ModuleType):
        return walk.visit(value, _said(value))
    if whose.own_module(of):
        return walk.place(value, place)
    # An installed package's version stands for what is in it, but not for what the user has put there.
    if isinstance(value, type) or (isinstance(value, types.FunctionType) and whose.own_function(value)):
        return walk.visit(value, place)
    return b"its own"


def _imported(walk: CodeWalk, name: str, level: int, taken: tuple[str, ...], known: Mapping[str, Any]) -> bytes:
    package = known.get("__package__") or str(known.get("__name__", "")).rpartition(".")[0]
    try:
        full = importlib.util.resolve_name("." * level + name, package) if level else name
        top = full.partition(".")[0]
        if top not in sys.modules:
            spec = importlib.util.find_spec(top)
            if spec is not None and spec.origin and not whose.own_file(spec.origin):
                return walk.installed(top)
        elif not whose.own_module(sys.modules[top]):
            return walk.installed(top)
        module = importlib.import_module(full)
        for n in taken:
            if not hasattr(module, n):
                importlib.import_module(f"{full}.{n}")
    except Exception as error:  # noqa: BLE001  (whatever the user's module raises, it would raise in the race too)
        return digest_of(b"not imported", type(error).__name__.encode())
    return _through(walk, module, {(n,) for n in taken} or {()})


def module(walk: CodeWalk, module: types.ModuleType) -> bytes:
    """A module as a whole: the user's own with all that stands in it."""
    if not whose.own_module(module):
        return walk.installed(module.__name__)
    names = {n: v for n, v in vars(module).items() if not (n.startswith("__") and n.endswith("__"))}
    return digest_of(_file(walk, module), walk.named(names, "", f" of {_said(module)}"))


def _file(walk: CodeWalk, module: types.ModuleType) -> bytes:
    if not whose.own_module(module):
        return walk.installed(module.__name__)
    return digest_of(b"file", whose.syntax_of(module))


def type_of(walk: CodeWalk, cls: type) -> bytes:
    """A class: the user's own by its bases and all that stands in it, an installed package's by its name and version."""
    if not whose.own_class(cls):
        if cls.__module__ == "builtins":
            return digest_of(b"builtin", cls.__qualname__.encode())
        found = [b"class", walk.installed(cls.__module__), cls.__qualname__.encode()]
        for name, function in sorted(whose.patched(cls).items()):
            found += [name.encode(), walk.visit(function, name)]
        return digest_of(*found)
    name = cls.__qualname__.replace("<locals>.", "")
    found = [b"own class", cls.__name__.encode(), walk.visit(type(cls), f"metaclass of {name}")]
    for base in cls.__bases__:
        found.append(walk.visit(base, f"base of {name}"))
    module = sys.modules.get(cls.__module__)
    if module is not None and not str(getattr(module, "__file__", ".py")).endswith((".py", ".pyc")):
        found.append(_file(walk, module))  # compiled: its methods are no bytecode
    if isinstance(cls, enum.EnumMeta):
        members: Mapping[str, enum.Enum] = cls.__members__
        for member in members.values():
            found += [member.name.encode(), walk.place(member.value, f"{member.name} of class {name}")]
        own = {
            n: v
            for n, v in vars(cls).items()
            if isinstance(v, types.FunctionType | property | staticmethod | classmethod)
        }
        return digest_of(*found, walk.named(own, "", f" of class {name}"))
    own = {n: v for n, v in vars(cls).items() if n not in _OF_CLASSES}
    found.append(walk.named(own, "", f" of class {name}"))
    found.append(walk.visit(_annotations(cls), f"annotations of class {name}"))
    return digest_of(*found)


def filled(cell: types.CellType) -> bool:
    """Whether a closure variable has a value."""
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _said(module: types.ModuleType) -> str:
    return "module " + module.__name__.removeprefix("steprule_user_")


def _attribute(module: types.ModuleType, name: str) -> Any:
    """An attribute of a module. An installed module loads nothing for it that is not there yet."""
    if not whose.own_module(module):
        return vars(module).get(name, _EMPTY)
    return getattr(module, name, _EMPTY)


def _annotations(cls: type) -> Mapping[str, Any]:
    try:
        return inspect.get_annotations(cls)
    except Exception:  # noqa: BLE001  (since Python 3.14 they are computed when asked for, and may name what is not there)
        return {}
