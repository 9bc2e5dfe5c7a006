"""Anything by value: functions by what they do, objects as pickle takes them apart, with places in words."""

from __future__ import annotations

import copyreg
import enum
import functools
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

from steprule.identity import definitions, whose
from steprule.identity.arrays import array, digest_of
from steprule.identity.definitions import filled

TOLD = "__steprule_identity__"
"""A method by which a class says what of its instances decides: what it returns is walked in their place."""
UNKNOWN = "unknown "
MOST_PARTS = 200
"""Places that are kept in words."""
DEEP = 50_000
"""Python's limit of recursion during a walk, where each function that another reaches is a few levels."""
_CACHED = type(functools.lru_cache(lambda: None))
_TELLING = frozenset({"__doc__", "__module__", "__qualname__", "__annotations__"})
"""What functools.update_wrapper writes into an object's dict."""


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
    walk, limit = Walk(), sys.getrecursionlimit()
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


class Walk:
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

    def place(self, x: Any, where: str) -> bytes:
        """Visit what has a name, and keep it in words."""
        digest = self.visit(x, where)
        if not isinstance(x, type | types.ModuleType | types.FunctionType | types.MethodType):
            text = repr(x) if type(x) in _LEAVES else ""
            self.note(where, text if text and len(text) <= 60 else "#" + digest.hex()[:16])
        return digest

    def note(self, where: str, text: str) -> None:
        """Keep a place in words."""
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
            found += [name.encode("utf-8", "surrogatepass"), self.place(items[name], f"{before}{name}{behind}")]
        return digest_of(*found)

    def _mapping(self, items: Mapping[Any, Any], where: str) -> bytes:
        found = [b"dict"]
        for key, value in sorted(items.items(), key=lambda pair: _alone(pair[0])):
            found.append(self.visit(key, f"a key of {where}"))
            if type(key) in _LEAVES:
                found.append(self.place(value, f"{where}[{key!r}]"))
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
            return definitions.function(self, whose.unhooked(x))
        if isinstance(x, types.CodeType):
            return definitions.bytecode(self, x, where)
        if isinstance(x, type):
            return definitions.type_of(self, x)
        if isinstance(x, types.ModuleType):
            return definitions.module(self, x)
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
            return digest_of(b"cell", self.visit(x.cell_contents, where)) if filled(x) else b"an empty cell"
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

    def installed(self, module: str | None) -> bytes:
        """What an installed package's version stands for."""
        release = whose.release(module)
        self.note(f"package {release.partition(' ')[0]}", release.partition(" ")[2])
        return digest_of(b"package", release.encode())

    # Objects.

    def _partial(self, x: functools.partial[Any], where: str) -> bytes:
        name = getattr(x.func, "__qualname__", type(x.func).__name__).replace("<locals>.", "")
        found = [b"partial", self.visit(x.func, where)]
        for k, value in enumerate(x.args):
            found.append(self.place(value, f"argument {k + 1} of {name}"))
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


_DESCRIPTORS = (
    types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)  # fmt: skip


def _alone(x: Any) -> bytes:
    """The digest by which members of a set and keys are put in an order: one that knows nothing of the others."""
    leaf = _LEAVES.get(type(x))
    return leaf(x) if leaf else Walk().visit(x, "")


def _changes_in_place(x: Any) -> bool:
    t = type(x)
    if t in (list, dict, set, bytearray):
        return True
    if isinstance(x, type | types.FunctionType | types.ModuleType | enum.Enum | tuple | frozenset):
        return False
    return t.__name__ in ("ndarray", "Tensor", "Parameter") or whose.own_class(t)
