"""Reads options as they are typed: `--set lr=0.4`, `--set adam.lr=0.1`, `--vary lr=1e-4..1`, `--start -5,-2`."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steprule.cli import output
from steprule.errors import InputError, InputTypeError, unknown_name
from steprule.hyper import Hyper, Scale, Search
from steprule.per_kind import PerKind, taken_apart
from steprule.rules.load import load_object
from steprule.rules.parts import composed
from steprule.rules.rule import Rule
from steprule.trainable import Stating, Trainable


@dataclass(frozen=True)
class Taker:
    """A rule, a class or a factory that takes settings, with the names that it answers to."""

    who: Trainable
    names: tuple[str, ...]
    """The first one is shown."""

    def parsed(self, name: str, value: str, text: str) -> Any:
        """The value that was typed in `text`, in the type that this one takes."""
        if self.who.rule is not None:
            return _parsed(self.who.rule, name, value)
        return _of_class(self.who.defaults.get(name), value, text)


def taker_of(who: Trainable, typed: str, label: str = "") -> Taker:
    """What takes settings by its label, or by its own name where it has no label, and by the word that was typed for it."""
    shown = label or who.name
    return Taker(who, (shown, typed) if who.is_rule else (shown, typed, shown.removeprefix("torch.optim.")))


def walker_of(rule: Rule, typed: str) -> Taker:
    """The same of a rule that is shown or walked, where nothing clips."""
    walks = composed(rule)
    return Taker(Trainable(walks, walks), (rule.name, typed))


def settings_for(takers: Sequence[Taker], texts: Sequence[str]) -> list[dict[str, Any]]:
    """The hyperparameters of each: `name=value` is for all that have the name, `who.name=value` for one.

    Says on stderr which of them lack the name. Raises `InputError` where all lack it, or a value does not fit.
    """
    found: list[dict[str, Any]] = [{} for _ in takers]
    for text in texts:
        target, name, value = _taken_apart(text)
        for k in _having(takers, target, name, f"--set {text}"):
            found[k][name] = takers[k].parsed(name, value, text)
    return found


def searches_for(takers: Sequence[Taker], texts: Sequence[str]) -> list[dict[str, Search]]:
    """The ranges that each searches too: `name` or `name=low..high` is for all that have the name, `who.name` for one.

    Raises as `settings_for` does.
    """
    found: list[dict[str, Search]] = [{} for _ in takers]
    for text in texts:
        left, _, bounds = text.partition("=")
        target, _, name = left.strip().rpartition(".")
        for k in _having(takers, target, name, f"--vary {text}"):
            rule = takers[k].who.rule
            if rule is None:
                found[k][name] = _range_of_class(name, bounds, text)
            elif rule.setting(name).is_plain:
                got = f"{name}, which is {rule.hyper(name).range}"
                raise InputError(f"--vary {text}", expected="a number with a fraction", got=got, hint="Write --set.")
            else:
                found[k][name] = _range(rule, rule.setting(name), bounds, text)
    return found


def _having(takers: Sequence[Taker], target: str, name: str, option: str) -> list[int]:
    """The places of those who have a hyperparameter, among those that `target` names, or among all.

    Says on stderr which of them lack it. Raises `InputError` where all lack it.
    """
    asked = [k for k, taker in enumerate(takers) if not target or target in taker.names]
    if not asked:
        known = dict.fromkeys(taker.names[0] for taker in takers)
        kind = "rule" if all(t.who.is_rule for t in takers) else "optimizer"
        raise unknown_name(kind, target, known, where=f" in {option}")
    having = [k for k in asked if takers[k].who.accepts(name)]
    if not having:
        names = dict.fromkeys(n for k in asked for n in takers[k].who.known)
        of = ", ".join(dict.fromkeys(takers[k].names[0] for k in asked))
        raise unknown_name("hyperparameter", name, names, where=f" of {of}")
    if without := [takers[k].names[0] for k in asked if k not in having]:
        output.note(f"{option}: {', '.join(without)} {'has' if len(without) == 1 else 'have'} no {name}.")
    return having


def ranges_for(taker: Taker, texts: Sequence[str]) -> dict[str, Search]:
    """The ranges to draw from: `name` for the rule's own, `name=low..high` for another. None: the learning rate's."""
    rule = taker.who.rule
    if rule is None:
        return searches_for([taker], texts or (["lr=1e-5..10"] if "lr" in taker.who.known else []))[0]
    found = {}
    usual = [name for name in rule.defaults if taken_apart(name)[1] == "lr"]
    for text in texts or usual:
        name, _, bounds = text.partition("=")
        hyper = rule.setting(name.strip())
        if hyper.is_plain and not hyper.is_whole:
            expected, got = "a number, which has a range", f"{hyper.name}, which is {hyper.range}"
            hint = "Write --set, and one sweep per value."
            raise InputError(f"--vary {text}", expected=expected, got=got, hint=hint)
        found[hyper.name] = _range(rule, hyper, bounds, text)
    return found


def _range(rule: Stating, hyper: Hyper, bounds: str, text: str) -> Search:
    """The range of a rule's number: as it was typed, or its own."""
    if not bounds:
        if hyper.search is None:
            raise InputError(f"--vary {text}", expected="a range", got="none", hint=f"Write {hyper.name}=low..high.")
        return hyper.search
    ends = [float(hyper.parse(end, rule.name)) for end in _ends(bounds, text)]
    return _search(ends, hyper.search.scale if hyper.search else "linear", bounds, text)


def _range_of_class(name: str, bounds: str, text: str) -> Search:
    """The range of a class's argument, whose bounds nothing declares: logarithmic where it begins above 0."""
    if not bounds:
        raise InputError(f"--vary {text}", expected="a range", got="none", hint=f"Write {name}=low..high.")
    try:
        ends = [float(end) for end in _ends(bounds, text)]
    except ValueError:
        raise InputError(f"--vary {text}", expected="two numbers", got=repr(bounds), hint="lr=1e-4..1") from None
    return _search(ends, "log" if ends[0] > 0 else "linear", bounds, text)


def _ends(bounds: str, text: str) -> tuple[str, str]:
    low, dots, high = bounds.partition("..")
    if not dots:
        raise InputError(f"--vary {text}", expected="name or name=low..high", got=repr(bounds), hint="lr=1e-4..1")
    return low, high


def _search(ends: Sequence[float], scale: Scale, bounds: str, text: str) -> Search:
    if not ends[0] < ends[1] or (scale == "log" and ends[0] <= 0) or not math.isfinite(ends[1]):
        least = "above 0 " if scale == "log" else ""
        raise InputError(f"--vary {text}", expected=f"low {least}and below high", got=repr(bounds))
    return Search(ends[0], ends[1], scale)


def log_of(text: str | None) -> Callable[[int, Mapping[str, float]], object] | None:
    """The user's function that receives each step's numbers. An error in it becomes one line that names the user's own line."""
    if text is None:
        return None
    from steprule.foreign import refusal

    function = load_object(text, kind="log")
    if not callable(function):
        raise InputTypeError(f"--log {text}", expected="a function (step, numbers)", got=repr(function)[:60])

    def log(step: int, numbers: Mapping[str, float]) -> None:
        try:
            function(step, numbers)
        except Exception as error:
            raise refusal(f"--log {text}, step {step}", error) from error

    return log


def point(text: str | None) -> tuple[float, float] | None:
    """`-5,-2` as a point."""
    if text is None:
        return None
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError("--start", expected="two numbers x,y", got=repr(text), hint="Write --start=-5,-2.") from None
    return x, y


def _taken_apart(text: str) -> tuple[str, str, str]:
    left, sign, value = text.partition("=")
    if not sign or not left or not value:
        raise InputError("--set", expected="name=value or rule.name=value", got=repr(text), hint="Write --set lr=0.1.")
    target, _, name = left.strip().rpartition(".")
    return target, name, value.strip()


def _parsed(rule: Stating, name: str, value: str) -> Any:
    names = rule.betas_of(name) if isinstance(rule, PerKind) else rule.tuples.get(name, ())
    if not names:
        return rule.hyper(name).parse(value, rule.name)
    parts = value.strip("()").split(",")
    return tuple(rule.hyper(n).parse(v, rule.name) for n, v in zip(names, parts, strict=False))


def _of_class(default: Any, value: str, text: str) -> Any:
    """The value of a class's or factory's argument, as Python writes it."""
    found: Any
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        words = {"true": True, "false": False, "nan": float("nan"), "inf": float("inf")}
        found = words.get(value.lower(), value)
    if isinstance(default, int | float) and isinstance(found, str):
        raise InputTypeError(f"--set {text}", expected="a number or True or False", got=repr(value))
    return found
