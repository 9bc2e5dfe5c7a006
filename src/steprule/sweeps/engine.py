"""Train many lanes of one rule, one seed and one variant together: forward and backward over lanes, then the lane kernel.

Two ways forward and backward, with the same signature: the printed kernel, and `torch.vmap`, which needs no compilation
and takes whatever vmap takes. A lane's numbers depend on no other lane, nor on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from steprule.compiler import eager
from steprule.compiler.cpu import PARALLEL, may_run_parallel
from steprule.compiler.lanes import LaneKernel, scalar_inputs
from steprule.compiler.split import Program, program_of
from steprule.problems.problem import Init, Problem
from steprule.rules.rule import Rule
from steprule.sweeps.driver import driver, evaluator
from steprule.sweeps.kernel import NotBatchable, Source, printed
from steprule.sweeps.model import traced
from steprule.training import SCHEDULES, batches

Array = NDArray[Any]
Engine = Literal["kernel", "vmap", "one by one"]
Gradients = Callable[[Array, Array, Tensor, Tensor, Array], None]
"""(p, g, x, y, losses): fills g [rows, lanes] and losses [lanes] from p [rows, lanes] and a batch."""

WINDOWS = 30
"""Points of a loss curve: each is the mean of the batch losses of a thirtieth of the steps."""
EVALUATE = 64_000_000
"""Numbers that an evaluation may hold at once."""


@dataclass(frozen=True)
class Outcome:
    """What became of each lane."""

    train: Array
    """The loss on all training samples after the last step, [lanes]."""
    validation: Array
    test: Array
    """The same on what was held out; nan where the problem holds nothing out."""
    initial: float
    """The loss on all training samples before the first step."""
    died_at: NDArray[np.int64]
    """The step whose batch loss was not finite, [lanes]; 0 for a lane that lived. It keeps the values it had then."""
    curve: Array
    """[lanes, WINDOWS]"""


def train_lanes(
    task: Problem, rule: Rule, hypers: Mapping[str, Array], seed: int, *, epochs: int, batch_size: int,
    schedule: str = "constant", init: Init = "same", engine: Engine = "kernel",
) -> Outcome:  # fmt: skip
    """Train every lane; `hypers` gives all of the rule's hyperparameters, [lanes], all of one variant.

    Raises `NotBatchable` where this engine cannot take the model.
    """
    lanes = len(next(iter(hypers.values())))
    model = task.initial_model(seed, init, torch_class=False)
    start = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()
    plan = list(batches(len(task.features), batch_size, epochs, seed))
    switches = tuple((h.name, bool(hypers[h.name][0] != 0)) for h in rule.hypers if h.switches)
    used = eager.slots_of(rule, switches)
    absent = frozenset(s.name for s in rule.slots if s.absent_at_first and s.name in used)
    variant = _Variant(
        first=_program_of(rule, switches, absent),
        later=_program_of(rule, switches, frozenset()),
        sizes=[p.numel() for p in model.parameters()],
        factors=np.array([SCHEDULES[schedule](t, len(plan)) for t in range(1, len(plan) + 1)]),
        windows=np.arange(len(plan)) * WINDOWS // len(plan),
    )
    run = _by_kernel if engine == "kernel" else _by_vmap
    p, curve, died, losses_on = run(task, variant, hypers, start, plan)
    counts = np.bincount(variant.windows, minlength=WINDOWS)
    curve = curve[:, :lanes] / np.maximum(counts, 1)[:, None]
    held = [(task.features, task.targets), task.validation, task.test]
    with np.errstate(all="ignore"):
        scores = [losses_on(p, *part)[:lanes] if part else np.full(lanes, np.nan) for part in held]
    with torch.no_grad():
        initial = float(task.loss(model(task.features), task.targets))
    return Outcome(scores[0], scores[1], scores[2], initial, died[:lanes], _without_gaps(curve.T, counts))


_program_of = lru_cache(maxsize=256)(program_of)


@dataclass(frozen=True)
class _Variant:
    """What the lanes of a group share."""

    first: Program
    """The rule at its first step, where slots may be absent."""
    later: Program
    sizes: list[int]
    """The numbers of each parameter of the model."""
    factors: Array
    """What multiplies the learning rate, [steps]."""
    windows: NDArray[np.int64]
    """The point of the loss curve to which each step belongs, [steps]."""


Trained = tuple[Array, Array, NDArray[np.int64], Callable[[Array, Tensor, Tensor], Array]]
"""p [rows, lanes], the summed losses of each window [windows, lanes], died_at [lanes], and what gives the losses of such p on
some samples; lanes may be padded."""


def _by_kernel(
    task: Problem, variant: _Variant, hypers: Mapping[str, Array], start: Array, plan: list[Tensor]
) -> Trained:
    """Every step of every lane in one call."""
    full = source_of(task, len(plan[0]))
    last = source_of(task, len(plan[-1])) if len(plan[-1]) != len(plan[0]) else None
    parallel = may_run_parallel()
    train = training_of(full, last, variant.first, variant.later, _compute_of(task), parallel)
    width = full.width
    lanes = len(next(iter(hypers.values())))
    blocks = -(-lanes // width)

    def rows(names: Sequence[str], values: Mapping[str, Any]) -> Array:
        """[names, lanes], padded with the last lane."""
        found = np.zeros((len(names), blocks * width))
        for k, name in enumerate(names):
            found[k, :lanes] = values[name]
            found[k, lanes:] = found[k, lanes - 1]
        return found

    inputs, scalar_slots = scalar_inputs(variant.later)
    slots = {s.name: hypers[s.start] if isinstance(s.start, str) else s.start for s in variant.later.graph.rule.slots}
    p = np.repeat(start[:, None], blocks * width, axis=1)
    curve, died = np.zeros((WINDOWS, blocks * width)), np.zeros(blocks * width, dtype=np.int64)
    order = np.zeros((len(plan), len(plan[0])), dtype=np.int64)
    for t, batch in enumerate(plan):
        order[t, : len(batch)] = batch.numpy()
    x, y = (np.ascontiguousarray(d.reshape(len(d), -1).numpy()) for d in (task.features, task.targets))
    state = [n for n in variant.later.columns if n not in ("p", "g")]
    with PARALLEL if parallel else nullcontext():  # a forked child may have inherited the lock held
        train(
            p, rows(state, slots), rows(inputs, hypers), rows(scalar_slots, slots),
            np.array([k for k, n in enumerate(inputs) if n == "lr"], dtype=np.int64), x, y, order,
            np.array([len(b) for b in plan], dtype=np.int64), variant.factors, variant.windows, curve, died,
            np.repeat(np.arange(len(variant.sizes), dtype=np.int32), variant.sizes),
            np.concatenate([[0], np.cumsum(variant.sizes)]).astype(np.int64), blocks,
        )  # fmt: skip

    def losses_on(p: Array, x: Tensor, y: Tensor) -> Array:
        """By the training's own kernel in batches of its size; what is left over by vmap."""
        size = len(plan[0])
        whole = len(x) // size * size
        total = np.zeros(p.shape[1])
        if whole:
            rows = np.arange(whole, dtype=np.int64).reshape(-1, size)
            flat = [np.ascontiguousarray(d[:whole].reshape(whole, -1).numpy()) for d in (x, y)]
            with PARALLEL if parallel else nullcontext():
                losses_of(full, _compute_of(task), parallel)(p, *flat, rows, total, blocks)
        rest = evaluate(task, p, x[whole:], y[whole:]).astype(np.float64) if whole < len(x) else 0.0
        return (total * whole + rest * (len(x) - whole)) / len(x)

    return p, curve, died, losses_on


def _by_vmap(
    task: Problem, variant: _Variant, hypers: Mapping[str, Array], start: Array, plan: list[Tensor]
) -> Trained:
    """A call a step: torch's vmap for the gradients, the lanes form for the rule."""
    lanes = len(next(iter(hypers.values())))
    gradients = _vmapped(task, task.model())
    p = np.repeat(start[:, None], lanes, axis=1)
    columns = {"p": p, "g": np.empty_like(p)}
    for slot in variant.later.graph.rule.slots:
        if slot.name in variant.later.columns:
            columns[slot.name] = np.full_like(p, hypers[slot.start] if isinstance(slot.start, str) else slot.start)
    kernel = LaneKernel(variant.first, str(p.dtype), hypers, variant.sizes)
    losses, alive = np.empty(lanes, dtype=p.dtype), np.ones(lanes, dtype=np.uint8)
    curve, died = np.zeros((WINDOWS, lanes)), np.zeros(lanes, dtype=np.int64)
    with np.errstate(all="ignore"):
        for t, rows in enumerate(plan, 1):
            gradients(p, columns["g"], task.features[rows], task.targets[rows], losses)
            finite = np.isfinite(losses)
            if not finite.all():
                died[(alive == 1) & ~finite] = t
                alive[~finite] = 0
            curve[variant.windows[t - 1]] += losses
            kernel.step(t, columns, alive, float(variant.factors[t - 1]))
            if t == 1 and variant.first is not variant.later:
                kernel = kernel.followed_by(variant.later)
    return p, curve, died, lambda p, x, y: evaluate(task, p, x, y)


def _without_gaps(curve: Array, counts: Array) -> Array:
    """Windows of fewer steps than there are windows hold what the one before them holds."""
    last = np.maximum.accumulate(np.where(counts > 0, np.arange(len(counts)), 0))
    return curve[:, last]


@lru_cache(maxsize=64)
def source_of(task: Problem, batch: int) -> Source:
    """The model's step for batches of one size. Raises `NotBatchable`."""
    try:
        return printed(traced(task, task.model(), batch), _compute_of(task))
    except NotBatchable:
        raise
    except Exception as error:
        raise NotBatchable(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _compute_of(task: Problem) -> str:
    return str(next(task.model().parameters()).dtype).removeprefix("torch.")


training_of = lru_cache(maxsize=256)(driver)
losses_of = lru_cache(maxsize=64)(evaluator)


def _vmapped(task: Problem, model: nn.Module) -> Gradients:
    shapes = {n: p.shape for n, p in model.named_parameters()}

    def loss_of(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return task.loss(functional_call(model, params, (x,)), y)

    if not all(p.requires_grad for p in model.parameters()):
        raise NotBatchable("a parameter that is frozen")
    both = vmap(grad_and_value(loss_of), in_dims=(0, None, None))

    recorded: dict[Any, Any] = {}

    def call(p: Array, g: Array, x: Tensor, y: Tensor, losses: Array) -> None:
        params = _lanes_first(p, shapes)
        try:
            # Recorded once for batches of one size and played back: vmap and autograd cost twenty times what they compute.
            if (key := (len(x), p.shape[1])) not in recorded:
                recorded[key] = make_fx(both)(params, x, y)
            with torch.no_grad():
                gradients, found = recorded[key](params, x, y)
        except Exception as error:
            raise NotBatchable(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
        row = 0
        for name, shape in shapes.items():
            g[row : row + shape.numel()] = gradients[name].reshape(p.shape[1], -1).numpy().T
            row += shape.numel()
        losses[:] = found.numpy()

    return call


def _lanes_first(p: Array, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    whole, row, params = torch.from_numpy(np.ascontiguousarray(p.T)), 0, {}
    for name, shape in shapes.items():
        params[name] = whole[:, row : row + shape.numel()].reshape(-1, *shape)
        row += shape.numel()
    return params


def evaluate(task: Problem, p: Array, x: Tensor, y: Tensor) -> Array:
    """The loss of every lane of p [rows, lanes] on some samples, in chunks of lanes that fit into memory."""
    model = task.model()
    shapes = {n: q.shape for n, q in model.named_parameters()}

    def loss_of(params: dict[str, Tensor]) -> Tensor:
        return task.loss(functional_call(model, params, (x,)), y)

    widest = max([*(s[0] for s in shapes.values() if len(s)), 1])
    chunk = max(1, EVALUATE // max(1, len(x) * widest))
    found = []
    with torch.no_grad():
        for low in range(0, p.shape[1], chunk):
            part = _lanes_first(p[:, low : low + chunk], shapes)
            try:
                found.append(vmap(loss_of)(part).numpy())
            except Exception:  # noqa: BLE001  (a model that vmap cannot take is evaluated lane by lane)
                count = len(next(iter(part.values())))
                found.append(np.array([float(loss_of({n: v[k] for n, v in part.items()})) for k in range(count)]))
    return np.concatenate(found)


def groups(rule: Rule, hypers: Mapping[str, Array]) -> list[NDArray[np.int64]]:
    """The points that share a variant of the rule."""
    points = len(next(iter(hypers.values())))
    switches = np.array([hypers[h.name] != 0 for h in rule.hypers if h.switches] or [np.zeros(points)])
    _, variant = np.unique(switches, axis=1, return_inverse=True)
    return [np.flatnonzero(variant == k) for k in range(variant.max() + 1)]
