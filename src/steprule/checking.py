"""The battery for a rule: contract, forms, dtypes, shapes, determinism, purity, checkpoints, compilations; and two rules
side by side, to the first step and slot where they part."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from steprule import rules
from steprule.compiler import eager
from steprule.compiler.graph import Graph, Kind, trace
from steprule.compiler.variant import variant_of
from steprule.errors import StepruleError
from steprule.optim import buckets as planning
from steprule.optim import from_rule
from steprule.optim.backends import form_for
from steprule.optim.optimizer import RuleOptimizer
from steprule.paths import tuned_trace
from steprule.rules.parts import composed
from steprule.rules.rule import Rule
from steprule.training import versions

STEPS = 30
# Two forms in float64, one step: sqrt, exp, log and pow may differ in the last bits between libraries.
SAME_FLOAT64 = 1e-13
# Against float64, one step from the same values, relative to the largest element: the dtype's own rounding, a few times.
WITHIN = {torch.float32: 1e-5, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-9}
# Two rules are the same while they differ by less than rounding in float64 can add up to in `STEPS` steps.
SAME_RULE = 1e-9
GUARD = 64  # elements before and after each tensor that a kernel must not touch

Verdict = Literal["passed", "failed", "warning"]


@dataclass(frozen=True)
class Item:
    """One check of the battery."""

    name: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True)
class Parting:
    """The first step and quantity in which two rules differ, with both numbers (at the element that differs most)."""

    step: int
    quantity: str
    ours: float
    theirs: float


@dataclass(frozen=True)
class Report:
    """What the battery found; printed, it fits a paper's appendix."""

    rule: str
    items: tuple[Item, ...]
    against: str | None = None
    parting: Parting | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing failed and, where another rule was given, the two never parted. Warnings do not count."""
        return all(item.verdict != "failed" for item in self.items) and self.parting is None

    def __str__(self) -> str:
        width = max(len(item.name) for item in self.items)
        failed = any(item.verdict == "failed" for item in self.items)
        lines = [f"{self.rule}: {'FAILED' if failed else 'passed'}"]
        lines += [f"  {item.name:{width}}  {item.verdict:7}  {item.detail}" for item in self.items]
        if self.parting is not None:
            p = self.parting
            lines.append(
                f"  parts from {self.against} at step {p.step} in {p.quantity}: {p.ours!r} against {p.theirs!r}"
            )
        elif self.against is not None:
            lines.append(f"  the same as {self.against} in p and every shared state over {STEPS} steps")
        lines.append("  " + ", ".join(f"{k} {v}" for k, v in self.versions.items()))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "passed": self.passed}


def check(rule: Rule | str, against: Rule | str | None = None) -> Report:
    """Run the battery on `rule`; with `against`, also find where the two part, each at its own defaults.

    Raises `StepruleError` where there is no such rule; a rule that breaks the contract is a report that says so.

    >>> print(str(check("sgd")).splitlines()[0])
    sgd: passed
    """
    found = composed(rules.resolve(rule))
    other = composed(rules.resolve(against)) if against is not None else None
    items: list[Item] = []
    for name, body in _BATTERY:
        try:
            items.append(body(found, name))
        except StepruleError as error:
            items.append(Item(name, "failed", str(error)))
        except AssertionError as error:
            items.append(Item(name, "failed", str(error)))
        if name == "contract" and items[-1].verdict == "failed":
            break  # what cannot be traced cannot be run
    parted = parting(found, other) if other is not None and len(items) == len(_BATTERY) else None
    return Report(found.name, tuple(items), other.name if other else None, parted, versions())


def parting(ours: Rule, theirs: Rule) -> Parting | None:
    """Where two rules part: the same start, the same gradients, each at its defaults with a common learning rate."""
    p = [_numbers(0, 5), _numbers(0, 5)]
    states: list[dict[str, Any]] = [{}, {}]
    hypers = [r.bind({"lr": 0.01} if "lr" in r.defaults else {}) for r in (ours, theirs)]
    for t in range(1, STEPS + 1):
        g = _numbers(t, 5)
        for k, r in enumerate((ours, theirs)):
            p[k], states[k] = eager.step(r, p[k], g, states[k], t, hypers[k])
        pairs = [("p", p[0], p[1])] + [(n, states[0][n], states[1][n]) for n in states[0] if n in states[1]]
        for name, a, b in reversed(pairs):  # a state shows the cause, p the effect
            if (a is None) != (b is None):
                return Parting(t, name, *(float("nan") if v is None else float(np.ravel(v)[0]) for v in (a, b)))
            if a is None:
                continue
            x, y = np.ravel(np.asarray(a)), np.ravel(np.asarray(b))
            gap = np.abs(x - y) / np.maximum(np.maximum(np.abs(x), np.abs(y)), 1e-300)
            if not (gap <= SAME_RULE).all():
                k = int(np.nanargmax(np.where(np.isnan(gap), np.inf, gap)))
                return Parting(t, name, float(x[k]), float(y[k]))
    return None


def _numbers(seed: int, count: int) -> Any:
    return np.random.default_rng(seed).normal(size=count)


def _variants(rule: Rule) -> Iterator[dict[str, float | bool]]:
    """Every variant of the rule's own switches; what is composed with all rules stays at its default."""
    own = {h.name for h in rule.hypers} - {"weight_decay", "decoupled_weight_decay", "maximize"}
    for variant in rule.variants():
        if all(v == rule.defaults[n] for n, v in variant.items() if n not in own):
            yield variant


def _graphs(rule: Rule) -> list[Graph]:
    return [trace(rule, variant) for variant in rule.variants()]


def _contract(rule: Rule, name: str) -> Item:
    graphs = _graphs(rule)
    kinds = [sum(n.kind is kind for n in graphs[0].nodes) for kind in Kind]
    detail = f"{len(graphs)} variants; {kinds[0]} scalar, {kinds[1]} reduction, {kinds[2]} element operations"
    return Item(name, "passed", detail)


def _forms(rule: Rule, name: str) -> Item:
    """Floats against arrays where there is no reduction; numpy and the kernel against torch, in float64."""
    worst = 0.0
    for variant in _variants(rule):
        hypers = rule.bind(variant)
        reference = _walk(rule, hypers, lambda a: torch.from_numpy(a.copy()))
        worst = max(worst, _gap(name, "numpy", _walk(rule, hypers, np.copy), reference))
        if not variant_of(rule, hypers).reduces:
            alone = np.array([_walk(rule, hypers, lambda a, k=k: float(a[k])) for k in range(7)])  # type: ignore[misc]
            worst = max(worst, _gap(name, "floats", alone, reference))
        p = torch.from_numpy(_numbers(0, 7)).requires_grad_()
        optimizer = _optimizer(rule, [p], variant)
        with _float64_default():
            _go(p, optimizer, range(1, 4))
        worst = max(worst, _gap(name, optimizer_form(optimizer), p.detach(), reference))
    return Item(name, "passed", f"floats, numpy, torch and kernel agree in float64 to {worst:.1e}")


@contextmanager
def _float64_default() -> Iterator[None]:
    """Under it one-number-a-tensor states are float64 too; torch keeps them in the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _walk(rule: Rule, hypers: dict[str, Any], convert: Callable[[Any], Any]) -> Any:
    p, state = convert(_numbers(0, 7)), eager.State()
    for t in range(1, 4):
        p, state = eager.step(rule, p, convert(_numbers(t, 7)), state, t, hypers)
    return p


def _gap(name: str, form: str, got: Any, wanted: Any) -> float:
    a, b = np.asarray(got, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    gap = float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-300))
    assert gap <= SAME_FLOAT64, f"{form} differ from torch by {gap:.1e}, more than {SAME_FLOAT64:.0e}"
    return gap


def _dtypes_and_shapes(rule: Rule, name: str) -> Item:
    shapes = [(), (1,), (0,), (7,), (3, 5), (20_000,)]
    for dtype, shape in itertools.product(WITHIN, shapes):
        p = (
            (torch.from_numpy(_numbers(0, int(np.prod(shape, dtype=int)))).reshape(shape) + 2)
            .to(dtype)
            .requires_grad_()
        )
        before = p.detach().double()
        p.grad = torch.from_numpy(_numbers(1, p.numel())).reshape(shape).to(dtype)
        optimizer = _optimizer(rule, [p], {})
        optimizer.step()
        exact, _ = eager.step(rule, before, p.grad.double(), {}, 1, rule.bind({}))
        assert p.dtype is dtype, f"{dtype}: p became {p.dtype}"
        assert p.shape == shape, f"{shape}: p became {tuple(p.shape)}"
        if p.numel():
            gap = float((p.detach().double() - exact).abs().max() / exact.abs().max())
            assert gap <= WITHIN[dtype], f"{dtype}, shape {shape}: off by {gap:.1e} of the largest element"
    return Item(name, "passed", f"{len(WITHIN)} dtypes x {len(shapes)} shapes, one step against float64")


def _determinism(rule: Rule, name: str) -> Item:
    ends = []
    for _ in range(2):
        p = torch.from_numpy(_numbers(0, 100_000)).float().requires_grad_()
        optimizer = _optimizer(rule, [p], {})
        for t in range(1, 4):
            p.grad = torch.from_numpy(_numbers(t, 100_000)).float()
            optimizer.step()
        ends.append(p.detach())
    assert torch.equal(ends[0], ends[1]) or ends[0].isnan().any(), "two runs from the same start end in different bits"
    return Item(name, "passed", "two runs give the same bits")


def _no_write_outside(rule: Rule, name: str) -> Item:
    """p, g and every state lie between guards, and g is a guard itself."""
    for variant in _variants(rule):
        p, g = _guarded(_numbers(0, 1000)), _guarded(_numbers(1, 1000))
        parameter = p[GUARD:-GUARD].requires_grad_()
        parameter.grad = g[GUARD:-GUARD]
        kept_g = g.clone()
        optimizer = _optimizer(rule, [parameter], variant)
        optimizer.step()
        around = {}
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                around[key] = _guarded(value.detach().numpy())
                optimizer.state[parameter][key] = around[key][GUARD:-GUARD]
        optimizer.step()
        assert torch.equal(g, kept_g), "the gradient was written to"
        for key, whole in {"p": p.detach(), **around}.items():
            edges = torch.cat([whole[:GUARD], whole[-GUARD:]])
            assert bool((edges == 7.0).all()), f"memory around {key} was written to"
    return Item(name, "passed", f"guards of {GUARD} elements around p, g and states untouched")


def _guarded(values: Any) -> Tensor:
    guard = np.full(GUARD, 7.0)
    return torch.from_numpy(np.concatenate([guard, np.asarray(values, dtype=np.float64), guard]))


def _round_trip(rule: Rule, name: str) -> Item:
    for variant in _variants(rule):
        p = torch.from_numpy(_numbers(0, 9)).requires_grad_()
        optimizer = _optimizer(rule, [p], variant)
        _go(p, optimizer, range(1, 4))
        q = p.detach().clone().requires_grad_()
        again = _optimizer(rule, [q], variant)
        again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        _go(p, optimizer, range(4, 7))
        _go(q, again, range(4, 7))
        assert torch.equal(p, q) or p.isnan().any(), "a run that was saved and loaded goes on otherwise"
    return Item(name, "passed", "saved and loaded in mid-run, it goes on to the same bits")


def _go(p: Tensor, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for t in steps:
        p.grad = torch.from_numpy(_numbers(t, p.numel()))
        optimizer.step()


def _compilations(rule: Rule, name: str) -> Item:
    """A kernel serves every learning rate, step and model: the plan's cache of kernels grows by one."""
    p = torch.from_numpy(_numbers(0, 9)).requires_grad_()
    optimizer = _optimizer(rule, [p], {})
    _go(p, optimizer, range(1, 3))
    before = planning.kernel_for.cache_info().misses
    for size in (9, 100, 1000):
        q = torch.from_numpy(_numbers(0, size)).requires_grad_()
        optimizer = _optimizer(rule, [q], {})
        for t in range(1, 5):
            for group in optimizer.param_groups:
                if "lr" in group:
                    group["lr"] = 0.1 / t
            _go(q, optimizer, range(t, t + 1))
    built = planning.kernel_for.cache_info().misses - before
    first_use = sum(s.absent_at_first for s in rule.slots)  # the first step of such a slot is a kernel of its own
    assert built <= first_use, f"{built} kernels were built again for other learning rates, steps or models"
    return Item(name, "passed", "none for another learning rate, step or model")


def _descent(rule: Rule, name: str) -> Item:
    path = tuned_trace(rule, "quadratic", steps=50)
    share = path.values[-1] / path.values[0]
    if path.diverged_at is None and share < 0.5:
        return Item(name, "passed", f"x²/10 + 2y² falls to {share:.1e} of its start in 50 steps")
    return Item(
        name, "warning", f"x²/10 + 2y² is at {share:.2g} of its start after 50 steps, at the best learning rate"
    )


def _optimizer(rule: Rule, params: list[Tensor], variant: dict[str, Any]) -> RuleOptimizer:
    return from_rule(rule)(params, **variant)


def optimizer_form(optimizer: RuleOptimizer) -> str:
    """The form that steps this optimizer, in words."""
    return "the kernel" if form_for(optimizer.backend, "cpu") else "the eager form"


_BATTERY: tuple[tuple[str, Callable[[Rule, str], Item]], ...] = (
    ("contract", _contract),
    ("forms agree", _forms),
    ("dtypes and shapes", _dtypes_and_shapes),
    ("determinism", _determinism),
    ("no write outside", _no_write_outside),
    ("state dict", _round_trip),
    ("compilations", _compilations),
    ("descent", _descent),
)
