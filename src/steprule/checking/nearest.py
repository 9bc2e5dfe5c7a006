"""Which known rule is it? A stranger's probe walk beside those of every catalogue rule, its variants and its slips."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from steprule import rules
from steprule.checking import probe
from steprule.checking.mutants import mutants
from steprule.checking.probe import Formula, Gap, Step
from steprule.compiler.variant import variant_of
from steprule.errors import InputError
from steprule.rules.parts import composed
from steprule.rules.rule import Rule
from steprule.trainable import Optimizable, Trainable

NEAR = 0.1
"""A walk that ends off by more of its way than this is not near."""
STARTS = ("initial_accumulator_value",)
"""What an optimizer reads when it is made: set in its groups later, it would change nothing."""
TUTORIAL_MOMENTUM = 0.9  # what a function without a hyperparameter for it mostly has


@dataclass(frozen=True)
class Nearest:
    """The known rule that something is, or is nearest to."""

    name: str
    """What was asked for."""
    rule: str | None
    """The catalogue's name; None where none is near."""
    settings: Mapping[str, float | bool] = field(default_factory=dict)
    """The rule's switches that are off by default and on here, or flags that are other than by default."""
    slip: str = ""
    """What has to be changed in the rule to give the same walk."""
    fixed: Mapping[str, float] = field(default_factory=dict)
    """The rule's numbers that the stranger has no hyperparameter for, with their values."""
    left: tuple[str, ...] = ()
    """The stranger's numbers that the rule has not; they stayed at their defaults."""
    step: int | None = None
    """The first step at which they part; None where they are the same for all."""
    how: str = ""
    """By how much."""

    @property
    def same(self) -> bool:
        """Whether it is that very rule, with no slip."""
        return self.rule is not None and self.step is None and not self.slip

    @property
    def called(self) -> str:
        """The rule with its switches: "sgd with nesterov"."""
        on = ", ".join(n if v is True else f"{n}={v:g}" for n, v in self.settings.items())
        return f"{self.rule}" + (f" with {on}" if on else "")

    def __str__(self) -> str:
        if self.rule is None:
            return f"nearest: none near; {self.how}"
        text = f"nearest: {self.called}"
        if self.step is not None:
            return f"{text} until step {self.step}: {self.how}" if self.step > 1 else f"{text}, {self.how}"
        text += f", but for one thing ({self.slip}); with that" if self.slip else ","
        text += f" the same for {probe.STEPS} steps"
        notes = ["it goes up: the sign of the step is reversed"] if self.settings.get("maximize") else []
        notes += [f"{n}={v:g} fixed" for n, v in self.fixed.items()] + [f"{n} at its default" for n in self.left]
        return text + (f" ({', '.join(notes)})" if notes else "")

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "same": self.same, "words": str(self)}


@dataclass(frozen=True)
class Stranger:
    """Something that steps: its numbers, and its walk with some of them set."""

    name: str
    numbers: Mapping[str, float]
    """Its numerical hyperparameters and their defaults."""
    set_to: Mapping[str, float]
    """What the probe sets them to."""
    run: Callable[[Mapping[str, float]], list[Step]]
    walks: dict[frozenset[str], list[Step]] = field(default_factory=dict)

    def walk(self, names: frozenset[str]) -> list[Step]:
        """The walk with these numbers set as the probe says, the others at their defaults."""
        if names not in self.walks:
            self.walks[names] = self.run({n: self.set_to[n] for n in names if n in self.set_to})
        return self.walks[names]


def which(thing: Optimizable) -> Nearest:
    """The known rule that `thing` is, or is nearest to, by its steps on a probe walk.

    `thing`: a rule in any way to say one, an Optimizer class or a factory `params -> optimizer`, `torch.optim:Adam`,
    `file.py:make_optimizer`. It is stepped 40 times in float64 on one 3x4 matrix, every known hyperparameter away from its
    neutral value; flags stay as they are.

    Raises `StepruleError` where there is no such thing, or it cannot step.

    >>> print(which("torch.optim:AdamW"))
    nearest: adamw, the same for 40 steps
    """
    found = Trainable.of(thing).what
    return nearest(of_rule(found) if isinstance(found, Rule) else of_class(found))


def of_rule(rule: Rule) -> Stranger:
    """A rule as a stranger: the author's function is walked."""
    numbers = {h.name: float(h.default) for h in rule.hypers if not h.is_plain and h.given is None}
    return Stranger(
        rule.name, numbers, probe.probing(rule), lambda values: probe.walk(rule, {**rule.defaults, **values})
    )


def nearest(stranger: Stranger) -> Nearest:
    """The catalogue's rule with the same walk: as it is, with its switches set, with one slip; else the nearest."""
    if not probe.moves(stranger.walk(frozenset(stranger.numbers))):
        return Nearest(stranger.name, None, how="it never moves")
    parted: list[tuple[Known, Gap]] = []
    for known in sorted(_catalogue(), key=lambda k: len(k.settings)):
        here = Known.beside(known.rule, stranger, known.settings)
        gap = here.gap_from(stranger)
        if gap is None:
            return here.found(stranger)
        parted.append((here, gap))
    for here, _ in parted:
        # A slip in a variant that is not the default would be two differences.
        if not here.settings:
            for slip in mutants(here.formula(here.hypers(stranger))):
                if here.gap_from(stranger, slip.formula) is None:
                    return here.found(stranger, slip=slip.words)

    def rank(pair: tuple[Known, Gap]) -> tuple[int, bool, float]:
        # The longest together; of those, one that differs by a factor that has a name; then the smallest difference.
        here, gap = pair
        return gap.step, bool(_name_of_factor(gap, here.values(stranger))), -gap.share

    here, gap = max(parted, key=rank)
    if gap.step > 1:
        return here.found(stranger, step=gap.step, how=_in_words(gap, here.values(stranger)))
    for here, gap in parted:
        named = _factor(gap, here.values(stranger)) if gap.factor is not None and not here.settings else ""
        if named and here.gap_from(stranger, factor=gap.factor or 1.0) is None:
            return here.found(stranger, slip=f"each step is multiplied by {named}")
    apart, here = min(((k.distance_from(stranger), k) for k, _ in parted), key=lambda pair: pair[0])
    if apart <= NEAR:
        return here.found(stranger, step=1, how=f"{_off(apart)} after {probe.STEPS} steps")
    words = (
        f"{here.rule.name} is {_off(apart)} after {probe.STEPS} steps"
        if math.isfinite(apart)
        else "its walk is not finite"
    )
    return Nearest(stranger.name, None, how=words)


@dataclass(frozen=True)
class Known:
    """A known rule with some of its switches set, beside a stranger."""

    rule: Rule
    settings: Mapping[str, float | bool]
    names: Mapping[str, str]
    """The stranger's name for each of the rule's numbers that it has."""

    @classmethod
    def beside(cls, rule: Rule, stranger: Stranger, settings: Mapping[str, float | bool] | None = None) -> Known:
        """With the names matched."""
        return cls(rule, settings or {}, probe.matched(_numbers(rule), stranger.numbers))

    def values(self, stranger: Stranger) -> dict[str, float]:
        """The stranger's numbers on this walk."""
        return {n: stranger.set_to.get(n, v) if n in self.names.values() else v for n, v in stranger.numbers.items()}

    def hypers(self, stranger: Stranger) -> dict[str, Any]:
        """The rule's hyperparameters on this walk."""
        values = self.values(stranger)
        return {**self.rule.defaults, **self.settings, **{n: values[ours] for n, ours in self.names.items()}}

    def formula(self, hypers: Mapping[str, Any]) -> Formula:
        """What the rule computes with these."""
        return formula_of(self.rule, hypers)

    def gap_from(
        self, stranger: Stranger, formula: Formula | None = None, factor: float = 1.0, finite: int = probe.FEWEST
    ) -> Gap | None:
        """Where the stranger parts from the rule, or from another formula of its numbers; `factor`, `finite` as in `first_gap`."""
        hypers = self.hypers(stranger)
        ours = stranger.walk(frozenset(self.names.values()))
        return probe.first_gap(ours, (formula or self.formula(hypers)).walk(hypers), factor, finite)

    def distance_from(self, stranger: Stranger) -> float:
        """How far apart they end."""
        hypers = self.hypers(stranger)
        return probe.distance(stranger.walk(frozenset(self.names.values())), self.formula(hypers).walk(hypers))

    def found(self, stranger: Stranger, *, slip: str = "", step: int | None = None, how: str = "") -> Nearest:
        """The answer that it is this rule."""
        hypers = self.hypers(stranger)
        switches = {h.name for h in self.rule.hypers if h.off_at_zero}
        fixed = {
            n: hypers[n]
            for n in _numbers(self.rule)
            if n not in self.names
            and n not in self.settings
            and hypers[n] != 0
            and not (n in switches and not hypers[n])
        }
        left = tuple(n for n in stranger.numbers if n not in self.names.values() and stranger.numbers[n] != 0)
        own = self.rule.defaults
        on = {n: stranger.numbers[ours] for n, ours in self.names.items() if n in switches and not own[n]}
        settings = {**self.settings, **{n: v for n, v in on.items() if v}}
        return Nearest(stranger.name, self.rule.name, settings, slip, fixed, left, step, how)


def formula_of(rule: Rule, hypers: Mapping[str, Any]) -> Formula:
    """The graphs of the variant that these hyperparameters choose."""
    variant = variant_of(rule, hypers)
    return Formula(rule, tuple(variant.graph(absent) for absent in variant.stages), variant.slots)


def _numbers(rule: Rule) -> list[str]:
    return [h.name for h in rule.hypers if not h.is_plain and h.given is None]


@cache
def _catalogue() -> tuple[Known, ...]:
    """Every rule with every combination of its flags, and with the momentum that tutorials write as a number."""
    found = []
    for raw in rules.CATALOGUE.values():
        rule = composed(raw)
        # Ascent alone: with every other flag it would double what is walked.
        flags = [h for h in rule.hypers if h.is_flag and h.name != "maximize" and h.given is None]
        found.append(Known(rule, {"maximize": True}, {}))
        for values in itertools.product(*((h.default, not h.default) for h in flags)):
            on = {h.name: v for h, v in zip(flags, values, strict=True) if v != h.default}
            found.append(Known(rule, on, {}))
            if rule.defaults.get("momentum") == 0:
                found.append(Known(rule, {**on, "momentum": TUTORIAL_MOMENTUM}, {}))
    return tuple(found)


def _in_words(gap: Gap, values: Mapping[str, float]) -> str:
    named = _factor(gap, values)
    if named:
        return f"by {named}"
    return _off(gap.share)


def _off(share: float) -> str:
    if not math.isfinite(share):
        return "where one of them is not finite"
    return f"off by {share:.1%} of the way" if share >= 1e-3 else f"off by {share:.1e} of the way"


def _factor(gap: Gap, values: Mapping[str, float]) -> str:
    """The factor by its name, else as a number; empty where there is none."""
    return _name_of_factor(gap, values) or ("" if gap.factor is None else f"{gap.factor:.6g}")


def _name_of_factor(gap: Gap, values: Mapping[str, float]) -> str:
    """What of one hyperparameter and the step the factor is: "1 - beta2"."""
    if gap.factor is None:
        return ""
    close = (text for text, value in _expressions(values, gap.step) if math.isclose(value, gap.factor, rel_tol=1e-6))
    return next(close, "")


def _expressions(values: Mapping[str, float], t: int) -> Iterator[tuple[str, float]]:
    """What a factor may be, with its name. What is all but 1 would be taken for any other such."""
    yield from (("-1", -1.0), ("2", 2.0), ("1 / 2", 0.5))
    for name, x in values.items():
        whole = [(name, x, name), (f"1 - {name}", 1 - x, f"(1 - {name})")]
        whole += [(f"1 - {name}**{t}", 1 - x**t, f"(1 - {name}**{t})")] if t > 1 else []
        for text, value, inner in whole:
            if value > 0 and abs(value - 1) > 1e-3:
                yield text, value
                yield f"1 / {inner}", 1 / value
                yield f"sqrt({text})", math.sqrt(value)
                yield f"1 / sqrt({text})", 1 / math.sqrt(value)


# Optimizers of torch's kind.


def of_class(make: Callable[..., Any]) -> Stranger:
    """An Optimizer class or a factory as a stranger. Raises `InputError` where it cannot step a matrix."""
    numbers = _numbers_of(_made(make, {})[1].param_groups[0])
    settable = {n: v for n, v in numbers.items() if n not in STARTS or n in _accepts(make)}
    set_to = probe.settings(settable)

    def run(values: Mapping[str, float]) -> list[Step]:
        return _steps(make, values)

    try:
        run(set_to)
    except InputError:
        set_to = {}  # it refuses our settings: its own
    return Stranger(Trainable.of(make).name, numbers, set_to, run)


def _accepts(make: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(make).parameters)
    except (TypeError, ValueError):
        return set()


def _made(make: Callable[..., Any], values: Mapping[str, float]) -> tuple[Any, Any]:
    """The parameter and the optimizer, with these numbers passed to the constructor where it takes them, else set in its groups."""
    import torch

    p = torch.from_numpy(probe.start()).requires_grad_()
    known = _accepts(make)
    given: dict[str, Any] = {n: v for n, v in values.items() if n in known}
    try:
        if given or "betas" in known:
            plain = make([p])
            given |= _betas(plain.param_groups[0], values) if "betas" in known else {}
        optimizer = make([p], **given)
    except Exception as error:
        text = " ".join(str(error).split())
        raise InputError(
            str(getattr(make, "__name__", "optimizer")),
            expected="what makes an optimizer of [parameter]",
            got=f"{type(error).__name__}: {text}",
        ) from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            str(getattr(make, "__name__", "optimizer")),
            expected="a torch.optim.Optimizer",
            got=f"a {type(optimizer).__name__}",
        )
    for group in optimizer.param_groups:
        group.update({n: v for n, v in values.items() if n in group and n not in STARTS})
        group.update(_betas(group, values))
    return p, optimizer


def _betas(group: Mapping[str, Any], values: Mapping[str, float]) -> dict[str, Any]:
    betas = group.get("betas")
    if not isinstance(betas, tuple | list):
        return {}
    return {"betas": tuple(values.get(f"beta{k}", b) for k, b in enumerate(betas, start=1))}


def _numbers_of(group: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a group whose meaning is known; `betas` one by one."""
    found = {f"beta{k}": float(b) for k, b in enumerate(group.get("betas") or (), start=1)}
    plain = {n: v for n, v in group.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    known = probe.settings({**dict.fromkeys(plain, 0.0)})
    return {**{n: float(v) for n, v in plain.items() if n in known}, **found}


def _steps(make: Callable[..., Any], values: Mapping[str, float]) -> list[Step]:
    """The walk by `step()`, or by `step(closure)` where the optimizer raises at the former."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # torch keeps numbers of a step in the default dtype
    first: Exception | None = None
    try:
        for with_closure in (False, True):
            p, optimizer = _made(make, values)
            try:
                return _walked(p, optimizer, with_closure=with_closure)
            except Exception as error:  # noqa: BLE001  (whatever foreign code raises)
                first = first or error
        assert first is not None
        text = " ".join(str(first).split())
        raise InputError(
            type(optimizer).__name__,
            expected="an optimizer that steps a 3x4 matrix in float64",
            got=f"{type(first).__name__}: {text}",
        ) from first
    finally:
        torch.set_default_dtype(before)


def _walked(p: Any, optimizer: Any, *, with_closure: bool) -> list[Step]:
    import torch

    if callable(train := getattr(optimizer, "train", None)):
        train()
    found: list[Step] = []
    for g in probe.gradients():
        gradient = torch.from_numpy(g)

        def closure(gradient: Any = gradient) -> Any:
            p.grad = gradient.clone()
            return (p.detach() * gradient).sum()

        closure()
        if with_closure:
            optimizer.step(closure)
        else:
            optimizer.step()
        found.append({"p": p.detach().numpy().copy()})
    return found
