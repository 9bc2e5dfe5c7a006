"""Looking twice: the gradient at a point that the rule chooses, which whoever steps the rule supplies."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steprule.errors import RuleError
from steprule.operations import TABLE

GRADIENT = "gradient"
"""The parameter of a rule that looks twice: called with a point, it gives the gradient there."""


LOOKED = r"\tilde{g}"
"""The letter of a gradient at a point to which a rule looks."""


def names_of(count: int) -> tuple[str, ...]:
    """By look the name under which a step is given its gradient."""
    return tuple(GRADIENT if k == 0 else f"{GRADIENT}{k + 1}" for k in range(count))


@dataclass(frozen=True)
class _Stop:
    """Stands in the place of the gradient that is asked for: the point is all that is wanted."""


STOP = _Stop()


class _ReachedError(BaseException):
    """The rule has named the point at which it looks. No author's `except` may keep it."""

    def __init__(self, point: Any) -> None:
        super().__init__()
        self.point = point


class Looked(ABC):
    """Stands for a gradient that is known when the point is."""

    @abstractmethod
    def at(self, point: Any) -> Any:
        """The gradient at a point."""


@dataclass(frozen=True)
class _Through(Looked):
    """A gradient that a part before the rule changes, as it changes the first one."""

    raw: Any
    part: Callable[[Any, Any], Any]
    """Of the point and the gradient there."""

    def at(self, point: Any) -> Any:
        """The changed gradient at a point."""
        return self.part(point, _at(self.raw, point))


def _at(seen: Any, point: Any) -> Any:
    """The gradient at a point, from what stands in its place."""
    if seen is STOP:
        raise _ReachedError(point)
    return seen.at(point) if isinstance(seen, Looked) else seen


class Sight:
    """What a rule calls as `gradient`: each call is the next look of the step."""

    def __init__(self, seen: Sequence[Any]) -> None:
        self.seen, self.taken = seen, 0

    def __call__(self, *points: Any) -> Any:
        """The gradient at a point. Raises `RuleError` for what is no point, for one look too many, and where nobody has looked."""
        if len(points) != 1 or points[0] is None or isinstance(points[0], bool | str | tuple | list | dict | set):
            got = (
                f"{len(points) or 'none'} of them"
                if len(points) != 1
                else "None"
                if points[0] is None
                else f"a {type(points[0]).__name__}"
            )
            hint = f"Write {GRADIENT}(p - lr * g), say."
            raise RuleError(GRADIENT, expected="one point, with a number for each element", got=got, hint=hint)
        (point,) = points
        if self.taken == len(self.seen):
            more = f"{GRADIENT}: Looks({self.taken + 1})"
            expected = f"{self.taken} call{'s' if self.taken > 1 else ''} of {GRADIENT} in a step"
            raise RuleError(GRADIENT, expected=expected, got="one more", hint=f"Write {more}, say, in the signature.")
        seen = self.seen[self.taken]
        self.taken += 1
        if seen is None:
            raise RuleError(GRADIENT, expected="the gradient at the point", got="none: nobody took it")
        return _at(seen, point)


def sighted(function: Callable[..., Any], states: int) -> Callable[..., Any]:
    """The author's function as steps call it: behind its states it takes what each look found, and hands it on."""

    @functools.wraps(function)
    def looking(p: Any, g: Any, *held: Any, **hypers: Any) -> Any:
        seen = held[states:]
        return handing_on(function(p, g, *held[:states], **{GRADIENT: Sight(seen)}, **hypers), seen)

    return looking


def handing_on(result: Any, seen: Sequence[Any]) -> Any:
    """What a step gives, and behind it what its looks found. What is no tuple of results goes through: the contract's check names it."""
    if result is None or isinstance(result, list | dict | set):
        return result
    return (*(result if isinstance(result, tuple) else (result,)), *seen)


def looked_for(function: Callable[..., Any], place: int) -> Callable[..., Any]:
    """The function that gives the point of one look: as p, with its slots handed on. `place`: of that look among the slots.

    A step that does not come to that look gives p itself.
    """

    def look(p: Any, g: Any, *held: Any, **hypers: Any) -> tuple[Any, ...]:
        try:
            function(p, g, *held[:place], STOP, *held[place + 1 :], **hypers)
        except _ReachedError as reached:
            return (reached.point, *held)
        return (p, *held)

    return look


class _Unknown:
    """A number of which nothing is known when a step begins: what is computed of it is unknown too, and an `if` on it has no answer."""

    def steprule_apply(self, name: str, *args: Any) -> _Unknown:
        """A function of it; numbers of the shape are another for each tensor."""
        if TABLE[name].of_shape or name == "size":
            raise _UndecidedError
        return self

    @property
    def T(self) -> _Unknown:  # noqa: N802  (as numpy and torch call it)
        """Its transpose."""
        return self

    def __bool__(self) -> bool:
        raise _UndecidedError

    def _computed(self, *_: Any) -> _Unknown:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = (
        _computed
    )
    __matmul__ = __rmatmul__ = __neg__ = __pos__ = __abs__ = __and__ = __rand__ = __or__ = __ror__ = __invert__ = (
        _computed
    )
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _computed  # type: ignore[assignment]
    __hash__ = object.__hash__


UNKNOWN = _Unknown()


class _UndecidedError(BaseException):
    """A rule asked for what is not known before its step. No author's `except` may keep it."""


def comes_to(function: Callable[..., Any], place: int, held: Sequence[Any], hypers: Mapping[str, Any]) -> bool:
    """Whether a step with these hyperparameters, and `t`, comes to a look; `place` is that of the look among the slots.

    What is known before the step decides it: those numbers, and which slots are None in `held`; the others are unknown there. Where
    that does not decide, as where the rule asks for a shape, it does.
    """
    try:
        function(UNKNOWN, UNKNOWN, *held[:place], STOP, *held[place + 1 :], **hypers)
    except (_ReachedError, _UndecidedError):
        return True
    except Exception:  # noqa: BLE001  (what is wrong with it is said where it is stepped)
        return True
    return False


def seen_through(
    function: Callable[..., Any], held: Sequence[Any], places: Sequence[int], part: Callable[[Any, Any], Any]
) -> tuple[Callable[..., Any], list[Any]]:
    """A rule's function and its slots, where `part` changes the gradients of its looks too; they are handed on unchanged."""
    if not places:
        return function, list(held)
    through = [_Through(s, part) if k in places and s is not None else s for k, s in enumerate(held)]

    @functools.wraps(function)
    def calling(*args: Any, **hypers: Any) -> Any:
        result = function(*args, **hypers)
        if not isinstance(result, tuple):
            return result
        return tuple(r.raw if isinstance(r, _Through) else r for r in result)

    return calling, through
