r"""What a signature may say of a hyperparameter, a slot or what a step is supplied with: the annotations.

From one annotation come validation, the error message, the command-line option, the search space of a race and the
slider on the page. Bounds are `annotated_types` constraints; the rest is below.

    def rmsprop(p, g, square_avg, *, lr: Rate = 0.01, alpha: Decay = 0.99, eps: Epsilon = 1e-8): ...

Your own kind of hyperparameter is one line:

    Temperature = Annotated[float, Gt(0), Meaning("temperature of the softmax", r"\tau"), Search(0.1, 10, "log")]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, GroupedMetadata, Lt

from steprule.errors import InputError, InputTypeError
from steprule.search import Search


@dataclass(frozen=True)
class Meaning:
    """What the quantity is, in a few words, and the letter that papers give it (LaTeX)."""

    text: str
    letter: str = ""


@dataclass(frozen=True)
class OffAtZero:
    """The number switches something off when it is 0: a rule may test it bare (`if momentum:`)."""


@dataclass(frozen=True)
class Neutral:
    """At this number the term that it weighs does nothing: so `steprule ablate` takes the term off, as by 1 of a factor.

    Boost = Annotated[float, Gt(0), Neutral(1), Meaning("how much longer a step is that agrees with the last one"), Search(1, 10)]
    """

    value: float


@dataclass(frozen=True)
class Given:
    """The number is not a setting: whoever steps the rule supplies it at each step, like the step number."""


Rate = Annotated[float, Ge(0), Meaning("learning rate", r"\eta"), Search(1e-5, 10.0)]
Decay = Annotated[
    float, Ge(0), Lt(1), Neutral(0), Meaning("decay of a running average"), Search(0.5, 0.9999, "complement")
]
Epsilon = Annotated[float, Ge(0), Meaning("keeps the denominator from zero", r"\epsilon"), Search(1e-10, 1e-3)]
Momentum = Annotated[float, Ge(0), OffAtZero(), Meaning("momentum", r"\mu"), Search(0.0, 0.999, "complement")]
Dampening = Annotated[
    float, Neutral(0), Meaning("part of the gradient kept out of the momentum", r"\tau"), Search(0, 1, "linear")
]
RateDecay = Annotated[
    float, Ge(0), Neutral(0), Meaning("how fast the learning rate falls with the step", r"\eta_d"), Search(1e-6, 1)
]
Start = Annotated[float, Ge(0), Neutral(0), Meaning("value at which the accumulator starts"), Search(1e-4, 1.0)]
WeightDecay = Annotated[float, Ge(0), OffAtZero(), Meaning("weight decay", r"\lambda"), Search(1e-6, 1.0)]
Whole = Annotated[int, Ge(1)]
"""A whole number, as of repetitions: `for _ in range(k)`. Python's own: each value is a variant of the rule."""
Flag = bool
"""A switch, which a rule may test by `if`; `Annotated[bool, Meaning("...")]` says what it switches."""


@dataclass(frozen=True)
class StartsAt:
    """Slot annotation: the slot starts at this number, or at the hyperparameter of this name.

    `StartsAt("p")` and `StartsAt("g")` start it at the parameter or the gradient, as the rule sees it at its first step: an anchor
    such as Lookahead's slow weights, or an average that is not biased towards zero.
    """

    value: float | str


@dataclass(frozen=True)
class OnePerTensor:
    """Slot annotation: one number for a whole tensor, starting at a number, or at the hyperparameter of this name (ASGD's `eta`)."""

    start: float | str = 0.0


@dataclass(frozen=True)
class PerRow:
    """Slot annotation: one number per row of the parameter, shape [..., rows, 1] (Adafactor's `row_var`)."""


@dataclass(frozen=True)
class PerColumn:
    """Slot annotation: one number per column of the parameter, shape [..., 1, columns] (Adafactor's `col_var`)."""


@dataclass(frozen=True)
class Square:
    """Slot annotation: a square matrix as wide as the parameter has rows or columns (Shampoo's and SOAP's)."""

    of: str
    """"rows" or "columns"."""

    def __post_init__(self) -> None:
        if self.of not in ("rows", "columns"):
            raise InputError("Square", expected="'rows' or 'columns'", got=repr(self.of))


@dataclass(frozen=True)
class OnePerModel:
    """Slot annotation: one number for the whole model, in float64, starting at a number or at the hyperparameter of this name.

    It may follow from hyperparameters, from the step and from totals over all tensors (Prodigy's `d`), and comes out the same
    for each tensor.
    """

    start: float | str = 0.0


@dataclass(frozen=True)
class AbsentAtFirst:
    """Slot annotation: None until the rule first returns a value for it, which the rule tests with `is None`.

    torch's `momentum_buffer` is the case: absent, it becomes the gradient itself. Absence is what decides, never the
    step number, so a run that is resumed, or switches momentum on half-way, is right.
    """


@dataclass(frozen=True)
class Each:
    """Annotation of a family of slots: one for each number of the hyperparameter of this name, a tuple.

        def aggmo(p, g, *buffers: Each("betas"), lr: Rate = 0.1, betas: tuple[Decay, ...] = (0.0, 0.9, 0.99)): ...

    The slots are buffers1, buffers2 and so on, the numbers beta1, beta2 and so on; `betas=` sets them together. The default says how
    many there are.
    """

    hyper: str


@dataclass(frozen=True)
class Looks:
    """Annotation of `gradient`: how often a step calls it at most. Without one, it is once.

    def extragradient(p, g, *, lr: Rate = 0.1, gradient: Looks(2)): ...
    """

    count: int = 1

    def __post_init__(self) -> None:
        if type(self.count) is not int or self.count < 1:
            raise InputError("Looks", expected="a whole number from 1", got=repr(self.count))


@dataclass(frozen=True)
class GivenTensor:
    """Annotation of a keyword without default: a tensor that a step is given each `every` steps, from the first; None in the others.

    def sophia(p, g, m, h, *, lr: Rate = 0.06, hessian: GivenTensor(every=10)): ...

    It is Hutchinson's estimate of the Hessian's diagonal: noise times the change of the gradient along that noise. It costs two looks.
    """

    every: int = 1

    def __post_init__(self) -> None:
        if type(self.every) is not int or self.every < 1:
            raise InputError("GivenTensor: every", expected="a whole number from 1", got=repr(self.every))


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


_ALONE = {PerRow, PerColumn, AbsentAtFirst, FullPrecision, OnePerTensor, OnePerModel, OffAtZero, Given, Looks}
_WITH_MORE = {
    StartsAt: "StartsAt(0.1)",
    Square: 'Square("rows")',
    Letter: 'Letter("m")',
    Each: 'Each("betas")',
    Meaning: 'Meaning("radius")',
    Neutral: "Neutral(1)",
}
"""The marks that are complete without brackets, and those that are not, as they are written."""


def marks_of(annotation: object) -> Any:
    """What stands in an `Annotated[...]`, or alone as the annotation; groups such as `Interval` taken apart."""
    for mark in getattr(annotation, "__metadata__", (annotation,)):
        if isinstance(mark, type) and mark in _ALONE:  # they say all without brackets
            yield mark()
        elif isinstance(mark, type) and mark in _WITH_MORE:
            raise InputTypeError("annotation", expected=f"{_WITH_MORE[mark]}, say", got=mark.__name__)
        elif isinstance(mark, GroupedMetadata):
            yield from mark
        else:
            yield mark
