"""How often a step draws noise: found by trying the author's function along each of its branches."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from steprule.arithmetic import Real
from steprule.arithmetic.draws import drawing
from steprule.identity.whose import own_module_named
from steprule.maths import noise
from steprule.rules.looks import GRADIENT, Unknown

MOST_DRAWS = 64
"""In a step; more are a loop that never ends, or one that should be another rule."""
MOST_TRIES = 4096
"""Of one rule: branches beyond those are left untried."""
STEPS = (
    *range(1, 33),
    *(k + more for k in (50, 64, 100, 128, 200, 256, 500, 512, 1000, 1024, 10_000) for more in (0, 1)),
)
"""The steps that are tried: an `if` on the step number may be passed by one of them only."""
ABSENT_TOGETHER = 4
"""Up to so many slots that are absent at first are tried in each combination; more are all absent, or all there."""


def draws_of(
    function: Callable[..., Any],
    absent: Sequence[bool],
    settings: Iterable[Mapping[str, Any]],
    unknown: Iterable[str],
    *,
    takes_t: bool,
) -> int:
    """How often a step draws at most, found by trying it with these settings; 0 where nothing that it reaches is `noise`.

    `absent`: by slot, whether it is None at first. `unknown`: what else it is called with. An `if` on these, on p, g or a slot goes both
    ways. A try ends behind `MOST_DRAWS`.
    """
    if not (_reaches(function) or _reaches(inspect.unwrap(function))):
        return 0
    most, left, names = 0, MOST_TRIES, tuple(unknown)
    for t, held, hypers in itertools.product(STEPS if takes_t else (1,), _held(absent), tuple(settings)):
        for path in _paths():
            if (left := left - 1) < 0:
                return most
            number = _Forking(path)
            given = {**hypers, **dict.fromkeys(names, number), **({"t": Real(float(t))} if takes_t else {})}
            if GRADIENT in given:
                given[GRADIENT] = lambda point, number=number: number
            most = max(most, _drawn_in(function, number, [None if h else number for h in held], given))
            if most > MOST_DRAWS:
                return most
    return most


def _drawn_in(function: Callable[..., Any], unknown: Any, held: Sequence[Any], hypers: Mapping[str, Any]) -> int:
    """How often one try draws, up to one more than `MOST_DRAWS`; of a function that fails, at least once."""
    taken = 0

    def supply(_: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken > MOST_DRAWS:
            raise _EnoughError
        return unknown

    with drawing(supply), suppress(_EnoughError):
        try:
            function(unknown, unknown, *held, **hypers)
        except Exception:  # noqa: BLE001  (what is wrong with it is said where it is traced)
            return max(taken, 1)
    return taken


class _EnoughError(BaseException):
    """A try is given up. No author's `except` may keep it."""


def _held(absent: Sequence[bool]) -> Iterator[tuple[bool, ...]]:
    """Which slots are None."""
    if sum(absent) <= ABSENT_TOGETHER:
        yield from itertools.product(*((True, False) if a else (False,) for a in absent))
    else:
        yield from (tuple(absent), (False,) * len(absent))


def _paths() -> Iterator[list[bool]]:
    """Every way through a function's branches: a path is what its tests answer, and grows while it is gone."""
    path: list[bool] | None = []
    while path is not None:
        yield path
        while path and not path[-1]:
            path.pop()
        path = [*path[:-1], False] if path else None


class _Forking(Unknown):
    """A number of which nothing is known, and a test of it is answered by a path."""

    def __init__(self, path: list[bool]) -> None:
        self.path, self.gone = path, 0

    def steprule_apply(self, name: str, *args: Any) -> Any:
        return self

    def __bool__(self) -> bool:
        if self.gone == len(self.path):
            if len(self.path) == MOST_DRAWS:
                raise _EnoughError
            self.path.append(True)
        self.gone += 1
        return self.path[self.gone - 1]

    def _computed(self, *_: Any) -> Any:
        return self

    __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = _computed


def _reaches(function: Any) -> bool:
    """Whether a function comes to `noise` of `steprule.maths`: by a name, a helper, an object's method, a partial, out of a list or dict.

    Only what the author wrote is looked into, and the rules of this package: no installed one calls our noise.
    """
    todo: list[tuple[Any, frozenset[str]]] = [(function, frozenset())]
    seen: set[Any] = set()
    while todo:
        found, names = todo.pop()
        key = (id(found), names if inspect.ismodule(found) else None)
        if found is noise:
            return True
        if key not in seen:
            seen.add(key)
            if inspect.isfunction(found) and _is_own(found.__globals__.get("__name__")):
                names = _names_in(found)
            todo += [(part, names) for part in _parts(found, names)]
    return False


def _parts(found: Any, names: frozenset[str]) -> Iterable[Any]:
    """What a thing leads to. `names`: what is asked of a module, or used by a function."""
    if inspect.ismodule(found):
        return [vars(found)[n] for n in names if n in vars(found)]
    if inspect.isfunction(found):
        return _named_in(found, names) if names else ()
    if isinstance(found, functools.partial):
        return (found.func, *found.args, *found.keywords.values())
    if isinstance(found, list | tuple | set | frozenset):
        return found
    if isinstance(found, dict):
        return found.values()
    if isinstance(found, staticmethod | classmethod):
        return (found.__func__,)
    if inspect.ismethod(found):
        return (found.__func__, found.__self__)
    return _attributes(found)


def _is_own(module: object) -> bool:
    return own_module_named(module) or f"{module}.".startswith("steprule.rules.")


def _names_in(function: Any) -> frozenset[str]:
    """The names that a function uses; what is defined within it belongs to it."""
    codes, names = [function.__code__], set[str]()
    while codes:
        one = codes.pop()
        names |= {*one.co_names, *one.co_freevars}
        codes += [c for c in one.co_consts if inspect.iscode(c)]
    return frozenset(names)


def _named_in(function: Any, names: frozenset[str]) -> list[Any]:
    """What these name where a function stands, with its defaults."""
    known = {**function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # a cell that is empty still
            known[name] = cell.cell_contents
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return [*(known[n] for n in names if n in known), *defaults]


def _attributes(found: Any) -> list[Any]:
    """What an object of the author's has, and its class."""
    kind = found if isinstance(found, type) else type(found)
    of_classes = [value for one in kind.__mro__ if _is_own(one.__module__) for value in vars(one).values()]
    held = vars(found) if of_classes and found is not kind and hasattr(found, "__dict__") else {}
    return [*of_classes, *(held.values() if isinstance(held, dict) else ())]
