"""Looking twice: the gradient at a point that the rule chooses, which whoever steps the rule supplies."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steprule.arithmetic.draws import drawing
from steprule.errors import RuleError
from steprule.maths import noise
from steprule.operations import TABLE

GRADIENT = "gradient"
"""The parameter of a rule that looks twice: called with a point, it gives the gradient there."""


LOOKED = r"\tilde{g}"
"""The letter of a gradient at a point to which a rule looks."""


NOISE = "noise"
"""What a step is given for each call of `noise`."""
DRAWN = r"\xi"
"""The letter of noise."""


def names_of(count: int, what: str = GRADIENT) -> tuple[str, ...]:
    """By look the name under which a step is given its gradient; by draw that of its noise."""
    return tuple(what if k == 0 else f"{what}{k + 1}" for k in range(count))


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
    """What a rule calls as `gradient`: each call is the next look of the step. Or as `noise`: each call is the next draw."""

    def __init__(self, seen: Sequence[Any], what: str = GRADIENT) -> None:
        self.seen, self.taken, self.what = seen, 0, what

    def __call__(self, *points: Any) -> Any:
        """The gradient at a point. Raises `RuleError` for anything but a point, for one look too many, and where nobody has looked."""
        if len(points) != 1 or points[0] is None or isinstance(points[0], bool | str | tuple | list | dict | set):
            got = f"{len(points) or 'none'} of them"
            if len(points) == 1:
                got = "None" if points[0] is None else f"a {type(points[0]).__name__}"
            expected, hint = "one point, with a number for each element", f"Write {GRADIENT}(p - lr * g), say."
            if self.what == NOISE:
                expected, hint = "what it lies beside, as the parameter", f"Write {NOISE}(p)."
            raise RuleError(self.what, expected=expected, got=got, hint=hint)
        (point,) = points
        if self.taken == len(self.seen):
            expected = f"{self.taken} call{'s' if self.taken > 1 else ''} of {self.what} in a step"
            hint = f"Write {GRADIENT}: Looks({self.taken + 1}), say, in the signature."
            if self.what == NOISE:
                hint = "Branches are tried; a loop over a whole number draws as often as its default says, or less."
            raise RuleError(self.what, expected=expected, got="one more", hint=hint)
        seen = self.seen[self.taken]
        self.taken += 1
        if seen is None:
            if self.what == NOISE:
                hint = "Call the rule with noise=..., or step it: by its class, train, sweep, race or trace."
                raise RuleError(NOISE, expected="the noise of this step", got="none: nobody drew it", hint=hint)
            raise RuleError(GRADIENT, expected="the gradient at the point", got="none: nobody took it")
        return _at(seen, point)


def sighted(function: Callable[..., Any], states: int) -> Callable[..., Any]:
    """The author's function as steps call it: behind its states it takes what each look found, and hands it on."""

    @functools.wraps(function)
    def looking(p: Any, g: Any, *held: Any, **hypers: Any) -> Any:
        seen = held[states:]
        return handing_on(function(p, g, *held[:states], **{GRADIENT: Sight(seen)}, **hypers), seen)

    return looking


def drawn(function: Callable[..., Any], states: int, draws: int) -> Callable[..., Any]:
    """The author's function as steps call it: behind its states it takes the noise of each draw, and hands it on."""

    @functools.wraps(function)
    def stepped(p: Any, g: Any, *held: Any, **hypers: Any) -> Any:
        noise = held[states : states + draws]
        with drawing(Sight(noise, NOISE)):
            result = function(p, g, *held[:states], **hypers)
        return handing_on(result, noise)

    return stepped


NEAR = 1e-3
"""How far along the noise a Hessian is felt, in the parameter's own unit: a look further on sees other curvature, one that is nearer drowns
in float32's rounding."""


def estimating(
    function: Callable[..., Any], name: str, every: int, *, gives_t: bool, gives_gradient: bool
) -> Callable[..., Any]:
    """The author's function, given Hutchinson's estimate of the Hessian's diagonal as `name` each `every` steps, from the first; else None.

        hessian = z * (gradient(p + NEAR z) - gradient(p - NEAR z)) / (2 NEAR), with noise z

    Its mean over z is the diagonal, for the elements of z are independent with variance 1. g has no part in it: where weights decay beside
    the step, it was taken elsewhere than at p. Hutchinson (1990), a stochastic estimator of
    the trace of the influence matrix; Bekas, Kokiopoulou, Saad (2007) for the diagonal.
    """

    @functools.wraps(function)
    def given(p: Any, g: Any, *held: Any, **hypers: Any) -> Any:
        gradient = hypers[GRADIENT] if gives_gradient else hypers.pop(GRADIENT)
        t = hypers["t"] if gives_t else hypers.pop("t", 1)
        estimate = None
        if every == 1 or (t - 1) % every == 0:
            z = noise(p)
            estimate = z * (gradient(p + NEAR * z) - gradient(p - NEAR * z)) / (2 * NEAR)
        return function(p, g, *held, **{name: estimate}, **hypers)

    return given


def handing_on(result: Any, seen: Sequence[Any]) -> Any:
    """What a step gives, and behind it what its looks found. A list, dict or set is passed on unchanged: the contract's check names it."""
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


class Unknown:
    """A number of which nothing is known when a step begins: what is computed of it is unknown too, and an `if` on it has no answer."""

    def steprule_apply(self, name: str, *args: Any) -> Unknown:
        """A function of it; numbers of the shape are another for each tensor."""
        if TABLE[name].of_shape or name == "size":
            raise _UndecidedError
        return self

    @property
    def T(self) -> Unknown:  # noqa: N802  (as numpy and torch call it)
        """Its transpose."""
        return self

    def __bool__(self) -> bool:
        raise _UndecidedError

    def _computed(self, *_: Any) -> Unknown:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = (
        _computed
    )
    __matmul__ = __rmatmul__ = __neg__ = __pos__ = __abs__ = __and__ = __rand__ = __or__ = __ror__ = __invert__ = (
        _computed
    )
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _computed  # type: ignore[assignment]
    __hash__ = object.__hash__


UNKNOWN = Unknown()


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
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A rule's function and its slots, where `part` changes the gradients of its looks too; they are handed on unchanged."""
    through = tuple(_Through(s, part) if k in places and s is not None else s for k, s in enumerate(held))

    @functools.wraps(function)
    def calling(*args: Any, **hypers: Any) -> Any:
        result = function(*args, **hypers)
        if not isinstance(result, tuple):
            return result
        return tuple(r.raw if isinstance(r, _Through) else r for r in result)

    return calling, through
