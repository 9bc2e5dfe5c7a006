"""Train many lanes of one rule and one variant together: forward and backward over lanes, then the lane kernel.

Two ways: one printed kernel for model and rule; and `torch.vmap`, with the rule as operations on tensors, which needs no
compilation, runs on any device and takes whatever vmap takes. A lane's numbers depend on no other lane, nor on how many there are.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from steprule.alone import recording
from steprule.compiler import cache
from steprule.compiler.threads import PARALLEL, may_run_parallel
from steprule.compiler.variant import variant_of
from steprule.held import most_held
from steprule.lanes.loop import evaluation, training
from steprule.lanes.model import traced
from steprule.lanes.rule import LaneRule, layout
from steprule.lanes.step import NotBatchable, Source, compiled, printed
from steprule.lanes.tensors import TensorStepper
from steprule.problems.batch import mapped, stacked
from steprule.problems.facts import alike, facts_of
from steprule.problems.problem import Problem
from steprule.problems.scoring import measured, row_of, scores_of
from steprule.problems.source import batches
from steprule.rules.rule import Rule
from steprule.schedules import Schedule, constant

Array = NDArray[Any]
Engine = Literal["kernel", "vmap", "one by one"]
Gradients = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(p, x, y): the gradients [rows, lanes] and the losses [lanes] of p [rows, lanes] and a batch."""

WINDOWS = 30
"""Points of a loss curve: each is the mean of the batch losses of a thirtieth of the steps."""
RECORD = 2_000
"""Steps from which the gradients' operations are recorded."""
ROOM = 1 << 29
"""Bytes that lanes trained together may hold, and as many in a step. The same on every machine: with `torch.vmap` a lane's last bits
depend on how many others there are."""
FREED = 2
"""What the system holds for a byte that a step's tensors hold: what is freed is not given back at once."""
ALIKE = 1e-3
"""Gradients of one lane and of its model alone differ by less, relative to the largest: sums in another order."""
COPIES = {"kernel": 2, "vmap": 6}
"""Arrays of the parameters' size that an engine holds beside the states."""


@dataclass(frozen=True)
class Outcome:
    """What became of each lane."""

    train: Array
    """The loss on all training samples after the last step, [lanes]."""
    validation: Array
    test: Array
    """The same on what was held out; nan where the problem holds nothing out."""
    initial: Array
    """The loss on all training samples before the first step, [lanes]."""
    died_at: NDArray[np.int64]
    """The step whose batch loss was not finite, [lanes]; 0 for a lane that lived. It keeps the values it had then."""
    curve: Array
    """[lanes, WINDOWS]"""
    metrics: Array
    """[lanes, columns]: the problem's metrics in the order of `Problem.metric_columns`."""

    @classmethod
    def together(cls, parts: Sequence[Outcome]) -> Outcome:
        """The lanes of all parts, one behind the other."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


def train_lanes(
    task: Problem, rule: Rule, hypers: Mapping[str, Array], seeds: Sequence[int] | NDArray[np.int64], *, epochs: int, batch_size: int,
    schedule: Schedule | None = None, engine: Engine = "kernel", device: str = "cpu",
) -> Outcome:  # fmt: skip
    """Train every lane; `hypers` gives all of the rule's hyperparameters, [lanes], all of one variant, `seeds` each lane's
    seed. Lanes that all have one seed share their batches, which is faster.

    Raises `NotBatchable` where this engine cannot take the model.
    """
    distinct, seed_of = np.unique(np.asarray(seeds), return_inverse=True)
    models = [task.initial_model(int(seed)) for seed in distinct]
    starts = np.stack([torch.cat([p.detach().reshape(-1) for p in m.parameters()]).numpy() for m in models], axis=1)
    variant = variant_of(rule, {h.name: hypers[h.name][0].item() for h in rule.hypers})
    batches_of = [list(batches(task.samples, batch_size, epochs, int(seed))) for seed in distinct]
    counts = np.array([len(rows) for rows in batches_of[0]], dtype=np.int64)
    order = np.zeros((len(distinct), len(counts), counts[0]), dtype=np.int64)
    for k, plan in enumerate(batches_of):
        for t, rows in enumerate(plan):
            order[k, t, : len(rows)] = rows.numpy()
    whole = _Work(
        task=task,
        rule=LaneRule.of(variant, str(starts.dtype)),
        hypers=hypers,
        sizes=[p.numel() for p in models[0].parameters()],
        seed_of=seed_of.astype(np.int64),
        order=order,
        counts=counts,
        factors=np.array((schedule or constant()).factors(len(counts))),
        windows=np.arange(len(counts)) * WINDOWS // len(counts),
        device=device,
    )
    initial = np.array([measured(task, m, task.parts["train"]) for m in models])[seed_of]
    at_once = max(1, ROOM // _kept_bytes(whole.rule, models[0], engine))
    cuts = [slice(low, low + at_once) for low in range(0, len(seed_of), at_once)]
    parts = [_trained(whole.part(cut), starts, initial[cut], engine) for cut in cuts]
    return parts[0] if len(parts) == 1 else Outcome.together(parts)


def _kept_bytes(rule: LaneRule, model: nn.Module, engine: Engine) -> int:
    """What a lane keeps from step to step: its parameters, their states, and copies."""
    return sum(p.nbytes for p in model.parameters()) * (COPIES[engine] + len(rule.states))


def held_by(task: Problem, rule: Rule, lanes: int, batch: int, engine: Engine, device: str = "cpu") -> int:
    """The bytes that so many lanes of a rule hold at most, trained in batches of this size."""
    own = LaneRule.of(variant_of(rule, rule.defaults), _compute_of(task))
    each = _kept_bytes(own, blank(task), engine)
    kept = min(lanes, max(1, ROOM // each)) * each
    return kept + (min(lanes * lane_bytes(task, batch, device), ROOM) * FREED if engine == "vmap" else 0)


def _trained(work: _Work, starts: Array, initial: Array, engine: Engine) -> Outcome:
    """The lanes of this work, trained and measured; `starts` [rows, seeds]."""
    run = _by_kernel if engine == "kernel" else _by_vmap
    task, lanes = work.task, len(work.seed_of)
    with _looped_over():
        p, curve, died, losses_on = run(work, starts[:, work.seed_of])
    steps = np.bincount(work.windows, minlength=WINDOWS)
    curve = curve[:, :lanes] / np.maximum(steps, 1)[:, None]
    held = [(task.features, task.targets), task.validation, task.test]
    with np.errstate(all="ignore"), _looped_over():
        scores = [losses_on(p, *part)[:lanes] if part else np.full(lanes, np.nan) for part in held]
        metrics = score(task, p[:, :lanes])
    return Outcome(scores[0], scores[1], scores[2], initial, died[:lanes], _without_gaps(curve.T, steps), metrics)


@contextmanager
def _looped_over() -> Iterator[None]:
    """torch says nothing of an operation that vmap takes lane by lane; which one that is depends on the processor."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        yield


def curve_of(losses: Array) -> Array:
    """The curve of one training from its batch losses, [WINDOWS]; as train_lanes gives it."""
    windows = np.arange(len(losses)) * WINDOWS // len(losses)
    steps = np.bincount(windows, minlength=WINDOWS)
    sums = np.bincount(windows, losses, minlength=WINDOWS)
    return np.asarray(_without_gaps((sums / np.maximum(steps, 1))[None], steps)[0])


@dataclass(frozen=True)
class _Work:
    """What a group of lanes is trained with."""

    task: Problem
    rule: LaneRule
    hypers: Mapping[str, Array]
    sizes: list[int]
    """The numbers of each parameter of the model."""
    seed_of: NDArray[np.int64]
    """Which of `order` each lane has, [lanes]."""
    order: NDArray[np.int64]
    """The samples of each batch, [seeds, steps, batch]."""
    counts: NDArray[np.int64]
    """How many of them there are, [steps]."""
    factors: Array
    """What multiplies the learning rate, [steps]."""
    windows: NDArray[np.int64]
    """The point of the loss curve to which each step belongs, [steps]."""
    device: str

    @property
    def own_data(self) -> bool:
        """Whether lanes have batches of their own."""
        return len(self.order) > 1

    def part(self, lanes: slice) -> _Work:
        """The same with some of the lanes."""
        hypers = {n: v[lanes] for n, v in self.hypers.items()}
        return replace(self, hypers=hypers, seed_of=self.seed_of[lanes])


Trained = tuple[Array, Array, NDArray[np.int64], Callable[[Array, Tensor, Tensor], Array]]
"""p [rows, lanes], the summed losses of each window [windows, lanes], died_at [lanes], and what gives the losses of such p on
some samples; lanes may be padded."""


def _by_kernel(work: _Work, start: Array) -> Trained:
    """Every step of every lane in one call."""
    task, rule, sizes = work.task, work.rule, sorted({int(n) for n in work.counts}, reverse=True)
    full = source_of(task, sizes[0], work.own_data)
    last = source_of(task, sizes[-1], work.own_data, full.width)
    parallel = may_run_parallel()
    width, lanes = full.width, start.shape[1]
    padded = np.minimum(np.arange(-(-lanes // width) * width), lanes - 1)  # the last lane again
    names = rule.states, rule.hypers, [*rule.scalar_slots, *rule.numbers]
    states, hypers, slots = (rule.rows_of(n, work.hypers, lanes)[:, padded] for n in names)
    p = np.ascontiguousarray(start[:, padded])
    curve, died = np.zeros((WINDOWS, len(padded))), np.zeros(len(padded), dtype=np.int64)
    scratch = [width, max(full.lane_rows, last.lane_rows), max(full.shared_rows, last.shared_rows)]
    x, y = (_rows(d) for d in (task.features, task.targets))
    train = training(full, parallel=parallel)
    with PARALLEL if parallel else nullcontext():  # a forked child may have inherited the lock held
        train(
            compiled(full).block, compiled(last).block, rule.module.step, p,
            np.ascontiguousarray(states), np.ascontiguousarray(hypers), np.ascontiguousarray(slots),
            np.array([k for k, n in enumerate(rule.hypers) if n == "lr"], dtype=np.int64),
            np.array(rule.norm_rows, dtype=np.int64), x, y, work.order,
            work.seed_of[padded], work.counts, work.factors, work.windows, curve, died, *layout(work.sizes),
            np.array([*scratch, *rule.extents], dtype=np.int64),
        )  # fmt: skip

    def losses_on(p: Array, x: Tensor, y: Tensor) -> Array:
        """By a kernel in batches of the training's size; what is left over by vmap."""
        whole = len(x) // sizes[0] * sizes[0]
        total = np.zeros(p.shape[1])
        if whole:
            loss = source_of(task, sizes[0], False, width, False)
            losses = evaluation(loss, parallel=parallel)
            extents = np.array([width, loss.lane_rows, loss.shared_rows, sizes[0]], dtype=np.int64)
            with PARALLEL if parallel else nullcontext():
                losses(compiled(loss).block, p, _rows(x[:whole]), _rows(y[:whole]), total, extents)
        rest = evaluate(task, p, x[whole:], y[whole:]).astype(np.float64) if whole < len(x) else 0.0
        return (total * whole + rest * (len(x) - whole)) / len(x)

    return p, curve, died, losses_on


def _rows(data: Tensor) -> Array:
    """[samples, numbers]"""
    return np.ascontiguousarray(data.reshape(len(data), -1).numpy())


def _by_vmap(work: _Work, start: Array) -> Trained:
    """A call a step, on any device: torch's vmap for the gradients, the rule as operations on tensors."""
    p = torch.from_numpy(np.ascontiguousarray(start)).to(work.device)
    stepper = TensorStepper(work.rule, work.hypers, work.sizes, work.device)
    alive = torch.ones(p.shape[1], dtype=torch.bool, device=work.device)
    curve = torch.zeros((WINDOWS, p.shape[1]), dtype=torch.float64, device=work.device)
    died = torch.zeros(p.shape[1], dtype=torch.int64, device=work.device)
    for t, (gradient, losses) in enumerate(_gradients(work, p, work.device), 1):
        finite = torch.isfinite(losses)
        died = torch.where(alive & ~finite, t, died)
        alive &= finite
        curve[work.windows[t - 1]] += losses
        stepper.step(t, p, gradient, alive, float(work.factors[t - 1]))
    found = p.cpu().numpy(), curve.cpu().numpy(), died.cpu().numpy()
    return *found, lambda p, x, y: evaluate(work.task, p, x, y)


def _gradients(work: _Work, p: Tensor, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """At each step the gradients [rows, lanes] and the losses [lanes] of what p is by then."""
    # Recorded once and played back: vmap and autograd cost more than what they compute. But what records takes a second to
    # import, as torch.func.grad does.
    record = len(work.counts) >= RECORD or "torch._inductor" in sys.modules
    gradients = _vmapped(work.task, blank(work.task).to(device), own_data=work.own_data, record=record)
    features, targets = work.task.features.to(device), work.task.targets.to(device)
    order, seed_of = torch.from_numpy(work.order).to(device), torch.from_numpy(work.seed_of).to(device)
    at_once = max(1, ROOM // max(1, lane_bytes(work.task, work.order.shape[2], device)))
    for t, count in enumerate(work.counts):
        found = []
        for lanes in (slice(low, low + at_once) for low in range(0, p.shape[1], at_once)):
            rows = order[:, t, :count]
            rows = rows[seed_of[lanes]] if work.own_data else rows[0]
            found.append(gradients(p[:, lanes], features[rows], targets[rows]))
        yield found[0] if len(found) == 1 else (torch.cat([g for g, _ in found], 1), torch.cat([v for _, v in found]))


@lru_cache(maxsize=64)
def lane_bytes(task: Problem, batch: int, device: str = "cpu") -> int:
    """What a step of `torch.vmap` on a batch of this size holds for each lane, in bytes: by two steps, of one lane and of two.

    Raises `NotBatchable`.
    """
    model = blank(task).to(device)
    gradients = _vmapped(task, model, own_data=False, record=False)
    x, y = (data[:batch].to(device, copy=True) for data in (task.features, task.targets))
    one = torch.cat([p.detach().reshape(-1, 1) for p in model.parameters()])
    held = [most_held(partial(gradients, p, x, y)) for p in (one, one.expand(-1, 2))]
    return max(1, held[1] - held[0])


def check_lanes(task: Problem, batch: int, *, together: bool) -> None:
    """Raises `NotBatchable` where the models of two seeds have other gradients alone than as lanes: by one model's code, under `torch.vmap`
    where they are trained `together` by it."""
    models = [task.initial_model(seed) for seed in (0, 1)]
    shapes = [[p.shape for p in m.parameters()] for m in models]
    if shapes[0] != shapes[1]:
        raise NotBatchable("a model of other parameters with another seed")
    p = torch.stack([torch.cat([q.detach().reshape(-1) for q in m.parameters()]) for m in models], 1)
    gradients = _vmapped(task, blank(task), own_data=False, record=False)
    x, y = (data[:batch] for data in (task.features, task.targets))
    lanes = [slice(2)] if together else [slice(1), slice(1, 2)]
    with _looped_over():
        found = torch.cat([gradients(p[:, lane], x.clone(), y.clone())[0] for lane in lanes], 1)
    for k, model in enumerate(models):
        own = torch.autograd.grad(task.loss(model(x.clone()), y.clone()), list(model.parameters()), allow_unused=True)
        if any(g is None for g in own):
            raise NotBatchable("a parameter that gets no gradient with some seeds")
        if not alike(torch.cat([g.reshape(-1) for g in own]), found[:, k], ALIKE):
            raise NotBatchable("together its gradients are others than alone")


def _without_gaps(curve: Array, counts: Array) -> Array:
    """Windows of fewer steps than there are windows hold what the one before them holds."""
    last = np.maximum.accumulate(np.where(counts > 0, np.arange(len(counts)), 0))
    return curve[:, last]


@lru_cache(maxsize=64)
def source_of(
    task: Problem, batch: int, own_data: bool = False, width: int | None = None, gradient: bool = True
) -> Source:
    """The model's step for batches of one size, or its loss alone. Raises `NotBatchable`."""
    if cache.interpreting():
        raise NotBatchable("a Numba that NUMBA_DISABLE_JIT turns off")
    try:
        if facts_of(task).reduction != "mean":
            raise NotBatchable("a loss that is no mean over the samples")
        step = traced(task, blank(task) if gradient else blank(task).eval(), batch, gradient=gradient)
        return printed(step, _compute_of(task), own_data=own_data, width=width)
    except NotBatchable:
        raise
    except Exception as error:
        raise NotBatchable(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


PARTS = (0, 1, 2)
"""Of what `build` builds."""


def build(task: Problem, batch_size: int, part: int) -> None:
    """Build the loops and the loss (0), the step of a whole batch (1) or of the shorter last one (2), for lanes with data of
    their own."""
    count = task.samples
    size = min(batch_size, count)
    full = source_of(task, size, True)
    if part == 0:
        loss = source_of(task, size, False, full.width, False)
        training(full, parallel=may_run_parallel())
        evaluation(loss, parallel=may_run_parallel())
        compiled(loss)
    else:
        compiled(full if part == 1 else source_of(task, count % batch_size or size, True, full.width))


def _compute_of(task: Problem) -> str:
    return str(next(blank(task).parameters()).dtype).removeprefix("torch.")


def blank(task: Problem) -> nn.Module:
    """A model whose parameters do not count; its buffers are those of every seed."""
    return task.initial_model(0)


def _vmapped(task: Problem, model: nn.Module, *, own_data: bool, record: bool) -> Gradients:
    shapes = {n: p.shape for n, p in model.named_parameters()}

    def loss_of(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return task.loss(functional_call(model, params, (x,)), y)

    if not all(p.requires_grad for p in model.parameters()):
        raise NotBatchable("a parameter that is frozen")
    data = 0 if own_data else None
    all_losses = vmap(loss_of, in_dims=(0, data, data))

    def both(params: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        leaves = {n: v.detach().requires_grad_() for n, v in params.items()}
        losses = all_losses(leaves, x, y)
        # A lane's loss depends on no other lane's parameters: the gradient of the sum is that of each.
        gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
        return dict(zip(leaves, gradients, strict=True)), losses.detach()

    recorded: dict[Any, Any] = {}

    def call(p: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        params = _lanes_first(p, shapes)
        try:
            if record and (key := (x.shape, p.shape[1])) not in recorded:
                with recording():
                    recorded[key] = make_fx(both)(params, x, y)
            if record:
                with torch.no_grad():
                    gradients, losses = recorded[key](params, x, y)
            else:
                gradients, losses = both(params, x, y)
        except Exception as error:
            raise NotBatchable(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
        return torch.cat([gradients[n].reshape(p.shape[1], -1) for n in shapes], dim=1).T, losses

    return call


def _lanes_first(p: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    whole, row, params = p.T.contiguous(), 0, {}
    for name, shape in shapes.items():
        params[name] = whole[:, row : row + shape.numel()].reshape(-1, *shape)
        row += shape.numel()
    return params


def evaluate(task: Problem, p: Array, x: Tensor, y: Tensor) -> Array:
    """The loss of every lane of p [rows, lanes] on some samples, in parts that memory can hold."""
    facts = facts_of(task)
    if facts.reduction == "whole" or len(x) <= facts.at_once:
        return _evaluated(task, p, x, y)
    total = np.zeros(p.shape[1])
    for low in range(0, len(x), facts.at_once):
        part = slice(low, low + facts.at_once)
        share = len(x[part]) / len(x) if facts.reduction == "mean" else 1.0
        total += _evaluated(task, p, x[part], y[part]) * share
    return total


def _evaluated(task: Problem, p: Array, x: Tensor, y: Tensor) -> Array:
    model = blank(task).eval()
    shapes = {n: q.shape for n, q in model.named_parameters()}

    def loss_of(params: dict[str, Tensor]) -> Tensor:
        return task.loss(functional_call(model, params, (x.clone(),)), y.clone())  # which may be worked on in place

    chunk = max(1, ROOM // max(1, len(x) * facts_of(task).sample_bytes))
    found = []
    with torch.no_grad():
        for low in range(0, p.shape[1], chunk):
            part = _lanes_first(torch.from_numpy(p[:, low : low + chunk]), shapes)
            try:
                found.append(vmap(loss_of)(part).numpy())
            except Exception:  # noqa: BLE001  (a model that vmap cannot take is evaluated lane by lane)
                count = len(next(iter(part.values())))
                found.append(np.array([float(loss_of({n: v[k] for n, v in part.items()})) for k in range(count)]))
    return np.concatenate(found)


def score(task: Problem, p: Array) -> Array:
    """The metrics of every lane of p [rows, lanes] on every part, [lanes, columns]: outputs together, each metric lane by lane."""
    lanes = p.shape[1]
    if not task.metrics:
        return np.empty((lanes, 0))
    model = blank(task).eval()
    shapes = {n: q.shape for n, q in model.named_parameters()}
    held = {"train": (task.features, task.targets), "validation": task.validation, "test": task.test}
    found = []
    with torch.no_grad():
        chunk = max(1, ROOM // max(1, sum(p.samples for p in task.parts.values()) * facts_of(task).sample_bytes))
        for low in range(0, lanes, chunk):
            params = _lanes_first(torch.from_numpy(np.ascontiguousarray(p[:, low : low + chunk])), shapes)
            outputs = {n: _outputs(model, params, held[n][0]) for n in task.parts}  # type: ignore[index]
            for k in range(min(chunk, lanes - low)):
                own = {n: scores_of(task, mapped(outputs[n], lambda t, k=k: t[k]), held[n][1]) for n in task.parts}  # type: ignore[index,misc]
                found.append(row_of(task, own))
    return np.array(found)


def _outputs(model: nn.Module, params: dict[str, Tensor], x: Tensor) -> Any:
    """What the model gives for each lane, [lanes, samples, ...]."""

    def of_lane(own: dict[str, Tensor]) -> Any:
        return functional_call(model, own, (x.clone(),))

    try:
        return vmap(of_lane)(params)
    except Exception:  # noqa: BLE001  (a model that vmap cannot take is evaluated lane by lane)
        lanes = [of_lane({n: v[k] for n, v in params.items()}) for k in range(len(next(iter(params.values()))))]
        return stacked(lanes)


def groups(rule: Rule, hypers: Mapping[str, Array]) -> list[NDArray[np.int64]]:
    """The points that share a variant of the rule."""
    points = len(next(iter(hypers.values())))
    values = [
        np.unique(hypers[h.name], return_inverse=True)[1] if h.is_plain else hypers[h.name] != 0
        for h in rule.hypers
        if h.switches
    ]
    switches = np.array(values or [np.zeros(points)])
    _, variant = np.unique(switches, axis=1, return_inverse=True)
    return [np.flatnonzero(variant == k) for k in range(variant.max() + 1)]
