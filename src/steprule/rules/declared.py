"""What a rule declares: its slots, which a step keeps or is supplied with, and its hyperparameters."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steprule.errors import InputError, InputTypeError, unknown_name
from steprule.hyper import OF_THE_LOSS, Hyper, Slot


@dataclass(frozen=True, eq=False)
class Declared:
    """What can be said of a rule without its function."""

    name: str
    slots: tuple[Slot, ...]
    hypers: tuple[Hyper, ...]
    takes_t: bool
    """Whether it asks for the number of the step."""

    @functools.cached_property
    def looked(self) -> tuple[str, ...]:
        """The slots that are no states, in order: the noise that a step draws, then the gradients at the points to which it looks."""
        return tuple(s.name for s in self.slots if s.looked)

    @property
    def looks_twice(self) -> bool:
        """Whether a step asks for the gradient elsewhere."""
        return any(s.looked and not s.drawn for s in self.slots)

    @property
    def asks_for_loss(self) -> bool:
        """Whether a step asks for the loss of its batch."""
        return OF_THE_LOSS in self.hypers

    @property
    def draws(self) -> int:
        """How often a step draws noise."""
        return sum(s.drawn for s in self.slots)

    @functools.cached_property
    def states(self) -> tuple[Slot, ...]:
        """The slots that a step keeps for the next one."""
        return tuple(s for s in self.slots if not s.looked)

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

    @functools.cached_property
    def tuples(self) -> dict[str, tuple[str, ...]]:
        """What users may give together, by the name for all of it: `betas`, and each tuple of two or more in the signature."""
        found: dict[str, tuple[str, ...]] = {}
        for hyper in self.hypers:
            if hyper.family:
                found[hyper.family] = (*found.get(hyper.family, ()), hyper.name)
        found["betas"] = self.betas
        return {name: members for name, members in found.items() if len(members) > 1}

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

        `betas=(0.9, 0.999)`, as torch's constructors say, is taken as `beta1, beta2`, and so on to the rule's last; `tuples` names
        all that can be given so.
        """
        given = dict(hypers)
        for name, members in self.tuples.items():
            if name not in given:
                continue
            values = given.pop(name)
            if not isinstance(values, tuple | list) or len(values) != len(members):
                wanted = {2: "two", 3: "three"}.get(len(members), str(len(members)))
                raise InputTypeError(f"{self.name}: {name}", expected=f"{wanted} numbers", got=repr(values))
            if twice := set(members) & set(given):
                raise InputError(f"{self.name}: {name}", expected=f"either {name} or {twice.pop()}", got="both")
            given |= zip(members, values, strict=True)
        return {**self.defaults, **{n: self.setting(n).validate(v, self.name) for n, v in given.items()}}

    def shown(self, hypers: Mapping[str, Any]) -> dict[str, Any]:
        """The same of those that are one's own to set, as results show them."""
        bound = self.bind(hypers)
        return {n: bound[n] for n in self.settings}

    def variants(self) -> Iterator[dict[str, Any]]:
        """Each combination of what switches: flags off and on, each choice, numbers that are off at zero at 0 and at 0.5. Whole
        numbers stay at their defaults."""
        switching = [h for h in self.hypers if h.switches]
        for values in itertools.product(*(h.samples() for h in switching)):
            yield dict(zip((h.name for h in switching), values, strict=True))

    def _unknown(self, name: str) -> Exception:
        return unknown_name("hyperparameter", name, self.settings, where=f" of {self.name}")
