"""Anything by value: functions by what they do, objects as pickle takes them apart, with places in words."""

from __future__ import annotations

import builtins
import copyreg
import enum
import functools
import importlib
import importlib.util
import inspect
import io
import re
import secrets
import struct
import sys
import types
import typing
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from steprule.identity import whose
from steprule.identity.arrays import array, digest_of
from steprule.identity.code import reach, signature, steps, texts

TOLD = "__steprule_identity__"
"""A method by which a class says what of its instances decides: what it returns is walked in their place."""
UNKNOWN = "unknown "
MOST_PARTS = 200
"""Places that are kept in words."""
DEEP = 50_000
"""Python's limit of recursion during a walk, where each function that another reaches is a few levels."""
_CACHED = type(functools.lru_cache(lambda: None))
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
_TELLING = frozenset({"__doc__", "__module__", "__qualname__", "__annotations__"})
"""What functools.update_wrapper writes into an object's dict."""
_OF_CLASSES = frozenset(
    {
        "__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__",
        "__abstractmethods__", "_abc_impl", "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__",
        "__wrapped__", "_backward_cls", "_autograd_function_id",
    }
)  # fmt: skip
"""What in a class's dict only tells of it, or is counted up with each class that is made."""


@dataclass(frozen=True)
class Identity:
    """What a thing is."""

    digest: str
    """16 hexadecimal digits; or, where something cannot be identified, "unknown ...: " and what, which equals nothing else."""
    parts: Mapping[str, str]
    """The places that were reached, in words, each with its value if that is short, else with "#" and a digest."""


def identity(thing: object, name: str = "it") -> str:
    """The digest of whatever decides what `thing` computes.

    The same in another process and on another machine with the same versions. What cannot be identified (a lock, a generator,
    an open file) makes it "unknown", which never equals anything: not itself, either, when it is asked for again.

    >>> def scaled(k):
    ...     return lambda x: k * x
    >>> identity(scaled(2)) == identity(scaled(2)), identity(scaled(2)) == identity(scaled(3))
    (True, False)
    >>> unknown_in(identity(scaled(k for k in range(3))))
    'closure variable k of scaled.<lambda>: a generator'
    """
    return identify(thing, name).digest


def identify(thing: object, name: str = "it") -> Identity:
    """`identity(thing)` with the places that were reached; `name` is what the thing is called in words."""
    walk, limit = _Walk(), sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, DEEP))
    try:
        digest = walk.visit(thing, name).hex()[:16]
    except Exception as error:  # noqa: BLE001  (of the thing's own methods, or nested too deeply: it is not identified then)
        walk.unknown.append(f"{name}: what raises {type(error).__name__} when it is looked at")
    finally:
        sys.setrecursionlimit(limit)
    if walk.unknown:
        digest = unknown("; ".join(dict.fromkeys(walk.unknown)))
    return Identity(digest, walk.parts)


def unknown(what: str) -> str:
    """The identity of what cannot be identified. With a number drawn anew: no two of them are equal."""
    return f"{UNKNOWN}{secrets.token_hex(8)}: {what}"


def unknown_in(digest: object) -> str:
    """What cannot be identified, in words, where that is what `identity` said; else ""."""
    found = re.fullmatch(f"{UNKNOWN}[0-9a-f]{{16}}: (.*)", digest, re.DOTALL) if isinstance(digest, str) else None
    return found[1] if found else ""


def _number(x: float) -> bytes:
    return b"nan" if x != x else struct.pack(">d", x)


_LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda x: b"none",
    type(...): lambda x: b"ellipsis",
    type(NotImplemented): lambda x: b"not implemented",
    bool: lambda x: b"bool" + bytes([x]),
    int: lambda x: b"int" + str(x).encode() if abs(x) < 1 << 64 else b"int" + hex(x).encode(),
    float: lambda x: b"float" + _number(x),
    complex: lambda x: b"complex" + _number(x.real) + _number(x.imag),
    str: lambda x: b"str" + x.encode("utf-8", "surrogatepass"),
    bytes: lambda x: b"bytes" + x,
}


class _Walk:
    """One walk: what it has seen, and what it could not identify."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.parts: dict[str, str] = {}
        self._done: dict[int, tuple[bytes, object]] = {}
        """By id the digest, and the thing itself, so that its id stays its own."""
        self._open: dict[int, int] = {}
        """What the walk is inside of, and how deep it was there."""
        self._twins: dict[bytes, dict[int, int]] = {}
        """By digest what can change in place: whether two names mean one list or two equal ones decides too."""

    def visit(self, x: Any, where: str) -> bytes:
        """The digest of `x`, which was reached at `where`."""
        leaf = _LEAVES.get(type(x))
        if leaf is not None:
            return leaf(x)
        key = id(x)
        if key in self._done:
            return self._again(x, self._done[key][0])
        if key in self._open:
            return digest_of(b"inside", str(len(self._open) - self._open[key]).encode())
        self._open[key] = len(self._open)
        try:
            digest = self._content(x, where)
        finally:
            del self._open[key]
        self._done[key] = digest, x
        if _changes_in_place(x):
            twins = self._twins.setdefault(digest, {})
            twins[key] = len(twins)
        return digest

    def _again(self, x: Any, digest: bytes) -> bytes:
        number = self._twins.get(digest, {}).get(id(x))
        return digest if number is None else digest_of(b"again", digest, str(number).encode())

    def _place(self, x: Any, where: str) -> bytes:
        """Visit what has a name, and keep it in words."""
        digest = self.visit(x, where)
        if not isinstance(x, type | types.ModuleType | types.FunctionType | types.MethodType):
            text = repr(x) if type(x) in _LEAVES else ""
            self._note(where, text if text and len(text) <= 60 else "#" + digest.hex()[:16])
        return digest

    def _note(self, where: str, text: str) -> None:
        if len(self.parts) < MOST_PARTS:
            known = self.parts.setdefault(where, text)
            if known != text:  # two things of one name, such as lambdas
                self.parts[where] = "#" + digest_of(known.encode(), text.encode()).hex()[:16]

    def _each(self, tag: bytes, items: Iterable[Any], where: str) -> bytes:
        found = [tag]
        for k, item in enumerate(items):
            found.append(self.visit(item, f"{where}[{k}]"))
        return digest_of(*found)

    def named(self, items: Mapping[str, Any], before: str, behind: str) -> bytes:
        """What has names: a place each."""
        found = []
        for name in sorted(items):
            found += [name.encode("utf-8", "surrogatepass"), self._place(items[name], f"{before}{name}{behind}")]
        return digest_of(*found)

    def _mapping(self, items: Mapping[Any, Any], where: str) -> bytes:
        found = [b"dict"]
        for key, value in sorted(items.items(), key=lambda pair: _alone(pair[0])):
            found.append(self.visit(key, f"a key of {where}"))
            if type(key) in _LEAVES:
                found.append(self._place(value, f"{where}[{key!r}]"))
            else:
                found.append(self.visit(value, f"a value of {where}"))
        return digest_of(*found)

    def _content(self, x: Any, where: str) -> bytes:
        t = type(x)
        if t is tuple or t is list:
            return self._each(t.__name__.encode(), x, where)
        if t is dict or t is types.MappingProxyType:
            return self._mapping(x, where)
        if t is set or t is frozenset:
            return self._each(t.__name__.encode(), sorted(x, key=_alone), where)
        if isinstance(x, types.FunctionType):
            return self._function(whose.unhooked(x))
        if isinstance(x, types.CodeType):
            return self._code(x, where)
        if isinstance(x, type):
            return self._class(x)
        if isinstance(x, types.ModuleType):
            return self._module(x)
        if t is types.MethodType:
            return digest_of(b"method", self.visit(x.__func__, where), self.visit(x.__self__, f"{where}.__self__"))
        if t is functools.partial:
            return self._partial(x, where)
        if t in (staticmethod, classmethod):
            return digest_of(t.__name__.encode(), self.visit(x.__func__, where))
        if t is property:
            return self._each(b"property", (x.fget, x.fset, x.fdel), where)
        if t is functools.cached_property:
            return digest_of(b"cached", self.visit(x.func, where))
        if t is _CACHED:  # what it has in store follows from the function
            return digest_of(b"lru_cache", self.visit(x.__wrapped__, where))
        if t is types.CellType:
            return digest_of(b"cell", self.visit(x.cell_contents, where)) if _filled(x) else b"an empty cell"
        if isinstance(x, enum.Enum):
            return digest_of(b"enum", self.visit(t, where), x.name.encode(), self.visit(x.value, where))
        if isinstance(x, weakref.ref):
            return digest_of(b"weak", self.visit(x(), where))
        if t in _DESCRIPTORS:
            return digest_of(b"descriptor", x.__objclass__.__qualname__.encode(), x.__name__.encode())
        if hasattr(t, TOLD):
            return digest_of(t.__qualname__.encode(), self.visit(getattr(x, TOLD)(), where))
        if t.__module__.startswith("numba."):
            python = getattr(x, "py_func", None) or getattr(getattr(x, "_dispatcher", None), "py_func", None)
            if python is not None:
                return digest_of(b"numba", self.installed("numba"), self.visit(python, where))
        if t is typing.ForwardRef:
            return digest_of(b"forward", x.__forward_arg__.encode())
        found = array(self, x, where)
        return self._object(x, where) if found is None else found

    # Functions, classes and modules.

    def _function(self, f: types.FunctionType) -> bytes:
        code, name = f.__code__, f.__qualname__.replace("<locals>.", "")
        attributes = {n: v for n, v in vars(f).items() if n not in ("__wrapped__", "registry", "dispatch")}
        if compiled := attributes.pop("_torchdynamo_orig_callable", None):
            return digest_of(b"compiled", self.installed("torch"), self.visit(compiled, name))
        own = whose.own_function(f)
        if own:
            found = [b"function", self._code(code, f"code of {name}")]
            self._note(f"code of {name}", "#" + found[1].hex()[:16])
        else:
            # Not `__module__` and `__qualname__`, which functools.wraps takes from another function.
            found = [b"installed", self.installed(f.__globals__.get("__name__")), code.co_qualname.encode()]
            if "<locals>" in code.co_qualname:  # several functions can have this name, as lambdas do
                found.append(str(code.co_firstlineno).encode())
        if isinstance(registry := getattr(f, "registry", None), types.MappingProxyType):  # singledispatch
            return digest_of(*found, self.visit(registry, f"registry of {name}"))
        if own or f.__closure__:
            count = code.co_argcount
            defaults = f.__defaults__ or ()
            given = dict(zip(code.co_varnames[count - len(defaults) : count], defaults, strict=True))
            found.append(self.named({**given, **(f.__kwdefaults__ or {})}, "default ", f" of {name}"))
            cells = {
                n: c.cell_contents if _filled(c) else _EMPTY
                for n, c in zip(code.co_freevars, f.__closure__ or (), strict=True)
            }
            found.append(self.named(cells, "closure variable ", f" of {name}"))
            found.append(self.named(attributes, f"{name}.", ""))
        if own:
            found.append(self._reached(f, name))
        return digest_of(*found)

    def _code(self, code: types.CodeType, where: str) -> bytes:
        found = [b"code", self.visit(signature(code), where)]
        for name, about in steps(code):
            found += [name.encode(), self.visit(about, where)]
        return digest_of(*found)

    def _reached(self, f: types.FunctionType, of: str) -> bytes:
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
                found.append(self._through(value, reached.names[name]))
            else:
                found.append(self._place(value, f"global {name} of {of}"))
        called = set(reached.names).union(*(chain for chains in reached.names.values() for chain in chains))
        if called & {"__import__", "import_module"}:
            reached.imports |= {(text, 0, ()) for text in texts(f.__code__)}
        for name, level, taken in sorted(reached.imports):
            found += [name.encode(), self._imported(name, level, taken, known)]
        return digest_of(*found)

    def _through(self, module: types.ModuleType, chains: Iterable[tuple[str, ...]]) -> bytes:
        """A module of which code takes attributes, one after the other."""
        found = [self._file(module)]
        for chain in sorted(chains):
            value: Any = module
            of, taken = module, ""
            for name in chain:
                if not isinstance(value, types.ModuleType):
                    break
                of, taken, value = value, name, _attribute(value, name)
            found += [self._file(of), taken.encode(), self._taken(of, value, f"{taken} of {_said(of)}")]
        return digest_of(*found)

    def _taken(self, of: types.ModuleType, value: Any, place: str) -> bytes:
        if isinstance(value, types.ModuleType):
            return self.visit(value, _said(value))
        if whose.own_module(of):
            return self._place(value, place)
        # An installed package's version stands for what is in it, but not for what the user has put there.
        if isinstance(value, type) or (isinstance(value, types.FunctionType) and whose.own_function(value)):
            return self.visit(value, place)
        return b"its own"

    def _imported(self, name: str, level: int, taken: tuple[str, ...], known: Mapping[str, Any]) -> bytes:
        package = known.get("__package__") or str(known.get("__name__", "")).rpartition(".")[0]
        try:
            full = importlib.util.resolve_name("." * level + name, package) if level else name
            top = full.partition(".")[0]
            if top not in sys.modules:
                spec = importlib.util.find_spec(top)
                if spec is not None and spec.origin and not whose.own_file(spec.origin):
                    return self.installed(top)
            elif not whose.own_module(sys.modules[top]):
                return self.installed(top)
            module = importlib.import_module(full)
            for n in taken:
                if not hasattr(module, n):
                    importlib.import_module(f"{full}.{n}")
        except Exception as error:  # noqa: BLE001  (whatever the user's module raises, it would raise in the race too)
            return digest_of(b"not imported", type(error).__name__.encode())
        return self._through(module, {(n,) for n in taken} or {()})

    def _module(self, module: types.ModuleType) -> bytes:
        """A module as a whole: the user's own with all that stands in it."""
        if not whose.own_module(module):
            return self.installed(module.__name__)
        names = {n: v for n, v in vars(module).items() if not (n.startswith("__") and n.endswith("__"))}
        return digest_of(self._file(module), self.named(names, "", f" of {_said(module)}"))

    def _file(self, module: types.ModuleType) -> bytes:
        if not whose.own_module(module):
            return self.installed(module.__name__)
        return digest_of(b"file", whose.syntax_of(module))

    def installed(self, module: str | None) -> bytes:
        """What an installed package's version stands for."""
        release = whose.release(module)
        self._note(f"package {release.partition(' ')[0]}", release.partition(" ")[2])
        return digest_of(b"package", release.encode())

    def _class(self, cls: type) -> bytes:
        if not whose.own_class(cls):
            if cls.__module__ == "builtins":
                return digest_of(b"builtin", cls.__qualname__.encode())
            found = [b"class", self.installed(cls.__module__), cls.__qualname__.encode()]
            for name, function in sorted(whose.patched(cls).items()):
                found += [name.encode(), self.visit(function, name)]
            return digest_of(*found)
        name = cls.__qualname__.replace("<locals>.", "")
        found = [b"own class", cls.__name__.encode(), self.visit(type(cls), f"metaclass of {name}")]
        for base in cls.__bases__:
            found.append(self.visit(base, f"base of {name}"))
        module = sys.modules.get(cls.__module__)
        if module is not None and not str(getattr(module, "__file__", ".py")).endswith((".py", ".pyc")):
            found.append(self._file(module))  # compiled: its methods are no bytecode
        if isinstance(cls, enum.EnumMeta):
            members: Mapping[str, enum.Enum] = cls.__members__
            for member in members.values():
                found += [member.name.encode(), self._place(member.value, f"{member.name} of class {name}")]
            own = {
                n: v
                for n, v in vars(cls).items()
                if isinstance(v, types.FunctionType | property | staticmethod | classmethod)
            }
            return digest_of(*found, self.named(own, "", f" of class {name}"))
        own = {n: v for n, v in vars(cls).items() if n not in _OF_CLASSES}
        found.append(self.named(own, "", f" of class {name}"))
        found.append(self.visit(_annotations(cls), f"annotations of class {name}"))
        return digest_of(*found)

    # Objects.

    def _partial(self, x: functools.partial[Any], where: str) -> bytes:
        name = getattr(x.func, "__qualname__", type(x.func).__name__).replace("<locals>.", "")
        found = [b"partial", self.visit(x.func, where)]
        for k, value in enumerate(x.args):
            found.append(self._place(value, f"argument {k + 1} of {name}"))
        return digest_of(*found, self.named(x.keywords, "argument ", f" of {name}"), self.visit(vars(x), where))

    def _object(self, x: Any, where: str) -> bytes:
        """As pickle takes it apart: what makes it again, from what, and its state."""
        t = type(x)
        try:
            reducer = copyreg.dispatch_table.get(t)
            taken = reducer(x) if reducer else x.__reduce_ex__(4)
        except Exception:  # noqa: BLE001  (a class may refuse by whatever it likes)
            return self.not_known(x, where)
        if isinstance(taken, str):
            module = getattr(x, "__module__", None) or t.__module__
            of = b"its own" if whose.own_module_named(module) else self.installed(module)
            return digest_of(b"named", of, taken.encode())
        if not isinstance(taken, tuple) or not 2 <= len(taken) <= 6:
            return self.not_known(x, where)
        whole: list[Any] = [*taken, None, None, None, None]
        make, arguments, state, items, pairs = whole[:5]
        found = [b"object", self.visit(t, where), self.visit(make, where), self.visit(arguments, where)]
        if isinstance(state, dict) and all(isinstance(n, str) for n in state):
            state = {n: v for n, v in state.items() if n not in _TELLING}
            found.append(self.named(state, f"{where}.", ""))
        else:
            found.append(self.visit(state, where))
        found.append(self._each(b"items", items or (), where))
        ordered = list(pairs or ())
        found.append(
            self._each(b"pairs", ordered, where) if isinstance(x, OrderedDict) else self._mapping(dict(ordered), where)
        )
        return digest_of(*found)

    def not_known(self, x: Any, where: str) -> bytes:
        """What cannot be identified."""
        kind = "open file" if isinstance(x, io.IOBase) else type(x).__name__
        article = "an" if kind[0].lower() in "aeiou" else "a"
        self.unknown.append(f"{where}: {article} {kind}")
        return b"unknown"


_EMPTY = object()
_DESCRIPTORS = (
    types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)  # fmt: skip


def _alone(x: Any) -> bytes:
    """The digest by which members of a set and keys are put in an order: one that knows nothing of the others."""
    leaf = _LEAVES.get(type(x))
    return leaf(x) if leaf else _Walk().visit(x, "")


def _filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _said(module: types.ModuleType) -> str:
    return "module " + module.__name__.removeprefix("steprule_user_")


def _attribute(module: types.ModuleType, name: str) -> Any:
    """An attribute of a module. Of an installed one nothing is loaded that is not there yet."""
    if not whose.own_module(module):
        return vars(module).get(name, _EMPTY)
    return getattr(module, name, _EMPTY)


def _annotations(cls: type) -> Mapping[str, Any]:
    try:
        return inspect.get_annotations(cls)
    except Exception:  # noqa: BLE001  (since Python 3.14 they are computed when asked for, and may name what is not there)
        return {}


def _changes_in_place(x: Any) -> bool:
    t = type(x)
    if t in (list, dict, set, bytearray):
        return True
    if isinstance(x, type | types.FunctionType | types.ModuleType | enum.Enum | tuple | frozenset):
        return False
    return t.__name__ in ("ndarray", "Tensor", "Parameter") or whose.own_class(t)
