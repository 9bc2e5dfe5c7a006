"""`@rule`: a function that states one optimizer step becomes a `Rule`, and its signature is the contract.

    @rule
    def rmsprop(p, g, square_avg, *, lr: Rate = 0.01, alpha: Decay = 0.99, eps: Epsilon = 1e-8):
        square_avg = alpha * square_avg + (1 - alpha) * g * g
        return p - lr * g / (sqrt(square_avg) + eps), square_avg

`p, g`: a parameter and its gradient. Further positional names: the slots. Keyword-only names: hyperparameters, each with
a default; a keyword-only `t` without default is the step number, from 1, and such a `gradient` is the function that looks at the gradient
elsewhere. It returns the new `p`, then the new slots.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import CodeType
from typing import Any, overload

from steprule.arithmetic import Real, computing
from steprule.errors import InputTypeError, RuleError
from steprule.hyper import LOSS
from steprule.rules.contract import Signature
from steprule.rules.declared import Declared
from steprule.rules.looks import GRADIENT, NOISE, UNKNOWN, comes_to, looked_for
from steprule.rules.points import KEPT, MODE, Point, point_of

FAMILIES = ("gradient descent", "adaptive", "Adam", "sign", "layer-wise", "matrix", "averaging")
"""The families of the catalogue, simplest first. A rule of no family stands behind them."""


@dataclass(frozen=True)
class Paper:
    """Where a rule was published."""

    authors: str
    year: int
    title: str
    url: str

    def __str__(self) -> str:
        return f"{self.authors} ({self.year}). {self.title}. {self.url}"


@dataclass(frozen=True)
class Composed:
    """A part that was put before or behind a rule, as a rule remembers it."""

    part: Callable[..., Any]
    bare: Callable[[], Rule]
    """Makes the rule without this part, with all others."""

    @property
    def name(self) -> str:
        """The part's function's."""
        return self.part.__name__

    @property
    def summary(self) -> str:
        """What it says of itself."""
        return (inspect.getdoc(self.part) or "").split("\n\n")[0].replace("\n", " ")


@dataclass(frozen=True, eq=False)
class Rule(Declared):
    """An optimizer step as a pure function of one parameter, its gradient and its slots.

    Calling it runs the author's function: on Python floats, numpy arrays or torch tensors, with hyperparameters at their
    defaults unless given. A slot that is None, or left out at the end, is absent.

    >>> from steprule import rules
    >>> p, square_avg = rules.rmsprop_eps_inside(1.0, 2.0, 0.0, lr=0.1, alpha=0.9)
    >>> round(p, 6), round(square_avg, 6)
    (0.683773, 0.4)
    """

    function: Callable[..., Any]
    summary: str = ""
    paper: Paper | None = None
    title: str = ""
    """Its name as people write it; empty where that is `name`."""
    family: str = ""
    """One of `FAMILIES`: where the catalogue lists it."""
    as_matrix: bool = False
    """Whether it sees every tensor as a matrix: one of more than two axes as [first, product of the others], a vector as one row."""
    codes: tuple[CodeType, ...] = field(default=(), repr=False)
    """The code of the author's functions: their local names name the quantities, their lines stand in errors."""
    point: Point | None = field(default=None, repr=False)
    """Where the model is read, if not at p; `evaluated` states it."""
    parts: tuple[Composed, ...] = field(default=(), repr=False)
    """What was put before and behind it, the first that was put first."""

    def __call__(self, p: Any, g: Any, *slots: Any, **hypers: Any) -> Any:
        """The new p and the new slots, as a tuple; p alone where the rule has no slots and returns it so."""
        known = {"t"} if self.takes_t else set()
        supplied = {GRADIENT, NOISE} if self.looked else set()
        if unknown := set(hypers) - known - {h.name for h in self.hypers} - supplied:
            raise self._unknown(unknown.pop())
        if self.takes_t and "t" not in hypers:
            raise InputTypeError(
                f"{self.name}: t", expected="the number of this step, from 1", got="nothing", hint="Write t=1."
            )
        if self.asks_for_loss and LOSS not in hypers:
            raise InputTypeError(
                f"{self.name}: {LOSS}", expected="the loss of this step", got="nothing", hint="Write loss=0.5."
            )
        if supplied & set(hypers):
            return self._supplied(p, g, slots, hypers)
        if len(slots) > len(self.slots):
            names = ", ".join(s.name for s in self.slots) or "none"
            raise InputTypeError(
                f"{self.name}: slots", expected=f"at most {len(self.slots)} ({names})", got=f"{len(slots)}"
            )
        slots = (*slots, *(None for _ in self.slots[len(slots) :]))
        values = {**self.defaults, **hypers}
        own = tuple(p.shape) if hasattr(p, "shape") else None
        seen = None if own is None else self.seen(own)
        with computing(p, [p, g, *slots, *values.values()]) as (lifted, back):
            numbers = dict(zip(values, lifted[2 + len(slots) :], strict=True))
            numbers |= {h.name: values[h.name] for h in self.hypers if h.is_plain}
            given = lifted[: 2 + len(slots)]
            if seen != own:
                given = [self._as_seen(k, v, seen) for k, v in enumerate(given)]
            result = self.function(*given, **numbers)
            if not isinstance(result, tuple):
                return back(result, seen=seen, own=own)
            found = [back(result[0], seen=seen, own=own)] if result else []
            for slot, value in zip(self.slots, result[1:], strict=False):
                full = slot.is_number or slot.full_precision
                if value is None or slot.is_number or seen is None:
                    found.append(back(value, full, of_model=slot.per_model))
                else:
                    sizes = slot.sizes(seen)
                    found.append(back(value, full, sizes, sizes if slot.shape else own))
            # One result too many or too few is the contract's to name.
            return (*found, *(back(v) for v in result[1 + len(self.slots) :]))

    def _supplied(self, p: Any, g: Any, slots: tuple[Any, ...], hypers: dict[str, Any]) -> Any:
        """The same with `gradient` as a function of the point, and `noise` as what is drawn; slots and results are the states alone."""
        gradient = hypers.get(GRADIENT)
        own = {n: v for n, v in hypers.items() if n not in (GRADIENT, NOISE)}
        if (gradient is not None or self.looks_twice) and not callable(gradient):
            raise InputTypeError(f"{self.name}: {GRADIENT}", expected="a function of the point", got=repr(gradient))
        drawn = self._drawn(hypers.get(NOISE))
        given = iter(slots)
        held = [None if s.looked else next(given, None) for s in self.slots]
        if len(slots) > len(self.states):
            names = ", ".join(s.name for s in self.states) or "none"
            expected = f"at most {len(self.states)} ({names})"
            raise InputTypeError(f"{self.name}: slots", expected=expected, got=f"{len(slots)}")
        states = {s.name: v for s, v in zip(self.slots, held, strict=True)}
        asked = self.looks_in(own.get("t"), {**self.defaults, **own}, states)
        for k, look in zip([k for k, s in enumerate(self.slots) if s.looked][:asked], self.looks, strict=False):
            held[k] = next(drawn) if self.slots[k].drawn else gradient(look(p, g, *held, **own)[0])  # type: ignore[misc]
        new_p, *new = self(p, g, *held, **own)
        found = [v for v, s in zip(new, self.slots, strict=False) if not s.looked]
        return (new_p, *found, *new[len(self.slots) :]) if found else new_p

    def _drawn(self, noise: Any) -> Iterator[Any]:
        """The noise of each draw, as it is given by hand: one value, or a tuple or list of one per draw."""
        values = list(noise) if isinstance(noise, tuple | list) else [noise]
        count = self.draws
        if count == 0 and noise is None:
            return iter(())
        if len(values) != count:
            expected = {0: "nothing", 1: "one value"}.get(count, f"a tuple of {count}, one per draw")
            raise InputTypeError(f"{self.name}: {NOISE}", expected=expected, got=f"{len(values)}")
        return iter(values)

    def _as_seen(self, k: int, value: Any, seen: tuple[int, ...] | None) -> Any:
        """The k-th argument, p or g or a slot, as the rule sees it."""
        slot = self.slots[k - 2] if k > 1 else None
        if value is None or (slot is not None and (slot.is_number or slot.shape)):
            return value
        return value.reshape(seen)

    def seen(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in which the rule sees a parameter of this shape.

        >>> from dataclasses import replace
        >>> from steprule import rules
        >>> replace(rules.adam, as_matrix=True).seen((8, 3, 5, 5))
        (8, 75)
        """
        if not self.as_matrix:
            return tuple(shape)
        if len(shape) < 2:
            return (1, *shape) if shape else (1, 1)
        return (shape[0], math.prod(shape[1:]))

    def __steprule_identity__(self) -> tuple[object, ...]:
        """What decides its steps, for `steprule.identity`: not its name, and nothing that is said of it."""
        own: tuple[object, ...] = self.function, self.slots, self.hypers, self.takes_t
        own += () if self.point is None else (self.point.function,)
        return (*own, "as_matrix") if self.as_matrix else own

    def evaluated(self, function: Callable[..., Any], /) -> Callable[..., Any]:
        """State where the model is read, as a decorator; the gradient is still taken at p. Gives the function back.

            @schedule_free_sgd.evaluated
            def average(p, z, *, momentum):
                return p + (1 - 1 / momentum) * (z - p)

        The function takes p, slots of the rule by name, and keyword-only its hyperparameters, its tuples such as
        `betas`, and `t`, the number of steps taken, where the rule has them. It is in the language of rules, and gives the point. A
        parameter without a step is read at p. Stated again, as in a notebook's cell, the last one counts.

        Raises `RuleError`, with the author's file and line, where the signature asks for what the rule does not have, and for a rule of
        the catalogue.
        """
        if self.is_sealed:
            code, hint = function.__code__, "dataclasses.replace(rule, name=...) makes one of it."
            where = f"{code.co_filename}:{code.co_firstlineno}: {self.name}.evaluated"
            raise RuleError(where, expected="a rule of your own", got="one of the catalogue", hint=hint)
        numbers = [*self.settings, *self.tuples, *(["t"] if self.takes_t else [])]
        point = point_of(function, self.name, self.slots, numbers)
        taken = {KEPT} & {s.name for s in self.slots} | {MODE} & {h.name for h in self.hypers}
        if taken:
            where = "{}:{}: rule {}".format(*self.lines, self.name)
            expected = f"no slot {KEPT} and no hyperparameter {MODE} where the model is read elsewhere"
            raise RuleError(where, expected=expected, got=taken.pop(), hint="Call it otherwise.")
        # The one thing about a rule that is stated behind it. What is composed with it sees it by `point`.
        object.__setattr__(self, "point", point)
        self.__dict__.pop("evaluation", None)
        return function

    def seal(self) -> Rule:
        """From now on nobody states where its model is read: a rule of the catalogue is everybody's. A copy is not sealed."""
        self.__dict__["_sealed"] = True
        return self

    @property
    def is_sealed(self) -> bool:
        """Whether it is a rule of the catalogue, or one that is everybody's like those."""
        return bool(self.__dict__.get("_sealed"))

    @functools.cached_property
    def evaluation(self) -> Rule | None:
        """The point of evaluation as a rule of the same slots and hyperparameters, which it hands on: its new p is the point.

        So every form of a rule is one of the point too. Called with p in the place of the gradient, which it does not read.
        """
        point = self.point
        if point is None:
            return None
        names = [s.name for s in self.slots]

        def function(p: Any, g: Any, *slots: Any, **numbers: Any) -> tuple[Any, ...]:
            return (point.of(p, dict(zip(names, slots, strict=True)), numbers, self.tuples), *slots)

        # After a step no slot is about to begin: what is None stays so.
        slots = tuple(replace(s, absent_at_first=False, first="") for s in self.slots)
        name = f"{self.name}_evaluated"
        return replace(self, name=name, function=function, slots=slots, codes=(point.code,), point=None)

    @functools.cached_property
    def looks(self) -> tuple[Rule, ...]:
        """By look, its point as a rule of the same slots and hyperparameters, which it hands on: its new p is the point.

        So every form of a rule is one of the points to which it looks. A look needs the gradients of those before it.
        """
        places = [k for k, slot in enumerate(self.slots) if slot.looked]
        return tuple(
            replace(self, name=f"{self.name}_look{number}", function=looked_for(self.function, place), point=None)
            for number, place in enumerate(places, 1)
        )

    def looks_in(self, t: float | None, hypers: Mapping[str, Any], states: Mapping[str, Any]) -> int:
        """How often step t of a tensor looks, whose states these are before it. A rule may look at some steps only, as each fifth."""
        if not self.looked:
            return 0
        plain = {h.name for h in self.hypers if h.is_plain}
        given = {**hypers, **({"t": t} if self.takes_t else {})}
        numbers = {n: Real(v) if type(v) in (float, int) and n not in plain else v for n, v in given.items()}
        held = [None if s.absent_at_first and states.get(s.name) is None else UNKNOWN for s in self.slots]
        places = [k for k, slot in enumerate(self.slots) if slot.looked]
        left = enumerate(places)
        skipped = (n for n, k in left if not self.slots[k].drawn and not comes_to(self.function, k, held, numbers))
        return next(skipped, len(places))

    @property
    def lines(self) -> tuple[str, int]:
        """The author's file and the line at which the function begins."""
        return self.codes[0].co_filename, self.codes[0].co_firstlineno


@overload
def rule(function: Callable[..., Any], /) -> Rule: ...
@overload
def rule(
    *,
    name: str | None = None,
    title: str = "",
    family: str = "",
    paper: Paper | None = None,
    as_matrix: bool = False,
) -> Callable[[Callable[..., Any]], Rule]: ...
def rule(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    title: str = "",
    family: str = "",
    paper: Paper | None = None,
    as_matrix: bool = False,
) -> Rule | Callable[[Callable[..., Any]], Rule]:
    """Make a `Rule` of a function; `@rule` or `@rule(name=..., title=..., family=..., paper=...)`.

    `title` is the name as people write it, `family` one of `FAMILIES`: by it the catalogue is ordered. `as_matrix`: the rule sees
    every tensor as a matrix, see `Rule.as_matrix`. Raises `RuleError`, with
    the author's file and line, where the signature breaks the contract.
    """

    def made(function: Callable[..., Any]) -> Rule:
        signature = Signature.of(function, name or function.__name__)
        if paper is not None and not isinstance(paper, Paper):
            hint = "Write Paper(authors, year, title, url) of steprule.rules.rule."
            raise signature.broken("a Paper as paper", repr(paper), hint)
        if not isinstance(title, str):
            raise signature.broken("a title in words", repr(title), "")
        if family and family not in FAMILIES:
            raise signature.broken(
                f"one of the families {', '.join(FAMILIES)}", family, "Leave it out for none of them."
            )
        slots, hypers, whole = signature.contract()
        return Rule(
            name=signature.name,
            function=whole,
            slots=slots,
            hypers=hypers,
            takes_t=signature.takes_t,
            summary=(inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " "),
            paper=paper,
            title=title,
            family=family,
            as_matrix=as_matrix,
            codes=(function.__code__,),
        )

    return made if function is None else made(function)
