"""Times whole `step()` calls of a class and of every form that torch has, in turn, on equal tensors.

A rule that torch lacks is timed against its own function on torch's tensors, as one would write it by hand.

Each round times every form once. Times are medians over rounds, ratios medians of the rounds' ratios, intervals the bootstrap's 95 % of
that median. Warm-up and compilation come before the rounds. A form that updated nothing is refused.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from steprule import optim, rules
from steprule.benching.limit import mover
from steprule.compiler.eager import start
from steprule.compiler.variant import variant_of
from steprule.errors import InputError, InputTypeError, unknown_name
from steprule.optim.optimizer import RuleOptimizer
from steprule.provenance import versions
from steprule.rules.rule import Rule
from steprule.trainable import Optimizable, Trainable


@dataclass(frozen=True)
class Workload:
    """The shapes of the parameters that a step updates."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    rounds: int
    fresh: bool = False
    """Whether gradients have new addresses at each step, as after `zero_grad(set_to_none=True)`."""

    @property
    def elements(self) -> int:
        """The number of elements that a step updates."""
        return sum(math.prod(shape) for shape in self.shapes)


LAYERS = Workload("48 x (768 x 768 + 768)", ((768, 768), (768,)) * 48, 11)
MANY = Workload("300 x 1,000", ((1000,),) * 300, 101)
WORKLOADS = (
    Workload("1 x 32M", ((32 * 2**20,),), 9),
    LAYERS,
    MANY,
    Workload("300 x 1,000, fresh gradients", ((1000,),) * 300, 101, fresh=True),
    Workload("2 tensors, 6 elements", ((1, 5), (1,)), 501),
)
QUICK = (
    Workload("12 x (768 x 768 + 768)", ((768, 768), (768,)) * 12, 7),
    Workload("300 x 1,000", ((1000,),) * 300, 51),
)
FORMS: dict[str, dict[str, Any]] = {
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
SETTINGS: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9}}
"""Settings of a class in the bench; other classes run at their defaults."""
CHAIN = "AdamW + clip by norm + EMA + zero"
FUNCTION = "function"
"""The other form of a rule that torch lacks: a loop over the parameters that calls the author's function on their tensors."""
Make = Callable[[list[Tensor]], Callable[[], Any]]
"""Makes a form's step for these parameters."""


def silent(text: str) -> None:
    """A progress that says nothing."""


@dataclass(frozen=True)
class Contender:
    """A class of ours, and torch's where there is one."""

    name: str
    ours: type[RuleOptimizer]
    theirs: type[torch.optim.Optimizer] | None
    rule: Rule


@dataclass(frozen=True)
class Result:
    """One class on one workload."""

    optimizer: str
    workload: str
    elements: int
    microseconds: dict[str, float]
    """Median time of a whole step by form; "steprule" is ours. That of torch.compile is ours times its ratio."""
    ratios: dict[str, float]
    """Median over rounds of the form's time divided by ours: above 1, ours is faster."""
    intervals: dict[str, tuple[float, float]]
    """The bootstrap's 95 % interval of each ratio."""
    host_microseconds: dict[str, float]
    """A step on as many tensors of one element each: the cost of Python and the launch, whatever the sizes."""
    parity: float
    """The largest difference from the others' parameters after all rounds, relative to a tensor's largest element."""
    bytes_moved: int
    """The bytes that a step must read and write: it reads p, g and the states, and writes p and the states."""
    gigabytes_a_second: float
    share_of_bandwidth: float | None
    """Our speed as a share of that of a kernel that only moves the same bytes, in the same rounds."""
    first_step_seconds: dict[str, float]
    """The first step by form, with compilation or reading its cache, in a process that has stepped before."""


def bench(
    names: Sequence[Optimizable] | None = None,
    workloads: Sequence[Workload] = WORKLOADS,
    *,
    device: str = "cpu",
    compiled: bool = False,
    progress: Callable[[str], None] = silent,
) -> list[Result]:
    """Time each class on each workload: torch's classes by name, or any RULE; all classes that torch has too if no names are given.

    `compiled` adds torch's step by `torch.compile` to workloads of more than a million elements in at most 100 tensors: with more tensors
    its compilation takes minutes (`once` has the figures). It runs after all others, in rounds of its own beside ours: once dynamo is
    loaded, every call of a Python function takes longer, torch's and ours.
    """
    chosen = [contender(name) for name in names or torchs_classes().values()]
    pairs = [(one, workload) for workload in workloads for one in chosen]
    results = []
    for one, workload in pairs:
        progress(f"{one.name}, {workload.name}")
        results.append(_of_class(one, workload, device, compiled=False))
    for k, (one, workload) in enumerate(pairs if compiled else ()):
        if one.theirs and len(workload.shapes) <= 100 and workload.elements > 1_000_000:
            progress(f"{one.name}, {workload.name}, torch.compile")
            result, beside = results[k], _of_class(one, workload, device, compiled=True)
            form = "torch.compile"
            ours = result.microseconds["steprule"]
            results[k] = replace(
                result,
                microseconds={**result.microseconds, form: ours * beside.ratios[form]},
                ratios={**result.ratios, form: beside.ratios[form]},
                intervals={**result.intervals, form: beside.intervals[form]},
                first_step_seconds={**result.first_step_seconds, form: beside.first_step_seconds[form]},
                parity=max(result.parity, beside.parity),
            )
    return results


def chain(workload: Workload = LAYERS, *, device: str = "cpu") -> Result:
    """AdamW that clips by norm, averages and zeroes in its own pass, against torch's functions for each, in a row."""

    def theirs(params: list[Tensor], *, to_none: bool) -> Callable[[], Any]:
        optimizer = torch.optim.AdamW(params, lr=1e-3, fused=True)
        model = nn.ParameterList(params)
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))  # type: ignore[no-untyped-call]

        def step() -> None:
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
            averaged.update_parameters(model)
            optimizer.zero_grad(set_to_none=to_none)

        return step

    def ours(params: list[Tensor]) -> Callable[[], Any]:
        return optim.AdamW(params, lr=1e-3, clip_norm=1.0, ema_decay=0.999, zero_grad=True).step

    sides: dict[str, Make] = {
        "steprule": ours,
        "in a row": lambda p: theirs(p, to_none=False),
        "in a row, grads to None": lambda p: theirs(p, to_none=True),
    }
    # Read: g for its norm; then p, g, two moments, average. Written: p, two moments, average, g.
    return _measured(CHAIN, workload, sides, 6, 5, device)


def machine(device: str = "cpu") -> dict[str, Any]:
    """The machine, versions and date that the figures depend on."""
    from steprule.provenance import hardware

    found = {**versions(), "hardware": hardware(), "date": time.strftime("%Y-%m-%d")}
    if device != "cpu":
        found["device"] = torch.cuda.get_device_name(device)
    return found


def torchs_classes() -> dict[str, str]:
    """The classes that torch has too, by their names in lower case."""
    return {n.lower(): n for n in optim.NAMES if hasattr(torch.optim, n)}


def contender(spec: Optimizable) -> Contender:
    """One of torch's classes, which we have too, or any rule; the catalogue's rule of such a name stands for the class.

    Raises `UnknownNameError`, and `InputTypeError` for a class that has no rule here.
    """
    who = Trainable.of(spec)
    for lower, name in torchs_classes().items():
        ours, theirs = getattr(optim, name), getattr(torch.optim, name)
        if any(who.what is one for one in (rules.CATALOGUE[lower], ours, theirs)):
            return Contender(name, ours, theirs, ours.rule)
    rule = who.what if isinstance(who.what, Rule) else getattr(who.what, "rule", None)
    if not isinstance(rule, Rule):
        hint = "steprule which names the rule that it is."
        expected = f"a rule, or one of torch's {', '.join(torchs_classes().values())}"
        raise InputTypeError(
            f"bench {who.name}", expected=expected, got="a class or a factory of another kind", hint=hint
        )
    return Contender(rule.name, optim.from_rule(rule), None, rule)


def torchs(name: str) -> Contender:
    """One of torch's classes by its name in any case. Raises `UnknownNameError`."""
    if name.lower() not in torchs_classes():
        raise unknown_name("class of torch's", name, torchs_classes())
    return contender(name)


def torchs_forms(theirs: type[torch.optim.Optimizer]) -> dict[str, dict[str, Any]]:
    """The settings of each form that a class of torch's has."""
    taken = theirs.__init__.__code__.co_varnames
    return {form: flags for form, flags in FORMS.items() if set(flags) <= set(taken)}


def _of_class(one: Contender, workload: Workload, device: str, *, compiled: bool) -> Result:
    settings, ours, theirs = SETTINGS.get(one.name, {}), one.ours, one.theirs
    sides: dict[str, Make] = {"steprule": lambda p: ours(p, **settings).step}
    if theirs is None:
        sides[FUNCTION] = lambda p: _by_hand(one.rule, p)
    elif compiled:
        torch.compiler.reset()  # all steps share torch's wrapper, which gives up compiling after eight of them
        sides["torch.compile"] = lambda p: torch.compile(theirs(p, **settings).step)
    else:

        def made_with(flags: dict[str, Any]) -> Make:
            return lambda p: theirs(p, **settings, **flags).step

        sides |= {form: made_with(flags) for form, flags in torchs_forms(theirs).items()}
    program = variant_of(ours.rule, {**ours.rule.defaults, **settings}).program()
    return _measured(one.name, workload, sides, len(program.columns), len(program.stores), device)


def _by_hand(rule: Rule, params: Sequence[Tensor]) -> Callable[[], None]:
    """The step as one would write it in torch: a loop, the function, a copy."""
    used = variant_of(rule, rule.defaults).slots

    def beginning(p: Tensor) -> list[Any]:
        starting = [s.name in used and not s.absent_at_first for s in rule.slots]
        return [start(s, p.detach(), rule.defaults) if on else None for s, on in zip(rule.slots, starting, strict=True)]

    slots = [beginning(p) for p in params]
    t = 0

    @torch.no_grad()
    def step() -> None:
        nonlocal t
        t += 1
        hypers = {**rule.defaults, **({"t": float(t)} if rule.takes_t else {})}
        for k, p in enumerate(params):
            result = rule.function(p, p.grad, *slots[k], **hypers)
            results = result if isinstance(result, tuple) else (result,)
            p.copy_(results[0])
            slots[k] = list(results[1:])

    return step


def _measured(
    name: str,
    workload: Workload,
    sides: Mapping[str, Make],
    reads: int,
    writes: int,
    device: str,
) -> Result:
    runners = {form: _Runner(make, workload, device) for form, make in sides.items()}
    first = {form: runner.step() for form, runner in runners.items()}
    for runner in runners.values():
        runner.step()
    move = mover(reads, writes, workload.shapes, device)
    times: dict[str, list[float]] = {form: [] for form in [*runners, "move"]}
    for _ in range(workload.rounds):
        for form, runner in runners.items():
            times[form].append(runner.step())
        times["move"].append(move())
    for form, runner in runners.items():
        runner.refuse_if_still(form)
    ratios = {form: np.divide(times[form], times["steprule"]) for form in runners if form != "steprule"}
    ours = statistics.median(times["steprule"])
    moved = 4 * workload.elements * (reads + writes)
    large = workload.elements > 1_000_000  # a smaller one stays in the cache, and memory does not limit it
    share = float(np.median(np.divide(times["move"], times["steprule"])))
    return Result(
        optimizer=name,
        workload=workload.name,
        elements=workload.elements,
        microseconds={form: statistics.median(times[form]) * 1e6 for form in runners},
        ratios={form: float(np.median(r)) for form, r in ratios.items()},
        intervals={form: median_interval(r) for form, r in ratios.items()},
        host_microseconds=_host(sides, workload, device),
        parity=max(runners["steprule"].far_from(r) for form, r in runners.items() if form != "steprule"),
        bytes_moved=moved,
        gigabytes_a_second=moved / ours / 1e9,
        share_of_bandwidth=share if large else None,
        first_step_seconds=first,
    )


WARM_UP = 3
"""Rounds of tiny steps before the clock counts."""


def _host(sides: Mapping[str, Make], workload: Workload, device: str) -> dict[str, float]:
    small = Workload("one element each", ((1,),) * len(workload.shapes), 51, workload.fresh)
    # torch.compile would compile again for minutes, so its host time is not measured.
    runners = {form: _Runner(make, small, device) for form, make in sides.items() if form != "torch.compile"}
    times: dict[str, list[float]] = {form: [] for form in runners}
    for round_ in range(WARM_UP + small.rounds):
        for form, runner in runners.items():
            seconds = runner.step()
            if round_ >= WARM_UP:
                times[form].append(seconds)
    return {form: statistics.median(t) * 1e6 for form, t in times.items()}


def median_interval(ratios: Any) -> tuple[float, float]:
    """The bootstrap's 95 % interval of the median of the rounds' ratios."""
    drawn = np.random.default_rng(0).choice(ratios, size=(2000, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)


class _Runner:
    """One side, on its own copy of the workload."""

    def __init__(self, make: Make, workload: Workload, device: str) -> None:
        generator = torch.Generator().manual_seed(0)

        def drawn(scale: float) -> list[Tensor]:
            return [(torch.randn(s, generator=generator) * scale).to(device) for s in workload.shapes]

        self.params = [p.requires_grad_() for p in drawn(1.0)]
        self.start = [p.detach()[..., :1].clone() for p in self.params[:8]]
        self.grads = [drawn(0.01) for _ in range(2 if workload.fresh else 1)]
        # A step that zeroes its gradients gets them back before the next; only then a copy is kept.
        self.kept: list[Tensor] | None = None
        self._wait: Callable[[], Any] = torch.cuda.synchronize if device != "cpu" else lambda: None
        self._step = make(self.params)
        self.count = 0

    def step(self) -> float:
        """Seconds of one step."""
        grads = self.grads[self.count % len(self.grads)]
        for k, (p, g) in enumerate(zip(self.params, grads, strict=True)):
            if self.kept is not None:
                g.copy_(self.kept[k])
            p.grad = g
        if self.count == 0:
            kept = [g.clone() for g in grads]
        self.count += 1
        self._wait()
        began = time.perf_counter()
        self._step()
        self._wait()
        seconds = time.perf_counter() - began
        if self.count == 1 and any(bool((g != k).any()) for g, k in zip(grads, kept, strict=True)):
            self.kept = kept
        return seconds

    def far_from(self, other: _Runner) -> float:
        """The largest difference of a parameter, relative to its tensor's largest element."""
        pairs = zip(self.params, other.params, strict=True)
        return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs)

    def refuse_if_still(self, form: str) -> None:
        """Raise `InputError` where the steps changed no parameter: such a step is fast and worth nothing."""
        now = [p.detach()[..., :1] for p in self.params[:8]]
        if all(map(torch.equal, now, self.start)):
            raise InputError(f"bench, {form}", expected="parameters that changed", got="the same as at the start")
