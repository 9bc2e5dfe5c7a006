"""The contract of a signature: which parameters are slots, which are hyperparameters, and what breaks it."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter
from types import CodeType
from typing import Any, get_type_hints

from steprule.arithmetic import Real
from steprule.errors import InputError, InputTypeError, RuleError
from steprule.hyper import LOSS, OF_THE_LOSS, Each, GivenTensor, Hyper, Slot
from steprule.rules.annotated import each_of, family_from, given_of, hyper_from, looks_of, slot_from
from steprule.rules.draws import MOST_DRAWS, draws_of
from steprule.rules.looks import (
    DRAWN,
    GRADIENT,
    LOOKED,
    NOISE,
    drawn,
    estimating,
    names_of,
    sighted,
)

Contract = tuple[tuple[Slot, ...], tuple[Hyper, ...], Callable[..., Any]]
"""A rule's slots and hyperparameters, and its function as steps call it: one number for each of them."""


@dataclass(frozen=True)
class Signature:
    """A function's signature as its author wrote it. Errors begin with the author's file and line."""

    function: Callable[..., Any]
    name: str
    parameters: tuple[Parameter, ...]
    annotations: Mapping[str, Any]

    @classmethod
    def of(cls, function: Callable[..., Any], name: str) -> Signature:
        """The signature of a function that states a rule."""
        signature = cls(function, name, tuple(inspect.signature(function).parameters.values()), {})
        try:
            annotations = get_type_hints(function, include_extras=True)
        except Exception as error:
            expected, hint = "annotations that can be evaluated", "Import the names it annotates with."
            raise signature.broken(expected, str(error), hint) from error
        return cls(function, name, signature.parameters, annotations)

    @property
    def code(self) -> CodeType:
        """The code of the author's function."""
        return self.function.__code__

    @property
    def takes_t(self) -> bool:
        """Whether the rule asks for the number of the step, or hangs on it."""
        return any(_is_t(p) for p in self.parameters) or (self.given is not None and self.given[1] > 1)

    @property
    def given(self) -> tuple[str, int] | None:
        """The name of the tensor that a step is given, and each how many steps it is; None where there is none."""
        found = [(p.name, mark.every) for p in self.parameters if (mark := self._mark_of(p))]
        if len(found) > 1:
            raise self.broken("one given tensor", " and ".join(name for name, _ in found), "")
        return found[0] if found else None

    def _mark_of(self, parameter: Parameter) -> GivenTensor | None:
        try:
            return given_of(self.annotations.get(parameter.name))
        except InputTypeError:  # what is wrong with the annotation is said where it is taken
            return None

    @property
    def looks(self) -> int:
        """How often a step may look at the gradient elsewhere; 0 for a rule that does not ask for it, nor for a given tensor."""
        return self._own_looks + (2 if self.given else 0)

    @property
    def _own_looks(self) -> int:
        return looks_of(self.annotations.get(GRADIENT)) if any(_is_gradient(p) for p in self.parameters) else 0

    def broken(self, expected: str, got: str, hint: str) -> RuleError:
        """The error for a signature that breaks the contract."""
        where = f"{self.code.co_filename}:{self.code.co_firstlineno}: rule {self.name}"
        return RuleError(where, expected=expected, got=got, hint=hint)

    def contract(self) -> Contract:
        """What the signature says. Raises `RuleError` where it breaks the contract."""
        starred = next((p for p in self.parameters if p.kind is p.VAR_POSITIONAL), None)
        each = each_of(self.annotations.get(starred.name)) if starred else None
        self._check_kinds(starred, each)
        slots = [self._slot_of(p.name, self.annotations.get(p.name)) for p in self._slot_parameters()]
        families = {p.name: self._hypers_of(p) for p in self._hyper_parameters()}
        hypers = [hyper for family in families.values() for hyper in family]
        hypers += [OF_THE_LOSS] if any(_is_loss(p) for p in self.parameters) else []
        tuples = {}
        for p in self._hyper_parameters():
            if isinstance(p.default, tuple):
                tuples[p.name] = [h.name for h in families[p.name]]
        if starred and each:
            slots += self._slots_for_each(starred, each, tuples)
        self._check_names(slots, hypers)
        for slot in slots:
            self._check_slot(slot, hypers)
        function = _started(_gathered(self.function, tuples), slots)
        if self.given:
            if self._own_looks and self.given[1] > 1:  # looks are counted from the first of a step
                hint = f"Write GivenTensor(), for every step, or call {GRADIENT} for the Hessian yourself."
                raise self.broken(f"a tensor given at some steps, or {GRADIENT}", "both", hint)
            own_t = any(_is_t(p) for p in self.parameters)
            function = estimating(function, *self.given, gives_t=own_t, gives_gradient=self._own_looks > 0)
        # Noise stands before the gradients of looks: where a step looks may follow from it, and never the other way round.
        known = [h for h in hypers if h.is_plain or h.is_flag]
        unknown = [h.name for h in hypers if h not in known] + [GRADIENT] * (self.looks > 0)
        absent = [s.absent_at_first for s in slots]
        if draws := draws_of(function, absent, self._tries(known), unknown, takes_t=self.takes_t):
            if draws > MOST_DRAWS:
                raise self.broken(f"at most {MOST_DRAWS} draws of noise in a step", "more", "Does a loop never end?")
            function = drawn(function, len(slots), draws)
            slots += _supplied(NOISE, draws, DRAWN, drawn=True)
            self._check_names(slots, hypers)
        if self.looks:
            function = sighted(function, len(slots))
            seen = _supplied(GRADIENT, self.looks, LOOKED)
            bending = self.looks - self._own_looks  # the estimate looks before the author's function does
            slots += [replace(s, bends=k < bending) for k, s in enumerate(seen)]
        return tuple(slots), tuple(hypers), function

    @staticmethod
    def _tries(hypers: Sequence[Hyper]) -> Iterator[dict[str, Any]]:
        """Settings with which to try the function: each combination of these."""
        for values in itertools.product(*(h.samples() for h in hypers)):
            yield {h.name: v if h.is_plain else Real(v) for h, v in zip(hypers, values, strict=True)}

    def _check_kinds(self, starred: Parameter | None, each: Each | None) -> None:
        if (starred and not each) or any(p.kind is p.VAR_KEYWORD for p in self.parameters):
            hint = 'For a family of slots, one per number of a hyperparameter, write *buffers: Each("betas").'
            raise self.broken("every slot and hyperparameter by name", str(starred or self.parameters[-1]), hint)
        wrong = [p for p in self.parameters if self._mark_of(p) and p.kind is not p.KEYWORD_ONLY]
        if wrong:
            hint = f"Write *, {wrong[0].name}: GivenTensor(...)."
            raise self.broken("a given tensor behind the * and without a default", wrong[0].name, hint)
        if self.given and (taken := self.given[0]) in ("t", LOSS, GRADIENT, NOISE):
            hint = f"Write hessian: GivenTensor({self.given[1]}), say."
            raise self.broken("a given tensor by a name of its own", taken, hint)
        if GivenTensor in self.annotations.values():
            raise self.broken(
                "a given tensor with its number of steps", "GivenTensor alone", "Write GivenTensor(every=10)."
            )
        first = [p.name for p in self._positional()[:2]]
        if first != ["p", "g"]:
            got = ", ".join(first) or "no positional parameter"
            raise self.broken(
                "p, g as the first two parameters", got, "p is the parameter, g its gradient; states follow."
            )
        if any(p.name == "t" and not _is_t(p) for p in self.parameters):
            expected = "t as the step number, behind the * and without a default"
            raise self.broken(expected, "another t", "Give it another name.")
        if any(p.name == GRADIENT and not _is_gradient(p) for p in self.parameters):
            expected = f"{GRADIENT}, the function that looks again, behind the * and without a default"
            raise self.broken(expected, f"another {GRADIENT}", "Give it another name; the gradient at p is g.")

    def _positional(self) -> list[Parameter]:
        return [p for p in self.parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]

    def _slot_parameters(self) -> Iterator[Parameter]:
        for parameter in self._positional()[2:]:
            if parameter.default is not parameter.empty:
                got = f"{parameter.name}={parameter.default!r}"
                raise self.broken("slots without default", got, "Put a * before the hyperparameters.")
            yield parameter

    def _hyper_parameters(self) -> Iterator[Parameter]:
        for parameter in self.parameters:
            if parameter.kind is not parameter.KEYWORD_ONLY or _is_t(parameter) or _is_gradient(parameter):
                continue
            if _is_loss(parameter):
                continue
            if self.given and parameter.name == self.given[0] and parameter.default is parameter.empty:
                continue
            if parameter.default is parameter.empty:
                hint = (
                    "A state stands before the star. A number has a default, as in "
                    f"{parameter.name}: Rate = 0.01; t, {LOSS} and {GRADIENT} alone have none."
                )
                raise self.broken("a default for every hyperparameter", f"none for {parameter.name}", hint)
            yield parameter

    def _hypers_of(self, parameter: Parameter) -> tuple[Hyper, ...]:
        """One hyperparameter; of a tuple, one per number."""
        name, default, annotation = parameter.name, parameter.default, self.annotations.get(parameter.name)
        try:
            if isinstance(default, tuple):
                found = family_from(name, default, annotation)
            else:
                found = (hyper_from(name, default, annotation),)
            for hyper in found:
                hyper.validate(hyper.default, self.name)
        except (InputError, InputTypeError) as error:
            raise RuleError(f"{self.code.co_filename}:{self.code.co_firstlineno}: {error}") from None
        return found

    def _slots_for_each(self, starred: Parameter, each: Each, tuples: Mapping[str, Sequence[str]]) -> list[Slot]:
        """The slots of a family: one per number of a hyperparameter that is a tuple."""
        if each.hyper not in tuples:
            expected = f"Each of a hyperparameter that is a tuple ({', '.join(tuples) or 'none'})"
            raise self.broken(expected, each.hyper, "Write betas=(0.9, 0.99), say.")
        numbers = range(1, len(tuples[each.hyper]) + 1)
        return [self._slot_of(f"{starred.name}{k}", self.annotations[starred.name]) for k in numbers]

    def _slot_of(self, name: str, annotation: object) -> Slot:
        try:
            return slot_from(name, annotation)
        except InputTypeError as error:
            raise RuleError(f"{self.code.co_filename}:{self.code.co_firstlineno}: slot {name}: {error}") from None

    def _check_names(self, slots: Sequence[Slot], hypers: Sequence[Hyper]) -> None:
        counts = Counter([*(s.name for s in slots), *(h.name for h in hypers), *names_of(self.looks)])
        if twice := next((name for name, count in counts.items() if count > 1), None):
            expected, hint = "a name for each slot and hyperparameter", "A family's are numbered: beta1, beta2."
            raise self.broken(expected, f"{twice} twice", hint)

    def _check_slot(self, slot: Slot, hypers: Sequence[Hyper]) -> None:
        if slot.is_number and slot.absent_at_first:
            expected = f"one number per {slot.of} that starts at a number"
            hint = f"Write OnePer{slot.of.title()}(0.0), say."
            raise self.broken(expected, f"{slot.name} that is absent at first", hint)
        numbers = [h.name for h in hypers if not h.is_plain]
        if isinstance(slot.start, str) and slot.start not in numbers:
            hint = "For what is computed, write AbsentAtFirst() and in the rule: if slot is None: slot = 2 * lr."
            known = ", ".join(["p", "g", *numbers])
            raise self.broken(f"slot {slot.name} to start at a number or at one of {known}", slot.start, hint)


def _supplied(what: str, count: int, letter: str, *, drawn: bool = False) -> list[Slot]:
    """What whoever steps a rule supplies, as slots."""
    letters = [letter if count == 1 else f"{letter}^{{({k})}}" for k in range(1, count + 1)]
    return [
        Slot(n, letter=own, looked=True, drawn=drawn) for n, own in zip(names_of(count, what), letters, strict=True)
    ]


def _is_t(parameter: Parameter) -> bool:
    """Whether it is the step number: keyword-only, without a default."""
    return parameter.name == "t" and parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty


def _is_loss(parameter: Parameter) -> bool:
    """Whether it is the loss of the step: keyword-only, without a default."""
    only = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    return parameter.name == LOSS and only


def _is_gradient(parameter: Parameter) -> bool:
    """Whether it is what looks again: keyword-only, without a default."""
    only = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    return parameter.name == GRADIENT and only


def _gathered(function: Callable[..., Any], families: Mapping[str, Sequence[str]]) -> Callable[..., Any]:
    """The function with the numbers of each family put together into its tuple."""
    if not families:
        return function

    @functools.wraps(function)
    def gathered(*args: Any, **hypers: Any) -> Any:
        tuples = {name: tuple(hypers.pop(n) for n in names) for name, names in families.items()}
        return function(*args, **hypers, **tuples)

    return gathered


def _started(function: Callable[..., Any], slots: Sequence[Slot]) -> Callable[..., Any]:
    """The function with slots that start at p or g put in place where they are absent."""
    starts = [slot.first for slot in slots]
    if not any(starts):
        return function

    @functools.wraps(function)
    def started(p: Any, g: Any, *held: Any, **hypers: Any) -> Any:
        first = {"p": p, "g": g}
        return function(
            p, g, *(first[s] if s and v is None else v for s, v in zip(starts, held, strict=True)), **hypers
        )

    return started
