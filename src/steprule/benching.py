"""The bench: whole `step()` calls of a class against every form that torch has, in turn, on the same tensors.

Each round times every form once; figures are medians over rounds, ratios medians of the rounds' ratios. The first step,
which compiles, is timed apart. A form that updated nothing is refused.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule import optim
from steprule.compiler.graph import trace
from steprule.compiler.split import split
from steprule.errors import InputError, unknown_name
from steprule.optim.base import RuleOptimizer
from steprule.training import versions


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
        """How many numbers are updated."""
        return sum(int(np.prod(shape)) for shape in self.shapes)


WORKLOADS = (
    Workload("1 x 32M", ((32 * 2**20,),), 9),
    Workload("48 x (768 x 768 + 768)", ((768, 768), (768,)) * 48, 11),
    Workload("300 x 1,000", ((1000,),) * 300, 101),
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
"""Settings of a class in the bench; the others run at their defaults."""


@dataclass(frozen=True)
class Result:
    """One class on one workload."""

    optimizer: str
    workload: str
    elements: int
    microseconds: dict[str, float]
    """Median of a whole step, by form; "steprule" is ours, the others torch's."""
    ratios: dict[str, float]
    """Median over rounds of torch's time over ours, by form of torch's: above 1, ours is faster."""
    bytes_moved: int
    """What a step must read and write: p, g and the states once, p and the states back."""
    gigabytes_a_second: float
    share_of_bandwidth: float
    """Ours, of what a kernel that only moves the same bytes reaches, in the same rounds."""
    first_step_seconds: float
    """Ours, compilation or reading its cache included; imports are not."""

    @property
    def best_ratio(self) -> float:
        """Against torch's fastest form."""
        return min(self.ratios.values())


def bench(
    names: Sequence[str] | None = None,
    workloads: Sequence[Workload] = WORKLOADS,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """Time each class of `steprule.optim` that torch has too, on each workload."""
    chosen = [_class_name(name) for name in names] if names else [n for n in optim.NAMES if hasattr(torch.optim, n)]
    results = []
    for workload in workloads:
        for name in chosen:
            progress(f"{name}, {workload.name}")
            results.append(_measure(name, workload))
    return results


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    from steprule.races.running import hardware

    return {**versions(), "hardware": hardware(), "date": time.strftime("%Y-%m-%d")}


def to_dict(results: Sequence[Result]) -> dict[str, Any]:
    """All figures and the machine, for JSON."""
    return {"machine": machine(), "results": [{**asdict(r), "best_ratio": r.best_ratio} for r in results]}


def _class_name(name: str) -> str:
    known = {n.lower(): n for n in optim.NAMES if hasattr(torch.optim, n)}
    if name.lower() not in known:
        raise unknown_name("class to bench", name, known)
    return known[name.lower()]


def _measure(name: str, workload: Workload) -> Result:
    settings = SETTINGS.get(name, {})
    ours: type[RuleOptimizer] = getattr(optim, name)
    theirs = getattr(torch.optim, name)
    sides: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {"steprule": lambda p: ours(p, **settings)}
    for form, flags in FORMS.items():
        if "fused" not in flags or "fused" in theirs.__init__.__code__.co_varnames:
            sides[form] = lambda p, flags=flags: theirs(p, **settings, **flags)  # type: ignore[misc]
    runners = {form: _Runner(make, workload) for form, make in sides.items()}
    first = {form: runner.step() for form, runner in runners.items()}
    for runner in runners.values():
        runner.step()
    program = split(trace(ours.rule, {h.name: settings.get(h.name, h.default) for h in ours.rule.hypers if h.switches}))
    move = _mover(len(program.columns), len(program.stores), workload)
    times: dict[str, list[float]] = {form: [] for form in [*runners, "move"]}
    for _ in range(workload.rounds):
        for form, runner in runners.items():
            times[form].append(runner.step())
        times["move"].append(move())
    for form, runner in runners.items():
        runner.refuse_if_still(form)
    median = {form: statistics.median(t) for form, t in times.items()}
    ratios = {
        form: statistics.median(b / a for a, b in zip(times["steprule"], times[form], strict=True))
        for form in runners
        if form != "steprule"
    }
    moved = 4 * workload.elements * (len(program.columns) + len(program.stores))
    share = statistics.median(b / a for a, b in zip(times["steprule"], times["move"], strict=True))
    micro = {form: median[form] * 1e6 for form in runners}
    return Result(
        name,
        workload.name,
        workload.elements,
        micro,
        ratios,
        moved,
        moved / median["steprule"] / 1e9,
        share,
        first["steprule"],
    )


class _Runner:
    """One optimizer on its own copy of the workload."""

    def __init__(self, make: Callable[[list[Tensor]], torch.optim.Optimizer], workload: Workload) -> None:
        generator = torch.Generator().manual_seed(0)
        self.params = [torch.randn(s, generator=generator).requires_grad_() for s in workload.shapes]
        self.start = [p.detach()[..., :1].clone() for p in self.params[:8]]
        self.grads = [
            [torch.randn(s, generator=generator) * 0.01 for s in workload.shapes]
            for _ in range(2 if workload.fresh else 1)
        ]
        self.optimizer = make(self.params)
        self.count = 0

    def step(self) -> float:
        """Seconds of one `step()`."""
        for p, g in zip(self.params, self.grads[self.count % len(self.grads)], strict=True):
            p.grad = g
        self.count += 1
        began = time.perf_counter()
        self.optimizer.step()
        return time.perf_counter() - began

    def refuse_if_still(self, form: str) -> None:
        """A step that updates nothing is fast, and worth nothing."""
        if all(torch.equal(p.detach()[..., :1], old) for p, old in zip(self.params, self.start, strict=False)):
            raise InputError(f"bench, {form}", expected="parameters that changed", got="the same as at the start")


def _mover(reads: int, writes: int, workload: Workload) -> Callable[[], float]:
    """A kernel that reads and writes as many tensors of the same shapes, in the same chunks, and computes nothing."""
    from steprule.compiler import cpu

    columns = [[torch.zeros(s) for s in workload.shapes] for _ in range(reads)]
    addresses = np.array([[t.data_ptr() for t in column] for column in columns], dtype=np.int64)
    chunks = cpu.Chunks.of([int(np.prod(s)) for s in workload.shapes])
    kernel = cpu.mover(reads, writes)

    def move() -> float:
        began = time.perf_counter()
        kernel(addresses, chunks)
        seconds = time.perf_counter() - began
        assert columns
        return seconds

    return move
