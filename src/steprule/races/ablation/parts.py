"""What can be taken off a rule: flags, numbers that have a neutral value, parts that were put around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from steprule.compiler import formula
from steprule.compiler.variant import variant_of
from steprule.errors import InputError, InputTypeError, unknown_name
from steprule.hyper import Hyper, said
from steprule.per_kind import taken_apart
from steprule.races.competitor import Competitor, Entrant, competitor_of, entrant_of
from steprule.rules.parts import for_training
from steprule.rules.rule import Composed, Rule
from steprule.trainable import Optimizable, Stating, stated

DIRECTION = "maximize"
"""It says whether a rule goes up or down, and cannot be taken off."""
Chosen = Sequence[str] | Mapping[str, Any] | str | None
"""Parts by name; or by name with the value at which each is off, None for the value that is known."""


@dataclass(frozen=True)
class Part:
    """One part of a rule as it stands."""

    name: str
    """The hyperparameter's, or that of the function that was put around the rule."""
    meaning: str
    """What its author says of it."""
    off: str
    """How it is taken off: "nesterov=False"."""
    competitor: Competitor
    """The rule without it."""

    @property
    def label(self) -> str:
        """The name of the rule without it in the results."""
        return label_of(self.name)


def label_of(name: str) -> str:
    """How the rule without a part is called in the results."""
    return f"without {name}"


@dataclass(frozen=True)
class Taken:
    """A rule as it stands, and the parts that are taken off it."""

    whole: Competitor
    entrant: Entrant
    parts: tuple[Part, ...]
    idle: tuple[str, ...]
    """Flags that are on and change nothing as the rule stands: with each of them off the formula is the same."""


def taken_off(given: Optimizable | Competitor, chosen: Chosen = None) -> Taken:
    """A rule's parts: all that are known, or those that are chosen.

    Known are flags that are on, numbers that are searched or set away from the value at which they do nothing, and what was put around
    the rule by `before`, `behind` and the like and has no such number of its own. Whether the rule goes up or down cannot be taken off.

    Raises `InputError` where there is none; for one that is unknown, is off already, changes nothing, or of which nobody knows how
    it is taken off.
    """
    whole = competitor_of(given)
    entrant = entrant_of(whole)
    whole = replace(whole, label=entrant.label)
    one = _One(whole, entrant)
    if chosen is None:
        parts, idle = one.known()
        if not parts:
            raise _none(entrant, idle)
        return Taken(whole, entrant, tuple(parts), tuple(idle))
    if isinstance(chosen, str):
        chosen = [chosen]
    named = chosen if isinstance(chosen, Mapping) else dict.fromkeys(chosen)
    if not named:
        raise InputError("parts", expected="at least one", got="none")
    return Taken(whole, entrant, tuple(one.chosen(name, off) for name, off in named.items()), ())


def _none(entrant: Entrant, idle: Sequence[str]) -> InputError:
    expected = (
        "a part that can be taken off: a flag that is on, a number with a neutral value, or what before() put there"
    )
    got = f"flags that change nothing as it stands: {', '.join(idle)}" if idle else "none"
    if not entrant.is_rule:
        expected, got = "the parts of a class by name", "none"
    hint = "Name what is off at which value: --part NAME=OFF, parts={name: off}."
    return InputError(f"ablate {entrant.label}", expected=expected, got=got, hint=hint)


@dataclass(frozen=True)
class _One:
    """The rule whose parts are sought."""

    whole: Competitor
    entrant: Entrant

    def known(self) -> tuple[list[Part], list[str]]:
        """Its parts, and the flags that change nothing."""
        parts, idle = [], []
        for hyper in self._hypers.values():
            if not self._is_on(hyper, hyper.off):
                continue
            if self._changes_nothing(hyper, hyper.off):
                idle.append(hyper.name)
            else:
                parts.append(self._by_value(hyper.name, hyper.off))
        return [*parts, *map(self._by_structure, self._around)], idle

    def chosen(self, name: str, off: Any) -> Part:
        """The part of that name, off at the value that is given, or at the one that is known."""
        around = {own.name: own for own in self._around}
        if name in around and off is None:
            return self._by_structure(around[name])
        if not self.entrant.is_rule:
            return self._of_class(name, off)
        rule: Any = stated(self.entrant.what)
        if not isinstance(name, str) or name not in rule.settings:
            known = [*(n for n, h in self._hypers.items() if h.off is not None), *around]
            raise unknown_name("part", name, [*known, *(n for n in rule.settings if n not in known)],
                               where=f" of {self.entrant.label}")  # fmt: skip
        hyper = rule.setting(name)
        what = f"part {name} of {self.entrant.label}"
        off = hyper.off if off is None else hyper.validate(off, self.entrant.label)
        if off is None:
            hint = f"Write --part {name}=0, say; in Python parts={{{name!r}: 0}}."
            raise InputError(what, expected="the value at which it is off", got="none", hint=hint)
        if not self._is_on(hyper, off):
            search = "" if hyper.is_plain else f", or search it with --vary {name}"
            hint = f"Set it: --set {name}={True if hyper.is_flag else 'VALUE'}{search}."
            raise InputError(what, expected="a part that is on", got=f"{name}={said(off)}, which is off", hint=hint)
        if self._changes_nothing(hyper, off):
            got = f"the same formula with {name}={said(off)}"
            raise InputError(what, expected="a part that changes the step", got=got)
        return self._by_value(name, off)

    @property
    def _hypers(self) -> dict[str, Hyper]:
        """By name what a rule may be told; nothing of a class."""
        what = self.entrant.what
        found = stated(what).hypers if isinstance(what, Stating) else ()
        return {h.name: h for h in found if h.given is None and taken_apart(h.name)[1] != DIRECTION}

    @property
    def _around(self) -> list[Composed]:
        """What was put around the rule and has no number that takes it off; where the model is read must be the same without it."""
        what = self.entrant.what
        found = []
        for own in what.parts if isinstance(what, Rule) else ():
            bare = own.bare()
            kept = {h.name for h in bare.hypers}
            switched = any(h.name not in kept and h.off is not None for h in what.hypers)
            if bare.point is what.point and not switched:
                found.append(own)
        return found

    def _is_on(self, hyper: Hyper, off: Any) -> bool:
        """Whether it is searched, or stands at another value than the one at which it is off."""
        if off is None:
            return False
        return hyper.name in self.entrant.space or bool(self._set.get(hyper.name, off) != off)

    @property
    def _set(self) -> dict[str, Any]:
        """What the rule stands at."""
        return {**stated(self.entrant.what).settings, **self.entrant.fixed}

    def _changes_nothing(self, hyper: Hyper, off: Any) -> bool:
        """Whether a plain value is nowhere asked for as the rule stands: the formula is the same with another."""
        if not hyper.is_plain or not isinstance(self.entrant.what, Rule):
            return False
        rule, shown = for_training(self.entrant.what), self.entrant.shown
        on, without = (formula.whole(variant_of(rule, at)) for at in (shown, {**shown, hyper.name: off}))
        return on == without

    def _by_value(self, name: str, off: Any) -> Part:
        space = self.whole.space
        if space is not None:
            space = {n: s for n, s in space.items() if n != name}
        hyper = self._hypers.get(name)
        hypers = {**self.entrant.fixed, name: off}
        own = replace(self.whole, space=space, hypers=hypers, label=label_of(name))
        return Part(name, hyper.meaning if hyper else "", f"{name}={said(off)}", own)

    def _by_structure(self, own: Composed) -> Part:
        bare = own.bare()
        known = stated(bare).settings
        space = self.whole.space
        if space is not None:
            space = {n: s for n, s in space.items() if n in known}
        hypers = {n: v for n, v in self.entrant.fixed.items() if n in known}
        competitor = replace(self.whole, optimizer=bare, space=space, hypers=hypers, label=label_of(own.name))
        return Part(own.name, own.summary, "left out", competitor)

    def _of_class(self, name: str, off: Any) -> Part:
        """A part of a class; its value when off must be given. Whether the class takes it is seen when the entrant is made."""
        if off is None:
            hint = f"Write --part {name}=0, say; in Python parts={{{name!r}: 0}}."
            raise InputError(
                f"part {name} of {self.entrant.label}", expected="the value at which it is off", got="none", hint=hint
            )
        if not isinstance(name, str):
            raise InputTypeError("parts", expected="names", got=repr(name))
        return self._by_value(name, off)
