"""Finds the known rule that walks like a stranger, among every catalogue rule, its variants and its slips."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from steprule import rules
from steprule.checking import probe
from steprule.checking.mutants import mutants
from steprule.checking.probe import Formula, Gap
from steprule.checking.stranger import Stranger, numbers_of, of_class, of_rule
from steprule.compiler.variant import variant_of
from steprule.errors import InputTypeError
from steprule.per_kind import PerKind
from steprule.rules.parts import composed
from steprule.rules.rule import Rule
from steprule.trainable import Optimizable, Trainable

NEAR = 0.1
"""A walk is near while it ends off by at most this share of its way."""
TUTORIAL_MOMENTUM = 0.9  # the usual number in a function that has no hyperparameter for it


@dataclass(frozen=True)
class Nearest:
    """The known rule that a stranger is, or is nearest to."""

    name: str
    """The stranger's name."""
    rule: str | None
    """The rule's name in the catalogue; None where no rule is near."""
    settings: Mapping[str, float | bool] = field(default_factory=dict)
    """The rule's switches and flags that differ from their defaults here."""
    slip: str = ""
    """The change that makes the rule walk like the stranger."""
    fixed: Mapping[str, float] = field(default_factory=dict)
    """The rule's numbers, with their values, for which the stranger has no hyperparameter."""
    left: tuple[str, ...] = ()
    """The stranger's numbers that the rule lacks; they stayed at their defaults."""
    step: int | None = None
    """The first step at which they part; None where they never do."""
    how: str = ""
    """By how much they part."""

    @property
    def same(self) -> bool:
        """Whether the stranger is this very rule, without a slip."""
        return self.rule is not None and self.step is None and not self.slip

    @property
    def called(self) -> str:
        """The rule with its switches: "sgd with nesterov"."""
        on = [n if v is True else f"{n}={v:g}" for n, v in self.settings.items()]
        return f"{self.rule} with {', '.join(on)}" if on else str(self.rule)

    def __str__(self) -> str:
        if self.rule is None:
            return f"nearest: none near; {self.how}"
        text = f"nearest: {self.called}"
        if self.step is not None and self.step > 1:
            return f"{text} until step {self.step}: {self.how}"
        if self.step is not None:
            return f"{text}, {self.how}"
        text += f", but for one thing ({self.slip}); with that" if self.slip else ","
        text += f" the same for {probe.STEPS} steps"
        notes = []
        if self.settings.get("maximize"):
            notes.append("it goes up: the sign of the step is reversed")
        notes += [f"{n}={v:g} fixed" for n, v in self.fixed.items()]
        notes += [f"{n} at its default" for n in self.left]
        return f"{text} ({', '.join(notes)})" if notes else text

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "same": self.same, "words": str(self)}


def which(thing: Optimizable) -> Nearest:
    """The known rule that `thing` is, or is nearest to, by its steps on a probe walk.

    `thing`: a rule in any way to say one, an Optimizer class, a factory `params -> optimizer`, or the words `torch.optim:Adam` and
    `file.py:make_optimizer`. It takes 40 steps in float64 on one 3x4 matrix, with every known hyperparameter away from its neutral
    value; flags stay as they are. Rules that differ between tensors alone, as DoG and LDoG, are the same there; of these it says the
    one that is called as `thing` is.

    Raises `StepruleError` where it is not found or cannot step.

    >>> print(which("torch.optim:AdamW"))
    nearest: adamw, the same for 40 steps
    """
    found = Trainable.of(thing).what
    if isinstance(found, PerKind):
        raise InputTypeError("which", expected="one rule", got=found.name, hint="Ask for each of its rules apart.")
    return nearest(of_rule(found) if isinstance(found, Rule) else of_class(found))


def nearest(stranger: Stranger) -> Nearest:
    """The catalogue's rule with the same walk: as it is, with its switches set, with one slip; else the nearest."""
    if not probe.moves(stranger.walk(frozenset(stranger.numbers))):
        return Nearest(stranger.name, None, how="it never moves")
    parted: list[tuple[Known, Gap]] = []
    # Rules that differ between tensors alone, as DoG and LDoG, walk the same on the one of the probe: then a name decides.
    for known in sorted(_catalogue(), key=lambda k: (len(k.settings), k.rule.name != stranger.name.lower())):
        here = Known.beside(known.rule, stranger, known.settings)
        gap = here.gap_from(stranger)
        if gap is None:
            return here.found(stranger)
        parted.append((here, gap))
    return (
        _read_elsewhere(stranger, parted)
        or _with_slip(stranger, parted)
        or _together_longest(stranger, parted)
        or _nearest_end(stranger, parted)
    )


def _read_elsewhere(stranger: Stranger, parted: list[tuple[Known, Gap]]) -> Nearest | None:
    """A rule that steps the same, and whose model is read elsewhere."""
    for here, gap in parted:
        if gap.only_read and here.gap_from(stranger, read=False) is None:
            return here.found(stranger, slip="the model is read elsewhere")
    return None


def _with_slip(stranger: Stranger, parted: list[tuple[Known, Gap]]) -> Nearest | None:
    """A rule that one slip makes the same. A slip in a variant that is not the default would be two differences."""
    for here, _ in parted:
        if here.settings:
            continue
        for slip in mutants(here.formula(here.hypers(stranger))):
            if here.gap_from(stranger, slip.formula) is None:
                return here.found(stranger, slip=slip.words)
    return None


def _together_longest(stranger: Stranger, parted: list[tuple[Known, Gap]]) -> Nearest | None:
    """The rule that parts last; else a rule whose every step is multiplied by one factor."""

    def rank(pair: tuple[Known, Gap]) -> tuple[int, bool, float]:
        # The one that stays together longest; among equals one that differs by a factor with a name; then the smallest difference.
        here, gap = pair
        return gap.step, bool(_name_of_factor(gap, here.values(stranger))), -gap.share

    here, gap = max(parted, key=rank)
    if gap.step > 1:
        return here.found(stranger, step=gap.step, how=_in_words(gap, here.values(stranger)))
    for here, gap in parted:
        if not here.settings and (slip := multiplied(here, gap, stranger)):
            return here.found(stranger, slip=slip)
    return None


def multiplied(here: Known, gap: Gap | None, stranger: Stranger) -> str:
    """That the stranger's every step is the rule's, multiplied by one factor; empty where it is not."""
    if gap is None or gap.factor is None or here.gap_from(stranger, factor=gap.factor) is not None:
        return ""
    return f"each step is multiplied by {_factor(gap, here.values(stranger))}"


def _nearest_end(stranger: Stranger, parted: list[tuple[Known, Gap]]) -> Nearest:
    """The rule that ends nearest, where that is near."""
    distances = [here.distance_from(stranger) for here, _ in parted]
    apart = min(distances)
    here, _ = parted[distances.index(apart)]
    off = f"{_off(apart)} after {probe.STEPS} steps"
    if apart <= NEAR:
        return here.found(stranger, step=1, how=off)
    how = f"{here.rule.name} is {off}" if math.isfinite(apart) else "its walk is not finite"
    return Nearest(stranger.name, None, how=how)


@dataclass(frozen=True)
class Known:
    """A known rule with some of its switches set, beside a stranger."""

    rule: Rule
    settings: Mapping[str, float | bool]
    names: Mapping[str, str]
    """The stranger's name for each of the rule's numbers that it has."""

    @classmethod
    def beside(cls, rule: Rule, stranger: Stranger, settings: Mapping[str, float | bool] | None = None) -> Known:
        """The rule beside this stranger, with the names of their numbers matched."""
        return cls(rule, settings or {}, probe.matched(numbers_of(rule), stranger.numbers))

    def values(self, stranger: Stranger) -> dict[str, float]:
        """The stranger's numbers on this walk: as the probe sets them where the rule has them, else their defaults."""
        matched = self.names.values()
        return {**stranger.numbers, **{n: v for n, v in stranger.set_to.items() if n in matched}}

    def hypers(self, stranger: Stranger) -> dict[str, Any]:
        """The rule's hyperparameters on this walk."""
        values = self.values(stranger)
        return {**self.rule.defaults, **self.settings, **{n: values[ours] for n, ours in self.names.items()}}

    def formula(self, hypers: Mapping[str, Any]) -> Formula:
        """The rule's graphs with these hyperparameters."""
        return formula_of(self.rule, hypers)

    def gap_from(
        self,
        stranger: Stranger,
        formula: Formula | None = None,
        factor: float = 1.0,
        finite: int = probe.FEWEST,
        *,
        read: bool = True,
    ) -> Gap | None:
        """Where the stranger parts from the rule, or from another formula with its numbers.

        `factor`, `finite` and `read` are those of `first_gap`.
        """
        hypers = self.hypers(stranger)
        ours = stranger.walk(frozenset(self.names.values()))
        return probe.first_gap(ours, (formula or self.formula(hypers)).walk(hypers), factor, finite, read=read)

    def distance_from(self, stranger: Stranger) -> float:
        """How far apart they end."""
        hypers = self.hypers(stranger)
        return probe.distance(stranger.walk(frozenset(self.names.values())), self.formula(hypers).walk(hypers))

    def found(self, stranger: Stranger, *, slip: str = "", step: int | None = None, how: str = "") -> Nearest:
        """The answer that it is this rule."""
        hypers = self.hypers(stranger)
        fixed = {}
        for name in numbers_of(self.rule):
            if name not in self.names and name not in self.settings and hypers[name] != 0:
                fixed[name] = hypers[name]
        left = tuple(n for n, v in stranger.numbers.items() if n not in self.names.values() and v != 0)
        settings = dict(self.settings)
        switches = {h.name for h in self.rule.hypers if h.off_at_zero}
        for name, ours in self.names.items():  # switches that are off by the rule's default and on by the stranger's
            if name in switches and not self.rule.defaults[name] and stranger.numbers[ours]:
                settings[name] = stranger.numbers[ours]
        return Nearest(stranger.name, self.rule.name, settings, slip, fixed, left, step, how)


def formula_of(rule: Rule, hypers: Mapping[str, Any]) -> Formula:
    """The graphs of the variant that these hyperparameters choose."""
    variant = variant_of(rule, hypers, probe.SHAPE)
    return Formula(rule, tuple(variant.graph(absent) for absent in variant.stages), variant.slots)


@cache
def _catalogue() -> tuple[Known, ...]:
    """Every rule with every combination of its flags, and with the momentum that tutorials write as a number."""
    found = []
    for raw in rules.CATALOGUE.values():
        rule = composed(raw)
        # Ascent alone: with every other flag there would be twice as many walks.
        found.append(Known(rule, {"maximize": True}, {}))
        flags = [h for h in rule.hypers if h.is_flag and h.name != "maximize" and h.given is None]
        for turned in itertools.product([False, True], repeat=len(flags)):
            on = {flag.name: not flag.default for flag, other in zip(flags, turned, strict=True) if other}
            found.append(Known(rule, on, {}))
            if rule.defaults.get("momentum") == 0:
                found.append(Known(rule, {**on, "momentum": TUTORIAL_MOMENTUM}, {}))
    return tuple(found)


def _in_words(gap: Gap, values: Mapping[str, float]) -> str:
    if gap.only_read:
        return f"where the model is read, {_off(gap.share)}"
    named = _factor(gap, values)
    return f"by {named}" if named else _off(gap.share)


def _off(share: float) -> str:
    if not math.isfinite(share):
        return "where one of them is not finite"
    shown = f"{share:.1%}" if share >= 1e-3 else f"{share:.1e}"
    return f"off by {shown} of the way"


def _factor(gap: Gap, values: Mapping[str, float]) -> str:
    """The factor by its name, else as a number; empty where no one factor serves."""
    if gap.factor is None:
        return ""
    return _name_of_factor(gap, values) or f"{gap.factor:.6g}"


def _name_of_factor(gap: Gap, values: Mapping[str, float]) -> str:
    """The factor as an expression of one hyperparameter and the step: "1 - beta2"."""
    if gap.factor is not None:
        for text, value in _expressions(values, gap.step):
            if math.isclose(value, gap.factor, rel_tol=1e-6):
                return text
    return ""


def _expressions(values: Mapping[str, float], t: int) -> Iterator[tuple[str, float]]:
    """What a factor may be: its name and value. Values near 1 are left out, for any two of them would be taken for each other."""
    yield from (("-1", -1.0), ("2", 2.0), ("1 / 2", 0.5))
    for name, x in values.items():
        terms = {name: x, f"1 - {name}": 1 - x}
        if t > 1:
            terms[f"1 - {name}**{t}"] = 1 - x**t
        for text, value in terms.items():
            if value > 0 and abs(value - 1) > 1e-3:
                inner = text if text == name else f"({text})"
                yield text, value
                yield f"1 / {inner}", 1 / value
                yield f"sqrt({text})", math.sqrt(value)
                yield f"1 / sqrt({text})", 1 / math.sqrt(value)
