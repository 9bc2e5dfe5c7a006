"""Each hyperparameter and each slot as a record, and every annotation that a signature may say of them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated as Annotated, Any

from annotated_types import BaseMetadata, Ge, Gt, Le, Lt

from steprule.annotations import (
    AbsentAtFirst as AbsentAtFirst,
    Dampening as Dampening,
    Decay as Decay,
    Each as Each,
    Epsilon as Epsilon,
    FirstMoment as FirstMoment,
    Flag as Flag,
    FullPrecision as FullPrecision,
    Given as Given,
    GivenTensor as GivenTensor,
    Letter as Letter,
    Looks as Looks,
    Meaning as Meaning,
    Momentum as Momentum,
    MomentumBuffer as MomentumBuffer,
    Neutral as Neutral,
    OffAtZero as OffAtZero,
    OnePerModel as OnePerModel,
    OnePerTensor as OnePerTensor,
    PerColumn as PerColumn,
    PerRow as PerRow,
    Rate as Rate,
    RateDecay as RateDecay,
    SecondMoment as SecondMoment,
    Square as Square,
    Start as Start,
    StartsAt as StartsAt,
    WeightDecay as WeightDecay,
    Whole as Whole,
)
from steprule.errors import InputError, InputTypeError, StepruleError
from steprule.search import Scale as Scale, Search as Search

Value = float | bool | int | str
"""A hyperparameter's."""


@dataclass(frozen=True)
class Hyper:
    """One hyperparameter of a rule, as its annotation and default state it."""

    name: str
    default: Any
    """A `Value`."""
    bounds: tuple[BaseMetadata, ...] = ()
    meaning: str = ""
    letter: str = ""
    search: Search | None = None
    off_at_zero: bool = False
    given: Given | None = None
    choices: tuple[Value, ...] = ()
    """What `Literal[...]` allows; empty for a number or a flag."""
    family: str = ""
    """The hyperparameter of the signature, a tuple, of which it is one number; empty where it stands alone."""
    neutral: float | None = None
    """The number at which the term that it weighs does nothing, as `Neutral` says; None where nothing says so."""

    def __steprule_identity__(self) -> tuple[object, ...]:
        """What decides results, for `steprule.identity`: not its words. Where a race searches is the race's own, stated there."""
        return self.name, self.default, self.bounds, self.off_at_zero, self.given, self.choices

    @property
    def is_flag(self) -> bool:
        """Whether it is a bool, which a rule may test by `if`."""
        return isinstance(self.default, bool)

    @property
    def is_whole(self) -> bool:
        """Whether it is a whole number, annotated `int`."""
        return type(self.default) is int and not self.choices

    @property
    def is_plain(self) -> bool:
        """Whether a rule sees Python's own value, and may do with it what Python can: a flag, a whole number, a choice."""
        return self.is_flag or self.is_whole or bool(self.choices)

    @property
    def switches(self) -> bool:
        """Whether its value decides which variant of the rule runs: a plain value, or a number that is off at zero."""
        return self.is_plain or self.off_at_zero

    @property
    def off(self) -> Value | None:
        """The value that takes off what it stands for: False of a flag, 0 of a number that is off at zero, else the neutral number;
        None where none is known."""
        if self.given is not None or self.choices:
            return None
        if self.is_flag:
            return False
        found = 0.0 if self.off_at_zero else self.neutral
        return int(found) if self.is_whole and found is not None else found

    def variant_of(self, value: Value) -> Value:
        """What of a value decides the variant: all of a plain one, of a number whether it is on."""
        return value if self.is_plain else bool(value != 0)

    def samples(self) -> tuple[Value, ...]:
        """A value for each of its variants; for a whole number the default alone."""
        if self.choices:
            return self.choices
        if self.is_whole:
            return (self.default,)
        return (False, True) if self.is_flag else (0.0, 0.5)

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the largest number that its bounds allow, or the ends that it may come near to; inf for none."""
        low, high = -math.inf, math.inf
        for bound in self.bounds:
            match bound:
                case Ge(limit) | Gt(limit):
                    low = float(limit)  # type: ignore[arg-type]
                case Le(limit) | Lt(limit):
                    high = float(limit)  # type: ignore[arg-type]
        return low, high

    def allows(self, number: float) -> bool:
        """Whether a number is finite and within the bounds."""
        return math.isfinite(number) and all(_holds(bound, number) for bound in self.bounds)

    @property
    def range(self) -> str:
        """The values allowed, in words: "a number in [0, 1)"."""
        if self.is_flag:
            return "True or False"
        if self.choices:
            return f"one of {', '.join(map(repr, self.choices))}"
        left, right = "(-inf", "inf)"
        for bound in reversed(self.bounds):
            match bound:
                case Ge(limit):
                    left = f"[{limit:g}"
                case Gt(limit):
                    left = f"({limit:g}"
                case Le(limit):
                    right = f"{limit:g}]"
                case Lt(limit):
                    right = f"{limit:g})"
        return f"a {'whole ' if self.is_whole else ''}number in {left}, {right}"

    def validate(self, value: object, rule: str) -> Any:
        """`value` as a plain float, int, bool or choice. Raises `InputError` out of bounds or not finite, `InputTypeError` else."""
        if self.choices:
            found = next((c for c in self.choices if type(c) is type(value) and c == value), None)
            if found is None and not (isinstance(value, str) and value in self.choices):
                raise self._refusal(InputError if isinstance(value, str | int) else InputTypeError, value, rule)
            return value if found is None else found
        if self.is_flag:
            if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # numpy's bool is no bool
                return bool(value)
            raise self._refusal(InputTypeError, value, rule)
        if isinstance(value, bool | str) or not isinstance(value, numbers.Real):
            raise self._refusal(InputTypeError, value, rule)
        number = float(value)
        if not self.allows(number):
            raise self._refusal(InputError, value, rule)
        if self.is_whole and number != int(number):
            raise self._refusal(InputError, value, rule)
        return int(number) if self.is_whole else number

    def parse(self, text: str, rule: str) -> Any:
        """`text`, as typed on a command line, as a value of this hyperparameter."""
        if self.choices:
            return self.validate(next((c for c in self.choices if str(c) == text), text), rule)
        if self.is_flag:
            words = {
                **dict.fromkeys(("true", "yes", "on", "1"), True),
                **dict.fromkeys(("false", "no", "off", "0"), False),
            }
            if text.lower() in words:
                return words[text.lower()]
            raise self._refusal(InputTypeError, text, rule)
        try:
            number = float(text)
        except ValueError:
            raise self._refusal(InputTypeError, text, rule) from None
        return self.validate(number, rule)

    def _refusal(self, kind: type[StepruleError], value: object, rule: str) -> StepruleError:
        shown = repr(value) if len(repr(value)) <= 60 else f"a {type(value).__name__}"
        default = f"Its default is {self.default!r}."
        return kind(f"{rule}: hyperparameter {self.name}", expected=self.range, got=shown, hint=default)


LOSS = "loss"
OF_THE_LOSS = Hyper(LOSS, 1.0, meaning="loss of the step's batch at p", letter=r"f_{t}", given=Given())
"""The loss of a step, to a rule that asks for it: a number as hyperparameters are, which whoever steps the rule supplies."""

FROM_THE_STEP: Mapping[object, str] = {"p": "parameter", "g": "gradient"}
"""What a slot may start at that is known only when the rule first sees it."""


@dataclass(frozen=True)
class Slot:
    """One state of a rule, under torch's name for it."""

    name: str
    start: float | str = 0.0
    per_tensor: bool = False
    absent_at_first: bool = False
    letter: str = ""
    full_precision: bool = False
    first: str = ""
    """"p" or "g" where it starts at that, as the rule sees it at the slot's first step; until then it is absent."""
    per_model: bool = False
    shape: str = ""
    """Of what shape: "row" for one number per row, "column" for one per column, "rows" or "columns" for a square matrix of so
    many rows; empty for the parameter's own."""
    looked: bool = False
    """Whether it is not a state, but the gradient at a point to which the rule looks: whoever steps the rule supplies it."""
    drawn: bool = False
    """Whether noise is supplied, and not a gradient."""
    bends: bool = False
    """Whether that gradient is there to tell how the loss bends: clipping would tell less, and leaves it alone."""

    @property
    def is_number(self) -> bool:
        """Whether it is one number, for a tensor or for the model, and not one per element."""
        return self.per_tensor or self.per_model

    @property
    def of(self) -> str:
        """What it has one number for."""
        if self.per_model:
            return "model"
        if self.shape:
            return {"rows": "two rows", "columns": "two columns"}.get(self.shape, self.shape)
        return "tensor" if self.per_tensor else "element"

    def __steprule_identity__(self) -> tuple[object, ...]:
        """What decides results, for `steprule.identity`: not its letter."""
        own: tuple[object, ...] = (
            self.name,
            self.start,
            self.per_tensor,
            self.absent_at_first,
            self.full_precision,
            self.first,
        )
        own += ("one per model",) if self.per_model else ()
        own += ("looked",) if self.looked else ()
        own += ("drawn",) if self.drawn else ()
        own += ("bends",) if self.bends else ()
        return (*own, self.shape) if self.shape else own

    def sizes(self, seen: tuple[int, ...]) -> tuple[int, ...]:
        """Its shape beside a parameter that the rule sees in the shape `seen`; not of one number."""
        if not self.shape or not seen:
            return seen
        rows, columns = (1, *seen)[-2:]
        of: tuple[int, ...] = {
            "row": (rows, 1),
            "column": (1, columns),
            "rows": (rows, rows),
            "columns": (columns, columns),
        }[self.shape]
        if len(seen) == 1 and self.shape in ("row", "column"):  # a vector has one row, and no axis of rows
            of = of[1:]
        return (*seen[:-2], *of)

    @property
    def starts(self) -> str:
        """How it starts, in words."""
        if self.first:
            return f"the {FROM_THE_STEP[self.first]} of its first step"
        if self.absent_at_first:
            return "absent until its first use"
        return f"{self.start:g}" if isinstance(self.start, float) else f"the hyperparameter {self.start}"


def said(value: Value, digits: int = 6, hyper: Hyper | None = None) -> str:
    """A hyperparameter's value as it can be set: a number with so many digits, a flag or a choice by its name.

    A number has more digits where it takes them to tell it from 1, as of a decay, or to stay within `hyper`'s bounds.

    >>> said(0.012345, 3), said(0.9998123, 3), said(1.0, 3), said(True)
    ('0.0123', '0.999812', '1', 'True')
    """
    if isinstance(value, bool) or not isinstance(value, float | int):
        return str(value)
    for more in range(digits, 17):
        shown = f"{value:.{more}g}"
        close = abs(float(shown) - value) <= 0.005 * abs(1 - value)
        if close and (hyper is None or hyper.allows(float(shown)) or not hyper.allows(value)):
            return shown
    return repr(value)


def _holds(bound: BaseMetadata, number: float) -> bool:
    match bound:
        case Ge(limit):
            return bool(number >= limit)  # type: ignore[operator]
        case Gt(limit):
            return bool(number > limit)  # type: ignore[operator]
        case Le(limit):
            return bool(number <= limit)  # type: ignore[operator]
        case Lt(limit):
            return bool(number < limit)  # type: ignore[operator]
    raise AssertionError(f"no such bound: {bound}")
