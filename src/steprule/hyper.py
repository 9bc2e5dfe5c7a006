"""What a rule's signature says of each hyperparameter and each slot, stated once, as an annotation.

From one annotation come validation, the error message, the command-line option, the search space of a race and the
slider on the page. Bounds are `annotated_types` constraints; the rest is below.

    def rmsprop(p, g, square_avg, *, lr: Rate = 0.01, alpha: Decay = 0.99, eps: Epsilon = 1e-8): ...

Your own kind of hyperparameter is one line:

    Temperature = Annotated[float, Gt(0), Meaning("temperature of the softmax", r"\\tau"), Search(0.1, 10, "log")]
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Lt

from steprule.errors import InputError, InputTypeError, StepruleError


@dataclass(frozen=True)
class Meaning:
    """What the quantity is, in a few words, and the letter that papers give it (LaTeX)."""

    text: str
    letter: str = ""


@dataclass(frozen=True)
class Search:
    """Where a race looks for good values. `scale` is "log", "linear" or "complement" (logarithmic in 1 - value)."""

    low: float
    high: float
    scale: Literal["log", "linear", "complement"] = "log"

    def at(self, share: float) -> float:
        """The value at a share of the way from low to high, on the scale.

        >>> Search(1e-4, 1.0).at(0.5), Search(0, 1, "linear").at(0.25), round(Search(0.9, 0.999, "complement").at(0.5), 6)
        (0.01, 0.25, 0.99)
        """
        if self.scale == "linear":
            return self.low + share * (self.high - self.low)
        if self.scale == "complement":
            return 1 - float((1 - self.low) ** (1 - share) * (1 - self.high) ** share)
        return float(self.low ** (1 - share) * self.high**share)


@dataclass(frozen=True)
class OffAtZero:
    """The number switches something off when it is 0: a rule may test it bare (`if momentum:`)."""


@dataclass(frozen=True)
class Given:
    """The number is no setting: whoever steps the rule supplies it at each step, as it does the step number.

    Known when the step begins, or a `reduction` over all tensors, known after one pass over them.
    """

    reduction: bool = False


Rate = Annotated[float, Ge(0), Meaning("learning rate", r"\eta"), Search(1e-5, 10.0)]
Decay = Annotated[float, Ge(0), Lt(1), Meaning("decay of a running average"), Search(0.5, 0.9999, "complement")]
Epsilon = Annotated[float, Ge(0), Meaning("keeps the denominator from zero", r"\epsilon"), Search(1e-10, 1e-3)]
Momentum = Annotated[float, Ge(0), OffAtZero(), Meaning("momentum", r"\mu"), Search(0.0, 0.999, "complement")]
Dampening = Annotated[float, Meaning("part of the gradient kept out of the momentum", r"\tau"), Search(0, 1, "linear")]
RateDecay = Annotated[
    float, Ge(0), Meaning("how fast the learning rate falls with the step", r"\eta_d"), Search(1e-6, 1)
]
Start = Annotated[float, Ge(0), Meaning("value at which the accumulator starts"), Search(1e-4, 1.0)]
WeightDecay = Annotated[float, Ge(0), OffAtZero(), Meaning("weight decay", r"\lambda"), Search(1e-6, 1.0)]
Flag = bool
"""A switch, which a rule may test by `if`; `Annotated[bool, Meaning("...")]` says what it switches."""


@dataclass(frozen=True)
class StartsAt:
    """Slot annotation: the slot starts at this number, or at the hyperparameter of this name."""

    value: float | str


@dataclass(frozen=True)
class OnePerTensor:
    """Slot annotation: one number for a whole tensor, starting at `start` (NAdam's `mu_product`)."""

    start: float = 0.0


@dataclass(frozen=True)
class AbsentAtFirst:
    """Slot annotation: None until the rule first returns a value for it, which the rule tests with `is None`.

    torch's `momentum_buffer` is the case: absent, it becomes the gradient itself. Absence is what decides, never the
    step number, so a run that is resumed, or switches momentum on half-way, is right.
    """


@dataclass(frozen=True)
class FullPrecision:
    """Slot annotation: at least float32, where its parameter is of lower precision.

    An average that moves by a thousandth of a distance would stand still in bfloat16, whose numbers are further apart.
    """


@dataclass(frozen=True)
class Letter:
    """Slot annotation: the letter that the paper gives the slot (LaTeX, without subscript)."""

    latex: str


FirstMoment = Annotated[Any, Letter("m")]
SecondMoment = Annotated[Any, Letter("v")]
MomentumBuffer = Annotated[Any, AbsentAtFirst(), Letter("b")]


@dataclass(frozen=True)
class Hyper:
    """One hyperparameter of a rule, as its annotation and default state it."""

    name: str
    default: float | bool
    bounds: tuple[BaseMetadata, ...] = ()
    meaning: str = ""
    letter: str = ""
    search: Search | None = None
    off_at_zero: bool = False
    given: Given | None = None

    @property
    def is_flag(self) -> bool:
        """Whether it is a bool, which a rule may test by `if`."""
        return isinstance(self.default, bool)

    @property
    def switches(self) -> bool:
        """Whether its value decides which variant of the rule runs: a flag, or a number that is off at zero."""
        return self.is_flag or self.off_at_zero

    @property
    def range(self) -> str:
        """The values allowed, in words: "a number in [0, 1)"."""
        if self.is_flag:
            return "True or False"
        low = next((b for b in self.bounds if isinstance(b, Ge | Gt)), None)
        high = next((b for b in self.bounds if isinstance(b, Le | Lt)), None)
        left = f"[{low.ge:g}" if isinstance(low, Ge) else f"({low.gt:g}" if isinstance(low, Gt) else "(-inf"
        right = f"{high.le:g}]" if isinstance(high, Le) else f"{high.lt:g})" if isinstance(high, Lt) else "inf)"
        return f"a number in {left}, {right}"

    def validate(self, value: object, rule: str) -> float | bool:
        """`value` as a plain float or bool. Raises `InputError` out of bounds or not finite, `InputTypeError` else."""
        if self.is_flag:
            if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # numpy's bool is no bool
                return bool(value)
            raise self._refusal(InputTypeError, value, rule)
        if isinstance(value, bool | str) or not isinstance(value, numbers.Real):
            raise self._refusal(InputTypeError, value, rule)
        number = float(value)
        if not math.isfinite(number) or not all(_holds(bound, number) for bound in self.bounds):
            raise self._refusal(InputError, value, rule)
        return number

    def parse(self, text: str, rule: str) -> float | bool:
        """`text`, as typed on a command line, as a value of this hyperparameter."""
        if self.is_flag:
            words = {
                "true": True,
                "yes": True,
                "on": True,
                "1": True,
                "false": False,
                "no": False,
                "off": False,
                "0": False,
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


@dataclass(frozen=True)
class Slot:
    """One state of a rule, under torch's name for it."""

    name: str
    start: float | str = 0.0
    per_tensor: bool = False
    absent_at_first: bool = False
    letter: str = ""
    full_precision: bool = False

    @property
    def starts(self) -> str:
        """How it starts, in words."""
        if self.absent_at_first:
            return "absent until its first use"
        return f"{self.start:g}" if isinstance(self.start, float) else f"the hyperparameter {self.start}"


def hyper_from(name: str, default: object, annotation: object) -> Hyper:
    """The record of a keyword-only parameter. Raises `InputTypeError` where the default is neither number nor bool."""
    if isinstance(default, bool) or not isinstance(default, int | float):
        value: float | bool | None = default if isinstance(default, bool) else None
    else:
        value = float(default)
    if value is None:
        raise InputTypeError(f"hyperparameter {name}", expected="a number or a bool as default", got=repr(default))
    marks = list(_marks(annotation))
    meaning = next((m for m in marks if isinstance(m, Meaning)), Meaning(""))
    return Hyper(
        name=name,
        default=value,
        bounds=tuple(m for m in marks if isinstance(m, Ge | Gt | Le | Lt)),
        meaning=meaning.text,
        letter=meaning.letter,
        search=next((m for m in marks if isinstance(m, Search)), None),
        off_at_zero=any(isinstance(m, OffAtZero) for m in marks),
        given=next((m for m in marks if isinstance(m, Given)), None),
    )


def slot_from(name: str, annotation: object) -> Slot:
    """The record of a positional parameter after `p, g`."""
    start: float | str = 0.0
    per_tensor = absent = full = False
    letter = ""
    for mark in _marks(annotation):
        match mark:
            case StartsAt(value):
                start = value if isinstance(value, str) else float(value)
            case OnePerTensor(value):
                per_tensor, start = True, float(value)
            case AbsentAtFirst():
                absent = True
            case FullPrecision():
                full = True
            case Letter(latex):
                letter = latex
    return Slot(name, start, per_tensor, absent, letter, full)


def _marks(annotation: object) -> Any:
    """What stands in an `Annotated[...]`, groups such as `Interval` taken apart."""
    for mark in getattr(annotation, "__metadata__", ()):
        if isinstance(mark, GroupedMetadata):
            yield from mark
        else:
            yield mark


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
