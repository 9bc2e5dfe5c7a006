"""`@rule`: a function that states one optimizer step becomes a `Rule`, and its signature is the contract.

    @rule
    def rmsprop(p, g, square_avg, *, lr: Rate = 0.01, alpha: Decay = 0.99, eps: Epsilon = 1e-8):
        square_avg = alpha * square_avg + (1 - alpha) * g * g
        return p - lr * g / (sqrt(square_avg) + eps), square_avg

`p, g`: a parameter and its gradient. Further positional names: the slots. Keyword-only names: hyperparameters, each with
a default; a keyword-only `t` without default is the step number, from 1. It returns the new `p`, then the new slots.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, get_type_hints, overload

from steprule.arithmetic import computing
from steprule.errors import InputError, InputTypeError, RuleError, unknown_name
from steprule.hyper import Hyper, Slot, each_of, family_from, hyper_from, slot_from


@dataclass(frozen=True)
class Paper:
    """Where a rule was published."""

    authors: str
    year: int
    title: str
    url: str

    def __str__(self) -> str:
        return f"{self.authors} ({self.year}). {self.title}. {self.url}"


@dataclass(frozen=True, eq=False)
class Rule:
    """An optimizer step as a pure function of one parameter, its gradient and its slots.

    Calling it runs the author's function: on Python floats, numpy arrays or torch tensors, with hyperparameters at their
    defaults unless given. A slot that is None, or left out at the end, is absent.

    >>> from steprule import rules
    >>> p, square_avg = rules.rmsprop_eps_inside(1.0, 2.0, 0.0, lr=0.1, alpha=0.9)
    >>> round(p, 6), round(square_avg, 6)
    (0.683773, 0.4)
    """

    name: str
    function: Callable[..., Any]
    slots: tuple[Slot, ...]
    hypers: tuple[Hyper, ...]
    takes_t: bool
    summary: str = ""
    paper: Paper | None = None
    codes: tuple[CodeType, ...] = field(default=(), repr=False)
    """The code of the author's functions: their local names name the quantities, their lines stand in errors."""

    def __call__(self, p: Any, g: Any, *slots: Any, **hypers: Any) -> Any:
        """The new p and the new slots, as a tuple; p alone where the rule has no slots and returns it so."""
        known = {"t"} if self.takes_t else set()
        if unknown := set(hypers) - known - {h.name for h in self.hypers}:
            raise self._unknown(unknown.pop())
        if len(slots) > len(self.slots):
            names = ", ".join(s.name for s in self.slots) or "none"
            raise InputTypeError(
                f"{self.name}: slots", expected=f"at most {len(self.slots)} ({names})", got=f"{len(slots)}"
            )
        if self.takes_t and "t" not in hypers:
            raise InputTypeError(
                f"{self.name}: t", expected="the number of this step, from 1", got="nothing", hint="Write t=1."
            )
        slots = (*slots, *(None for _ in self.slots[len(slots) :]))
        values = {**self.defaults, **hypers}
        with computing(p, [p, g, *slots, *values.values()]) as (lifted, back):
            numbers = dict(zip(values, lifted[2 + len(slots) :], strict=True))
            numbers |= {h.name: values[h.name] for h in self.hypers if h.is_plain}
            result = self.function(*lifted[: 2 + len(slots)], **numbers)
            if not isinstance(result, tuple):
                return back(result, element=True)
            single = {k for k, s in enumerate(self.slots, start=1) if s.per_tensor}
            full = single | {k for k, s in enumerate(self.slots, start=1) if s.full_precision}
            return tuple(back(v, k in full, v is not None and k not in single) for k, v in enumerate(result))

    def __steprule_identity__(self) -> tuple[object, ...]:
        """What decides its steps, for `steprule.identity`: not its name, summary and paper."""
        return self.function, self.slots, self.hypers, self.takes_t

    @property
    def defaults(self) -> dict[str, Any]:
        """Each hyperparameter's default, by name."""
        return {h.name: h.default for h in self.hypers}

    @property
    def settings(self) -> dict[str, Any]:
        """The same of those that are one's own to set: not of what whoever steps the rule supplies."""
        return {h.name: h.default for h in self.hypers if h.given is None}

    @functools.cached_property
    def betas(self) -> tuple[str, ...]:
        """Its hyperparameters beta1, beta2 and so on, which users may give together; none where it has less than two."""
        count = next(k for k in itertools.count(1) if f"beta{k}" not in self.defaults) - 1
        return tuple(f"beta{k + 1}" for k in range(count)) if count > 1 else ()

    @property
    def lines(self) -> tuple[str, int]:
        """The author's file and the line at which the function begins."""
        return self.codes[0].co_filename, self.codes[0].co_firstlineno

    def hyper(self, name: str) -> Hyper:
        """The hyperparameter of that name. Raises `UnknownNameError` with the nearest one."""
        for hyper in self.hypers:
            if hyper.name == name:
                return hyper
        raise self._unknown(name)

    def setting(self, name: str) -> Hyper:
        """The same, if it is one's own to set. Raises `UnknownNameError` also for what whoever steps the rule supplies (`Given`)."""
        hyper = self.hyper(name)
        if hyper.given is not None:
            raise self._unknown(name)
        return hyper

    def bind(self, hypers: Mapping[str, Any]) -> dict[str, Any]:
        """All hyperparameters as checked plain values: those given, the rest at their defaults.

        `betas=(0.9, 0.999)`, as torch's constructors say, is taken as `beta1, beta2`, and so on to the rule's last.
        """
        given, names = dict(hypers), self.betas
        if "betas" in given and names:
            betas = given.pop("betas")
            if not isinstance(betas, tuple | list) or len(betas) != len(names):
                wanted = {2: "two", 3: "three"}.get(len(names), str(len(names)))
                raise InputTypeError(f"{self.name}: betas", expected=f"{wanted} numbers", got=repr(betas))
            if twice := set(names) & set(given):
                raise InputError(f"{self.name}: betas", expected=f"either betas or {twice.pop()}", got="both")
            given |= zip(names, betas, strict=True)
        return {**self.defaults, **{n: self.setting(n).validate(v, self.name) for n, v in given.items()}}

    def variants(self) -> Iterator[dict[str, Any]]:
        """Each combination of what switches: flags off and on, each choice, numbers that are off at zero at 0 and at 0.5. Whole
        numbers stay at their defaults."""
        switching = [h for h in self.hypers if h.switches]
        for values in itertools.product(*(h.samples() for h in switching)):
            yield dict(zip((h.name for h in switching), values, strict=True))

    def _unknown(self, name: str) -> Exception:
        return unknown_name("hyperparameter", name, self.settings, where=f" of {self.name}")


@overload
def rule(function: Callable[..., Any], /) -> Rule: ...
@overload
def rule(*, name: str | None = None, paper: Paper | None = None) -> Callable[[Callable[..., Any]], Rule]: ...
def rule(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, paper: Paper | None = None
) -> Rule | Callable[[Callable[..., Any]], Rule]:
    """Make a `Rule` of a function; `@rule` or `@rule(name=..., paper=...)`.

    Raises `RuleError`, with the author's file and line, where the signature breaks the contract.
    """
    if function is None:
        return lambda f: _rule_from(f, name or f.__name__, paper)
    return _rule_from(function, function.__name__, None)


def _rule_from(function: Callable[..., Any], name: str, paper: Paper | None) -> Rule:
    code = function.__code__

    def broken(expected: str, got: str, hint: str) -> RuleError:
        return RuleError(
            f"{code.co_filename}:{code.co_firstlineno}: rule {name}", expected=expected, got=got, hint=hint
        )

    try:
        annotations = get_type_hints(function, include_extras=True)
    except Exception as error:
        raise broken("annotations that can be evaluated", str(error), "Import the names it annotates with.") from error
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keyword = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    starred = next((p for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    each = each_of(annotations.get(starred.name)) if starred else None
    if (starred and not each) or any(p.kind is p.VAR_KEYWORD for p in parameters):
        got = str(starred or parameters[-1])
        hint = 'For a family of slots, one a number of a hyperparameter, write *buffers: Each("betas").'
        raise broken("every slot and hyperparameter by name", got, hint)
    if [p.name for p in positional[:2]] != ["p", "g"]:
        got = ", ".join(p.name for p in positional[:2]) or "no positional parameter"
        raise broken("p, g as the first two parameters", got, "p is the parameter, g its gradient; states follow.")
    slots: list[Slot] = []
    hypers: list[Hyper] = []
    for parameter in positional[2:]:
        if parameter.default is not parameter.empty:
            got = f"{parameter.name}={parameter.default!r}"
            raise broken("slots without default", got, "Put a * before the hyperparameters.")
        slots.append(slot_from(parameter.name, annotations.get(parameter.name)))
    families: dict[str, list[str]] = {}
    """Tuples of numbers, and what each of them is called."""
    if any(p.name == "t" and (p.kind is not p.KEYWORD_ONLY or p.default is not p.empty) for p in parameters):
        raise broken("t as the step number, behind the * and without a default", "another t", "Give it another name.")
    for parameter in keyword:
        if parameter.name == "t" and parameter.default is parameter.empty:
            continue
        if parameter.default is parameter.empty:
            hint = f"A state stands before the star. A number has a default, as in {parameter.name}: Rate = 0.01; t alone has none."
            raise broken("a default for every hyperparameter", f"none for {parameter.name}", hint)
        try:
            about = parameter.name, parameter.default, annotations.get(parameter.name)
            found = family_from(*about) if isinstance(parameter.default, tuple) else (hyper_from(*about),)
            for hyper in found:
                hyper.validate(hyper.default, name)
        except (InputError, InputTypeError) as error:
            raise RuleError(f"{code.co_filename}:{code.co_firstlineno}: {error}") from None
        if isinstance(parameter.default, tuple):
            families[parameter.name] = [hyper.name for hyper in found]
        hypers += found
    if starred and each:
        if each.hyper not in families:
            known = ", ".join(families) or "none"
            raise broken(
                f"Each of a hyperparameter that is a tuple ({known})", each.hyper, "Write betas=(0.9, 0.99), say."
            )
        own = annotations[starred.name]
        slots += [slot_from(f"{starred.name}{k + 1}", own) for k in range(len(families[each.hyper]))]
    if twice := [n for n, count in Counter([*(s.name for s in slots), *(h.name for h in hypers)]).items() if count > 1]:
        raise broken(
            "a name for each slot and hyperparameter", f"{twice[0]} twice", "A family's are numbered: beta1, beta2."
        )
    for hyper in hypers:
        if hyper.given is not None and hyper.given.reduction:
            got = f"Given(reduction=True) for {hyper.name}"
            raise broken(
                "a number that is known when the step begins", got, "Only steprule's own clip by norm has another."
            )
    for slot in slots:
        if slot.per_tensor and slot.absent_at_first:
            got = f"{slot.name} that is absent at first"
            raise broken("one number a tensor that starts at a number", got, "Write OnePerTensor(0.0), say.")
        if isinstance(slot.start, str) and slot.start not in {h.name for h in hypers if not h.is_plain}:
            names = ", ".join(["p", "g", *(h.name for h in hypers if not h.is_plain)])
            hint = "For what is computed, write AbsentAtFirst() and in the rule: if slot is None: slot = 2 * lr."
            raise broken(f"slot {slot.name} to start at a number or at one of {names}", slot.start, hint)
    takes_t = any(p.name == "t" and p.default is p.empty for p in keyword)
    summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
    function = _started(_gathered(function, families), slots)
    return Rule(name, function, tuple(slots), tuple(hypers), takes_t, summary, paper, (code,))


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
