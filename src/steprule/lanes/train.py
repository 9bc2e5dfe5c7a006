"""Train many lanes of one variant of a rule together: by a kernel, or by `torch.vmap`.

The kernel takes blocks of lanes through the whole training. `torch.vmap`, with the rule as operations on tensors, needs no
compilation, runs on any device and takes whatever vmap takes. A lane's numbers depend on no other lane.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steprule.compiler.threads import PARALLEL, may_run_parallel
from steprule.lanes import vmapped
from steprule.lanes.evaluate import evaluate, score
from steprule.lanes.kernel import our_faults, source_of
from steprule.lanes.loop import evaluation, training
from steprule.lanes.matrices import MatrixRule
from steprule.lanes.model import blank
from steprule.lanes.parts import Part, PartsStepper, Supply, parts_of
from steprule.lanes.records import WINDOWS, Array, Engine, Outcome, Trainings, bound, curves, window_of
from steprule.lanes.rule import LaneRule, layout
from steprule.lanes.step import compiled
from steprule.lanes.vmapped import lane_bytes, lanes_last, looped_over
from steprule.per_kind import PerKind
from steprule.problems.problem import Problem
from steprule.problems.scoring import measured
from steprule.problems.source import passes, stream
from steprule.rules.rule import Rule
from steprule.training.recipe import Recipe

RECORD = 2_000
"""Steps from which the gradients' operations are recorded."""
FREED = 2
"""What the system holds for a byte that a step's tensors hold: what is freed is not given back at once."""
COPIES = {"kernel": 2, "vmap": 6}
"""Arrays of the parameters' size that an engine holds beside the states."""


def train_lanes(
    task: Problem, rule: Rule | PerKind, lanes: Trainings, recipe: Recipe, engine: Engine = "kernel"
) -> Outcome:
    """Train every lane; `lanes` gives all of the rule's hyperparameters, all of one variant. Lanes that all have one seed share
    their batches, which is faster.

    Raises `NotPrintable` or `NotBatchable` where this engine cannot take the model.
    """
    distinct, seed_of = np.unique(lanes.seeds, return_inverse=True)
    models = [task.initial_model(int(seed)) for seed in distinct]
    starts = lanes_last(models).numpy()
    parts = parts_of(rule, lanes.hypers, models[0])
    engine = _engine(parts, engine)
    order, counts = _batches(task, recipe, distinct)
    whole = Group(
        task=task,
        parts=parts,
        seed_of=seed_of.astype(np.int64),
        order=order,
        counts=counts,
        factors=np.array(recipe.schedule.factors(len(counts))),
        windows=window_of(len(counts)),
        device=recipe.device,
        noise=np.array([stream(int(seed), 2) for seed in distinct])[seed_of],
    )
    initial = np.array([measured(task, m, task.parts["train"]) for m in models])[seed_of]
    at_once = max(1, vmapped.ROOM // _kept_bytes(whole.parts, models[0], engine))
    cuts = [slice(low, low + at_once) for low in range(0, len(lanes), at_once)]
    found = [_trained(whole.part(cut), starts, initial[cut], engine) for cut in cuts]
    return found[0] if len(found) == 1 else Outcome.together(found)


def held_by(task: Problem, rule: Rule | PerKind, lanes: int, batch: int, engine: Engine, device: str = "cpu") -> int:
    """The bytes that so many lanes of a rule hold at most, trained in batches of this size."""
    one = bound(rule, {}, 1)
    parts = parts_of(rule, one, blank(task))
    engine = _engine(parts, engine)
    each = _kept_bytes(parts, blank(task), engine)
    kept = min(lanes, max(1, vmapped.ROOM // each)) * each
    if engine != "vmap":
        return kept
    return kept + min(lanes * lane_bytes(task, batch, device), vmapped.ROOM) * FREED


def _kept_bytes(parts: Sequence[Part], model: nn.Module, engine: Engine) -> int:
    """What a lane keeps from step to step: its parameters, their states, and copies."""
    size = next(model.parameters()).element_size()
    return sum(len(part.rows) * COPIES[engine] + _kept(part) for part in parts) * size


def _kept(part: Part) -> int:
    """The numbers that a lane keeps in states."""
    return part.rule.kept if isinstance(part.rule, MatrixRule) else len(part.rows) * len(part.rule.states)


def _engine(parts: Sequence[Part], asked: Engine) -> Engine:
    """No kernel steps matrices, nor a model of several rules, nor draws noise, asks for the loss, or looks more than once."""
    rule = parts[0].rule
    if (
        len(parts) > 1
        or isinstance(rule, MatrixRule)
        or rule.variant.rule.draws
        or rule.variant.rule.asks_for_loss
        or len(rule.looks) > 1
    ):
        return "vmap"
    return asked


def _batches(task: Problem, recipe: Recipe, seeds: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The samples of each batch, [seeds, steps, batch], and how many of them there are, [steps]."""
    size = min(recipe.batch_size, task.samples)
    steps = -(-task.samples // size)
    order = np.zeros((len(seeds), recipe.epochs, steps * size), dtype=np.int64)
    for k, seed in enumerate(seeds):
        for e, rows in enumerate(passes(task.samples, recipe.epochs, int(seed))):
            order[k, e, : task.samples] = rows.numpy()
    counts = np.full(steps, size, dtype=np.int64)
    counts[-1] = task.samples - (steps - 1) * size
    return order.reshape(len(seeds), recipe.epochs * steps, size), np.tile(counts, recipe.epochs)


@dataclass(frozen=True)
class Group:
    """Lanes of one variant of a rule, and all that they train with."""

    task: Problem
    parts: list[Part]
    """What each rule steps: one, or one per kind of parameter."""
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
    noise: NDArray[np.int64]
    """The seed of each lane's noise, [lanes]: that with which a training by itself seeds torch."""

    def __len__(self) -> int:
        return len(self.seed_of)

    @property
    def own_data(self) -> bool:
        """Whether lanes have batches of their own."""
        return len(self.order) > 1

    def part(self, lanes: slice) -> Group:
        """The same with some of the lanes."""
        parts, own = [part.take(lanes) for part in self.parts], (self.seed_of[lanes], self.noise[lanes])
        return replace(self, parts=parts, seed_of=own[0], noise=own[1])


@dataclass(frozen=True)
class Trained:
    """Lanes at their end; an engine may have padded them with more of the last one."""

    p: Array
    """[rows, lanes], as the model is evaluated."""
    sums: Array
    """The summed batch losses of each window, [windows, lanes]."""
    died_at: NDArray[np.int64]
    """[lanes]"""
    losses_on: Callable[[Tensor, Tensor], Array]
    """Their losses on some samples, [lanes]."""


def _trained(group: Group, starts: Array, initial: Array, engine: Engine) -> Outcome:
    """The lanes of a group, trained and measured; `starts` [rows, seeds]."""
    run = _by_kernel if engine == "kernel" else _by_vmap
    task, lanes = group.task, len(group)
    with looped_over():
        found = run(group, starts[:, group.seed_of])
    held = {"train": (task.features, task.targets), "validation": task.validation, "test": task.test}
    with np.errstate(all="ignore"), looped_over():
        losses = {n: found.losses_on(*part)[:lanes] if part else np.full(lanes, np.nan) for n, part in held.items()}
        metrics = score(task, found.p[:, :lanes])
    curve = curves(found.sums[:, :lanes].T, group.windows)
    return Outcome(**losses, initial=initial, died_at=found.died_at[:lanes], curve=curve, metrics=metrics)


def _by_kernel(group: Group, start: Array) -> Trained:
    """Every step of every lane in one call, by one rule."""
    (part,) = group.parts
    task, rule = group.task, part.rule
    assert isinstance(rule, LaneRule)
    whole_batch, last_batch = int(group.counts.max()), int(group.counts.min())
    full = source_of(task, whole_batch, group.own_data)
    last = source_of(task, last_batch, group.own_data, full.width)
    lanes, width = start.shape[1], full.width
    padded = np.minimum(np.arange(-(-lanes // width) * width), lanes - 1)  # the last lane again

    def rows_of(names: list[str]) -> Array:
        return np.ascontiguousarray(rule.rows_of(names, part.hypers, lanes)[:, padded])

    p = np.ascontiguousarray(start[:, padded])
    sums, died = np.zeros((WINDOWS, len(padded))), np.zeros(len(padded), dtype=np.int64)
    lr_rows = np.array([k for k, n in enumerate(rule.hypers) if n == "lr"], dtype=np.int64)
    parallel = may_run_parallel()
    with our_faults(f"problem {task.name}: a kernel could not be compiled"):
        train, step = training(full, parallel=parallel), rule.module.step
        point = rule.module.point if rule.points else step
        look = rule.module.look1 if rule.looks else step
        looked = rule.states.index(rule.variant.rule.looked[0]) if rule.looks else -1
        full_block, last_block = compiled(full).block, compiled(last).block
    with PARALLEL if parallel else nullcontext():  # a forked child may have inherited the lock held
        train(
            full_block, last_block, step, point, int(bool(rule.points)), look, looked, p, rows_of(rule.states), rows_of(rule.hypers),
            rows_of([*rule.scalar_slots, *rule.numbers]), lr_rows,
            _rows(task.features), _rows(task.targets), group.order, group.seed_of[padded], group.counts, group.factors,
            group.windows, sums, died, *layout(part.sizes), width, max(full.lane_rows, last.lane_rows),
            max(full.sum_rows, last.sum_rows), max(full.shared_rows, last.shared_rows), *rule.scratch,
        )  # fmt: skip

    def losses_on(x: Tensor, y: Tensor) -> Array:
        return _losses_by_kernel(task, p, (x, y), whole_batch, width)

    return Trained(p, sums, died, losses_on)


def _losses_by_kernel(task: Problem, p: Array, data: tuple[Tensor, Tensor], batch: int, width: int) -> Array:
    """The loss of every lane, in batches of the training's size by the kernel, and of the samples left over by vmap."""
    x, y = data
    whole = len(x) // batch * batch
    total = np.zeros(p.shape[1])
    if whole:
        source = source_of(task, batch, False, width, False)
        parallel = may_run_parallel()
        with our_faults(f"problem {task.name}: a kernel could not be compiled"):
            losses, block = evaluation(source, parallel=parallel), compiled(source).block
        x_rows, y_rows = _rows(x[:whole]), _rows(y[:whole])
        with PARALLEL if parallel else nullcontext():
            losses(block, p, x_rows, y_rows, total, batch, width, source.lane_rows, source.sum_rows, source.shared_rows)
    if whole == len(x):
        return total * whole / len(x)
    rest = evaluate(task, p, x[whole:], y[whole:]).astype(np.float64)
    return np.asarray((total * whole + rest * (len(x) - whole)) / len(x))


def _rows(data: Tensor) -> Array:
    """[samples, numbers]"""
    return np.ascontiguousarray(data.reshape(len(data), -1).numpy())


def _by_vmap(group: Group, start: Array) -> Trained:
    """A call per step, on any device: torch's vmap for the gradients, the rule as operations on tensors."""
    p = torch.from_numpy(np.ascontiguousarray(start)).to(group.device)
    stepper = PartsStepper(group.parts, group.device)
    alive = torch.ones(p.shape[1], dtype=torch.bool, device=group.device)
    sums = torch.zeros((WINDOWS, p.shape[1]), dtype=torch.float64, device=group.device)
    died = torch.zeros(p.shape[1], dtype=torch.int64, device=group.device)
    gradients = Gradients(group)
    for t in range(1, len(group.counts) + 1):
        gradient, losses = gradients.at(t, p)
        finite = torch.isfinite(losses)
        died = torch.where(alive & ~finite, t, died)
        alive &= finite
        sums[group.windows[t - 1]] += losses
        stepper.tell(losses)
        stepper.step(
            t, p, gradient, alive, float(group.factors[t - 1]), Supply(partial(gradients.looked, t), group.noise)
        )
    ended = stepper.evaluated(len(group.counts), p, alive, float(group.factors[-1])).cpu().numpy()
    return Trained(ended, sums.cpu().numpy(), died.cpu().numpy(), lambda x, y: evaluate(group.task, ended, x, y))


class Gradients:
    """The gradients of lanes on the batches of a training, by `torch.vmap`."""

    def __init__(self, group: Group) -> None:
        task, device = group.task, group.device
        self.group = group
        # Recorded once and played back: vmap and autograd cost more than what they compute. But what records takes a second to
        # import, as torch.func.grad does.
        record = len(group.counts) >= RECORD or "torch._inductor" in sys.modules
        self.gradients = vmapped.vmapped(task, blank(task).to(device), own_data=group.own_data, record=record)
        self.features, self.targets = task.features.to(device), task.targets.to(device)
        self.order, self.seed_of = (torch.from_numpy(x).to(device) for x in (group.order, group.seed_of))
        at_once = max(1, vmapped.ROOM // max(1, lane_bytes(task, group.order.shape[2], device)))
        self.cuts = [slice(low, low + at_once) for low in range(0, len(group), at_once)]

    def at(self, t: int, p: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients [rows, lanes] and the losses [lanes] of p [rows, lanes] on the batch of step t."""
        found = []
        for lanes in self.cuts:
            rows = self.order[:, t - 1, : self.group.counts[t - 1]]
            rows = rows[self.seed_of[lanes]] if self.group.own_data else rows[0]
            found.append(self.gradients(p[:, lanes], self.features[rows], self.targets[rows]))
        if len(found) == 1:
            return found[0]
        return torch.cat([g for g, _ in found], 1), torch.cat([losses for _, losses in found])

    def looked(self, t: int, p: Tensor) -> Tensor:
        """The gradients alone."""
        return self.at(t, p)[0]
