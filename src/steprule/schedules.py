"""A schedule multiplies the learning rate from step to step.

A schedule is written alike in Python and on a command line: "cosine", "step(every=0.25,by=0.5)", "warmup(0.1)+cosine", "file.py:name".
Python can also build one: `warmup(0.1) + cosine(final=0.1)`, or any function `(t, total) -> factor`.

t counts steps from 1 to total; the factor of step t multiplies the learning rate of that step. A length is either a share of the run,
written with a point, above 0 and up to 1.0, or a number of steps, a whole number from 1 on. A share becomes the nearest whole number of
steps, at least 1.

>>> get("warmup(2)+linear").factors(6)
[0.3333333333333333, 0.6666666666666666, 1.0, 0.75, 0.5, 0.25]
>>> (warmup(0.1) + cosine(final=0.1)).name
'warmup(0.1)+cosine(final=0.1)'
"""

from __future__ import annotations

import inspect
import math
import numbers
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from steprule.counts import whole
from steprule.errors import InputError, InputTypeError, unknown_name
from steprule.foreign import refusal
from steprule.rules.load import load_object

Factor = Callable[[int, int], float]
"""A schedule of one's own: (t, total) -> factor, for step t of 1 to total."""
Formula = Callable[[int, int, int], float]
"""(t, total, before) -> factor: step t of total, after `before` steps of warm-up, which neither t nor total counts."""
Length = int | float
"""A number of steps, or a share of the run."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The factors of the learning rate. Two schedules are equal where their names and their own functions are."""

    name: str
    """The spelling in results and in the statement of a race: numbers that are not at their defaults, in the signature's order."""
    formula: Formula = field(repr=False)
    own: Factor | None = field(default=None, repr=False)
    """The user's function, where the schedule is one's own."""

    def __call__(self, t: int, total: int) -> float:
        """The factor of step t, 1 to total.

        Raises `InputError` where the user's own function raises, or gives a factor that is not finite or below 0.
        """
        total = whole("total", total, 1)
        return self._factor(whole("t", t, 1, total), total)

    def factors(self, total: int) -> list[float]:
        """The factors of all steps of a run. Raises as a call does."""
        return [self._factor(t, total) for t in range(1, total + 1)]

    def _factor(self, t: int, total: int) -> float:
        if self.own is None:
            return self.formula(t, total, 0)
        where = f"schedule {self.name}, step {t} of {total}"
        try:
            given = self.formula(t, total, 0)
            found = given.item() if hasattr(given, "item") else given  # numpy's and torch's numbers
        except Exception as error:
            raise refusal(where, error) from error
        expected = "a factor that is finite and 0 or more"
        if isinstance(found, bool) or not isinstance(found, numbers.Real):
            raise InputTypeError(where, expected=expected, got=repr(given)[:60])
        factor = float(found)
        if not (math.isfinite(factor) and factor >= 0):
            raise InputError(where, expected=expected, got=repr(found))
        return factor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self.name == other.name and self.own is other.own

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class WarmUp:
    """A warm-up, to which a schedule is added: `warmup(0.1) + cosine()`. Alone it means `warmup(0.1) + constant()`."""

    length: Length
    start: float | None = None

    def __add__(self, behind: Schedule | WarmUp | str | Factor) -> Schedule:
        if isinstance(behind, WarmUp):
            raise InputError("schedule", expected="one warm-up", got=f"{self} and {behind}")
        last = get(behind)
        if last.name.startswith("warmup("):
            raise InputError("schedule", expected="one warm-up", got=f"{self}+{last}")
        if not self.length:
            return last
        length, start = self.length, self.start

        def formula(t: int, total: int, before: int) -> float:
            steps = _steps(length, total)
            if t > steps:
                return last.formula(t - steps, total - steps, steps)
            return t / (steps + 1) if start is None else start + (1 - start) * (t - 1) / steps

        return Schedule(f"{self}+{last}", formula, last.own)

    def __str__(self) -> str:
        start = "" if self.start is None else f",start={self.start!r}"
        return f"warmup({self.length!r}{start})"


Given = Schedule | WarmUp | str | Factor
"""Any way to say a schedule."""


def constant() -> Schedule:
    """1 in every step."""
    return Schedule("constant", lambda t, total, before: 1.0)


def linear(final: float = 0.0) -> Schedule:
    """f + (1 - f) (total - t + 1) / total: a line from 1 in the first step to f, `final`, one step after the last.

    `final`: 0 to 1. As torch's `LinearLR(start_factor=1, end_factor=f, total_iters=total)`.
    """
    f = _share("linear: final", final)

    def formula(t: int, total: int, before: int) -> float:
        return f + (1 - f) * ((total - t + 1) / total)

    return Schedule(_spelled("linear", final=(f, 0.0)), formula)


def cosine(final: float = 0.0) -> Schedule:
    """f + (1 - f) (1 + cos(pi (t - 1) / total)) / 2: from 1 in the first step to f, `final`, one step after the last.

    `final`: 0 to 1. As torch's `CosineAnnealingLR(T_max=total, eta_min=f * lr)`; Loshchilov and Hutter, SGDR (2017), without
    restarts.
    """
    f = _share("cosine: final", final)

    def formula(t: int, total: int, before: int) -> float:
        return f + (1 - f) * (1 + math.cos(math.pi * (t - 1) / total)) / 2

    return Schedule(_spelled("cosine", final=(f, 0.0)), formula)


def one_cycle(peak: float = 0.3, start: float = 0.04, final: float = 4e-6) -> Schedule:
    """Half a cosine from `start` at t = 1 up to 1 at t = peak total, and half a cosine down to `final` at t = total.

    All are 0 to 1. Where peak total is 1 or less, the run begins at the top or after it. As torch's
    `OneCycleLR(max_lr=lr, pct_start=peak)` with start = 1 / div_factor and final = start / final_div_factor, but without cycling the
    momentum. Smith and Topin, Super-Convergence (2018).
    """
    at = _share("one_cycle: peak", peak)
    a, z = _share("one_cycle: start", start), _share("one_cycle: final", final)

    def formula(t: int, total: int, before: int) -> float:
        top = at * total
        if t <= top:
            return _between(a, 1.0, (t - 1) / (top - 1) if top > 1 else 1.0)
        return _between(1.0, z, (t - top) / (total - top))

    return Schedule(_spelled("one_cycle", peak=(at, 0.3), start=(a, 0.04), final=(z, 4e-6)), formula)


def step(every: Length = 0.3, by: float = 0.1) -> Schedule:
    """by ** floor((t - 1) / every): the factor is multiplied by `by`, 0 to 1, after each period of `every`.

    `every`: a share of the run, or a number of steps. As torch's `StepLR(step_size=every, gamma=by)`. The defaults are those of
    He et al., Deep Residual Learning (2016): a tenth at 30, 60 and 90 of 100 epochs.
    """
    period, drop = _length("step: every", every, 1), _share("step: by", by)

    def formula(t: int, total: int, before: int) -> float:
        return drop ** ((t - 1) // _steps(period, total))

    return Schedule(_spelled("step", every=(period, 0.3), by=(drop, 0.1)), formula)


def inverse_root(scale: Length | None = None) -> Schedule:
    """sqrt(s / (s + t - 1)): falls with the root of the step, without an end. s is `scale`, a share of the run or a number of steps.

    If not given, s is the length of the warm-up before it, or 1 without a warm-up. So "warmup(400)+inverse_root" falls as the schedule of
    Vaswani et al., Attention Is All You Need (2017), and as Transformers' `get_inverse_sqrt_schedule`.
    """
    s = None if scale is None else _length("inverse_root: scale", scale, 1)

    def formula(t: int, total: int, before: int) -> float:
        steps = (before or 1) if s is None else _steps(s, total)
        return math.sqrt(steps / (steps + t - 1))

    return Schedule(_spelled("inverse_root", scale=(s, None)), formula)


def warmup(length: Length, start: float | None = None) -> WarmUp:
    """t / (w + 1) for the w steps of `length`, a share of the run or a number of steps; the schedule that is added takes the rest.

    "warmup(0.1)+cosine": the cosine begins with step w + 1 and spans the other total - w steps, as in torch's
    `SequentialLR([LinearLR(...), ...], milestones=[w])`. A length of 0 means no warm-up. Where w is the whole run or more, the run ends
    within the warm-up.

    `start`, 0 to 1, is the factor of the first step; from it a line leads to 1 in step w + 1: start + (1 - start) (t - 1) / w, as torch's
    `LinearLR(start_factor=start, total_iters=w)`. Transformers' warm-ups have start=0, which wastes the first step.
    """
    begin = None if start is None else _share("warmup: start", start)
    return WarmUp(_length("warmup: length", length, 0), begin)


def own(function: Factor, name: str = "") -> Schedule:
    """A function `(t, total) -> factor` of one's own, under a name for results; its own name if not given.

    The factor must be finite and 0 or more. After a warm-up t begins again at 1, and total is the rest of the run.
    """
    if not callable(function) or isinstance(function, type):
        raise InputTypeError("schedule", expected="a function (t, total) -> factor", got=repr(function)[:60])
    found = name or getattr(function, "__name__", type(function).__name__)
    taken = found in CATALOGUE or found.partition("(")[0] in (*CATALOGUE, "warmup")
    return Schedule(f"own:{found}" if taken else found, lambda t, total, before: function(t, total), function)


CATALOGUE = MappingProxyType({f.__name__: f for f in (constant, linear, cosine, one_cycle, step, inverse_root)})
_MADE_OF: dict[str, Callable[..., Any]] = {**CATALOGUE, "warmup": warmup}


def names() -> tuple[str, ...]:
    """The names of the catalogue, simplest first."""
    return tuple(CATALOGUE)


def get(given: Given | object) -> Schedule:
    """The schedule from any way to say one.

    Raises `StepruleError` for an unknown name, a number out of its range, and anything that is not a schedule.
    """
    if isinstance(given, str):
        return _read(given)
    if isinstance(given, Schedule):
        return given
    if isinstance(given, WarmUp):
        return given + constant()
    if given in CATALOGUE.values():  # cosine in place of cosine()
        return get(given())  # type: ignore[operator]
    if callable(given) and not isinstance(given, type) and given is not warmup:
        return own(given)
    expected = f"a name ({', '.join(CATALOGUE)}), a Schedule or a function (t, total) -> factor"
    raise InputTypeError("schedule", expected=expected, got=repr(given)[:60])


def one_or_more(given: Given | Iterable[Given]) -> tuple[Schedule, ...]:
    """One schedule, or each of several."""
    if isinstance(given, str | Schedule | WarmUp) or callable(given) or not isinstance(given, Iterable):
        return (get(given),)
    return tuple(get(one) for one in given)


_WARMUP = re.compile(r"\s*warm[-_]?up\s*\(([^()]*)\)\s*(?:\+(.*))?", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+|(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?)")


def _read(text: str) -> Schedule:
    """`name`, `name(numbers)` or `file.py:name`, with `warmup(numbers)+` before it or not."""
    if match := _WARMUP.fullmatch(text):
        first: WarmUp = _called("warmup", match[1], text)
        return first + ("constant" if match[2] is None else match[2])
    head, bracket, rest = text.strip().partition("(")
    name = head.strip().lower().replace("-", "_")
    if name in CATALOGUE:
        if bracket and not rest.endswith(")"):
            raise _unread(text, "its numbers in brackets at its end")
        return _called(name, rest[:-1], text)  # type: ignore[no-any-return]
    if ":" in text:
        return _loaded(text.strip())
    if name == "warmup":
        raise _unread(text, "warmup(length), and + before what follows it")
    hint = f"Write {text}:name." if text.strip().endswith(".py") else ""
    raise unknown_name("schedule", text, [*CATALOGUE, "file.py:name", "warmup(0.1)+cosine"], hint=hint)


def _loaded(text: str) -> Schedule:
    found = load_object(text, kind="schedule")
    if isinstance(found, Schedule | WarmUp):
        return get(found)
    where, _, name = text.rpartition(":")
    return own(found, f"{Path(where).name}:{name}" if where.endswith(".py") else text)


def _called(name: str, inside: str, text: str) -> Any:
    """The result of the function of this name, called with the numbers in its brackets."""
    function = _MADE_OF[name]
    known = list(inspect.signature(function).parameters)
    found: dict[str, float] = {}
    places = list(known)
    parts = inside.split(",") if inside.strip() else []
    for part in parts:
        left, sign, value = part.rpartition("=")
        key, number = left.strip(), value.strip()
        if sign:
            places = []  # as in Python, a number without a name cannot follow one with a name
        elif places:
            key = places.pop(0)
        if not _NUMBER.fullmatch(number) or not key:
            numbers_ = ", ".join(f"{n}=number" for n in known)
            raise _unread(text, f"{name}({numbers_})" if known else f"{name}, which takes no numbers")
        if key not in known:
            raise unknown_name("parameter", key, known, where=f" of schedule {name}")
        if key in found:
            raise _unread(text, f"{key} once")
        found[key] = int(number) if number.lstrip("+-").isdigit() else float(number)
    if name == "warmup" and "length" not in found:
        raise _unread(text, "warmup(length)")
    return function(**found)


def _unread(text: str, expected: str) -> InputError:
    hint = "A warm-up stands first: warmup(0.1)+cosine." if re.search(r"\+\s*warm", text) else ""
    return InputError("schedule", expected=expected, got=repr(text), hint=hint)


def _spelled(name: str, **numbers: tuple[Any, Any]) -> str:
    """The spelling with the numbers that are not at their defaults; `numbers` gives (value, default) of each."""
    told = []
    for key, (value, default) in numbers.items():
        if value != default or type(value) is not type(default):  # 1 step is not the share 1.0
            told.append(f"{key}={value!r}")
    return f"{name}({','.join(told)})" if told else name


def _between(a: float, b: float, share: float) -> float:
    """Half a cosine from a at 0 to b at 1."""
    return b + (a - b) / 2 * (1 + math.cos(math.pi * share))


def _steps(length: Length, total: int) -> int:
    """A length as steps of a run."""
    return length if isinstance(length, int) else max(1, round(length * total))


def _share(what: str, value: object) -> float:
    what = f"schedule {what}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputTypeError(what, expected="a number, 0 to 1", got=repr(value))
    share = float(value)
    if not 0 <= share <= 1:
        raise InputError(what, expected="a number, 0 to 1", got=repr(value))
    return share


def _length(what: str, value: object, least: int) -> Length:
    """A number of steps from `least` on, or a share of the run. Raises `InputError` for any other number."""
    what = f"schedule {what}"
    expected = "a share of the run above 0 up to 1.0, or a whole number of steps"
    if not least:
        expected += ", or 0"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputTypeError(what, expected=expected, got=repr(value))
    if isinstance(value, numbers.Integral):
        if value < least:
            raise InputError(what, expected=expected, got=repr(value))
        return int(value)
    share = float(value)
    if share == 0 and not least:
        return 0
    if not 0 < share <= 1:
        hint = f"Write {share:.0f}." if share.is_integer() and share > 1 else ""
        raise InputError(what, expected=expected, got=repr(value), hint=hint)
    return share
